//! The status for a person: a table of all profiles, and the details of one.

use crate::error::{Result, escaped};
use crate::report::{first_few, groups, one_line};
use crate::s6::storm::death_text;
use crate::tree::detect::Detection;
use crate::view::row::{Report, Row, State};

const HEAD: [&str; 8] = [
    "PROFILE",
    "STATE",
    "PID",
    "UPTIME",
    "LAST EXIT",
    "RESTARTS",
    "INTENT",
    "PORT",
];

/// Writes the status as a table, below it the dashboard, and the notes of those that have one; with `colour` for a
/// terminal.
pub fn table(report: &Report, colour: bool) -> String {
    let rows: Vec<_> = report.profiles.iter().map(cells).collect();
    let head = HEAD.map(str::to_owned);
    let mut widths = [0; HEAD.len()];
    for row in rows.iter().chain([&head]) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::from("Manager: ");
    if report.manager.is_s6() {
        text.push_str("s6 (container supervisor)\n\n");
    } else {
        text.extend(["none: ", &one_line(&report.manager.reason), "\n\n"]);
    }
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
    if let Some(row) = &report.dashboard {
        text.extend(["\nDashboard: ", &row.state.words()]);
        for (pid, seconds) in row.pid.iter().zip(row.seconds) {
            text.extend([", pid ", &pid.to_string(), ", ", &duration(seconds)]);
        }
        if let Some(url) = &row.url {
            text.extend([", ", url]);
        }
        text.push('\n');
    }
    let mut gap = "\n";
    for note in notes(report.profiles.iter().chain(&report.dashboard)) {
        text.extend([gap, &one_line(&note), "\n"]);
        gap = "";
    }
    text
}

/// Gives the notes of profiles that have one. A note that is the same for several profiles comes once.
fn notes<'r>(rows: impl Iterator<Item = &'r Row>) -> Vec<String> {
    let noted = rows.flat_map(|row| {
        let notes = [row.note.clone(), row.log_note(), row.intent_note()];
        let notes = notes.into_iter().flatten();
        // Each begins with the name.
        notes.map(|note| {
            let name = row.profile.as_str();
            (
                note.strip_prefix(name).unwrap_or(&note).to_owned(),
                (name, note),
            )
        })
    });
    let line = |(said, of): (String, Vec<(&str, String)>)| match of.as_slice() {
        [(_, note)] => note.clone(),
        of => {
            let names: Vec<&str> = of.iter().map(|(name, _)| *name).collect();
            format!("{}: each{said}", first_few(&names))
        }
    };
    groups(noted).into_iter().map(line).collect()
}

/// Writes the details of one profile that the table does not have.
///
/// `log` are the last lines of its log; `None` if this process may not read them.
pub fn details(manager: &Detection, row: &Row, log: Option<Result<Vec<String>>>) -> String {
    let paths = &row.paths;
    let mut text = String::new();
    for (title, value) in [
        ("Home: ", &paths.home),
        ("Slot: ", &paths.slot),
        ("Log: ", &paths.log),
        ("Supervision: ", &manager.reason),
    ] {
        let gap = if text.is_empty() { "\n" } else { "" };
        text.extend([gap, title, &escaped(value.as_bytes()), "\n"]);
    }
    let lines = match log {
        Some(Ok(lines)) if lines.is_empty() => vec!["nothing yet".to_owned()],
        Some(Ok(lines)) => lines,
        Some(Err(error)) => vec![error.to_string()],
        None => vec![format!("see hermes-s6 logs -p {}", row.profile)],
    };
    let mut title = "\nLast lines of its log:\n";
    for line in lines {
        text.extend([title, "  ", &line, "\n"]);
        title = "";
    }
    if let Some(remedy) = &row.remedy {
        text.extend(["\nRemedy: ", remedy, "\n"]);
    }
    text
}

fn cells(row: &Row) -> [String; HEAD.len()] {
    let dash = || "-".to_owned();
    let uptime = row.seconds.filter(|_| row.pid.is_some());
    [
        row.profile.to_string(),
        row.state.words(),
        row.pid.map_or_else(dash, |pid| pid.to_string()),
        uptime.map_or_else(dash, duration),
        row.last_exit.map_or_else(dash, death_text),
        row.restarts.map_or_else(dash, |count| count.to_string()),
        match &row.intent {
            Some(intent) => escaped(intent.as_bytes()),
            None if row.intent_problem.is_some() => "unknown".to_owned(),
            None => dash(),
        },
        row.port.map_or_else(dash, |port| port.to_string()),
    ]
}

/// Gives the colour of a state, as a number for a terminal.
fn paint(state: State) -> &'static str {
    match state {
        State::Ready => "32",
        State::Up
        | State::Starting
        | State::Restarting
        | State::WaitingForLock
        | State::Stopping => "33",
        State::Down => "2",
        State::Unresponsive
        | State::Parked
        | State::Unsupervised
        | State::Unregistered
        | State::Unknown => "31",
    }
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
