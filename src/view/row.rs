//! The status as values: a row for each profile, to be written as a table, as JSON or as metrics.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::error::{Code, word};
use crate::hermes::name::ProfileName;
use crate::hermes::state::Intent;
use crate::s6::supervision::Death;
use crate::system::time::timestamp;
use crate::tree::detect::Detection;
use crate::tree::logger::Logger;
use crate::volume::log::{Fault, LogPlace};

/// The state of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The gateway is up and serves.
    Ready,
    /// The gateway has been up for a minute or more, but is not ready.
    Up,
    /// The gateway gets ready, or is between two starts.
    Starting,
    /// The gateway ends again and again, and its next start may be held back.
    Restarting,
    /// The gateway is up, but does not serve any more, by what it writes itself.
    Unresponsive,
    /// The gateway waits for the lock of its home, which another process holds.
    WaitingForLock,
    /// The gateway is up and about to end.
    Stopping,
    /// The gateway is down, because it was told to go down.
    Down,
    /// The gateway is down, because the `finish` script gave it up.
    Parked,
    /// The gateway has a slot, but no supervisor.
    Unsupervised,
    /// The gateway has no slot.
    Unregistered,
    /// What the gateway does cannot be told.
    Unknown,
}

impl State {
    /// Gives the word of the JSON for this state, with spaces instead of underscores.
    pub fn words(self) -> String {
        word(&self).replace('_', " ")
    }
}

/// The status of one profile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The name of the profile.
    pub profile: ProfileName,
    /// The state of the gateway.
    pub state: State,
    /// Why the gateway is in this state, if the state does not explain itself.
    pub reason: Option<String>,
    /// A sentence, if the state is not what the operator wants: the difference, the reason and the remedy.
    pub warning: Option<String>,
    /// The command that brings the gateway to the wanted state.
    pub remedy: Option<String>,
    /// The process of the gateway.
    pub pid: Option<u32>,
    /// How long the gateway has been up or down, in seconds.
    pub seconds: Option<u64>,
    /// How the last process of the gateway ended, as far as the supervisor remembers.
    pub last_exit: Option<Death>,
    /// Whether the gateway has been restarting for longer than a crash loop takes.
    #[serde(skip)]
    pub is_lasting: bool,
    /// How many processes of the gateway have ended in the last two minutes.
    pub restarts: Option<usize>,
    /// The operator's intent, as the state file has it.
    pub intent: Option<String>,
    /// Why the intent is not known; `None` if it is, or if there is none.
    pub intent_problem: Option<String>,
    /// Whether the operator wants the gateway to run, and nothing in this container holds it down.
    pub wanted: bool,
    /// The port of the API server.
    pub port: Option<u16>,
    /// The log of the gateway; `None` while no process of it runs here, or if it cannot be told.
    pub log: Option<Log>,
    /// The paths of the profile.
    pub paths: Paths,
    /// What a browser opens, if this is the dashboard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What a person should know about the profile: the warning, or why the gateway is held down.
    #[serde(skip)]
    pub note: Option<String>,
    /// When the gateway last went up or down, in seconds since 1970.
    #[serde(skip)]
    pub changed: Option<u64>,
}

/// The log of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// Whether what the gateway says is written into its log directory.
    pub written: bool,
    /// Why it is not.
    pub reason: Option<String>,
    /// When the log was last written, in seconds since 1970, if it is not written now.
    pub since: Option<u64>,
    /// What a person can do about it.
    pub remedy: Option<String>,
    /// How often a logger could not write all that it had, since the supervisor of the logger has started.
    pub losses: usize,
}

/// The paths of a profile. Only the home must exist.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Paths {
    /// The home of the profile.
    pub home: String,
    /// The slot, which is the service directory.
    pub slot: String,
    /// The log directory.
    pub log: String,
}

impl Log {
    /// Says what a logger does, whose log directory is `place`, and what is wrong with it.
    pub fn of(logger: &Logger, place: &LogPlace, fault: Option<Fault>) -> Self {
        Self {
            written: fault.is_none(),
            since: fault.as_ref().and(place.written),
            reason: fault.as_ref().map(|fault| fault.cause.clone()),
            remedy: fault.map(|fault| fault.remedy),
            losses: logger.losses,
        }
    }
}

impl Row {
    /// Makes the row of a profile, of whose gateway nothing has been seen yet.
    pub fn new(profile: ProfileName, intent: &Intent, port: Option<u16>, paths: Paths) -> Self {
        Self {
            profile,
            state: State::Unregistered,
            reason: None,
            warning: None,
            remedy: None,
            pid: None,
            seconds: None,
            last_exit: None,
            is_lasting: false,
            restarts: None,
            intent: intent.state.clone(),
            intent_problem: None,
            wanted: intent.wants_running(),
            port,
            log: None,
            paths,
            url: None,
            note: None,
            changed: None,
        }
    }

    /// Tells whether the gateway should run, but does not.
    pub fn is_missing(&self) -> bool {
        self.wanted
            && match self.state {
                State::Ready | State::Up | State::Starting => false,
                State::Restarting => self.is_lasting,
                _ => true,
            }
    }

    /// Tells whether the gateway is as ready as it should be.
    pub fn is_ready_if_wanted(&self) -> bool {
        self.intent_problem.is_none() && (!self.wanted || self.state == State::Ready)
    }

    /// Tells whether something is not as it should be: the gateway does not run, its log is not written, or it is not
    /// known what the operator wants.
    pub fn is_wrong(&self) -> bool {
        self.is_missing() || self.log_note().is_some() || self.intent_problem.is_some()
    }

    /// Says that the intent of the operator is not known, and why; `None` if it is.
    pub fn intent_note(&self) -> Option<String> {
        let problem = self.intent_problem.as_ref()?;
        Some(format!(
            "{} has an intent that is not known: {problem}",
            self.profile
        ))
    }

    /// Says that the log of the gateway is not written, since when and why; `None` if it is.
    pub fn log_note(&self) -> Option<String> {
        let log = self.log.as_ref().filter(|log| !log.written)?;
        let since = log.since.map_or_else(String::new, |since| {
            let since = SystemTime::UNIX_EPOCH + Duration::from_secs(since);
            format!(" since {}", timestamp(since))
        });
        let reason = log.reason.as_deref().unwrap_or_default();
        Some(format!(
            "{} log: not written{since}, {reason}",
            self.profile
        ))
    }
}

impl Report {
    /// Gives the exit code of what shows this.
    pub fn code(&self) -> Code {
        if self.volume.is_some() {
            return Code::System;
        }
        let mut rows = self.profiles.iter().chain(&self.dashboard);
        Code::of(!rows.any(Row::is_wrong))
    }

    /// Gives the exit code of the question whether all that is wanted is ready.
    pub fn code_of_ready(&self) -> Code {
        if self.volume.is_some() {
            return Code::System;
        }
        let mut rows = self.profiles.iter().chain(&self.dashboard);
        Code::of(self.manager.is_s6() && rows.all(Row::is_ready_if_wanted))
    }
}

/// The status of all profiles.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Whether s6 supervises the gateways, and why we think so.
    #[serde(flatten)]
    pub manager: Detection,
    /// Why the volume could not be read; then nothing is known of intents, ports and logs.
    pub volume: Option<String>,
    /// A row for each profile or slot: `default`, then the others by name.
    pub profiles: Vec<Row>,
    /// The dashboard; `None` if the tree has none, or if it was not asked for.
    pub dashboard: Option<Row>,
}
