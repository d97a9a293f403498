//! One gateway in a request: decides, without I/O, what to tell s6 next, and when the request has ended.
//!
//! [`Seen`] is what the caller has seen of the gateway, [`Order`] what the caller has to do. [`Target::begin`]
//! gives the first orders, and [`Target::step`] the later ones, until [`Target::end`] is set.

use std::time::{Duration, SystemTime};

use crate::error::{Code, Error};
use crate::hermes::name::ProfileName;
use crate::hermes::state::Wanted;
use crate::s6::supervision::{Death, Status};
use crate::tree::lifecycle::request::{End, Request, STOPPED, TO_BE_STARTED, Verb};

/// How long a gateway may take to get ready, unless the request has a timeout.
const READY_TIME: Duration = Duration::from_secs(60);

/// How long a restart lets a gateway that was just started get ready, before it starts the gateway anew. So two
/// restarts at once start one new process only.
const FRESH: Duration = Duration::from_secs(10);

/// How long after s6-supervise should have killed a gateway this program kills it.
const KILL_MARGIN: Duration = Duration::from_secs(2);

/// How long a gateway may take to be down after it was killed: `finish` has 5 s of it.
const FINISH_TIME: Duration = Duration::from_secs(7);

/// What was seen of a gateway at one moment.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact that was seen on its own"
)]
pub struct Seen {
    /// The time of day.
    pub now: SystemTime,
    /// The time since the request began.
    pub elapsed: Duration,
    /// The status that s6 has; `None` without a slot or a supervisor.
    pub status: Option<Status>,
    /// Whether the slot still exists, and is not a new one. Set only without a status.
    pub has_slot: bool,
    /// Whether another command has sent SIGTERM to the process. Set only if [`Target::asks_for_signal`].
    pub is_signalled: bool,
    /// Whether we have taken the lock of the slot. Set only if [`Target::asks_for_lock`].
    ///
    /// A restart holds this lock until the new process runs.
    pub has_lock: bool,
    /// Whether the start of the process is held back, because the gateway has ended several times in a row. Set only
    /// if [`Target::asks_for_storm`].
    pub is_held_back: bool,
    /// How the last process of the gateway ended. Set only if the gateway is down.
    pub last_death: Option<Death>,
}

/// A thing to do for a gateway. Several orders are carried out one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Forget the earlier deaths of the gateway: if they counted, the next death could park the slot again.
    ForgetDeaths,
    /// Bring the gateway up: `s6-svc -u`.
    Up,
    /// End the gateway with SIGTERM, and keep it down: `s6-svc -d`.
    Down,
    /// Keep the gateway down when its process ends, without a signal: `s6-svc -O`.
    Once,
    /// End the process with SIGTERM; s6-supervise starts the gateway again if it is wanted up: `s6-svc -r`.
    Restart,
    /// Kill the process: `s6-svc -k`.
    Kill,
    /// Write a `down` file with this text.
    MarkDown(&'static str),
    /// Remove the `down` file.
    UnmarkDown,
    /// Release the lock of the slot.
    Unlock,
    /// Begin the request anew for this gateway, under the lock of the scan directory, unless the operator has
    /// stopped it meanwhile.
    Again,
}

impl Order {
    /// Tells whether s6-supervise wants the gateway up after this order; `None` if the order does not change
    /// that.
    fn wanted(self) -> Option<bool> {
        match self {
            Self::Up => Some(true),
            Self::Down | Self::Once => Some(false),
            _ => None,
        }
    }
}

/// One gateway in a request, with what has happened to it so far.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact that was seen on its own"
)]
pub struct Target {
    /// The profile of the gateway.
    pub name: ProfileName,
    /// How the request has ended for this gateway; `None` while it goes on.
    pub end: Option<End>,
    /// How long the request took for this gateway.
    pub took: Duration,
    /// The gateway's process when it was last seen.
    pub pid: Option<u32>,
    /// How long the gateway may take to end.
    pub budget: Duration,
    /// Whether the gateway was killed because its time was over.
    pub killed: bool,
    /// Whether we may write in the slot. If not, only the lock of the slot shows what other commands do.
    is_owner: bool,
    phase: Phase,
    /// The status when the last orders were decided.
    before: Option<Status>,
    /// When the last orders were decided, since the request began.
    told: Duration,
    /// Whether s6-supervise was told to want the gateway up or down; `None` if the orders did not change that.
    told_wanted: Option<bool>,
    /// Whether s6-supervise was seen to want what it was told.
    heard: bool,
    /// Whether another command has sent SIGTERM to the process, so that this request only keeps it down.
    is_left: bool,
}

/// How far the request has come for one gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing has been done yet.
    New,
    /// Another command restarts the gateway; this request waits for it.
    Joining,
    /// The process ends; then the gateway is started.
    Ending,
    /// The gateway was started a moment ago; it is restarted only if it does not get ready.
    Fresh,
    /// The gateway gets ready.
    Starting,
    /// The process ends, and the gateway stays down.
    Stopping,
}

impl Target {
    /// Makes the target of a gateway that may take `budget` to end. `is_owner` says that we may write in the
    /// slot.
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

    /// Tells whether the request waits for the old process to end.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending | Phase::Joining | Phase::Stopping)
    }

    /// Tells whether the next decision needs [`Seen::is_signalled`].
    pub fn asks_for_signal(&self, status: &Status, verb: Verb) -> bool {
        match self.phase {
            Phase::New if verb.is_up() => self.is_owner,
            Phase::New => status.wanted_up && !status.is_down(),
            Phase::Stopping => self.is_left && !self.is_owner,
            _ => false,
        }
    }

    /// Tells whether the next decision needs [`Seen::is_held_back`].
    pub fn asks_for_storm(&self, status: &Status, verb: Verb) -> bool {
        self.phase == Phase::New && verb == Verb::Start && status.pid.is_some() && !status.ready
    }

    /// Tells whether the next decision needs [`Seen::has_lock`].
    pub fn asks_for_lock(&self, status: &Status, is_signalled: bool, verb: Verb) -> bool {
        match self.phase {
            Phase::New => {
                verb.is_up() && status.pid.is_some() && !is_about_to_end(status, is_signalled)
            }
            Phase::Joining => true,
            _ => false,
        }
    }

    /// Prepares for [`Target::begin`] to be called again.
    pub fn start_over(&mut self) {
        self.phase = Phase::New;
    }

    /// Decides the first orders. The caller holds the lock of the scan directory.
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

    /// Notes that the gateway was told to go down, although it could not be looked at.
    pub fn begin_unseen(&mut self, elapsed: Duration) {
        self.phase = Phase::Stopping;
        self.told = elapsed;
    }

    fn begin_up(&mut self, seen: &Seen, status: &Status, request: Request) -> Vec<Order> {
        let mut orders = Vec::new();
        if status.is_down() {
            orders.extend([Order::ForgetDeaths, Order::Up]);
        }
        // A gateway that is wanted up again meanwhile counts too: its process ends all the same.
        let is_ending = is_about_to_end(status, seen.is_signalled);
        if self.is_owner {
            // The down file changes after Order::Up. If this run is killed in between, reconcile removes the
            // file.
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
        } else if request.verb == Verb::Start && seen.is_held_back {
            // It does nothing but wait, and the operator asks for it now.
            orders.extend([Order::ForgetDeaths, Order::Restart]);
            self.phase = Phase::Ending;
        } else if request.verb == Verb::Start {
            orders.push(Order::Unlock);
            self.phase = Phase::Starting;
            self.end = status.ready.then_some(End::WasReady);
        } else if is_fresh(status, seen.now) {
            orders.push(Order::Unlock);
            self.phase = Phase::Fresh;
        } else {
            // The lock of the slot is held until the new process runs.
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
            // s6-supervise keeps the gateway down already, and its process has had its signal.
            self.heard = true;
        }
        if !request.wait && self.end.is_none() {
            self.end = Some(End::Told);
        }
        orders
    }

    /// Tells whether `status` shows that s6-supervise has done what it was told.
    pub fn is_heard(&self, status: Option<&Status>) -> bool {
        match (&self.end, self.told_wanted) {
            (None | Some(End::Told), Some(wanted)) => status.is_none_or(|status| {
                // A gateway that has been started since may have been parked already.
                status.wanted_up == wanted || (wanted && self.is_another(status))
            }),
            _ => true,
        }
    }

    /// Ends the request for a gateway whose s6-supervise does not do what it was told.
    pub fn note_not_heard(&mut self, status: Option<&Status>) {
        if status.is_some_and(|status| status.wanted_up && self.is_another(status)) {
            // It has done so, and was told the opposite since.
            self.end = Some(End::Overruled);
            return;
        }
        let error = Error::new(Code::TimedOut, "s6-supervise does not answer");
        self.end = Some(End::Failed(
            error.remedy(format!("see hermes-s6 status -p {}", self.name)),
        ));
    }

    /// Notes that s6-supervise has done what it was told.
    pub fn note_heard(&mut self, verb: Verb) {
        self.heard |= self.told_wanted == Some(verb.is_up());
    }

    /// Decides the next orders by what was seen of the gateway since the last ones.
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
            // A new process runs. The lock would say that it has had a SIGTERM, but only the old process has.
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

    /// Tells whether a process that was left to another command has had no SIGTERM after all.
    fn has_no_signal(&self, seen: &Seen, status: &Status) -> bool {
        let is_late = self.since_told(seen) >= self.budget;
        let is_forgotten = !self.is_owner && (!seen.is_signalled || is_late);
        status.pid.is_some() && (self.is_another(status) || is_forgotten)
    }

    /// Orders to kill a gateway whose time is over.
    ///
    /// s6-supervise itself kills a gateway that it was told to bring down, but not one that it restarts.
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

    /// Gives the time since the last orders.
    fn since_told(&self, seen: &Seen) -> Duration {
        seen.elapsed.saturating_sub(self.told)
    }

    /// Tells whether the gateway has gone up or down since the last orders.
    fn is_another(&self, status: &Status) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|before| before.since != status.since)
    }

    /// Tells whether anything in the status has changed since the last orders.
    fn has_changed(&self, status: &Status) -> bool {
        self.before.as_ref() != Some(status)
    }

    /// Tells whether no other command has come after this request, whose intent is `wanted`.
    ///
    /// `down_file` is the present text of the `down` file, `status` the present status. The caller holds the lock
    /// of the scan directory.
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
            // If we may not write a down file, a command that waits to start the gateway again leaves no trace.
            Wanted::Stopped => self.is_owner && down_file == Some(STOPPED),
        }
    }
}

/// Gives how long a request waits for its gateways to get ready or to end. `left` is what is left of its timeout.
pub fn time_limit<'t>(
    targets: impl Iterator<Item = &'t Target> + Clone,
    request: Request,
    left: Option<Duration>,
) -> Duration {
    let ending = targets.clone().map(|target| target.budget).max();
    let ending = ending.unwrap_or_default() + KILL_MARGIN + FINISH_TIME;
    let mut targets = targets;
    match (request.verb, left) {
        // A shutdown kills the gateways when its timeout is over, and waits for that too.
        (Verb::Shutdown, Some(left)) => left + FINISH_TIME,
        (_, Some(left)) => left,
        (verb, None) if !verb.is_up() => ending,
        (_, None) if targets.all(|target| target.phase == Phase::Starting) => READY_TIME,
        (_, None) => ending + READY_TIME,
    }
}

/// Tells whether the process of a gateway is about to end, because of s6-supervise or of another command.
fn is_about_to_end(status: &Status, is_signalled: bool) -> bool {
    status.is_ending() || (status.pid.is_some() && is_signalled)
}

/// Tells whether a gateway was just started and is still getting ready: then a restart need not start it anew.
fn is_fresh(status: &Status, now: SystemTime) -> bool {
    // The clock may have been set back since.
    let age = match now.duration_since(status.since) {
        Ok(age) => age,
        Err(ahead) => ahead.duration(),
    };
    !status.ready && age < FRESH
}

#[cfg(test)]
mod tests;
