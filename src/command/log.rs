//! What keeps the logs going: [`choose`], by which each logger begins, and [`tend`], which looks after all of them.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock, fstat};
use rustix::io::{Errno, FdFlags, fcntl_setfd, retry_on_intr};
use rustix::process::Signal;

use crate::cli::{Common, Selection, Waiting};
use crate::command::chain::command;
use crate::command::operate::operate_as;
use crate::command::outcome::Form;
use crate::error::{Code, Error, Result, cause_text, shown};
use crate::report;
use crate::s6::supervision::{Death, Status, deaths, supervised};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::system::process::{Process, STATE, parent, proc_text, spawn, stat_field};
use crate::system::root::Root;
use crate::system::time::timestamp;
use crate::system::wait::wait_until;
use crate::tree::dashboard::{DASHBOARD, LABEL};
use crate::tree::lifecycle::request::Verb;
use crate::tree::logger::{Care, Logger, care};
use crate::tree::remove::Remover;
use crate::tree::scandir::ScanDir;
use crate::view::row::{Row, State};
use crate::view::status;
use crate::volume::log::{LogPlace, is_locked, logger as logger_of, make, probe};
use crate::volume::survey::survey;

/// How long a logger that was told to end may write what it holds.
const END_TIME: Duration = Duration::from_secs(2);

/// How long the lock of a log directory is waited for: meanwhile, the gateway fills the pipe.
const LOCK_TIME: Duration = Duration::from_secs(1);

/// How long stdout is watched before it counts as not read by anybody.
const STDOUT_TIME: Duration = Duration::from_secs(1);

/// The time in which a gateway gives a heartbeat, and some more.
const HEARTBEAT_TIME: Duration = Duration::from_secs(35);

/// The same after a logger that was killed: then probably because nobody reads stdout.
const STDOUT_AGAIN: Duration = Duration::from_millis(100);

/// How long a logger that cannot write all that it has may write nothing. It does not read meanwhile.
const REPLACE_TIME: Duration = Duration::from_millis(300);

/// How long it may take for what it can write: some megabytes, and a sync for each.
const WRITE_TIME: Duration = Duration::from_secs(5);

/// The pause between two looks at the end of a tree.
const PAUSE: Duration = Duration::from_millis(50);

/// Becomes the logger of the service in the current directory: one of three, by what can be written.
///
/// `words` are two blocks of execline, for both places and for the log directory alone, and then the words of the
/// logger for stdout alone. A process that still reads from the same pipe is ended first. Returns only if the logger
/// cannot be executed.
pub fn choose(root: &Root, directory: &Path, words: &[OsString]) -> Result<Error> {
    let mut rest = words;
    let blocks = (block(&mut rest), block(&mut rest));
    let (Some(both), Some(file)) = blocks else {
        let what = "two blocks and a program must follow the log directory";
        return Err(Error::new(Code::Usage, what));
    };
    // What cannot be looked at here must not keep the logger from its work.
    let service = Dir::open(Path::new("."));
    let last = service
        .as_ref()
        .ok()
        .and_then(|service| deaths(service).ok()?.pop());
    let claim = service.and_then(|service| claim(root, service));
    let (place, usable) = look(directory);
    let was_killed = last.is_some_and(|(_, death)| death != Death::Exit(0));
    let is_read = is_read(if was_killed {
        STDOUT_AGAIN
    } else {
        STDOUT_TIME
    });
    let words: &[OsString] = match (&usable, is_read) {
        (Ok(()), true) => &both,
        (Ok(()), false) => &file,
        (Err(_), _) => rest,
    };
    if let Some(text) = what_is_missing(last, &place, directory, usable.err(), is_read) {
        say(words, &text);
    }
    // The lock stays with the logger.
    match &claim {
        Ok(claim) => {
            let _without = fcntl_setfd(claim, FdFlags::empty());
        }
        Err(error) => report::warning(&error.to_string()),
    }
    let mut logger = command(words);
    let cause = logger.exec();
    Ok(Error::exec(logger.get_program(), cause))
}

/// Takes a block of execline from the front of some words: its words have a space in front, and an empty word ends it.
fn block(words: &mut &[OsString]) -> Option<Vec<OsString>> {
    let end = words.iter().position(|word| word.is_empty())?;
    let (block, rest) = words.split_at(end);
    *words = rest.get(1..)?;
    let strip = |word: &OsString| Some(word.as_bytes().strip_prefix(b" ")?.to_vec());
    let block: Option<Vec<OsString>> = block
        .iter()
        .map(|word| strip(word).map(OsString::from_vec))
        .collect();
    block.filter(|block| !block.is_empty() && !words.is_empty())
}

/// Takes the lock of a logger's service directory, so that one process reads from the pipe.
///
/// The holder may be the logger of a killed s6-supervise: two loggers on one pipe would each get half of the lines.
/// It is told to end, and killed if it does not.
fn claim(root: &Root, service: Dir) -> Result<OwnedFd> {
    let mut failure = None;
    let mut is_ours = || match flock(&service, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => true,
        Err(errno) => {
            failure = Some(errno).filter(|errno| *errno != Errno::WOULDBLOCK);
            failure.is_some()
        }
    };
    for signal in [Signal::HUP, Signal::KILL] {
        if is_ours() {
            break;
        }
        for pid in other_readers(root) {
            let is_reader = || Ok(other_readers(root).contains(&pid));
            if let Some(process) = Process::identify(root, pid, is_reader)? {
                process.signal(signal)?;
            }
        }
        wait_until(END_TIME, "the other logger to end", &mut is_ours);
    }
    match failure {
        Some(errno) => Err(Error::system("lock", service.path(), errno)),
        None => Ok(service.into_handle()),
    }
}

/// Finds the other processes that read from the pipe of this one, apart from our own supervisor.
fn other_readers(root: &Root) -> Vec<i32> {
    let ours = fstat(rustix::stdio::stdin()).map(|stat| (stat.st_dev, stat.st_ino));
    let Ok(ours) = ours else { return Vec::new() };
    let supervisor = parent(root, "self");
    let us = std::process::id().to_string();
    let is_other = |pid: &String| {
        let stdin = fs::metadata(root.at(format!("/proc/{pid}/fd/0")));
        let is_reader = stdin.is_ok_and(|meta| (meta.dev(), meta.ino()) == ours);
        is_reader && *pid != us && Some(pid) != supervisor.as_ref()
    };
    let names = fs::read_dir(root.at("/proc"))
        .into_iter()
        .flatten()
        .flatten();
    names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(is_other)
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Looks at a log directory, which is made if it does not exist, and tries whether it can be written.
fn look(directory: &Path) -> (LogPlace, std::result::Result<(), String>) {
    let opened = match make(directory) {
        Ok(opened) => opened,
        Err(error) => return (LogPlace::default(), Err(error.to_string())),
    };
    let place = LogPlace::open(&opened);
    let is_free = wait_until(LOCK_TIME, "the other logger", || !is_locked(&opened));
    let usable = match (&place.fault, probe(&opened)) {
        (Some(fault), _) => Err(fault.cause.clone()),
        (None, Err(errno)) => Err(cause_text(&errno.into())),
        (None, Ok(())) if !is_free => Err("another logger has its lock".to_owned()),
        (None, Ok(())) => Ok(()),
    };
    (place, usable)
}

/// Tells whether somebody reads stdout, or at least does not let it fill up.
fn is_read(limit: Duration) -> bool {
    let stdout = rustix::stdio::stdout();
    let timeout = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(0),
        tv_nsec: limit.subsec_nanos().into(),
    };
    let mut polled = [PollFd::new(&stdout, PollFlags::OUT)];
    !matches!(retry_on_intr(|| poll(&mut polled, Some(&timeout))), Ok(0))
}

/// Says what a reader of the log has to know before its next line; `None` if nothing is missing.
///
/// `last` is how the last logger ended, and when. `unusable` is why the log directory is not written.
fn what_is_missing(
    last: Option<(SystemTime, Death)>,
    place: &LogPlace,
    directory: &Path,
    unusable: Option<String>,
    is_read: bool,
) -> Option<String> {
    let directory = shown(directory);
    if let Some(cause) = unusable {
        return Some(format!(
            "{directory} is not written: {cause}: until that is over, lines are here alone"
        ));
    }
    if !is_read {
        let text = "nobody reads the container's stdout: until that is over, lines are here alone";
        return Some(text.to_owned());
    }
    let (time, death) = last?;
    let time = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    // When it ends, a logger changes the mode of its file.
    let was_written = place.changed.is_some_and(|changed| changed + 2 >= time);
    let since = place.written.map_or_else(String::new, |written| {
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(written);
        format!(" of the time since {}", timestamp(written))
    });
    if !was_written {
        return Some(format!(
            "lines{since} are missing in {directory}, which could not be written"
        ));
    }
    (death != Death::Exit(0)).then(|| {
        format!("lines{since} may be missing here: the logger could not write all that it had")
    })
}

/// Has the logger write a line of our own.
fn say(words: &[OsString], text: &str) {
    // It is not ready by that.
    let words: Vec<OsString> = words
        .iter()
        .filter(|word| *word != "-d3")
        .cloned()
        .collect();
    let Ok(mut logger) = spawn(command(&words).stdin(Stdio::piped())) else {
        return;
    };
    if let Some(mut stdin) = logger.stdin.take() {
        let _not_said = stdin.write_all(format!("hermes-s6: {text}\n").as_bytes());
    }
    let has_ended = wait_until(END_TIME, "a line to be logged", || {
        !matches!(logger.try_wait(), Ok(None))
    });
    if !has_ended {
        let _ended = logger.kill().and_then(|()| logger.wait());
    }
}

/// Looks after the loggers of a tree; `at_end` is for a tree that ends. The current directory is a service in it.
pub fn tend(at_end: bool) -> Result<Code> {
    let here = env::current_dir().map_err(|cause| Error::system("find", ".", cause))?;
    let mut common = Common {
        scandir: here.parent().map(Path::to_owned),
        home: Some("/".into()),
    };
    let mut settings = Settings::gather(&common)?;
    let scandir = ScanDir::open(&settings)?;
    let Some(owner) = scandir.owner()? else {
        return Ok(Code::Done);
    };
    settings.home.clone_from(&owner.home);
    common.home = Some(owner.home.clone());
    if !at_end {
        look_after(&settings, &owner.choices.tools, &scandir)?;
        return if settings.watchdog {
            watch(&common, &settings, &scandir)
        } else {
            Ok(Code::Done)
        };
    }
    // Somebody may have killed the process of this service alone.
    let status = Dir::open(&here).and_then(|service| Status::read(&service));
    if matches!(status, Ok(Some(status)) if status.wanted_up) {
        return Ok(Code::Done);
    }
    let remover = Remover {
        root: &settings.root,
        tools: &owner.choices.tools,
        stop_timeout: owner.choices.stop_timeout(),
        scandir: &scandir,
    };
    remover.end_loggers_of_ended(PAUSE)?;
    Ok(Code::Done)
}

/// Restarts gateways that do not respond, if they still do not after the time of a heartbeat.
///
/// This process has to run for that time: a heartbeat may be old only because the whole container was frozen.
fn watch(common: &Common, settings: &Settings, scandir: &ScanDir) -> Result<Code> {
    let suspects = || -> Result<Vec<Row>> {
        let report = status::states(settings, scandir, &survey(settings, &[])?, &[])?;
        let mut rows = report.profiles;
        rows.retain(|row| row.state == State::Unresponsive && row.wanted);
        Ok(rows)
    };
    let first = suspects()?;
    if first.is_empty() {
        return Ok(Code::Done);
    }
    thread::sleep(HEARTBEAT_TIME);
    for row in suspects()? {
        if !first
            .iter()
            .any(|one| one.profile == row.profile && one.pid == row.pid)
        {
            continue;
        }
        report::warning(&format!(
            "{} is unresponsive ({}), and is restarted: HERMES_S6_WATCHDOG asks for that",
            row.profile.slot(),
            row.reason.unwrap_or_default()
        ));
        let selection = Selection {
            profile: vec![row.profile],
            all: false,
        };
        let waiting = Waiting::default();
        operate_as(
            Form::Lines,
            common,
            Verb::Restart,
            &selection,
            waiting,
            false,
        )?;
    }
    Ok(Code::Done)
}

/// Has s6-supervise write the status of a slot and of its logger anew, where it is out of date: it could not be written
/// while a file system was full.
fn refresh(root: &Root, tools: &Tools, slot: &Dir) {
    for service in [slot.dir("."), slot.dir("log")].into_iter().flatten() {
        if supervised(root, &service).is_err() {
            // To continue a process that is not stopped changes nothing.
            let _as_it_is = tools.run(root, "s6-svc", &["-c"], service.path());
        }
    }
}

/// Has loggers replaced that do not do what they could.
fn look_after(settings: &Settings, tools: &Tools, scandir: &ScanDir) -> Result<()> {
    let root = &settings.root;
    let is_read = is_read(Duration::from_millis(100));
    let logs = || Dir::open(&root.at(&settings.home)).and_then(|home| home.dir("logs"));
    let (gateways, logs) = (logs().and_then(|logs| logs.dir("gateways")), logs());
    let slots = scandir.profiles()?.into_iter();
    let slots = slots.map(|name| (name.slot(), name.to_string(), &gateways));
    let dashboard = (DASHBOARD.to_owned(), LABEL.to_owned(), &logs);
    let mut told = Vec::new();
    for (service, name, logs) in slots.chain([dashboard]) {
        // What cannot be looked at stays as it is; status says why.
        let Ok(Some(slot)) = scandir.dir().dir_if_there(&service) else {
            continue;
        };
        refresh(root, tools, &slot);
        let Ok(Some(logger)) = Logger::of(root, &slot) else {
            continue;
        };
        let place = LogPlace::of(logs.as_ref(), &name);
        let Some(pid) = logger.process.as_ref().map(|process| process.pid) else {
            continue;
        };
        let could_write = || {
            let directory = match logs {
                Ok(logs) => logs.dir_if_there(&name),
                Err(_) => Ok(None),
            };
            // A directory that is gone is made anew.
            place.fault.is_none()
                && directory.is_ok_and(|directory| {
                    directory.is_none_or(|directory| {
                        let holder = logger_of(&directory);
                        (holder == Some(pid) || !is_locked(&directory)) && probe(&directory).is_ok()
                    })
                })
        };
        let care = care(&logger, &place, could_write, is_read);
        let (patience, limit) = match care {
            Care::Leave => continue,
            Care::Renew => (END_TIME, END_TIME),
            Care::Replace => (REPLACE_TIME, WRITE_TIME),
        };
        let is_meant = || {
            let logger = Logger::of(root, &slot)?;
            let process = logger.and_then(|logger| logger.process);
            Ok(process.is_some_and(|process| process.pid == pid))
        };
        if let Ok(Some(process)) = Process::identify(root, pid, is_meant)
            && process.signal(Signal::HUP).is_ok()
        {
            let now = Instant::now();
            told.push(Ending {
                service,
                process,
                pid,
                patience,
                limit: now + limit,
                written: None,
                since: now,
            });
        }
    }
    while !told.is_empty() {
        told.retain(|ending| ending.process.runs());
        for ending in &mut told {
            ending.look(root);
        }
        for Ending {
            service, process, ..
        } in told.iter().filter(|ending| ending.is_over())
        {
            process.signal(Signal::KILL)?;
            report::warning(&format!(
                "the logger of {service} cannot write all that it has, and is replaced: see hermes-s6 status"
            ));
        }
        told.retain(|ending| !ending.is_over());
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// A logger that was told to end, and writes what it can.
struct Ending<'r> {
    /// The name of its service.
    service: String,
    process: Process<'r>,
    pid: i32,
    /// How long it may write nothing.
    patience: Duration,
    /// When it has to have ended.
    limit: Instant,
    /// How many bytes it had written in all; `None` where the kernel does not tell.
    written: Option<u64>,
    /// Since when it has written nothing.
    since: Instant,
}

impl Ending<'_> {
    /// Looks whether the logger writes: more than before, or it waits for its disk.
    fn look(&mut self, root: &Root) {
        let pid = self.pid.to_string();
        let io = proc_text(&root.at(format!("/proc/{pid}/io"))).unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        let written = written.and_then(|bytes| bytes.parse().ok());
        let waits = stat_field(root, &pid, STATE).is_some_and(|state| state == "D");
        if waits || written != self.written {
            self.since = Instant::now();
        }
        self.written = written;
    }

    fn is_over(&self) -> bool {
        self.since.elapsed() >= self.patience || Instant::now() >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_logger_has_time_for_as_long_as_it_writes()
    -> std::result::Result<(), Box<dyn std::error::Error>> {
        let root = Root::new("/");
        let line = "for i in $(seq 30); do echo; sleep 0.1; done; exec sleep 60";
        let mut child = Command::new("sh")
            .args(["-c", line])
            .stdout(Stdio::null())
            .spawn()?;
        let pid = i32::try_from(child.id())?;
        let process = Process::identify(&root, pid, || Ok(true))?;
        let start = Instant::now();
        let mut ending = Ending {
            service: "gateway-coder".to_owned(),
            process: process.ok_or("it has ended")?,
            pid,
            patience: Duration::from_secs(2),
            limit: start + Duration::from_secs(60),
            written: None,
            since: start,
        };
        while !ending.is_over() {
            ending.look(&root);
            thread::sleep(PAUSE);
        }
        let took = start.elapsed();
        child.kill()?;
        child.wait()?;
        assert!(took > Duration::from_secs(3), "{took:?}");
        assert!(Instant::now() < ending.limit, "and no longer");
        Ok(())
    }
}
