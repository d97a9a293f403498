//! Which directories and files root can trust: those that nobody but root can change.
//!
//! Root runs the scripts of a scan directory. Whoever could put a script there could run anything as root.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;

use crate::error::{Code, Error, Result, shown};
use crate::system::beneath::Dir;

/// The permission to write for the group and for all others.
const OTHERS_WRITE: u32 = 0o022;

/// In a directory with this bit, such as /tmp, nobody can replace a file of somebody else.
const STICKY: u32 = 0o1000;

/// Finds a directory on the way to `place`, or `place` itself, that others than root can change; `None` if
/// there is none.
///
/// Symbolic links are resolved first. Of a place that does not exist yet, the directories that exist count: the
/// program makes the missing ones itself.
pub fn changeable_by_others(place: &Path) -> Result<Option<PathBuf>> {
    let existing = place
        .ancestors()
        .find(|directory| directory.exists())
        .unwrap_or(Path::new("/"));
    let existing =
        fs::canonicalize(existing).map_err(|cause| Error::system("resolve", existing, cause))?;
    for directory in existing.ancestors() {
        let meta =
            fs::metadata(directory).map_err(|cause| Error::system("stat", directory, cause))?;
        if lets_others_change(meta.uid(), meta.mode(), directory == place) {
            return Ok(Some(directory.to_owned()));
        }
    }
    Ok(None)
}

/// Tells whether somebody other than root can change the content of a directory.
///
/// `is_last` says that the directory is the place itself, and not one above it. There, the sticky bit is not
/// enough: it keeps files from being replaced, but a new file is as bad as a replaced one.
fn lets_others_change(uid: u32, mode: u32, is_last: bool) -> bool {
    let is_sticky = mode & STICKY != 0 && !is_last;
    uid != 0 || (mode & OTHERS_WRITE != 0 && !is_sticky)
}

/// Refuses a place for root's scan directory if others than root can change it: root would run the services
/// that they put there.
pub fn only_root_changes(place: &Path) -> Result<()> {
    match changeable_by_others(place)? {
        None => Ok(()),
        Some(directory) => Err(Error::new(
            Code::Usage,
            format!(
                "{} can be changed by others than root, and root would run what they put there",
                shown(&directory)
            ),
        )
        .remedy("use a new directory beneath one of root's, or one that belongs to the user of the gateways")),
    }
}

/// The depth of a service directory: `gateway-x/log/supervise/control`.
const SERVICE_DEPTH: usize = 3;

/// The beginning of the names of FIFOs in `event/`, which exist while a process listens for events. The listener
/// makes them writable for everybody (<https://skarnet.org/software/s6/libs6/ftrigr.html>).
const LISTENER: &[u8] = b"ftrig1:";

/// Refuses a service directory or file that somebody other than root owns or can change: root runs its scripts.
pub fn require_root_owned(dir: &Dir, name: &OsStr) -> Result<()> {
    require_root_owned_from(dir, name, 0)
}

fn require_root_owned_from(dir: &Dir, name: &OsStr, depth: usize) -> Result<()> {
    let path = dir.path().join(name);
    let stat = match statat(dir, Path::new(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        // s6-supervise replaces its status file by a rename, and slots are removed: a file that is gone is
        // not run.
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(Error::system("stat", &path, errno)),
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_roots = only_root_owns_and_changes(name, kind, stat.st_uid, stat.st_gid, stat.st_mode);
    if !is_roots || depth > SERVICE_DEPTH {
        let path = shown(&path);
        return Err(Error::new(
            Code::Usage,
            format!("{path} is not root's alone, and root would run what is in it"),
        )
        .remedy("use a new, empty scan directory"));
    }
    if kind == FileType::Directory {
        let inner = match dir.dir(name) {
            Err(error) if error.is_not_found() => return Ok(()),
            inner => inner?,
        };
        for name in inner.names()? {
            require_root_owned_from(&inner, &name, depth + 1)?;
        }
    }
    Ok(())
}

/// Tells whether only root owns and can change a file of a service directory.
fn only_root_owns_and_changes(name: &OsStr, kind: FileType, uid: u32, gid: u32, mode: u32) -> bool {
    // The group of hermes may write to the control FIFO. Writing to the FIFO of a listener wakes the listener, and
    // does nothing else. s6 makes event/ writable for a group, that of root.
    let is_fifo = kind == FileType::Fifo;
    let is_listener = is_fifo && name.as_encoded_bytes().starts_with(LISTENER);
    let group_writes = mode & 0o020 != 0 && gid != 0 && !is_fifo;
    let everybody_writes = mode & 0o002 != 0 && !is_listener;
    uid == 0 && kind != FileType::Symlink && !everybody_writes && !group_writes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_can_be_changed_by_its_owner_and_by_those_who_may_write_in_it() {
        #[rustfmt::skip]
        let rows = [
            (0, 0o755, true, false, "root's own directory"),
            (0, 0o755, false, false, "and one above the place"),
            (10_000, 0o755, false, true, "one of another user"),
            (10_000, 0o500, false, true, "who can give himself the right to write"),
            (0, 0o775, false, true, "one that a group may write in"),
            (0, 0o757, false, true, "or everybody"),
            (0, 0o1777, false, false, "/tmp on the way: what is root's in it stays"),
            (0, 0o1777, true, true, "/tmp as the place: a new name can come"),
        ];
        for (uid, mode, is_last, expected, sentence) in rows {
            assert_eq!(
                lets_others_change(uid, mode, is_last),
                expected,
                "{sentence}"
            );
        }
    }

    #[test]
    fn a_file_of_a_service_is_roots_alone_unless_somebody_else_has_made_it_or_may_write() {
        use FileType::{Directory, Fifo, RegularFile, Symlink};
        #[rustfmt::skip]
        let rows = [
            ("run", RegularFile, 0, 0, 0o755, true, "a script"),
            ("run", RegularFile, 10_000, 0, 0o755, false, "a script of hermes'"),
            ("run", RegularFile, 0, 10_000, 0o754, true, "readable for hermes' group"),
            ("run", RegularFile, 0, 10_000, 0o774, false, "writable for it"),
            ("run", RegularFile, 0, 0, 0o757, false, "writable for everybody"),
            ("run", Symlink, 0, 0, 0o777, false, "a link, wherever it leads"),
            ("event", Directory, 0, 0, 0o3730, true, "as s6 makes it"),
            ("event", Directory, 0, 10_000, 0o3730, false, "for hermes' group"),
            ("control", Fifo, 0, 10_000, 0o620, true, "for hermes' group"),
            ("control", Fifo, 0, 10_000, 0o622, false, "for everybody"),
            ("ftrig1:@4000:x", Fifo, 0, 0, 0o622, true, "a listener of root's, whom everybody may wake"),
            ("ftrig1:@4000:x", Fifo, 10_000, 0, 0o622, false, "somebody else's"),
            ("ftrig1:@4000:x", RegularFile, 0, 0, 0o622, false, "a file of such a name"),
        ];
        for (name, kind, uid, gid, mode, expected, sentence) in rows {
            let is_roots = only_root_owns_and_changes(OsStr::new(name), kind, uid, gid, mode);
            assert_eq!(is_roots, expected, "{name}: {sentence}");
        }
    }
}
