//! Output files: made before the run, so that a wrong path costs nothing; written aside and renamed at the end.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
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
    if_there: IfThere,
    _listed: Listed,
}

/// The files that are written aside at present: whoever ends the process must not leave them behind.
static ASIDE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// An entry in that list.
#[derive(Debug)]
struct Listed(PathBuf);

impl Listed {
    fn new(path: &Path) -> Self {
        ASIDE.lock().insert(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        ASIDE.lock().remove(&self.0);
    }
}

/// Removes all files that are not complete, just before the process ends without finishing them.
pub fn remove_unfinished() {
    for path in &*ASIDE.lock() {
        // one that has its name by now is complete
        let _ = fs::remove_file(path);
    }
}

/// What becomes of a file of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IfThere {
    /// It is kept, and the user is told before the run.
    Refuse,
    /// It is replaced if it is empty, and else refused.
    Fill,
    /// It is replaced.
    Replace,
    /// It is kept, and the new one is numbered.
    Number,
}

impl IfThere {
    fn overwrite(overwrite: bool) -> Self {
        if overwrite { Self::Replace } else { Self::Refuse }
    }
}

impl OutputFile {
    /// Makes sure that `path` can be written, and its folder too. Its owner alone can read it, for prompts may be private.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot, or when it exists and must not be replaced.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self, Error> {
        Self::create_with(path, IfThere::overwrite(overwrite), PRIVATE)
    }

    /// The same for a file that may not be asked for: `None` then.
    ///
    /// # Errors
    /// Those of [`create`](Self::create).
    pub fn create_some(path: Option<&Path>, overwrite: bool) -> Result<Option<Self>, Error> {
        path.map(|path| Self::create(path, overwrite)).transpose()
    }

    /// The same for a name that nobody has typed: where a file has it already, this one is numbered.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be written.
    pub fn create_numbered(path: &Path) -> Result<Self, Error> {
        Self::create_with(path, IfThere::Number, PRIVATE)
    }

    /// The same for a file that other users' programs are to read, as far as the umask lets them.
    ///
    /// # Errors
    /// Those of [`create`](Self::create).
    pub fn create_shared(path: &Path, overwrite: bool) -> Result<Self, Error> {
        Self::create_with(path, IfThere::overwrite(overwrite), SHARED)
    }

    /// The same for a file that may be there without anything in it, as CI makes the one that `$GITHUB_STEP_SUMMARY` names.
    /// Whoever could read that one can read this one.
    ///
    /// # Errors
    /// Those of [`create`](Self::create).
    pub fn create_or_fill(path: &Path, overwrite: bool) -> Result<Self, Error> {
        match fs::metadata(path) {
            Ok(file) if !overwrite && is_blank(path) => {
                Self::create_with(path, IfThere::Fill, file.permissions().mode() & 0o777)
            }
            _ => Self::create(path, overwrite),
        }
    }

    fn create_with(path: &Path, if_there: IfThere, mode: u32) -> Result<Self, Error> {
        let fail = |cause, advice| Error::File { path: path.to_owned(), cause, advice };
        if path == Path::new("-") {
            let advice = ", which has the tables: name a file, or ./- for one of that name";
            return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "is standard output"), advice));
        }
        if path.is_dir() {
            return Err(fail(
                io::Error::new(io::ErrorKind::IsADirectory, "is a folder"),
                "; name a file in it",
            ));
        }
        if path.exists() && !path.is_file() && if_there != IfThere::Number {
            return Err(fail(
                io::Error::new(io::ErrorKind::InvalidInput, "is no regular file"),
                "; name one that is, or a new one",
            ));
        }
        if path.exists() && if_there == IfThere::Refuse {
            let advice = "; name another file, or allow it with --overwrite";
            return Err(fail(exists(), advice));
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
        let _listed = Listed::new(aside.path());
        Ok(Self { path: path.to_owned(), aside, if_there, _listed })
    }

    /// Gives the file its name at once, to be written while the run goes on; returns that name, as of
    /// [`finish`](Self::finish).
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn grow(self) -> Result<(PathBuf, File), Error> {
        self.named("; name another file")
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file and gives it its name, which it returns. Where a file of that name has come meanwhile, that one is
    /// kept, and this one is numbered: `a.json` becomes `a.2.json`.
    ///
    /// # Errors
    /// [`Error::File`]; nothing is left under the name then, or what was there before. So too, after the writing, where a
    /// name that was typed had to be numbered: whoever reads the file of that name would take another's for this one.
    pub fn finish(mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<PathBuf, Error> {
        let advice = "; nothing was written to it";
        let mut out = BufWriter::new(self.aside.as_file_mut());
        let written = write(&mut out).and_then(|()| out.flush());
        drop(out);
        written.map_err(|cause| Error::File { path: self.path.clone(), cause, advice })?;
        self.named(advice).map(|(path, _)| path)
    }

    /// Gives the file its name, or the first numbered one that is free.
    fn named(self, advice: &'static str) -> Result<(PathBuf, File), Error> {
        let fail = |path: &Path, cause| Error::File { path: path.to_owned(), cause, advice };
        if self.if_there == IfThere::Replace || (self.if_there == IfThere::Fill && is_blank(&self.path)) {
            let file = self.aside.persist(&self.path).map_err(|error| fail(&self.path, error.error))?;
            return Ok((self.path, file));
        }
        let (mut path, mut aside) = (self.path.clone(), self.aside);
        let mut number = 1;
        loop {
            match aside.persist_noclobber(&path) {
                Ok(_) if number > 1 && self.if_there != IfThere::Number => {
                    let advice =
                        ", and came meanwhile; it is kept, and this run's is beside it under a numbered name";
                    let cause = exists();
                    return Err(Error::File { path: self.path, cause, advice });
                }
                Ok(file) => return Ok((path, file)),
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                    aside = error.file;
                    number += 1;
                    path = numbered(&self.path, number);
                }
                Err(error) => return Err(fail(&path, error.error)),
            }
        }
    }
}

/// In words of ours: the system's own are "entity already exists".
fn exists() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "exists already")
}

/// Whether it is a file with nothing in it.
fn is_blank(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0)
}

/// The path with a number before its extension: `a.json` becomes `a.2.json`.
pub fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut ending = OsString::from(number.to_string());
    if let Some(extension) = path.extension() {
        ending.push(".");
        ending.push(extension);
    }
    path.with_extension(ending)
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
        assert!(
            error.ends_with("a.json: exists already; name another file, or allow it with --overwrite"),
            "{error}"
        );
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
        let error = file.finish(|out| out.write_all(b"ours")).expect_err("it is there now").to_string();
        assert!(error.contains("numbered name"), "{error}");
        let text = |name: &str| fs::read_to_string(folder.path().join(name)).expect("readable");
        assert_eq!((text("a.json"), text("a.2.json")), ("theirs".to_owned(), "ours".to_owned()));

        let file = OutputFile::create_numbered(&path).expect("writable");
        let named = file.finish(|out| out.write_all(b"more")).expect("written");
        assert_eq!((named, text("a.3.json")), (folder.path().join("a.3.json"), "more".to_owned()));
    }

    #[test]
    fn what_is_blank_may_be_filled() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("summary.md");
        fs::write(&path, "").expect("writable");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("ours");
        OutputFile::create(&path, false).expect_err("another run may be about to write to it");
        let file = OutputFile::create_or_fill(&path, false).expect("it is empty");
        file.finish(|out| out.write_all(b"ours")).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "ours");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o640);
        OutputFile::create_or_fill(&path, false).expect_err("it is not empty");

        // what came into it meanwhile is kept
        fs::write(&path, "").expect("writable");
        let file = OutputFile::create_or_fill(&path, false).expect("it is empty");
        fs::write(&path, "theirs").expect("writable");
        file.finish(|out| out.write_all(b"ours")).expect_err("it is not empty any more");
        let text = |name: &str| fs::read_to_string(folder.path().join(name)).expect("readable");
        assert_eq!((text("summary.md"), text("summary.2.md")), ("theirs".to_owned(), "ours".to_owned()));
    }

    #[test]
    fn standard_output_is_no_file() {
        for overwrite in [false, true] {
            let error = OutputFile::create(Path::new("-"), overwrite).expect_err("a dash").to_string();
            assert!(error.contains("./-"), "{error}");
        }
    }

    #[test]
    fn a_number_goes_before_the_extension() {
        for (path, want) in [("d.d/a.json", "d.d/a.3.json"), ("a", "a.3"), ("a.2.json", "a.2.3.json")] {
            assert_eq!(numbered(Path::new(path), 3), Path::new(want));
        }
    }

    #[test]
    fn what_is_no_file_is_never_replaced() {
        for overwrite in [false, true] {
            let error =
                OutputFile::create(Path::new("/dev/null"), overwrite).expect_err("a device").to_string();
            assert!(error.contains("no regular file"), "{error}");
        }
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
