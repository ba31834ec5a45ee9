//! Which file a path names.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Links that are followed at most, as many as Linux follows.
const MAX_LINKS: u8 = 40;

/// The absolute path without links, `.` and `..`, so that two names of one file give one path. What is not there yet is
/// taken for what it would be once it was made.
pub fn resolved(path: &Path) -> PathBuf {
    let mut at = std::env::current_dir().unwrap_or_default();
    walk(&mut at, path, &mut MAX_LINKS.clone());
    at
}

/// Goes on from `at`, which has no links, by the parts of the path.
fn walk(at: &mut PathBuf, path: &Path, links_left: &mut u8) {
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                at.pop();
            }
            part => at.push(part),
        }
        if *links_left > 0
            && let Ok(to) = fs::read_link(&*at)
        {
            *links_left -= 1;
            at.pop();
            walk(at, &to, links_left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_file_gives_one_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let here = folder.path().canonicalize().expect("it is there");
        fs::create_dir(here.join("sub")).expect("writable");
        for (to, link) in [("sub", "folder"), ("folder/../new/file", "link"), ("round", "round")] {
            std::os::unix::fs::symlink(to, here.join(link)).expect("a link");
        }
        for (typed, want) in [
            ("./a", "a"),
            ("sub/../a", "a"),
            ("folder/../a", "a"),
            ("folder/new/./b", "sub/new/b"),
            ("link", "new/file"),
            ("round", "round"),
        ] {
            assert_eq!(resolved(&here.join(typed)), here.join(want), "{typed}");
        }
        assert_eq!(resolved(Path::new("a")), std::env::current_dir().expect("it is there").join("a"));
    }
}
