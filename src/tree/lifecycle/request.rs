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

/// The number of gateways that are told something under one lock of the scan directory.
const BATCH: usize = 50;

/// The descriptors that a restart needs beside one for each gateway.
const OTHER_DESCRIPTORS: usize = 16;

/// Gives how many gateways are told something before other commands get the lock again; and whether they have to
/// end what they do before the next ones are told.
///
/// A restart holds a lock, and so a descriptor, for each gateway; `descriptors` is the limit, `None` if there is none.
pub fn batch(gateways: usize, verb: Verb, descriptors: Option<u64>) -> (usize, bool) {
    let limit = descriptors.and_then(|limit| usize::try_from(limit).ok());
    let room = limit.map_or(usize::MAX, |limit| limit.saturating_sub(OTHER_DESCRIPTORS));
    match verb {
        Verb::Shutdown => (gateways.max(1), false),
        Verb::Restart if room < gateways => (room.clamp(1, BATCH), true),
        _ => (BATCH, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_gateways_are_told_in_batches_and_a_shutdown_tells_all_at_once() {
        #[rustfmt::skip]
        let rows = [
            (2_000, Verb::Start, Some(20), (50, false), "to start needs no descriptor for each"),
            (2_000, Verb::Stop, Some(1_024), (50, false), "others get the lock in between"),
            (2_000, Verb::Shutdown, Some(20), (2_000, false), "a container that ends does not wait for others"),
            (0, Verb::Shutdown, None, (1, false), "there is no batch of none"),
            (2_000, Verb::Restart, None, (50, false), "there are enough descriptors"),
            (2_000, Verb::Restart, Some(1_024), (50, true), "there are not"),
            (40, Verb::Restart, Some(20), (4, true), "there are few"),
            (40, Verb::Restart, Some(7), (1, true), "one is always tried"),
        ];
        for (gateways, verb, descriptors, expected, sentence) in rows {
            assert_eq!(batch(gateways, verb, descriptors), expected, "{sentence}");
        }
    }
}
