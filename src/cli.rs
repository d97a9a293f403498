//! The command line: what can be typed, and its help.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::name::ProfileName;

/// Supervises the gateways of Hermes Agent profiles with s6.
#[derive(Debug, Parser)]
#[command(
    name = "hermes-s6",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
#[command(after_help = "\
Examples:
  hermes-s6 supervise                         the whole tree, as a container's main service
  HERMES_HOME=~/.hermes HERMES_S6_SCANDIR=~/service hermes-s6 supervise
                                              the same on a laptop, as yourself
  hermes-s6 reconcile --dry-run               what would change
  hermes-s6 status                            what runs, and what should
  hermes-s6 restart -p coder                  waits until it is ready again
  hermes-s6 logs -p coder -f                  what it says, as it says it
  hermes-s6 doctor                            what is wrong here, and what to do about it

Exit codes: 0 done, 1 no or partly, 99 timed out, 100 usage, 102 not supervised,
111 system call failed, 126 and 127 program not executable or not found.")]
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

/// The commands.
#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "the options that all commands share are documented where they are"
)]
pub enum Command {
    /// Show a profile's service directory as it would be written
    #[command(after_help = "\
Examples:
  hermes-s6 render -p coder                   every file, with its mode, to stdout
  hermes-s6 render -p coder --out /tmp/look   as /tmp/look/gateway-coder/")]
    Render {
        #[command(flatten)]
        profile: ProfileOption,
        /// Write the slot beneath this directory instead
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Make the slots agree with the profiles, at boot or at any time
    #[command(after_help = "\
Prints a line per change. A second run finds nothing to do. A profile that cannot be served costs
only itself: it is reported, and the exit code is 1.

Examples:
  hermes-s6 reconcile
  hermes-s6 reconcile --dry-run --json | jq '.changes[].profile'")]
    Reconcile {
        /// Print what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Reconcile, then become the s6-svscan of the gateways
    #[command(after_help = "\
Runs as any user, under any init or as PID 1. As root it drops to the user hermes, unless the scan
directory is root's. If an earlier s6-svscan was killed, its gateways are taken over.

Examples:
  hermes-s6 supervise
  HERMES_S6_SCANDIR=$XDG_RUNTIME_DIR/hermes hermes-s6 supervise
  hermes-s6 supervise -d 3                    in a service with notification-fd 3")]
    Supervise {
        /// Tell this descriptor when the tree is up, as s6-svscan -d
        #[arg(short = 'd', long = "notification-fd", value_name = "FD")]
        notification_fd: Option<u64>,
    },
    /// Tell whether s6 supervises the gateways here, and why
    #[command(after_help = "\
Exit code 0: s6 does. 1: it does not.

Example:
  hermes-s6 detect && hermes-s6 status")]
    Detect {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Start gateways, and wait until they are ready
    #[command(after_help = "\
A profile without a slot is registered first. Afterwards it starts with every start of the container,
until it is stopped.

Examples:
  hermes-s6 start -p coder
  hermes-s6 start -p coder -p viewer --timeout 10
  hermes-s6 start --all --json")]
    Start {
        #[command(flatten)]
        selection: Selection,
        /// Leave down what its operator stopped, and what this container keeps down
        #[arg(long)]
        unless_stopped: bool,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Stop gateways, and wait until they are down
    #[command(after_help = "\
A gateway has HERMES_S6_STOP_TIMEOUT seconds (25) to save and end, then it is killed. Afterwards it
stays down, also when the container is started again, until it is started.

Examples:
  hermes-s6 stop -p coder
  hermes-s6 stop --all")]
    Stop {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Restart gateways, and wait until they are ready again
    #[command(after_help = "\
One that is down or parked is started. With --all, those whose operator stopped them stay down.

Examples:
  hermes-s6 restart
  hermes-s6 restart -p coder && curl http://127.0.0.1:$(hermes-s6 port -p coder)/health")]
    Restart {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Stop everything that runs, and keep what the operator wants
    #[command(after_help = "\
For the end of a container: when it is started again, the same gateways run. Those that have not ended
when the time is over are killed.

Example:
  hermes-s6 shutdown --timeout 20")]
    Shutdown {
        /// Seconds that the gateways have to save and end, at most what their slots give them
        #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
        timeout: Option<u64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give profiles their slots, down
    #[command(after_help = "\
Examples:
  hermes-s6 register -p coder && hermes-s6 start -p coder")]
    Register {
        #[command(flatten)]
        selection: Selection,
    },
    /// Stop gateways and remove their slots
    #[command(after_help = "\
What the profile has on the volume stays: a profile that still exists gets its slot back with the next
start or reconcile.

Example:
  hermes-s6 unregister -p coder")]
    Unregister {
        #[command(flatten)]
        selection: Selection,
    },
    /// Let the slot of a renamed profile follow it
    #[command(after_help = "\
For a profile that was renamed on the volume: its old slot goes, the new one comes, and its gateway runs
if it ran, or was wanted.

Example:
  hermes profile rename coder builder && hermes-s6 rename coder builder")]
    Rename {
        /// The name it had
        old: ProfileName,
        /// The name it has
        new: ProfileName,
    },
    /// Do what Hermes asks of its service manager, or leave it to PROG
    #[command(after_help = "\
Where s6 supervises the gateways, start, stop and restart are done as by these commands, for profile
default unless -p names another. Elsewhere, and for other actions, PROG is executed.

Example:
  hermes-s6 dispatch restart -p coder -- /opt/hermes/.venv/bin/hermes -p coder gateway restart")]
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
    #[command(after_help = "\
Exit code 0: everything that is wanted is up. 1: something is not.

Examples:
  hermes-s6 status
  hermes-s6 status -p coder --json
  hermes-s6 status --format prometheus > /var/lib/node_exporter/hermes.prom")]
    Status {
        /// Show only this profile; can be repeated
        #[arg(short, long, value_name = "NAME")]
        profile: Vec<ProfileName>,
        /// Print JSON
        #[arg(long, conflicts_with = "format")]
        json: bool,
        /// Print it as table, json or prometheus [default: table]
        #[arg(long, value_name = "FORMAT", value_parser = ["table", "json", "prometheus"])]
        format: Option<String>,
    },
    /// Show what gateways have said
    #[command(after_help = "\
Lines of several profiles are merged by time, each with the profile's name in front.

Examples:
  hermes-s6 logs -p coder
  hermes-s6 logs --all -f
  hermes-s6 logs -p coder -n 1000 | grep -i error")]
    Logs {
        #[command(flatten)]
        selection: Selection,
        /// How many of the last lines of each profile to show
        #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
        lines: usize,
        /// Go on with what is said from now on
        #[arg(short, long)]
        follow: bool,
    },
    /// Find what is wrong with this container, its volume and its tree
    #[command(after_help = "\
Every finding says what to do about it. Exit code 0: nothing is wrong. 1: something is.

Examples:
  hermes-s6 doctor
  hermes-s6 doctor --json | jq '.findings[].remedy'")]
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the profiles and their states, one to a line
    #[command(after_help = "\
Two words a line, for scripts: name and state.

Example:
  hermes-s6 list | while read -r profile state; do echo \"$profile is $state\"; done")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the port of a profile's API server
    #[command(after_help = "\
Example:
  curl http://127.0.0.1:$(hermes-s6 port -p coder)/health")]
    Port {
        #[command(flatten)]
        profile: ProfileOption,
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
        /// The profile's home
        #[arg(value_name = "HOME")]
        directory: PathBuf,
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        prog: Vec<OsString>,
    },
    /// Wait for the lock of a log directory, or until nobody writes to stdin (used by log/run)
    #[command(hide = true)]
    AwaitLock {
        /// Milliseconds to wait at most
        #[arg(short)]
        timeout: u64,
        /// The log directory
        directory: PathBuf,
    },
    /// Tell whether the gateway supervised in this directory serves (used by data/check)
    #[command(hide = true)]
    CheckReady {
        /// The profile's home
        #[arg(value_name = "HOME")]
        directory: PathBuf,
    },
    /// Print what is on the volume as JSON (used by root, with the rights of the volume's owner)
    #[command(hide = true)]
    Survey {
        #[arg(short)]
        profile: Vec<ProfileName>,
    },
    /// Print what is wrong on the volume as JSON (used by root, with the rights of its owner)
    #[command(hide = true)]
    Examine,
    /// Apply changes of the volume from stdin (used by root, with the rights of the volume's owner)
    #[command(hide = true)]
    Settle,
}

/// The profiles that a command is about.
#[derive(Debug, Clone, Args)]
pub struct Selection {
    /// Profile, can be repeated [default: that of HERMES_HOME, else the active one]
    #[arg(short, long, value_name = "NAME")]
    pub profile: Vec<ProfileName>,
    /// All profiles; to stop or unregister, all that have a slot
    #[arg(long, conflicts_with = "profile")]
    pub all: bool,
}

/// For how long a command waits, and how it says what came of it.
#[derive(Debug, Clone, Copy, Args)]
pub struct Waiting {
    /// Do not wait until they are ready or down; a restart still waits for old processes to end
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
    /// Wait for at most this many seconds
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The one profile that a command is about.
#[derive(Debug, Args)]
pub struct ProfileOption {
    /// Profile [default: that of HERMES_HOME, else the active one]
    #[arg(short, long, value_name = "NAME")]
    pub profile: Option<ProfileName>,
}
