//! Supervises the gateways of Hermes Agent profiles with s6.
//!
//! The folders of `src/` are floors, from top to bottom. A file imports from its own floor and from those
//! beneath it, never from one above, and never in a circle.
//!
//! - [`command`]: what a person or a script asked for, put together from what is below; gives the exit code.
//! - [`view`]: what is shown: the status, its verdicts, tables, metrics, logs, and what the doctor finds.
//! - [`tree`]: the slots and their s6-svscan: look, plan, apply; the lifecycle of what runs.
//! - [`volume`]: what lies on Hermes' volume: profiles, intents, ports, locks; and what is written there.
//! - [`rights`]: whose rights are used, by layout.
//! - [`s6`]: s6's own words: status files, limits, programs, execline quoting.
//! - [`settings`]: what was typed and what the environment says, resolved once.
//! - [`cli`]: what can be typed.
//! - [`hermes`]: Hermes' own words: its command line, state file, profile names, container roles, configuration.
//! - [`system`]: the machine: directories without links, trust, accounts, processes, signals, time, waiting.
//! - [`report`] and [`error`]: all that prints; the one error, with the exit codes.
//!
//! What is decided is a value, and deciding does no I/O: [`tree::plan`], [`tree::lifecycle::target`],
//! [`view::verdict`]. What was decided is done elsewhere: by [`tree::apply`],
//! [`tree::lifecycle`] and [`volume::write`].
//! `docs/architecture.md` follows one profile through the program.

pub mod cli;
pub mod command;
pub mod error;
pub mod hermes;
pub mod report;
pub mod rights;
pub mod s6;
pub mod settings;
pub mod system;
pub mod tree;
pub mod view;
pub mod volume;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::Cli;
use crate::error::{Code, Error, Result};
use crate::system::signal;

/// Runs the program and gives its exit code.
pub fn run() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        report::fatal(
            &Error::new(Code::Bug, format!("a defect at {place}")).remedy("please report it"),
        );
        std::process::exit(Code::Bug as i32);
    }));
    let done = match hermes_command_line() {
        Some(words) => command::hermes::run(&words),
        None => match Cli::try_parse_from(std::env::args_os()) {
            Ok(cli) => signal::restore().and_then(|()| command::run(&cli.common, cli.command)),
            Err(error) => usage(&error),
        },
    };
    let code = |error: &Error| {
        report::fatal(error);
        error.code() as u8
    };
    let done = done.unwrap_or_else(|error| code(&error));
    // Whatever the answer is: nobody shall take the part that was printed for the whole.
    ExitCode::from(report::unprinted().map_or(done, code))
}

/// Gives the command line of Hermes, if this program was called in the place of Hermes: by another name than
/// `hermes-s6…`, or with `hermes` as the first word.
fn hermes_command_line() -> Option<Vec<OsString>> {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    if !name.as_encoded_bytes().starts_with(b"hermes-s6") && !name.is_empty() {
        return Some(words.collect());
    }
    words
        .next()
        .filter(|word| word == "hermes")
        .map(|_| words.collect())
}

/// The beginnings of the lines that clap adds below its message.
const USAGE_TAIL: [&str; 3] = ["Usage:", "tip:", "For more information"];

/// Prints the help or version that clap stopped for on stdout; gives a usage error as one line.
fn usage(error: &clap::Error) -> Result<u8> {
    let text = error.render().to_string();
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        report::print(&text);
        return Ok(Code::Done as u8);
    }
    let message: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !USAGE_TAIL.iter().any(|tail| line.starts_with(tail)))
        .filter(|line| !line.is_empty())
        .collect();
    let message = message.join(" ");
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "no command is given",
        _ => message.strip_prefix("error: ").unwrap_or(&message),
    };
    let remedy = profile_option(error).unwrap_or_else(|| "see hermes-s6 --help".to_owned());
    Err(Error::new(Code::Usage, message).remedy(remedy))
}

/// Gives the remedy for the name of a profile without its option: with the option, the command line can be parsed.
fn profile_option(error: &clap::Error) -> Option<String> {
    let ContextValue::String(name) = error.get(ContextKind::InvalidArg)? else {
        return None;
    };
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let place = words.iter().rposition(|word| **word == **name)?;
    words.insert(place, "-p".into());
    let is_it = error.kind() == ErrorKind::UnknownArgument && Cli::try_parse_from(words).is_ok();
    is_it.then(|| format!("name a profile with -p {name}"))
}
