//! The command line: what was typed. What can be typed, and its help, is in [`table`].

mod table;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::str::FromStr;

use clap::ArgMatches;

use crate::hermes::name::ProfileName;

/// What was typed.
#[derive(Debug)]
pub struct Cli {
    /// The options of every command.
    pub common: Common,
    /// What to do.
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Default)]
pub struct Common {
    /// Data directory of Hermes.
    pub home: Option<PathBuf>,
    /// Scan directory of the slots.
    pub scandir: Option<PathBuf>,
}

/// The commands.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the help of the commands and options explains them"
)]
pub enum Command {
    Render {
        profile: ProfileOption,
        out: Option<PathBuf>,
    },
    Reconcile {
        dry_run: bool,
        json: bool,
    },
    Supervise {
        notification_fd: Option<u64>,
    },
    Detect {
        json: bool,
    },
    Start {
        selection: Selection,
        unless_stopped: bool,
        waiting: Waiting,
    },
    Stop {
        selection: Selection,
        waiting: Waiting,
    },
    Restart {
        selection: Selection,
        waiting: Waiting,
    },
    Shutdown {
        timeout: Option<u64>,
        json: bool,
    },
    Register {
        selection: Selection,
    },
    Unregister {
        selection: Selection,
    },
    Rename {
        old: ProfileName,
        new: ProfileName,
    },
    Dispatch {
        action: String,
        profile: Vec<ProfileName>,
        all: bool,
        prog: Vec<OsString>,
    },
    Status {
        profile: Vec<ProfileName>,
        json: bool,
        format: Option<String>,
    },
    Logs {
        selection: Selection,
        lines: usize,
        follow: bool,
    },
    Doctor {
        json: bool,
    },
    List {
        json: bool,
    },
    Port {
        profile: ProfileOption,
    },
    OwnEnv {
        prog: Vec<OsString>,
    },
    HoldLock {
        timeout: u64,
        directory: PathBuf,
        prog: Vec<OsString>,
    },
    AwaitLock {
        timeout: u64,
        directory: PathBuf,
    },
    CheckReady {
        directory: PathBuf,
    },
    Survey {
        profile: Vec<ProfileName>,
    },
    Examine,
    Settle,
}

/// The profiles that a command is about.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The profiles that were named.
    pub profile: Vec<ProfileName>,
    /// All profiles; to stop or unregister, all that have a slot.
    pub all: bool,
}

/// For how long a command waits, and how it says what came of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waiting {
    /// Do not wait until they are ready or down; a restart still waits for old processes to end.
    pub no_wait: bool,
    /// Wait for at most this many seconds.
    pub timeout: Option<u64>,
    /// Print JSON.
    pub json: bool,
}

/// The one profile that a command is about.
#[derive(Debug)]
pub struct ProfileOption {
    /// The profile, unless it is that of HERMES_HOME or the active one.
    pub profile: Option<ProfileName>,
}

impl Cli {
    /// Reads a command line, which begins with the name of the program.
    ///
    /// What clap has to say instead is the error: help and version as well as wrong usage.
    pub fn try_parse_from(line: impl Iterator<Item = OsString>) -> Result<Self, clap::Error> {
        let typed = table::program().try_get_matches_from(line)?;
        let common = Common {
            home: path(&typed, "home"),
            scandir: path(&typed, "scandir"),
        };
        let command = typed
            .subcommand()
            .and_then(|(name, typed)| command(name, typed));
        match command {
            Some(command) => Ok(Self { common, command }),
            None => unreachable!("clap lets nothing pass that is not in the table"),
        }
    }
}

/// Reads a command, unless it is none or something is missing.
fn command(name: &str, typed: &ArgMatches) -> Option<Command> {
    Some(match name {
        "render" => Command::Render {
            profile: profile(typed),
            out: path(typed, "out"),
        },
        "reconcile" => Command::Reconcile {
            dry_run: typed.get_flag("dry-run"),
            json: typed.get_flag("json"),
        },
        "supervise" => Command::Supervise {
            notification_fd: one(typed, "notification-fd"),
        },
        "detect" => Command::Detect {
            json: typed.get_flag("json"),
        },
        "start" => Command::Start {
            selection: selection(typed),
            unless_stopped: typed.get_flag("unless-stopped"),
            waiting: waiting(typed),
        },
        "stop" => Command::Stop {
            selection: selection(typed),
            waiting: waiting(typed),
        },
        "restart" => Command::Restart {
            selection: selection(typed),
            waiting: waiting(typed),
        },
        "shutdown" => Command::Shutdown {
            timeout: one(typed, "timeout"),
            json: typed.get_flag("json"),
        },
        "register" => Command::Register {
            selection: selection(typed),
        },
        "unregister" => Command::Unregister {
            selection: selection(typed),
        },
        "rename" => Command::Rename {
            old: one(typed, "old")?,
            new: one(typed, "new")?,
        },
        "dispatch" => Command::Dispatch {
            action: one(typed, "action")?,
            profile: several(typed, "profile"),
            all: typed.get_flag("all"),
            prog: words(typed, "prog"),
        },
        "status" => Command::Status {
            profile: several(typed, "profile"),
            json: typed.get_flag("json"),
            format: one(typed, "format"),
        },
        "logs" => Command::Logs {
            selection: selection(typed),
            lines: one(typed, "lines").unwrap_or(50),
            follow: typed.get_flag("follow"),
        },
        "doctor" => Command::Doctor {
            json: typed.get_flag("json"),
        },
        "list" => Command::List {
            json: typed.get_flag("json"),
        },
        "port" => Command::Port {
            profile: profile(typed),
        },
        "own-env" => Command::OwnEnv {
            prog: words(typed, "prog"),
        },
        "hold-lock" => Command::HoldLock {
            timeout: one(typed, "timeout")?,
            directory: path(typed, "directory")?,
            prog: words(typed, "prog"),
        },
        "await-lock" => Command::AwaitLock {
            timeout: one(typed, "timeout")?,
            directory: path(typed, "directory")?,
        },
        "check-ready" => Command::CheckReady {
            directory: path(typed, "directory")?,
        },
        "survey" => Command::Survey {
            profile: several(typed, "profile"),
        },
        "examine" => Command::Examine,
        "settle" => Command::Settle,
        _ => return None,
    })
}

fn selection(typed: &ArgMatches) -> Selection {
    Selection {
        profile: several(typed, "profile"),
        all: typed.get_flag("all"),
    }
}

fn waiting(typed: &ArgMatches) -> Waiting {
    Waiting {
        no_wait: typed.get_flag("no-wait"),
        timeout: one(typed, "timeout"),
        json: typed.get_flag("json"),
    }
}

fn profile(typed: &ArgMatches) -> ProfileOption {
    ProfileOption {
        profile: one(typed, "profile"),
    }
}

fn one<T: FromStr>(typed: &ArgMatches, name: &str) -> Option<T> {
    several(typed, name).pop()
}

fn several<T: FromStr>(typed: &ArgMatches, name: &str) -> Vec<T> {
    let read = |word: OsString| match word.to_str().map(str::parse) {
        Some(Ok(value)) => value,
        _ => unreachable!("clap has checked what was typed"),
    };
    words(typed, name).into_iter().map(read).collect()
}

fn path(typed: &ArgMatches, name: &str) -> Option<PathBuf> {
    words(typed, name).pop().map(PathBuf::from)
}

/// Gives what was typed for an argument. Other types than clap's own would be code for each of them.
fn words(typed: &ArgMatches, name: &str) -> Vec<OsString> {
    let words = typed.get_raw(name).into_iter().flatten();
    words.map(OsStr::to_owned).collect()
}
