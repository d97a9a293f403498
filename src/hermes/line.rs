//! The command line of Hermes, as far as it concerns gateways and profiles.
//!
//! It is read as Hermes Agent 0.19.0 reads it, in two passes. First the option for the profile is taken out,
//! wherever it stands. Then the rest is read by the rules of Python's argparse. If the meaning of a command line
//! is not certain, [`read`] gives `None`, and the real Hermes understands or refuses it.

use crate::hermes::name::ProfileName;

/// A command line that concerns the gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The profile that the line names, if any.
    pub profile: Option<ProfileName>,
    /// What the line asks for.
    pub action: Action,
}

/// What happens to a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A profile is added. The command line need not tell its name.
    Added,
    /// This profile is removed.
    Removed(ProfileName),
    /// The profile with the first name gets the second name.
    Renamed(ProfileName, ProfileName),
}

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Run a gateway.
    Run {
        /// Whether a supervisor runs the gateway if there is one; `false` with `--no-supervise`.
        supervised: bool,
    },
    /// Start one gateway, or all.
    Start {
        /// Whether the gateways of all profiles are meant.
        all: bool,
    },
    /// Stop one gateway, or all.
    Stop {
        /// Whether the gateways of all profiles are meant.
        all: bool,
    },
    /// Restart one gateway, or all.
    Restart {
        /// Whether the gateways of all profiles are meant.
        all: bool,
    },
    /// Show the status of one gateway.
    Status,
    /// List the gateways.
    List,
    /// Install the gateway as a service of a service manager.
    Install,
    /// Remove this service.
    Uninstall,
    /// Add, remove or rename a profile: its slot has to follow.
    Profile(Change),
}

/// What an option takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// Nothing: the option is a flag.
    Nothing,
    /// A value.
    Value,
    /// A value, unless another option follows.
    Perhaps,
    /// The option changes the meaning of the whole line, which is then not ours to read.
    Over,
}

use Takes::{Nothing, Over, Perhaps, Value};

/// An option: the long name without the dashes, the short name or a blank, and what the option takes.
type Opt = (&'static str, u8, Takes);

/// The options in front of a subcommand.
const TOP: [Opt; 21] = [
    ("help", b'h', Over),
    ("version", b'V', Over),
    ("oneshot", b'z', Over),
    ("usage-file", b' ', Value),
    ("model", b'm', Value),
    ("provider", b' ', Value),
    ("toolsets", b't', Value),
    ("resume", b'r', Value),
    ("no-restore-cwd", b' ', Nothing),
    ("continue", b'c', Perhaps),
    ("worktree", b'w', Nothing),
    ("accept-hooks", b' ', Nothing),
    ("skills", b's', Value),
    ("yolo", b' ', Nothing),
    ("pass-session-id", b' ', Nothing),
    ("ignore-user-config", b' ', Nothing),
    ("ignore-rules", b' ', Nothing),
    ("safe-mode", b' ', Nothing),
    ("tui", b' ', Nothing),
    ("cli", b' ', Nothing),
    ("dev", b' ', Nothing),
];

const GATEWAY: [Opt; 2] = [("help", b'h', Over), ("accept-hooks", b' ', Nothing)];

const RUN: [Opt; 8] = [
    ("help", b'h', Over),
    ("verbose", b'v', Nothing),
    ("quiet", b'q', Nothing),
    ("replace", b' ', Nothing),
    ("force", b' ', Nothing),
    (NO_SUPERVISE, b' ', Nothing),
    ("external-supervisor", b' ', Nothing),
    ("accept-hooks", b' ', Nothing),
];

const NO_SUPERVISE: &str = "no-supervise";
const ALL: &str = "all";

const START: [Opt; 4] = [
    ("help", b'h', Over),
    ("system", b' ', Nothing),
    (ALL, b' ', Nothing),
    ("platform", b' ', Value),
];

const STOP: [Opt; 3] = [
    ("help", b'h', Over),
    ("system", b' ', Nothing),
    (ALL, b' ', Nothing),
];

const STATUS: [Opt; 5] = [
    ("help", b'h', Over),
    ("deep", b' ', Nothing),
    ("full", b'l', Nothing),
    ("system", b' ', Nothing),
    ("platform", b' ', Value),
];

const INSTALL: [Opt; 9] = [
    ("help", b'h', Over),
    ("force", b' ', Nothing),
    ("system", b' ', Nothing),
    ("run-as-user", b' ', Value),
    ("start-now", b' ', Nothing),
    ("no-start-now", b' ', Nothing),
    ("start-on-login", b' ', Nothing),
    ("no-start-on-login", b' ', Nothing),
    ("elevated-handoff", b' ', Nothing),
];

const UNINSTALL: [Opt; 2] = [("help", b'h', Over), ("system", b' ', Nothing)];

const LIST: [Opt; 1] = [("help", b'h', Over)];

const CREATE: [Opt; 7] = [
    ("help", b'h', Over),
    ("clone", b' ', Nothing),
    ("clone-all", b' ', Nothing),
    ("clone-from", b' ', Value),
    ("no-alias", b' ', Nothing),
    ("no-skills", b' ', Nothing),
    ("description", b' ', Value),
];

const DELETE: [Opt; 2] = [("help", b'h', Over), ("yes", b'y', Nothing)];

const IMPORT: [Opt; 2] = [("help", b'h', Over), ("name", b' ', Value)];

const ADD: [Opt; 5] = [
    ("help", b'h', Over),
    ("name", b' ', Value),
    ("alias", b' ', Nothing),
    ("force", b' ', Nothing),
    ("yes", b'y', Nothing),
];

/// Reads a command line without the program's name; `None` unless it certainly concerns the gateways.
pub fn read(words: &[&str]) -> Option<Line> {
    let (profile, words) = split(words)?;
    let (&command, words) = words.split_first()?;
    let action = match command {
        "gateway" => gateway(words)?,
        "profile" => profiles(words)?,
        _ => return None,
    };
    Some(Line { profile, action })
}

/// Finds the subcommand of a command line; `None` if it is not certain.
pub fn subcommand<'a>(words: &[&'a str]) -> Option<&'a str> {
    split(words)?.1.first().copied()
}

/// Splits a command line into the profile and the words from the subcommand on.
fn split<'a>(words: &[&'a str]) -> Option<(Option<ProfileName>, Vec<&'a str>)> {
    let (profile, words) = take_profile(words)?;
    let (_, words) = options(&TOP, &words)?;
    Some((profile, words.to_vec()))
}

/// Reads a profile's name as Hermes does where it accepts capitals and blanks around the name.
pub fn profile_name(text: &str) -> Option<ProfileName> {
    text.trim().to_lowercase().parse().ok()
}

/// Takes the option for the profile out of a command line, wherever it stands, and gives the other words too.
fn take_profile<'a>(words: &[&'a str]) -> Option<(Option<ProfileName>, Vec<&'a str>)> {
    let mut rest = words.to_vec();
    let mut at = 0;
    while let Some(&word) = words.get(at) {
        let next = words.get(at + 1).copied();
        if let ("-p" | "--profile", Some(name)) = (word, next) {
            // Hermes takes no name of another form out of the line, where argparse then does not expect it.
            let name = name.parse().ok()?;
            rest.drain(at..at + 2);
            return Some((Some(name), rest));
        }
        if let Some(name) = word.strip_prefix("--profile=") {
            rest.remove(at);
            return Some((Some(profile_name(name)?), rest));
        }
        at += if hides_next(word, next) { 2 } else { 1 };
    }
    Some((None, rest))
}

/// Tells whether the next word is the value of the option `word`, and so cannot be the option for the profile.
///
/// While Hermes looks for the profile, it knows options by their whole names only, not by beginnings of names.
fn hides_next(word: &str, next: Option<&str>) -> bool {
    let is_this = |&&(long, short, _): &&Opt| {
        word.strip_prefix("--") == Some(long) || word.as_bytes() == [b'-', short]
    };
    match TOP.iter().find(is_this) {
        Some((_, _, Value) | ("oneshot", ..)) => true,
        Some((_, _, Perhaps)) => next.is_some_and(|next| !next.starts_with('-')),
        _ => false,
    }
}

/// Reads what follows `gateway`.
fn gateway(words: &[&str]) -> Option<Action> {
    let (_, words) = options(&GATEWAY, words)?;
    let Some((&command, words)) = words.split_first() else {
        return Some(Action::Run { supervised: true });
    };
    let table: &[Opt] = match command {
        "run" => &RUN,
        "start" | "restart" => &START,
        "stop" => &STOP,
        "status" => &STATUS,
        "install" => &INSTALL,
        "uninstall" => &UNINSTALL,
        "list" => &LIST,
        _ => return None,
    };
    let (given, rest) = options(table, words)?;
    let has = |name| given.contains(&name);
    let all = has(ALL);
    rest.is_empty().then_some(match command {
        "run" => Action::Run {
            supervised: !has(NO_SUPERVISE),
        },
        "start" => Action::Start { all },
        "stop" => Action::Stop { all },
        "restart" => Action::Restart { all },
        "status" => Action::Status,
        "install" => Action::Install,
        "uninstall" => Action::Uninstall,
        _ => Action::List,
    })
}

/// Reads what follows `profile`.
fn profiles(words: &[&str]) -> Option<Action> {
    let (&command, words) = words.split_first()?;
    let (table, count): (&[Opt], usize) = match command {
        "create" => (&CREATE, 1),
        "delete" => (&DELETE, 1),
        "import" => (&IMPORT, 1),
        "install" => (&ADD, 1),
        "rename" => (&LIST, 2),
        _ => return None,
    };
    let (_, words) = options(table, words)?;
    let (names, words) = words.split_at_checked(count)?;
    let (_, rest) = options(table, words)?;
    let certain = rest.is_empty() && !names.iter().any(|name| name.starts_with('-'));
    // If a word cannot be a profile's name, Hermes refuses the command, and no profile changes.
    let named: Option<Vec<ProfileName>> = names.iter().map(|name| profile_name(name)).collect();
    certain.then_some(Action::Profile(match named.as_deref() {
        Some([name]) if command == "delete" => Change::Removed(name.clone()),
        Some([old, new]) => Change::Renamed(old.clone(), new.clone()),
        _ => Change::Added,
    }))
}

/// Reads the leading options as argparse does. Gives the long names of the options, and the words behind them.
fn options<'a, 'w>(
    table: &[Opt],
    mut words: &'w [&'a str],
) -> Option<(Vec<&'static str>, &'w [&'a str])> {
    let mut given = Vec::new();
    while let Some((&word, rest)) = words.split_first() {
        if !word.starts_with('-') {
            break;
        }
        words = rest;
        let Some(long) = word.strip_prefix("--") else {
            shorts(table, word, &mut given, &mut words)?;
            continue;
        };
        let (name, inline) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let (name, _, takes) = *find(table, name)?;
        match (takes, inline) {
            (Nothing, None) | (Value | Perhaps, Some(_)) => {}
            (Value | Perhaps, None) => take_value(name, takes, &mut words)?,
            (Nothing | Over, _) => return None,
        }
        given.push(name);
    }
    Some((given, words))
}

/// Finds a long option by its name, or by a beginning that only this option has.
fn find<'t>(table: &'t [Opt], name: &str) -> Option<&'t Opt> {
    if let Some(option) = table.iter().find(|option| option.0 == name) {
        return Some(option);
    }
    // The word `--` has the empty name, with which every option begins, so that it is never certain. That is
    // right: behind `--`, no word is an option.
    // Before Python 3.12, a beginning that fits two options of TOP is an error behind the subcommand as well.
    let candidates = [&TOP, table].map(|table| {
        let mut candidates = table.iter().filter(|option| option.0.starts_with(name));
        (candidates.next(), candidates.next())
    });
    match candidates {
        [(_, None), (option, None)] => option,
        _ => None,
    }
}

/// Reads a word of short options such as `-wm model`: flags, and behind them perhaps one option with a value. The
/// value is the rest of the word, or the next word.
fn shorts(
    table: &[Opt],
    word: &str,
    given: &mut Vec<&'static str>,
    words: &mut &[&str],
) -> Option<()> {
    let letters = &word.as_bytes()[1..];
    for (at, &letter) in letters.iter().enumerate() {
        let &(name, _, takes) = table
            .iter()
            .find(|option| option.1 == letter && letter != b' ')?;
        given.push(name);
        match takes {
            Nothing => {}
            Over => return None,
            Value | Perhaps if at + 1 < letters.len() => break,
            Value | Perhaps => take_value(name, takes, words)?,
        }
    }
    (!letters.is_empty()).then_some(())
}

/// Takes the value of an option from the words that follow it.
fn take_value(name: &str, takes: Takes, words: &mut &[&str]) -> Option<()> {
    match words.split_first() {
        Some((value, rest)) if !value.starts_with('-') => {
            // Hermes joins several words into the name of one session. Then the end of the name is not certain,
            // unless an option or a known subcommand follows.
            let follows =
                |next: &&str| next.starts_with('-') || ["gateway", "profile"].contains(next);
            *words = rest;
            let is_one_word = name != "resume" && takes != Perhaps;
            (is_one_word || rest.first().is_none_or(follows)).then_some(())
        }
        _ if takes == Perhaps => Some(()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Option<(String, Action)> {
        let words: Vec<&str> = line.split(' ').collect();
        let line = read(&words)?;
        let profile = line.profile.map(String::from).unwrap_or_default();
        Some((profile, line.action))
    }

    #[test]
    fn the_profile_is_found_wherever_it_stands() {
        for line in [
            "-p coder gateway stop",
            "gateway -p coder stop",
            "gateway stop -p coder",
            "gateway --profile coder stop",
            "gateway stop --profile=Coder",
            "-m -p --yolo -p coder gateway stop",
        ] {
            let expected = (line.contains("oder")).then(|| "coder".to_owned());
            let found = read_line(line).map(|(profile, _)| profile);
            // A value that looks like an option is for the real program to judge.
            let certain = !line.starts_with("-m");
            assert_eq!(found, expected.filter(|_| certain), "{line}");
        }
    }

    #[test]
    fn a_profile_comes_or_goes_only_where_all_that_it_takes_is_there() {
        let name = |text: &str| profile_name(text).unwrap_or_else(ProfileName::default_profile);
        for (line, change) in [
            ("profile create --clone-from old new --no-a", Change::Added),
            ("profile delete Old -y", Change::Removed(name("old"))),
            ("-m x profile import --name new archive", Change::Added),
            (
                "profile install --force -y source --name=new",
                Change::Added,
            ),
            (
                "profile rename old new",
                Change::Renamed(name("old"), name("new")),
            ),
            ("profile rename old New!", Change::Added),
        ] {
            let expected = Some((String::new(), Action::Profile(change)));
            assert_eq!(read_line(line), expected, "{line}");
        }
    }

    #[test]
    fn options_are_read_as_argparse_does() {
        let stop_all = Some((String::new(), Action::Stop { all: true }));
        for line in [
            "gateway stop --all",
            "gateway stop --a --sys",
            "--yolo -w -m some/model gateway --accept-hooks stop --all",
            "-c session gateway stop --all",
            "--resume=x --prov y gateway stop --all",
            "-wmx -ws y -c=z gateway stop --all",
        ] {
            assert_eq!(read_line(line), stop_all, "{line}");
        }
        for line in [
            "",
            "gateway sto --all",
            "gateway stop --all --all=1",
            "gateway stop --all extra",
            "gateway stop --all --platform x",
            "gateway stop --all --s",
            "gateway stop --all -- x",
            "-z hello gateway stop --all",
            "-V gateway stop --all",
            "-c some session gateway stop --all",
            "-c gateway stop --all",
            "--i gateway stop --all",
            "gateway install --start",
            "gateway run -vx",
            "gateway setup",
            "profile use coder",
            "profile create",
            "profile create new --c",
            "profile delete -y old older",
            "profile rename old -y new",
            "profile",
            "status",
        ] {
            assert_eq!(read_line(line), None, "{line}");
        }
    }
}
