//! The command line: what can be typed, and what was typed.

#![expect(
    missing_docs,
    reason = "a doc comment is help: that of a group of options would replace the help of the command"
)]
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "in the help, a name in brackets is that of an environment variable"
)]

mod help;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::hermes::name::ProfileName;

/// What `--version` prints. Without this package's .cargo/config.toml, cargo builds a program that needs the C
/// library of the machine, and does not run in every image.
const VERSION: &str = if cfg!(target_feature = "crt-static") {
    env!("CARGO_PKG_VERSION")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (not static)")
};

/// Supervises the gateways of Hermes Agent profiles with s6
#[derive(Debug, Parser)]
#[command(name = "hermes-s6", version = VERSION, after_help = help::PROGRAM)]
#[command(max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// The options of every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct Common {
    /// Data directory of Hermes [HERMES_HOME]
    #[arg(long, value_name = "DIR", global = true)]
    pub home: Option<PathBuf>,
    /// Scan directory of the slots [HERMES_S6_SCANDIR]
    #[arg(long, value_name = "DIR", global = true)]
    pub scandir: Option<PathBuf>,
}

/// The commands. Those that are hidden are for our own scripts and processes.
#[derive(Debug, Subcommand)]
// Only the command that is typed needs its arguments.
#[command(defer = true)]
pub enum Command {
    /// Show a profile's service directory as it would be written
    #[command(after_help = help::RENDER)]
    Render {
        #[command(flatten)]
        profile: ProfileOption,
        /// Write the slot beneath this directory instead
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Make the slots agree with the profiles, at boot or at any time
    #[command(after_help = help::RECONCILE)]
    Reconcile {
        /// Print what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Reconcile, then become the s6-svscan of the gateways
    #[command(after_help = help::SUPERVISE)]
    Supervise {
        /// Tell this descriptor when the tree is up, as s6-svscan -d
        #[arg(short = 'd', long, value_name = "FD")]
        notification_fd: Option<u64>,
    },
    /// Tell whether s6 supervises the gateways here, and why
    #[command(after_help = help::DETECT)]
    Detect {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Start gateways, and wait until they are ready
    #[command(after_help = help::START)]
    Start {
        #[command(flatten)]
        target: Target,
        /// Leave down what its operator stopped, and what this container keeps down
        #[arg(long)]
        unless_stopped: bool,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Stop gateways, and wait until they are down
    #[command(after_help = help::STOP)]
    Stop {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Restart gateways, and wait until they are ready again
    #[command(after_help = help::RESTART)]
    Restart {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Stop all gateways, and keep what the operator wants
    #[command(after_help = help::SHUTDOWN)]
    Shutdown {
        /// Seconds that the gateways have to save and end, at most what their slots give them
        #[arg(long, value_name = "S", value_parser = seconds)]
        timeout: Option<u64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give profiles their slots, down
    #[command(after_help = help::REGISTER)]
    Register {
        #[command(flatten)]
        selection: Selection,
    },
    /// Stop gateways and remove their slots
    #[command(after_help = help::UNREGISTER)]
    Unregister {
        #[command(flatten)]
        selection: Selection,
    },
    /// Let the slot of a renamed profile follow it
    #[command(after_help = help::RENAME)]
    Rename {
        /// The name it had
        old: ProfileName,
        /// The name it has
        new: ProfileName,
    },
    /// Do what Hermes asks of its service manager, or leave it to PROG
    #[command(after_help = help::DISPATCH)]
    Dispatch {
        /// What to do: start, stop, restart, install or uninstall
        action: String,
        /// Profile, can be repeated [default: default]
        #[arg(short, long, value_name = "NAME")]
        profile: Vec<ProfileName>,
        /// All profiles; to stop, all that have a slot
        #[arg(long, conflicts_with = "profile")]
        all: bool,
        /// The program that does it where s6 does not, and its arguments
        #[arg(last = true)]
        prog: Vec<OsString>,
    },
    /// Show what runs, as s6 knows it, and what should
    #[command(after_help = help::STATUS)]
    Status {
        /// Show only this profile; can be repeated
        #[arg(short, long, value_name = "NAME")]
        profile: Vec<ProfileName>,
        /// Print JSON
        #[arg(long, conflicts_with = "format")]
        json: bool,
        /// Print it as table, json or prometheus
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// Exit with 0 only if every gateway that is wanted is ready: for health checks
        #[arg(long)]
        ready: bool,
        /// Write it to this file in one step instead
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show what gateways have said
    #[command(after_help = help::LOGS)]
    Logs {
        #[command(flatten)]
        target: Target,
        /// How many of the last lines of each profile to show
        #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
        lines: usize,
        /// Go on with what is said from now on
        #[arg(short, long)]
        follow: bool,
    },
    /// Find what is wrong with this container, its volume and its tree
    #[command(after_help = help::DOCTOR)]
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the profiles and their states, one to a line
    #[command(after_help = help::LIST)]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the port of a profile's API server
    #[command(after_help = help::PORT)]
    Port {
        #[command(flatten)]
        profile: ProfileOption,
    },
    /// Run PROG, after a wait if this service has ended several times in a row (used by run scripts)
    #[command(hide = true)]
    BackOff {
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        prog: Vec<OsString>,
    },
    /// Run PROG in a session of its own, with the terminal on stdin if it is one (used by root, to drop its rights)
    #[command(hide = true)]
    OwnSession {
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        prog: Vec<OsString>,
    },
    /// Run PROG, which ends when its parent does (used by run scripts, and by root to drop its rights)
    #[command(hide = true)]
    WithParent {
        /// The pid of the parent, which may be gone already; without it, whoever is the parent now
        #[arg(long, value_name = "PID")]
        parent: Option<i32>,
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        prog: Vec<OsString>,
    },
    /// Run PROG without the messaging tokens of the default profile (used by run scripts)
    #[command(hide = true)]
    OwnEnv {
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        prog: Vec<OsString>,
    },
    /// Run PROG with the lock of a profile's home held (used by run scripts)
    #[command(hide = true)]
    HoldLock {
        /// Milliseconds that an orphaned gateway has to save and end
        #[arg(short)]
        timeout: u64,
        /// A variable to set unless it is set
        #[arg(short = 'e', value_name = "NAME=VALUE", value_parser = assignment)]
        variable: Option<(String, String)>,
        /// The profile's home
        #[arg(value_name = "HOME")]
        directory: PathBuf,
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        prog: Vec<OsString>,
    },
    /// Become one of three loggers, by what can be written (used by log/run)
    #[command(hide = true)]
    ChooseLog {
        /// The log directory
        directory: PathBuf,
        /// Two blocks of execline, and the third logger
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Look after the loggers of the tree in which this directory is a service (used by the tender)
    #[command(hide = true)]
    Tend {
        /// The tree ends: end the loggers that do not end by themselves
        #[arg(long, conflicts_with = "prog")]
        end: bool,
        /// The program that is executed afterwards, and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        prog: Vec<OsString>,
    },
    /// Tell whether the gateway supervised in this directory serves (used by data/check)
    #[command(hide = true)]
    CheckReady {
        /// The profile's home
        #[arg(value_name = "HOME")]
        directory: PathBuf,
    },
    /// Tell whether the process supervised in this directory listens (used by the check of the dashboard)
    #[command(hide = true)]
    CheckListens,
    /// Print what is on the volume as JSON (used by root, with the rights of the volume's owner)
    #[command(hide = true)]
    Survey {
        #[arg(short)]
        profile: Vec<ProfileName>,
    },
    /// Show what gateways have said, until the parent ends (used where the volume may not answer)
    #[command(hide = true)]
    ReadLogs {
        #[arg(short)]
        profile: Vec<ProfileName>,
        #[arg(long)]
        dashboard: bool,
        #[arg(short = 'n')]
        lines: usize,
        #[arg(short)]
        follow: bool,
    },
    /// Print null as JSON if the volume answers
    #[command(hide = true)]
    Reach,
    /// Print the names of the profiles on the volume as JSON
    #[command(hide = true)]
    Names,
    /// End the gateway of a profile that has lost its supervisor, and print as JSON whether it was killed
    #[command(hide = true)]
    EndOrphan {
        #[arg(short)]
        profile: ProfileName,
        /// Milliseconds that it has to save and end
        #[arg(short)]
        timeout: u64,
    },
    /// Print what is wrong on the volume as JSON (used by root, with the rights of its owner)
    #[command(hide = true)]
    Examine,
    /// Apply changes of the volume from stdin (used by root, with the rights of the volume's owner)
    #[command(hide = true)]
    Settle,
}

// The profiles that a command is about.
#[derive(Debug, Clone, Args)]
pub struct Selection {
    /// Profile, can be repeated [default: that of HERMES_HOME, else the active one]
    #[arg(short, long, value_name = "NAME")]
    pub profile: Vec<ProfileName>,
    /// All profiles; to stop or unregister, all that have a slot
    #[arg(long, conflicts_with = "profile")]
    pub all: bool,
}

// The profiles that a command is about, or the dashboard.
#[derive(Debug, Clone, Args)]
pub struct Target {
    #[command(flatten)]
    pub selection: Selection,
    /// The dashboard instead of a gateway
    #[arg(long, conflicts_with_all = ["profile", "all"])]
    pub dashboard: bool,
}

// For how long a command waits, and how it says what came of it.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Waiting {
    /// Do not wait until they are ready or down; a restart still waits for old processes to end
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
    /// Wait for at most this many seconds
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub timeout: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

// The one profile that a command is about.
#[derive(Debug, Args)]
pub struct ProfileOption {
    /// Profile [default: that of HERMES_HOME, else the active one]
    #[arg(short, long, value_name = "NAME")]
    pub profile: Option<ProfileName>,
}

// How a status is printed.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
    Prometheus,
}

/// Reads a variable and its value.
fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("no value")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Reads a time of at most a day.
fn seconds(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(seconds @ 1..=86_400) => Ok(seconds),
        Ok(other) => Err(format!("{other} is not in 1..=86400")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
