//! A request for gateways, such as start or stop, and how it can end for each of them.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::hermes::state::Wanted;
use crate::tree::scandir::LOCK_WAIT;

/// What shall happen to the gateways of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The gateways run, now and after every start of the container.
    Start,
    /// The gateways are down, now and after every start of the container.
    Stop,
    /// The gateways run as new processes.
    Restart,
    /// The gateways are down until the tree starts again, because the container ends.
    Shutdown,
    /// The gateways are down, because their slots are about to be removed.
    Remove,
}

impl Verb {
    /// Gives the intent to write on the volume; `None` if the verb does not change it.
    pub fn intent(self) -> Option<Wanted> {
        match self {
            Self::Start | Self::Restart => Some(Wanted::Running),
            Self::Stop => Some(Wanted::Stopped),
            Self::Shutdown | Self::Remove => None,
        }
    }

    /// Tells whether the gateways shall run afterwards.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Start | Self::Restart)
    }

    /// Tells whether a gateway is told that it is stopped on purpose.
    ///
    /// At the end of a container it is not told: it would write that it was stopped, but it shall run again.
    pub fn is_announced(self) -> bool {
        matches!(self, Self::Stop | Self::Remove)
    }

    /// Gives the text of the `down` file that the verb leaves in a slot; `None` if it leaves no such file.
    pub fn down_text(self) -> Option<&'static str> {
        match self {
            Self::Stop => Some(STOPPED),
            Self::Shutdown => Some(SHUT_DOWN),
            Self::Start | Self::Restart | Self::Remove => None,
        }
    }
}

/// The text of the `down` file if the operator has stopped the gateway.
pub const STOPPED: &str = "Stopped by hermes-s6 stop.";

/// The text of the `down` file if the gateway is down because the container ends.
///
/// A command that has begun earlier does not start such a gateway again. The next start of the tree removes the
/// file.
pub const SHUT_DOWN: &str = "Stopped by hermes-s6 shutdown, until the tree is started again.";

/// The text of the `down` file while a command waits for the old process to end, to start the gateway then.
///
/// If this command is killed, the next reconcile starts the gateway. Without the file, the next supervisor would.
pub const TO_BE_STARTED: &str = "To be started by hermes-s6 when its process has ended.";

/// A request for gateways.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// What shall happen.
    pub verb: Verb,
    /// Whether the command waits for the gateways to get ready or to end.
    pub wait: bool,
    /// How long the command may take, with all its waits; `None` for as long as the gateways may usually take.
    pub timeout: Option<Duration>,
    /// When the command began.
    pub begun: Instant,
}

impl Request {
    /// Makes a request that waits for as long as the gateways may usually take.
    pub fn new(verb: Verb) -> Self {
        Self {
            verb,
            wait: true,
            timeout: None,
            begun: Instant::now(),
        }
    }

    /// Gives how long the request may wait for other commands to release the lock of the scan directory.
    pub fn limit(&self) -> Duration {
        self.left().unwrap_or(LOCK_WAIT)
    }

    /// Gives how much of the timeout is left.
    pub fn left(&self) -> Option<Duration> {
        let timeout = self.timeout?;
        Some(timeout.saturating_sub(self.begun.elapsed()))
    }
}

/// How a request has ended for one gateway.
#[derive(Debug)]
pub enum End {
    /// The gateway has become ready.
    Ready,
    /// The gateway was ready before.
    WasReady,
    /// s6 has its order, and the request does not wait for the gateway.
    Told,
    /// The gateway has gone down.
    Down,
    /// The gateway has gone down by SIGKILL.
    Killed,
    /// The gateway was down before.
    WasDown,
    /// The gateway has gone down, but should run.
    Lost,
    /// Another command has ordered the opposite meanwhile.
    Overruled,
    /// The time was over before the gateway was ready or down.
    TimedOut,
    /// The gateway has no slot with a supervisor, so that nothing can be ordered.
    Unsupervised,
    /// The gateway could not be looked at.
    Unseen(Error),
    /// The order has failed.
    Failed(Error),
}
