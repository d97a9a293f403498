//! What the program says: data on stdout, everything else on stderr as `hermes-s6: level: text`.
//!
//! No other module prints. If the reader has closed the pipe, that is not an error. Any other failure to print data
//! is kept, and ends the run with an error, see [`unprinted`].

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, escaped_where};

/// Why data could not be printed, the first time.
static UNPRINTED: OnceLock<Error> = OnceLock::new();

/// The warnings that were printed in this run.
static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// How long a text waits for room on a stderr that is non-blocking.
const STDERR_TIME: Duration = Duration::from_secs(1);

/// How many of several profiles are named.
const NAMED: usize = 3;

/// A problem that does not stop a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The profile, or the directory that cannot be a profile; `None` if the problem is not one profile's.
    pub profile: Option<String>,
    /// The problem as a sentence, with the remedy.
    pub text: String,
}

impl Warning {
    /// Makes the warning of a problem that is not one profile's.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            profile: None,
            text: text.into(),
        }
    }

    /// Makes the warning of a profile's problem.
    pub fn of(profile: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            profile: Some(profile.into()),
            ..Self::new(text)
        }
    }

    /// Gives the text without the name of the profile: for two profiles with the same problem, it is the same.
    fn pattern(&self) -> String {
        let Some(name) = self.profile.as_deref().filter(|name| !name.is_empty()) else {
            return self.text.clone();
        };
        let mut pattern = String::new();
        let mut rest = self.text.as_str();
        while let Some(at) = rest.find(name) {
            let (before, after) = (&rest[..at], &rest[at + name.len()..]);
            let is_word = !before.ends_with(char::is_alphanumeric)
                && !after.starts_with(char::is_alphanumeric);
            pattern.extend([before, if is_word { "\0" } else { name }]);
            rest = after;
        }
        pattern + rest
    }
}

/// Writes warnings as lines. One line is for all profiles with the same problem, with the text of the first.
fn folded<'a>(warnings: impl IntoIterator<Item = &'a Warning>) -> Vec<String> {
    let keyed = warnings
        .into_iter()
        .map(|warning| ((warning.profile.is_some(), warning.pattern()), warning));
    let line = |(_, same): (_, Vec<&Warning>)| {
        let text = &same[0].text;
        let mut names: Vec<&str> = same
            .iter()
            .filter_map(|warning| warning.profile.as_deref())
            .collect();
        names.dedup();
        match (names.len(), same.len()) {
            (0, 1) => text.clone(),
            (0, count) => format!("{text} ({count} times)"),
            (1, _) => format!("profile {}: {text}", names[0]),
            _ => format!("profiles {}: {text}", first_few(&names)),
        }
    };
    groups(keyed).into_iter().map(line).collect()
}

/// Puts together what has the same key, in the order of the first ones.
pub fn groups<K: PartialEq, T>(items: impl IntoIterator<Item = (K, T)>) -> Vec<(K, Vec<T>)> {
    let mut groups: Vec<(K, Vec<T>)> = Vec::new();
    for (key, item) in items {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, items)) => items.push(item),
            None => groups.push((key, vec![item])),
        }
    }
    groups
}

/// Writes the first three names or paths of a list, and the number of the others.
pub fn first_few(names: &[impl Display]) -> String {
    let few: Vec<String> = names.iter().take(NAMED).map(ToString::to_string).collect();
    let few = few.join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => few,
        others => format!("{few} and {others} more"),
    }
}

/// Prints a line of data.
pub fn line(text: &str) {
    print(&[text, "\n"].concat());
}

/// Prints data as it is.
pub fn print(text: &str) {
    bytes(text.as_bytes());
}

/// Prints bytes as they are.
pub fn bytes(data: &[u8]) {
    if let Err(cause) = try_bytes(data) {
        keep(cause);
    }
}

/// Prints bytes as they are, and fails if nobody reads them any more: for a command that prints without end.
///
/// Does not print through the standard library, which takes it for success if stdout cannot be written at all.
pub fn try_bytes(mut data: &[u8]) -> io::Result<()> {
    let stdout = rustix::stdio::stdout();
    while !data.is_empty() {
        match rustix::io::write(stdout, data) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => data = &data[written..],
            Err(Errno::INTR) => {}
            // A program that shares our stdout, such as a logger, has made it non-blocking.
            Err(Errno::AGAIN) => {
                let _signal = poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn keep(cause: io::Error) {
    if cause.kind() != ErrorKind::BrokenPipe {
        let _first_counts = UNPRINTED.set(Error::system("write", "stdout", cause));
    }
}

/// Gives the error that ends a run whose data could not all be printed, such as on a full disk.
pub fn unprinted() -> Option<&'static Error> {
    UNPRINTED.get()
}

/// Tells whether data on stdout may be coloured: stdout is a terminal that knows colours, and `NO_COLOR` is not set.
pub fn colour() -> bool {
    may_colour(io::stdout().is_terminal())
}

fn may_colour(terminal: bool) -> bool {
    // Without a kind, it may be any, as with an environment that was emptied.
    let knows_colours =
        || std::env::var_os("TERM").is_some_and(|kind| !kind.is_empty() && kind != "dumb");
    terminal && std::env::var_os("NO_COLOR").is_none() && knows_colours()
}

/// Prints the result of a command for one profile: on stdout if it was done, else on stderr.
pub fn outcome(done: bool, text: &str) {
    let (mark, colour) = if done {
        ("\u{2713}", "32")
    } else {
        ("\u{2717}", "31")
    };
    let terminal = if done {
        io::stdout().is_terminal()
    } else {
        io::stderr().is_terminal()
    };
    let mark = if may_colour(terminal) {
        format!("\x1b[{colour}m{mark}\x1b[0m")
    } else {
        mark.to_owned()
    };
    let text = format!("{mark} {}\n", one_line(text));
    if done {
        print(&text);
    } else {
        to_stderr(&text);
    }
}

/// Prints a failure on stdout, for commands of which Hermes itself prints it there.
pub fn failure_line(text: &str) {
    line(&format!("\u{2717} {}", one_line(text)));
}

/// Prints a value as one line of JSON.
pub fn json(value: &impl Serialize) {
    match json_line(value) {
        Ok(text) => print(&text),
        Err(cause) => keep(cause),
    }
}

/// Writes a value as one line of JSON.
pub fn json_line(value: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

/// Prints what the reader should know, but need not act on.
pub fn note(text: &str) {
    say("info", text);
}

/// Prints a problem that does not stop this run. The same one is printed once in a run, however often it is met.
pub fn warning(text: &str) {
    let mut said = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if said.insert(text.to_owned()) {
        say("warning", text);
    }
}

/// Prints problems that do not stop this run. Those that are the same for several profiles become one line.
pub fn warnings<'a>(warnings: impl IntoIterator<Item = &'a Warning>) {
    for line in folded(warnings) {
        warning(&line);
    }
}

/// Prints the error that ends this run.
pub fn fatal(error: &Error) {
    say("fatal", &error.to_string());
}

/// Passes on a line that a child of this program has said.
pub fn relay(line: &str) {
    let line = one_line(line) + "\n";
    to_stderr(&line);
}

fn say(level: &str, text: &str) {
    to_stderr(&format!("hermes-s6: {level}: {}\n", one_line(text)));
}

/// Prints a text on stderr, as far as that can be done.
///
/// The stderr of a tree is non-blocking, so that nobody can keep a tree waiting by not reading it: then a text is left
/// out after [`STDERR_TIME`], and those that follow are left out at once.
fn to_stderr(text: &str) {
    static IS_READ: AtomicBool = AtomicBool::new(true);
    let stderr = rustix::stdio::stderr();
    let mut data = text.as_bytes();
    let end = Instant::now() + STDERR_TIME;
    while !data.is_empty() {
        match rustix::io::write(stderr, data) {
            Ok(written) => data = &data[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if IS_READ.load(Ordering::Relaxed) => {
                let left = end.saturating_duration_since(Instant::now());
                let limit = Timespec::try_from(left).unwrap_or_default();
                let _signal = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&limit));
                IS_READ.store(!left.is_zero(), Ordering::Relaxed);
            }
            Err(_) => return,
        }
    }
}

/// Makes a text one line: control characters in it, such as a line break in a file name, become escapes.
pub fn one_line(text: &str) -> String {
    escaped_where(text.as_bytes(), char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The warnings of these profiles, which name their profile where the text has a `*`.
    fn warnings(names: &[&str], text: &str) -> Vec<Warning> {
        let warning = |name: &&str| Warning::of(*name, text.replace('*', name));
        names.iter().map(warning).collect()
    }

    #[test]
    fn the_same_problem_of_several_profiles_is_one_line() {
        let many: Vec<String> = (1..=20).map(|number| format!("p{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let port = "it has no port";
        let path = "unable to write /x/*/y: File too large: * is lost";
        #[rustfmt::skip]
        let rows = [
            (vec![], vec![], "nothing is wrong"),
            (warnings(&["coder"], port), vec!["profile coder: it has no port"], "one has it"),
            (warnings(&["a", "b"], port), vec!["profiles a, b: it has no port"], "two"),
            (warnings(&["a", "b", "c"], port), vec!["profiles a, b, c: it has no port"], "three are all named"),
            (warnings(&many, port), vec!["profiles p1, p2, p3 and 17 more: it has no port"], "twenty"),
            (warnings(&many, path), vec!["profiles p1, p2, p3 and 17 more: unable to write /x/p1/y: File too large: p1 is lost"], "only the name differs"),
            (warnings(&["a", "x"], path), vec!["profile a: unable to write /x/a/y: File too large: a is lost", "profile x: unable to write /x/x/y: File too large: x is lost"], "a name that the text has anyway"),
            ([warnings(&["a"], port), warnings(&["b"], path), warnings(&["c"], port)].concat(), vec!["profiles a, c: it has no port", "profile b: unable to write /x/b/y: File too large: b is lost"], "each problem where it is met first"),
            ([warnings(&["a"], port), warnings(&["a"], port)].concat(), vec!["profile a: it has no port"], "one profile, met twice"),
            (vec![Warning::new(port); 20], vec!["it has no port (20 times)"], "nobody's, twenty times"),
            ([vec![Warning::new(port)], warnings(&["a"], port)].concat(), vec![port, "profile a: it has no port"], "nobody's is another one"),
        ];
        for (warnings, lines, sentence) in rows {
            assert_eq!(folded(&warnings), lines, "{sentence}");
        }
    }
}
