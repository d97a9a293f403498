//! What can be asked of gateways, and what can come of it.

use std::time::Duration;

use crate::error::Error;
use crate::hermes::state::Wanted;
use crate::tree::scandir::LOCK_WAIT;

/// What is to happen to gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// They are to run, now and after every start of the container.
    Start,
    /// They are to be down, now and after every start of the container.
    Stop,
    /// They are to run as new processes.
    Restart,
    /// They are to be down for now, because the container ends.
    Shutdown,
    /// They are to be down because their slots go.
    Remove,
}

impl Verb {
    /// Gives the intent that the volume is to have afterwards, where the verb changes it.
    pub fn intent(self) -> Option<Wanted> {
        match self {
            Self::Start | Self::Restart => Some(Wanted::Running),
            Self::Stop => Some(Wanted::Stopped),
            Self::Shutdown | Self::Remove => None,
        }
    }

    /// Tells whether it is about gateways that are to run.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Start | Self::Restart)
    }

    /// Tells whether the gateway is to know that it is stopped on purpose. At the end of a container it
    /// is not: it would write that it was stopped, where it is to be back.
    pub fn is_announced(self) -> bool {
        matches!(self, Self::Stop | Self::Remove)
    }

    /// Gives the text of the `down` file that the verb leaves in a slot, if it leaves one.
    pub fn down_text(self) -> Option<&'static str> {
        match self {
            Self::Stop => Some(STOPPED),
            Self::Shutdown => Some(SHUT_DOWN),
            Self::Start | Self::Restart | Self::Remove => None,
        }
    }
}

/// What the `down` file of a gateway says that its operator has stopped.
pub const STOPPED: &str = "Stopped by hermes-s6 stop.";

/// What the `down` file of a gateway says that is down because the container ends: no command that has
/// begun before starts it again. The next start of the tree removes the file.
pub const SHUT_DOWN: &str = "Stopped by hermes-s6 shutdown, until the tree is started again.";

/// What the `down` file of a gateway says that is to be started when its old process has ended. If the command
/// that waits for this is killed, the next reconcile starts the gateway, and not the next supervisor by itself.
pub const TO_BE_STARTED: &str = "To be started by hermes-s6 when its process has ended.";

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// What is to happen.
    pub verb: Verb,
    /// Whether the outcome is waited for.
    pub wait: bool,
    /// For how long, at most.
    pub timeout: Option<Duration>,
}

impl Request {
    /// Makes a request whose outcome is waited for, for as long as that usually takes.
    pub fn new(verb: Verb) -> Self {
        Self {
            verb,
            wait: true,
            timeout: None,
        }
    }

    /// Gives how long other commands may be waited for.
    pub fn limit(&self) -> Duration {
        self.timeout.unwrap_or(LOCK_WAIT)
    }
}

/// What came of a request for one gateway.
#[derive(Debug)]
pub enum End {
    /// It has got ready.
    Ready,
    /// It was ready before.
    WasReady,
    /// It has been told, and nobody waits for it.
    Told,
    /// It has gone down.
    Down,
    /// It has gone down by SIGKILL.
    Killed,
    /// It was down before.
    WasDown,
    /// It is down although it is to run.
    Lost,
    /// Another command did the opposite meanwhile.
    Overruled,
    /// It was still on its way when the time was over.
    TimedOut,
    /// It could not be told, since it has no slot with a supervisor.
    Unsupervised,
    /// It could not be told.
    Failed(Error),
}
