//! Output files: made before the run, so that a wrong path costs nothing; written aside and renamed at the end.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::Error;
use crate::plan::resolved;

/// The modes of files, before the umask.
const PRIVATE: u32 = 0o600;
const SHARED: u32 = 0o644;

/// A file that appears under its name only when it is complete.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    aside: NamedTempFile,
    overwrite: bool,
}

impl OutputFile {
    /// Makes sure that `path` can be written, and its folder too. Its owner alone can read it, for prompts may be private.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot, or when it exists and must not be replaced.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self, Error> {
        Self::create_with(path, overwrite, PRIVATE)
    }

    /// The same for a file that other users' programs are to read, as far as the umask lets them.
    ///
    /// # Errors
    /// Those of [`create`](Self::create).
    pub fn create_shared(path: &Path, overwrite: bool) -> Result<Self, Error> {
        Self::create_with(path, overwrite, SHARED)
    }

    fn create_with(path: &Path, overwrite: bool, mode: u32) -> Result<Self, Error> {
        let fail = |cause, advice| Error::File { path: path.to_owned(), cause, advice };
        if path.is_dir() {
            return Err(fail(io::ErrorKind::IsADirectory.into(), "; name a file in it"));
        }
        if path.exists() && !overwrite {
            let advice = "; name another file, or allow it with --overwrite";
            return Err(fail(io::ErrorKind::AlreadyExists.into(), advice));
        }
        if path.exists() && !path.is_file() {
            return Err(fail(
                io::ErrorKind::InvalidInput.into(),
                "; it is no regular file: name one that is, or a new one",
            ));
        }
        // a link stays a link to the file that is replaced or made
        let path = &if path.is_symlink() { resolved(path) } else { path.to_owned() };
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(folder).map_err(|cause| fail(cause, "; name a folder that can be made"))?;
        let aside = tempfile::Builder::new()
            .prefix(".vllm-loadgen-")
            .suffix(".part")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(folder)
            .map_err(|cause| fail(cause, "; name a file in a folder that can be written"))?;
        Ok(Self { path: path.to_owned(), aside, overwrite })
    }

    /// A new file under its own name, to be written while the run goes on.
    ///
    /// # Errors
    /// Those of [`create`](Self::create).
    pub fn create_growing(path: &Path, overwrite: bool) -> Result<File, Error> {
        // the checks, and the advice, are the same
        let aside = Self::create(path, overwrite)?;
        let fail = |cause| Error::File { path: path.to_owned(), cause, advice: "; name another file" };
        let named = if overwrite {
            aside.aside.persist(&aside.path)
        } else {
            aside.aside.persist_noclobber(&aside.path)
        };
        named.map_err(|error| fail(error.error))
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file and gives it its name.
    ///
    /// # Errors
    /// [`Error::File`]; nothing is left under the name then, or what was there before.
    pub fn finish(mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<PathBuf, Error> {
        let path = self.path.clone();
        let fail = |cause| Error::File { path: path.clone(), cause, advice: "; nothing was written to it" };
        let mut out = BufWriter::new(self.aside.as_file_mut());
        write(&mut out).and_then(|()| out.flush()).map_err(fail)?;
        drop(out);
        let named = if self.overwrite {
            self.aside.persist(&self.path)
        } else {
            self.aside.persist_noclobber(&self.path)
        };
        named.map_err(|e| fail(e.error))?;
        Ok(self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_complete() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/folder/a.json");
        let file = OutputFile::create(&path, false).expect("writable");
        assert!(!path.exists());
        file.finish(|out| out.write_all(b"{}")).expect("written");
        assert_eq!(fs::read(&path).expect("readable"), b"{}");
        assert_eq!(fs::read_dir(path.parent().expect("a folder")).expect("readable").count(), 1);
    }

    #[test]
    fn a_file_is_private_unless_others_are_to_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mode = |file: Result<OutputFile, Error>| {
            let path = file.expect("writable").finish(|_| Ok(())).expect("written");
            fs::metadata(path).expect("it is there").permissions().mode() & 0o777
        };
        assert_eq!(mode(OutputFile::create(&folder.path().join("a"), false)), 0o600);
        // the umask may take more away
        assert_eq!(mode(OutputFile::create_shared(&folder.path().join("b"), false)) & 0o733, 0o600);
    }

    #[test]
    fn nothing_is_replaced_unless_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.json");
        fs::write(&path, "old").expect("writable");
        let error = OutputFile::create(&path, false).expect_err("it exists").to_string();
        assert!(error.contains("--overwrite"), "{error}");
        let file = OutputFile::create(&path, true).expect("allowed");
        file.finish(|out| out.write_all(b"new")).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "new");
    }

    #[test]
    fn a_file_that_appeared_meanwhile_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.json");
        let file = OutputFile::create(&path, false).expect("writable");
        fs::write(&path, "theirs").expect("writable");
        file.finish(|out| out.write_all(b"ours")).expect_err("it is there now");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "theirs");
    }

    #[test]
    fn what_is_no_file_is_never_replaced() {
        OutputFile::create(Path::new("/dev/null"), true).expect_err("a device");
    }

    #[test]
    fn an_unwritable_path_is_told_before_the_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("writable");
        OutputFile::create(&file.join("a.json"), false).expect_err("its folder is a file");
        OutputFile::create(folder.path(), false).expect_err("it is a folder");
    }
}
