//! Writing in a directory whose content somebody else may have made: complete or not at all, and beneath it.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Code, Error, Result, shown};
use crate::system::beneath::Dir;

/// The version of a file. If it differs from an earlier one, the file was written or replaced meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    inode: u64,
    time: (i64, i64),
    size: i64,
}

/// How a file is written.
struct Form {
    /// The permission bits, whatever the umask says.
    mode: u32,
    /// The user and group that the file is given to; `None` leaves it ours.
    owner: Option<(u32, u32)>,
    /// Whether the content has to outlive a power cut; then the directory is synced too, by [`Dir::sync`].
    durable: bool,
}

/// The form of a file on the volume.
const DURABLE: Form = Form {
    mode: 0o644,
    owner: None,
    durable: true,
};

/// The form of a file that every start of the machine makes anew.
const PASSING: Form = Form {
    durable: false,
    ..DURABLE
};

/// What is between the name of a file and 16 random digits in the file's temporary name.
const ASIDE: &str = ".hermes-s6-";

/// The age of a temporary file from which on its writer is surely gone: a write takes milliseconds, on a slow volume
/// seconds. A writer that was held up for longer finds its file gone, and says so.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// Gives a temporary name for a file: the file has it until the content is complete.
///
/// No two writers have the same: another container may write the same file at the same time.
fn aside(name: &str) -> String {
    // Each RandomState has another key, which comes from the kernel's random numbers.
    let unique = RandomState::new().hash_one(std::process::id());
    format!(".{}{ASIDE}{unique:016x}", name.trim_start_matches('.'))
}

/// Tells which file has this temporary name, without the leading dot; `None` if it is no temporary name.
pub fn written_aside(name: &str) -> Option<&str> {
    let (name, unique) = name.strip_prefix('.')?.rsplit_once(ASIDE)?;
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (unique.len() == 16 && unique.bytes().all(is_digit)).then_some(name)
}

impl Dir {
    /// Creates a file on the volume, complete or not at all.
    ///
    /// If the file exists already, leaves it alone and gives `false`. See [`Dir::sync`].
    pub fn create_new(&self, name: &str, content: &[u8]) -> Result<bool> {
        let fresh = self.write_aside(name, content, &DURABLE)?;
        let named = rustix::fs::linkat(&self.handle, &*fresh, &self.handle, name, AtFlags::empty());
        let created = match named {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(Error::system("create", self.path.join(name), errno)),
        };
        self.remove(&fresh)?;
        created
    }

    /// Replaces a file on the volume in one step: readers see the old content or the new, never a part.
    ///
    /// See [`Dir::sync`].
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        self.put(name, content, &DURABLE)
    }

    /// Replaces a file of the operator's in one step as [`Dir::replace`] does, in a directory where others work too.
    ///
    /// The temporary name is another one in each call, and has nothing of the file's name: programs that read the
    /// directory go by the ends of names. Whatever is no regular file stays as it is: `/dev/stdout` is no file to be
    /// replaced.
    pub fn publish(&self, name: &OsStr, content: &[u8]) -> Result<()> {
        let obstacle = match self.kind(name)? {
            None | Some(FileType::RegularFile) => None,
            Some(FileType::Directory) => Some("is a directory"),
            Some(FileType::Symlink) => Some("is a symbolic link"),
            Some(_) => Some("is not a regular file"),
        };
        if let Some(obstacle) = obstacle {
            let what = format!("{} {obstacle}", shown(&self.path.join(name)));
            return Err(Error::new(Code::Usage, what).remedy("name a regular file, or a new one"));
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos();
        let fresh = format!(".hermes-s6-{}-{now}.new", std::process::id());
        self.write(&fresh, name, content, &DURABLE)?;
        let renamed = self.rename(&fresh, name);
        if renamed.is_err() {
            let _left_there = self.remove(&fresh);
        }
        renamed
    }

    /// Replaces a file in one step as [`Dir::replace`] does, and gives it these permission bits.
    ///
    /// The content need not outlive a power cut: every start of the machine makes the file anew.
    pub fn replace_passing(&self, name: &str, content: &[u8], mode: u32) -> Result<()> {
        self.put(name, content, &Form { mode, ..PASSING })
    }

    fn put(&self, name: &str, content: &[u8], form: &Form) -> Result<()> {
        let fresh = self.write_aside(name, content, form)?;
        self.rename(&fresh, name)
            .inspect_err(|_| self.discard(&fresh))
    }

    /// Creates a file in a directory that nobody reads before the whole directory is complete.
    pub fn create(&self, name: &str, content: &[u8], mode: u32) -> Result<()> {
        self.write(name, name, content, &Form { mode, ..PASSING })
    }

    /// Replaces a file as [`Dir::replace`] does, unless somebody else has changed it meanwhile.
    ///
    /// `seen` is the version of the file that the new content was made from. If the file has another version
    /// now, it stays as it is, and the result is `false`. The file keeps its mode and owner; a new file gets
    /// mode 0600. If `kept` is a name, the old file gets it, but not before the new one is complete.
    pub fn rewrite(
        &self,
        name: &str,
        content: &[u8],
        seen: Option<Version>,
        kept: Option<&str>,
    ) -> Result<bool> {
        let old = self.stat(name)?;
        let old = old.filter(|old| FileType::from_raw_mode(old.st_mode) == FileType::RegularFile);
        let form = Form {
            mode: old.map_or(0o600, |old| old.st_mode & 0o777),
            owner: old.map(|old| (old.st_uid, old.st_gid)),
            ..DURABLE
        };
        let fresh = self.write_aside(name, content, &form)?;
        // Compared as late as possible: only the rename is left to do.
        let placed = self.version(name).and_then(|now| {
            if now != seen {
                return Ok(false);
            }
            if let Some(kept) = kept {
                self.rename(name, kept)?;
            }
            self.rename(&fresh, name).map(|()| true)
        });
        if !matches!(placed, Ok(true)) {
            self.discard(&fresh);
        }
        placed
    }

    /// Gives the present version of a file; `None` if there is no such file.
    pub fn version(&self, name: &str) -> Result<Option<Version>> {
        let version = |stat: rustix::fs::Stat| Version {
            inode: stat.st_ino,
            time: (stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
            size: stat.st_size,
        };
        Ok(self.stat(name)?.map(version))
    }

    fn stat(&self, name: &str) -> Result<Option<rustix::fs::Stat>> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::system("stat", self.path.join(name), errno)),
        }
    }

    /// Makes the names of files outlive a power cut. Their content does so already, but a new name is not on the disk
    /// before its directory is.
    ///
    /// It is not part of each write, so that a directory with several new names, or the directories of many homes,
    /// are synced together: the first sync of a file system has written what the next ones would.
    pub fn sync(&self) -> Result<()> {
        match rustix::fs::fsync(&self.handle) {
            // A file system that cannot sync a directory, such as CIFS.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(Error::system("sync", &self.path, errno)),
        }
    }

    /// Removes temporary files that killed runs have left, of whatever file; those of running writers stay.
    fn sweep(&self) {
        let is_abandoned = |name: &str| {
            let stat = self.stat(name).ok().flatten();
            stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
                && self.modified(name).is_some_and(|written| {
                    // A time to come is no age.
                    written.elapsed().is_ok_and(|age| age >= ABANDONED)
                })
        };
        // What cannot be listed or removed now waits for the next run.
        for name in self.names().unwrap_or_default() {
            let name = name.to_str().filter(|name| written_aside(name).is_some());
            if let Some(name) = name.filter(|name| is_abandoned(name)) {
                self.discard(name);
            }
        }
    }

    /// Removes a temporary file, as far as that is possible: it may be gone.
    fn discard(&self, fresh: &str) {
        let _next_time = self.remove(fresh);
    }

    /// Writes a file under a temporary name (see [`aside`]), and gives that name.
    fn write_aside(&self, name: &str, content: &[u8], form: &Form) -> Result<String> {
        if form.durable {
            // On a tree's own file system, each start begins anew, and the plan sweeps the slots.
            self.sweep();
        }
        let fresh = aside(name);
        self.write(&fresh, name, content, form)?;
        Ok(fresh)
    }

    /// Creates a file, complete or not at all. Error messages use the name `shown`.
    fn write(
        &self,
        name: &str,
        shown: impl AsRef<Path>,
        content: &[u8],
        form: &Form,
    ) -> Result<()> {
        let failed = |cause: std::io::Error| Error::system("write", self.path.join(&shown), cause);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = rustix::fs::openat(&self.handle, name, flags, Mode::from_raw_mode(0o644))
            .map(File::from)
            .map_err(|errno| failed(errno.into()))?;
        if let Some((uid, gid)) = form.owner {
            // Only root may give a file away.
            let _not_permitted = rustix::fs::fchown(
                &file,
                Some(rustix::fs::Uid::from_raw(uid)),
                Some(rustix::fs::Gid::from_raw(gid)),
            );
        }
        // Set here, because the umask may have removed bits at the open.
        let written = rustix::fs::fchmod(&file, Mode::from_raw_mode(form.mode))
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(content))
            .and_then(|()| {
                if form.durable {
                    file.sync_all()
                } else {
                    Ok(())
                }
            });
        written.map_err(|cause| {
            self.discard(name);
            failed(cause)
        })
    }

    /// Renames a file inside this directory.
    pub fn rename(&self, from: &str, to: impl AsRef<Path>) -> Result<()> {
        let to = to.as_ref();
        rustix::fs::renameat(&self.handle, from, &self.handle, to)
            .map_err(|errno| Error::system("write", self.path.join(to), errno))
    }

    /// Appends to a file in one write, so that the lines of two writers do not mix.
    pub fn append(&self, name: &str, content: &[u8]) -> Result<()> {
        let mut file = self.file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND)?;
        file.write_all(content)
            .map_err(|cause| Error::system("write", self.path.join(name), cause))
    }

    /// Removes a file or link. If it does not exist, that is no error.
    pub fn remove(&self, name: &str) -> Result<()> {
        match rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::system("remove", self.path.join(name), errno)),
        }
    }

    /// Tells when a file was last written.
    pub fn modified(&self, name: &str) -> Option<SystemTime> {
        let stat = rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let seconds = u64::try_from(stat.st_mtime).ok()?;
        let nanoseconds = u32::try_from(stat.st_mtime_nsec).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
    }

    /// Gives the size of a file in bytes; 0 if there is no such file.
    pub fn size(&self, name: &str) -> u64 {
        rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW)
            .ok()
            .and_then(|stat| u64::try_from(stat.st_size).ok())
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
