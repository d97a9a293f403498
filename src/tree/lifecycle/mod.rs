//! Start, stop, restart: writes the intent, then tells s6, then waits until the gateways are ready or down.
//!
//! The intent is written and s6 is told under the lock of the scan directory, so that both always say the same.
//! The wait comes after that, without the lock: other commands can act meanwhile. If they act on the same
//! gateway, this command notices and reports that. [`target`] decides what s6 is told; this module does the I/O.

pub mod request;
pub mod target;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};
use crate::hermes::name::ProfileName;
use crate::report;
use crate::rights::Rights;
use crate::s6::supervision::{Status, deaths, supervised};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::system::process::{Holder, parent, start_time};
use crate::system::root::Root;
use crate::system::wait::wait_until;
use crate::tree::apply::{is_signalled, mark_down, remember_signal, unmark_down};
use crate::tree::lifecycle::request::{End, Request, TO_BE_STARTED, Verb};
use crate::tree::lifecycle::target::{Order, Seen, Target, time_limit};
use crate::tree::remove::own_stop_timeout;
use crate::tree::scandir::ScanDir;
use crate::volume::changes::{PlannedStop, VolumeChanges};
use crate::volume::lock::end_orphan_of;
use crate::volume::survey::survey_as;
use crate::volume::write::{PLANNED_STOP_FILE, home_of, settle_as};

/// How long an s6-supervise may take to do what it is told.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// How long a step that can do without the lock of the scan directory waits for it.
const LOCK_TIME: Duration = Duration::from_secs(2);

/// Carries out requests in one scan directory.
#[derive(Debug)]
pub struct Lifecycle<'a> {
    /// The settings of this run.
    pub settings: &'a Settings,
    /// The rights that the volume is written with.
    pub rights: &'a Rights,
    /// The programs of the tree.
    pub tools: &'a Tools,
    /// The scan directory with the slots.
    pub scandir: &'a ScanDir,
}

/// The outcome of a request.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The gateways, in the order of the request.
    pub targets: Vec<Target>,
    /// A sentence for each failure to write on the volume.
    pub failures: Vec<String>,
}

/// A gateway of a request, and its slot if it has one.
struct Gateway {
    target: Target,
    slot: Option<Dir>,
}

impl Lifecycle<'_> {
    /// Carries out a request for the gateways of `names`.
    ///
    /// `homeless` are those of them whose profile is gone from the volume: nothing is written there for them.
    /// `locked` says that the caller holds the lock of the scan directory.
    pub fn run(
        &self,
        request: Request,
        names: &[ProfileName],
        homeless: &[ProfileName],
        locked: bool,
    ) -> Result<Outcome> {
        let verb = request.verb;
        let lock = match verb {
            _ if locked => None,
            // At the end of a container, another command cannot hold up the shutdown: it goes on without the
            // lock.
            Verb::Shutdown => self.lock_if_soon(),
            _ => Some(self.scandir.lock_within(request.limit())?),
        };
        // The slots are opened only now: the command that had the lock may have replaced them.
        let mut gateways: Vec<Gateway> = names.iter().map(|name| self.gateway(name)).collect();
        let housed = gateways
            .iter()
            .filter(|gateway| !homeless.contains(&gateway.target.name));
        let changes = self.changes(housed, verb);
        let mut failures = self.settle(&changes);
        let start = Instant::now();
        for gateway in &mut gateways {
            self.begin(gateway, start, request);
        }
        Self::await_heard(&mut gateways, request);
        // A shutdown keeps the lock during the wait, so that no command starts a gateway meanwhile.
        let lock = lock.filter(|_| verb == Verb::Shutdown);
        self.wait(&mut gateways, start, request);
        drop(lock);
        for gateway in &mut gateways {
            gateway.target.end.get_or_insert(End::TimedOut);
            if !verb.is_up() && request.wait {
                self.end_orphan(&mut gateway.target, request);
            }
        }
        if !locked && let Some(remaining) = self.confirm(&gateways, &changes) {
            failures = remaining;
        }
        let targets = gateways.into_iter().map(|gateway| gateway.target).collect();
        Ok(Outcome { targets, failures })
    }

    /// Gives the changes that a request writes on the volume for these gateways, whose homes are there.
    fn changes<'g>(
        &self,
        gateways: impl Iterator<Item = &'g Gateway>,
        verb: Verb,
    ) -> VolumeChanges {
        let mut changes = VolumeChanges::default();
        for gateway in gateways {
            let intent = verb.intent();
            changes
                .intents
                .extend(intent.map(|wanted| (gateway.target.name.clone(), wanted)));
            if verb.is_announced() {
                changes.planned_stops.extend(self.planned_stop(gateway));
            }
        }
        changes
    }

    /// Writes on the volume, and gives a sentence for each failure.
    ///
    /// A failure does not end the request: gateways can be stopped although the volume cannot be written.
    fn settle(&self, changes: &VolumeChanges) -> Vec<String> {
        settle_as(self.settings, self.tools, self.rights, changes)
            .unwrap_or_else(|error| vec![error.to_string()])
    }

    /// Waits until each s6-supervise has done what it was told.
    ///
    /// The next command, which may get the lock right after that, sees it then.
    fn await_heard(gateways: &mut [Gateway], request: Request) {
        let is_heard = |gateway: &Gateway| gateway.target.is_heard(gateway.status().as_ref());
        wait_until(ANSWER_TIME, "s6-supervise to answer", || {
            gateways.iter().all(is_heard)
        });
        for gateway in gateways {
            if is_heard(gateway) {
                gateway.target.note_heard(request.verb);
            } else {
                let status = gateway.status();
                gateway.target.note_not_heard(status.as_ref());
            }
        }
    }

    /// Makes the target of a gateway for which the request failed before it began: it could not get a slot.
    pub fn failed(&self, name: &ProfileName, error: Error) -> Target {
        let mut target = self.gateway(name).target;
        target.end = Some(End::Failed(error));
        target
    }

    fn gateway(&self, name: &ProfileName) -> Gateway {
        let slot = self.scandir.slot(name).ok();
        let budget = slot.as_ref().and_then(own_stop_timeout);
        let budget = budget.unwrap_or(self.settings.stop_timeout);
        Gateway {
            target: Target::new(name.clone(), budget, self.scandir.ours().is_ok()),
            slot: slot.filter(|_| self.scandir.is_ours(name.slot())),
        }
    }

    /// Makes the planned stop of a gateway; `None` if it is down or stopping already.
    fn planned_stop(&self, gateway: &Gateway) -> Option<PlannedStop> {
        let status = gateway.status()?;
        let pid = status.pid.filter(|_| status.wanted_up)?;
        Some(PlannedStop {
            profile: gateway.target.name.clone(),
            pid,
            start: start_time(&self.settings.root, &pid.to_string())?,
            stopper: std::process::id(),
        })
    }

    /// Looks at a gateway, as far as its target needs it for the next decision.
    fn look(&self, gateway: &Gateway, start: Instant, verb: Verb) -> Seen {
        let status = gateway.status();
        let mut seen = Seen {
            // After the look at the status: no process has started later than now.
            now: SystemTime::now(),
            elapsed: start.elapsed(),
            status,
            has_slot: false,
            is_signalled: false,
            has_lock: false,
            last_death: None,
        };
        let Some(status) = &seen.status else {
            seen.has_slot = self.has_same_slot(gateway);
            return seen;
        };
        if gateway.target.asks_for_signal(status, verb) {
            seen.is_signalled = self.is_signalled(gateway, status);
        }
        if gateway
            .target
            .asks_for_lock(status, seen.is_signalled, verb)
        {
            seen.has_lock = gateway.try_lock();
        }
        if status.is_down() {
            let last = gateway.slot.as_ref().and_then(|slot| deaths(slot).pop());
            seen.last_death = last.map(|(_, death)| death);
        }
        seen
    }

    /// Carries out the first orders for a gateway. The caller holds the lock of the scan directory.
    fn begin(&self, gateway: &mut Gateway, start: Instant, request: Request) {
        let seen = self.look(gateway, start, request.verb);
        for order in gateway.target.begin(&seen, request) {
            if let Err(error) = self.obey(gateway, order, seen.status.as_ref()) {
                gateway.target.end = Some(End::Failed(error));
                return;
            }
        }
    }

    /// Waits until the request has ended for all gateways, and carries out the later orders meanwhile.
    fn wait(&self, gateways: &mut [Gateway], start: Instant, request: Request) {
        let limit = time_limit(gateways.iter().map(|gateway| &gateway.target), request);
        let what = waited_for(gateways, request);
        let begun = Instant::now();
        wait_until(limit, &what, || {
            for gateway in gateways
                .iter_mut()
                .filter(|gateway| gateway.target.end.is_none())
            {
                let seen = self.look(gateway, start, request.verb);
                for order in gateway.target.step(&seen, request) {
                    if order == Order::Again {
                        self.again(gateway, start, request);
                    } else {
                        // If it fails, the gateway ends by itself or the time runs out.
                        let _failure_shows_later = self.obey(gateway, order, seen.status.as_ref());
                    }
                }
                gateway.target.took = begun.elapsed();
            }
            gateways.iter().all(|gateway| gateway.target.end.is_some())
        });
    }

    /// Carries out an order for a gateway, whose status was `status` when the order was decided.
    fn obey(&self, gateway: &Gateway, order: Order, status: Option<&Status>) -> Result<()> {
        match order {
            Order::ForgetDeaths => self.forget_deaths(gateway),
            Order::Up => self.tell(gateway, "-u")?,
            Order::Once => self.tell(gateway, "-O")?,
            Order::Kill => self.tell(gateway, "-k")?,
            Order::Down => self.signal(gateway, "-d", status)?,
            Order::Restart => self.signal(gateway, "-r", status)?,
            Order::MarkDown(text) => warn(gateway.slot.as_ref().map(|slot| mark_down(slot, text))),
            Order::UnmarkDown => warn(gateway.slot.as_ref().map(unmark_down)),
            Order::Unlock => gateway.unlock(),
            Order::Again => {}
        }
        Ok(())
    }

    /// Tells whether another command has sent SIGTERM to the process of a gateway.
    fn is_signalled(&self, gateway: &Gateway, status: &Status) -> bool {
        if self.scandir.ours().is_ok() {
            let slot = gateway.slot.as_ref();
            return slot.is_some_and(|slot| is_signalled(slot, status));
        }
        // In a slot that is not ours, no command can remember a signal. But a restart at work holds its lock.
        let is_free = gateway.try_lock();
        gateway.unlock();
        !is_free
    }

    /// Begins anew for a gateway that has ended, unless another command works on the tree or has stopped it.
    fn again(&self, gateway: &mut Gateway, start: Instant, request: Request) {
        let Ok(Some(_lock)) = self.scandir.try_lock() else {
            return;
        };
        // The down file is better evidence than the volume: a gateway may overwrite the intent there.
        let is_stopped = if self.scandir.ours().is_ok() {
            gateway
                .down_file()
                .is_some_and(|text| text != TO_BE_STARTED)
        } else {
            let name = std::slice::from_ref(&gateway.target.name);
            survey_as(self.settings, self.rights, self.tools, name).is_ok_and(|survey| {
                let profile = survey.profiles.get(&gateway.target.name);
                profile.is_none_or(|profile| profile.intent.wants_stopped())
            })
        };
        gateway.unlock();
        if is_stopped {
            gateway.target.end = Some(End::Overruled);
        } else {
            gateway.target.start_over();
            self.begin(gateway, start, request);
        }
    }

    /// Ends the process of a gateway that a killed s6-supervise has left, while s6 takes the gateway for down.
    fn end_orphan(&self, target: &mut Target, request: Request) {
        let is_down = matches!(target.end, Some(End::Down | End::Killed | End::WasDown));
        // Root does not open homes: they belong to a user whom it does not trust.
        if !is_down || *self.rights != Rights::Own {
            return;
        }
        let root = &self.settings.root;
        let home =
            Dir::open(&root.at(&self.settings.home)).and_then(|home| home_of(&home, &target.name));
        let Ok(home) = home else { return };
        let start = Instant::now();
        let budget = request.timeout.map_or(target.budget, |timeout| {
            target.budget.min(timeout.saturating_sub(target.took))
        });
        match end_orphan_of(root, &home, budget) {
            Ok(None) => return,
            Ok(Some(killed)) => {
                target.killed = killed;
                target.end = Some(if killed { End::Killed } else { End::Down });
            }
            Err(error) => target.end = Some(End::Failed(error)),
        }
        target.took += start.elapsed();
    }

    /// Writes the intents again that gateways have overwritten, and removes announcements that no gateway has
    /// read.
    ///
    /// A gateway overwrites an intent if it writes its own state at the same moment. Gives a sentence for each
    /// failure; `None` if no intent had to be written again.
    fn confirm(&self, gateways: &[Gateway], changes: &VolumeChanges) -> Option<Vec<String>> {
        let mut again = VolumeChanges::default();
        let gateway_of =
            |name: &ProfileName| gateways.iter().find(|gateway| gateway.target.name == *name);
        for stop in &changes.planned_stops {
            let end = gateway_of(&stop.profile).and_then(|gateway| gateway.target.end.as_ref());
            if matches!(end, Some(End::Down | End::Killed)) {
                let announcement = PLANNED_STOP_FILE.to_owned();
                again.remove.push((stop.profile.clone(), announcement));
            }
        }
        if changes.intents.is_empty() && again.remove.is_empty() {
            return None;
        }
        let _lock = self.lock_if_soon()?;
        let names: Vec<ProfileName> = gateways
            .iter()
            .map(|gateway| gateway.target.name.clone())
            .collect();
        let survey = survey_as(self.settings, self.rights, self.tools, &names).ok()?;
        for (name, wanted) in &changes.intents {
            let profile = survey.profiles.get(name);
            let is_written = profile.is_none_or(|profile| profile.intent.is(*wanted));
            let is_last = |gateway: &Gateway| {
                let (down_file, status) = (gateway.down_file(), gateway.status());
                gateway
                    .target
                    .is_last_word(*wanted, down_file.as_deref(), status.as_ref())
            };
            if !is_written && gateway_of(name).is_some_and(is_last) {
                again.intents.push((name.clone(), *wanted));
            }
        }
        let has_intents = !again.intents.is_empty();
        let failures = self.settle(&again);
        has_intents.then_some(failures)
    }

    /// Takes the lock of the scan directory; `None` if other commands do not release it soon.
    fn lock_if_soon(&self) -> Option<File> {
        let mut lock = None;
        wait_until(LOCK_TIME, "another hermes-s6", || {
            lock = self.scandir.try_lock().ok().flatten();
            lock.is_some()
        });
        lock
    }

    /// Clears the death tally of a slot: `s6-svdt-clear`.
    fn forget_deaths(&self, gateway: &Gateway) {
        let slot = gateway.slot.as_ref();
        if slot.is_some_and(|slot| !deaths(slot).is_empty()) {
            // Only the owner of the slot may do this. If it fails, the gateway starts all the same.
            let root = &self.settings.root;
            let _not_permitted = self.tools.run(root, "s6-svdt-clear", &[], gateway.path());
        }
    }

    /// Tells s6-supervise to send SIGTERM to the process of a gateway, and remembers the signal.
    fn signal(&self, gateway: &Gateway, letters: &str, status: Option<&Status>) -> Result<()> {
        self.tell(gateway, letters)?;
        if let (Some(slot), Some(status)) = (&gateway.slot, status)
            && status.pid.is_some()
        {
            remember_signal(slot, status);
        }
        Ok(())
    }

    /// Tells the s6-supervise of a gateway something by `s6-svc`.
    fn tell(&self, gateway: &Gateway, letters: &str) -> Result<()> {
        self.tools
            .run(&self.settings.root, "s6-svc", &[letters], gateway.path())
            .map_err(|error| {
                error.remedy(format!("see hermes-s6 status -p {}", gateway.target.name))
            })
    }

    /// Tells whether the gateway still has the slot that was opened, and not a new one with the same name.
    fn has_same_slot(&self, gateway: &Gateway) -> bool {
        let inode = |slot: &Dir| rustix::fs::fstat(slot).ok().map(|stat| stat.st_ino);
        let now = self.scandir.slot(&gateway.target.name).ok();
        now.is_some() && now.as_ref().and_then(inode) == gateway.slot.as_ref().and_then(inode)
    }
}

impl Gateway {
    /// Reads the status that s6 has; `None` without a slot or a supervisor.
    fn status(&self) -> Option<Status> {
        let (mut status, supervisor) = supervised(self.slot.as_ref()?)?;
        // On a full file system, s6-supervise cannot update the status: the process in it may have ended long
        // ago.
        if let (Some(pid), Holder::Process(supervisor)) = (status.pid, supervisor) {
            let root = Root::new("/");
            let parent = parent(&root, &pid.to_string());
            status.ready &= parent.is_some_and(|parent| parent == supervisor.to_string());
        }
        Some(status)
    }

    /// Reads the text of the `down` file; `None` if there is no such file.
    fn down_file(&self) -> Option<String> {
        match self.slot.as_ref()?.read("down", 512) {
            Ok(text) => Some(String::from_utf8_lossy(&text).trim_end().to_owned()),
            Err(unusable) if unusable.is_missing() => None,
            Err(_) => Some(String::new()),
        }
    }

    /// Gives the path of the slot.
    fn path(&self) -> &Path {
        self.slot.as_ref().map_or(Path::new(""), Dir::path)
    }

    /// Takes the lock of the slot, and tells whether that succeeded. A restart holds it until the new process
    /// runs.
    fn try_lock(&self) -> bool {
        self.slot
            .as_ref()
            .is_some_and(|slot| flock(slot, FlockOperation::NonBlockingLockExclusive).is_ok())
    }

    fn unlock(&self) {
        if let Some(slot) = &self.slot {
            let _was_held = flock(slot, FlockOperation::Unlock);
        }
    }
}

/// Prints the failure to change a `down` file as a warning: the order goes on, and the volume has the intent.
fn warn(result: Option<Result<()>>) {
    if let Some(Err(error)) = result {
        report::warning(&error.to_string());
    }
}

/// Gives the text that says what a request waits for.
fn waited_for(gateways: &[Gateway], request: Request) -> String {
    let mut left = gateways
        .iter()
        .filter(|gateway| gateway.target.end.is_none());
    let goal = if request.verb.is_up() && request.wait {
        "to get ready"
    } else {
        "to end"
    };
    match (left.next(), left.count()) {
        (Some(gateway), 0) => format!("{} {goal}", gateway.target.name.slot()),
        (_, others) => format!("{} gateways {goal}", others + 1),
    }
}
