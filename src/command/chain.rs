//! The commands in the scripts of a slot. Two of them, [`own_env`] and [`hold_lock`], do one thing and then become
//! the next program of the script.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::getppid;

use crate::error::{Code, Error, Result};
use crate::hermes::config::{is_of_an_account, truth};
use crate::hermes::state::{Proof, STATE_FILE, STATE_LIMIT, serves};
use crate::report;
use crate::rights::apart;
use crate::s6::storm::storm;
use crate::s6::supervision::{Status, deaths};
use crate::system::beneath::Dir;
use crate::system::process::{end_with_parent, start_time};
use crate::system::root::Root;
use crate::system::socket::listens;
use crate::system::time::time_of_start;
use crate::tree::slot::EXIT_LOCKED;
use crate::volume::lock::{LOCK_FILE, Taking, signature, take};

/// How long one call of `data/check` may look; s6-notifyoncheck gives it 2 s.
const CHECK_TIME: Duration = Duration::from_millis(1500);

/// The pause between two looks of one call.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The possible error when the time of a file is compared with the start of a process, generously.
const CLOCK_GRAIN: Duration = Duration::from_millis(100);

/// Executes a program without the environment variables of the default profile's messaging accounts.
///
/// With HERMES_S6_INHERIT_ENV=1 they stay. Returns only if the program cannot be executed.
pub fn own_env(prog: &[OsString]) -> Error {
    let mut command = command(prog);
    let inherit =
        std::env::var("HERMES_S6_INHERIT_ENV").is_ok_and(|value| truth(&value) == Some(true));
    if !inherit {
        for (name, _) in std::env::vars_os() {
            if is_of_an_account(name.as_encoded_bytes()) {
                command.env_remove(name);
            }
        }
    }
    exec(command)
}

/// Executes a program in a session of its own, see [`apart::own_session`]; returns only an error.
pub fn own_session(prog: &[OsString]) -> Error {
    match apart::own_session() {
        Ok(()) => exec(command(prog)),
        Err(error) => error,
    }
}

/// Executes a program that ends when its parent does, if that is still the one that has this pid; returns only an
/// error. Without a pid, whoever is the parent now is meant.
pub fn with_parent(pid: Option<i32>, prog: &[OsString]) -> Error {
    end_with_parent();
    let is_gone = |pid| getppid().is_none_or(|parent| parent.as_raw_pid() != pid);
    if pid.is_some_and(is_gone) {
        return Error::new(Code::No, "the process that has started this one is gone");
    }
    exec(command(prog))
}

/// Waits before the service in the current directory is started again, if it has ended several times in a row; then
/// executes a program.
///
/// A signal ends the wait at once: the wait is a part of the run script, and not of the finish script, which would
/// hold up a stop. A tally that cannot be read holds nothing back.
pub fn back_off(prog: &[OsString]) -> Error {
    let deaths = Dir::open(Path::new(".")).and_then(|service| deaths(&service));
    if let Some(storm) = storm(&deaths.unwrap_or_default()) {
        report::note(&format!(
            "{} deaths in a row, the last ones within {} s: waiting for {} s",
            storm.deaths,
            storm.lasts.as_secs(),
            storm.back_off.as_secs()
        ));
        std::thread::sleep(storm.back_off);
    }
    exec(command(prog))
}

/// Takes the lock of a profile's home, see [`take`], and executes a program, whose process then holds the lock.
///
/// If another gateway holds the lock, the exit code is [`EXIT_LOCKED`], on which the finish script parks the
/// slot.
pub fn hold_lock(root: &Root, home: &Path, limit: Duration, prog: Command) -> Result<u8> {
    let home = Dir::open(home)?;
    match take(root, &home, limit)? {
        Taking::Taken(file) => {
            keep_open(&file)?;
            Err(exec(prog))
        }
        Taking::Impossible(problem) => {
            report::warning(&format!(
                "{problem}: nothing keeps another container from running this profile too"
            ));
            Err(exec(prog))
        }
        Taking::HeldElsewhere => {
            let what = format!(
                "{} is in use: its lock is held by {}",
                home.path().display(),
                signature(&home)
            );
            report::fatal(&Error::new(Code::No, what).remedy("stop the profile there first"));
            Ok(EXIT_LOCKED)
        }
    }
}

/// Keeps a file open, and so its lock, in the program that this process executes.
fn keep_open(file: &File) -> Result<()> {
    fcntl_setfd(file, FdFlags::empty())
        .map_err(|errno| Error::system("keep open", LOCK_FILE, errno))
}

/// Tells whether the gateway whose slot is the current directory has written that it serves.
///
/// Looks several times within 1.5 s: that is cheaper than one process for each look.
pub fn check_ready(root: &Root, home: &Path) -> Result<bool> {
    let service = Dir::open(Path::new("."))?;
    // A look that a volume keeps from ending has this lock: more and more of them would come to wait there.
    let data = service.dir("data")?;
    if flock(&data, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        std::thread::sleep(CHECK_TIME);
        return Ok(false);
    }
    let home = Dir::open(home)?;
    let end = Instant::now() + CHECK_TIME;
    loop {
        if is_ready(root, &service, &home) {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(CHECK_INTERVAL);
    }
}

/// Tells whether the process whose service directory is the current one listens.
pub fn check_listens(root: &Root) -> Result<bool> {
    let service = Dir::open(Path::new("."))?;
    let is_over = Instant::now() + CHECK_TIME;
    loop {
        let status = Status::read(&service)?;
        let seen = match status.and_then(|status| status.pid) {
            Some(pid) => listens(root, pid),
            None => Ok(false),
        };
        // A look that fails is made again: the process may not be the user's yet.
        if matches!(seen, Ok(true)) || Instant::now() >= is_over {
            return seen;
        }
        std::thread::sleep(CHECK_INTERVAL);
    }
}

fn is_ready(root: &Root, service: &Dir, home: &Dir) -> bool {
    let Ok(Some(Status { pid: Some(pid), .. })) = Status::read(service) else {
        return false;
    };
    let start = start_time(root, &pid.to_string());
    let (Some(start), Ok(content)) = (start, home.read(STATE_FILE, STATE_LIMIT)) else {
        return false;
    };
    match serves(&content, u64::from(pid), start) {
        Some(Proof::Start) => true,
        // An earlier process with the same pid may have written the file: it must be newer than this process.
        Some(Proof::None) => home
            .modified(STATE_FILE)
            .is_some_and(|time| time + CLOCK_GRAIN >= time_of_start(start)),
        None => false,
    }
}

/// Prepares a program: the first of some words, with the others as its arguments.
pub fn command(prog: &[OsString]) -> Command {
    let mut words = prog.iter();
    let mut command = Command::new(words.next().cloned().unwrap_or_default());
    command.args(words);
    command
}

/// Becomes a program; gives the error if that fails.
pub fn exec(mut command: Command) -> Error {
    let cause = command.exec();
    Error::exec(command.get_program(), cause)
}
