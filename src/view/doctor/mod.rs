//! What is wrong with the container, its volume and its tree, and what to do about it.
//!
//! Looks, and changes nothing. A check that cannot be made is a finding too: the others are made all
//! the same.

pub mod volume;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, StatVfsMountFlags, accessat, statvfs};
use serde::{Deserialize, Serialize};

use crate::command::child::as_account;
use crate::error::{Error, Result, shown};
use crate::hermes::name::ProfileName;
use crate::report::one_line;
use crate::rights::Rights;
use crate::s6::capacity::room_by_descriptors;
use crate::s6::supervision::{Holder, supervisor};
use crate::s6::tool::{Tools, is_executable};
use crate::settings::{STOP_TIMEOUT, Settings};
use crate::tree::detect::detect;
use crate::tree::plan::conflicts;
use crate::tree::reconcile;
use crate::tree::scandir::{Choices, ScanDir};
use crate::tree::slot::LOGGER_MARGIN;
use crate::view::status::{self, State};
use crate::volume::survey::{Survey, survey};

/// The s6 programs that slots and hermes-s6 run, and those that it tells people to run.
const S6: &str = "s6-envdir s6-log s6-notifyoncheck s6-permafailon s6-setlock s6-setuidgid s6-supervise \
    s6-svc s6-svdt-clear s6-svscan s6-svscanctl s6-svwait";

/// The execline programs that slots run.
const EXECLINE: &str = "case cd execlineb exit export fdmove foreground ifelse";

/// Seconds that a container needs to end besides what its gateways and loggers have.
const CONTAINER_MARGIN: u64 = 10;

/// What has Hermes' Python load the bridge.
const BRIDGE_LOADER: &str = "/usr/share/hermes-s6/python/hermes-s6.pth";

/// How a tree gets what it takes only when it starts.
const RESTART: &str =
    "restart the container, or end the tree with s6-svscanctl -t and run hermes-s6 supervise";

/// How to see more.
const AS_ROOT: &str = "run hermes-s6 doctor as root";

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It is as it should be.
    Ok,
    /// It could not be looked at.
    Unknown,
    /// It works, and will not always, or not for everybody.
    Warning,
    /// It does not work.
    Problem,
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check, one word.
    pub check: String,
    /// How bad it is.
    pub level: Level,
    /// The profile that it is about, if it is one.
    pub profile: Option<String>,
    /// What is so, for a person.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// All findings.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    /// The version of this schema.
    version: u32,
    /// Whether nothing is wrong, as far as could be seen.
    pub ok: bool,
    findings: Vec<Finding>,
}

/// The findings so far, and the check that is being made.
#[derive(Debug, Default)]
struct Findings {
    check: &'static str,
    profile: Option<String>,
    list: Vec<Finding>,
}

impl Findings {
    fn new(check: &'static str) -> Self {
        Self {
            check,
            ..Self::default()
        }
    }

    /// Adds what the current check has found; an empty remedy is none.
    fn add(&mut self, level: Level, text: String, remedy: &str) {
        self.list.push(Finding {
            check: self.check.to_owned(),
            level,
            profile: self.profile.take(),
            text,
            remedy: (!remedy.is_empty()).then(|| remedy.to_owned()),
        });
    }

    /// Says that the next finding is about this profile.
    fn of(&mut self, profile: &str) -> &mut Self {
        self.profile = Some(profile.to_owned());
        self
    }

    /// Adds an error with its remedy.
    fn error(&mut self, level: Level, error: &Error) {
        let advice = error.advice().unwrap_or_default();
        let text = error.to_string();
        let what = text.strip_suffix(advice).unwrap_or(&text);
        self.add(level, what.trim_end_matches(": ").to_owned(), advice);
    }

    /// Adds a sentence that ends with its remedy, behind a colon.
    fn sentence(&mut self, level: Level, sentence: &str) {
        let (text, remedy) = sentence.rsplit_once(": ").unwrap_or((sentence, ""));
        self.add(level, text.to_owned(), remedy);
    }

    /// Ends the current check: where it has found nothing, that is a finding as well.
    fn conclude(&mut self, text: String) {
        if !self.list.iter().any(|finding| finding.check == self.check) {
            self.add(Level::Ok, text, "");
        }
    }
}

/// Makes all checks. Where `rights` is an error, we are root and cannot become the user whose tree and
/// volume these are: then nothing of theirs is opened.
pub fn diagnose(settings: &Settings, rights: Result<Rights>) -> Diagnosis {
    let mut found = Findings::new("settings");
    for ignored in &settings.warnings {
        found.sentence(Level::Warning, ignored);
    }
    found.check = "pid1";
    // An image whose entrypoint was replaced has lost its supervision with it.
    let comm = settings.root.at("/proc/1/comm");
    match fs::read_to_string(&comm) {
        Ok(comm) => found.add(Level::Ok, format!("PID 1 is {}", comm.trim_end()), ""),
        Err(cause) => found.error(Level::Unknown, &Error::system("read", comm, cause)),
    }
    match rights {
        Ok(rights) => look(settings, &rights, &mut found),
        Err(error) => {
            found.check = "rights";
            found.error(Level::Problem, &error);
            found.check = "tools";
            if let Ok(tools) = Tools::find(settings) {
                programs(settings, &tools, &mut found);
            }
            file_system(settings, &mut found);
            for check in ["tree", "volume"] {
                found.check = check;
                let text = "not looked at: only the user of the gateways may";
                found.add(Level::Unknown, text.to_owned(), "");
            }
        }
    }
    let good = |finding: &Finding| matches!(finding.level, Level::Ok | Level::Unknown);
    Diagnosis {
        version: 1,
        ok: found.list.iter().all(good),
        findings: found.list,
    }
}

fn look(settings: &Settings, rights: &Rights, found: &mut Findings) {
    let scandir = ScanDir::open(settings).ok();
    let watcher = scandir.as_ref().and_then(ScanDir::watcher);
    let detection = detect(settings);
    let runs = detection.is_s6();
    let (level, remedy) = match watcher {
        _ if runs => (Level::Ok, ""),
        None => (Level::Problem, "hermes-s6 supervise"),
        Some(Holder::Process(_)) => (Level::Problem, "hermes-s6 reconcile"),
        Some(Holder::Elsewhere) => (
            Level::Problem,
            "give each container a scan directory of its own with HERMES_S6_SCANDIR",
        ),
    };
    found.check = "tree";
    found.add(level, detection.reason, remedy);

    place(settings, rights, scandir.as_ref(), found);
    // Root runs no program that somebody else has named.
    let trusted = !found
        .list
        .iter()
        .any(|finding| finding.check == "scandir" && finding.level == Level::Problem);
    let owner = scandir
        .as_ref()
        .filter(|_| runs && trusted)
        .and_then(ScanDir::owner);
    let fresh = Tools::find(settings);
    found.check = "tools";
    if let Err(error) = &fresh {
        found.error(Level::Problem, error);
    }
    // A tree that runs keeps what it was started with.
    let choices = match (owner, &fresh) {
        (Some(owner), _) => Some(owner.choices),
        (None, Ok(tools)) => Some(Choices::new(settings, tools.clone())),
        (None, Err(_)) => None,
    };
    if let Some(choices) = &choices {
        if let Ok(fresh) = &fresh {
            agreement(settings, &choices.tools, fresh, found);
        }
        programs(settings, &choices.tools, found);
        if let Some(scandir) = &scandir {
            versions(settings, scandir, &choices.tools, found);
        }
    }

    found.check = "volume";
    let tools = fresh.as_ref().ok();
    let looked = match (rights, tools) {
        (_, Some(tools)) => reconcile::look(settings, rights, tools, &[]),
        // Root has nothing to drop its rights with, which has been said.
        (Rights::Direct(_), None) => return,
        (_, None) => survey(settings, &[]),
    };
    let survey = match looked {
        Ok(survey) => survey,
        Err(error) => return found.error(Level::Problem, &error),
    };
    let examined = match (rights, tools) {
        (Rights::Direct(account), Some(tools)) => {
            as_account(settings, tools, account, &["examine"], &())
        }
        _ => Ok(volume::examine(settings, &survey)),
    };
    match examined {
        Ok(mut findings) => found.list.append(&mut findings),
        Err(error) => found.error(Level::Problem, &error),
    }
    if let Some(choices) = &choices {
        stopping(settings, scandir.as_ref(), choices, found);
    }
    found.check = "ports";
    for (name, problem) in conflicts(&survey, &survey.assigned_ports()) {
        found
            .of(name.as_str())
            .sentence(Level::Problem, &problem.text);
    }
    found.conclude("every profile has a port of its own".to_owned());
    let room = match (watcher, &scandir, &choices) {
        (None, _, _) if !runs => Some(room_by_descriptors()),
        (watcher, Some(scandir), Some(choices)) => room(settings, scandir, &choices.tools, watcher),
        _ => None,
    };
    let mut slots = slots(scandir.as_ref());
    slots.extend(survey.profiles.keys().cloned());
    capacity(slots.len(), room, found);
    profiles(settings, scandir.as_ref(), &survey, found);
}

fn slots(scandir: Option<&ScanDir>) -> BTreeSet<ProfileName> {
    scandir
        .and_then(|scandir| scandir.profiles().ok())
        .unwrap_or_default()
}

/// Looks whether the scan directory is ours to use, and scripts in it can run.
fn place(settings: &Settings, rights: &Rights, scandir: Option<&ScanDir>, found: &mut Findings) {
    file_system(settings, found);
    let place = settings.scandir.display();
    let Some(scandir) = scandir else {
        return found.conclude(format!("{place} is not there yet"));
    };
    let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    let ours = scandir.ours().is_ok();
    if ours && let Err(errno) = accessat(scandir.dir(), ".", all, AtFlags::EACCESS) {
        let error = Error::system("write in", scandir.dir().path(), errno);
        found.error(
            Level::Problem,
            &error.remedy("mount it writable, and chmod u+rwx it"),
        );
    }
    if let (Rights::Direct(_), Err(error)) = (rights, scandir.only_roots()) {
        found.error(Level::Problem, &error);
    }
    if let Err(error) = reconcile::owner_of(settings, scandir) {
        found.error(Level::Problem, &error);
    }
    let whose = if ours { "ours" } else { "another user's" };
    found.conclude(format!("{place} is {whose}, and scripts in it can run"));
}

/// Looks whether scripts in the scan directory can run: beneath the /run of many containers they cannot.
fn file_system(settings: &Settings, found: &mut Findings) {
    found.check = "scandir";
    let place = settings.root.at(&settings.scandir);
    let there = place.ancestors().find(|directory| directory.exists());
    let there = there.unwrap_or(Path::new("/"));
    if statvfs(there).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
        let text = format!(
            "no script in {} can run: it is mounted noexec",
            there.display()
        );
        let remedy = "mount it with exec, a container's /run with --tmpfs /run:exec, or name another directory with HERMES_S6_SCANDIR";
        found.add(Level::Problem, text, remedy);
    }
}

/// Tells whether two paths lead to the same program, by what it is or by what is in it.
fn same_program(one: &Path, other: &Path) -> io::Result<bool> {
    let (first, second) = (fs::metadata(one)?, fs::metadata(other)?);
    Ok((first.dev(), first.ino()) == (second.dev(), second.ino())
        || (first.len() == second.len() && fs::read(one)? == fs::read(other)?))
}

/// Compares the s6 that this environment has with that of the tree.
fn agreement(settings: &Settings, tools: &Tools, fresh: &Tools, found: &mut Findings) {
    let svc = |tools: &Tools| settings.root.at(tools.s6.join("s6-svc"));
    if !same_program(&svc(tools), &svc(fresh)).unwrap_or(true) {
        let (theirs, here) = (tools.s6.display(), fresh.s6.display());
        let text = format!("the tree has the s6 of {theirs}, and here is another in {here}");
        let remedy = format!("call {theirs}/s6-svc, or {RESTART}");
        found.add(Level::Warning, text, &remedy);
    }
}

/// Looks for every program that the slots and we need.
fn programs(settings: &Settings, tools: &Tools, found: &mut Findings) {
    let mut missing = Vec::new();
    for (directory, programs) in [(&tools.s6, S6), (&tools.execline, EXECLINE)] {
        let paths = programs.split(' ').map(|program| directory.join(program));
        missing.extend(paths.filter(|path| !is_executable(&settings.root.at(path))));
    }
    if !missing.is_empty() {
        let remedy =
            "install all of s6 and execline, or name their directory with HERMES_S6_BINDIR";
        found.add(
            Level::Problem,
            format!("missing: {}", volume::list(&missing)),
            remedy,
        );
    }
    if !tools.has_hermes(settings) {
        let text = format!("there is no program {}", tools.hermes.display());
        let remedy = "install Hermes Agent, or name it with HERMES_S6_HERMES";
        found.add(Level::Problem, text, remedy);
    }
    if !is_executable(&settings.root.at(&tools.hermes_s6)) {
        let text = format!("the slots run {}, which is gone", tools.hermes_s6.display());
        found.add(Level::Problem, text, RESTART);
    }
    bridge(settings, &tools.hermes, found);
    let (s6, execline, hermes) = (
        tools.s6.display(),
        tools.execline.display(),
        tools.hermes.display(),
    );
    found.conclude(format!("s6 in {s6}, execline in {execline}, and {hermes}"));
}

/// Looks whether a Hermes in a virtual environment loads the bridge, if the bridge is there: for another
/// version of Python it has to be in another place.
fn bridge(settings: &Settings, hermes: &Path, found: &mut Findings) {
    let loader = settings.root.at(BRIDGE_LOADER);
    let name = loader.file_name().unwrap_or_default();
    let environment = hermes.parent().and_then(Path::parent);
    let (true, Some(environment)) = (loader.is_file(), environment) else {
        return;
    };
    let versions = fs::read_dir(settings.root.at(environment.join("lib")));
    for version in versions.into_iter().flatten().flatten() {
        let packages = version.path().join("site-packages");
        if packages.join("hermes_cli").is_dir() && !packages.join(name).is_file() {
            let text = format!(
                "Hermes' own code does not use hermes-s6: {} has no hermes-s6.pth",
                shown(&packages)
            );
            let remedy = format!("link or copy {BRIDGE_LOADER} there");
            found.add(Level::Warning, text, &remedy);
        }
    }
}

/// Compares the programs that run with those that will talk to them: between two versions of s6 they
/// misunderstand each other silently.
fn versions(settings: &Settings, scandir: &ScanDir, tools: &Tools, found: &mut Findings) {
    let slots = slots(Some(scandir));
    let slots = slots.iter().filter_map(|name| scandir.slot(name).ok());
    let supervisors = slots.map(|slot| ("s6-supervise", supervisor(&slot)));
    let (mut same, mut hidden, mut other) = (0, 0, Vec::new());
    for (program, holder) in supervisors.chain([("s6-svscan", scandir.watcher())]) {
        let Some(Holder::Process(pid)) = holder else {
            continue;
        };
        let running = settings.root.at(format!("/proc/{pid}/exe"));
        match same_program(&running, &settings.root.at(tools.s6.join(program))) {
            Ok(true) => same += 1,
            Ok(false) => other.push(format!("{program} (pid {pid})").into()),
            Err(_) => hidden += 1,
        }
    }
    found.check = "s6";
    let place = tools.s6.display();
    if !other.is_empty() {
        let text = format!("not the s6 of {place}: {}", volume::list(&other));
        found.add(Level::Problem, text, RESTART);
    }
    if hidden > 0 {
        let text = format!("it cannot be seen which s6 {hidden} processes are of");
        found.add(Level::Unknown, text, AS_ROOT);
    }
    if same == 0 {
        return found.conclude("nothing runs that could be compared".to_owned());
    }
    found.conclude(format!("{same} processes are of the s6 in {place}"));
}

/// Gives the time in seconds that a container needs to end.
fn stop_of_container(gateways: u64) -> u64 {
    gateways.saturating_add(LOGGER_MARGIN.as_secs() + CONTAINER_MARGIN)
}

/// Compares the times that gateways have to end: asked for here, by the tree, and by each slot.
fn stopping(
    settings: &Settings,
    scandir: Option<&ScanDir>,
    choices: &Choices,
    found: &mut Findings,
) {
    found.check = "stop";
    let (stop, wanted) = (choices.stop_timeout, settings.stop_timeout);
    let container = stop_of_container(stop);
    let text = format!("gateways have {stop} s to save and end, so docker stop --time {container}");
    found.add(Level::Ok, text, "");
    // Who calls us from a shell of his own has asked for nothing.
    if wanted != STOP_TIMEOUT && wanted != choices.stop_timeout() {
        let wanted = wanted.as_secs();
        let text = format!("HERMES_S6_STOP_TIMEOUT is {wanted}, and the tree has {stop}");
        found.add(Level::Warning, text, RESTART);
    }
    for name in slots(scandir) {
        let slot = scandir.and_then(|scandir| scandir.slot(&name).ok());
        let has = slot.and_then(|slot| slot.read("timeout-kill", 32).ok());
        let has = String::from_utf8(has.unwrap_or_default()).unwrap_or_default();
        if has.trim().parse() != Ok(choices.stop_timeout().as_millis()) {
            let text = format!("timeout-kill of its slot is '{}'", has.trim());
            found
                .of(name.as_str())
                .add(Level::Warning, text, "hermes-s6 reconcile");
        }
    }
}

/// Tells how many slots the s6-svscan that runs has room for, `None` if it cannot be seen.
fn room(
    settings: &Settings,
    scandir: &ScanDir,
    tools: &Tools,
    watcher: Option<Holder>,
) -> Option<usize> {
    let Some(Holder::Process(pid)) = watcher else {
        return None;
    };
    // Where that is hidden, it looks like an s6-svscan without options.
    let cmdline = fs::read(settings.root.at(format!("/proc/{pid}/cmdline"))).ok()?;
    let other = |name: &OsString| {
        let profile = name.to_str().and_then(ProfileName::from_slot);
        let ours = profile.is_some_and(|profile| scandir.is_ours(profile.slot()));
        !ours && !name.as_encoded_bytes().starts_with(b".")
    };
    let mut others = scandir.dir().names().ok()?;
    others.retain(other);
    (!cmdline.is_empty()).then(|| scandir.room(settings, tools, watcher, &others))
}

/// Compares the slots that s6-svscan takes with the profiles that there are.
fn capacity(needed: usize, room: Option<usize>, found: &mut Findings) {
    found.check = "capacity";
    let Some(room) = room else {
        let text = "the limits of s6-svscan cannot be seen".to_owned();
        return found.add(Level::Unknown, text, AS_ROOT);
    };
    if needed > room {
        let text = format!("{needed} profiles, and s6-svscan has room for {room}");
        let remedy = "restart the tree with hermes-s6 supervise, or s6-svscan with a larger limit, and with more descriptors (ulimit -n)";
        found.add(Level::Warning, text, remedy);
    }
    found.conclude(format!("{needed} profiles have room"));
}

/// Tells which gateways do not run although they should, and what is skipped.
fn profiles(settings: &Settings, scandir: Option<&ScanDir>, survey: &Survey, found: &mut Findings) {
    found.check = "profiles";
    match scandir.map(|scandir| status::report(settings, scandir, survey, &[])) {
        Some(Ok(report)) => gateways(&report, found),
        Some(Err(error)) => found.error(Level::Problem, &error),
        None => {}
    }
    let unusable = survey.profiles.iter();
    let unusable =
        unusable.filter_map(|(name, profile)| Some((name.as_str(), profile.problem.as_ref()?)));
    let skipped = survey
        .skipped
        .iter()
        .map(|skipped| (skipped.name.as_str(), &skipped.problem));
    for (name, problem) in unusable.chain(skipped) {
        found.of(name).sentence(Level::Warning, &problem.text);
    }
    let wanted = survey.profiles.values();
    let wanted = wanted.filter(|profile| profile.intent.wants_running());
    let (wanted, all) = (wanted.count(), survey.profiles.len());
    found.conclude(format!("of {all} profiles {wanted} are to run"));
}

fn gateways(report: &status::Report, found: &mut Findings) {
    for row in &report.profiles {
        let level = match row.state {
            // Without a tree that is so for all, and said already.
            State::Unsupervised | State::Unregistered if !report.manager.is_s6() => continue,
            _ if row.is_missing() => Level::Problem,
            State::Parked => Level::Warning,
            _ => continue,
        };
        let reason = row.reason.as_deref().unwrap_or("it is wanted");
        let remedy = match row.state {
            State::Unsupervised | State::Unregistered => "hermes-s6 reconcile",
            _ => row.remedy.as_deref().unwrap_or_default(),
        };
        let text = format!("{}: {reason}", row.state.words());
        found.of(row.profile.as_str()).add(level, text, remedy);
    }
}

/// Writes a line for each finding, and one for all; `colour` says that a person looks at a terminal.
pub fn text(diagnosis: &Diagnosis, colour: bool) -> String {
    let mut text = String::new();
    let mut counts = [0; 4];
    for finding in &diagnosis.findings {
        let level = finding.level as usize;
        counts[level] += 1;
        let word = ["ok   ", "?    ", "WARN ", "FAIL "][level];
        if colour {
            text.extend([
                "\x1b[",
                ["32", "2", "33", "31"][level],
                "m",
                word,
                "\x1b[0m",
            ]);
        } else {
            text.push_str(word);
        }
        text.push_str(&one_line(&finding.check));
        let (profile, remedy) = (finding.profile.as_ref(), finding.remedy.as_ref());
        for part in profile.into_iter().chain([&finding.text]).chain(remedy) {
            text.push_str(": ");
            text.push_str(&one_line(part));
        }
        text.push('\n');
    }
    let [_, unknown, warnings, problems] = counts;
    let last = format!("problems: {problems}, warnings: {warnings}, unknown: {unknown}\n");
    text + &last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_that_a_template_runs_is_looked_for() {
        let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
        let mut seen = 0;
        for entry in walkdir::WalkDir::new(templates) {
            let text =
                fs::read_to_string(entry.map(walkdir::DirEntry::into_path).unwrap_or_default());
            for (prefix, known) in [("{{ s6 }}/", S6), ("{{ execline }}/", EXECLINE)] {
                for rest in text.as_deref().unwrap_or_default().split(prefix).skip(1) {
                    let program = rest.split_whitespace().next().unwrap_or_default();
                    assert!(known.split(' ').any(|known| known == program), "{program}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 20);
    }

    #[test]
    fn a_finding_is_one_line_whatever_is_in_it() {
        let mut found = Findings::new("volume");
        found
            .of("coder")
            .add(Level::Warning, "a\nb".to_owned(), "rm x");
        found.error(
            Level::Problem,
            &Error::system("open", "/x", rustix::io::Errno::ACCESS).remedy("chmod it"),
        );
        found.conclude("not this".to_owned());
        let diagnosis = Diagnosis {
            version: 1,
            ok: false,
            findings: found.list,
        };
        assert_eq!(
            text(&diagnosis, false),
            "WARN volume: coder: a\\nb: rm x\nFAIL volume: unable to open /x: Permission denied: chmod it\nproblems: 1, warnings: 1, unknown: 0\n"
        );
        assert!(text(&diagnosis, true).starts_with("\x1b[33mWARN \x1b[0mvolume: "));
    }
}
