//! The dashboard of Hermes: where it listens, and in which containers it is left out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hermes::container::Command;

/// The address of the dashboard, unless HERMES_DASHBOARD_HOST is set.
pub const HOST: &str = "127.0.0.1";

/// The port of the dashboard, unless HERMES_DASHBOARD_PORT is set.
pub const PORT: u16 = 9119;

/// What is said of a dashboard that has a login, but an address only by default.
pub const HIDDEN: &str = "HERMES_DASHBOARD_HOST is not set, so the dashboard is for this container alone, without a login";

/// What to do about that.
pub const HIDDEN_REMEDY: &str =
    "set it to 0.0.0.0 to publish the port, or to 127.0.0.1 if that is meant";

/// Where the dashboard listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dashboard {
    /// The address, or a name for it.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Writes it as what a browser opens.
impl fmt::Display for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        write!(f, "http://{open}{}{close}:{}", self.host, self.port)
    }
}

/// Tells why a container has no supervised dashboard, whatever its environment asks for; `None` if it may have one.
///
/// `no_supervise` says that every `gateway run` counts as one with `--no-supervise`.
pub fn left_out(command: &Command, no_supervise: bool) -> Option<String> {
    if let Some(role) = command.other_role {
        return Some(format!("the container's command is {role}"));
    }
    let gateway = command.gateway.as_ref()?;
    (no_supervise || !gateway.supervised)
        .then(|| "the container's command is a gateway of its own".to_owned())
}
