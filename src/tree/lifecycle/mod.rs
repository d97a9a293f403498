//! Start, stop, restart: writes the intent, then tells s6, then waits until the gateways are ready or down.
//!
//! The intent is written and s6 is told under the lock of the scan directory, so that both always say the same.
//! The wait comes after that, without the lock: other commands can act meanwhile. If they act on the same
//! gateway, this command notices and reports that. [`target`] decides what s6 is told; this module does the I/O.

pub mod gateway;
mod orphan;
pub mod request;
pub mod target;

use std::fs::File;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::hermes::name::ProfileName;
use crate::report::{self, Warning};
use crate::rights::Rights;
use crate::s6::capacity::descriptors;
use crate::s6::supervision::{STATUS_TIME, Status, deaths};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::system::process::start_time;
use crate::system::wait::wait_until;
use crate::tree::apply::{mark_down, remember_signal, unmark_down};
use crate::tree::lifecycle::gateway::{Gateway, Slots, UNSEEN_TIME};
use crate::tree::lifecycle::request::{End, Request, TO_BE_STARTED, Verb, batch};
use crate::tree::lifecycle::target::{Order, Target, time_limit};
use crate::tree::scandir::ScanDir;
use crate::volume::changes::{PlannedStop, VolumeChanges};
use crate::volume::survey::survey_as;
use crate::volume::write::{PLANNED_STOP_FILE, settle_as};

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
    /// A warning for each failure to write on the volume.
    pub failures: Vec<Warning>,
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
        let start = Instant::now();
        let (size, is_short) = batch(names.len(), verb, descriptors());
        let mut gateways: Vec<Gateway> = Vec::new();
        let mut changes = VolumeChanges::default();
        let mut failures = Vec::new();
        let mut lock = None;
        // Between two batches, other commands get the lock.
        for names in names.chunks(size) {
            lock = match verb {
                _ if locked => None,
                // At the end of a container, another command cannot hold up the shutdown: it goes on without
                // the lock.
                Verb::Shutdown => self.lock_if_soon(request),
                _ => match self.scandir.lock_within(request.limit()) {
                    Err(error) if gateways.is_empty() => return Err(error),
                    Err(error) => {
                        let late = names.iter().map(|name| self.late(name, &error));
                        gateways.extend(late);
                        continue;
                    }
                    lock => lock.ok(),
                },
            };
            // The slots are opened only now: the command that had the lock may have replaced them.
            let mut batch: Vec<Gateway> = names.iter().map(|name| self.gateway(name)).collect();
            self.refresh(&batch, verb);
            let housed = batch
                .iter()
                .filter(|gateway| !gateway.is_over() && !homeless.contains(&gateway.target.name));
            let more = self.changes(housed, verb);
            failures.extend(self.settle(&more));
            changes.intents.extend(more.intents);
            changes.planned_stops.extend(more.planned_stops);
            for gateway in batch.iter_mut().filter(|gateway| !gateway.is_over()) {
                self.begin(gateway, start, request);
            }
            self.await_heard(&mut batch, request);
            // A shutdown keeps the lock during the wait, so that no command starts a gateway meanwhile.
            lock = lock.filter(|_| verb == Verb::Shutdown);
            if is_short {
                self.wait(&mut batch, start, request);
            }
            gateways.append(&mut batch);
        }
        self.wait(&mut gateways, start, request);
        drop(lock);
        for gateway in &mut gateways {
            gateway.target.end.get_or_insert_with(|| {
                let unseen = gateway.unseen.take();
                unseen.map_or(End::TimedOut, End::Unseen)
            });
        }
        let mut orphans = Vec::new();
        if !verb.is_up() && request.wait {
            let targets = gateways.iter_mut().map(|gateway| &mut gateway.target);
            self.end_orphans(targets, request, &mut orphans);
        }
        if !locked && let Some(remaining) = self.confirm(&gateways, &changes, request) {
            failures = remaining;
        }
        failures.append(&mut orphans);
        report::warnings(gateways.iter().flat_map(|gateway| &gateway.warnings));
        let targets = gateways.into_iter().map(|gateway| gateway.target).collect();
        Ok(Outcome { targets, failures })
    }

    /// Has s6-supervise write the status of gateways anew that cannot be looked at.
    ///
    /// A status that could not be written while a file system was full stays out of date until something happens. To
    /// continue a process that is not stopped changes nothing, but is heard only where there is a process.
    fn refresh(&self, gateways: &[Gateway], verb: Verb) {
        let is_seen = |gateway: &&Gateway| self.slots().status(gateway).is_ok();
        let unseen: Vec<&Gateway> = gateways
            .iter()
            .filter(|gateway| !gateway.is_over() && !is_seen(gateway))
            .collect();
        if unseen.is_empty() {
            return;
        }
        let letter = if verb.is_up() { "-u" } else { "-c" };
        for gateway in &unseen {
            let _may_stay_so = self.tell(gateway, letter);
        }
        wait_until(STATUS_TIME, "s6-supervise to write its status", || {
            unseen.iter().all(is_seen)
        });
    }

    /// Makes the gateway of a name whose batch did not get the lock in time.
    fn late(&self, name: &ProfileName, error: &Error) -> Gateway {
        let mut gateway = self.gateway(name);
        let error = Error::new(error.code(), error.to_string());
        gateway.target.end = Some(End::Failed(error));
        gateway
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

    /// Writes on the volume, and gives a warning for each failure.
    ///
    /// A failure does not end the request: gateways can be stopped although the volume cannot be written.
    fn settle(&self, changes: &VolumeChanges) -> Vec<Warning> {
        settle_as(self.settings, self.tools, self.rights, changes).map_or_else(
            |error| vec![Warning::new(error.to_string())],
            |settled| settled.failures,
        )
    }

    /// Waits until each s6-supervise has done what it was told.
    ///
    /// The next command, which may get the lock right after that, sees it then.
    fn await_heard(&self, gateways: &mut [Gateway], request: Request) {
        let mut left: Vec<&mut Gateway> = gateways
            .iter_mut()
            .filter(|gateway| gateway.is_told())
            .collect();
        let limit = request.limit().min(ANSWER_TIME);
        wait_until(limit, "s6-supervise to answer", || {
            // What was heard once is heard: soon, the status may be out of date for a moment.
            left.retain_mut(|gateway| {
                let status = self.slots().status(gateway);
                let is_heard = status.is_ok_and(|status| gateway.target.is_heard(status.as_ref()));
                if is_heard {
                    gateway.target.note_heard(request.verb);
                }
                !is_heard
            });
            left.is_empty()
        });
        for gateway in left {
            match self.slots().status(gateway) {
                Ok(status) if gateway.target.is_heard(status.as_ref()) => {
                    gateway.target.note_heard(request.verb);
                }
                Ok(status) => gateway.target.note_not_heard(status.as_ref()),
                Err(error) => gateway.target.end = Some(End::Unseen(error)),
            }
        }
    }

    /// Makes the target of a gateway for which the request failed before it began: it could not get a slot.
    pub fn failed(&self, name: &ProfileName, error: Error) -> Target {
        let mut target = self.gateway(name).target;
        target.end = Some(End::Failed(error));
        target
    }

    fn slots(&self) -> Slots<'_> {
        Slots {
            root: &self.settings.root,
            scandir: self.scandir,
        }
    }

    /// Looks for the slot of a profile. A slot that root should not touch ends the request for this gateway.
    fn gateway(&self, name: &ProfileName) -> Gateway {
        let mut gateway = self.slots().gateway(name, self.settings.stop_timeout);
        if self.rights.are_roots()
            && let Err(error) = self.scandir.require_root_owned(name.slot())
        {
            gateway.target.end = Some(End::Failed(error));
        }
        gateway
    }

    /// Makes the planned stop of a gateway; `None` if it is down or stopping already.
    fn planned_stop(&self, gateway: &Gateway) -> Option<PlannedStop> {
        let status = self.slots().status(gateway).ok()??;
        let pid = status.pid.filter(|_| status.wanted_up)?;
        Some(PlannedStop {
            profile: gateway.target.name.clone(),
            pid,
            start: start_time(&self.settings.root, &pid.to_string())?,
            stopper: std::process::id(),
        })
    }

    /// Carries out the first orders for a gateway. The caller holds the lock of the scan directory.
    fn begin(&self, gateway: &mut Gateway, start: Instant, request: Request) {
        let mut look = self.slots().look(gateway, start, request.verb);
        if request.verb.is_up() && gateway.has_slot() && start.elapsed() < UNSEEN_TIME {
            // It may be that its process ended a moment ago.
            wait_until(STATUS_TIME, "s6-supervise to write its status", || {
                if look.is_err() {
                    look = self.slots().look(gateway, start, request.verb);
                }
                look.is_ok()
            });
        }
        let seen = match look {
            Ok(seen) => seen,
            Err(error) => return self.begin_unseen(gateway, error, start, request),
        };
        for order in gateway.target.begin(&seen, request) {
            if let Err(error) = self.obey(gateway, order, seen.status.as_ref()) {
                gateway.target.end = Some(End::Failed(error));
                return;
            }
        }
    }

    /// Tells a gateway to end that cannot be looked at: what is told so ends, also if nobody can see it.
    ///
    /// A gateway that cannot be looked at is not started: it may run.
    fn begin_unseen(&self, gateway: &mut Gateway, error: Error, start: Instant, request: Request) {
        if !request.verb.is_up() {
            if let Err(error) = self.tell(gateway, "-d") {
                gateway.target.end = Some(End::Failed(error));
                return;
            }
            gateway.target.begin_unseen(start.elapsed());
        }
        if request.verb.is_up() || !request.wait {
            gateway.target.end = Some(End::Unseen(error));
        } else {
            gateway.unseen = Some(error);
        }
    }

    /// Waits until the request has ended for all gateways, and carries out the later orders meanwhile.
    fn wait(&self, gateways: &mut [Gateway], start: Instant, request: Request) {
        let targets = gateways.iter().map(|gateway| &gateway.target);
        let limit = time_limit(targets, request, request.left());
        let what = waited_for(gateways, request);
        wait_until(limit, &what, || {
            for gateway in gateways.iter_mut().filter(|gateway| !gateway.is_over()) {
                let seen = match self.slots().look(gateway, start, request.verb) {
                    Ok(seen) => seen,
                    Err(error) => {
                        gateway.stay_unseen(error, request);
                        continue;
                    }
                };
                gateway.unseen_since = None;
                for order in gateway.target.step(&seen, request) {
                    if order == Order::Again {
                        self.again(gateway, start, request);
                    } else {
                        // If it fails, the gateway ends by itself or the time runs out.
                        let _failure_shows_later = self.obey(gateway, order, seen.status.as_ref());
                    }
                }
                gateway.target.took = gateway.begun.elapsed();
            }
            gateways.iter().all(Gateway::is_over)
        });
    }

    /// Carries out an order for a gateway, whose status was `status` when the order was decided.
    fn obey(&self, gateway: &mut Gateway, order: Order, status: Option<&Status>) -> Result<()> {
        match order {
            Order::ForgetDeaths => self.forget_deaths(gateway),
            Order::Up => self.tell(gateway, "-u")?,
            Order::Once => self.tell(gateway, "-O")?,
            Order::Kill => self.tell(gateway, "-k")?,
            Order::Down => self.signal(gateway, "-d", status)?,
            Order::Restart => self.signal(gateway, "-r", status)?,
            Order::MarkDown(text) => self.mark(gateway, |slot| mark_down(slot, text)),
            Order::UnmarkDown => self.mark(gateway, unmark_down),
            Order::Unlock => gateway.unlock(),
            Order::Again => {}
        }
        Ok(())
    }

    /// Begins anew for a gateway that has ended, unless another command works on the tree or has stopped it.
    fn again(&self, gateway: &mut Gateway, start: Instant, request: Request) {
        let Ok(Some(_lock)) = self.scandir.try_lock() else {
            return;
        };
        // The down file is better evidence than the volume: a gateway may overwrite the intent there.
        let is_stopped = if self.scandir.ours().is_ok() {
            match self.slots().down_file(gateway) {
                Ok(text) => text.is_some_and(|text| text != TO_BE_STARTED),
                // Looked at again, until the time is over.
                Err(error) => return gateway.unseen = Some(error),
            }
        } else {
            let name = std::slice::from_ref(&gateway.target.name);
            survey_as(self.settings, self.rights, Some(self.tools), name).is_ok_and(|survey| {
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

    /// Writes the intents again that gateways have overwritten, and removes announcements that no gateway has
    /// read.
    ///
    /// A gateway overwrites an intent if it writes its own state at the same moment. Gives a warning for each
    /// failure; `None` if no intent had to be written again.
    fn confirm(
        &self,
        gateways: &[Gateway],
        changes: &VolumeChanges,
        request: Request,
    ) -> Option<Vec<Warning>> {
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
        let _lock = self.lock_if_soon(request)?;
        let names: Vec<ProfileName> = gateways
            .iter()
            .map(|gateway| gateway.target.name.clone())
            .collect();
        let survey = survey_as(self.settings, self.rights, Some(self.tools), &names).ok()?;
        for (name, wanted) in &changes.intents {
            let profile = survey.profiles.get(name);
            let is_written = profile.is_none_or(|profile| profile.intent.is(*wanted));
            let is_last = |gateway: &Gateway| {
                let (Ok(down_file), Ok(status)) = (
                    self.slots().down_file(gateway),
                    self.slots().status(gateway),
                ) else {
                    return false;
                };
                let (down_file, status) = (down_file.as_deref(), status.as_ref());
                gateway.target.is_last_word(*wanted, down_file, status)
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
    fn lock_if_soon(&self, request: Request) -> Option<File> {
        let mut lock = None;
        let limit = request.limit().min(LOCK_TIME);
        wait_until(limit, "another hermes-s6", || {
            lock = self.scandir.try_lock().ok().flatten();
            lock.is_some()
        });
        lock
    }

    /// Clears the death tally of a slot: `s6-svdt-clear`.
    fn forget_deaths(&self, gateway: &Gateway) {
        let slot = self.slots().slot(gateway);
        let slot = slot.as_ref().map(Option::as_ref);
        if !slot
            .is_ok_and(|slot| slot.is_none_or(|slot| deaths(slot).is_ok_and(|all| all.is_empty())))
        {
            // Only the owner of the slot may do this. If it fails, the gateway starts all the same.
            let (root, path) = (&self.settings.root, self.slots().path(gateway));
            let _not_permitted = self.tools.run(root, "s6-svdt-clear", &[], &path);
        }
    }

    /// Tells s6-supervise to send SIGTERM to the process of a gateway, and remembers the signal.
    fn signal(&self, gateway: &Gateway, letters: &str, status: Option<&Status>) -> Result<()> {
        self.tell(gateway, letters)?;
        if let Some(status) = status.filter(|status| status.pid.is_some())
            && let Ok(Some(slot)) = self.slots().slot(gateway)
        {
            remember_signal(&slot, status);
        }
        Ok(())
    }

    /// Tells the s6-supervise of a gateway something by `s6-svc`.
    fn tell(&self, gateway: &Gateway, letters: &str) -> Result<()> {
        self.tools
            .run(
                &self.settings.root,
                "s6-svc",
                &[letters],
                &self.slots().path(gateway),
            )
            .map_err(|error| {
                error.remedy(format!("see hermes-s6 status -p {}", gateway.target.name))
            })
    }

    /// Changes the `down` file of a slot. If that fails, the order goes on: the volume has the intent.
    fn mark(&self, gateway: &mut Gateway, change: impl FnOnce(&Dir) -> Result<()>) {
        let slot = self.slots().slot(gateway);
        if let Err(error) = slot.and_then(|slot| slot.as_ref().map_or(Ok(()), change)) {
            let name = gateway.target.name.as_str();
            let warning = Warning::of(name, error.to_string());
            gateway.warnings.push(warning);
        }
    }
}

/// Gives the text that says what a request waits for.
fn waited_for(gateways: &[Gateway], request: Request) -> String {
    let mut left = gateways.iter().filter(|gateway| !gateway.is_over());
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
