//! The owner file of a scan directory: whose gateways the directory has, and what its slots were made with.
//!
//! It is written when the scan directory is first filled. A later caller, perhaps with another `PATH`, reads
//! the same programs from it. A caller with another data root is refused: it would find none of the profiles, and
//! remove their slots.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hermes::container::Command;
use crate::hermes::dashboard::{Dashboard, left_out};
use crate::rights::ask::reach;
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::process::{START_TIME, field, proc_if_seen};
use crate::system::root::identity;

/// The name of the owner file in a scan directory.
pub const OWNER_FILE: &str = ".hermes-s6";

/// The content of the owner file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The data root whose profiles have their slots in the scan directory.
    pub home: PathBuf,
    /// The instance of the machine or container that last filled the scan directory, see [`instance`].
    pub instance: String,
    /// What the slots were made with.
    pub choices: Choices,
}

impl Owner {
    /// Tells whether the scan directory has the gateways of the settings' data root, by whatever path that is
    /// named.
    ///
    /// It is an error if that cannot be told, since one of the two does not answer.
    pub fn serves(&self, settings: &Settings) -> crate::error::Result<bool> {
        if self.home == settings.home {
            return Ok(true);
        }
        let identity = |home: &Path| {
            reach(settings, home)?;
            Ok(identity(&settings.root.at(home)))
        };
        let ours = identity(&settings.home)?;
        Ok(ours.is_some() && ours == identity(&self.home)?)
    }

    /// Tells whether the scan directory was filled by this instance of the machine or container.
    pub fn is_of_this_instance(&self, settings: &Settings) -> crate::error::Result<bool> {
        Ok(self.instance == instance(settings)?)
    }
}

/// What slots are made with, apart from the profiles. All slots of a tree have the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices {
    /// The programs that the scripts name.
    pub tools: Tools,
    /// How long a gateway may take to stop, in seconds.
    pub stop_timeout: u64,
    /// Where the dashboard listens; `None` if the tree has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dashboard: Option<Dashboard>,
}

impl Choices {
    /// Makes the choices from these programs and from the settings.
    pub fn new(settings: &Settings, tools: Tools) -> Self {
        Self {
            tools,
            stop_timeout: settings.stop_timeout.as_secs(),
            dashboard: settings.dashboard.clone().filter(|_| {
                let command = Command::detect(&settings.root);
                left_out(&command, settings.no_supervise).is_none()
            }),
        }
    }

    /// Gives how long a gateway may take to stop.
    pub fn stop_timeout(&self) -> Duration {
        Duration::from_secs(self.stop_timeout)
    }
}

/// Gives a name for this instance of the machine or container: the boot id, and the start time of PID 1.
pub fn instance(settings: &Settings) -> crate::error::Result<String> {
    let read = |path: &str| -> crate::error::Result<String> {
        let bytes = proc_if_seen(&settings.root.at(path))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let start = field(&read("/proc/1/stat")?, START_TIME);
    Ok(format!(
        "{} {}",
        read("/proc/sys/kernel/random/boot_id")?.trim(),
        start.as_deref().unwrap_or("-")
    ))
}

#[cfg(test)]
mod tests;
