//! What the program says: data on stdout, everything else on stderr as `hermes-s6: level: text`.
//!
//! The only module that prints. A reader who has gone away is not an error.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::error::{Error, escaped_where};

/// Prints a line of data.
pub fn line(text: &str) {
    print(text);
    print("\n");
}

/// Prints data as it is.
pub fn print(text: &str) {
    bytes(text.as_bytes());
}

/// Prints bytes as they are.
pub fn bytes(data: &[u8]) {
    let _gone = try_bytes(data);
}

/// Prints bytes as they are, for a command that would go on for nobody.
pub fn try_bytes(data: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(data).and_then(|()| out.flush())
}

/// Tells whether data may be coloured: for a person at a terminal who does not object.
pub fn colour() -> bool {
    may_colour(io::stdout().is_terminal())
}

fn may_colour(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none()
}

/// Says what came of a command for one thing: on stdout if it was done, else on stderr.
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
        let _gone = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Says on stdout that something was not done, where Hermes says it there.
pub fn failure_line(text: &str) {
    line(&format!("\u{2717} {}", one_line(text)));
}

/// Prints a value as one line of JSON, for programs.
pub fn json(value: &impl Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        line(&text);
    }
}

/// Says something that the reader should know and need not act on.
pub fn note(text: &str) {
    say("info", text);
}

/// Says that something is wrong that does not stop this run.
pub fn warning(text: &str) {
    say("warning", text);
}

/// Says why this run ends without having done its work.
pub fn fatal(error: &Error) {
    say("fatal", &error.to_string());
}

fn say(level: &str, text: &str) {
    let line = format!("hermes-s6: {level}: {}\n", one_line(text));
    let _gone = io::stderr().lock().write_all(line.as_bytes());
}

/// Makes one line of a text, whatever somebody has put into a name or a message.
pub fn one_line(text: &str) -> String {
    escaped_where(text.as_bytes(), char::is_control)
}
