//! Start, stop, restart: intent first, then s6, then a bounded wait for what comes of it.
//!
//! What is told to s6 is told under the lock of the scan directory, together with the intent, so that
//! both always say the same. The wait comes after that, without the lock: other commands act meanwhile,
//! and what they do to the same gateway is seen and said.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};

use crate::command::chain::end_orphan_of;
use crate::error::{Code, Error, Result};
use crate::hermes::name::ProfileName;
use crate::hermes::state::Wanted;
use crate::report;
use crate::rights::Rights;
use crate::s6::supervision::{Death, Holder, Status, deaths, supervised};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::system::process::stat_field;
use crate::system::root::Root;
use crate::system::wait::wait_until;
use crate::tree::apply;
use crate::tree::plan::{PlannedStop, VolumeChanges};
use crate::tree::reconcile::{look, settle_as};
use crate::tree::scandir::{LOCK_WAIT, ScanDir};
use crate::volume::write::home_of;

/// How long a gateway may take to get ready, unless the caller says otherwise.
const READY_TIME: Duration = Duration::from_secs(60);

/// How long a gateway that was started may take to get ready until a restart starts it anew; two
/// restarts at once are one.
const FRESH: Duration = Duration::from_secs(10);

/// How long after s6-supervise should have killed a gateway we do it.
const KILL_MARGIN: Duration = Duration::from_secs(2);

/// How long a gateway may take to be down after it was killed: `finish` has 5 s.
const FINISH_TIME: Duration = Duration::from_secs(7);

/// How long an s6-supervise may take to do what it is told.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// How long others are waited for by whom they cannot hold up.
const LOCK_TIME: Duration = Duration::from_secs(2);

/// What the `down` file of a gateway says that its operator has stopped.
const STOPPED: &str = "Stopped by hermes-s6 stop.";

/// What the `down` file of a gateway says that is down because the container ends: no command that has
/// begun before starts it again. The next start of the tree removes it.
const SHUT_DOWN: &str = "Stopped by hermes-s6 shutdown, until the tree is started again.";

/// What the `down` file of a gateway says that is to be started when its old process has ended: should
/// nobody come to that, the next reconcile does it, and not the next supervisor by itself.
const TO_BE_STARTED: &str = "To be started by hermes-s6 when its process has ended.";

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
    fn intent(self) -> Option<Wanted> {
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
    fn is_announced(self) -> bool {
        matches!(self, Self::Stop | Self::Remove)
    }
}

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
    /// Gives how long others may be waited for.
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

/// One gateway's way through a request.
#[derive(Debug)]
pub struct Target {
    /// Its profile.
    pub name: ProfileName,
    /// What came of it, once something has.
    pub end: Option<End>,
    /// How long that took.
    pub took: Duration,
    /// Its process when it was last looked at.
    pub pid: Option<u32>,
    /// How long it had to end, where it was told to.
    pub budget: Duration,
    slot: Option<Dir>,
    phase: Phase,
    before: Option<Status>,
    /// Whether s6-supervise has been seen to want what it was told.
    heard: bool,
    told: Instant,
    /// What s6-supervise has been told to want, if it has been told something.
    told_wanted: Option<bool>,
    /// Whether another command has told the process to end.
    signalled: bool,
    /// Whether it was killed because its time was over.
    pub killed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing has been done yet.
    New,
    /// Another command restarts it.
    Joining,
    /// It ends, and is to be started then.
    Ending,
    /// It was started a moment ago, and is started again only if it does not get ready.
    Fresh,
    /// It is to get ready.
    Starting,
    /// It ends, and is to stay down.
    Stopping,
}

/// Carries out requests in one scan directory.
#[derive(Debug)]
pub struct Lifecycle<'a> {
    /// What was asked for.
    pub settings: &'a Settings,
    /// Whose rights are used on the volume.
    pub rights: &'a Rights,
    /// The programs of the tree.
    pub tools: &'a Tools,
    /// Where the slots are.
    pub scandir: &'a ScanDir,
}

/// What came of a request.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Each gateway, in the order of the request.
    pub targets: Vec<Target>,
    /// What could not be written on the volume, as sentences.
    pub failures: Vec<String>,
}

impl Lifecycle<'_> {
    /// Does what was asked for, for each of `names`. `homeless` are those of them that have no profile
    /// on the volume any more, where nothing can be written for them. `locked` says that the caller has
    /// the lock of the scan directory.
    pub fn run(
        &self,
        request: Request,
        names: &[ProfileName],
        homeless: &[ProfileName],
        locked: bool,
    ) -> Result<Outcome> {
        let verb = request.verb;
        let housed = |name: &ProfileName| !homeless.contains(name);
        let lock = match verb {
            _ if locked => None,
            // The end of a container does not wait for anybody.
            Verb::Shutdown => self.lock_if_soon(),
            _ => Some(self.scandir.lock_within(request.limit())?),
        };
        // Not before: who has had the lock may have put other slots in their places.
        let mut targets: Vec<Target> = names.iter().map(|name| self.target(name)).collect();
        let mut changes = VolumeChanges::default();
        for target in targets.iter().filter(|target| housed(&target.name)) {
            changes
                .intents
                .extend(verb.intent().map(|wanted| (target.name.clone(), wanted)));
            if verb.is_announced() {
                changes.planned_stops.extend(self.planned_stop(target));
            }
        }
        let mut failures = self.settle(&changes);
        for target in &mut targets {
            self.begin(target, request);
        }
        Self::await_heard(&mut targets, request);
        // Nothing is to be started while everything is stopped.
        let lock = lock.filter(|_| verb == Verb::Shutdown);
        self.wait(&mut targets, request);
        drop(lock);
        for target in &mut targets {
            target.end.get_or_insert(End::TimedOut);
            if !verb.is_up() && request.wait {
                self.end_orphan(target, request);
            }
        }
        if !locked && let Some(left) = self.confirm(&targets, &changes) {
            failures = left;
        }
        Ok(Outcome { targets, failures })
    }

    /// Writes on the volume, and gives what could not be done. A volume that cannot be written keeps
    /// nobody from being told what to do.
    fn settle(&self, changes: &VolumeChanges) -> Vec<String> {
        settle_as(self.settings, self.tools, self.rights, changes)
            .unwrap_or_else(|error| vec![error.to_string()])
    }

    /// Waits until each s6-supervise has done what it was told, so that the next command, which may have
    /// the lock at once, sees it.
    fn await_heard(targets: &mut [Target], request: Request) {
        let heard = |target: &Target| match (&target.end, target.told_wanted) {
            (None | Some(End::Told), Some(wanted)) => target
                .status()
                .is_none_or(|status| status.wanted_up == wanted || target.has_changed(&status)),
            _ => true,
        };
        wait_until(ANSWER_TIME, "s6-supervise to answer", || {
            targets.iter().all(heard)
        });
        for target in targets.iter_mut().filter(|target| !heard(target)) {
            let error = Error::new(Code::TimedOut, "s6-supervise does not answer");
            target.end = Some(End::Failed(
                error.remedy(format!("see hermes-s6 status -p {}", target.name)),
            ));
        }
        for target in targets {
            target.heard |= target.told_wanted == Some(request.verb.is_up());
        }
    }

    /// Makes the end of a request for a gateway that could not even be given a slot.
    pub fn failed(&self, name: &ProfileName, error: Error) -> Target {
        Target {
            end: Some(End::Failed(error)),
            ..self.target(name)
        }
    }

    fn target(&self, name: &ProfileName) -> Target {
        let slot = self.scandir.slot(name).ok();
        let budget = slot.as_ref().and_then(apply::own_stop_timeout);
        Target {
            name: name.clone(),
            end: None,
            took: Duration::ZERO,
            pid: None,
            budget: budget.unwrap_or(self.settings.stop_timeout),
            slot: slot.filter(|_| self.scandir.is_ours(name.slot())),
            phase: Phase::New,
            before: None,
            heard: false,
            told: Instant::now(),
            told_wanted: None,
            signalled: false,
            killed: false,
        }
    }

    /// Makes the announcement for a gateway that is up and not stopping already.
    fn planned_stop(&self, target: &Target) -> Option<PlannedStop> {
        let status = target.status()?;
        let pid = status.pid.filter(|_| status.wanted_up)?;
        let start = stat_field(&self.settings.root, &pid.to_string(), 22)?;
        Some(PlannedStop {
            profile: target.name.clone(),
            pid,
            start: start.parse().ok()?,
            stopper: std::process::id(),
        })
    }

    /// Tells s6 what a gateway is to do. The caller holds the lock.
    fn begin(&self, target: &mut Target, request: Request) {
        target.heard = false;
        target.told_wanted = None;
        target.told = Instant::now();
        let Some(status) = target.status() else {
            target.end = Some(if request.verb.is_up() {
                End::Unsupervised
            } else {
                End::WasDown
            });
            return;
        };
        target.pid = status.pid;
        target.before = Some(status.clone());
        let result = if request.verb.is_up() {
            self.begin_up(target, &status, request)
        } else {
            self.begin_down(target, &status, request)
        };
        if let Err(error) = result {
            target.end = Some(End::Failed(error));
        }
    }

    fn begin_up(&self, target: &mut Target, status: &Status, request: Request) -> Result<()> {
        if status.is_down() {
            // Its earlier deaths are forgiven: with them counted, the next one would park it again.
            self.forget_deaths(target);
            self.tell(target, "-u")?;
        }
        // Also one that is wanted up again meanwhile: its process ends all the same.
        let signalled = self.is_owner() && self.is_signalled(target, status);
        let is_ending = status.is_ending() || (status.pid.is_some() && signalled);
        if self.is_owner() {
            // Only now: a run that is killed in between is made good by reconcile.
            warn(if is_ending && !status.wanted_up {
                apply::mark_down(&target.path(), TO_BE_STARTED)
            } else {
                apply::unmark_down(&target.path())
            });
        }
        if is_ending {
            target.phase = Phase::Ending;
        } else if status.pid.is_none() {
            target.phase = Phase::Starting;
        } else if !target.try_lock() {
            target.phase = Phase::Joining;
        } else if request.verb == Verb::Start {
            target.unlock();
            target.phase = Phase::Starting;
            target.end = status.ready.then_some(End::WasReady);
        } else if is_fresh(status) {
            target.unlock();
            target.phase = Phase::Fresh;
        } else {
            // Under the lock of the slot until the new process is there.
            self.forget_deaths(target);
            target.phase = Phase::Ending;
            self.signal(target, "-r", status)?;
        }
        Ok(())
    }

    fn begin_down(&self, target: &mut Target, status: &Status, request: Request) -> Result<()> {
        target.phase = Phase::Stopping;
        let down = match request.verb {
            Verb::Stop => Some(STOPPED),
            Verb::Shutdown => Some(SHUT_DOWN),
            _ => None,
        };
        if let Some(why) = down.filter(|_| self.is_owner()) {
            warn(apply::mark_down(&target.path(), why));
        }
        if status.is_down() {
            target.end = Some(End::WasDown);
        } else if status.wanted_up {
            target.signalled = self.is_signalled(target, status);
            if target.signalled {
                // Only kept from being started again.
                self.tell(target, "-O")?;
            } else {
                self.signal(target, "-d", status)?;
            }
        } else {
            // It has its signal already.
            target.heard = true;
        }
        if !request.wait && target.end.is_none() {
            target.end = Some(End::Told);
        }
        Ok(())
    }

    /// Waits for everything that is on its way.
    fn wait(&self, targets: &mut [Target], request: Request) {
        let ending = targets.iter().map(|target| target.budget).max();
        let ending = ending.unwrap_or_default() + KILL_MARGIN + FINISH_TIME;
        let is_starting = |target: &Target| target.phase == Phase::Starting;
        let limit = match (request.verb, request.timeout) {
            // The end of a container waits for as long as it was told, and then kills.
            (Verb::Shutdown, Some(timeout)) => timeout + FINISH_TIME,
            (_, Some(timeout)) => timeout,
            (verb, None) if !verb.is_up() => ending,
            (_, None) if targets.iter().all(is_starting) => READY_TIME,
            (_, None) => ending + READY_TIME,
        };
        let start = Instant::now();
        let what = waited_for(targets, request);
        wait_until(limit, &what, || {
            for target in targets.iter_mut().filter(|target| target.end.is_none()) {
                self.step(target, request);
                target.took = start.elapsed();
            }
            targets.iter().all(|target| target.end.is_some())
        });
    }

    /// Looks what has become of a gateway, and does what is next.
    fn step(&self, target: &mut Target, request: Request) {
        let Some(status) = target.status() else {
            target.end = Some(match request.verb.is_up() {
                true if self.has_still(target) => End::Unsupervised,
                true => End::Overruled,
                // s6-svscan is about to start another supervisor.
                false if self.has_still(target) => return,
                false => End::Down,
            });
            return;
        };
        target.pid = status.pid;
        let changed = target.has_changed(&status);
        target.heard |= status.wanted_up == request.verb.is_up();
        match target.phase {
            Phase::Joining if !target.try_lock() => {}
            Phase::Joining | Phase::Ending => {
                if status.pid.is_some() && target.is_another(&status) {
                    // The lock says that the process has its signal, which this one has not.
                    target.unlock();
                    target.phase = Phase::Starting;
                    target.heard = true;
                    target.before = Some(status);
                } else if status.is_down() || target.phase == Phase::Joining {
                    self.again(target, request);
                } else if status.pid.is_some() {
                    self.kill_if_late(target, request);
                }
            }
            Phase::Starting | Phase::Fresh
                if status.pid.is_some() && status.ready && status.wanted_up =>
            {
                target.end = Some(End::Ready);
            }
            Phase::Starting | Phase::Fresh if !request.wait => target.end = Some(End::Told),
            Phase::Fresh if status.pid.is_some() && !is_fresh(&status) => {
                self.again(target, request);
            }
            Phase::Starting | Phase::Fresh if target.heard || changed => {
                if status.is_down() {
                    target.end = Some(End::Lost);
                } else if status.pid.is_some() && !status.wanted_up {
                    target.end = Some(End::Overruled);
                }
            }
            Phase::Stopping if status.is_down() => {
                let death = target.slot.as_ref().and_then(|slot| deaths(slot).pop());
                let killed = matches!(death, Some((_, Death::Signal(9)))) && changed;
                target.killed |= killed && target.told.elapsed() >= target.budget;
                target.end = Some(if killed { End::Killed } else { End::Down });
            }
            Phase::Stopping if target.heard && status.wanted_up => {
                target.end = Some(End::Overruled);
            }
            Phase::Stopping if target.signalled && self.is_next(target, &status) => {
                target.signalled = false;
                target.told = Instant::now();
                let _ends_or_times_out = self.signal(target, "-d", &status);
            }
            Phase::Stopping if status.pid.is_some() => self.kill_if_late(target, request),
            Phase::New | Phase::Starting | Phase::Fresh | Phase::Stopping => {}
        }
    }

    /// Tells whether a process has had its signal from another command.
    fn is_signalled(&self, target: &Target, status: &Status) -> bool {
        if self.is_owner() {
            let slot = target.slot.as_ref();
            return slot.is_some_and(|slot| apply::is_signalled(slot, status));
        }
        // Where nothing can be remembered: a restart that is at work shows by its lock.
        let is_free = target.try_lock();
        target.unlock();
        !is_free
    }

    /// Tells whether the process of a gateway that was left to another command has no signal after all.
    fn is_next(&self, target: &Target, status: &Status) -> bool {
        let is_left = !self.is_owner()
            && (!self.is_signalled(target, status) || target.told.elapsed() >= target.budget);
        status.pid.is_some() && (target.is_another(status) || is_left)
    }

    /// Starts what has ended, if its operator still wants that and nobody else is at work.
    fn again(&self, target: &mut Target, request: Request) {
        let Ok(Some(_lock)) = self.scandir.try_lock() else {
            return;
        };
        // Gateways overwrite what the volume says; nobody but us writes down files.
        let stopped = if self.is_owner() {
            target.down_file().is_some_and(|text| text != TO_BE_STARTED)
        } else {
            let name = std::slice::from_ref(&target.name);
            look(self.settings, self.rights, self.tools, name).is_ok_and(|survey| {
                let profile = survey.profiles.get(&target.name);
                profile.is_none_or(|profile| profile.intent.wants_stopped())
            })
        };
        target.unlock();
        if stopped {
            target.end = Some(End::Overruled);
        } else {
            target.phase = Phase::New;
            self.begin(target, request);
        }
    }

    /// Kills a gateway whose time is over. s6-supervise does that for those that it was told to bring
    /// down, not for those that are restarted.
    fn kill_if_late(&self, target: &mut Target, request: Request) {
        let budget = match (request.verb, request.timeout) {
            (Verb::Shutdown, Some(timeout)) => timeout,
            (Verb::Restart, _) => target.budget,
            _ => target.budget + KILL_MARGIN,
        };
        if !target.killed && target.told.elapsed() >= budget {
            target.killed = true;
            let _ends_by_itself_or_times_out = self.tell(target, "-k");
        }
    }

    /// Ends what a killed s6-supervise has left of a gateway that is down, as far as s6 knows.
    fn end_orphan(&self, target: &mut Target, request: Request) {
        let is_down = matches!(target.end, Some(End::Down | End::Killed | End::WasDown));
        // Root has no business in what may be anybody's home.
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

    /// Makes good what a gateway that wrote its own state at the same moment has taken back, and clears
    /// away announcements that nobody has read.
    ///
    /// Gives what cannot be written even now, `None` if there was nothing to write.
    fn confirm(&self, targets: &[Target], changes: &VolumeChanges) -> Option<Vec<String>> {
        let mut again = VolumeChanges::default();
        let stopped = |name: &ProfileName| {
            targets.iter().any(|target| {
                target.name == *name && matches!(target.end, Some(End::Down | End::Killed))
            })
        };
        again.remove.extend(
            changes
                .planned_stops
                .iter()
                .filter(|stop| stopped(&stop.profile))
                .map(|stop| {
                    (
                        stop.profile.clone(),
                        crate::volume::write::PLANNED_STOP_FILE.to_owned(),
                    )
                }),
        );
        if changes.intents.is_empty() && again.remove.is_empty() {
            return None;
        }
        let _lock = self.lock_if_soon()?;
        let names: Vec<ProfileName> = targets.iter().map(|target| target.name.clone()).collect();
        let survey = look(self.settings, self.rights, self.tools, &names).ok()?;
        for (name, wanted) in &changes.intents {
            let is_so = survey
                .profiles
                .get(name)
                .is_none_or(|profile| profile.intent.is(*wanted));
            let target = targets.iter().find(|target| target.name == *name);
            if !is_so && target.is_some_and(|target| self.is_last(target, *wanted)) {
                again.intents.push((name.clone(), *wanted));
            }
        }
        let wrote = !again.intents.is_empty();
        let left = self.settle(&again);
        wrote.then_some(left)
    }

    /// Tells whether no other command has come after ours. The caller holds the lock.
    fn is_last(&self, target: &Target, wanted: Wanted) -> bool {
        let down_file = target.down_file();
        match wanted {
            Wanted::Running => {
                down_file.is_none_or(|text| text == TO_BE_STARTED)
                    && target.status().is_some_and(|status| status.wanted_up)
            }
            // Without a down file of ours, one that waits to start it again leaves no trace.
            Wanted::Stopped => self.is_owner() && down_file.is_some_and(|text| text == STOPPED),
        }
    }

    fn lock_if_soon(&self) -> Option<File> {
        let mut lock = None;
        wait_until(LOCK_TIME, "another hermes-s6", || {
            lock = self.scandir.try_lock().ok().flatten();
            lock.is_some()
        });
        lock
    }

    fn forget_deaths(&self, target: &Target) {
        let some = target
            .slot
            .as_ref()
            .is_some_and(|slot| !deaths(slot).is_empty());
        if some {
            // Only its owner may: hermes in a scan directory of root's starts it all the same.
            let _forgiven =
                self.tools
                    .run(&self.settings.root, "s6-svdt-clear", &[], &target.path());
        }
    }

    /// Tells s6 to send a process its SIGTERM, and remembers that it has.
    fn signal(&self, target: &mut Target, letters: &str, status: &Status) -> Result<()> {
        self.tell(target, letters)?;
        if let Some(slot) = target.slot.as_ref().filter(|_| status.pid.is_some()) {
            apply::remember_signal(slot, status);
        }
        Ok(())
    }

    fn tell(&self, target: &mut Target, letters: &str) -> Result<()> {
        let path = target.path();
        target.told_wanted = match letters {
            "-u" => Some(true),
            "-d" | "-O" => Some(false),
            _ => target.told_wanted,
        };
        self.tools
            .run(&self.settings.root, "s6-svc", &[letters], &path)
            .map_err(|error| error.remedy(format!("see hermes-s6 status -p {}", target.name)))
    }

    /// Tells whether the slot that was looked at is still the one of that name.
    fn has_still(&self, target: &Target) -> bool {
        let inode = |slot: &Dir| rustix::fs::fstat(slot).ok().map(|stat| stat.st_ino);
        let now = self.scandir.slot(&target.name).ok();
        now.is_some() && now.as_ref().and_then(inode) == target.slot.as_ref().and_then(inode)
    }

    fn is_owner(&self) -> bool {
        self.scandir.ours().is_ok()
    }
}

impl Target {
    /// Tells whether it is its old process that is waited for.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending | Phase::Joining | Phase::Stopping)
    }

    /// Reads what s6 makes of it, `None` without a slot or a supervisor.
    fn status(&self) -> Option<Status> {
        let (mut status, supervisor) = supervised(self.slot.as_ref()?)?;
        // On a full file system, the status is that of a process which may have ended long ago.
        if let (Some(pid), Holder::Process(supervisor)) = (status.pid, supervisor) {
            let parent = stat_field(&Root::new("/"), &pid.to_string(), 4);
            status.ready &= parent.is_some_and(|parent| parent == supervisor.to_string());
        }
        Some(status)
    }

    /// Reads what its `down` file says, `None` if there is none.
    fn down_file(&self) -> Option<String> {
        match self.slot.as_ref()?.read("down", 512) {
            Ok(text) => Some(String::from_utf8_lossy(&text).trim_end().to_owned()),
            Err(unusable) if unusable.is_missing() => None,
            Err(_) => Some(String::new()),
        }
    }

    fn path(&self) -> PathBuf {
        let path = self.slot.as_ref().map(|slot| slot.path().to_owned());
        path.unwrap_or_default()
    }

    /// Takes the lock of the slot, which a restart holds until the new process is there.
    fn try_lock(&self) -> bool {
        self.slot
            .as_ref()
            .is_some_and(|slot| flock(slot, FlockOperation::NonBlockingLockExclusive).is_ok())
    }

    /// Tells whether it has gone down or up since it was told something.
    fn is_another(&self, status: &Status) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|before| before.since != status.since)
    }

    fn has_changed(&self, status: &Status) -> bool {
        self.before.as_ref() != Some(status)
    }

    fn unlock(&self) {
        if let Some(slot) = &self.slot {
            let _was_held = flock(slot, FlockOperation::Unlock);
        }
    }
}

/// Tells whether a gateway has just been started and is still getting ready: what a restart is for.
fn is_fresh(status: &Status) -> bool {
    let age = SystemTime::now().duration_since(status.since);
    !status.ready && age.is_ok_and(|age| age < FRESH)
}

/// Says what does not keep a gateway from being told what to do: the volume has its intent.
fn warn(result: Result<()>) {
    if let Err(error) = result {
        report::warning(&error.to_string());
    }
}

fn waited_for(targets: &[Target], request: Request) -> String {
    let left: Vec<&Target> = targets
        .iter()
        .filter(|target| target.end.is_none())
        .collect();
    let goal = if request.verb.is_up() && request.wait {
        "to get ready"
    } else {
        "to end"
    };
    match left.as_slice() {
        [target] => format!("{} {goal}", target.name.slot()),
        left => format!("{} gateways {goal}", left.len()),
    }
}
