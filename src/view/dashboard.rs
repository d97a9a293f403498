//! The status of the dashboard: its service is looked at and judged as that of a gateway that is to run.

use std::thread;
use std::time::SystemTime;

use crate::error::Result;
use crate::hermes::name::ProfileName;
use crate::hermes::state::{Intent, Said};
use crate::s6::supervision::{STATUS_TIME, deaths, supervised};
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::tree::dashboard::{DASHBOARD, DEATHS, LABEL, log};
use crate::tree::logger::{Logger, fault};
use crate::tree::scandir::ScanDir;
use crate::view::logs;
use crate::view::row::{Log, Paths, Row, State};
use crate::view::verdict::{Seen, Service, Slot, judge};
use crate::volume::log::LogPlace;

/// The beginning of the line with which Hermes says why it does not serve.
const REFUSAL: &str = "Refusing to ";

/// How many of the last lines of the log may be such a line.
const LINES: usize = 60;

/// Looks at the dashboard of a tree; `None` if the tree has none.
///
/// `watched` says whether an s6-svscan watches the tree, and `with_log` whether its log may be looked at.
pub fn look(
    settings: &Settings,
    scandir: &ScanDir,
    watched: bool,
    with_log: bool,
) -> Result<Option<Row>> {
    let place = scandir.owner()?.and_then(|owner| owner.choices.dashboard);
    let Some(place) = place else {
        return Ok(None);
    };
    let mut row = row(settings, scandir, watched)?;
    if row.state == State::Unknown {
        // Between the end of a process and its new status lies a moment.
        thread::sleep(STATUS_TIME);
        row = self::row(settings, scandir, watched)?;
    }
    if with_log {
        let seconds = row.seconds.unwrap_or_default();
        let log = || written(settings, scandir, seconds);
        row.log = row.pid.and_then(|_| log());
        if row.log_note().is_some() {
            // It may just have taken a new file.
            thread::sleep(STATUS_TIME);
            row.log = log();
        }
        if row.state == State::Parked {
            explain(settings, &mut row);
        }
    }
    row.url = Some(place.to_string());
    Ok(Some(row))
}

fn row(settings: &Settings, scandir: &ScanDir, watched: bool) -> Result<Row> {
    let intent = Intent::running();
    let paths = Paths {
        home: settings.home.display().to_string(),
        slot: settings.scandir.join(DASHBOARD).display().to_string(),
        log: log(settings).display().to_string(),
    };
    let mut row = Row::new(LABEL.parse::<ProfileName>()?, &intent, None, paths);
    let seen = Seen {
        now: SystemTime::now(),
        watched,
        scandir: &settings.scandir,
        intent: &intent,
        called_by: &[],
        lock: None,
        said: &Said::default(),
        slot: service(settings, scandir).map_err(|error| error.to_string()),
        selection: "--dashboard",
        deaths: DEATHS,
    };
    judge(&mut row, &seen);
    Ok(row)
}

fn service(settings: &Settings, scandir: &ScanDir) -> Result<Option<Slot>> {
    let Some(service) = scandir.dir().dir_if_there(DASHBOARD)? else {
        return Ok(None);
    };
    let seen = match supervised(&settings.root, &service)? {
        Some((status, supervisor)) => Some(Service {
            status,
            supervisor,
            deaths: deaths(&service)?,
        }),
        None => None,
    };
    Ok(Some(Slot {
        service: seen,
        ..Slot::default()
    }))
}

/// Looks whether its log is written, when it has been up for so many seconds; `None` if that cannot be told.
fn written(settings: &Settings, scandir: &ScanDir, seconds: u64) -> Option<Log> {
    let service = scandir.dir().dir_if_there(DASHBOARD).ok()??;
    let logger = Logger::of(&settings.root, &service).ok()??;
    let logs = Dir::open(&settings.root.at(&settings.home)).and_then(|home| home.dir("logs"));
    let place = LogPlace::of(logs.as_ref(), LABEL);
    let fault = fault(&logger, &place, seconds, SystemTime::now());
    (!place.is_hidden).then(|| Log::of(&logger, &place, fault))
}

/// Puts what Hermes itself has said in the place of the reason, if it has refused to serve.
fn explain(settings: &Settings, row: &mut Row) {
    let lines = logs::last_lines(settings, logs::Whose::Dashboard, &row.profile, LINES);
    let lines = lines.unwrap_or_default();
    let said = lines
        .iter()
        .rev()
        .find_map(|line| Some(&line[line.find(REFUSAL)?..]));
    if let (Some(said), Some(reason)) = (said, row.reason.take()) {
        let said = format!("{reason}: {}", said.trim_end_matches('.'));
        for text in [&mut row.note, &mut row.warning].into_iter().flatten() {
            *text = text.replacen(&reason, &said, 1);
        }
        row.reason = Some(said);
    }
}
