//! Writing on the volume, always with the rights of the user who owns it.

use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Code, Error, Result, shown, word};
use crate::hermes::name::ProfileName;
use crate::hermes::state::{Intent, STATE_FILE, STATE_LIMIT, Source, Wanted, intent, with_intent};
use crate::report::Warning;
use crate::rights::Rights;
use crate::rights::ask::by_child;
use crate::s6::capacity::descriptors;
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::system::pulse::beat;
use crate::system::time::{seconds_since_1970, timestamp};
use crate::system::wait::wait_until;
use crate::volume::changes::{NewPorts, PlannedStop, Seed, Settled, VolumeChanges};
use crate::volume::port::{PORTS_FILE, read_record};

/// The file in a profile's home that tells the gateway that it is stopped on purpose.
///
/// The gateway accepts the file for a minute, and removes it (Hermes Agent 0.19.0, `gateway/status.py`).
pub const PLANNED_STOP_FILE: &str = ".gateway-planned-stop.json";

/// The number of attempts to write a state file that somebody else writes at the same time.
const REWRITES: usize = 8;

/// The name under which a damaged state file is kept when a new one takes its place.
const DAMAGED_STATE_FILE: &str = "gateway_state.json.damaged";

/// The boot log, in `logs/` of the data root: what each boot did with each profile.
const BOOT_LOG: &str = "container-boot.log";

/// The size in bytes at which the boot log is renamed to `.1`, the same as in the original image.
const BOOT_LOG_LIMIT: u64 = 256 * 1024;

/// How long to wait for another container that records ports on the same volume.
const PORTS_WAIT: Duration = Duration::from_secs(10);

/// The number of homes that are synced together: each is an open directory until then.
const UNSYNCED: usize = 64;

/// The descriptors that are needed besides.
const OTHERS: usize = 16;

/// Writes the changes. A failure does not stop the others.
///
/// The ports come first: if another container has recorded others meanwhile, nothing at all is written. What has to
/// outlive a power cut does so when this function has returned.
pub fn settle(settings: &Settings, changes: &VolumeChanges) -> Settled {
    let mut settled = Settled::default();
    let home = match Dir::open(&settings.root.at(&settings.home)) {
        Ok(home) => home,
        Err(error) => {
            let error = error.remedy("nothing that is on the volume has been changed");
            settled.failures.push(Warning::new(error.to_string()));
            return settled;
        }
    };
    let mut attempt = |profile: Option<&ProfileName>, result: Result<()>| {
        beat();
        settled.failures.extend(result.err().map(|error| Warning {
            profile: profile.map(ToString::to_string),
            text: error.to_string(),
        }));
    };
    if let Some(ports) = &changes.ports {
        match record_ports(&home, ports) {
            Ok(true) => {}
            Ok(false) => {
                settled.is_overtaken = true;
                return settled;
            }
            Err(error) => attempt(None, Err(error)),
        }
    }
    let now = SystemTime::now();
    if let Some(seed) = changes.seed {
        let state = seed_state(seed, now);
        let created = home.create_new(STATE_FILE, state.as_bytes()).map(drop);
        attempt(Some(&ProfileName::default_profile()), created);
    }
    if changes.ports.is_some() || changes.seed.is_some() {
        attempt(None, home.sync());
    }
    for (profile, file) in &changes.remove {
        let removed = home_of(&home, profile).and_then(|home| home.remove(file));
        attempt(Some(profile), removed);
    }
    if !changes.log_directories.is_empty() {
        let logs = home
            .make_dir("logs")
            .and_then(|logs| logs.make_dir("gateways"));
        match logs {
            Ok(logs) => {
                for profile in &changes.log_directories {
                    let made = logs.make_dir(profile.as_str()).map(drop);
                    attempt(Some(profile), made);
                }
            }
            Err(error) => attempt(None, Err(error)),
        }
    }
    let intents = changes.intents.iter();
    let intents = intents.map(|(profile, wanted)| (profile, *wanted, Over::Everything));
    let adopted = changes.adopted.iter();
    let adopted = adopted.map(|profile| (profile, Wanted::Running, Over::GatewayState));
    let all: Vec<_> = intents.chain(adopted).collect();
    for some in all.chunks(unsynced()) {
        let written = write_intents(&home, some, now);
        for ((profile, ..), result) in some.iter().zip(written) {
            attempt(Some(profile), result);
        }
    }
    for stop in &changes.planned_stops {
        let announced = home_of(&home, &stop.profile).and_then(|home| announce(&home, stop, now));
        attempt(Some(&stop.profile), announced);
    }
    if !changes.boot_log.is_empty() {
        attempt(None, boot_log(&home, &changes.boot_log, now));
    }
    settled
}

/// Writes the changes as [`settle`] does, with the rights of the volume's owner, and waits for a limited time.
pub fn settle_as(
    settings: &Settings,
    tools: &Tools,
    rights: &Rights,
    changes: &VolumeChanges,
) -> Result<Settled> {
    if *changes == VolumeChanges::default() {
        return Ok(Settled::default());
    }
    by_child(settings, rights, Some(tools), &["settle"], changes)
        .unwrap_or_else(|| Ok(settle(settings, changes)))
}

/// Records ports, unless the record is another one than the ports were made from; then the result is `false`.
fn record_ports(home: &Dir, NewPorts { seen, ports }: &NewPorts) -> Result<bool> {
    let _lock = lock(home)?;
    if read_record(home) != *seen {
        return Ok(false);
    }
    let mut content = serde_json::to_vec(ports).unwrap_or_default();
    content.push(b'\n');
    home.replace(PORTS_FILE, &content)?;
    Ok(true)
}

/// Locks the data root against other containers that record ports; `None` where directories cannot be locked, as on
/// NFS: there, two containers that compare the record at the same moment can both replace it.
///
/// The directory itself is locked: a file would be another one to explain on the volume.
fn lock(home: &Dir) -> Result<Option<Dir>> {
    let lock = home.dir(".")?;
    let mut taken = Ok(());
    let is_decided = wait_until(PORTS_WAIT, "another hermes-s6 to record ports", || {
        taken = flock(&lock, FlockOperation::NonBlockingLockExclusive);
        beat();
        !matches!(taken, Err(Errno::AGAIN | Errno::INTR))
    });
    match taken {
        Ok(()) => Ok(Some(lock)),
        Err(errno) if is_decided => match errno {
            Errno::BADF | Errno::INVAL | Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP => Ok(None),
            errno => Err(Error::system("lock", home.path(), errno)),
        },
        Err(_) => Err(Error::new(
            Code::TimedOut,
            format!(
                "unable to write {}: another hermes-s6 has been writing it for {} s",
                shown(&home.path().join(PORTS_FILE)),
                PORTS_WAIT.as_secs()
            ),
        )
        .remedy("run hermes-s6 reconcile again")),
    }
}

/// Opens the home of a profile, beneath `home`, the data root.
pub fn home_of(home: &Dir, profile: &ProfileName) -> Result<Dir> {
    if profile.is_default() {
        home.dir(".")
    } else {
        // The names there need not be readable.
        home.passage("profiles")?.dir(profile.as_str())
    }
}

/// What an intent is written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Whatever the state file says: the operator asks for it.
    Everything,
    /// Only what the gateway has written: an intent of the operator stays.
    GatewayState,
}

/// Gives the number of homes that can be open at once.
fn unsynced() -> usize {
    let limit = descriptors().and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(UNSYNCED, |limit| {
        limit.saturating_sub(OTHERS).clamp(1, UNSYNCED)
    })
}

/// Writes intents, and then syncs the homes together.
fn write_intents(
    home: &Dir,
    intents: &[(&ProfileName, Wanted, Over)],
    now: SystemTime,
) -> Vec<Result<()>> {
    let write = |(profile, wanted, over): &(&ProfileName, Wanted, Over)| {
        beat();
        let home = home_of(home, profile)?;
        write_intent(&home, *wanted, *over, now)?;
        // Synced also if it was there already: the command that wrote it may have been killed before it could.
        Ok(home)
    };
    let written: Vec<Result<Dir>> = intents.iter().map(write).collect();
    let synced = written
        .into_iter()
        .inspect(|_| beat())
        .map(|written| written.and_then(|home| home.sync()));
    let problem = |(result, (profile, wanted, _)): (Result<()>, &(&ProfileName, Wanted, Over))| {
        result.map_err(|error| {
            error.remedy(format!(
                "the volume does not say that {profile} is wanted {}",
                word(wanted)
            ))
        })
    };
    synced.zip(intents).map(problem).collect()
}

/// Writes an intent into the state file of a home.
///
/// A damaged state file gets another name when the new one is complete. If the gateway writes the file at the same
/// moment, it is read again, so that nothing that the gateway wrote is lost.
fn write_intent(home: &Dir, wanted: Wanted, over: Over, now: SystemTime) -> Result<()> {
    let now = seconds_since_1970(now);
    for _ in 0..REWRITES {
        let nothing = b"{}".to_vec();
        let seen = home.version(STATE_FILE)?;
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
        let found = intent(&content);
        let is_said = |intent: &Intent| match over {
            Over::Everything => intent.is(wanted),
            Over::GatewayState => intent.source == Some(Source::DesiredState),
        };
        if found.as_ref().is_ok_and(is_said) {
            return Ok(());
        }
        let (content, kept) = match with_intent(&content, wanted, now) {
            Ok(content) => (content, None),
            Err(_damaged) => (
                with_intent(b"{}", wanted, now).unwrap_or_default(),
                Some(DAMAGED_STATE_FILE),
            ),
        };
        if home.rewrite(STATE_FILE, &content, seen, kept)? {
            return Ok(());
        }
    }
    Err(Error::new(
        Code::System,
        format!(
            "unable to write {}: another process writes it again and again",
            shown(&home.path().join(STATE_FILE))
        ),
    ))
}

/// Writes the file that tells a gateway that it is stopped on purpose.
fn announce(home: &Dir, stop: &PlannedStop, now: SystemTime) -> Result<()> {
    let PlannedStop {
        pid,
        start,
        stopper,
        ..
    } = stop;
    // The form of Python's datetime.isoformat(), which Hermes reads.
    let time = timestamp(now).replace("+0000", "+00:00");
    let text = format!(
        "{{\"target_pid\":{pid},\"target_start_time\":{start},\"stopper_pid\":{stopper},\"written_at\":\"{time}\"}}"
    );
    home.replace_passing(PLANNED_STOP_FILE, text.as_bytes(), 0o644)
}

fn seed_state(seed: Seed, now: SystemTime) -> String {
    let now = seconds_since_1970(now);
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
        match logs.rename(BOOT_LOG, format!("{BOOT_LOG}.1")) {
            // Another container has done so at the same time.
            Err(error) if error.is_not_found() => {}
            renamed => renamed?,
        }
    }
    let time = timestamp(now);
    let mut text = String::new();
    for line in lines {
        text.extend([&time, " ", line, "\n"]);
    }
    logs.append(BOOT_LOG, text.as_bytes())
}

#[cfg(test)]
mod tests;
