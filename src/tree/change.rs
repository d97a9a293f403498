//! What a plan is made of, as values: for each profile what happens, why, and in which steps.

use std::fmt;

use serde::Serialize;

use crate::error::{escaped_where, word};
use crate::hermes::name::ProfileName;
use crate::volume::changes::VolumeChanges;
use crate::volume::problem::Problem;

/// What happens to one profile, in the words of the boot log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The gateway starts, now or with the tree.
    Started,
    /// The profile has a slot, and the gateway stays down.
    Registered,
    /// Files of the slot are brought up to date; a running gateway uses them from its next start on.
    Updated,
    /// The gateway is stopped.
    Stopped,
    /// The slot is removed.
    Removed,
    /// The profile gets no slot.
    Skipped,
    /// The slot stays as it is, although something is wrong with the profile.
    Unchanged,
    /// The planned change could not be made.
    Failed,
}

/// One step of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// End the supervisors of the slot and remove it.
    Remove,
    /// Forget the status that an earlier supervisor left in the slot.
    Reset,
    /// Write the outdated files.
    Write(Vec<&'static str>),
    /// Remove temporary files that a killed run has left.
    Sweep(Vec<String>),
    /// Add the `down` file.
    MarkDown,
    /// Remove the `down` file.
    UnmarkDown,
    /// Build a new slot and give it its name.
    Publish {
        /// Whether the slot gets a `down` file, so that the gateway stays down.
        down: bool,
    },
    /// Tell the supervisor to bring the gateway up.
    Up,
    /// Tell the supervisor to bring the gateway down.
    Down,
}

/// The change for one profile, and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The name of the profile, or of a directory that cannot be a profile.
    pub profile: String,
    /// The name of the profile; `None` for a directory that cannot be a profile.
    pub name: Option<ProfileName>,
    /// The state on the volume before the change.
    pub prior_state: Option<String>,
    /// What happens.
    pub action: Action,
    /// Why it happens, in one word, if the state alone does not explain it.
    pub reason: Option<String>,
    /// A sentence for a person, if something is wrong.
    pub warning: Option<String>,
    /// The steps of the change, in this order.
    pub steps: Vec<Step>,
}

/// All changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes of slots: removals first, then the profiles in order, then the skipped directories.
    pub changes: Vec<Change>,
    /// The changes of the volume, to be written before the slots change.
    pub volume: VolumeChanges,
}

impl Plan {
    /// Tells whether there is nothing to do. A skipped profile is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(|change| change.steps.is_empty())
            && self.volume == VolumeChanges::default()
    }

    /// Says which intents are written down that were taken from `gateway_state`; `None` if there are none.
    pub fn adopted(&self) -> Option<String> {
        let names = &self.volume.adopted;
        let list: Vec<&str> = names.iter().map(ProfileName::as_str).collect();
        (!list.is_empty()).then(|| format!("desired_state=running for {}", list.join(", ")))
    }
}

impl Change {
    /// Makes the change for a directory that looks like a profile and gets no slot.
    pub fn without_slot(name: &str, problem: Problem) -> Self {
        Self {
            profile: name.to_owned(),
            name: None,
            prior_state: None,
            action: Action::Skipped,
            reason: Some(problem.reason),
            warning: Some(problem.text),
            steps: Vec::new(),
        }
    }

    /// Makes a change without steps.
    pub fn new(name: &ProfileName, prior_state: Option<String>, action: Action) -> Self {
        Self {
            profile: name.to_string(),
            name: Some(name.clone()),
            prior_state,
            action,
            reason: None,
            warning: None,
            steps: Vec::new(),
        }
    }
}

/// Writes a change as one line, for stdout and for the boot log.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names are printable already; a state is as it stands on the volume.
        let state = self.prior_state.as_deref();
        let state = state.map(|state| state.replace('\\', "\\\\"));
        write!(
            f,
            "profile={} prior_state={} action={}",
            value(&self.profile),
            state.map_or_else(|| "None".to_owned(), |state| value(&state)),
            word(&self.action)
        )?;
        match &self.reason {
            Some(reason) => write!(f, " reason={}", value(reason)),
            None => Ok(()),
        }
    }
}

/// Quotes a value unless it is a plain word, so that a reader sees where it ends.
fn value(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-=".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    let quoted = escaped_where(text.as_bytes(), |c| c.is_control() || c == '"');
    format!("\"{quoted}\"")
}
