//! The slot: the service directory of one profile's gateway, rendered from `templates/`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::time::Duration;

use askama::Template;
use sha2::{Digest, Sha256};

use crate::error::{Code, Error, Result};
use crate::hermes::name::ProfileName;
use crate::s6::supervision::{CRASH_LOOP_DEATHS, CRASH_LOOP_WINDOW};
use crate::s6::tool::Tools;
use crate::s6::word::Word;
use crate::settings::{CONTAINER_ENVIRONMENT, Settings};
use crate::tree::scandir::Choices;

/// The file that says that hermes-s6 made a slot, and what of: nothing without it is ever removed.
pub const MARKER: &str = "data/hermes-s6";

/// The exit code of a gateway whose lock is held elsewhere: EX_UNAVAILABLE of sysexits.h, which
/// Hermes itself does not use.
pub const EXIT_LOCKED: u8 = 69;

/// How long a logger may take to end after its gateway.
pub const LOGGER_MARGIN: Duration = Duration::from_secs(5);

/// One file of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The permission bits.
    pub mode: u32,
    /// The content.
    pub content: Vec<u8>,
}

/// The files of a slot by their path in it, without `down`, which is intent and not form.
pub type Files = BTreeMap<&'static str, File>;

/// The files of all slots.
pub type Rendered = BTreeMap<ProfileName, Files>;

/// Renders the slots of one data root, all alike.
#[derive(Debug)]
pub struct Renderer<'a> {
    settings: &'a Settings,
    tools: &'a Tools,
    stop_timeout: Duration,
    /// The user to drop to, if the slots are supervised by root.
    drop_to: Option<&'a str>,
}

impl<'a> Renderer<'a> {
    /// Prepares to render; `drop_to` names the user of the direct layout, and a gateway has
    /// `stop_timeout` to end.
    pub fn new(settings: &'a Settings, choices: &'a Choices, drop_to: Option<&'a str>) -> Self {
        Self {
            settings,
            tools: &choices.tools,
            stop_timeout: choices.stop_timeout(),
            drop_to,
        }
    }

    /// Renders the slot of a profile; `port` is the one that it was given.
    ///
    /// The same input gives the same bytes: no dates, no versions, nothing random.
    pub fn render(&self, profile: &ProfileName, port: Option<u16>) -> Result<Files> {
        let milliseconds = self.stop_timeout.as_millis();
        let word = |value: &OsStr| Word::new(value);
        let execline = word(self.tools.execline.as_os_str());
        let s6 = word(self.tools.s6.as_os_str());
        let hermes_s6 = word(self.tools.hermes_s6.as_os_str());
        let home = word(self.settings.home_of(profile).as_os_str());
        let drop_to = self.drop_to.map(Word::new);
        let mut files = Files::new();
        let mut add = |path, mode, text: askama::Result<String>| {
            let mut text = text.map_err(|_| {
                Error::new(
                    Code::Usage,
                    "a path or name with a NUL or non-byte cannot be rendered",
                )
            })?;
            // askama drops the last newline of a template.
            text.push('\n');
            files.insert(
                path,
                File {
                    mode,
                    content: text.into_bytes(),
                },
            );
            Ok(())
        };
        let run = Run {
            execline: &execline,
            s6: &s6,
            hermes_s6: &hermes_s6,
            hermes: word(self.tools.hermes.as_os_str()),
            container_environment: CONTAINER_ENVIRONMENT,
            data_root: word(self.settings.home.as_os_str()),
            home: &home,
            profile: profile.as_str(),
            named: !profile.is_default(),
            milliseconds,
            drop_to: drop_to.as_ref(),
        };
        add("run", 0o755, run.render())?;
        let finish = Finish {
            execline: &execline,
            s6: &s6,
            locked: EXIT_LOCKED,
            window: CRASH_LOOP_WINDOW.as_secs(),
            deaths: CRASH_LOOP_DEATHS,
        };
        add("finish", 0o755, finish.render())?;
        let log = LogRun {
            execline: &execline,
            s6: &s6,
            hermes_s6: &hermes_s6,
            directory: word(self.settings.log_of(profile).as_os_str()),
            slot: &profile.slot(),
            profile: profile.as_str(),
            milliseconds: milliseconds + LOGGER_MARGIN.as_millis(),
            drop_to: drop_to.as_ref(),
        };
        add("log/run", 0o755, log.render())?;
        let check = Check {
            execline: &execline,
            s6: &s6,
            hermes_s6: &hermes_s6,
            home: &home,
            drop_to: drop_to.as_ref(),
        };
        add("data/check", 0o755, check.render())?;
        add("timeout-kill", 0o644, TimeoutKill { milliseconds }.render())?;
        add("type", 0o644, Type.render())?;
        add("notification-fd", 0o644, NotificationFd.render())?;
        add("max-death-tally", 0o644, MaxDeathTally.render())?;
        add("log/notification-fd", 0o644, LogNotificationFd.render())?;
        add("log/down-signal", 0o644, LogDownSignal.render())?;
        if let Some(port) = port {
            add(
                "env/API_SERVER_PORT",
                0o644,
                ApiServerPort { port }.render(),
            )?;
        }
        let digest = digest(&files);
        let marker = Marker {
            profile: profile.as_str(),
            digest: &digest,
        };
        files.insert(
            MARKER,
            File {
                mode: 0o644,
                content: line(marker.render())?,
            },
        );
        Ok(files)
    }
}

/// Renders the `down` file: s6 looks only whether it is there, a person reads why.
pub fn down(reason: &str) -> Result<File> {
    Ok(File {
        mode: 0o644,
        content: line(Down { reason }.render())?,
    })
}

fn line(text: askama::Result<String>) -> Result<Vec<u8>> {
    let text = text.map_err(|error| Error::new(Code::Bug, error.to_string()))?;
    Ok((text + "\n").into_bytes())
}

/// Gives one digest for all files of a slot: their paths, modes and content.
fn digest(files: &Files) -> String {
    let mut hash = Sha256::new();
    for (path, file) in files {
        hash.update(format!("{path}\n{:o} {}\n", file.mode, file.content.len()));
        hash.update(&file.content);
    }
    hash.finalize()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

#[derive(Template)]
#[template(path = "run.execline")]
struct Run<'a> {
    execline: &'a Word,
    s6: &'a Word,
    hermes_s6: &'a Word,
    hermes: Word,
    container_environment: &'a str,
    data_root: Word,
    home: &'a Word,
    profile: &'a str,
    named: bool,
    milliseconds: u128,
    drop_to: Option<&'a Word>,
}

#[derive(Template)]
#[template(path = "finish.execline")]
struct Finish<'a> {
    execline: &'a Word,
    s6: &'a Word,
    locked: u8,
    window: u64,
    deaths: usize,
}

#[derive(Template)]
#[template(path = "log/run.execline")]
struct LogRun<'a> {
    execline: &'a Word,
    s6: &'a Word,
    hermes_s6: &'a Word,
    directory: Word,
    slot: &'a str,
    profile: &'a str,
    milliseconds: u128,
    drop_to: Option<&'a Word>,
}

#[derive(Template)]
#[template(path = "data/check.execline")]
struct Check<'a> {
    execline: &'a Word,
    s6: &'a Word,
    hermes_s6: &'a Word,
    home: &'a Word,
    drop_to: Option<&'a Word>,
}

#[derive(Template)]
#[template(path = "timeout-kill", escape = "none")]
struct TimeoutKill {
    milliseconds: u128,
}

#[derive(Template)]
#[template(path = "type", escape = "none")]
struct Type;

#[derive(Template)]
#[template(path = "notification-fd", escape = "none")]
struct NotificationFd;

#[derive(Template)]
#[template(path = "max-death-tally", escape = "none")]
struct MaxDeathTally;

#[derive(Template)]
#[template(path = "log/notification-fd", escape = "none")]
struct LogNotificationFd;

#[derive(Template)]
#[template(path = "log/down-signal", escape = "none")]
struct LogDownSignal;

#[derive(Template)]
#[template(path = "env/API_SERVER_PORT", escape = "none")]
struct ApiServerPort {
    port: u16,
}

#[derive(Template)]
#[template(path = "data/hermes-s6", escape = "none")]
struct Marker<'a> {
    profile: &'a str,
    digest: &'a str,
}

#[derive(Template)]
#[template(path = "down", escape = "none")]
struct Down<'a> {
    reason: &'a str,
}
