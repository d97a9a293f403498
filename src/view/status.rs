//! What runs, as s6 knows it, beside what should run, as the volume says.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::error::Result;
use crate::hermes::container::Command;
use crate::hermes::name::ProfileName;
use crate::hermes::state::Intent;
use crate::s6::supervision::{CRASH_LOOP_WINDOW, Death, Holder, deaths, supervised};
use crate::settings::Settings;
use crate::tree::detect::{Detection, detect};
use crate::tree::plan::held;
use crate::tree::scandir::ScanDir;
use crate::view::verdict::{holder_text, judge, parked};
use crate::volume::port::HERMES_DEFAULT;
use crate::volume::survey::{Profile, Survey};

/// How long a gateway usually takes to get ready, and then some.
const STARTING: Duration = Duration::from_secs(60);

/// How long a gateway that has just been started may not have its lock yet, and by how much the looks
/// at the volume and at the tree may lie apart.
const SETTLED: Duration = Duration::from_secs(1);

/// What a gateway is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is up and serves.
    Ready,
    /// It is up, and has not got ready for a minute.
    Up,
    /// It is about to get ready, or between two starts.
    Starting,
    /// It waits for a gateway elsewhere that has the profile's lock.
    WaitingForLock,
    /// It is up and about to end.
    Stopping,
    /// It is down, as it was told to be.
    Down,
    /// It is down because it failed for good.
    Parked,
    /// It has a slot, and no supervisor.
    Unsupervised,
    /// It has no slot.
    Unregistered,
}

impl State {
    /// Gives the state in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Up => "up",
            Self::Starting => "starting",
            Self::WaitingForLock => "waiting for lock",
            Self::Stopping => "stopping",
            Self::Down => "down",
            Self::Parked => "parked",
            Self::Unsupervised => "unsupervised",
            Self::Unregistered => "unregistered",
        }
    }
}

/// One profile's line of the status.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub profile: ProfileName,
    /// What its gateway does.
    pub state: State,
    /// Why, where the state does not say it.
    pub reason: Option<String>,
    /// What is not as its operator wants it, why, and what to do, as a sentence.
    pub warning: Option<String>,
    /// The command that makes it so.
    pub remedy: Option<String>,
    /// The process of the gateway.
    pub pid: Option<u32>,
    /// For how long it has been up or down, in seconds.
    pub seconds: Option<u64>,
    /// How the last process ended, as far as the supervisor remembers.
    pub last_exit: Option<Death>,
    /// How often a process has ended in the last two minutes.
    pub restarts: Option<usize>,
    /// What the operator last asked for, as the state file has it.
    pub intent: Option<String>,
    /// Whether that means that it is to run, and nothing here holds it down.
    pub wanted: bool,
    /// The port of its API server.
    pub port: Option<u16>,
    /// Where its things are.
    pub paths: Paths,
    /// What a person should know of it: the warning, or why it is held down.
    #[serde(skip)]
    pub note: Option<String>,
    /// When it last went up or down, in seconds since 1970.
    #[serde(skip)]
    pub changed: Option<u64>,
}

/// Where the things of a profile are; all but the home may be missing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Paths {
    /// Its home.
    pub home: String,
    /// Its service directory.
    pub slot: String,
    /// The directory of its log.
    pub log: String,
}

impl Row {
    /// Tells whether a gateway that should run does not.
    pub fn is_missing(&self) -> bool {
        self.wanted && !matches!(self.state, State::Ready | State::Up | State::Starting)
    }
}

/// The status of all profiles.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Who supervises, and how we know.
    #[serde(flatten)]
    pub manager: Detection,
    /// A row for each profile or slot: `default`, then the others by name.
    pub profiles: Vec<Row>,
}

/// Looks at the slots and profiles that are in `only`, or at all if none is.
pub fn report(
    settings: &Settings,
    scandir: &ScanDir,
    survey: &Survey,
    only: &[ProfileName],
) -> Result<Report> {
    let mut names = BTreeSet::new();
    if only.is_empty() {
        names = scandir.profiles()?;
        names.extend(survey.profiles.keys().cloned());
    }
    names.extend(only.iter().cloned());
    let ports = survey.assigned_ports();
    let manager = detect(settings);
    let look = Look {
        settings,
        scandir,
        survey,
        // Not every caller may ask the kernel; not everything that is watched is ours.
        watched: manager.is_s6() || scandir.watcher().is_some(),
        now: SystemTime::now(),
    };
    let row = |name: &ProfileName| {
        let port = port(settings, survey, name, ports.get(name).copied());
        look.row(name, port)
    };
    let profiles = names.iter().map(row).collect();
    Ok(Report { manager, profiles })
}

/// Gives the port on which a profile's API server listens, if it runs one.
pub fn port(
    settings: &Settings,
    survey: &Survey,
    name: &ProfileName,
    given: Option<u16>,
) -> Option<u16> {
    let own = survey
        .profiles
        .get(name)
        .and_then(|profile| profile.own_port);
    let usual = name
        .is_default()
        .then(|| settings.api_server_port.unwrap_or(HERMES_DEFAULT));
    own.or(given).or(usual)
}

/// What is looked at, and when.
struct Look<'a> {
    settings: &'a Settings,
    scandir: &'a ScanDir,
    survey: &'a Survey,
    /// Whether an s6-svscan watches the scan directory.
    watched: bool,
    now: SystemTime,
}

impl Look<'_> {
    fn row(&self, name: &ProfileName, port: Option<u16>) -> Row {
        let profile = self.survey.profiles.get(name);
        let intent = profile
            .map(|profile| profile.intent.clone())
            .unwrap_or_default();
        let settings = self.settings;
        let mut row = Row {
            profile: name.clone(),
            state: State::Unregistered,
            reason: None,
            warning: None,
            remedy: None,
            pid: None,
            seconds: None,
            last_exit: None,
            restarts: None,
            wanted: intent.wants_running(),
            port,
            paths: Paths {
                home: settings.home_of(name).display().to_string(),
                slot: settings.scandir.join(name.slot()).display().to_string(),
                log: settings.log_of(name).display().to_string(),
            },
            note: None,
            changed: None,
            intent: intent.state.clone(),
        };
        let advice = self.observe(&mut row, profile, &intent);
        judge(&mut row, &intent, self.watched, advice);
        row
    }

    /// Finds out what a gateway does and why; gives what has to be done about that before it is started.
    fn observe(&self, row: &mut Row, profile: Option<&Profile>, intent: &Intent) -> &'static str {
        let (scandir, name) = (self.scandir, &row.profile);
        let slot = scandir
            .slot(name)
            .ok()
            .filter(|_| scandir.is_ours(name.slot()));
        let Some(slot) = slot else {
            return "";
        };
        let registered_down = matches!(slot.kind("down"), Ok(Some(_)));
        if row.wanted && registered_down {
            // Looked for only here: it costs a look at every process.
            let command = Command::detect(&self.settings.root);
            row.reason = held(self.settings, &command, self.survey, name);
            row.wanted = row.reason.is_none();
        }
        row.state = State::Unsupervised;
        let Some((status, supervisor)) = supervised(&slot) else {
            if row.wanted {
                row.reason = Some(if self.watched {
                    "s6-svscan has not taken it up".to_owned()
                } else {
                    format!("no s6-svscan watches {}", self.settings.scandir.display())
                });
            }
            return "";
        };
        let deaths = deaths(&slot);
        let age = self.now.duration_since(status.since).unwrap_or_default();
        row.pid = status.pid;
        row.seconds = Some(age.as_secs());
        row.changed =
            (status.since.duration_since(SystemTime::UNIX_EPOCH).ok()).map(|since| since.as_secs());
        let recent = |(time, _): &&(SystemTime, Death)| {
            // A death later than now has come between.
            let age = self.now.duration_since(*time).unwrap_or_default();
            age <= CRASH_LOOP_WINDOW
        };
        row.restarts = Some(deaths.iter().filter(recent).count());
        row.last_exit = match deaths.last() {
            Some((_, death)) => Some(*death),
            None => status.last_exit,
        };
        let lock = profile.and_then(|profile| profile.lock.as_ref());
        // The pids of another container are not to be compared with ours.
        let comparable = age >= SETTLED && matches!(supervisor, Holder::Process(_));
        let elsewhere = |pid: u32| {
            lock.is_some_and(|lock| comparable && lock.held && lock.pid != i32::try_from(pid).ok())
        };
        let orphan = lock
            .filter(|lock| comparable && lock.held)
            .and_then(|lock| lock.pid);
        row.state = match status.pid {
            Some(_) if !status.wanted_up => State::Stopping,
            Some(_) if status.ready => State::Ready,
            Some(pid) if elsewhere(pid) => State::WaitingForLock,
            Some(_) if age < STARTING => State::Starting,
            Some(_) => State::Up,
            None if status.wanted_up => State::Starting,
            None if status.finishing => State::Stopping,
            None => State::Down,
        };
        match row.state {
            State::WaitingForLock => {
                row.reason = lock.map(holder_text);
                return "stop it there, and it starts here";
            }
            State::Down if orphan.is_some() => {
                let orphan = orphan.unwrap_or_default();
                row.reason = Some(format!(
                    "a gateway that has lost its supervisor still runs, pid {orphan}: hermes-s6 stop ends it"
                ));
            }
            State::Down if !intent.wants_stopped() => {
                // One that was told to end, and is to be started again by a command that was killed, has
                // not ended by itself.
                let told = registered_down && matches!(deaths.last(), Some((_, Death::Exit(0))));
                if let Some((reason, advice)) = parked(lock, intent, &deaths).filter(|_| !told) {
                    row.reason = Some(reason);
                    row.state = State::Parked;
                    return advice;
                }
                if row.wanted && registered_down {
                    row.reason = Some("its slot is registered down".to_owned());
                } else if row.wanted {
                    row.reason = Some("it was told to go down".to_owned());
                }
            }
            _ => {}
        }
        ""
    }
}
