//! What is to be written on the volume, as values: decided by whoever may, written by its owner.

use serde::{Deserialize, Serialize};

use crate::hermes::name::ProfileName;
use crate::hermes::state::Wanted;
use crate::volume::port::Ports;

/// What is to be written on the volume, with the rights of its owner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeChanges {
    /// Where the default profile's first intent comes from, if it gets one.
    pub seed: Option<Seed>,
    /// Leftovers to remove, each with the profile in whose home it lies.
    pub remove: Vec<(ProfileName, String)>,
    /// Profiles whose log directory is to be made.
    pub log_directories: Vec<ProfileName>,
    /// The ports to remember, if they are other than before.
    pub ports: Option<Ports>,
    /// Lines for the boot log, without their time.
    pub boot_log: Vec<String>,
    /// What operators want from now on.
    pub intents: Vec<(ProfileName, Wanted)>,
    /// Gateways that are about to be stopped on purpose.
    pub planned_stops: Vec<PlannedStop>,
}

/// A gateway that is about to be stopped on purpose. Unless it is told, the gateway takes the signal for an
/// accident, and says so to the people whom it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStop {
    /// Its profile.
    pub profile: ProfileName,
    /// Its process.
    pub pid: u32,
    /// When that started, as field 22 of /proc/PID/stat.
    pub start: u64,
    /// The process that stops it.
    pub stopper: u32,
}

/// Why a default profile without a state file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seed {
    /// The container's command is `gateway run`.
    GatewayRun,
    /// HERMES_GATEWAY_BOOTSTRAP_STATE=running.
    Bootstrap,
}
