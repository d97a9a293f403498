//! The loggers: the s6-log of each slot, which writes what its gateway says.
//!
//! A logger keeps in memory what it cannot write. So a log never stops its gateway; but the logger has to be replaced
//! when that is too much, or when its file or directory was removed. [`care`] decides this, without I/O.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, makedev, openat, statx};
use rustix::io::{Errno, ioctl_fionread};
use rustix::param::page_size;

use crate::error::Result;
use crate::s6::supervision::{Death, Status, deaths, supervised};
use crate::system::beneath::Dir;
use crate::system::process::proc_text;
use crate::system::root::Root;
use crate::volume::log::{Fault, FileId, LogPlace};

/// The memory of a logger, in bytes; with more than this, it ends. What it holds then is lost.
pub const MEMORY: u64 = 16_000_000;

/// The memory with which a logger is replaced, when somebody looks after it: then only what one place does not take
/// is lost, and nothing of the other place.
const MEMORY_TO_REPLACE: u64 = 3_000_000;

/// How long a logger may take to start.
const START_TIME: Duration = Duration::from_secs(10);

/// A logger, as it was found.
#[derive(Debug, Clone)]
pub struct Logger {
    /// Its status; `None` without a supervisor.
    pub status: Option<Status>,
    /// What its process does; `None` without a process, or if it cannot be seen.
    pub process: Option<LoggerProcess>,
    /// How often a logger has ended with lines in its memory.
    pub losses: usize,
}

/// The process of a logger, as it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoggerProcess {
    /// Its pid.
    pub pid: i32,
    /// The files that it has open.
    pub files: BTreeSet<FileId>,
    /// Whether it writes to stdout.
    pub writes_stdout: bool,
    /// Its memory, in bytes.
    pub memory: u64,
}

impl Logger {
    /// Looks at the logger of a slot; `None` if the slot has no logger.
    pub fn of(root: &Root, slot: &Dir) -> Result<Option<Self>> {
        let Some(service) = slot.dir_if_there("log")? else {
            return Ok(None);
        };
        let status = supervised(root, &service)?.map(|(status, _supervisor)| status);
        let is_loss = |death: &Death| !matches!(death, Death::Exit(0 | 100));
        let losses = deaths(&service)?;
        let losses = losses.iter().filter(|(_, death)| is_loss(death)).count();
        let pid = status.and_then(|status| status.pid);
        let pid = pid.and_then(|pid| i32::try_from(pid).ok());
        Ok(Some(Self {
            status,
            process: pid.and_then(|pid| process(root, pid)),
            losses,
        }))
    }
}

/// Looks at the process of a logger; `None` if it is gone, or cannot be seen.
fn process(root: &Root, pid: i32) -> Option<LoggerProcess> {
    let place = root.at(format!("/proc/{pid}"));
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(place.join("fd")).ok()? {
        // A descriptor may be closed meanwhile.
        files.extend(file_id(&entry.ok()?.path()));
    }
    let words = proc_text(&place.join("cmdline")).ok()?;
    let memory = proc_text(&place.join("statm")).ok()?;
    // Data and stack, in pages; `status` has the same in words, and costs the kernel more than all else here.
    let pages: u64 = memory.split_whitespace().nth(5)?.parse().ok()?;
    Some(LoggerProcess {
        pid,
        files,
        writes_stdout: words.split('\0').any(|word| word == "1"),
        memory: pages * page_size() as u64,
    })
}

/// Identifies the open file behind a link in /proc, and asks no server or daemon of its file system.
fn file_id(link: &Path) -> Option<FileId> {
    let of_what_is_known = AtFlags::STATX_DONT_SYNC;
    match statx(CWD, link, of_what_is_known, StatxFlags::INO) {
        Ok(stat) => Some(FileId {
            device: makedev(stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
        }),
        Err(Errno::NOENT) => None,
        // The call is new: a kernel or a seccomp filter may not know it.
        Err(_) => fs::metadata(link).ok().map(|meta| FileId {
            device: meta.dev(),
            inode: meta.ino(),
        }),
    }
}

/// What to do with a logger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// Nothing: it does what can be done.
    Leave,
    /// Have it write what it holds, and end: the next one does better.
    Renew,
    /// The same, but it cannot write all that it holds: kill it when it does not end.
    Replace,
}

/// Decides what to do with a logger, whose log directory is `place`.
///
/// `could_write` tells whether another logger could write there, and `is_read` whether somebody reads stdout.
pub fn care(
    logger: &Logger,
    place: &LogPlace,
    could_write: impl FnOnce() -> bool,
    is_read: bool,
) -> Care {
    let (Some(status), Some(process), false) = (&logger.status, &logger.process, place.is_hidden)
    else {
        return Care::Leave;
    };
    if !status.ready || !status.wanted_up {
        return Care::Leave;
    }
    if process.memory > MEMORY_TO_REPLACE {
        return Care::Replace;
    }
    let writes_file = place
        .current
        .is_some_and(|file| process.files.contains(&file));
    if (!process.writes_stdout && is_read) || (!writes_file && could_write()) {
        Care::Renew
    } else {
        Care::Leave
    }
}

/// Tells why the log of a slot is not written; `None` if it is, or if that cannot be told.
pub fn fault(logger: &Logger, place: &LogPlace, now: SystemTime) -> Option<Fault> {
    let status = logger.status.as_ref();
    let age = status.map(|status| now.duration_since(status.since).unwrap_or_default());
    let Some(process) = &logger.process else {
        let is_starting = age.is_some_and(|age| age < START_TIME);
        let is_hidden = status.is_some_and(|status| status.pid.is_some());
        return (!is_starting && !is_hidden)
            .then(|| Fault::new("its logger does not run", "hermes-s6 reconcile"));
    };
    let is_starting =
        status.is_some_and(|status| !status.ready) && age.is_some_and(|age| age < START_TIME);
    if is_starting {
        return None;
    }
    let writes_file = place
        .current
        .is_some_and(|file| process.files.contains(&file));
    if let Some(fault) = &place.fault {
        return Some(fault.clone()).filter(|fault| fault.is_total || !writes_file);
    }
    let why = match place.current {
        _ if writes_file => return None,
        Some(_) => "another process writes there",
        None if place.exists => "its file was removed",
        None => "its directory was removed",
    };
    Some(Fault::new(
        why,
        "it goes on by itself within seconds; if not, hermes-s6 doctor",
    ))
}

/// Tells whether the pipe of a logger has lines that the logger has not read yet.
pub fn has_unread(root: &Root, pid: i32) -> bool {
    let stdin = root.at(format!("/proc/{pid}/fd/0"));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let pipe = openat(CWD, stdin, flags, Mode::empty());
    pipe.is_ok_and(|pipe| ioctl_fionread(&pipe).is_ok_and(|bytes| bytes > 0))
}
