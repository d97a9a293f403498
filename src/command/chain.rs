//! What the scripts of a slot run of ours: programs that do one thing and then become the next one.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, OFlags, fcntl_lock};
use rustix::io::{Errno, FdFlags, fcntl_setfd, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{Code, Error, Result, escaped};
use crate::hermes::container::truth;
use crate::hermes::state::{Proof, STATE_FILE, STATE_LIMIT, serves};
use crate::report;
use crate::s6::supervision::{Holder, Status, holder};
use crate::system::beneath::Dir;
use crate::system::process::stat_field;
use crate::system::root::Root;
use crate::system::wait::wait_until;
use crate::tree::slot::EXIT_LOCKED;
use crate::volume::survey::LOCK_FILE;
use crate::volume::write::timestamp;

/// How the variables begin that hold the tokens and addresses of one profile's messaging accounts: the
/// platforms of Hermes Agent 0.19.0 (`gateway/config.py`, `plugins/platforms/`).
const ACCOUNT_PREFIXES: [&str; 32] = [
    "API_SERVER_",
    "BLUEBUBBLES_",
    "DINGTALK_",
    "DISCORD_",
    "EMAIL_",
    "FEISHU_",
    "GATEWAY_PROXY_",
    "GATEWAY_RELAY_",
    "GOOGLE_CHAT_",
    "HASS_",
    "IRC_",
    "LINE_",
    "MATRIX_",
    "MATTERMOST_",
    "MSGRAPH_WEBHOOK_",
    "NTFY_",
    "PHOTON_",
    "QQBOT_",
    "QQ_",
    "RAFT_",
    "SIGNAL_",
    "SIMPLEX_",
    "SLACK_",
    "SMS_",
    "TEAMS_",
    "TELEGRAM_",
    "TWILIO_",
    "WEBHOOK_",
    "WECOM_",
    "WEIXIN_",
    "WHATSAPP_",
    "YUANBAO_",
];

/// What s6-log locks in its directory.
const LOG_LOCK_FILE: &str = "lock";

/// How long one call of `data/check` looks; s6-notifyoncheck gives it 2 s.
const CHECK_TIME: Duration = Duration::from_millis(1500);

/// How often it looks.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// How coarse the times of files and of the starts of processes are, and then some.
const CLOCK_GRAIN: Duration = Duration::from_millis(100);

/// How long a killed process may take to be gone.
const KILL_TIME: Duration = Duration::from_secs(5);

/// Tells whether a variable holds what belongs to one profile's messaging accounts.
pub fn is_of_an_account(variable: &[u8]) -> bool {
    let mut prefixes = ACCOUNT_PREFIXES.iter();
    prefixes.any(|prefix| variable.starts_with(prefix.as_bytes()))
}

/// Runs a program without the variables of the default profile's accounts.
///
/// With HERMES_S6_INHERIT_ENV=1 it keeps them. Returns only if the program cannot be executed.
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

/// Runs a program with the lock of a profile's home held, by that program's own process.
///
/// It is a POSIX record lock, as s6-setlock's: it stays with the process through exec, its children
/// do not have it, and the kernel names its holder. A holder that we can see and that has no
/// supervisor is an orphan: it gets SIGTERM, `limit` to save, then SIGKILL. Any other holder, in
/// another container or beneath another supervisor, is left alone, and this ends with
/// [`EXIT_LOCKED`], on which the finish script parks the slot, unless it ends within `limit` and a bit.
pub fn hold_lock(root: &Root, home: &Path, limit: Duration, prog: &[OsString]) -> Result<u8> {
    let home = Dir::open(home)?;
    let mut file = home.file(LOCK_FILE, OFlags::RDWR | OFlags::CREATE)?;
    // Bounded by the waits inside: each round takes the lock, ends an orphan, or waits for another's
    // gateway to end, once.
    let mut waited = false;
    for _ in 0..8 {
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                sign(&mut file, home.path());
                keep_open(&file)?;
                return Err(exec(command(prog)));
            }
            Err(Errno::AGAIN | Errno::ACCESS) => {}
            Err(errno @ (Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL)) => {
                let cause = std::io::Error::from(errno);
                let problem = Error::system("lock", home.path().join(LOCK_FILE), cause);
                report::warning(&format!(
                    "{problem}: nothing keeps another container from running this profile too"
                ));
                return Err(exec(command(prog)));
            }
            Err(errno) => return Err(Error::system("lock", home.path().join(LOCK_FILE), errno)),
        }
        match holder(&home, LOCK_FILE) {
            None => {}
            Some(Holder::Process(pid)) if is_orphan(root, pid) => {
                end_orphan(&home, pid, limit)?;
            }
            Some(_) if waited => break,
            // A container that is being replaced by ours saves, and ends.
            Some(_) => {
                waited = true;
                let what = format!(
                    "the gateway elsewhere to end: {} is in use by {}",
                    home.path().display(),
                    signature(&home)
                );
                wait_until(limit + KILL_TIME, &what, || {
                    holder(&home, LOCK_FILE).is_none()
                });
            }
        }
    }
    report::fatal(
        &Error::new(
            Code::No,
            format!(
                "{} is in use: its lock is held by {}",
                home.path().display(),
                signature(&home)
            ),
        )
        .remedy("stop the profile there first"),
    );
    Ok(EXIT_LOCKED)
}

/// Waits until no logger has the lock of a log directory, or there is no such file to be read.
///
/// Not longer than `limit`, and not when nobody writes to stdin any more: then the supervisor of this
/// logger waits for its end. Whether the lock can be had, whoever takes it will see.
pub fn await_lock(directory: &Path, limit: Duration) -> Result<()> {
    let directory = Dir::open(directory)?;
    let what = format!("the other logger of {}", directory.path().display());
    wait_until(limit, &what, || {
        holder(&directory, LOG_LOCK_FILE).is_none() || nobody_writes_to_stdin()
    });
    Ok(())
}

fn nobody_writes_to_stdin() -> bool {
    let stdin = rustix::stdio::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::empty())];
    retry_on_intr(|| poll(&mut polled, Some(&Timespec::default()))).is_ok()
        && polled[0].revents().contains(PollFlags::HUP)
}

/// Reads who wrote himself into the lock file of a home.
pub fn signature(home: &Dir) -> String {
    let content = home.read(LOCK_FILE, 512).unwrap_or_default();
    match String::from_utf8_lossy(&content).lines().next() {
        Some(holder) if !holder.is_empty() => escaped(holder.as_bytes()),
        _ => "somebody unknown".to_owned(),
    }
}

/// Tells whether the gateway that s6 supervises in the current directory has written that it serves.
///
/// Looks again for a while: that costs less than to be started again for each look.
pub fn check_ready(root: &Root, home: &Path) -> Result<bool> {
    let service = Dir::open(Path::new("."))?;
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

fn is_ready(root: &Root, service: &Dir, home: &Dir) -> bool {
    let Some(pid) = Status::read(service).and_then(|status| status.pid) else {
        return false;
    };
    let start = stat_field(root, &pid.to_string(), 22).and_then(|field| field.parse().ok());
    let (Some(start), Ok(content)) = (start, home.read(STATE_FILE, STATE_LIMIT)) else {
        return false;
    };
    match serves(&content, u64::from(pid), start) {
        Some(Proof::Start) => true,
        // Not the word of an earlier process, whose pid this one may have got again.
        Some(Proof::None) => home
            .modified(STATE_FILE)
            .is_some_and(|time| time + CLOCK_GRAIN >= time_of_start(start)),
        None => false,
    }
}

/// Turns the start time of a process, in hundredths of a second since the machine's, into a time.
fn time_of_start(start: u64) -> SystemTime {
    let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let since_boot = Duration::new(
        u64::try_from(since_boot.tv_sec).unwrap_or(0),
        u32::try_from(since_boot.tv_nsec).unwrap_or(0),
    );
    let age = since_boot.saturating_sub(Duration::from_millis(start.saturating_mul(10)));
    SystemTime::now()
        .checked_sub(age)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Writes into the lock file who holds it, for whoever finds it held. Not worth failing for.
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

fn keep_open(file: &File) -> Result<()> {
    fcntl_setfd(file, FdFlags::empty())
        .map_err(|errno| Error::system("keep open", LOCK_FILE, errno))
}

/// Ends the gateway that has the lock of a home, if it has lost its supervisor. It has `limit` to save;
/// tells whether it had to be killed, `None` if there was no such gateway.
pub fn end_orphan_of(root: &Root, home: &Dir, limit: Duration) -> Result<Option<bool>> {
    match holder(home, LOCK_FILE) {
        Some(Holder::Process(pid)) if is_orphan(root, pid) => {
            end_orphan(home, pid, limit).map(Some)
        }
        _ => Ok(None),
    }
}

/// Tells whether a process of this container has lost its supervisor.
fn is_orphan(root: &Root, pid: i32) -> bool {
    let process = |pid: &str| root.at(format!("/proc/{pid}"));
    let namespace = |pid: &str| std::fs::read_link(process(pid).join("ns/pid")).ok();
    let ours = namespace("self");
    if ours.is_none() || namespace(&pid.to_string()) != ours {
        return false;
    }
    let parent = stat_field(root, &pid.to_string(), 4);
    let comm =
        parent.and_then(|parent| std::fs::read_to_string(process(&parent).join("comm")).ok());
    comm.is_some_and(|comm| comm.trim_end() != "s6-supervise")
}

/// Ends the orphan that holds the lock, for as long as it is the one that holds it, and tells whether it
/// had to be killed.
fn end_orphan(home: &Dir, pid: i32, limit: Duration) -> Result<bool> {
    let holds = || holder(home, LOCK_FILE) == Some(Holder::Process(pid));
    let failed = |errno: Errno| Error::system("end the orphaned gateway", pid.to_string(), errno);
    let process = match Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
        Some(Ok(process)) => process,
        None | Some(Err(Errno::SRCH)) => return Ok(false),
        Some(Err(errno)) => return Err(failed(errno)),
    };
    let steps = [
        ("ending", Signal::TERM, limit),
        ("killing", Signal::KILL, KILL_TIME),
    ];
    for (what, signal, limit) in steps {
        // The handle names one process for good; that it still holds the lock proves it is the one.
        if !holds() {
            return Ok(false);
        }
        report::note(&format!(
            "{what} the orphaned gateway (pid {pid}) of a killed supervisor"
        ));
        match pidfd_send_signal(&process, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(failed(errno)),
        }
        wait_until(limit, "the orphaned gateway to save and end", || !holds());
    }
    Ok(true)
}

fn command(prog: &[OsString]) -> Command {
    let mut words = prog.iter();
    let mut command = Command::new(words.next().cloned().unwrap_or_default());
    command.args(words);
    command
}

fn exec(mut command: Command) -> Error {
    let cause = command.exec();
    Error::exec(command.get_program(), cause)
}
