//! Changes of the volume as values: a command decides them, and the owner of the volume writes them.
//!
//! They travel as JSON from a root process to a child with the rights of the owner, see
//! [`rights`](crate::rights).

use serde::{Deserialize, Serialize};

use crate::hermes::name::ProfileName;
use crate::hermes::state::Wanted;
use crate::report::Warning;
use crate::volume::port::{Ports, Recorded};

/// The changes to write on the volume, with the rights of its owner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeChanges {
    /// Why the default profile gets a first state file; `None` if it gets none.
    pub seed: Option<Seed>,
    /// Leftover files to remove, each with the profile in whose home the file lies.
    pub remove: Vec<(ProfileName, String)>,
    /// Profiles whose log directory is to be made.
    pub log_directories: Vec<ProfileName>,
    /// The ports to record, if they have changed.
    pub ports: Option<NewPorts>,
    /// Lines for the boot log, without their time.
    pub boot_log: Vec<String>,
    /// Profiles whose gateway is to run because of what it wrote itself: this becomes the operator's intent.
    pub adopted: Vec<ProfileName>,
    /// New intents for profiles.
    pub intents: Vec<(ProfileName, Wanted)>,
    /// Gateways that are about to be stopped on purpose.
    pub planned_stops: Vec<PlannedStop>,
}

/// The ports to record, and the record that they were made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPorts {
    /// The record as it was read. If there is another one now, these ports are not recorded.
    pub seen: Recorded,
    /// The ports of all profiles.
    pub ports: Ports,
}

/// What has come of [`VolumeChanges`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Whether another container has recorded ports meanwhile: then nothing was written, since all was decided with
    /// other ports.
    pub is_overtaken: bool,
    /// A warning for each failure.
    pub failures: Vec<Warning>,
}

/// A gateway that is about to be stopped on purpose.
///
/// The gateway learns it from a file, see [`PLANNED_STOP_FILE`](crate::volume::write::PLANNED_STOP_FILE).
/// Otherwise it takes the signal for an accident, and says so to the people whom it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStop {
    /// The profile of the gateway.
    pub profile: ProfileName,
    /// The process of the gateway.
    pub pid: u32,
    /// The start time of this process, as field 22 of /proc/PID/stat.
    pub start: u64,
    /// The process that stops the gateway.
    pub stopper: u32,
}

/// Why the gateway of a default profile without a state file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seed {
    /// The container's command is `gateway run`.
    GatewayRun,
    /// The environment has HERMES_GATEWAY_BOOTSTRAP_STATE=running.
    Bootstrap,
}
