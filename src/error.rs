//! The one error of the program: what was tried, on which path, why it failed, what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::Serialize;

/// How the program ends, in the numbers that s6's own programs use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Everything was done.
    Done = 0,
    /// The truthful answer is no, or a part of the work could not be done.
    No = 1,
    /// The time to wait is over.
    TimedOut = 99,
    /// Wrong usage, a bad name, or a failure that trying again cannot repair.
    Usage = 100,
    /// This program has a defect.
    Bug = 101,
    /// There is no supervisor to talk to.
    Unsupervised = 102,
    /// A system call failed; trying again may help.
    System = 111,
    /// A program was found but could not be executed.
    NotExecutable = 126,
    /// A program was not found.
    NotFound = 127,
}

impl Code {
    /// Gives the code of an answer: yes is 0, no is 1.
    pub fn of(answer: bool) -> Self {
        if answer { Self::Done } else { Self::No }
    }
}

/// What went wrong, as one line for a person and one exit code for a script.
#[derive(Debug)]
pub struct Error(Box<Kind>);

#[derive(Debug)]
struct Kind {
    code: Code,
    what: String,
    path: Option<PathBuf>,
    cause: Option<io::Error>,
    remedy: Option<String>,
}

/// The result of every function of this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error from a statement such as `profile coder does not exist`.
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self(Box::new(Kind {
            code,
            what: what.into(),
            path: None,
            cause: None,
            remedy: None,
        }))
    }

    /// Makes an error from a failed system call. The message is "unable to `verb` `path`: `cause`".
    pub fn system(verb: &str, path: impl AsRef<Path>, cause: impl Into<io::Error>) -> Self {
        Self(Box::new(Kind {
            code: Code::System,
            what: format!("unable to {verb}"),
            path: Some(path.as_ref().to_owned()),
            cause: Some(cause.into()),
            remedy: None,
        }))
    }

    /// Makes an error from a program that could not be executed, with the exit code that a shell gives then.
    pub fn exec(program: impl AsRef<Path>, cause: io::Error) -> Self {
        let is_short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN]
            .iter()
            .any(|errno| cause.raw_os_error() == Some(errno.raw_os_error()));
        let code = match cause.kind() {
            io::ErrorKind::NotFound => Code::NotFound,
            // Nothing is wrong with the program.
            _ if is_short => Code::System,
            _ => Code::NotExecutable,
        };
        let mut error = Self::system("exec", program, cause);
        error.0.code = code;
        error
    }

    /// Adds the remedy: what the reader can do about the error. It ends the message.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Replaces the exit code.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.0.code = code;
        self
    }

    /// Gives the exit code of the program for this error.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Tells whether the cause was that a file or directory does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == Some(io::ErrorKind::NotFound)
    }

    /// Tells whether the cause was that this process has not the right.
    pub fn is_forbidden(&self) -> bool {
        self.kind() == Some(io::ErrorKind::PermissionDenied)
    }

    /// Gives the remedy, if one is known.
    pub fn advice(&self) -> Option<&str> {
        self.0.remedy.as_deref()
    }

    /// Gives the kind of the failed system call's error; `None` if the error has another cause.
    pub fn kind(&self) -> Option<io::ErrorKind> {
        self.0.cause.as_ref().map(io::Error::kind)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)?;
        if let Some(path) = &self.0.path {
            write!(f, " {}", shown(path))?;
        }
        if let Some(cause) = &self.0.cause {
            write!(f, ": {}", cause_text(cause))?;
        }
        if let Some(remedy) = &self.0.remedy {
            write!(f, ": {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Gives the system's text for an error, without the "(os error N)" that Rust adds.
pub fn cause_text(cause: &io::Error) -> String {
    let text = cause.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Makes a path printable, see [`escaped`].
pub fn shown(path: &Path) -> String {
    escaped(path.as_os_str().as_encoded_bytes())
}

/// Makes any bytes printable on one line of a terminal or a log, such as a name that a stranger chose.
///
/// UTF-8 text stays as it is; control characters, backslashes and bytes that are not UTF-8 become escapes.
pub fn escaped(bytes: &[u8]) -> String {
    escaped_where(bytes, |character| {
        character.is_control() || character == '\\'
    })
}

/// Escapes the characters that are `special`, and the bytes that are not UTF-8.
pub fn escaped_where(bytes: &[u8], special: fn(char) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if special(character) {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.extend(std::ascii::escape_default(*byte).map(char::from));
        }
    }
    text
}

/// Gives the word that stands for an enum value in JSON; empty if JSON has no single word for the value.
pub fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_one_line_with_verb_object_cause_and_remedy() {
        let error = Error::system("read", "/x", rustix::io::Errno::NOENT).remedy("create it");
        assert_eq!(
            error.to_string(),
            "unable to read /x: No such file or directory: create it"
        );
        assert_eq!(error.code(), Code::System);
        assert!(error.is_not_found());
    }

    #[test]
    fn a_path_cannot_break_out_of_its_line() {
        let error = Error::system("open", "/a\nb\u{1b}[2J", rustix::io::Errno::ACCESS);
        assert_eq!(
            error.to_string(),
            "unable to open /a\\nb\\u{1b}[2J: Permission denied"
        );
        assert_eq!(escaped(b"\xff\\\xc3\xa9"), "\\xff\\\\é");
    }
}
