//! Writing on the volume, always with the rights of the user who owns it.

use std::time::{Duration, SystemTime};

use crate::error::{Code, Error, Result, shown};
use crate::hermes::name::ProfileName;
use crate::hermes::state::{STATE_FILE, STATE_LIMIT, Wanted, intent, with_intent};
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::tree::plan::{PlannedStop, Seed, VolumeChanges};
use crate::volume::survey::PORTS_FILE;

/// The file in a gateway's home that says that it is stopped on purpose. The gateway reads it for a
/// minute and removes it (Hermes Agent 0.19.0, `gateway/status.py`).
pub const PLANNED_STOP_FILE: &str = ".gateway-planned-stop.json";

/// How often a state file is read again that somebody else has written meanwhile.
const REWRITES: usize = 8;

/// What a state file is kept as that says nothing and must make room.
const DAMAGED_STATE_FILE: &str = "gateway_state.json.damaged";

/// The log of what each boot made of each profile, in `logs/` of the data root.
const BOOT_LOG: &str = "container-boot.log";

/// The size in bytes at which the boot log is put aside as `.1`, as the original did.
const BOOT_LOG_LIMIT: u64 = 256 * 1024;

/// Writes the changes, each as far as it goes, and gives what could not be done, as sentences.
pub fn settle(settings: &Settings, changes: &VolumeChanges) -> Vec<String> {
    let home = match Dir::open(&settings.root.at(&settings.home)) {
        Ok(home) => home,
        Err(error) => return vec![error.to_string()],
    };
    let mut failures = Vec::new();
    let mut attempt =
        |result: Result<()>| failures.extend(result.err().map(|error| error.to_string()));
    let now = SystemTime::now();
    if let Some(seed) = changes.seed {
        attempt(
            home.create_new(STATE_FILE, seed_state(seed, now).as_bytes())
                .map(drop),
        );
    }
    for (profile, file) in &changes.remove {
        attempt(home_of(&home, profile).and_then(|home| home.remove(file)));
    }
    if !changes.log_directories.is_empty() {
        let logs = home
            .make_dir("logs")
            .and_then(|logs| logs.make_dir("gateways"));
        match logs {
            Ok(logs) => {
                for profile in &changes.log_directories {
                    attempt(logs.make_dir(profile.as_str()).map(drop));
                }
            }
            Err(error) => attempt(Err(error)),
        }
    }
    if let Some(ports) = &changes.ports {
        let mut content = serde_json::to_vec(ports).unwrap_or_default();
        content.push(b'\n');
        attempt(home.replace(PORTS_FILE, &content));
    }
    for (profile, wanted) in &changes.intents {
        let written = home_of(&home, profile).and_then(|home| write_intent(&home, *wanted, now));
        let problem = |error: Error| {
            error.remedy(format!(
                "the volume does not say that {profile} is wanted {}",
                wanted.word()
            ))
        };
        attempt(written.map_err(problem));
    }
    for stop in &changes.planned_stops {
        attempt(home_of(&home, &stop.profile).and_then(|home| announce(&home, stop, now)));
    }
    if !changes.boot_log.is_empty() {
        attempt(boot_log(&home, &changes.boot_log, now));
    }
    failures
}

/// Opens the home of a profile, in that of the data root.
pub fn home_of(home: &Dir, profile: &ProfileName) -> Result<Dir> {
    if profile.is_default() {
        home.dir(".")
    } else {
        home.dir("profiles")?.dir(profile.as_str())
    }
}

/// Writes what the operator wants. A file that says nothing is put aside, never written over; one that
/// the gateway writes at the same moment is read again, so that nobody's words are lost.
fn write_intent(home: &Dir, wanted: Wanted, now: SystemTime) -> Result<()> {
    let now = seconds(now);
    for _ in 0..REWRITES {
        let nothing = b"{}".to_vec();
        let mut seen = home.version(STATE_FILE);
        let content = match home.read(STATE_FILE, STATE_LIMIT) {
            Ok(content) if content.trim_ascii().is_empty() => nothing,
            Ok(content) => content,
            Err(unusable) if unusable.is_missing() => nothing,
            Err(unusable) => {
                let path = home.path().join(STATE_FILE);
                return Err(Error::new(
                    Code::System,
                    format!("unable to write {}: {}", shown(&path), unusable.text),
                ));
            }
        };
        if intent(&content).is_ok_and(|intent| intent.is(wanted)) {
            return Ok(());
        }
        let content = match with_intent(&content, wanted, now) {
            Ok(content) => content,
            Err(_damaged) => {
                home.rename(STATE_FILE, DAMAGED_STATE_FILE)?;
                seen = None;
                with_intent(b"{}", wanted, now).unwrap_or_default()
            }
        };
        if home.rewrite(STATE_FILE, &content, seen)? {
            return Ok(());
        }
    }
    Err(Error::new(
        Code::System,
        format!(
            "unable to write {}: somebody else writes it all the time",
            shown(&home.path().join(STATE_FILE))
        ),
    ))
}

/// Tells a gateway that it is stopped on purpose.
fn announce(home: &Dir, stop: &PlannedStop, now: SystemTime) -> Result<()> {
    let PlannedStop {
        pid,
        start,
        stopper,
        ..
    } = stop;
    // As Python's datetime.isoformat() writes it.
    let time = timestamp(now).replace("+0000", "+00:00");
    let text = format!(
        "{{\"target_pid\":{pid},\"target_start_time\":{start},\"stopper_pid\":{stopper},\"written_at\":\"{time}\"}}"
    );
    home.replace(PLANNED_STOP_FILE, text.as_bytes())
}

fn seed_state(seed: Seed, now: SystemTime) -> String {
    let now = seconds(now);
    match seed {
        Seed::GatewayRun => format!(
            "{{\"gateway_state\":\"running\",\"desired_state\":\"running\",\"timestamp\":{now},\"migrated_from\":\"legacy-container-cmd\"}}\n"
        ),
        Seed::Bootstrap => {
            format!(
                "{{\"gateway_state\":\"running\",\"desired_state\":\"running\",\"timestamp\":{now}}}\n"
            )
        }
    }
}

fn boot_log(home: &Dir, lines: &[String], now: SystemTime) -> Result<()> {
    let logs = home.make_dir("logs")?;
    if logs.size(BOOT_LOG) >= BOOT_LOG_LIMIT {
        logs.rename(BOOT_LOG, &format!("{BOOT_LOG}.1"))?;
    }
    let time = timestamp(now);
    let mut text = String::new();
    for line in lines {
        text.extend([&time, " ", line, "\n"]);
    }
    logs.append(BOOT_LOG, text.as_bytes())
}

/// Writes a time as the original's `%Y-%m-%dT%H:%M:%S%z`, in UTC.
pub fn timestamp(time: SystemTime) -> String {
    let seconds = seconds(time);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+0000")
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}

/// Gives the date of a day counted from 1970-01-01, by the calendar's cycle of 400 years.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that a leap day is the last day of its year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_the_original_wrote_it() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00+0000"),
            (951_782_399, "2000-02-28T23:59:59+0000"),
            (951_782_400, "2000-02-29T00:00:00+0000"),
            (1_735_689_599, "2024-12-31T23:59:59+0000"),
            (4_107_542_400, "2100-03-01T00:00:00+0000"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(timestamp(time), text);
        }
    }
}
