//! The verdict on a gateway: its state, whether that is what the operator wants, and what to do about it.
//!
//! It is decided without I/O, from what was [`Seen`].

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::hermes::name::ProfileName;
use crate::hermes::state::{Intent, Said};
use crate::s6::storm::{death_text, storm};
use crate::s6::supervision::{CRASH_LOOP_WINDOW, Death, Status};
use crate::system::process::Holder;
use crate::tree::held::Held;
use crate::tree::slot::EXIT_LOCKED;
use crate::view::row::{Row, State};
use crate::volume::lock::Lock;

/// How long a gateway counts as starting: usually it is ready sooner.
const STARTING: Duration = Duration::from_secs(60);

/// How old the last change of a gateway must be to compare it with the lock.
///
/// A gateway that has just been started may not have its lock yet. And the volume and the tree are not read at
/// exactly the same time.
const SETTLED: Duration = Duration::from_secs(1);

/// The age of its last heartbeat from which on a gateway does not respond; it writes one every 30 seconds.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(120);

/// What was seen of one gateway, and of what it depends on.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// The time of day.
    pub now: SystemTime,
    /// Whether an s6-svscan watches the scan directory.
    pub watched: bool,
    /// The scan directory.
    pub scandir: &'a Path,
    /// What is wanted of the gateway.
    pub intent: &'a Intent,
    /// The profiles for which it is wanted, if its own operator has not asked for it: it serves them.
    pub called_by: &'a [&'a ProfileName],
    /// The lock of the profile's home, if it was ever taken.
    pub lock: Option<&'a Lock>,
    /// What the gateway says of itself.
    pub said: &'a Said,
    /// The slot of the gateway, if it has one; or why it cannot be looked at, as the rest of a sentence.
    pub slot: std::result::Result<Option<Slot>, String>,
    /// The option that selects it on a command line, such as `-p coder`.
    pub selection: &'a str,
    /// How many deaths make a crash loop.
    pub deaths: usize,
}

/// What was seen of a slot.
#[derive(Debug, Clone, Default)]
pub struct Slot {
    /// Whether the slot has a `down` file.
    pub is_registered_down: bool,
    /// Why the gateway is kept down. Set only if it is wanted and has a `down` file.
    pub held: Option<Held>,
    /// What s6 knows about the slot, if it has a supervisor.
    pub service: Option<Service>,
}

/// What s6 knows about a slot with a supervisor.
#[derive(Debug, Clone)]
pub struct Service {
    /// The status of the service.
    pub status: Status,
    /// The s6-supervise of the service.
    pub supervisor: Holder,
    /// How the earlier processes ended, and when, oldest first.
    pub deaths: Vec<(SystemTime, Death)>,
}

/// Fills in a row: the state of the gateway, how it differs from what the operator wants, and what to do.
pub fn judge(row: &mut Row, seen: &Seen) {
    let advice = observe(row, seen);
    compare(row, seen, advice);
}

/// Fills in the state of a gateway and the reason for it.
///
/// Gives what a person has to do before the gateway can be started: the beginning of a sentence, or nothing.
fn observe(row: &mut Row, seen: &Seen) -> &'static str {
    let slot = match &seen.slot {
        Ok(Some(slot)) => slot,
        Ok(None) => return "",
        Err(failure) => {
            row.state = State::Unknown;
            row.reason = Some(failure.clone());
            return "";
        }
    };
    if let Some(held @ (Held::Meant(_) | Held::Served)) = &slot.held {
        row.reason = Some(held.word().to_owned());
        row.wanted = false;
    }
    row.state = State::Unsupervised;
    let Some(service) = &slot.service else {
        if row.wanted {
            row.reason = Some(if seen.watched {
                "s6-svscan has not taken it up".to_owned()
            } else {
                format!("no s6-svscan watches {}", seen.scandir.display())
            });
        }
        return "";
    };
    let (status, deaths) = (&service.status, &service.deaths);
    count(row, seen, service);
    let age = seen.now.duration_since(status.since).unwrap_or_default();
    // The pids in another container mean other processes than here.
    let is_comparable = age >= SETTLED && matches!(service.supervisor, Holder::Process(_));
    let held = seen.lock.filter(|lock| is_comparable && lock.held);
    let is_elsewhere = |pid: u32| held.is_some_and(|lock| lock.pid != i32::try_from(pid).ok());
    row.state = match status.pid {
        Some(_) if !status.wanted_up => State::Stopping,
        Some(pid) if status.ready => match unresponsive(seen.said, pid) {
            None => State::Ready,
            Some(reason) => {
                row.reason = Some(reason);
                row.state = State::Unresponsive;
                return "";
            }
        },
        Some(pid) if is_elsewhere(pid) => State::WaitingForLock,
        Some(_) if age < STARTING => State::Starting,
        Some(_) => State::Up,
        None if status.wanted_up => State::Starting,
        None if status.finishing => State::Stopping,
        None => State::Down,
    };
    let is_restarting = matches!(row.state, State::Starting | State::Up) && status.wanted_up;
    if let Some(storm) = storm(deaths).filter(|_| is_restarting)
        && let Some((time, death)) = deaths.last()
        && seen.now.duration_since(*time).unwrap_or_default() < CRASH_LOOP_WINDOW
    {
        let last = death_text(*death);
        row.reason = Some(format!(
            "{} deaths in a row, the last by {last}",
            storm.deaths
        ));
        row.is_lasting = storm.lasts >= CRASH_LOOP_WINDOW;
        row.state = State::Restarting;
        return "";
    }
    if row.state == State::WaitingForLock {
        row.reason = seen.lock.map(holder_text);
        return "stop it there, and it starts here";
    }
    if row.state != State::Down {
        return "";
    }
    if let Some(orphan) = held.and_then(|lock| lock.pid) {
        row.reason = Some(format!(
            "a gateway that has lost its supervisor still runs, pid {orphan}: hermes-s6 stop ends it"
        ));
        return "";
    }
    if seen.intent.wants_stopped() {
        return "";
    }
    // With a down file, exit code 0 does not mean that the gateway ended by itself: a command told it to end, and
    // was killed before it could start the gateway again.
    let was_told = slot.is_registered_down && matches!(deaths.last(), Some((_, Death::Exit(0))));
    if let Some((reason, advice)) = parked(seen, deaths).filter(|_| !was_told) {
        row.reason = Some(reason);
        row.state = State::Parked;
        return advice;
    }
    if !row.wanted {
        return "";
    }
    let (reason, advice) = match &slot.held {
        Some(Held::Unknown(problem)) => (problem.text.as_str(), "then "),
        Some(Held::Unserved) => ("one gateway serves all profiles, and it was stopped", ""),
        _ if slot.is_registered_down => ("its slot is registered down", ""),
        _ => ("it was told to go down", ""),
    };
    row.reason = Some(reason.to_owned());
    advice
}

/// Fills in the process, its age, how many processes have ended lately, and how the last one ended.
fn count(row: &mut Row, seen: &Seen, Service { status, deaths, .. }: &Service) {
    let age = seen.now.duration_since(status.since).unwrap_or_default();
    row.pid = status.pid;
    row.seconds = Some(age.as_secs());
    let since = status.since.duration_since(SystemTime::UNIX_EPOCH).ok();
    row.changed = since.map(|since| since.as_secs());
    let is_recent = |(time, _): &&(SystemTime, Death)| {
        // A death later than `now` happened while the volume and the tree were read; it counts.
        let age = seen.now.duration_since(*time).unwrap_or_default();
        age <= CRASH_LOOP_WINDOW
    };
    row.restarts = Some(deaths.iter().filter(is_recent).count());
    row.last_exit = match deaths.last() {
        Some((_, death)) => Some(*death),
        None => status.last_exit,
    };
}

/// Fills in how the state differs from what the operator wants, and what to do; `advice` comes before the remedy.
fn compare(row: &mut Row, seen: &Seen, advice: &str) {
    let is_up = matches!(
        row.state,
        State::Ready
            | State::Up
            | State::Starting
            | State::Restarting
            | State::Unresponsive
            | State::WaitingForLock
    );
    let is_unwanted = is_up && seen.intent.wants_stopped();
    let is_odd = is_unwanted || row.is_missing();
    // Advice is for a gateway that is to run.
    let advice = if is_unwanted { "" } else { advice };
    let slot = seen.slot.as_ref().ok().and_then(Option::as_ref);
    let held = slot.and_then(|slot| slot.held.as_ref());
    let command = match row.state {
        State::Unsupervised | State::Unregistered if row.wanted && !seen.watched => "supervise",
        State::Unsupervised if row.wanted => "reconcile",
        State::Down if row.wanted && matches!(held, Some(Held::Unknown(_))) => "reconcile",
        State::Down if row.wanted && held == Some(&Held::Unserved) => "start -p default",
        State::Down | State::Stopping | State::Unregistered if row.wanted => "start ",
        State::Parked => "start ",
        State::Unresponsive if row.wanted => "restart ",
        _ if is_unwanted => "stop ",
        _ => "",
    };
    let name = row.profile.as_str();
    row.remedy = (!command.is_empty()).then(|| {
        let is_of_it = command.ends_with(' ');
        let selection = if is_of_it { seen.selection } else { "" };
        ["hermes-s6 ", command, selection].concat()
    });
    if !is_odd && row.reason.is_none() {
        return;
    }
    let wants = match (row.wanted, is_unwanted, seen.called_by.split_first()) {
        (true, _, None) => " wants running,".to_owned(),
        (true, _, Some((first, []))) => format!(" is to serve {first},"),
        (true, _, Some((first, others))) => {
            format!(" is to serve {first} and {} more,", others.len())
        }
        (_, true, _) => " wants stopped,".to_owned(),
        _ => String::new(),
    };
    let mut note = [name, &wants, " is ", &row.state.words()].concat();
    if let Some(reason) = &row.reason {
        note.extend([": ", reason]);
    }
    if let (State::Parked | State::Down, true, Some(seconds)) = (row.state, is_odd, row.seconds) {
        note.extend([", ", &ago(seconds)]);
    }
    let remedy = row.remedy.as_deref().unwrap_or_default();
    if !advice.is_empty() || !remedy.is_empty() {
        note.extend([": ", advice, remedy]);
    }
    row.warning = is_odd.then(|| note.clone());
    row.note = Some(note);
}

/// Tells why a gateway with this process does not serve, although it has said that it does; `None` if it does.
fn unresponsive(said: &Said, pid: u32) -> Option<String> {
    if said.failed_start == Some(pid) {
        return Some("its state file says startup_failed".to_owned());
    }
    let beat = said.heartbeat.filter(|beat| beat.pid == pid)?;
    (beat.age >= HEARTBEAT_LIMIT.as_secs())
        .then(|| format!("its last heartbeat is {} s old", beat.age))
}

/// Gives the reason why the `finish` script parked a gateway, and what to do before it is started again.
///
/// `None` means that the script did not park it. The conditions are those of `templates/finish.execline`.
fn parked(seen: &Seen, deaths: &[(SystemTime, Death)]) -> Option<(String, &'static str)> {
    let lock = seen.lock;
    let (last, death) = deaths.last()?;
    let counts = |death: &Death| match death {
        Death::Exit(code) => (1..=127).contains(code) && ![75, 111].contains(code),
        // ILL, ABRT, BUS, FPE, SEGV, as in the finish script.
        Death::Signal(signal) => matches!(signal, 4 | 6 | 7 | 8 | 11),
    };
    let recent = |time: &SystemTime| {
        last.duration_since(*time)
            .is_ok_and(|age| age <= CRASH_LOOP_WINDOW)
    };
    let crashes = deaths
        .iter()
        .filter(|(time, death)| counts(death) && recent(time))
        .count();
    Some(match death {
        Death::Exit(EXIT_LOCKED) => {
            let holder = lock.map_or_else(|| "its lock was held".to_owned(), holder_text);
            let held = lock.is_some_and(|lock| lock.held);
            let advice = if held { "stop it there, then " } else { "" };
            (format!("exit {EXIT_LOCKED} ({holder})"), advice)
        }
        Death::Exit(78) => ("exit 78 (configuration)".to_owned(), "fix it, then "),
        Death::Exit(0) if seen.intent.wants_running() => {
            ("exit 0 (it ended by itself)".to_owned(), "")
        }
        _ if crashes >= seen.deaths => {
            let reason = format!("crash loop ({crashes} deaths in two minutes)");
            (reason, "fix it, then ")
        }
        _ => return None,
    })
}

/// Names the holder of a lock by its signature, and by its pid here if the signature has another pid.
fn holder_text(lock: &Lock) -> String {
    let holder = &lock.signature;
    if !lock.held {
        return format!("its lock was held by {holder}, and is free now");
    }
    match lock.pid {
        Some(pid) if !holder.contains(&format!(" pid {pid} ")) => {
            format!("its lock is held by {holder}, pid {pid} here")
        }
        _ => format!("its lock is held by {holder}"),
    }
}

/// Writes how long ago something was.
fn ago(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3600 => (seconds / 60, "min"),
        3600..86_400 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{count} {unit} ago")
}

#[cfg(test)]
mod tests;
