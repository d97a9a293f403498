//! A directory for one test, and what lies in it as values.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::Dir;
use crate::error::Result;

/// An empty directory of a test, which goes with it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

/// What a name in it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// A file of this path, with this content and these permission bits.
    File(String, String, u32),
    /// A symbolic link of this path, to this target.
    Link(String, String),
    /// A directory of this path, with these permission bits.
    Directory(String, u32),
}

/// Makes the value of a file.
pub fn file(path: &str, content: &str, mode: u32) -> Entry {
    Entry::File(path.to_owned(), content.to_owned(), mode)
}

/// Makes the value of a link.
pub fn link(path: &str, target: &str) -> Entry {
    Entry::Link(path.to_owned(), target.to_owned())
}

/// Makes the value of a directory.
pub fn directory(path: &str, mode: u32) -> Entry {
    Entry::Directory(path.to_owned(), mode)
}

impl Scratch {
    /// Makes a directory that only the test of this name uses.
    pub fn new(test: &str) -> io::Result<Self> {
        let name = format!("hermes-s6-unit-{}-{test}", std::process::id());
        let place = std::env::temp_dir().join(name);
        // Left by a process of the same pid that was killed.
        let _was_none = fs::remove_dir_all(&place);
        fs::create_dir(&place)?;
        Ok(Self(place))
    }

    /// Gives its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Opens it.
    pub fn dir(&self) -> Result<Dir> {
        Dir::open(&self.0)
    }

    /// Makes what the values say, in their order.
    pub fn make(&self, entries: &[Entry]) -> io::Result<()> {
        for entry in entries {
            match entry {
                Entry::File(path, content, mode) => {
                    fs::write(self.0.join(path), content)?;
                    self.set_mode(path, *mode)?;
                }
                Entry::Link(path, target) => symlink(target, self.0.join(path))?,
                Entry::Directory(path, mode) => {
                    fs::create_dir(self.0.join(path))?;
                    self.set_mode(path, *mode)?;
                }
            }
        }
        Ok(())
    }

    fn set_mode(&self, path: &str, mode: u32) -> io::Result<()> {
        fs::set_permissions(self.0.join(path), fs::Permissions::from_mode(mode))
    }

    /// Lists what is in it, and beneath: files, then links, then directories, each by their path.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in walkdir::WalkDir::new(&self.0).min_depth(1) {
            let entry = entry?;
            let place = entry.path();
            let path = place.strip_prefix(&self.0).unwrap_or(place);
            let path = path.display().to_string();
            let mode = fs::symlink_metadata(place)?.permissions().mode() & 0o7777;
            entries.push(if entry.path_is_symlink() {
                Entry::Link(path, fs::read_link(place)?.display().to_string())
            } else if entry.file_type().is_dir() {
                Entry::Directory(path, mode)
            } else {
                let content = fs::read(place)?;
                Entry::File(path, String::from_utf8_lossy(&content).into_owned(), mode)
            });
        }
        entries.sort_unstable();
        Ok(entries)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _as_far_as_possible = fs::remove_dir_all(&self.0);
    }
}
