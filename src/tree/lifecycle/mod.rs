//! Start, stop, restart: intent first, then s6, then a bounded wait for what comes of it.
//!
//! What is told to s6 is told under the lock of the scan directory, together with the intent, so that
//! both always say the same. The wait comes after that, without the lock: other commands act meanwhile,
//! and what they do to the same gateway is seen and said. What is told is decided in [`target`].

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

/// How long other commands are waited for by one that they cannot hold up.
const LOCK_TIME: Duration = Duration::from_secs(2);

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

/// A gateway on its way, and its slot.
struct Way {
    target: Target,
    slot: Option<Dir>,
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
        let lock = match verb {
            _ if locked => None,
            // The end of a container does not wait for anybody.
            Verb::Shutdown => self.lock_if_soon(),
            _ => Some(self.scandir.lock_within(request.limit())?),
        };
        // Not before: who has had the lock may have put other slots in their places.
        let mut ways: Vec<Way> = names.iter().map(|name| self.way(name)).collect();
        let housed = ways
            .iter()
            .filter(|way| !homeless.contains(&way.target.name));
        let changes = self.changes(housed, verb);
        let mut failures = self.settle(&changes);
        let start = Instant::now();
        for way in &mut ways {
            self.begin(way, start, request);
        }
        Self::await_heard(&mut ways, request);
        // Nothing is to be started while everything is stopped.
        let lock = lock.filter(|_| verb == Verb::Shutdown);
        self.wait(&mut ways, start, request);
        drop(lock);
        for way in &mut ways {
            way.target.end.get_or_insert(End::TimedOut);
            if !verb.is_up() && request.wait {
                self.end_orphan(&mut way.target, request);
            }
        }
        if !locked && let Some(left) = self.confirm(&ways, &changes) {
            failures = left;
        }
        let targets = ways.into_iter().map(|way| way.target).collect();
        Ok(Outcome { targets, failures })
    }

    /// Gives what a request writes on the volume for gateways that have a home there.
    fn changes<'w>(&self, ways: impl Iterator<Item = &'w Way>, verb: Verb) -> VolumeChanges {
        let mut changes = VolumeChanges::default();
        for way in ways {
            let intent = verb.intent();
            changes
                .intents
                .extend(intent.map(|wanted| (way.target.name.clone(), wanted)));
            if verb.is_announced() {
                changes.planned_stops.extend(self.planned_stop(way));
            }
        }
        changes
    }

    /// Writes on the volume, and gives what could not be done. A volume that cannot be written keeps
    /// nobody from being told what to do.
    fn settle(&self, changes: &VolumeChanges) -> Vec<String> {
        settle_as(self.settings, self.tools, self.rights, changes)
            .unwrap_or_else(|error| vec![error.to_string()])
    }

    /// Waits until each s6-supervise has done what it was told, so that the next command, which may have
    /// the lock at once, sees it.
    fn await_heard(ways: &mut [Way], request: Request) {
        let heard = |way: &Way| way.target.is_heard(way.status().as_ref());
        wait_until(ANSWER_TIME, "s6-supervise to answer", || {
            ways.iter().all(heard)
        });
        for way in ways {
            if heard(way) {
                way.target.note_heard(request.verb);
            } else {
                way.target.is_not_answered();
            }
        }
    }

    /// Makes the end of a request for a gateway that could not even be given a slot.
    pub fn failed(&self, name: &ProfileName, error: Error) -> Target {
        let mut target = self.way(name).target;
        target.end = Some(End::Failed(error));
        target
    }

    fn way(&self, name: &ProfileName) -> Way {
        let slot = self.scandir.slot(name).ok();
        let budget = slot.as_ref().and_then(own_stop_timeout);
        let budget = budget.unwrap_or(self.settings.stop_timeout);
        Way {
            target: Target::new(name.clone(), budget, self.scandir.ours().is_ok()),
            slot: slot.filter(|_| self.scandir.is_ours(name.slot())),
        }
    }

    /// Makes the announcement for a gateway that is up and not stopping already.
    fn planned_stop(&self, way: &Way) -> Option<PlannedStop> {
        let status = way.status()?;
        let pid = status.pid.filter(|_| status.wanted_up)?;
        Some(PlannedStop {
            profile: way.target.name.clone(),
            pid,
            start: start_time(&self.settings.root, &pid.to_string())?,
            stopper: std::process::id(),
        })
    }

    /// Looks at a gateway, as far as its way through the request asks for it.
    fn look(&self, way: &Way, start: Instant, verb: Verb) -> Seen {
        let mut seen = Seen {
            now: SystemTime::now(),
            elapsed: start.elapsed(),
            status: way.status(),
            has_slot: false,
            is_signalled: false,
            has_lock: false,
            last_death: None,
        };
        let Some(status) = &seen.status else {
            seen.has_slot = self.has_still(way);
            return seen;
        };
        if way.target.asks_for_signal(status, verb) {
            seen.is_signalled = self.is_signalled(way, status);
        }
        if way.target.asks_for_lock(status, seen.is_signalled, verb) {
            seen.has_lock = way.try_lock();
        }
        if status.is_down() {
            let last = way.slot.as_ref().and_then(|slot| deaths(slot).pop());
            seen.last_death = last.map(|(_, death)| death);
        }
        seen
    }

    /// Tells s6 what a gateway is to do. The caller holds the lock.
    fn begin(&self, way: &mut Way, start: Instant, request: Request) {
        let seen = self.look(way, start, request.verb);
        for order in way.target.begin(&seen, request) {
            if let Err(error) = self.obey(way, order, seen.status.as_ref()) {
                way.target.end = Some(End::Failed(error));
                return;
            }
        }
    }

    /// Waits for everything that is on its way.
    fn wait(&self, ways: &mut [Way], start: Instant, request: Request) {
        let limit = time_limit(ways.iter().map(|way| &way.target), request);
        let what = waited_for(ways, request);
        let begun = Instant::now();
        wait_until(limit, &what, || {
            for way in ways.iter_mut().filter(|way| way.target.end.is_none()) {
                let seen = self.look(way, start, request.verb);
                for order in way.target.step(&seen, request) {
                    if order == Order::Again {
                        self.again(way, start, request);
                    } else {
                        let _ends_by_itself_or_times_out =
                            self.obey(way, order, seen.status.as_ref());
                    }
                }
                way.target.took = begun.elapsed();
            }
            ways.iter().all(|way| way.target.end.is_some())
        });
    }

    /// Does what was decided for a gateway, whose status was `status` then.
    fn obey(&self, way: &Way, order: Order, status: Option<&Status>) -> Result<()> {
        match order {
            Order::ForgetDeaths => self.forget_deaths(way),
            Order::Up => self.tell(way, "-u")?,
            Order::Once => self.tell(way, "-O")?,
            Order::Kill => self.tell(way, "-k")?,
            Order::Down => self.signal(way, "-d", status)?,
            Order::Restart => self.signal(way, "-r", status)?,
            Order::MarkDown(text) => warn(way.slot.as_ref().map(|slot| mark_down(slot, text))),
            Order::UnmarkDown => warn(way.slot.as_ref().map(unmark_down)),
            Order::Unlock => way.unlock(),
            Order::Again => {}
        }
        Ok(())
    }

    /// Tells whether a process has had its signal from another command.
    fn is_signalled(&self, way: &Way, status: &Status) -> bool {
        if self.scandir.ours().is_ok() {
            let slot = way.slot.as_ref();
            return slot.is_some_and(|slot| is_signalled(slot, status));
        }
        // Where nothing can be remembered: a restart that is at work shows by its lock.
        let is_free = way.try_lock();
        way.unlock();
        !is_free
    }

    /// Starts what has ended, if its operator still wants that and nobody else is at work.
    fn again(&self, way: &mut Way, start: Instant, request: Request) {
        let Ok(Some(_lock)) = self.scandir.try_lock() else {
            return;
        };
        // Gateways overwrite what the volume says; nobody but us writes down files.
        let stopped = if self.scandir.ours().is_ok() {
            way.down_file().is_some_and(|text| text != TO_BE_STARTED)
        } else {
            let name = std::slice::from_ref(&way.target.name);
            survey_as(self.settings, self.rights, self.tools, name).is_ok_and(|survey| {
                let profile = survey.profiles.get(&way.target.name);
                profile.is_none_or(|profile| profile.intent.wants_stopped())
            })
        };
        way.unlock();
        if stopped {
            way.target.end = Some(End::Overruled);
        } else {
            way.target.start_over();
            self.begin(way, start, request);
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
    fn confirm(&self, ways: &[Way], changes: &VolumeChanges) -> Option<Vec<String>> {
        let mut again = VolumeChanges::default();
        let way_of = |name: &ProfileName| ways.iter().find(|way| way.target.name == *name);
        for stop in &changes.planned_stops {
            let end = way_of(&stop.profile).and_then(|way| way.target.end.as_ref());
            if matches!(end, Some(End::Down | End::Killed)) {
                let announcement = PLANNED_STOP_FILE.to_owned();
                again.remove.push((stop.profile.clone(), announcement));
            }
        }
        if changes.intents.is_empty() && again.remove.is_empty() {
            return None;
        }
        let _lock = self.lock_if_soon()?;
        let names: Vec<ProfileName> = ways.iter().map(|way| way.target.name.clone()).collect();
        let survey = survey_as(self.settings, self.rights, self.tools, &names).ok()?;
        for (name, wanted) in &changes.intents {
            let profile = survey.profiles.get(name);
            let is_so = profile.is_none_or(|profile| profile.intent.is(*wanted));
            let is_last = |way: &Way| {
                let (down_file, status) = (way.down_file(), way.status());
                way.target
                    .is_last_word(*wanted, down_file.as_deref(), status.as_ref())
            };
            if !is_so && way_of(name).is_some_and(is_last) {
                again.intents.push((name.clone(), *wanted));
            }
        }
        let wrote = !again.intents.is_empty();
        let left = self.settle(&again);
        wrote.then_some(left)
    }

    fn lock_if_soon(&self) -> Option<File> {
        let mut lock = None;
        wait_until(LOCK_TIME, "another hermes-s6", || {
            lock = self.scandir.try_lock().ok().flatten();
            lock.is_some()
        });
        lock
    }

    fn forget_deaths(&self, way: &Way) {
        let slot = way.slot.as_ref();
        if slot.is_some_and(|slot| !deaths(slot).is_empty()) {
            // Only its owner may: hermes in a scan directory of root's starts it all the same.
            let root = &self.settings.root;
            let _forgiven = self.tools.run(root, "s6-svdt-clear", &[], way.path());
        }
    }

    /// Tells s6 to send a process its SIGTERM, and remembers that it has.
    fn signal(&self, way: &Way, letters: &str, status: Option<&Status>) -> Result<()> {
        self.tell(way, letters)?;
        if let (Some(slot), Some(status)) = (&way.slot, status)
            && status.pid.is_some()
        {
            remember_signal(slot, status);
        }
        Ok(())
    }

    fn tell(&self, way: &Way, letters: &str) -> Result<()> {
        self.tools
            .run(&self.settings.root, "s6-svc", &[letters], way.path())
            .map_err(|error| error.remedy(format!("see hermes-s6 status -p {}", way.target.name)))
    }

    /// Tells whether the slot that was looked at is still the one of that name.
    fn has_still(&self, way: &Way) -> bool {
        let inode = |slot: &Dir| rustix::fs::fstat(slot).ok().map(|stat| stat.st_ino);
        let now = self.scandir.slot(&way.target.name).ok();
        now.is_some() && now.as_ref().and_then(inode) == way.slot.as_ref().and_then(inode)
    }
}

impl Way {
    /// Reads what s6 makes of it, `None` without a slot or a supervisor.
    fn status(&self) -> Option<Status> {
        let (mut status, supervisor) = supervised(self.slot.as_ref()?)?;
        // On a full file system, the status is that of a process which may have ended long ago.
        if let (Some(pid), Holder::Process(supervisor)) = (status.pid, supervisor) {
            let root = Root::new("/");
            let parent = parent(&root, &pid.to_string());
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

    fn path(&self) -> &Path {
        self.slot.as_ref().map_or(Path::new(""), Dir::path)
    }

    /// Takes the lock of the slot, which a restart holds until the new process is there.
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

/// Says what does not keep a gateway from being told what to do: the volume has its intent.
fn warn(result: Option<Result<()>>) {
    if let Some(Err(error)) = result {
        report::warning(&error.to_string());
    }
}

/// Says what is waited for.
fn waited_for(ways: &[Way], request: Request) -> String {
    let mut left = ways.iter().filter(|way| way.target.end.is_none());
    let goal = if request.verb.is_up() && request.wait {
        "to get ready"
    } else {
        "to end"
    };
    match (left.next(), left.count()) {
        (Some(way), 0) => format!("{} {goal}", way.target.name.slot()),
        (_, others) => format!("{} gateways {goal}", others + 1),
    }
}
