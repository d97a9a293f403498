//! The status as values: a row for each profile, before it is written for people or programs.

use serde::Serialize;

use crate::error::word;
use crate::hermes::name::ProfileName;
use crate::s6::supervision::Death;
use crate::tree::detect::Detection;

/// What a gateway is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is up and serves.
    Ready,
    /// It is up, and has not got ready for a minute.
    Up,
    /// It is about to get ready, or between two starts.
    Starting,
    /// It waits for a gateway elsewhere that has the profile's lock.
    WaitingForLock,
    /// It is up and about to end.
    Stopping,
    /// It is down, as it was told to be.
    Down,
    /// It is down because it failed for good.
    Parked,
    /// It has a slot, and no supervisor.
    Unsupervised,
    /// It has no slot.
    Unregistered,
}

impl State {
    /// Gives the state in words: those of the JSON, with spaces.
    pub fn words(self) -> String {
        word(&self).replace('_', " ")
    }
}

/// One profile's line of the status.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub profile: ProfileName,
    /// What its gateway does.
    pub state: State,
    /// Why, where the state does not say it.
    pub reason: Option<String>,
    /// What is not as its operator wants it, why, and what to do, as a sentence.
    pub warning: Option<String>,
    /// The command that makes it so.
    pub remedy: Option<String>,
    /// The process of the gateway.
    pub pid: Option<u32>,
    /// For how long it has been up or down, in seconds.
    pub seconds: Option<u64>,
    /// How the last process ended, as far as the supervisor remembers.
    pub last_exit: Option<Death>,
    /// How often a process has ended in the last two minutes.
    pub restarts: Option<usize>,
    /// What the operator last asked for, as the state file has it.
    pub intent: Option<String>,
    /// Whether that means that it is to run, and nothing here holds it down.
    pub wanted: bool,
    /// The port of its API server.
    pub port: Option<u16>,
    /// Where its things are.
    pub paths: Paths,
    /// What a person should know of it: the warning, or why it is held down.
    #[serde(skip)]
    pub note: Option<String>,
    /// When it last went up or down, in seconds since 1970.
    #[serde(skip)]
    pub changed: Option<u64>,
}

/// Where the things of a profile are; all but the home may be missing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Paths {
    /// Its home.
    pub home: String,
    /// Its service directory.
    pub slot: String,
    /// The directory of its log.
    pub log: String,
}

impl Row {
    /// Tells whether a gateway that should run does not.
    pub fn is_missing(&self) -> bool {
        self.wanted && !matches!(self.state, State::Ready | State::Up | State::Starting)
    }
}

/// The status of all profiles.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Who supervises, and how we know.
    #[serde(flatten)]
    pub manager: Detection,
    /// A row for each profile or slot: `default`, then the others by name.
    pub profiles: Vec<Row>,
}
