//! Where "/" is: the program looks up every absolute path beneath a root directory, which can be moved.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Code, Error, Result, shown};

/// The environment variable that moves "/": for tests, and for preparing an image from outside.
pub const ROOT_VARIABLE: &str = "HERMES_S6_ROOT";

/// The directory that stands for "/".
///
/// Paths that people type and that scripts contain are *logical*: as seen from inside that directory.
/// [`Root::at`] turns a logical path into a path that this process can open.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// Takes the directory that stands for "/".
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// Tells whether another directory stands for "/".
    pub fn is_moved(&self) -> bool {
        self.0 != Path::new("/")
    }

    /// Turns a logical path into the path that this process can open.
    pub fn at(&self, logical: impl AsRef<Path>) -> PathBuf {
        let logical = logical.as_ref();
        self.0.join(logical.strip_prefix("/").unwrap_or(logical))
    }

    /// Turns a path of this process into the logical path; a path outside the root stays as it is.
    pub fn logical(&self, place: &Path) -> PathBuf {
        match place.strip_prefix(&self.0) {
            Ok(rest) => Path::new("/").join(rest),
            Err(_) => place.to_owned(),
        }
    }
}

/// Gives the device and inode of a file, which identify the file whatever path leads to it; `None` if there
/// is no file.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path)
        .ok()
        .map(|meta| (meta.dev(), meta.ino()))
}

/// Checks a path that a person gave: it must be absolute, UTF-8, and without `..`.
///
/// Behind a symbolic link, `..` leads elsewhere than it seems to. `option` names the flag or variable that the
/// path came from. Trailing and doubled slashes are removed.
pub fn absolute(option: &str, path: &Path) -> Result<PathBuf> {
    let plain = path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    if !plain || path.to_str().is_none() {
        return Err(Error::new(
            Code::Usage,
            format!("{option} '{}' is not a plain absolute path", shown(path)),
        )
        .remedy("give a path that begins with / and has no .. in it, in UTF-8"));
    }
    Ok(path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logical_path_moves_with_the_root_and_back() {
        let root = Root::new("/tmp/x");
        assert_eq!(root.at("/opt/data"), Path::new("/tmp/x/opt/data"));
        assert_eq!(root.logical(Path::new("/tmp/x/opt")), Path::new("/opt"));
        assert_eq!(root.logical(Path::new("/usr")), Path::new("/usr"));
    }

    #[test]
    fn a_relative_or_climbing_path_is_refused() {
        assert!(absolute("--home", Path::new("data")).is_err());
        assert!(absolute("--home", Path::new("/opt/../etc")).is_err());
        assert_eq!(
            absolute("--home", Path::new("/opt//data/")).ok(),
            Some(PathBuf::from("/opt/data"))
        );
    }
}
