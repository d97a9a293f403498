//! What runs, as s6 knows it, beside what should run, as the volume says.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::container::Command;
use crate::detect::{Detection, detect};
use crate::error::Result;
use crate::name::ProfileName;
use crate::plan::held;
use crate::port::HERMES_DEFAULT;
use crate::scandir::ScanDir;
use crate::settings::Settings;
use crate::slot::EXIT_LOCKED;
use crate::state::Intent;
use crate::supervision::{CRASH_LOOP_DEATHS, CRASH_LOOP_WINDOW, Death, Status, deaths, supervisor};
use crate::survey::{Profile, Survey};

/// How long a gateway usually takes to get ready, and then some.
const STARTING: Duration = Duration::from_secs(60);

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
    /// Gives the state as one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Up => "up",
            Self::Starting => "starting",
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
    /// The command that makes it run again, where it does not although it is wanted.
    pub remedy: Option<String>,
    /// The process of the gateway.
    pub pid: Option<u32>,
    /// For how long it has been up or down, in seconds.
    pub seconds: Option<u64>,
    /// How the last process ended, since the supervisor started.
    pub last_exit: Option<Death>,
    /// What the operator last asked for, as the state file has it.
    pub intent: Option<String>,
    /// Whether that means that it is to run, and nothing here holds it down.
    pub wanted: bool,
    /// The port of its API server.
    pub port: Option<u16>,
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

/// Looks at all slots and profiles.
pub fn report(settings: &Settings, scandir: &ScanDir, survey: &Survey) -> Result<Report> {
    let mut names = scandir.profiles()?;
    names.extend(survey.profiles.keys().cloned());
    let ports = survey.assigned_ports();
    let now = SystemTime::now();
    let row = |name: &ProfileName| {
        let port = port(settings, survey, name, ports.get(name).copied());
        look(settings, scandir, survey, name, port, now)
    };
    Ok(Report {
        manager: detect(settings),
        profiles: names.iter().map(row).collect(),
    })
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

fn look(
    settings: &Settings,
    scandir: &ScanDir,
    survey: &Survey,
    name: &ProfileName,
    port: Option<u16>,
    now: SystemTime,
) -> Row {
    let profile = survey.profiles.get(name);
    let intent = profile
        .map(|profile| profile.intent.clone())
        .unwrap_or_default();
    let mut row = Row {
        profile: name.clone(),
        state: State::Unregistered,
        reason: None,
        remedy: None,
        pid: None,
        seconds: None,
        last_exit: None,
        intent: intent.state.clone(),
        wanted: intent.wants_running(),
        port,
    };
    let slot = scandir
        .slot(name)
        .ok()
        .filter(|_| scandir.is_ours(name.slot()));
    let Some(slot) = slot else {
        return row;
    };
    if row.wanted && matches!(slot.kind("down"), Ok(Some(_))) {
        // Looked for only here: it costs a look at every process.
        row.reason = held(settings, &Command::detect(&settings.root), survey, name);
        row.wanted = row.reason.is_none();
    }
    row.state = State::Unsupervised;
    let (Some(status), Some(_)) = (Status::read(&slot), supervisor(&slot)) else {
        return row;
    };
    let deaths = deaths(&slot);
    let age = now.duration_since(status.since).unwrap_or(Duration::ZERO);
    row.pid = status.pid;
    row.seconds = Some(age.as_secs());
    row.last_exit = deaths.last().map(|(_, death)| *death);
    row.state = match status.pid {
        Some(_) if !status.wanted_up => State::Stopping,
        Some(_) if status.ready => State::Ready,
        Some(_) if age < STARTING => State::Starting,
        Some(_) => State::Up,
        None if status.wanted_up => State::Starting,
        None if status.finishing => State::Stopping,
        None => State::Down,
    };
    if row.state == State::Down && !intent.wants_stopped() {
        if let Some(reason) = parked(profile, &intent, &deaths) {
            row.reason = Some(reason);
            row.state = State::Parked;
        } else if row.wanted {
            row.reason = Some("s6-svc has told it so, although it is wanted".to_owned());
        }
    }
    row.remedy = remedy(scandir, &row);
    row
}

/// Gives the command with which a gateway runs again, once what was wrong is put right.
fn remedy(scandir: &ScanDir, row: &Row) -> Option<String> {
    let slot = scandir.at(row.profile.slot());
    let slot = crate::error::shown(&slot);
    match (row.state, row.last_exit) {
        // With its deaths still counted, the next one would park it again.
        (State::Parked, Some(death)) if !matches!(death, Death::Exit(0 | EXIT_LOCKED | 78)) => {
            Some(format!("s6-svdt-clear {slot} && s6-svc -u {slot}"))
        }
        (State::Parked, _) => Some(format!("s6-svc -u {slot}")),
        (State::Down, _) if row.wanted => Some(format!("s6-svc -u {slot}")),
        (State::Unsupervised, _) if row.wanted => Some("hermes-s6 supervise".to_owned()),
        (State::Unregistered, _) if row.wanted => Some("hermes-s6 reconcile".to_owned()),
        _ => None,
    }
}

/// Tells why `finish` parked a gateway, `None` if it did not.
fn parked(
    profile: Option<&Profile>,
    intent: &Intent,
    deaths: &[(SystemTime, Death)],
) -> Option<String> {
    let (last, death) = deaths.last()?;
    let counts = |death: &Death| match death {
        Death::Exit(code) => (1..=127).contains(code) && *code != 75,
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
    match death {
        Death::Exit(EXIT_LOCKED) => Some(match profile.and_then(|profile| profile.lock.as_ref()) {
            Some((holder, true)) => format!("its lock is held by {holder}"),
            Some((holder, false)) => format!("its lock was held by {holder}, and is free now"),
            None => "its lock was held".to_owned(),
        }),
        Death::Exit(78) => Some("exit 78 (configuration)".to_owned()),
        Death::Exit(0) if intent.wants_running() => Some("exit 0 (it ended by itself)".to_owned()),
        _ if crashes >= CRASH_LOOP_DEATHS => {
            Some(format!("crash loop ({crashes} deaths in two minutes)"))
        }
        _ => None,
    }
}

/// Writes the status as a table; `colour` says that a person looks at a terminal.
pub fn table(report: &Report, colour: bool) -> String {
    let head = [
        "PROFILE",
        "STATE",
        "PID",
        "SINCE",
        "LAST EXIT",
        "INTENT",
        "PORT",
    ]
    .map(str::to_owned);
    let dash = || "-".to_owned();
    let rows: Vec<[String; 7]> = report
        .profiles
        .iter()
        .map(|row| {
            [
                row.profile.to_string(),
                row.state.word().to_owned(),
                row.pid.map_or_else(dash, |pid| pid.to_string()),
                row.seconds.map_or_else(dash, duration),
                row.last_exit.map_or_else(dash, death_text),
                row.intent
                    .as_deref()
                    .map_or_else(dash, |intent| crate::error::escaped(intent.as_bytes())),
                row.port.map_or_else(dash, |port| port.to_string()),
            ]
        })
        .collect();
    let mut widths = [0; 7];
    for row in rows.iter().chain([&head]) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let manager = if report.manager.is_s6() {
        "s6 (container supervisor)"
    } else {
        "none"
    };
    let mut text = format!("Manager: {manager}: {}\n\n", report.manager.reason);
    let states = report.profiles.iter().map(|row| Some(row.state));
    for (cells, state) in std::iter::once(&head)
        .chain(&rows)
        .zip(std::iter::once(None).chain(states))
    {
        let mut line = String::new();
        for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count() + 2);
            match state.filter(|_| index == 1 && colour).map(paint) {
                Some(paint) => line.extend(["\x1b[", paint, "m", cell, "\x1b[0m", &padding]),
                None => line.extend([cell.as_str(), &padding]),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let mut first = true;
    for row in &report.profiles {
        let (Some(reason), state) = (&row.reason, row.state.word()) else {
            continue;
        };
        text.extend([
            if first { "\n" } else { "" },
            row.profile.as_str(),
            " is ",
            state,
            ": ",
            reason,
        ]);
        if let Some(remedy) = &row.remedy {
            text.extend(["; start it again with ", remedy]);
        }
        text.push('\n');
        first = false;
    }
    text
}

fn paint(state: State) -> &'static str {
    match state {
        State::Ready => "32",
        State::Up | State::Starting | State::Stopping => "33",
        State::Down => "2",
        State::Parked | State::Unsupervised | State::Unregistered => "31",
    }
}

fn death_text(death: Death) -> String {
    match death {
        Death::Exit(code) => format!("exit {code}"),
        Death::Signal(signal) => {
            signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
        }
    }
}

fn signal_name(signal: u8) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return None,
    })
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let texts = [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 900_000].map(duration);
        assert_eq!(
            texts,
            [
                "0s", "59s", "1m00s", "59m59s", "1h00m", "23h59m", "1d00h", "10d10h"
            ]
        );
    }
}
