//! One gateway's way through a request, free of I/O: what was seen gives what to tell s6, and what came of it.

use std::time::{Duration, SystemTime};

use crate::error::{Code, Error};
use crate::hermes::name::ProfileName;
use crate::hermes::state::Wanted;
use crate::s6::supervision::{Death, Status};
use crate::tree::lifecycle::request::{End, Request, STOPPED, TO_BE_STARTED, Verb};

/// How long a gateway may take to get ready, unless the caller says otherwise.
const READY_TIME: Duration = Duration::from_secs(60);

/// How long a gateway that was started may take to get ready until a restart starts it anew; two
/// restarts at once are one.
const FRESH: Duration = Duration::from_secs(10);

/// How long after s6-supervise should have killed a gateway we do it.
const KILL_MARGIN: Duration = Duration::from_secs(2);

/// How long a gateway may take to be down after it was killed: `finish` has 5 s.
const FINISH_TIME: Duration = Duration::from_secs(7);

/// What is seen of a gateway at one moment.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The time of day.
    pub now: SystemTime,
    /// How long ago the request began.
    pub elapsed: Duration,
    /// What s6 knows; `None` without a slot or a supervisor.
    pub status: Option<Status>,
    /// Without a status: whether the slot is still there, and still the same.
    pub has_slot: bool,
    /// Whether its process has had its signal from another command, where [`Target::asks_for_signal`].
    pub is_signalled: bool,
    /// Whether we have got the lock of the slot, where [`Target::asks_for_lock`]. A restart holds it until the
    /// new process is there.
    pub has_lock: bool,
    /// How its last process ended.
    pub last_death: Option<Death>,
}

/// What is to be done next for a gateway, in the order in which it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Forget its earlier deaths: with them counted, the next one would park it again.
    ForgetDeaths,
    /// Tell s6-supervise to have it up: `s6-svc -u`.
    Up,
    /// Tell s6-supervise to end it, and to keep it down: `s6-svc -d`.
    Down,
    /// Tell s6-supervise only to keep it down when it ends: `s6-svc -O`.
    Once,
    /// Tell s6-supervise to end it; wanted up, it is started again: `s6-svc -r`.
    Restart,
    /// Tell s6-supervise to kill it: `s6-svc -k`.
    Kill,
    /// Write a `down` file with this text.
    MarkDown(&'static str),
    /// Remove the `down` file.
    UnmarkDown,
    /// Give the lock of the slot back.
    Unlock,
    /// Begin anew, under the lock of the scan directory, if its operator still wants that.
    Again,
}

impl Order {
    /// Tells what s6-supervise wants when it has been told this, if that changes it.
    fn wanted(self) -> Option<bool> {
        match self {
            Self::Up => Some(true),
            Self::Down | Self::Once => Some(false),
            _ => None,
        }
    }
}

/// One gateway's way through a request.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact that was seen on its own"
)]
pub struct Target {
    /// Its profile.
    pub name: ProfileName,
    /// What came of it, once something has.
    pub end: Option<End>,
    /// How long that took.
    pub took: Duration,
    /// Its process when it was last looked at.
    pub pid: Option<u32>,
    /// How long it has to end, where it is told to.
    pub budget: Duration,
    /// Whether it was killed because its time was over.
    pub killed: bool,
    /// Whether the slot is ours to write in. Where it is not, only its lock tells what other commands do.
    is_owner: bool,
    phase: Phase,
    /// What s6 knew when it was last told something.
    before: Option<Status>,
    /// When that was, since the request began.
    told: Duration,
    /// What s6-supervise has been told to want, if it has been told something.
    told_wanted: Option<bool>,
    /// Whether s6-supervise has been seen to want what it was told.
    heard: bool,
    /// Whether another command has told the process to end, and this one only keeps it down.
    is_left: bool,
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

impl Target {
    /// Makes the way of a gateway that has `budget` to end. `is_owner` says that its slot is ours to write in.
    pub fn new(name: ProfileName, budget: Duration, is_owner: bool) -> Self {
        Self {
            name,
            end: None,
            took: Duration::ZERO,
            pid: None,
            budget,
            killed: false,
            is_owner,
            phase: Phase::New,
            before: None,
            told: Duration::ZERO,
            told_wanted: None,
            heard: false,
            is_left: false,
        }
    }

    /// Tells whether it is its old process that is waited for.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending | Phase::Joining | Phase::Stopping)
    }

    /// Tells whether [`Seen::is_signalled`] counts for what comes next.
    pub fn asks_for_signal(&self, status: &Status, verb: Verb) -> bool {
        match self.phase {
            Phase::New if verb.is_up() => self.is_owner,
            Phase::New => status.wanted_up && !status.is_down(),
            Phase::Stopping => self.is_left && !self.is_owner,
            _ => false,
        }
    }

    /// Tells whether [`Seen::has_lock`] counts for what comes next.
    pub fn asks_for_lock(&self, status: &Status, is_signalled: bool, verb: Verb) -> bool {
        match self.phase {
            Phase::New => {
                verb.is_up() && status.pid.is_some() && !is_about_to_end(status, is_signalled)
            }
            Phase::Joining => true,
            _ => false,
        }
    }

    /// Forgets what was done, so that it can begin again.
    pub fn start_over(&mut self) {
        self.phase = Phase::New;
    }

    /// Begins: decides what to tell s6 first. The caller holds the lock of the scan directory.
    pub fn begin(&mut self, seen: &Seen, request: Request) -> Vec<Order> {
        self.heard = false;
        self.told_wanted = None;
        self.told = seen.elapsed;
        let Some(status) = &seen.status else {
            self.end = Some(if request.verb.is_up() {
                End::Unsupervised
            } else {
                End::WasDown
            });
            return Vec::new();
        };
        self.pid = status.pid;
        self.before = Some(*status);
        let orders = if request.verb.is_up() {
            self.begin_up(seen, status, request)
        } else {
            self.begin_down(seen, status, request)
        };
        self.told_wanted = orders.iter().find_map(|order| order.wanted());
        orders
    }

    fn begin_up(&mut self, seen: &Seen, status: &Status, request: Request) -> Vec<Order> {
        let mut orders = Vec::new();
        if status.is_down() {
            orders.extend([Order::ForgetDeaths, Order::Up]);
        }
        // Also one that is wanted up again meanwhile: its process ends all the same.
        let is_ending = is_about_to_end(status, seen.is_signalled);
        if self.is_owner {
            // Only after it was told: a run that is killed in between is made good by reconcile.
            orders.push(if is_ending && !status.wanted_up {
                Order::MarkDown(TO_BE_STARTED)
            } else {
                Order::UnmarkDown
            });
        }
        if is_ending {
            self.phase = Phase::Ending;
        } else if status.pid.is_none() {
            self.phase = Phase::Starting;
        } else if !seen.has_lock {
            self.phase = Phase::Joining;
        } else if request.verb == Verb::Start {
            orders.push(Order::Unlock);
            self.phase = Phase::Starting;
            self.end = status.ready.then_some(End::WasReady);
        } else if is_fresh(status, seen.now) {
            orders.push(Order::Unlock);
            self.phase = Phase::Fresh;
        } else {
            // Under the lock of the slot until the new process is there.
            orders.extend([Order::ForgetDeaths, Order::Restart]);
            self.phase = Phase::Ending;
        }
        orders
    }

    fn begin_down(&mut self, seen: &Seen, status: &Status, request: Request) -> Vec<Order> {
        self.phase = Phase::Stopping;
        let mut orders = Vec::new();
        let text = request.verb.down_text().filter(|_| self.is_owner);
        orders.extend(text.map(Order::MarkDown));
        if status.is_down() {
            self.end = Some(End::WasDown);
        } else if status.wanted_up {
            self.is_left = seen.is_signalled;
            orders.push(if seen.is_signalled {
                Order::Once
            } else {
                Order::Down
            });
        } else {
            // It has its signal already.
            self.heard = true;
        }
        if !request.wait && self.end.is_none() {
            self.end = Some(End::Told);
        }
        orders
    }

    /// Tells whether s6-supervise has done what it was told, as far as `status` shows.
    pub fn is_heard(&self, status: Option<&Status>) -> bool {
        match (&self.end, self.told_wanted) {
            // Gone up or down since, it may be wanted otherwise again by another command.
            (None | Some(End::Told), Some(wanted)) => {
                status.is_none_or(|status| status.wanted_up == wanted || self.is_another(status))
            }
            _ => true,
        }
    }

    /// Ends the way of a gateway whose s6-supervise does nothing.
    pub fn is_not_answered(&mut self) {
        let error = Error::new(Code::TimedOut, "s6-supervise does not answer");
        self.end = Some(End::Failed(
            error.remedy(format!("see hermes-s6 status -p {}", self.name)),
        ));
    }

    /// Notes that s6-supervise has done what it was told.
    pub fn note_heard(&mut self, verb: Verb) {
        self.heard |= self.told_wanted == Some(verb.is_up());
    }

    /// Decides what comes next by what has become of a gateway.
    pub fn step(&mut self, seen: &Seen, request: Request) -> Vec<Order> {
        let is_up = request.verb.is_up();
        let Some(status) = &seen.status else {
            self.end = match (is_up, seen.has_slot) {
                (true, true) => Some(End::Unsupervised),
                (true, false) => Some(End::Overruled),
                // s6-svscan is about to start another supervisor.
                (false, true) => None,
                (false, false) => Some(End::Down),
            };
            return Vec::new();
        };
        self.pid = status.pid;
        self.heard |= status.wanted_up == is_up;
        match self.phase {
            Phase::New => Vec::new(),
            Phase::Joining if !seen.has_lock => Vec::new(),
            Phase::Joining | Phase::Ending => self.step_ending(seen, status, request),
            Phase::Starting | Phase::Fresh => self.step_starting(seen, status, request),
            Phase::Stopping => self.step_stopping(seen, status, request),
        }
    }

    fn step_ending(&mut self, seen: &Seen, status: &Status, request: Request) -> Vec<Order> {
        if status.pid.is_some() && self.is_another(status) {
            // The lock says that the process has its signal, which this one has not.
            self.phase = Phase::Starting;
            self.heard = true;
            self.before = Some(*status);
            vec![Order::Unlock]
        } else if status.is_down() || self.phase == Phase::Joining {
            vec![Order::Again]
        } else if status.pid.is_some() {
            self.kill_if_late(seen, request)
        } else {
            Vec::new()
        }
    }

    fn step_starting(&mut self, seen: &Seen, status: &Status, request: Request) -> Vec<Order> {
        if status.pid.is_some() && status.ready && status.wanted_up {
            self.end = Some(End::Ready);
        } else if !request.wait {
            self.end = Some(End::Told);
        } else if self.phase == Phase::Fresh && status.pid.is_some() && !is_fresh(status, seen.now)
        {
            return vec![Order::Again];
        } else if self.heard || self.has_changed(status) {
            if status.is_down() {
                self.end = Some(End::Lost);
            } else if status.pid.is_some() && !status.wanted_up {
                self.end = Some(End::Overruled);
            }
        }
        Vec::new()
    }

    fn step_stopping(&mut self, seen: &Seen, status: &Status, request: Request) -> Vec<Order> {
        if status.is_down() {
            let killed = seen.last_death == Some(Death::Signal(9)) && self.has_changed(status);
            self.killed |= killed && self.since_told(seen) >= self.budget;
            self.end = Some(if killed { End::Killed } else { End::Down });
        } else if self.heard && status.wanted_up {
            self.end = Some(End::Overruled);
        } else if self.is_left && self.has_no_signal(seen, status) {
            self.is_left = false;
            self.told = seen.elapsed;
            return vec![Order::Down];
        } else if status.pid.is_some() {
            return self.kill_if_late(seen, request);
        }
        Vec::new()
    }

    /// Tells whether the process of a gateway that was left to another command has no signal after all.
    fn has_no_signal(&self, seen: &Seen, status: &Status) -> bool {
        let is_late = self.since_told(seen) >= self.budget;
        let is_forgotten = !self.is_owner && (!seen.is_signalled || is_late);
        status.pid.is_some() && (self.is_another(status) || is_forgotten)
    }

    /// Kills a gateway whose time is over. s6-supervise does that for those that it was told to bring
    /// down, not for those that are restarted.
    fn kill_if_late(&mut self, seen: &Seen, request: Request) -> Vec<Order> {
        let budget = match (request.verb, request.timeout) {
            (Verb::Shutdown, Some(timeout)) => timeout,
            (Verb::Restart, _) => self.budget,
            _ => self.budget + KILL_MARGIN,
        };
        if self.killed || self.since_told(seen) < budget {
            return Vec::new();
        }
        self.killed = true;
        vec![Order::Kill]
    }

    fn since_told(&self, seen: &Seen) -> Duration {
        seen.elapsed.saturating_sub(self.told)
    }

    /// Tells whether it has gone down or up since it was told something.
    fn is_another(&self, status: &Status) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|before| before.since != status.since)
    }

    fn has_changed(&self, status: &Status) -> bool {
        self.before.as_ref() != Some(status)
    }

    /// Tells whether no other command has come after ours, which wanted `wanted`. `down_file` is the text of
    /// the `down` file that is there now, `status` what s6 knows. The caller holds the lock of the scan
    /// directory.
    pub fn is_last_word(
        &self,
        wanted: Wanted,
        down_file: Option<&str>,
        status: Option<&Status>,
    ) -> bool {
        match wanted {
            Wanted::Running => {
                down_file.is_none_or(|text| text == TO_BE_STARTED)
                    && status.is_some_and(|status| status.wanted_up)
            }
            // Without a down file of ours, one that waits to start it again leaves no trace.
            Wanted::Stopped => self.is_owner && down_file == Some(STOPPED),
        }
    }
}

/// Gives how long the outcome is waited for.
pub fn time_limit<'t>(
    targets: impl Iterator<Item = &'t Target> + Clone,
    request: Request,
) -> Duration {
    let ending = targets.clone().map(|target| target.budget).max();
    let ending = ending.unwrap_or_default() + KILL_MARGIN + FINISH_TIME;
    let mut targets = targets;
    match (request.verb, request.timeout) {
        // The end of a container waits for as long as it was told, and then kills.
        (Verb::Shutdown, Some(timeout)) => timeout + FINISH_TIME,
        (_, Some(timeout)) => timeout,
        (verb, None) if !verb.is_up() => ending,
        (_, None) if targets.all(|target| target.phase == Phase::Starting) => READY_TIME,
        (_, None) => ending + READY_TIME,
    }
}

/// Tells whether a process has been told to end, by s6-supervise or by another command.
fn is_about_to_end(status: &Status, is_signalled: bool) -> bool {
    status.is_ending() || (status.pid.is_some() && is_signalled)
}

/// Tells whether a gateway has just been started and is still getting ready: what a restart is for.
fn is_fresh(status: &Status, now: SystemTime) -> bool {
    let age = now.duration_since(status.since);
    !status.ready && age.is_ok_and(|age| age < FRESH)
}

#[cfg(test)]
mod tests;
