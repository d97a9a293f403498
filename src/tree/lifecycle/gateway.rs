//! The gateways of a request, as they are looked at: no slot stays open, only what is known of it.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::hermes::name::ProfileName;
use crate::report::Warning;
use crate::s6::storm::storm;
use crate::s6::supervision::{Status, deaths, supervised};
use crate::system::beneath::Dir;
use crate::system::root::Root;
use crate::tree::apply::is_signalled;
use crate::tree::lifecycle::request::{End, Request, Verb};
use crate::tree::lifecycle::target::{Seen, Target};
use crate::tree::remove::own_stop_timeout;
use crate::tree::scandir::ScanDir;

/// How long a start goes on with a gateway that cannot be looked at.
pub const UNSEEN_TIME: Duration = Duration::from_secs(5);

/// A gateway of a request, and its slot if it has one.
///
/// No slot stays open: with many gateways, there would not be enough descriptors.
#[derive(Debug)]
pub struct Gateway {
    /// How far the request has come.
    pub target: Target,
    /// When the request began for this gateway.
    pub begun: Instant,
    /// The inode of the slot, by which it is told from a later one with the same name.
    slot: Option<u64>,
    /// The slot, while we have its lock.
    locked: Option<Dir>,
    /// Why the gateway could not be looked at the last time.
    pub unseen: Option<Error>,
    /// Since when it could not be looked at.
    pub unseen_since: Option<Instant>,
    /// What went wrong, and does not end the request.
    pub warnings: Vec<Warning>,
}

/// The slots of one scan directory.
#[derive(Debug, Clone, Copy)]
pub struct Slots<'a> {
    /// The directory that stands for "/".
    pub root: &'a Root,
    /// The scan directory.
    pub scandir: &'a ScanDir,
}

impl Slots<'_> {
    /// Looks for the slot of a profile, whose gateway may take `budget` to end, unless its slot says otherwise.
    pub fn gateway(&self, name: &ProfileName, budget: Duration) -> Gateway {
        let mut gateway = Gateway {
            target: Target::new(name.clone(), budget, self.scandir.ours().is_ok()),
            begun: Instant::now(),
            slot: None,
            locked: None,
            unseen: None,
            unseen_since: None,
            warnings: Vec::new(),
        };
        let look = || -> Result<_> {
            let slot = self.scandir.slot(name)?;
            let is_ours = self.scandir.has_slot(name)?;
            Ok(slot.filter(|_| is_ours))
        };
        match look() {
            Ok(Some(slot)) => {
                gateway.slot = inode(&slot);
                if let Some(budget) = own_stop_timeout(&slot) {
                    gateway.target.budget = budget;
                }
            }
            Ok(None) => {}
            Err(error) => gateway.unseen = Some(error),
        }
        gateway
    }

    /// Opens the slot that a gateway had when the request began; `None` if it had none, or has it no more.
    pub fn slot(&self, gateway: &Gateway) -> Result<Option<Dir>> {
        let Some(expected) = gateway.slot else {
            return Ok(None);
        };
        let slot = self.scandir.slot(&gateway.target.name)?;
        Ok(slot.filter(|slot| inode(slot) == Some(expected)))
    }

    /// Reads the status that s6 has; `None` without a slot or a supervisor.
    pub fn status(&self, gateway: &Gateway) -> Result<Option<Status>> {
        let Some(slot) = self.slot(gateway)? else {
            return Ok(None);
        };
        let seen = supervised(self.root, &slot)?;
        Ok(seen.map(|(status, _supervisor)| status))
    }

    /// Looks at a gateway, as far as its target needs it for the next decision.
    pub fn look(&self, gateway: &mut Gateway, start: Instant, verb: Verb) -> Result<Seen> {
        if let Some(error) = gateway.unseen.take().filter(|_| gateway.slot.is_none()) {
            return Err(error);
        }
        let slot = self.slot(gateway)?;
        let status = match &slot {
            Some(slot) => supervised(self.root, slot)?,
            None => None,
        };
        let status = status.map(|(status, _supervisor)| status);
        let mut seen = Seen {
            // After the look at the status: no process has started later than now.
            now: SystemTime::now(),
            elapsed: start.elapsed(),
            status,
            has_slot: false,
            is_signalled: false,
            has_lock: false,
            is_held_back: false,
            last_death: None,
        };
        let (Some(status), Some(slot)) = (&seen.status, slot) else {
            seen.has_slot = gateway.slot.is_some() && self.slot(gateway)?.is_some();
            return Ok(seen);
        };
        if status.is_down() {
            seen.last_death = deaths(&slot)?.pop().map(|(_, death)| death);
        }
        if gateway.target.asks_for_storm(status, verb) {
            let age = seen.now.duration_since(status.since).unwrap_or_default();
            // Without the deaths, it is started as usual.
            let storm = deaths(&slot).ok().and_then(|deaths| storm(&deaths));
            seen.is_held_back = storm.is_some_and(|storm| age < storm.back_off);
        }
        if gateway.target.asks_for_signal(status, verb) {
            seen.is_signalled = self.is_signalled(gateway, &slot, status)?;
        }
        if gateway
            .target
            .asks_for_lock(status, seen.is_signalled, verb)
        {
            seen.has_lock = gateway.try_lock(slot)?;
        }
        Ok(seen)
    }

    /// Tells whether another command has sent SIGTERM to the process of a gateway.
    fn is_signalled(&self, gateway: &mut Gateway, slot: &Dir, status: &Status) -> Result<bool> {
        if self.scandir.ours().is_ok() {
            return is_signalled(slot, status);
        }
        // In a slot that is not ours, no command can remember a signal. But a restart at work holds its lock.
        let is_free = gateway.try_lock(slot.dir(".")?)?;
        gateway.unlock();
        Ok(!is_free)
    }

    /// Reads the text of the `down` file; `None` if there is no such file.
    pub fn down_file(&self, gateway: &Gateway) -> Result<Option<String>> {
        let Some(slot) = self.slot(gateway)? else {
            return Ok(None);
        };
        Ok(match slot.read("down", 512) {
            Ok(text) => Some(String::from_utf8_lossy(&text).trim_end().to_owned()),
            Err(unusable) if unusable.is_missing() => None,
            Err(_) => Some(String::new()),
        })
    }

    /// Gives the path of the slot.
    pub fn path(&self, gateway: &Gateway) -> PathBuf {
        self.scandir.at(gateway.target.name.slot())
    }
}

impl Gateway {
    /// Tells whether s6-supervise was told something and the request goes on.
    pub fn is_told(&self) -> bool {
        matches!(self.target.end, None | Some(End::Told))
    }

    /// Tells whether the request has ended for this gateway.
    pub fn is_over(&self) -> bool {
        self.target.end.is_some()
    }

    /// Tells whether a slot was found when the request began.
    pub fn has_slot(&self) -> bool {
        self.slot.is_some()
    }

    /// Notes that the gateway cannot be looked at. A start does not wait for long for what cannot be seen.
    pub fn stay_unseen(&mut self, error: Error, request: Request) {
        let since = *self.unseen_since.get_or_insert_with(Instant::now);
        if request.verb.is_up() && since.elapsed() >= UNSEEN_TIME {
            self.target.end = Some(End::Unseen(error));
        } else {
            self.unseen = Some(error);
        }
    }

    /// Takes the lock of the slot, and tells whether that succeeded. A restart holds it until the new process
    /// runs.
    fn try_lock(&mut self, slot: Dir) -> Result<bool> {
        if self.locked.is_some() {
            return Ok(true);
        }
        match flock(&slot, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => self.locked = Some(slot),
            Err(Errno::WOULDBLOCK) => {}
            Err(errno) => return Err(Error::system("lock", slot.path(), errno)),
        }
        Ok(self.locked.is_some())
    }

    /// Releases the lock of the slot.
    pub fn unlock(&mut self) {
        self.locked = None;
    }
}

/// Gives the inode of an open slot.
fn inode(slot: &Dir) -> Option<u64> {
    rustix::fs::fstat(slot).ok().map(|stat| stat.st_ino)
}
