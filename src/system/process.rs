//! Processes: what /proc tells about them, which one holds a lock, and how to signal one safely.
//!
//! A pid alone does not identify a process: the kernel uses pids again. [`Process`] therefore holds a handle
//! or the start time too.

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{
    Flock, FlockType, Pid, PidfdFlags, Signal, fcntl_getlk, getegid, kill_process, pidfd_open,
    pidfd_send_signal, set_parent_process_death_signal, test_kill_process,
};

use crate::error::{Code, Error, Result};
use crate::system::beneath::Dir;
use crate::system::root::Root;
use crate::system::trust::is_not_there;

/// More than any file of /proc that is read here has, in bytes.
const PROC_LIMIT: u64 = 1 << 26;

/// Reads a file of /proc, which does not tell its size beforehand.
pub fn proc_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1 << 13);
    // A limit keeps the library from asking for the size first.
    fs::File::open(path)?
        .take(PROC_LIMIT)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a file of /proc; gives nothing where it is not there, or hidden from this process. Any other error is none of
/// these.
pub fn proc_if_seen(path: &Path) -> Result<Vec<u8>> {
    match proc_bytes(path) {
        Err(cause) if is_gone(&cause) || cause.kind() == io::ErrorKind::PermissionDenied => {
            Ok(Vec::new())
        }
        read => read.map_err(|cause| Error::system("read", path, cause)),
    }
}

/// Tells whether an error means that something of /proc is not there, or not any more.
pub fn is_gone(cause: &io::Error) -> bool {
    is_not_there(cause) || cause.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// Reads a file of /proc as text. The name of a process, which is in some of them, can have any bytes.
pub fn proc_text(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&proc_bytes(path)?).into_owned())
}

/// Reads a field of /proc/PID/stat by its number in proc(5).
pub fn stat_field(root: &Root, pid: &str, number: usize) -> Option<String> {
    field(&proc_text(&stat(root, pid)).ok()?, number)
}

fn stat(root: &Root, pid: &str) -> std::path::PathBuf {
    root.at(format!("/proc/{pid}/stat"))
}

/// Takes a field from the text of /proc/PID/stat by its number in proc(5).
pub fn field(stat: &str, number: usize) -> Option<String> {
    // The second field, the command's name, may contain spaces and parentheses. Behind its last parenthesis
    // comes the third field.
    stat.rsplit(')')
        .next()?
        .split_whitespace()
        .nth(number - 3)
        .map(str::to_owned)
}

/// The field of /proc/PID/stat with the state of the process: `D` while it waits for a disk.
pub const STATE: usize = 3;

/// The field of /proc/PID/stat with the controlling terminal of the process; 0 is none.
pub const TERMINAL: usize = 7;

/// The field of /proc/PID/stat with the start of the process, in ticks since the machine started.
pub const START_TIME: usize = 22;

/// Reads when a process started, in hundredths of a second since the machine started: field 22 of
/// /proc/PID/stat.
///
/// The kernel uses pids again; a pid together with this number identifies one process.
pub fn start_time(root: &Root, pid: &str) -> Option<u64> {
    stat_field(root, pid, START_TIME)?.parse().ok()
}

/// Reads the pid of a process's parent.
pub fn parent(root: &Root, pid: &str) -> Option<String> {
    stat_field(root, pid, 4)
}

/// Tells whether a process, given by its directory in /proc, belongs to this container.
///
/// A process of another container that we can see has a second pid, in the pid namespace of that container.
pub fn is_of_this_container(process: &Path) -> bool {
    let status = proc_text(&process.join("status")).unwrap_or_default();
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    pids.is_none_or(|pids| pids.split_whitespace().count() == 1)
}

/// Lets this process, and the program that it becomes, end with its parent.
pub fn end_with_parent() {
    let _outlives_it = set_parent_process_death_signal(Some(Signal::TERM));
}

/// The holder of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A process of our pid namespace, by its pid.
    Process(i32),
    /// A process of another container or machine.
    Elsewhere,
}

/// Finds the holder of a file's lock with `F_GETLK`; `None` if nobody holds the lock, or there is no such file.
///
/// It is an error if the lock cannot be asked: then there may be a holder.
pub fn holder(dir: &Dir, name: &str) -> Result<Option<Holder>> {
    let file = match dir.file(name, OFlags::RDONLY) {
        Err(error) if error.is_not_found() => return Ok(None),
        file => file?,
    };
    let lock = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock))
        .map_err(|errno| Error::system("ask for the lock of", dir.path().join(name), errno))?;
    Ok(lock.map(|lock| match lock.pid.map(Pid::as_raw_pid) {
        Some(pid) if pid > 0 => Holder::Process(pid),
        _ => Holder::Elsewhere,
    }))
}

/// Tells whether a process is the child of another one; `None` if the parent itself cannot be seen, as one of
/// another pid namespace, or where /proc hides the processes of others.
pub fn is_child(root: &Root, pid: u32, parent_pid: i32) -> Option<bool> {
    let parent_pid = parent_pid.to_string();
    let is_child = parent(root, &pid.to_string()).is_some_and(|parent| parent == parent_pid);
    if !is_child {
        start_time(root, &parent_pid)?;
    }
    Some(is_child)
}

/// An identified process: a signal reaches this process, and never a later one with the same pid.
#[derive(Debug)]
pub struct Process<'a> {
    root: &'a Root,
    pid: Pid,
    identity: Identity,
}

/// What distinguishes a process from a later one with the same pid.
#[derive(Debug)]
enum Identity {
    /// A handle from the kernel, see pidfd_open(2).
    Handle(OwnedFd),
    /// The start time, where there is no such handle: the kernel has none, or a seccomp filter forbids them.
    StartTime(u64),
}

impl<'a> Process<'a> {
    /// Identifies the process with this pid; `None` if it is gone, or is not the process that is meant.
    ///
    /// `is_meant` decides this, for example by a lock that the process holds. It is asked after the handle or
    /// the start time was taken, so that no other process can get the pid in between.
    pub fn identify(
        root: &'a Root,
        pid: i32,
        is_meant: impl FnOnce() -> Result<bool>,
    ) -> Result<Option<Self>> {
        let Some(pid) = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let identity = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Identity::Handle(handle),
            Err(Errno::SRCH) => return Ok(None),
            // ENOSYS, or whatever else a seccomp filter says.
            Err(_) => match current_start_time(root, pid)? {
                Some(start) => Identity::StartTime(start),
                None => return Ok(None),
            },
        };
        let process = Self {
            root,
            pid,
            identity,
        };
        Ok(is_meant()?.then_some(process))
    }

    /// Tells whether the process still runs; also if that cannot be told.
    pub fn runs(&self) -> bool {
        match &self.identity {
            Identity::Handle(handle) => !has_ended(handle),
            Identity::StartTime(start) => {
                let now = current_start_time(self.root, self.pid);
                !now.is_ok_and(|now| now != Some(*start))
            }
        }
    }

    /// Sends a signal, unless the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let sent = match &self.identity {
            Identity::Handle(handle) => match pidfd_send_signal(handle, signal) {
                // A filter may know one of the two calls. While the process has not ended, its pid is its own.
                Err(Errno::NOSYS | Errno::PERM) if !has_ended(handle) => {
                    kill_process(self.pid, signal)
                }
                sent => sent,
            },
            Identity::StartTime(start) => match current_start_time(self.root, self.pid)? {
                Some(now) if now == *start => kill_process(self.pid, signal),
                _ => Err(Errno::SRCH),
            },
        };
        match sent {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::system(
                "send a signal to process",
                self.pid.to_string(),
                errno,
            )),
        }
    }
}

/// Tells whether the process of a handle has ended: then the handle can be read, see pidfd_open(2).
fn has_ended(handle: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(handle, PollFlags::IN)];
    retry_on_intr(|| poll(&mut polled, Some(&Timespec::default()))) == Ok(1)
}

/// Reads when a process started; `None` if there is no such process any more.
fn current_start_time(root: &Root, pid: Pid) -> Result<Option<u64>> {
    let path = stat(root, &pid.to_string());
    let unknown = |what: &str| {
        let what = format!("unable to identify process {pid}: {what}");
        Error::new(Code::System, what)
    };
    match proc_text(&path) {
        Ok(stat) => match field(&stat, START_TIME).and_then(|start| start.parse().ok()) {
            Some(start) => Ok(Some(start)),
            None => Err(unknown("/proc does not tell when it started")),
        },
        Err(cause)
            if cause.kind() == io::ErrorKind::NotFound
                || cause.raw_os_error() == Some(Errno::SRCH.raw_os_error()) =>
        {
            match test_kill_process(pid) {
                Err(Errno::SRCH) => Ok(None),
                _ => Err(unknown("/proc hides it").remedy("mount /proc without hidepid")),
            }
        }
        Err(cause) => Err(Error::system("read", path, cause)),
    }
}

/// Starts a program; its path must be absolute.
///
/// Docker before 20.10.10 answers EPERM for clone3, which it does not know. The C library takes that for an
/// answer, and does not try the older call as it does after ENOSYS. With a group to set, even if it is our own,
/// the standard library forks itself, by the older call.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    match command.spawn() {
        Err(cause) if is_refusal(&cause) => command.gid(getegid().as_raw()).spawn(),
        spawned => spawned,
    }
}

/// Tells what it means if a seccomp filter answers EPERM for clone3; `None` if it does not.
///
/// We do without, see [`spawn`]. But execline and s6 start programs as the C library does, and Python its threads.
pub fn clone3_refused() -> Option<Error> {
    // A path on which no program can be: what fails first is seen.
    let cause = Command::new("/dev/null/none").spawn().err()?;
    let what = "the container answers 'Operation not permitted' for system calls that it does not know, \
        so s6 may fail to start programs, and Python to start threads";
    let remedy =
        "update Docker to 20.10.10 or later, or use docker run --security-opt seccomp=unconfined";
    is_refusal(&cause).then(|| Error::new(Code::System, what).remedy(remedy))
}

fn is_refusal(cause: &io::Error) -> bool {
    cause.raw_os_error() == Some(Errno::PERM.raw_os_error())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a) b (c) S 1 7 7";
        assert_eq!(field(stat, 3).as_deref(), Some("S"));
        assert_eq!(field(stat, 4).as_deref(), Some("1"));
        assert_eq!(field(stat, 22), None);
    }

    fn sleeper() -> (Child, i32) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        (child, pid)
    }

    /// What a kernel without handles leaves to identify a process by.
    fn by_start_time(root: &Root, pid: i32) -> Process<'_> {
        let pid = Pid::from_raw(pid).unwrap();
        let start = current_start_time(root, pid).unwrap().unwrap();
        Process {
            root,
            pid,
            identity: Identity::StartTime(start),
        }
    }

    #[test]
    fn a_process_is_ended_by_its_handle_and_where_there_is_none_by_its_start_time() {
        let root = Root::new("/");
        let by_handle: fn(&Root, i32) -> Process<'_> =
            |root, pid| Process::identify(root, pid, || Ok(true)).unwrap().unwrap();
        for identify in [by_handle, by_start_time] {
            let (mut child, pid) = sleeper();
            let process = identify(&root, pid);
            process.signal(Signal::KILL).unwrap();
            assert!(!child.wait().unwrap().success());
            process.signal(Signal::KILL).unwrap();
        }
    }

    #[test]
    fn a_process_that_proc_hides_is_not_gone() {
        let (mut child, pid) = sleeper();
        let (root, empty) = (Root::new("/"), Root::new("/var/empty"));
        let pid = Pid::from_raw(pid).unwrap();
        assert!(current_start_time(&root, pid).unwrap().is_some());
        let hidden = current_start_time(&empty, pid).unwrap_err().to_string();
        assert!(hidden.ends_with("/proc hides it: mount /proc without hidepid"));
        child.kill().unwrap();
        child.wait().unwrap();
        for root in [root, empty] {
            assert_eq!(current_start_time(&root, pid).unwrap(), None);
        }
    }

    #[test]
    fn a_process_that_is_not_the_one_meant_or_no_more_is_let_alone() {
        let root = Root::new("/");
        let (mut child, pid) = sleeper();
        assert!(
            Process::identify(&root, pid, || Ok(false))
                .unwrap()
                .is_none()
        );
        let mut later = by_start_time(&root, pid);
        later.identity = Identity::StartTime(1);
        later.signal(Signal::KILL).unwrap();
        assert!(
            child.try_wait().unwrap().is_none(),
            "it started at another time"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            Process::identify(&root, pid, || Ok(true))
                .unwrap()
                .is_none()
        );
        for pid in [0, -1] {
            assert!(
                Process::identify(&root, pid, || Ok(true))
                    .unwrap()
                    .is_none()
            );
        }
    }
}
