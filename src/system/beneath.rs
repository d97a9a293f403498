//! Files in a directory whose content somebody else may have made, such as the volume: no link leads outside.
//!
//! Every operation takes one name inside an open directory. It never follows a symbolic link, never blocks on
//! a FIFO or device, and never reads past a limit.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, RawDir, SeekFrom, seek};
use rustix::io::Errno;

use crate::error::{Error, Result, cause_text};

/// An open directory, with its path for messages.
#[derive(Debug)]
pub struct Dir {
    handle: OwnedFd,
    path: PathBuf,
}

/// Why a file cannot be used: as a word for a log line, and as a sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// One word: `missing`, `symlink`, `not-a-file`, `too-large` or `unreadable`.
    pub word: &'static str,
    /// The same as a sentence.
    pub text: String,
}

impl Unusable {
    /// Tells whether the file does not exist.
    pub fn is_missing(&self) -> bool {
        self.word == "missing"
    }

    /// Tells whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        self.word == "symlink"
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// The room for the names that the kernel gives in one call, in bytes.
const LIST_SIZE: usize = 1 << 14;

impl Dir {
    /// Opens a directory that the operator named. Links in this path are followed: the operator made them.
    pub fn open(path: &Path) -> Result<Self> {
        let handle = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())
            .map_err(|errno| Error::system("open", path, errno))?;
        Ok(Self {
            handle,
            path: path.to_owned(),
        })
    }

    /// Opens a directory that the operator named, and follows no link in this path: somebody else than the operator
    /// could have made it.
    pub fn open_without_links(path: &Path) -> Result<Self> {
        let start = if path.is_absolute() { "/" } else { "." };
        let names = path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            Component::ParentDir => Some(OsStr::new("..")),
            _ => None,
        });
        let mut directory = Self::open(Path::new(start))?;
        for name in names {
            directory = directory.passage(name)?;
        }
        Ok(directory)
    }

    /// Opens a directory in this one.
    pub fn dir(&self, name: impl AsRef<Path>) -> Result<Self> {
        self.open_dir(name.as_ref(), DIRECTORY)
    }

    /// Opens a directory in this one; `None` if there is no such name, or no directory with this name.
    pub fn dir_if_there(&self, name: impl AsRef<Path>) -> Result<Option<Self>> {
        let name = name.as_ref();
        match self.dir(name) {
            // Of a link, too, openat says that it is no directory.
            Err(error)
                if error.is_not_found() || error.kind() == Some(ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            directory => directory.map(Some),
        }
    }

    /// Opens a directory in this one only to reach the files in it. This needs no permission to list them.
    pub fn passage(&self, name: impl AsRef<Path>) -> Result<Self> {
        self.open_dir(name.as_ref(), DIRECTORY | OFlags::PATH)
    }

    fn open_dir(&self, name: &Path, flags: OFlags) -> Result<Self> {
        let path = self.path.join(name);
        let flags = flags | OFlags::NOFOLLOW;
        let handle = rustix::fs::openat(&self.handle, name, flags, Mode::empty())
            .map_err(|errno| Error::system("open", &path, errno))?;
        Ok(Self { handle, path })
    }

    /// Opens a directory in this one, and makes it first if it does not exist.
    pub fn make_dir(&self, name: impl AsRef<Path>) -> Result<Self> {
        match rustix::fs::mkdirat(&self.handle, name.as_ref(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => self.dir(name),
            Err(errno) => Err(Error::system(
                "create",
                self.path.join(name.as_ref()),
                errno,
            )),
        }
    }

    /// Sets the permission bits of this directory, independent of the umask.
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        rustix::fs::fchmod(&self.handle, Mode::from_raw_mode(mode))
            .map_err(|errno| Error::system("chmod", &self.path, errno))
    }

    /// Gives the open directory itself.
    pub fn into_handle(self) -> OwnedFd {
        self.handle
    }

    /// Gives the path by which this directory was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lists the names in this directory, sorted.
    pub fn names(&self) -> Result<Vec<OsString>> {
        let mut names = self
            .list()
            .map_err(|errno| Error::system("read", &self.path, errno))?;
        names.sort_unstable();
        Ok(names)
    }

    fn list(&self) -> rustix::io::Result<Vec<OsString>> {
        let opened;
        let handle = match seek(&self.handle, SeekFrom::Start(0)) {
            // It was opened only to reach what is in it.
            Err(Errno::BADF) => {
                opened = rustix::fs::openat(&self.handle, ".", DIRECTORY, Mode::empty())?;
                &opened
            }
            rewound => rewound.map(|_| &self.handle)?,
        };
        let mut buffer = Vec::with_capacity(LIST_SIZE);
        let mut entries = RawDir::new(handle, buffer.spare_capacity_mut());
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let name = match entry {
                Err(Errno::INTR) => continue,
                entry => entry?.file_name().to_bytes().to_vec(),
            };
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// Gives the type of the file with this name; `None` if there is no such name.
    pub fn kind(&self, name: impl AsRef<Path>) -> Result<Option<FileType>> {
        match rustix::fs::statat(&self.handle, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::system("stat", self.path.join(name.as_ref()), errno)),
        }
    }

    /// Tells whether this process may use a file in such a way.
    ///
    /// Asks for its real user, who is also the effective one: the call that asks for the latter is new, and a
    /// seccomp filter that does not know it says the same as a file that may not be written.
    pub fn permits(&self, name: impl AsRef<Path>, access: Access) -> Result<bool> {
        match rustix::fs::accessat(&self.handle, name.as_ref(), access, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Ok(false),
            Err(errno) => Err(Error::system(
                "look at",
                self.path.join(name.as_ref()),
                errno,
            )),
        }
    }

    /// Opens a file in this directory, of whatever type, with the given flags.
    pub fn file(&self, name: impl AsRef<Path>, flags: OFlags) -> Result<File> {
        rustix::fs::openat(
            &self.handle,
            name.as_ref(),
            flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o644),
        )
        .map(File::from)
        .map_err(|errno| Error::system("open", self.path.join(name.as_ref()), errno))
    }

    /// Reads a regular file of at most `limit` bytes.
    pub fn read(&self, name: &str, limit: u64) -> std::result::Result<Vec<u8>, Unusable> {
        self.read_as(name, limit, OFlags::NOFOLLOW)
    }

    /// Reads a regular file of at most `limit` bytes, also one outside this directory to which a symbolic link leads.
    ///
    /// Only for a process that has no more rights than those who can make links here.
    pub fn read_linked(&self, name: &str, limit: u64) -> std::result::Result<Vec<u8>, Unusable> {
        self.read_as(name, limit, OFlags::empty())
    }

    fn read_as(
        &self,
        name: &str,
        limit: u64,
        following: OFlags,
    ) -> std::result::Result<Vec<u8>, Unusable> {
        let unusable = |word, text: &str| Unusable {
            word,
            text: format!("{name} {text}"),
        };
        let failed = |errno: Errno| match errno {
            Errno::NOENT => unusable("missing", "does not exist"),
            Errno::LOOP => unusable("symlink", "is a symbolic link"),
            // The error of open for a socket, and for a FIFO that cannot be opened.
            Errno::NXIO => unusable("not-a-file", "is not a regular file"),
            errno => unusable(
                "unreadable",
                &format!("cannot be read: {}", cause_text(&errno.into())),
            ),
        };
        let flags =
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | following;
        let file = rustix::fs::openat(&self.handle, name, flags, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(unusable("not-a-file", "is not a regular file"));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0).min(limit);
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
        // One byte more than the limit: so a file that has grown since fstat is noticed too.
        File::from(file)
            .take(limit + 1)
            .read_to_end(&mut content)
            .map_err(|cause| unusable("unreadable", &format!("cannot be read: {cause}")))?;
        if content.len() as u64 > limit {
            return Err(unusable(
                "too-large",
                &format!("is larger than {limit} bytes"),
            ));
        }
        Ok(content)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Writing, and what is written.
pub mod write;

/// A directory for one test.
#[cfg(test)]
pub mod scratch;
