//! The tender: a service of the tree that looks after the loggers, every few seconds and at the end of the tree.

use std::path::Path;
use std::time::Duration;

use askama::Template;

use crate::error::Result;
use crate::s6::word::Word;
use crate::system::beneath::Dir;
use crate::tree::owner::Choices;
use crate::tree::slot::{Files, LOGGER_MARGIN, add};

/// The name of the service in a scan directory.
pub const TENDER: &str = "hermes-s6-tender";

/// How long the end of a tree may take after the last gateway, generously.
const END_MARGIN: Duration = Duration::from_secs(20);

/// Renders the service. `drop_to` is the user of the gateways, if root supervises them.
pub fn render(choices: &Choices, drop_to: Option<&str>) -> Result<Files> {
    let tools = &choices.tools;
    let word = |path: &Path| Word::new(path.as_os_str());
    let (execline, s6, hermes_s6) = (
        word(&tools.execline),
        word(&tools.s6),
        word(&tools.hermes_s6),
    );
    let drop_to = drop_to.map(Word::new);
    let drop_to = drop_to.as_ref();
    let limit = choices.stop_timeout() + LOGGER_MARGIN + END_MARGIN;
    let run = Run {
        execline: &execline,
        s6: &s6,
        hermes_s6: &hermes_s6,
        drop_to,
    };
    let finish = Finish {
        execline: &execline,
        s6: &s6,
        hermes_s6: &hermes_s6,
        drop_to,
    };
    let timeout = TimeoutFinish {
        milliseconds: limit.as_millis(),
    };
    let mut files = Files::new();
    for (path, mode, text) in [
        ("run", 0o755, run.render()),
        ("finish", 0o755, finish.render()),
        ("timeout-finish", 0o644, timeout.render()),
        ("type", 0o644, Type.render()),
    ] {
        add(&mut files, path, mode, text)?;
    }
    Ok(files)
}

/// Builds the service under a name that nobody reads yet.
pub fn build(scandir: &Dir, name: &str, files: &Files) -> Result<Dir> {
    let service = scandir.make_dir(name)?;
    service.set_mode(0o755)?;
    for (path, file) in files {
        service.create(path, &file.content, file.mode)?;
    }
    Ok(service)
}

#[derive(Template)]
#[template(path = "tender/run.execline")]
struct Run<'a> {
    execline: &'a Word,
    s6: &'a Word,
    hermes_s6: &'a Word,
    drop_to: Option<&'a Word>,
}

#[derive(Template)]
#[template(path = "tender/finish.execline")]
struct Finish<'a> {
    execline: &'a Word,
    s6: &'a Word,
    hermes_s6: &'a Word,
    drop_to: Option<&'a Word>,
}

#[derive(Template)]
#[template(path = "tender/timeout-finish", escape = "none")]
struct TimeoutFinish {
    milliseconds: u128,
}

#[derive(Template)]
#[template(path = "tender/type", escape = "none")]
struct Type;
