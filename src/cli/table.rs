//! What can be typed, and its help: a table from which clap's commands are built.
//!
//! A static table is a fraction of the code that clap would derive from types.

use std::str::FromStr;

use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction};

use crate::hermes::name::ProfileName;

/// Builds clap's description of the program.
pub fn program() -> clap::Command {
    clap::Command::new("hermes-s6")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Supervises the gateways of Hermes Agent profiles with s6")
        .after_help(MORE)
        .max_term_width(100)
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args([HOME.build().global(true), SCANDIR.build().global(true)])
        .subcommands(COMMANDS.iter().map(Row::build))
}

/// A command as it can be typed.
struct Row {
    name: &'static str,
    about: &'static str,
    /// How its help ends. A command without it is hidden: only our own scripts and processes use it.
    more: Option<&'static str>,
    arguments: &'static [&'static Argument],
}

impl Row {
    fn build(&self) -> clap::Command {
        clap::Command::new(self.name)
            .about(self.about)
            .hide(self.more.is_none())
            // Only the command that is typed needs its arguments.
            .defer(|command| {
                let row = row(command.get_name());
                command
                    .args(row.arguments.iter().map(|argument| argument.build()))
                    .after_help(row.more.unwrap_or_default())
            })
    }
}

fn row(name: &str) -> &'static Row {
    let Some(row) = COMMANDS.iter().find(|row| row.name == name) else {
        unreachable!("clap knows the commands from the table")
    };
    row
}

/// An argument as it can be typed.
struct Argument {
    /// Its name for those who read what was typed.
    name: &'static str,
    long: Option<&'static str>,
    short: Option<char>,
    values: Values,
    /// What the help calls its value.
    value_name: &'static str,
    value: Value,
    required: bool,
    /// The argument that makes no sense beside this one.
    conflict: Option<&'static str>,
    help: &'static str,
}

/// How many values an argument has.
#[derive(Clone, Copy)]
enum Values {
    None,
    One,
    /// One each time that it is typed.
    Each,
    /// All the words from here on, whatever they look like.
    Rest,
    /// All the words after `--`.
    AfterDashes,
}

/// What a value is.
#[derive(Clone, Copy)]
enum Value {
    Word,
    Text,
    Path,
    Profile,
    Number,
    Seconds,
    Format,
}

impl Argument {
    fn build(&self) -> Arg {
        let arg = Arg::new(self.name)
            .long(self.long)
            .short(self.short)
            .required(self.required)
            .conflicts_with_all(self.conflict)
            .help(self.help);
        if let Values::None = self.values {
            return arg.action(ArgAction::SetTrue);
        }
        let arg = arg
            .value_name(self.value_name)
            .value_parser(self.value.parser());
        match self.values {
            Values::None | Values::One => arg,
            Values::Each => arg.action(ArgAction::Append),
            Values::Rest => arg
                .num_args(1..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true),
            Values::AfterDashes => arg.num_args(1..).last(true),
        }
    }
}

impl Value {
    fn parser(self) -> ValueParser {
        // One type for all of them: clap's own parsers are code for each type of number.
        let parser: fn(&str) -> Result<(), String> = match self {
            Self::Word => return ValueParser::os_string(),
            Self::Text => return ValueParser::string(),
            Self::Path => return ValueParser::path_buf(),
            Self::Format => {
                return PossibleValuesParser::new(["table", "json", "prometheus"]).into();
            }
            Self::Profile => |text| read::<ProfileName>(text).map(drop),
            Self::Number => |text| read::<u64>(text).map(drop),
            Self::Seconds => read_seconds,
        };
        parser.into()
    }
}

fn read<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn read_seconds(text: &str) -> Result<(), String> {
    match read(text)? {
        1..=86_400_u64 => Ok(()),
        other => Err(format!("{other} is not in 1..=86400")),
    }
}

const fn flag(name: &'static str, help: &'static str) -> Argument {
    Argument {
        name,
        long: Some(name),
        short: None,
        values: Values::None,
        value_name: "",
        value: Value::Word,
        required: false,
        conflict: None,
        help,
    }
}

const fn option(
    name: &'static str,
    value_name: &'static str,
    value: Value,
    help: &'static str,
) -> Argument {
    Argument {
        values: Values::One,
        value_name,
        value,
        ..flag(name, help)
    }
}

const fn operand(
    name: &'static str,
    value_name: &'static str,
    value: Value,
    help: &'static str,
) -> Argument {
    Argument {
        long: None,
        required: true,
        ..option(name, value_name, value, help)
    }
}

static HOME: Argument = option(
    "home",
    "DIR",
    Value::Path,
    "Data directory of Hermes [HERMES_HOME]",
);
static SCANDIR: Argument = option(
    "scandir",
    "DIR",
    Value::Path,
    "Scan directory of the slots [HERMES_S6_SCANDIR]",
);
static JSON: Argument = flag("json", "Print JSON");

static PROFILE: Argument = Argument {
    short: Some('p'),
    ..option(
        "profile",
        "NAME",
        Value::Profile,
        "Profile [default: that of HERMES_HOME, else the active one]",
    )
};
static PROFILES: Argument = Argument {
    values: Values::Each,
    help: "Profile, can be repeated [default: that of HERMES_HOME, else the active one]",
    ..PROFILE
};
static ALL: Argument = Argument {
    conflict: Some("profile"),
    ..flag(
        "all",
        "All profiles; to stop or unregister, all that have a slot",
    )
};

static NO_WAIT: Argument = Argument {
    conflict: Some("timeout"),
    ..flag(
        "no-wait",
        "Do not wait until they are ready or down; a restart still waits for old processes to end",
    )
};
static TIMEOUT: Argument = option(
    "timeout",
    "S",
    Value::Seconds,
    "Wait for at most this many seconds",
);

static OUT: Argument = option(
    "out",
    "DIR",
    Value::Path,
    "Write the slot beneath this directory instead",
);
static DRY_RUN: Argument = flag("dry-run", "Print what would be done, and do nothing");
static NOTIFICATION_FD: Argument = Argument {
    short: Some('d'),
    ..option(
        "notification-fd",
        "FD",
        Value::Number,
        "Tell this descriptor when the tree is up, as s6-svscan -d",
    )
};
static UNLESS_STOPPED: Argument = flag(
    "unless-stopped",
    "Leave down what its operator stopped, and what this container keeps down",
);
static TIME_TO_END: Argument = option(
    "timeout",
    "S",
    Value::Seconds,
    "Seconds that the gateways have to save and end, at most what their slots give them",
);
static OLD: Argument = operand("old", "OLD", Value::Profile, "The name it had");
static NEW: Argument = operand("new", "NEW", Value::Profile, "The name it has");
static ACTION: Argument = operand(
    "action",
    "ACTION",
    Value::Text,
    "What to do: start, stop, restart, install or uninstall",
);
static PROFILES_OR_DEFAULT: Argument = Argument {
    help: "Profile, can be repeated [default: default]",
    ..PROFILES
};
static ALL_WITH_SLOTS: Argument = Argument {
    help: "All profiles; to stop, all that have a slot",
    ..ALL
};
static PROG: Argument = Argument {
    values: Values::AfterDashes,
    required: false,
    help: "The program that does it where s6 does not, and its arguments",
    ..PROGRAM
};
static ONLY_PROFILES: Argument = Argument {
    help: "Show only this profile; can be repeated",
    ..PROFILES
};
static JSON_NOT_FORMAT: Argument = Argument {
    conflict: Some("format"),
    ..JSON
};
static FORMAT: Argument = option(
    "format",
    "FORMAT",
    Value::Format,
    "Print it as table, json or prometheus [default: table]",
);
static LINES: Argument = Argument {
    short: Some('n'),
    ..option(
        "lines",
        "N",
        Value::Number,
        "How many of the last lines of each profile to show [default: 50]",
    )
};
static FOLLOW: Argument = Argument {
    short: Some('f'),
    ..flag("follow", "Go on with what is said from now on")
};
static PROGRAM: Argument = Argument {
    values: Values::Rest,
    ..operand("prog", "PROG", Value::Word, "The program and its arguments")
};
static SAVE_LIMIT: Argument = Argument {
    long: None,
    short: Some('t'),
    required: true,
    ..option(
        "timeout",
        "TIMEOUT",
        Value::Number,
        "Milliseconds that an orphaned gateway has to save and end",
    )
};
static LOCKED_HOME: Argument = operand("directory", "HOME", Value::Path, "The profile's home");
static WAIT_LIMIT: Argument = Argument {
    help: "Milliseconds to wait at most",
    ..SAVE_LIMIT
};
static LOG_DIRECTORY: Argument =
    operand("directory", "DIRECTORY", Value::Path, "The log directory");
static SURVEYED: Argument = Argument {
    long: None,
    value_name: "PROFILE",
    help: "",
    ..PROFILES
};

/// How the help of the program ends.
const MORE: &str = "\
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
111 system call failed, 126 and 127 program not executable or not found.";

static COMMANDS: &[Row] = &[
    Row {
        name: "render",
        about: "Show a profile's service directory as it would be written",
        more: Some("\
Examples:
  hermes-s6 render -p coder                   every file, with its mode, to stdout
  hermes-s6 render -p coder --out /tmp/look   as /tmp/look/gateway-coder/"),
        arguments: &[&PROFILE, &OUT],
    },
    Row {
        name: "reconcile",
        about: "Make the slots agree with the profiles, at boot or at any time",
        more: Some("\
Prints a line per change. A second run finds nothing to do. A profile that cannot be served costs
only itself: it is reported, and the exit code is 1.

Examples:
  hermes-s6 reconcile
  hermes-s6 reconcile --dry-run --json | jq '.changes[].profile'"),
        arguments: &[&DRY_RUN, &JSON],
    },
    Row {
        name: "supervise",
        about: "Reconcile, then become the s6-svscan of the gateways",
        more: Some("\
Runs as any user, under any init or as PID 1. As root it drops to the user hermes, unless the scan
directory is root's. If an earlier s6-svscan was killed, its gateways are taken over.

Examples:
  hermes-s6 supervise
  HERMES_S6_SCANDIR=$XDG_RUNTIME_DIR/hermes hermes-s6 supervise
  hermes-s6 supervise -d 3                    in a service with notification-fd 3"),
        arguments: &[&NOTIFICATION_FD],
    },
    Row {
        name: "detect",
        about: "Tell whether s6 supervises the gateways here, and why",
        more: Some("\
Exit code 0: s6 does. 1: it does not.

Example:
  hermes-s6 detect && hermes-s6 status"),
        arguments: &[&JSON],
    },
    Row {
        name: "start",
        about: "Start gateways, and wait until they are ready",
        more: Some("\
A profile without a slot is registered first. Afterwards it starts with every start of the container,
until it is stopped.

Examples:
  hermes-s6 start -p coder
  hermes-s6 start -p coder -p viewer --timeout 10
  hermes-s6 start --all --json"),
        arguments: &[&PROFILES, &ALL, &UNLESS_STOPPED, &NO_WAIT, &TIMEOUT, &JSON],
    },
    Row {
        name: "stop",
        about: "Stop gateways, and wait until they are down",
        more: Some("\
A gateway has HERMES_S6_STOP_TIMEOUT seconds (25) to save and end, then it is killed. Afterwards it
stays down, also when the container is started again, until it is started.

Examples:
  hermes-s6 stop -p coder
  hermes-s6 stop --all"),
        arguments: &[&PROFILES, &ALL, &NO_WAIT, &TIMEOUT, &JSON],
    },
    Row {
        name: "restart",
        about: "Restart gateways, and wait until they are ready again",
        more: Some("\
One that is down or parked is started. With --all, those whose operator stopped them stay down.

Examples:
  hermes-s6 restart
  hermes-s6 restart -p coder && curl http://127.0.0.1:$(hermes-s6 port -p coder)/health"),
        arguments: &[&PROFILES, &ALL, &NO_WAIT, &TIMEOUT, &JSON],
    },
    Row {
        name: "shutdown",
        about: "Stop everything that runs, and keep what the operator wants",
        more: Some("\
For the end of a container: when it is started again, the same gateways run. Those that have not ended
when the time is over are killed.

Example:
  hermes-s6 shutdown --timeout 20"),
        arguments: &[&TIME_TO_END, &JSON],
    },
    Row {
        name: "register",
        about: "Give profiles their slots, down",
        more: Some("\
Examples:
  hermes-s6 register -p coder && hermes-s6 start -p coder"),
        arguments: &[&PROFILES, &ALL],
    },
    Row {
        name: "unregister",
        about: "Stop gateways and remove their slots",
        more: Some("\
What the profile has on the volume stays: a profile that still exists gets its slot back with the next
start or reconcile.

Example:
  hermes-s6 unregister -p coder"),
        arguments: &[&PROFILES, &ALL],
    },
    Row {
        name: "rename",
        about: "Let the slot of a renamed profile follow it",
        more: Some("\
For a profile that was renamed on the volume: its old slot goes, the new one comes, and its gateway runs
if it ran, or was wanted.

Example:
  hermes profile rename coder builder && hermes-s6 rename coder builder"),
        arguments: &[&OLD, &NEW],
    },
    Row {
        name: "dispatch",
        about: "Do what Hermes asks of its service manager, or leave it to PROG",
        more: Some("\
Where s6 supervises the gateways, start, stop and restart are done as by these commands, for profile
default unless -p names another. Elsewhere, and for other actions, PROG is executed.

Example:
  hermes-s6 dispatch restart -p coder -- /opt/hermes/.venv/bin/hermes -p coder gateway restart"),
        arguments: &[&ACTION, &PROFILES_OR_DEFAULT, &ALL_WITH_SLOTS, &PROG],
    },
    Row {
        name: "status",
        about: "Show what runs, as s6 knows it, and what should",
        more: Some("\
Exit code 0: everything that is wanted is up. 1: something is not.

Examples:
  hermes-s6 status
  hermes-s6 status -p coder --json
  hermes-s6 status --format prometheus > /var/lib/node_exporter/hermes.prom"),
        arguments: &[&ONLY_PROFILES, &JSON_NOT_FORMAT, &FORMAT],
    },
    Row {
        name: "logs",
        about: "Show what gateways have said",
        more: Some("\
Lines of several profiles are merged by time, each with the profile's name in front.

Examples:
  hermes-s6 logs -p coder
  hermes-s6 logs --all -f
  hermes-s6 logs -p coder -n 1000 | grep -i error"),
        arguments: &[&PROFILES, &ALL, &LINES, &FOLLOW],
    },
    Row {
        name: "doctor",
        about: "Find what is wrong with this container, its volume and its tree",
        more: Some("\
Every finding says what to do about it. Exit code 0: nothing is wrong. 1: something is.

Examples:
  hermes-s6 doctor
  hermes-s6 doctor --json | jq '.findings[].remedy'"),
        arguments: &[&JSON],
    },
    Row {
        name: "list",
        about: "List the profiles and their states, one to a line",
        more: Some("\
Two words a line, for scripts: name and state.

Example:
  hermes-s6 list | while read -r profile state; do echo \"$profile is $state\"; done"),
        arguments: &[&JSON],
    },
    Row {
        name: "port",
        about: "Print the port of a profile's API server",
        more: Some("\
Example:
  curl http://127.0.0.1:$(hermes-s6 port -p coder)/health"),
        arguments: &[&PROFILE],
    },
    Row {
        name: "own-env",
        about: "Run PROG without the messaging tokens of the default profile (used by run scripts)",
        more: None,
        arguments: &[&PROGRAM],
    },
    Row {
        name: "hold-lock",
        about: "Run PROG with the lock of a profile's home held (used by run scripts)",
        more: None,
        arguments: &[&SAVE_LIMIT, &LOCKED_HOME, &PROGRAM],
    },
    Row {
        name: "await-lock",
        about: "Wait for the lock of a log directory, or until nobody writes to stdin (used by log/run)",
        more: None,
        arguments: &[&WAIT_LIMIT, &LOG_DIRECTORY],
    },
    Row {
        name: "check-ready",
        about: "Tell whether the gateway supervised in this directory serves (used by data/check)",
        more: None,
        arguments: &[&LOCKED_HOME],
    },
    Row {
        name: "survey",
        about: "Print what is on the volume as JSON (used by root, with the rights of the volume's owner)",
        more: None,
        arguments: &[&SURVEYED],
    },
    Row {
        name: "examine",
        about: "Print what is wrong on the volume as JSON (used by root, with the rights of its owner)",
        more: None,
        arguments: &[],
    },
    Row {
        name: "settle",
        about: "Apply changes of the volume from stdin (used by root, with the rights of the volume's owner)",
        more: None,
        arguments: &[],
    },
];

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn each_command_is_read_with_its_arguments() {
        for row in COMMANDS {
            let mut line = vec!["hermes-s6".to_owned(), row.name.to_owned()];
            let together = |argument: &&&Argument| argument.conflict.is_none();
            for argument in row.arguments.iter().filter(together) {
                match (argument.long, argument.short) {
                    (Some(long), _) => line.push(format!("--{long}")),
                    (None, Some(short)) => line.push(format!("-{short}")),
                    (None, None) => {}
                }
                line.extend(match argument.values {
                    Values::None => vec![],
                    Values::One | Values::Each | Values::Rest => vec![example(argument.value)],
                    Values::AfterDashes => vec!["--".to_owned(), example(argument.value)],
                });
            }
            let read = Cli::try_parse_from(line.iter().map(OsString::from));
            assert!(read.is_ok(), "{line:?}: {read:?}");
        }
    }

    fn example(value: Value) -> String {
        match value {
            Value::Word | Value::Text | Value::Path | Value::Profile => "coder",
            Value::Number | Value::Seconds => "3",
            Value::Format => "json",
        }
        .to_owned()
    }

    #[test]
    fn clap_finds_nothing_wrong_with_the_table() {
        program().debug_assert();
    }
}
