//! The status of profiles and slots: reads what runs, and compares it with what the volume says should run.
//!
//! This module does the I/O, [`verdict`](crate::view::verdict) the comparison.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::thread;
use std::time::SystemTime;

use crate::error::Result;
use crate::hermes::container::Command;
use crate::hermes::name::ProfileName;
use crate::hermes::state::Said;
use crate::s6::supervision::{CRASH_LOOP_DEATHS, STATUS_TIME, deaths, supervised};
use crate::settings::Settings;
use crate::tree::detect::detect;
use crate::tree::held::{called_by, held, intent};
use crate::tree::logger::{Logger, fault};
use crate::tree::scandir::ScanDir;
use crate::view::row::{Log, Paths, Report, Row, State};
use crate::view::verdict::{Seen, Service, Slot, judge};
use crate::volume::log::LogPlace;
use crate::volume::port::HERMES_DEFAULT;
use crate::volume::problem::Answer;
use crate::volume::survey::{Skipped, Survey, UNREADABLE};

/// Reports on all slots and profiles, and on their logs.
///
/// A log that is not written is looked at twice, with what `again` finds on the volume: between one look at the volume
/// and that at s6, a logger may have been started, or have taken a new file.
pub fn report(
    settings: &Settings,
    scandir: &ScanDir,
    survey: &Survey,
    again: impl FnOnce() -> Result<Survey>,
) -> Result<Report> {
    let look = |survey: &Survey| report_on(settings, scandir, survey, &[], true);
    Ok(settled(look(survey)?, || look(&again()?)))
}

/// Gives the report, or that of a second look if a log is not written in it and there can be one.
fn settled(report: Report, again: impl FnOnce() -> Result<Report>) -> Report {
    if report.profiles.iter().all(|row| row.log_note().is_none()) {
        return report;
    }
    thread::sleep(STATUS_TIME);
    again().unwrap_or(report)
}

/// Reports on the slots and profiles that are in `only`, or on all if `only` is empty, and looks at no log.
pub fn states(
    settings: &Settings,
    scandir: &ScanDir,
    survey: &Survey,
    only: &[ProfileName],
) -> Result<Report> {
    report_on(settings, scandir, survey, only, false)
}

fn report_on(
    settings: &Settings,
    scandir: &ScanDir,
    survey: &Survey,
    only: &[ProfileName],
    with_logs: bool,
) -> Result<Report> {
    let mut names = BTreeSet::new();
    if only.is_empty() {
        names = scandir.profiles()?;
        names.extend(survey.profiles.keys().cloned());
    }
    names.extend(only.iter().cloned());
    let ports = survey.assigned_ports(settings);
    let manager = detect(settings)?;
    let look = Look {
        settings,
        scandir,
        survey,
        // Two signs: a caller without rights does not see the watcher; and an s6-svscan may watch a scan
        // directory that has no gateways of this data root.
        watched: manager.is_s6() || matches!(scandir.watcher(), Ok(Some(_))),
        now: SystemTime::now(),
        with_logs,
        command: OnceCell::new(),
    };
    let row = |name: &ProfileName| {
        let port = port(settings, survey, name, ports.get(name).copied());
        look.row(name, port)
    };
    let mut profiles: Vec<Row> = names.iter().map(row).collect();
    if profiles.iter().any(|row| row.state == State::Unknown) {
        // Between the end of a process and its new status lies a moment.
        thread::sleep(STATUS_TIME);
        for unknown in &mut profiles {
            if unknown.state == State::Unknown {
                *unknown = row(&unknown.profile);
            }
        }
    }
    Ok(Report {
        manager,
        volume: None,
        profiles,
        dashboard: None,
    })
}

/// Gives the port on which the API server of a profile listens, if it runs one.
///
/// `given` is the port that hermes-s6 gave to the profile; a port that the profile sets itself comes first. If that
/// cannot be read, the port is not known.
pub fn port(
    settings: &Settings,
    survey: &Survey,
    name: &ProfileName,
    given: Option<u16>,
) -> Option<u16> {
    let own = match survey.profiles.get(name) {
        Some(profile) => *profile.own_port.known()?,
        None => None,
    };
    let usual = name
        .is_default()
        .then(|| settings.api_server_port.unwrap_or(HERMES_DEFAULT));
    own.or(given).or(usual)
}

/// Looks at one profile after the other, with what is the same for all.
struct Look<'a> {
    settings: &'a Settings,
    scandir: &'a ScanDir,
    survey: &'a Survey,
    /// Whether an s6-svscan watches the scan directory.
    watched: bool,
    now: SystemTime,
    with_logs: bool,
    /// The container's command, once it has been looked for.
    command: OnceCell<Command>,
}

impl Look<'_> {
    fn row(&self, name: &ProfileName, port: Option<u16>) -> Row {
        let profile = self.survey.profiles.get(name);
        let settings = self.settings;
        let own = profile
            .map(|profile| profile.intent.clone())
            .unwrap_or_default();
        let others_run = name.is_default() && self.others_run();
        let intent = intent(settings, self.survey, others_run, name);
        let paths = Paths {
            home: settings.home_of(name).display().to_string(),
            slot: settings.scandir.join(name.slot()).display().to_string(),
            log: settings.log_of(name).display().to_string(),
        };
        let mut row = Row::new(name.clone(), &own, port, paths);
        row.wanted = intent.wants_running();
        row.intent_problem = self.intent_problem(name);
        let is_called = name.is_default() && row.wanted && !own.wants_running();
        let calls = if is_called {
            called_by(settings, self.survey, others_run)
        } else {
            Vec::new()
        };
        let nothing = Said::default();
        let selection = format!("-p {name}");
        let seen = Seen {
            now: self.now,
            watched: self.watched,
            scandir: &settings.scandir,
            lock: profile.and_then(|profile| profile.lock.as_ref()),
            said: profile.map_or(&nothing, |profile| &profile.said),
            slot: self.slot(name, row.wanted).map_err(|error| {
                let remedy = ": ask as root or as the user of the gateways";
                let remedy = if error.is_forbidden() { remedy } else { "" };
                format!("{error}{remedy}")
            }),
            intent: &intent,
            called_by: &calls,
            selection: &selection,
            deaths: CRASH_LOOP_DEATHS,
        };
        judge(&mut row, &seen);
        // While another tree runs this profile, its logger has the log too. What does not run says nothing.
        let has_log = self.with_logs && row.pid.is_some() && row.state != State::WaitingForLock;
        let place = profile.map(|profile| &profile.log);
        if let Some(place) = place.filter(|place| has_log && !place.is_hidden) {
            row.log = self.log(name, place, row.seconds.unwrap_or_default());
        }
        row
    }

    /// Says why it is not known what the operator wants of a profile: its state file or its home cannot be read.
    fn intent_problem(&self, name: &ProfileName) -> Option<String> {
        let skipped = || {
            let is_of = |skipped: &&Skipped| skipped.name == name.as_str();
            let skipped = self.survey.skipped.iter().find(is_of)?;
            (skipped.problem.reason == UNREADABLE).then_some(&skipped.problem)
        };
        let problem = match self.survey.profiles.get(name) {
            Some(profile) => profile.problem.as_ref(),
            None => skipped(),
        };
        problem.map(|problem| problem.text.clone())
    }

    /// Tells whether a gateway of another profile than `default` runs, where that is the one that serves all; also if
    /// that cannot be told.
    fn others_run(&self) -> bool {
        let may_run = |name: &ProfileName| {
            let status = self.scandir.status(&self.settings.root, name);
            let stays_down =
                status.is_ok_and(|status| status.is_none_or(|status| !status.wanted_up));
            !name.is_default() && !stays_down
        };
        self.survey.multiplex(self.settings) == Answer::Known(true)
            && self.survey.profiles.keys().any(may_run)
    }

    /// Looks at the logger of a slot, whose log directory is `place` and whose gateway has been up for so many seconds;
    /// `None` if it cannot be told what it does.
    fn log(&self, name: &ProfileName, place: &LogPlace, seconds: u64) -> Option<Log> {
        let slot = self.scandir.slot(name).ok()??;
        let logger = Logger::of(&self.settings.root, &slot).ok()??;
        let fault = fault(&logger, place, seconds, self.now);
        Some(Log::of(&logger, place, fault))
    }

    fn slot(&self, name: &ProfileName, wanted: bool) -> Result<Option<Slot>> {
        let slot = self.scandir.slot(name)?;
        let (Some(slot), true) = (slot, self.scandir.has_slot(name)?) else {
            return Ok(None);
        };
        let is_registered_down = slot.kind("down")?.is_some();
        // Only for such a slot: to find the container's command means to read every process.
        let held = (wanted && is_registered_down).then(|| {
            let root = &self.settings.root;
            let command = self.command.get_or_init(|| Command::detect(root));
            held(self.settings, command, self.survey, name)
        });
        let service = match supervised(&self.settings.root, &slot)? {
            Some((status, supervisor)) => Some(Service {
                status,
                supervisor,
                deaths: deaths(&slot)?,
            }),
            None => None,
        };
        Ok(Some(Slot {
            is_registered_down,
            held: held.flatten(),
            service,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs;
    use std::mem::MaybeUninit;

    use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};

    use super::*;
    use crate::error::{Code, Error as Failure};
    use crate::hermes::state::Intent;
    use crate::system::beneath::scratch::Scratch;
    use crate::system::root::Root;
    use crate::tree::detect::Detection;
    use crate::volume::survey::survey;

    /// Counts how often a status with so many wanted slots that are down lists the processes.
    fn walks(slots: usize) -> std::result::Result<usize, Box<dyn Error>> {
        let scratch = Scratch::new(&format!("walks-{slots}"))?;
        let running = r#"{"desired_state":"running"}"#;
        let write = |path: &str, content: &str| {
            let place = scratch.path().join(path);
            fs::create_dir_all(place.parent().unwrap_or(&place))?;
            fs::write(place, content)
        };
        write("proc/1/cmdline", "init")?;
        for number in 0..slots {
            let home = format!("opt/data/profiles/p{number}");
            let slot = format!("run/hermes-s6/service/gateway-p{number}");
            for (path, content) in [
                (format!("{home}/SOUL.md"), ""),
                (format!("{home}/gateway_state.json"), running),
                (format!("{slot}/data/hermes-s6"), ""),
                (format!("{slot}/down"), ""),
            ] {
                write(&path, content)?;
            }
        }
        let settings = Settings {
            root: Root::new(scratch.path()),
            ..Settings::example()
        };
        let scandir = ScanDir::open(&settings)?;
        let survey = survey(&settings, &[])?;
        let watch = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // What is closed between two walks keeps their events apart.
        let flags = WatchFlags::OPEN | WatchFlags::CLOSE_NOWRITE;
        add_watch(&watch, scratch.path().join("proc"), flags)?;
        let report = report(&settings, &scandir, &survey, || Ok(survey.clone()))?;
        assert_eq!(report.profiles.len(), slots + 1, "and default");
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(&watch, &mut buffer);
        let mut walks = 0;
        while let Ok(event) = events.next() {
            let is_directory = event.file_name().is_none();
            walks += usize::from(is_directory && event.events().contains(ReadFlags::OPEN));
        }
        Ok(walks)
    }

    /// A report on one gateway, whose log is written or not.
    fn with_log(written: bool) -> Result<Report> {
        let paths = Paths {
            home: String::new(),
            slot: String::new(),
            log: String::new(),
        };
        let mut row = Row::new("coder".parse()?, &Intent::running(), None, paths);
        row.log = Some(Log {
            written,
            reason: None,
            since: None,
            remedy: None,
            losses: 0,
        });
        Ok(Report {
            manager: Detection::none(String::new()),
            volume: None,
            profiles: vec![row],
            dashboard: None,
        })
    }

    #[test]
    fn a_log_that_is_not_written_is_looked_at_twice() -> Result<()> {
        let (fine, fault) = (with_log(true)?, with_log(false)?);
        let failure = || Err(Failure::new(Code::System, "no volume"));
        for (first, second, expected, sentence) in [
            (&fine, None, &fine, "it is written"),
            (
                &fault,
                Some(Ok(fine.clone())),
                &fine,
                "its logger had just been started",
            ),
            (&fault, Some(Ok(fault.clone())), &fault, "it is not written"),
            (&fault, Some(failure()), &fault, "the volume is gone"),
        ] {
            let mut looks = 0;
            let is_second = second.is_some();
            let report = settled(first.clone(), || {
                looks += 1;
                second.unwrap_or_else(failure)
            });
            assert_eq!(
                (&report, looks),
                (expected, usize::from(is_second)),
                "{sentence}"
            );
        }
        Ok(())
    }

    #[test]
    fn the_processes_are_read_once_however_many_slots_are_down()
    -> std::result::Result<(), Box<dyn Error>> {
        for slots in [1, 20] {
            assert_eq!(walks(slots)?, 1, "{slots} slots");
        }
        Ok(())
    }
}
