//! The log directory of a profile: which file has the newest lines, and whether a logger can write there.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, FileType, OFlags, StatVfsMountFlags, fstatvfs, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::system::beneath::Dir;
use crate::system::process::{Holder, holder};

/// The file that s6-log locks in its log directory.
const LOCK_FILE: &str = "lock";

/// The file in a log directory with the newest lines.
const CURRENT_FILE: &str = "current";

/// A file, whatever its name is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId {
    /// The device that the file is on.
    pub device: u64,
    /// The inode of the file.
    pub inode: u64,
}

/// A log directory, as it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlace {
    /// Whether the directory exists.
    pub exists: bool,
    /// The file with the newest lines, if there is one.
    pub current: Option<FileId>,
    /// When that file was last written, in seconds since 1970.
    pub written: Option<u64>,
    /// When its mode or content last changed, in seconds since 1970.
    pub changed: Option<u64>,
    /// Why nothing can be written there; `None` if it can.
    pub fault: Option<Fault>,
    /// Whether the directory could not be looked at.
    pub is_hidden: bool,
}

/// Why a log cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The cause, in the words of the system where it is one of its errors.
    pub cause: String,
    /// What a person can do about it.
    pub remedy: String,
    /// Whether a file that is open already cannot be written either.
    pub is_total: bool,
}

impl Fault {
    /// Makes a fault by which nothing can be written.
    pub fn new(cause: impl Into<String>, remedy: &str) -> Self {
        Self {
            cause: cause.into(),
            remedy: remedy.to_owned(),
            is_total: true,
        }
    }

    fn of(error: &Error) -> Self {
        let remedy = "give the directory to the user of the gateways, and chmod u+rwx it";
        Self {
            is_total: false,
            ..Self::new(error.to_string(), remedy)
        }
    }
}

impl LogPlace {
    /// Looks at the log directory of a name, in the directory of all logs.
    pub fn of(logs: std::result::Result<&Dir, &Error>, name: &str) -> Self {
        let opened = match logs {
            Ok(logs) => logs.dir(name).map_err(|error| Self::unopened(&error)),
            Err(error) => Err(Self::unopened(error)),
        };
        match opened {
            Ok(directory) => Self::open(&directory),
            Err(place) => place,
        }
    }

    /// Says what an error tells of a log directory that cannot be opened.
    fn unopened(error: &Error) -> Self {
        let is_fault = [ErrorKind::PermissionDenied, ErrorKind::NotADirectory];
        let is_fault = error.kind().is_some_and(|kind| is_fault.contains(&kind));
        Self {
            exists: !error.is_not_found(),
            fault: is_fault.then(|| Fault::of(error)),
            is_hidden: !is_fault && !error.is_not_found(),
            ..Self::default()
        }
    }

    /// Looks at an open log directory.
    pub fn open(directory: &Dir) -> Self {
        let mut place = Self {
            exists: true,
            fault: fault(directory),
            ..Self::default()
        };
        let stat = statat(directory, CURRENT_FILE, AtFlags::SYMLINK_NOFOLLOW);
        if let Ok(stat) = stat
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        {
            place.current = Some(FileId {
                device: stat.st_dev,
                inode: stat.st_ino,
            });
            place.written = u64::try_from(stat.st_mtime).ok();
            place.changed = u64::try_from(stat.st_ctime).ok();
        }
        place
    }
}

/// Tells whether no file can be written where a directory is: the file system is full, or read-only.
pub fn is_full(directory: &Dir) -> bool {
    total_fault(directory).is_some()
}

fn total_fault(directory: &Dir) -> Option<Fault> {
    let stat = fstatvfs(directory).ok()?;
    if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Some(Fault::new("Read-only file system", "mount it writable"));
    }
    // Some file systems do not tell their size.
    let is_full = stat.f_blocks > 0 && stat.f_bavail == 0;
    let remedy = "remove what is not needed there, or use a larger volume";
    is_full.then(|| Fault::new("No space left on device", remedy))
}

/// Tells why nothing can be written in a directory.
fn fault(directory: &Dir) -> Option<Fault> {
    let total = total_fault(directory);
    if total.is_some() {
        return total;
    }
    match directory.permits(".", Access::WRITE_OK | Access::EXEC_OK) {
        Ok(true) => None,
        Ok(false) => {
            let denied = Error::system("write in", directory.path(), Errno::ACCESS);
            Some(Fault::of(&denied))
        }
        Err(error) => Some(Fault::of(&error)),
    }
}

/// Makes a log directory, as the user of the gateways, with the directories above it.
pub fn make(directory: &Path) -> Result<Dir> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .map_err(|cause| Error::system("create", directory, cause))?;
    Dir::open(directory)
}

/// Tells whether another logger holds the lock of a log directory; also if that cannot be told.
pub fn is_locked(directory: &Dir) -> bool {
    !matches!(holder(directory, LOCK_FILE), Ok(None))
}

/// Tells which logger of this container writes to a log directory, by its pid.
pub fn logger(directory: &Dir) -> Option<i32> {
    match holder(directory, LOCK_FILE) {
        Ok(Some(Holder::Process(pid))) => Some(pid),
        _ => None,
    }
}

/// Tries whether a file can be written in a directory: some file systems say so only when it is done.
pub fn probe(directory: &Dir) -> std::result::Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(directory, ".", flags, rustix::fs::Mode::RUSR) {
        // A file system without files that have no name.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => return Ok(()),
        file => file?,
    };
    rustix::io::write(&file, &[0; 4096]).map(drop)
}
