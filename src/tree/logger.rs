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
///
/// `seconds` is for how long the process has been up whose log it is.
pub fn fault(logger: &Logger, place: &LogPlace, seconds: u64, now: SystemTime) -> Option<Fault> {
    let status = logger.status.as_ref();
    // Of a new slot, s6-svscan starts both supervisors at the same time, and that of the gateway may be the first.
    let age = status.map_or(Duration::from_secs(seconds), |status| {
        now.duration_since(status.since).unwrap_or_default()
    });
    let is_young = age < START_TIME;
    let Some(process) = &logger.process else {
        let is_hidden = status.is_some_and(|status| status.pid.is_some());
        return (!is_young && !is_hidden)
            .then(|| Fault::new("its logger does not run", "hermes-s6 reconcile"));
    };
    if is_young && status.is_some_and(|status| !status.ready) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A time of day, and one so many seconds before it.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    fn before(seconds: u64) -> SystemTime {
        now() - Duration::from_secs(seconds)
    }

    fn file(inode: u64) -> FileId {
        FileId { device: 1, inode }
    }

    /// A logger that has been up for so many seconds, and has the file with this number open.
    fn logger(seconds: u64, inode: u64) -> Logger {
        let process = LoggerProcess {
            pid: 77,
            files: BTreeSet::from([file(inode)]),
            ..LoggerProcess::default()
        };
        Logger {
            status: Some(Status {
                pid: Some(77),
                wanted_up: true,
                ready: true,
                finishing: false,
                since: before(seconds),
                last_exit: None,
            }),
            process: Some(process),
            losses: 0,
        }
    }

    /// The same, when it has not said yet that it reads.
    fn unready(seconds: u64) -> Logger {
        let mut logger = logger(seconds, 9);
        logger.status = logger.status.map(|status| Status {
            ready: false,
            ..status
        });
        logger
    }

    /// A logger without a process, whose supervisor has said so many seconds ago that it has none.
    fn down(seconds: u64) -> Logger {
        let status = Status {
            pid: None,
            ready: false,
            since: before(seconds),
            last_exit: None,
            wanted_up: true,
            finishing: false,
        };
        Logger {
            status: Some(status),
            process: None,
            losses: 0,
        }
    }

    #[test]
    fn a_logger_that_starts_is_no_fault_and_one_that_does_not_is() {
        let nobody = Logger {
            status: None,
            process: None,
            losses: 0,
        };
        let hidden = Logger {
            process: None,
            ..logger(60, 1)
        };
        let written = LogPlace {
            exists: true,
            current: Some(file(1)),
            ..LogPlace::default()
        };
        let none = LogPlace::default();
        let does_not_run = Some("its logger does not run");
        // The logger, its directory, and for how many seconds its gateway has been up.
        #[rustfmt::skip]
        let rows = [
            (logger(60, 1), &written, 60, None, "it writes"),
            (logger(60, 9), &written, 60, Some("another process writes there"), "it has another file"),
            (logger(60, 9), &none, 60, Some("its directory was removed"), "it has a file that is nowhere"),
            (unready(0), &none, 0, None, "it gets ready, and has made nothing yet"),
            (unready(9), &none, 60, None, "however long its gateway has been up"),
            (unready(10), &none, 0, Some("its directory was removed"), "that has an end, also beside a new gateway"),
            (down(0), &written, 60, None, "between two of its processes"),
            (down(10), &written, 0, does_not_run, "it is down, and has been for long"),
            (nobody.clone(), &none, 0, None, "of a new slot, its supervisor may be the second one that starts"),
            (nobody.clone(), &none, 9, None, "on a slow machine, later"),
            (nobody, &none, 10, does_not_run, "it has had the time"),
            (hidden, &written, 60, None, "its process is another user's, and cannot be seen"),
        ];
        for (logger, place, seconds, cause, sentence) in rows {
            let found = fault(&logger, place, seconds, now()).map(|fault| fault.cause);
            assert_eq!(found.as_deref(), cause, "{sentence}");
        }
    }
}
