//! What the program says: data on stdout, everything else on stderr as `hermes-s6: level: text`.
//!
//! No other module prints. If the reader has closed the pipe, that is not an error. Any other failure to print data
//! is kept, and ends the run with an error, see [`unprinted`].

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::Serialize;

use crate::error::{Error, escaped_where};

/// Why data could not be printed, the first time.
static UNPRINTED: OnceLock<Error> = OnceLock::new();

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

/// Tells whether data on stdout may be coloured: stdout is a terminal, and `NO_COLOR` is not set.
pub fn colour() -> bool {
    may_colour(io::stdout().is_terminal())
}

fn may_colour(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none()
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
        let _gone = io::stderr().lock().write_all(text.as_bytes());
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

/// Prints a problem that does not stop this run.
pub fn warning(text: &str) {
    say("warning", text);
}

/// Prints the error that ends this run.
pub fn fatal(error: &Error) {
    say("fatal", &error.to_string());
}

fn say(level: &str, text: &str) {
    let line = format!("hermes-s6: {level}: {}\n", one_line(text));
    let _gone = io::stderr().lock().write_all(line.as_bytes());
}

/// Makes a text one line: control characters in it, such as a line break in a file name, become escapes.
pub fn one_line(text: &str) -> String {
    escaped_where(text.as_bytes(), char::is_control)
}
