//! The lock of a profile's home: the running gateway holds it, so that no second one runs, in any container.
//!
//! It is a POSIX record lock, like the lock of s6-setlock. A process keeps it through exec, child processes do
//! not inherit it, and the kernel tells the pid of the holder.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, FlockOperation, OFlags, fcntl_lock};
use rustix::io::Errno;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result, escaped};
use crate::report;
use crate::system::beneath::Dir;
use crate::system::process::{Holder, Process, holder, parent};
use crate::system::pulse::beat;
use crate::system::root::Root;
use crate::system::time::timestamp;
use crate::system::wait::wait_until;

/// The file in a profile's home whose lock the running gateway holds.
pub const LOCK_FILE: &str = ".hermes-s6.lock";

/// How long a killed process may take to disappear.
const KILL_TIME: Duration = Duration::from_secs(5);

/// The number of attempts to take the lock. Each attempt takes the lock, or ends an orphan, or waits for the
/// gateway of another container to end.
const TRIES: usize = 8;

/// The lock of a profile's home, as it was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lock {
    /// The text that the last holder wrote into the file: its host name, its pid there, and the time.
    pub signature: String,
    /// Whether a process holds the lock.
    pub held: bool,
    /// The holder, if it is a process of our pid namespace.
    pub pid: Option<i32>,
}

impl Lock {
    /// Looks at the lock of a home; `None` if the lock was never taken.
    pub fn of(home: &Dir) -> Result<Option<Self>> {
        if home.kind(LOCK_FILE)? != Some(FileType::RegularFile) {
            return Ok(None);
        }
        let holder = holder(home, LOCK_FILE)?;
        Ok(Some(Self {
            signature: signature(home),
            held: holder.is_some(),
            pid: match holder {
                Some(Holder::Process(pid)) => Some(pid),
                _ => None,
            },
        }))
    }
}

/// The result of taking a lock.
#[derive(Debug)]
pub enum Taking {
    /// This process has the lock, for as long as this file stays open.
    Taken(File),
    /// The file system has no locks: nothing keeps another container from running this profile too.
    Impossible(Error),
    /// Another process held the lock the whole time.
    HeldElsewhere,
}

/// Takes the lock of a home for this process, and writes into the file who holds the lock.
///
/// A holder of this container without a supervisor is an orphan: it gets SIGTERM, then `limit` to save, then
/// SIGKILL. Any other holder, in another container or beneath another supervisor, gets no signal. It is waited
/// for once, for `limit` and five seconds more.
pub fn take(root: &Root, home: &Dir, limit: Duration) -> Result<Taking> {
    let mut file = home.file(LOCK_FILE, OFlags::RDWR | OFlags::CREATE)?;
    let mut has_waited = false;
    for _ in 0..TRIES {
        match Attempt::of(fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Attempt::Taken => {
                sign(&mut file, home.path());
                return Ok(Taking::Taken(file));
            }
            Attempt::Held => {}
            Attempt::Impossible(errno) => return Ok(Taking::Impossible(failed(home, errno))),
            Attempt::Failed(errno) => return Err(failed(home, errno)),
        }
        match next(
            holder(home, LOCK_FILE)?,
            |pid| is_orphan(root, pid),
            has_waited,
        ) {
            Next::TryAgain => {}
            Next::End(orphan) => {
                end_orphan(root, home, orphan, limit)?;
            }
            Next::Wait => {
                has_waited = true;
                let what = format!(
                    "the gateway elsewhere to end: {} is in use by {}",
                    home.path().display(),
                    signature(home)
                );
                // A lock that cannot be asked is asked again by the next attempt.
                wait_until(limit + KILL_TIME, &what, || {
                    matches!(holder(home, LOCK_FILE), Ok(None))
                });
            }
            Next::GiveUp => break,
        }
    }
    Ok(Taking::HeldElsewhere)
}

fn failed(home: &Dir, errno: Errno) -> Error {
    Error::system("lock", home.path().join(LOCK_FILE), errno)
}

/// The result of one attempt to lock a file.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Taken,
    /// Another process holds the lock.
    Held,
    /// The file system has no locks.
    Impossible(Errno),
    Failed(Errno),
}

impl Attempt {
    fn of(result: rustix::io::Result<()>) -> Self {
        match result {
            Ok(()) => Self::Taken,
            Err(Errno::AGAIN | Errno::ACCESS) => Self::Held,
            Err(errno @ (Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL)) => {
                Self::Impossible(errno)
            }
            Err(errno) => Self::Failed(errno),
        }
    }
}

/// What to do after an attempt that found the lock held.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Nobody holds the lock any more.
    TryAgain,
    /// End the holder, which has this pid and has lost its supervisor.
    End(i32),
    /// Wait for the holder: a container that ours replaces may still be saving.
    Wait,
    GiveUp,
}

fn next(holder: Option<Holder>, is_orphan: impl Fn(i32) -> bool, has_waited: bool) -> Next {
    match holder {
        None => Next::TryAgain,
        Some(Holder::Process(pid)) if is_orphan(pid) => Next::End(pid),
        Some(_) if has_waited => Next::GiveUp,
        Some(_) => Next::Wait,
    }
}

/// Reads the text by which the last holder named itself in the lock file of a home.
pub fn signature(home: &Dir) -> String {
    let content = home.read(LOCK_FILE, 512).unwrap_or_default();
    match String::from_utf8_lossy(&content).lines().next() {
        Some(holder) if !holder.is_empty() => escaped(holder.as_bytes()),
        _ => "somebody unknown".to_owned(),
    }
}

/// Writes our host name, pid and the time into the lock file, for those who find the lock held.
///
/// A failure is only a warning: the lock itself holds without the text.
fn sign(file: &mut File, home: &Path) {
    let name = rustix::system::uname();
    let text = format!(
        "{} pid {} since {}\n",
        escaped(name.nodename().to_bytes()),
        std::process::id(),
        timestamp(SystemTime::now())
    );
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(text.as_bytes()));
    if let Err(cause) = written {
        report::warning(&Error::system("write", home.join(LOCK_FILE), cause).to_string());
    }
}

/// Ends the gateway that holds the lock of a home, if the gateway has lost its supervisor.
///
/// The gateway gets `limit` to save. The result tells whether it had to be killed; `None` if there was no such
/// gateway.
pub fn end_orphan_of(root: &Root, home: &Dir, limit: Duration) -> Result<Option<bool>> {
    match holder(home, LOCK_FILE)? {
        Some(Holder::Process(pid)) if is_orphan(root, pid) => {
            end_orphan(root, home, pid, limit).map(Some)
        }
        _ => Ok(None),
    }
}

/// Tells whether a process of this container has lost its supervisor.
fn is_orphan(root: &Root, pid: i32) -> bool {
    let process = |pid: &str| root.at(format!("/proc/{pid}"));
    let namespace = |pid: &str| fs::read_link(process(pid).join("ns/pid")).ok();
    let pid = pid.to_string();
    let parent = parent(root, &pid);
    let parent = parent.and_then(|parent| fs::read_to_string(process(&parent).join("comm")).ok());
    has_no_supervisor(
        namespace("self").as_deref(),
        namespace(&pid).as_deref(),
        parent.as_deref(),
    )
}

/// Tells whether a process has no supervisor, by our pid namespace, by its own one, and by the name of its
/// parent.
///
/// `None` stands for what could not be read; then the process counts as supervised.
fn has_no_supervisor(ours: Option<&Path>, its: Option<&Path>, parent: Option<&str>) -> bool {
    ours.is_some() && ours == its && parent.is_some_and(|name| name.trim_end() != "s6-supervise")
}

/// Ends the orphan that holds the lock, and tells whether it had to be killed.
fn end_orphan(root: &Root, home: &Dir, pid: i32, limit: Duration) -> Result<bool> {
    // A process with this pid that holds the lock is the orphan, and no later process with the same pid.
    let holds_lock = || Ok(holder(home, LOCK_FILE)? == Some(Holder::Process(pid)));
    let Some(process) = Process::identify(root, pid, holds_lock)? else {
        return Ok(false);
    };
    let steps = [
        ("ending", Signal::TERM, limit),
        ("killing", Signal::KILL, KILL_TIME),
    ];
    for (what, signal, limit) in steps {
        if !holds_lock()? {
            return Ok(false);
        }
        report::note(&format!(
            "{what} the orphaned gateway (pid {pid}) of a killed supervisor"
        ));
        process.signal(signal)?;
        wait_until(limit, "the orphaned gateway to save and end", || {
            beat();
            matches!(holds_lock(), Ok(false))
        });
    }
    if holds_lock()? {
        let what =
            format!("the orphaned gateway (pid {pid}) does not end, not even when it is killed");
        return Err(Error::new(Code::TimedOut, what).remedy("look at its volume"));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_judged_by_its_error() {
        #[rustfmt::skip]
        let rows = [
            (Ok(()), Attempt::Taken, "no error: it is ours"),
            (Err(Errno::AGAIN), Attempt::Held, "what Linux says of a lock that is held"),
            (Err(Errno::ACCESS), Attempt::Held, "what POSIX also allows for that"),
            (Err(Errno::NOLCK), Attempt::Impossible(Errno::NOLCK), "NFS without a lock daemon"),
            (Err(Errno::OPNOTSUPP), Attempt::Impossible(Errno::OPNOTSUPP), "a file system without locks"),
            (Err(Errno::IO), Attempt::Failed(Errno::IO), "a broken disk is not a lock that nobody holds"),
            (Err(Errno::BADF), Attempt::Failed(Errno::BADF), "nor is anything else"),
        ];
        for (result, expected, sentence) in rows {
            assert_eq!(Attempt::of(result), expected, "{sentence}");
        }
    }

    #[test]
    fn a_lock_that_is_held_is_waited_for_once_unless_its_holder_is_an_orphan() {
        let process = Some(Holder::Process(7));
        #[rustfmt::skip]
        let rows = [
            (None, false, false, Next::TryAgain, "its holder has ended since"),
            (None, false, true, Next::TryAgain, "also while it was waited for"),
            (process, true, false, Next::End(7), "an orphan of ours is ended"),
            (process, true, true, Next::End(7), "also after another holder"),
            (process, false, false, Next::Wait, "another supervisor's gateway may end"),
            (process, false, true, Next::GiveUp, "and is given its time once"),
            (Some(Holder::Elsewhere), true, false, Next::Wait, "so may one in another container"),
            (Some(Holder::Elsewhere), true, true, Next::GiveUp, "which is never ended from here"),
        ];
        for (holder, orphan, has_waited, expected, sentence) in rows {
            assert_eq!(next(holder, |_| orphan, has_waited), expected, "{sentence}");
        }
    }

    #[test]
    fn an_orphan_is_a_process_of_this_container_whose_parent_is_not_s6_supervise() {
        let ours = Some(Path::new("pid:[1]"));
        let other = Some(Path::new("pid:[2]"));
        #[rustfmt::skip]
        let rows = [
            (ours, ours, Some("s6-svscan\n"), true, "it fell to s6-svscan as PID 1"),
            (ours, ours, Some("bash\n"), true, "or to another init"),
            (ours, ours, Some("s6-supervise\n"), false, "it has a supervisor"),
            (ours, other, Some("bash\n"), false, "it is of another container"),
            (ours, ours, None, false, "its parent cannot be seen"),
            (ours, None, Some("bash\n"), false, "its container cannot be seen"),
            (None, None, Some("bash\n"), false, "our own cannot be seen"),
        ];
        for (us, it, parent, expected, sentence) in rows {
            assert_eq!(has_no_supervisor(us, it, parent), expected, "{sentence}");
        }
    }
}
