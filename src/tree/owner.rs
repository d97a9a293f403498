//! Whom a scan directory is for, and what its slots are made with.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::process::stat_field;
use crate::system::root::identity;

/// The file in a scan directory that says that its gateways are ours, and what they were made with.
pub const OWNER_FILE: &str = ".hermes-s6";

/// What a scan directory was made for, written into it when it is first filled.
///
/// A later caller, perhaps with another `PATH`, finds the same programs in it, and a second data root is not
/// taken for the first one with all profiles gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The data root whose profiles have their slots here.
    pub home: PathBuf,
    /// The instance of the machine or container that filled it.
    pub instance: String,
    /// What its slots were made with.
    pub choices: Choices,
}

impl Owner {
    /// Tells whether the scan directory was made for the data root of the settings, by whatever path: the two
    /// are the same directory.
    pub fn serves(&self, settings: &Settings) -> bool {
        let identity = |home: &Path| identity(&settings.root.at(home));
        self.home == settings.home
            || identity(&self.home).is_some_and(|home| Some(home) == identity(&settings.home))
    }

    /// Tells whether the scan directory was filled by this instance of the machine or container.
    pub fn is_of_this_instance(&self, settings: &Settings) -> bool {
        self.instance == instance(settings)
    }
}

/// What slots are made with, besides the profiles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices {
    /// The programs that they name.
    pub tools: Tools,
    /// How long a gateway may take to stop, in seconds.
    pub stop_timeout: u64,
}

impl Choices {
    /// Takes the programs, and the rest from the settings.
    pub fn new(settings: &Settings, tools: Tools) -> Self {
        Self {
            tools,
            stop_timeout: settings.stop_timeout.as_secs(),
        }
    }

    /// Gives the time that a gateway may take to stop.
    pub fn stop_timeout(&self) -> Duration {
        Duration::from_secs(self.stop_timeout)
    }
}

/// Names this instance of the machine or container: another one has another PID 1.
pub fn instance(settings: &Settings) -> String {
    let read = |path: &str| fs::read_to_string(settings.root.at(path)).unwrap_or_default();
    let start = stat_field(&settings.root, "1", 22);
    format!(
        "{} {}",
        read("/proc/sys/kernel/random/boot_id").trim(),
        start.as_deref().unwrap_or("-")
    )
}

#[cfg(test)]
mod tests;
