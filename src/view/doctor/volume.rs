//! What is wrong on the volume: owners, modes, room, and what two profiles or containers share.
//!
//! Only looks, and only with the rights of the user who owns the volume: a root process runs
//! `hermes-s6 examine` as that user. Looks at what lies directly in each home, and goes no deeper: a home can
//! have hundreds of thousands of files. Values of secrets stay in memory.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, StatVfsMountFlags, fstat, fstatvfs, statat};
use walkdir::WalkDir;

use crate::error::Error;
use crate::hermes::config::is_of_an_account;
use crate::hermes::container::Command;
use crate::hermes::dotenv::EnvFile;
use crate::hermes::name::ProfileName;
use crate::settings::Settings;
use crate::system::account::Account;
use crate::system::beneath::Dir;
use crate::system::process::is_of_this_container;
use crate::system::pulse::beat;
use crate::tree::detect::detect;
use crate::tree::held::held;
use crate::tree::scandir::ScanDir;
use crate::view::doctor::finding::{Finding, Findings, Level, RESTART, list, stop_of_container};
use crate::volume::lock::{LOCK_FILE, Lock};
use crate::volume::problem::Answer;
use crate::volume::setting::Setting;
use crate::volume::survey::Survey;

/// Files in a home that its gateway writes.
const WRITTEN: [&str; 7] = [
    "gateway_state.json",
    "gateway.pid",
    "gateway.lock",
    "processes.json",
    "auth.json",
    "state.db",
    LOCK_FILE,
];

/// Files in a home that it may only have to read.
const READ: [&str; 4] = [".env", "config.yaml", "SOUL.md", "active_profile"];

/// What one must be allowed in a directory to keep files there.
const DIRECTORY: Access = Access::READ_OK
    .union(Access::WRITE_OK)
    .union(Access::EXEC_OK);

/// How the variables end that only one profile can use.
const SECRETS: [&str; 4] = ["_TOKEN", "_KEY", "_SECRET", "_PASSWORD"];

/// The one that protects a profile's own server, and may be the same everywhere.
const SHARED: &str = "API_SERVER_KEY";

/// Names in the data root that are looked at elsewhere, or are the file system's own.
const OF_DATA_ROOT: [&str; 3] = ["logs", "profiles", "lost+found"];

/// How many paths one remedy names. When they are put right, the next look names the others.
const REMEDY_MAX: usize = 20;

/// The least free space in bytes with which a gateway can save.
const SPACE_MIN: u64 = 1 << 20;

/// Seconds that a gateway needs to end after it has drained, as Hermes' own systemd unit has it.
const DRAIN_MARGIN: u64 = 30;

/// Looks at the volume.
pub fn examine(settings: &Settings, survey: &Survey) -> Vec<Finding> {
    let mut look = Look::new(settings);
    let Ok(root) = Dir::open(&settings.root.at(&settings.home)) else {
        return Vec::new();
    };
    look.names(&root, &[".", "logs", "profiles"], DIRECTORY);
    if let Ok(logs) = root.dir("logs") {
        look.names(&logs, &["gateways"], DIRECTORY);
        if let Ok(gateways) = logs.dir("gateways") {
            let names: Vec<&str> = survey.profiles.keys().map(ProfileName::as_str).collect();
            look.names(&gateways, &names, DIRECTORY);
        }
    }
    let profiles = root.dir("profiles").ok();
    let home = |name: &ProfileName| match &profiles {
        _ if name.is_default() => Dir::open(root.path()).ok(),
        Some(profiles) => profiles.dir(name.as_str()).ok(),
        None => None,
    };
    for name in survey.profiles.keys().chain(&survey.unknown) {
        beat();
        look.profile = Some(name.to_string());
        if let Some(profiles) = &profiles {
            look.names(profiles, &[name.as_str()], DIRECTORY);
        }
        if let Some(home) = home(name) {
            look.names(&home, &WRITTEN, Access::READ_OK | Access::WRITE_OK);
            look.names(&home, &READ, Access::READ_OK);
            // What else is there may be nothing of the gateway's.
            look.worst = Level::Warning;
            let (directories, files) = look.others(&home, name.is_default());
            look.names(&home, &directories, Access::READ_OK | Access::EXEC_OK);
            look.names(&home, &files, Access::READ_OK);
            look.worst = Level::Problem;
        }
    }
    let mut found = look.conclude();
    let homes = || {
        survey
            .profiles
            .keys()
            .filter_map(|name| Some((name, home(name)?)))
    };
    found.check = "lock";
    // Once for all: to find the container's command means to read every process.
    let command = LazyCell::new(|| Command::detect(&settings.root));
    for (name, profile) in &survey.profiles {
        if let Some(lock) = profile.lock.as_ref().filter(|lock| lock.held) {
            held_lock(settings, &command, survey, name, lock, &mut found);
        }
    }
    found.conclude("no other container runs a profile".to_owned());
    found.check = "credentials";
    let mut secrets = Vec::new();
    for (name, home) in homes() {
        match Setting::env_file(&home).variables() {
            Answer::Known(variables) => collect(&variables, name, &mut secrets),
            Answer::Unknown(problem) => {
                found
                    .of(name.as_str())
                    .sentence(Level::Unknown, &problem.text);
            }
        }
    }
    credentials(&secrets, &mut found);
    found.check = "stop";
    let tree = ScanDir::open(settings)
        .ok()
        .filter(|_| detect(settings).is_ok_and(|detection| detection.is_s6()));
    let stop = tree
        .and_then(|scandir| scandir.owner().ok()?)
        .map(|owner| owner.choices.stop_timeout);
    let stop = stop.unwrap_or(settings.stop_timeout.as_secs());
    for (name, home) in homes() {
        let drain = match Setting::config(&home).configuration() {
            Answer::Known(config) => config.drain_timeout(),
            Answer::Unknown(problem) => {
                found
                    .of(name.as_str())
                    .sentence(Level::Unknown, &problem.text);
                continue;
            }
        };
        if let Some(drain) = drain.filter(|drain| *drain >= stop) {
            let text = format!(
                "agent.restart_drain_timeout lets it drain for {drain} s, and after {stop} s it is killed"
            );
            let stop = drain.saturating_add(DRAIN_MARGIN);
            let container = stop_of_container(stop);
            let remedy = format!(
                "set HERMES_S6_STOP_TIMEOUT={stop}, {RESTART}, and use docker stop --time {container}"
            );
            found.of(name.as_str()).add(Level::Warning, text, &remedy);
        }
    }
    found.list
}

/// Tells whether another container runs a profile. One that is held down here is meant to run there.
fn held_lock(
    settings: &Settings,
    command: &impl Deref<Target = Command>,
    survey: &Survey,
    name: &ProfileName,
    lock: &Lock,
    found: &mut Findings,
) {
    let process = |pid| settings.root.at(format!("/proc/{pid}"));
    if lock
        .pid
        .is_some_and(|pid| is_of_this_container(&process(pid)))
    {
        return;
    }
    let (level, remedy) = match held(settings, command, survey, name) {
        Some(_) => (Level::Ok, ""),
        None => (
            Level::Warning,
            "stop it there, or keep this container from running gateways with HERMES_S6_AUTOSTART=never",
        ),
    };
    let text = format!("another container runs it: {}", lock.signature);
    found.of(name.as_str()).add(level, text, remedy);
}

/// A variable of one profile that no other should have with the same value.
struct Secret {
    profile: ProfileName,
    variable: String,
    value: String,
}

fn collect(env_file: &EnvFile, profile: &ProfileName, secrets: &mut Vec<Secret>) {
    let is_secret = |variable: &str| {
        variable != SHARED
            && is_of_an_account(variable.as_bytes())
            && SECRETS.iter().any(|end| variable.ends_with(end))
    };
    let set = env_file
        .all()
        .filter(|(variable, value)| is_secret(variable) && !value.is_empty());
    secrets.extend(set.map(|(variable, value)| Secret {
        profile: profile.clone(),
        variable: variable.to_owned(),
        value: value.to_owned(),
    }));
}

/// Names each account that a profile shares with one before it: they would take its messages from
/// each other.
fn credentials(secrets: &[Secret], found: &mut Findings) {
    let mut owners: BTreeMap<(&str, &str), &ProfileName> = BTreeMap::new();
    for secret in secrets {
        let variable = &secret.variable;
        let first = *owners
            .entry((variable, &secret.value))
            .or_insert(&secret.profile);
        if *first != secret.profile {
            let text = format!("{variable} in its .env is also that of {first}");
            let remedy =
                format!("give it an account of its own, or remove {variable} from one .env");
            found
                .of(secret.profile.as_str())
                .add(Level::Warning, text, &remedy);
        }
    }
    found.conclude("no two profiles share an account".to_owned());
}

/// A look at owners and modes.
struct Look {
    found: Findings,
    /// The profile whose files are looked at.
    profile: Option<String>,
    /// The user whom the gateways run as, by number and by the name for chown.
    uid: u32,
    user: String,
    /// Whether that is who we are, so that the kernel can be asked what they can use.
    ours: bool,
    /// How bad it is if something cannot be used.
    worst: Level,
    /// The file systems that were looked at, and whether they can be written.
    devices: Vec<(u64, bool)>,
}

impl Look {
    fn new(settings: &Settings) -> Self {
        let us = rustix::process::geteuid().as_raw();
        let account = Account::find(&settings.root, &settings.user).ok();
        let scandir = fs::metadata(settings.root.at(&settings.scandir));
        let uid = match (scandir, &account) {
            // The tree is its user's; in the direct layout it is root's, and drops to the account.
            (Ok(meta), _) if meta.uid() != 0 => meta.uid(),
            (Ok(_), Some(account)) => account.uid,
            _ => us,
        };
        let named = account.filter(|account| account.uid == uid);
        Self {
            found: Findings::new("volume"),
            profile: None,
            uid,
            user: named.map_or_else(|| uid.to_string(), |account| account.name),
            ours: uid == us,
            worst: Level::Problem,
            devices: Vec::new(),
        }
    }

    /// Looks at names in a directory, with one finding for all that have the same fault.
    fn names(&mut self, dir: &Dir, names: &[impl AsRef<Path>], needed: Access) {
        let needed = if self.file_system(dir) {
            needed
        } else {
            needed.difference(Access::WRITE_OK)
        };
        let directory = needed.contains(Access::EXEC_OK);
        let mut faults: [Vec<PathBuf>; 5] = Default::default();
        for name in names {
            let name = name.as_ref();
            let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let path = || {
                if name == Path::new(".") {
                    dir.path().to_owned()
                } else {
                    dir.path().join(name)
                }
            };
            // In a home, what is neither is for the survey to tell; a link's own owner and mode mean nothing.
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if directory => {}
                FileType::RegularFile if !directory => {}
                _ => {
                    if self.profile.is_none() {
                        faults[4].push(path());
                    }
                    continue;
                }
            }
            let owned = stat.st_uid == self.uid;
            let usable = !self.ours
                || dir.permits(name, needed).unwrap_or_else(|error| {
                    self.found.error(Level::Unknown, &error);
                    true
                });
            if !owned || !usable {
                faults[usize::from(owned) + 2 * usize::from(usable)].push(path());
            }
            if stat.st_mode & 0o002 != 0 {
                faults[3].push(path());
            }
        }
        let user = &self.user;
        for (fault, paths) in faults
            .iter()
            .enumerate()
            .filter(|(_, paths)| !paths.is_empty())
        {
            let (level, what, command) = match fault {
                0 => (
                    self.worst,
                    format!("not owned by {user}, and not usable"),
                    format!("chown -h {user}"),
                ),
                1 => (
                    self.worst,
                    format!("not usable for {user}, the owner"),
                    "chmod u+rwX".to_owned(),
                ),
                2 => (
                    Level::Warning,
                    format!("not owned by {user}"),
                    format!("chown -h {user}"),
                ),
                3 => (
                    Level::Warning,
                    "writable for everybody".to_owned(),
                    "chmod o-w".to_owned(),
                ),
                _ => (
                    self.worst,
                    "not a directory, and no link is followed there".to_owned(),
                    "mount what it leads to in its place, or make a directory there: rm".to_owned(),
                ),
            };
            let mut remedy = command;
            for path in paths.iter().take(REMEDY_MAX) {
                remedy.extend([" ", &quoted(path)]);
            }
            self.found.profile.clone_from(&self.profile);
            self.found
                .add(level, format!("{what}: {}", list(paths)), &remedy);
        }
    }

    /// Lists what else lies directly in a home: directories, and files. What is mounted there is not the home's,
    /// and what is neither tells nothing by its owner.
    fn others(&mut self, home: &Dir, is_data_root: bool) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let known = [&WRITTEN[..], &READ].concat();
        let of_data_root = OF_DATA_ROOT.iter().filter(|_| is_data_root);
        let known: Vec<&str> = known.iter().chain(of_data_root).copied().collect();
        let device = fstat(home).map(|stat| stat.st_dev);
        let (mut directories, mut files) = (Vec::new(), Vec::new());
        // Nobody with fewer rights than ours can change a home: it may be walked by its path. Only the operator's own
        // path to the data root may have a link in it.
        let entries = WalkDir::new(home.path())
            .min_depth(1)
            .max_depth(1)
            .sort_by_file_name();
        for entry in entries {
            let entry = match entry.and_then(|entry| Ok((entry.metadata()?.dev(), entry))) {
                Ok((at, entry)) if device == Ok(at) => entry,
                Ok(_) => continue,
                Err(error) => {
                    self.unreadable(home, error);
                    continue;
                }
            };
            let name = PathBuf::from(entry.file_name());
            if known.iter().any(|known| Path::new(known) == name) {
                continue;
            }
            if entry.file_type().is_dir() {
                directories.push(name);
            } else if entry.file_type().is_file() {
                files.push(name);
            }
        }
        (directories, files)
    }

    /// Says what could not be looked at. What is gone since it was listed needs no look.
    fn unreadable(&mut self, home: &Dir, error: walkdir::Error) {
        let place = error.path().unwrap_or(home.path()).to_owned();
        let cause = error
            .into_io_error()
            .unwrap_or_else(|| ErrorKind::Other.into());
        if cause.kind() != ErrorKind::NotFound {
            self.found.profile.clone_from(&self.profile);
            let error = Error::system("read", place, cause);
            self.found.error(Level::Unknown, &error);
        }
    }

    /// Looks at the file system of a directory, once, and tells whether it can be written.
    fn file_system(&mut self, dir: &Dir) -> bool {
        let device = fstat(dir).map_or(0, |stat| stat.st_dev);
        if let Some((_, writable)) = self.devices.iter().find(|(seen, _)| *seen == device) {
            return *writable;
        }
        let fault = match fstatvfs(dir) {
            Ok(stat) if stat.f_flag.contains(StatVfsMountFlags::RDONLY) => {
                Some(("read-only file system", "mount it writable"))
            }
            Ok(stat) if stat.f_blocks > 0 && stat.f_bavail * stat.f_frsize < SPACE_MIN => Some((
                "less than 1 MiB is free",
                "remove what is not needed, or use a larger volume",
            )),
            Ok(stat) if stat.f_files > 0 && stat.f_favail == 0 => Some((
                "no more files can be made",
                "remove files that are not needed",
            )),
            _ => None,
        };
        let writable = !fault.is_some_and(|(what, _)| what.starts_with("read-only"));
        if let Some((what, remedy)) = fault {
            let text = format!("{what}: {}", dir.path().display());
            self.found.add(Level::Problem, text, remedy);
        }
        self.devices.push((device, writable));
        writable
    }

    fn conclude(self) -> Findings {
        let (mut found, user) = (self.found, self.user);
        if !self.ours {
            let remedy = format!("run hermes-s6 doctor as root or as {user}");
            let text = format!("not looked at: what {user} can use there");
            found.add(Level::Unknown, text, &remedy);
        }
        found.conclude(format!("everything is owned by {user}, and usable"));
        found
    }
}

/// Writes a path as one word of a shell, on one line.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:@%+,=-".contains(&byte);
    if text.bytes().all(plain) {
        return text.into_owned();
    }
    if !text.contains(char::is_control) {
        return format!("'{}'", text.replace('\'', "'\\''"));
    }
    let mut word = "$'".to_owned();
    for character in text.chars() {
        match character {
            '\'' | '\\' => word.extend(['\\', character]),
            '\0'..' ' | '\x7f' => {
                let _infallible = write!(word, "\\{:03o}", u32::from(character));
            }
            _ => word.push(character),
        }
    }
    word + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_secrets_of_accounts_count_and_only_when_they_have_a_value() {
        let mut secrets = Vec::new();
        let file = "TELEGRAM_BOT_TOKEN=old\nexport TELEGRAM_BOT_TOKEN='1' # new\nSLACK_APP_TOKEN=\n\
            API_SERVER_KEY=2\nOPENAI_API_KEY=3\nDISCORD_HOME_CHANNEL=4\n# MATRIX_PASSWORD=5\nEMAIL_PASSWORD = 6\n";
        let file = EnvFile::read(file.as_bytes(), &|_| None);
        collect(&file, &ProfileName::default_profile(), &mut secrets);
        let seen: Vec<_> = secrets
            .iter()
            .map(|secret| (secret.variable.as_str(), secret.value.as_str()))
            .collect();
        assert_eq!(seen, [("EMAIL_PASSWORD", "6"), ("TELEGRAM_BOT_TOKEN", "1")]);
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for path in ["/opt/data/.env", "/a b/$(x)", "/it's", "/it's\n\\ \u{e9}"] {
            let word = quoted(Path::new(path));
            let mut shell = std::process::Command::new("bash");
            let said = shell.args(["-c", &format!("printf %s {word}")]).output();
            assert_eq!(
                said.map(|said| said.stdout).unwrap_or_default(),
                path.as_bytes(),
                "{word}"
            );
            assert!(!word.contains('\n'));
        }
    }
}
