//! The survey: reads from the volume the profiles, what their operators want, and their ports.
//!
//! The volume is read with the rights of its owner only. A root process runs `hermes-s6 survey` as the owner and
//! reads the answer, which has checked names and plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use rustix::fs::{FileType, FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result, escaped};
use crate::hermes::config::{MULTIPLEX_VARIABLE, PORT_VARIABLE, truth};
use crate::hermes::dotenv::EnvFile;
use crate::hermes::name::{ProfileName, is_reserved};
use crate::hermes::state::{Intent, STATE_FILE, STATE_LIMIT, Said, Source, intent};
use crate::rights::Rights;
use crate::rights::ask::by_child;
use crate::s6::tool::Tools;
use crate::settings::{Settings, is_supervised_child};
use crate::system::beneath::Dir;
use crate::system::process::holder;
use crate::system::pulse::beat;
use crate::volume::lock::{LOCK_FILE, Lock};
use crate::volume::log::LogPlace;
use crate::volume::port::{
    Entries, HERMES_DEFAULT, Ports, Record, Recorded, assign, read_record, sound, still_given,
};
use crate::volume::problem::{Answer, Problem};
use crate::volume::said::said;
use crate::volume::setting::{MALFORMED, Setting};

/// The reason of what cannot be looked at, or not now.
pub const UNREADABLE: &str = "unreadable";

/// Files that a killed gateway leaves behind, and that keep the next gateway from starting.
const STALE_FILES: [&str; 2] = ["gateway.pid", "processes.json"];

/// The directory of all logs, or why it cannot be opened.
type Logs<'a> = std::result::Result<&'a Dir, &'a Error>;

/// Everything that a decision needs from the volume.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Survey {
    /// The profiles that can have a slot: `default`, then the others by name.
    pub profiles: BTreeMap<ProfileName, Profile>,
    /// Directories that look like a profile's home, but cannot have a slot.
    pub skipped: Vec<Skipped>,
    /// Profiles whose home exists but cannot be read: their slots stay as they are.
    pub unknown: Vec<ProfileName>,
    /// Directories with the name of a profile, but without a `SOUL.md`.
    pub soulless: Vec<ProfileName>,
    /// Whether the list of profiles is complete; if not, no profile counts as gone.
    pub complete: bool,
    /// The recorded ports that still count, see [`still_given`].
    pub ports: Ports,
    /// What the record of ports is worth.
    pub record: Record,
    /// The record of ports as it was read.
    pub recorded: Recorded,
    /// The profile that `hermes profile use` chose.
    pub active: Answer<Option<ProfileName>>,
    /// Whether one gateway serves all profiles, if the default profile's `.env` sets that.
    pub multiplex_in_env_file: Answer<Option<bool>>,
    /// Whether one gateway serves all profiles by the default profile's `config.yaml`.
    pub multiplex_in_config: Answer<bool>,
    /// Whether the tree is about to start, and every gateway in it reads these files as they are now.
    pub starting: bool,
}

/// One profile on the volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Profile {
    /// The name of the profile.
    pub name: ProfileName,
    /// The state that the operator wants.
    pub intent: Intent,
    /// Whether the profile has no state file at all.
    pub stateless: bool,
    /// Why the state file tells no intent, if it is there and unusable.
    pub problem: Option<Problem>,
    /// The port that the profile's own environment file sets.
    pub own_port: Answer<Option<u16>>,
    /// Files that a killed gateway has left, to be removed before the next one starts.
    pub stale: Vec<String>,
    /// The log directory of the profile.
    pub log: LogPlace,
    /// What the gateway says of itself.
    pub said: Said,
    /// The lock of the home, if it was ever taken.
    pub lock: Option<Lock>,
    /// Why it cannot be told who holds the lock.
    pub lock_failure: Option<String>,
}

/// A directory that looks like a profile's home, but gets no slot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Skipped {
    /// The name of the directory, made printable.
    pub name: String,
    /// Why it gets no slot.
    pub problem: Problem,
}

/// Surveys the volume, with the profiles that are in `only`, or with all if `only` is empty.
///
/// The default profile is always part of it.
pub fn survey(settings: &Settings, only: &[ProfileName]) -> Result<Survey> {
    let home = Dir::open(&settings.root.at(&settings.home)).map_err(|error| {
        error.remedy("name the data directory of Hermes with --home or HERMES_HOME")
    })?;
    let logs = home.dir("logs").and_then(|logs| logs.dir("gateways"));
    let mut survey = Survey {
        complete: true,
        ..Survey::default()
    };
    // A gateway of Hermes does not follow the choice of `hermes profile use` either.
    if !is_supervised_child() {
        let active = Setting::active(&home).text();
        survey.active = active.map(|name| name?.trim().parse().ok());
    }
    let env_file = Setting::env_file(&home);
    let variables = env_file.variables();
    survey.multiplex_in_env_file = env_file
        .variable(&variables, MULTIPLEX_VARIABLE)
        .map(|value| truth(&value?));
    survey.multiplex_in_config = Setting::config(&home)
        .configuration()
        .map(|config| config.multiplex());
    let default = look(
        ProfileName::default_profile(),
        &home,
        logs.as_ref(),
        &variables,
    );
    let own_port = default
        .own_port
        .map(|port| port.or(settings.api_server_port));
    survey.profiles.insert(
        default.name.clone(),
        Profile {
            own_port,
            ..default
        },
    );
    let recorded = read_record(&home);
    let mut names: BTreeSet<ProfileName> = BTreeSet::new();
    match home.dir("profiles") {
        Ok(profiles) => match profiles.names() {
            Ok(entries) => {
                for entry in entries {
                    visit(&profiles, &entry, logs.as_ref(), only, &mut survey);
                    names.extend(
                        entry
                            .to_str()
                            .and_then(|name| name.parse::<ProfileName>().ok()),
                    );
                }
            }
            Err(error) => survey.incomplete(&error.to_string()),
        },
        // If no port was ever recorded, no named profile was ever served: then the directory need not exist.
        Err(error) if error.is_not_found() && recorded.is_empty() => {}
        Err(error) => survey.incomplete(&format!(
            "{error}: named profiles must be in a real directory there"
        )),
    }
    let is_there = |name: &ProfileName| names.contains(name) || !survey.complete;
    (survey.ports, survey.record) = still_given(&recorded, is_there);
    survey.recorded = recorded;
    Ok(survey)
}

/// Surveys the volume as [`survey`] does, with the rights of its owner, and waits for a limited time.
pub fn survey_as(
    settings: &Settings,
    rights: &Rights,
    tools: Option<&Tools>,
    only: &[ProfileName],
) -> Result<Survey> {
    let mut words = vec!["survey"];
    for name in only {
        words.extend(["-p", name.as_str()]);
    }
    by_child(settings, rights, tools, &words, &()).unwrap_or_else(|| survey(settings, only))
}

/// Lists the names as [`names`] does, and waits for a limited time. This process works with its own rights.
pub fn names_in_time(settings: &Settings) -> Result<BTreeSet<ProfileName>> {
    by_child(settings, &Rights::Own, None, &["names"], &()).unwrap_or_else(|| names(settings))
}

/// Lists the names of the profiles on the volume, and reads nothing else.
pub fn names(settings: &Settings) -> Result<BTreeSet<ProfileName>> {
    let home = Dir::open(&settings.root.at(&settings.home))?;
    let mut names = BTreeSet::from([ProfileName::default_profile()]);
    let profiles = match home.dir("profiles") {
        Err(error) if error.is_not_found() => return Ok(names),
        profiles => profiles?,
    };
    for entry in profiles.names()? {
        let name: Option<ProfileName> = entry.to_str().and_then(|name| name.parse().ok());
        beat();
        let soul_kind = || profiles.dir(&entry).ok()?.kind("SOUL.md").ok()?;
        let is_profile = || soul_kind().is_some_and(|kind| kind != FileType::Directory);
        names.extend(name.filter(|_| is_profile()));
    }
    Ok(names)
}

impl Survey {
    /// Gives the profile that a command means if it names none: the one whose home HERMES_HOME is, else the
    /// active one, else `default`.
    pub fn meant(&self, settings: &Settings) -> Result<ProfileName> {
        if let Some(name) = &settings.home_profile {
            return Ok(name.clone());
        }
        match &self.active {
            Answer::Known(active) => {
                let active = active.clone();
                Ok(active.unwrap_or_else(ProfileName::default_profile))
            }
            Answer::Unknown(problem) => Err(not_chosen(problem)),
        }
    }

    /// Tells whether the gateway of `default` serves all profiles: in the order of that gateway itself, for which
    /// its `.env` goes before its environment.
    pub fn multiplex(&self, settings: &Settings) -> Answer<bool> {
        let set = match &self.multiplex_in_env_file {
            Answer::Unknown(problem) => return Answer::Unknown(problem.clone()),
            Answer::Known(set) => set.or(settings.multiplex),
        };
        match (set, &self.multiplex_in_config) {
            (Some(set), _) => Answer::Known(set),
            // Hermes starts without a file that it cannot load. But one that runs may have loaded it before.
            (None, Answer::Unknown(problem)) if self.starting && problem.reason == MALFORMED => {
                Answer::Known(false)
            }
            (None, config) => config.clone(),
        }
    }

    /// Tells whether `config.yaml` decides what serves all profiles, because nothing else does.
    fn config_decides(&self, settings: &Settings) -> bool {
        settings.multiplex.is_none() && self.multiplex_in_env_file == Answer::Known(None)
    }

    /// Lists what is wrong with the files of a profile. The same file is named once.
    pub fn problems(&self, settings: &Settings, name: &ProfileName) -> Vec<Problem> {
        let Some(profile) = self.profiles.get(name) else {
            return Vec::new();
        };
        let mut problems = Vec::from_iter(profile.problem.clone());
        if name.is_default() {
            let has_others = self.profiles.len() > 1 || !self.unknown.is_empty();
            let multiplex = Some(self.multiplex(settings)).filter(|_| has_others);
            match multiplex {
                Some(Answer::Unknown(problem)) => problems.push(Problem {
                    text: format!("{NOT_SERVED}: {}", problem.text),
                    ..problem
                }),
                // It counts as if there was no such file. But there is one.
                Some(_) if self.config_decides(settings) => {
                    problems.extend(self.multiplex_in_config.problem().cloned());
                }
                _ => {}
            }
            problems.extend(self.active.problem().cloned());
        }
        let port = profile.own_port.problem().cloned();
        let is_new = |port: &Problem| problems.iter().all(|problem| problem.reason != port.reason);
        let port = port.filter(is_new);
        problems.extend(port);
        problems
    }

    /// Tells whether a profile certainly does not exist: every name was seen, and this one is not among them.
    pub fn is_gone(&self, name: &ProfileName) -> bool {
        self.complete && !self.profiles.contains_key(name) && !self.unknown.contains(name)
    }

    /// Tells whether the volume says nothing of ports, so that the ports that the slots have count.
    pub fn lacks_ports(&self) -> bool {
        matches!(self.record, Record::None | Record::Unusable)
    }

    /// Lets the profiles keep the ports that their slots have.
    pub fn keep_ports(&mut self, slots: &Entries) {
        let is_there = |name: &ProfileName| {
            self.profiles.contains_key(name) || self.unknown.contains(name) || !self.complete
        };
        self.ports = sound(slots, is_there);
    }

    /// Gives what is wrong with the record of ports, if something is.
    pub fn problem_of_ports(&self) -> Option<&str> {
        match &self.recorded {
            Recorded::Unusable(why) => Some(why),
            _ => None,
        }
    }

    /// Lets gateways run that an earlier survey found running, unless their operator has said something: what a
    /// gateway writes when it is told to end does not keep it down.
    pub fn keep_intents(&mut self, earlier: &Self) {
        for (name, profile) in &mut self.profiles {
            if profile.intent.source != Some(Source::DesiredState)
                && let Some(earlier) = earlier.profiles.get(name)
                && earlier.intent.wants_running()
            {
                profile.intent = earlier.intent.clone();
            }
        }
    }

    /// Gives the ports of all named profiles, see [`assign`].
    pub fn assigned_ports(&self, settings: &Settings) -> Ports {
        let set = self.profiles.values();
        let mut taken: BTreeSet<u16> = set
            .filter_map(|profile| *profile.own_port.known()?)
            .collect();
        taken.insert(self.default_port(settings));
        let mut ports = assign(self.profiles.keys(), &self.ports, &taken, &settings.ports);
        // A profile whose home could not be read this time keeps its port.
        ports.extend(self.ports.iter().map(|(name, port)| (name.clone(), *port)));
        ports
    }

    /// Gives the port of the default profile; if its `.env` cannot be read, the one that it has without.
    pub fn default_port(&self, settings: &Settings) -> u16 {
        let default = self.profiles.get(&ProfileName::default_profile());
        let own = default.and_then(|profile| *profile.own_port.known()?);
        own.or(settings.api_server_port).unwrap_or(HERMES_DEFAULT)
    }

    /// Notes that the list of profiles is not complete.
    fn incomplete(&mut self, text: &str) {
        self.complete = false;
        self.skipped.push(Skipped {
            name: "profiles/".to_owned(),
            problem: Problem::new(UNREADABLE, text),
        });
    }

    fn skip(&mut self, name: &OsStr, reason: &str, text: impl Into<String>) {
        self.skipped.push(Skipped {
            name: escaped(name.as_encoded_bytes()),
            problem: Problem::new(reason, text),
        });
    }
}

/// What follows from a setting that cannot be read.
const NOT_SERVED: &str = "whether this gateway serves all profiles is not known, and the gateways of the others stay as they are";

/// Makes the error for a command without a name, if the chosen profile cannot be read.
pub fn not_chosen(problem: &Problem) -> Error {
    let what = format!("{}, or name the profile with -p", problem.text);
    Error::new(Code::System, what)
}

/// The remedy for what is on the volume and may not be read.
const MAKE_READABLE: &str = "make it readable for the user of the gateways";

/// Says why a home cannot be looked at, with the remedy where there is one.
fn unseen(error: &Error) -> String {
    let remedy = if error.is_forbidden() {
        [": ", MAKE_READABLE].concat()
    } else {
        String::new()
    };
    error.to_string() + &remedy
}

/// Adds one name in `profiles/` to the survey. A directory without a `SOUL.md` is not a profile.
fn visit(profiles: &Dir, entry: &OsStr, logs: Logs, only: &[ProfileName], survey: &mut Survey) {
    beat();
    let name: Option<ProfileName> = entry.to_str().and_then(|name| name.parse().ok());
    if !only.is_empty() && name.as_ref().is_none_or(|name| !only.contains(name)) {
        return;
    }
    match profiles.kind(entry) {
        Ok(Some(FileType::Directory)) => {}
        Ok(Some(FileType::Symlink)) => {
            survey.unknown.extend(name);
            let remedy =
                "a profile's home must be a directory there: mount it instead of linking to it";
            return survey.skip(entry, "symlink", remedy);
        }
        Ok(_) => return,
        // Such as ENOTCONN, of a file system whose server is gone: the home is not.
        Err(error) => {
            survey.unknown.extend(name);
            return survey.skip(entry, UNREADABLE, unseen(&error));
        }
    }
    let home = match profiles.dir(entry) {
        Ok(home) => home,
        Err(error) => {
            survey.unknown.extend(name);
            return survey.skip(entry, UNREADABLE, unseen(&error));
        }
    };
    match home.kind("SOUL.md") {
        Ok(Some(FileType::Directory) | None) => return survey.soulless.extend(name),
        Ok(Some(_)) => {}
        Err(error) => {
            survey.unknown.extend(name);
            return survey.skip(entry, UNREADABLE, unseen(&error));
        }
    }
    match name {
        Some(name) if name.is_default() => survey.skip(
            entry,
            "reserved-name",
            "'default' is the profile of the data root itself: rename this one",
        ),
        Some(name) => {
            let variables = Setting::env_file(&home).variables();
            survey
                .profiles
                .insert(name.clone(), look(name, &home, logs, &variables));
        }
        None => {
            let error = match ProfileName::try_from(escaped(entry.as_encoded_bytes())) {
                Err(error) => error.to_string(),
                Ok(_) => "its name is not text".to_owned(),
            };
            let reserved = entry.to_str().is_some_and(is_reserved);
            let reason = if reserved {
                "reserved-name"
            } else {
                "invalid-name"
            };
            survey.skip(entry, reason, error);
        }
    }
}

/// Reads one profile's home.
fn look(name: ProfileName, home: &Dir, logs: Logs, variables: &Answer<EnvFile>) -> Profile {
    let state = home.read(STATE_FILE, STATE_LIMIT);
    let said = said(home, state.as_deref().ok());
    let (intent, problem, stateless) = match state {
        Ok(content) => match intent(&content) {
            Ok(intent) => (intent, None, false),
            Err(reason) => {
                let text = format!(
                    "{STATE_FILE} does not say what is wanted ({reason}): start or stop the profile once, or remove the file"
                );
                (Intent::default(), Some(Problem::new(reason, text)), false)
            }
        },
        Err(unusable) if unusable.is_missing() => (Intent::default(), None, true),
        Err(unusable) => {
            let remedy = match unusable.word {
                UNREADABLE => MAKE_READABLE,
                _ => "remove it, and start the profile again",
            };
            let text = format!("{}: {remedy}", unusable.text);
            let problem = Problem::new(&format!("state-{}", unusable.word), text);
            (Intent::default(), Some(problem), false)
        }
    };
    let own_port = Setting::env_file(home)
        .variable(variables, PORT_VARIABLE)
        .map(|port| port?.trim().parse().ok());
    let log = LogPlace::of(logs, name.as_str());
    let (lock, lock_failure) = match Lock::of(home) {
        Ok(lock) => (lock, None),
        Err(error) => (None, Some(error.to_string())),
    };
    Profile {
        stale: stale(home),
        name,
        intent,
        stateless,
        problem,
        own_port,
        log,
        said,
        lock,
        lock_failure,
    }
}

/// Lists the files that a killed gateway has left in a home; none while a gateway runs on this home.
///
/// A supervised gateway, of any container, holds the lock of [`LOCK_FILE`]. A gateway that was started by hand
/// holds the lock of Hermes' own `gateway.lock`.
fn stale(home: &Dir) -> Vec<String> {
    let found: Vec<String> = STALE_FILES
        .into_iter()
        .filter(|file| {
            matches!(
                home.kind(file),
                Ok(Some(FileType::RegularFile | FileType::Symlink))
            )
        })
        .map(str::to_owned)
        .collect();
    if found.is_empty() || !matches!(holder(home, LOCK_FILE), Ok(None)) {
        return Vec::new();
    }
    let is_free = match home.file("gateway.lock", OFlags::RDONLY) {
        // If we get the lock, it is released at once, when the file is closed.
        Ok(file) => flock(&file, FlockOperation::NonBlockingLockShared).is_ok(),
        Err(error) => error.is_not_found(),
    };
    if is_free { found } else { Vec::new() }
}
