//! Checks of the programs, the scan directory and the tree, and of the gateways that should run.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, StatVfsMountFlags, statvfs};

use crate::error::{Result, shown};
use crate::hermes::name::ProfileName;
use crate::report::first_few;
use crate::rights::Rights;
use crate::s6::supervision::{Death, supervised, supervisor};
use crate::s6::tool::{EXECLINE, S6, Tools, is_executable};
use crate::settings::{STOP_TIMEOUT, Settings};
use crate::system::beneath::Dir;
use crate::system::process::Holder;
use crate::system::root::Root;
use crate::system::trust::only_root_changes;
use crate::tree::owner::Choices;
use crate::tree::scandir::ScanDir;
use crate::tree::tender::TENDER;
use crate::view::doctor::finding::{Findings, Level, RESTART, list, stop_of_container};
use crate::view::row::{Report, Row, State};
use crate::view::status;
use crate::volume::survey::Survey;

/// The file by which Hermes' Python loads the bridge.
const BRIDGE_LOADER: &str = "/usr/share/hermes-s6/python/hermes-s6.pth";

/// The remedy if this process may not look.
const AS_ROOT: &str = "run hermes-s6 doctor as root";

/// Lists the profiles that have a slot.
pub fn slots(scandir: Option<&ScanDir>) -> BTreeSet<ProfileName> {
    scandir
        .and_then(|scandir| scandir.profiles().ok())
        .unwrap_or_default()
}

/// Checks that the scan directory can be used, and that scripts in it can run.
pub fn place(
    settings: &Settings,
    rights: &Rights,
    scandir: Option<&ScanDir>,
    found: &mut Findings,
) {
    file_system(settings, found);
    let place = settings.scandir.display();
    let Some(scandir) = scandir else {
        return found.conclude(format!("{place} is not there yet"));
    };
    let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    let ours = scandir.ours().is_ok();
    match scandir.dir().permits(".", all) {
        Ok(false) if ours => {
            let text = format!("unable to write in {}", shown(scandir.dir().path()));
            found.add(
                Level::Problem,
                text,
                "mount it writable, and chmod u+rwx it",
            );
        }
        Err(error) if ours => found.error(Level::Unknown, &error),
        _ => {}
    }
    if rights.are_roots() {
        let roots = only_root_changes(scandir.dir().path());
        if let Err(error) = roots.and_then(|()| scandir.require_all_root_owned()) {
            found.error(Level::Problem, &error);
        }
    }
    if let Err(error) = scandir.owner_for(settings) {
        found.error(Level::Problem, &error);
    }
    let whose = if ours { "ours" } else { "another user's" };
    found.conclude(format!("{place} is {whose}, and scripts in it can run"));
}

/// Checks that scripts in the scan directory can run: in many containers, /run is mounted noexec.
pub fn file_system(settings: &Settings, found: &mut Findings) {
    found.check = "scandir";
    let place = settings.root.at(&settings.scandir);
    let existing = place.ancestors().find(|directory| directory.exists());
    let existing = existing.unwrap_or(Path::new("/"));
    if statvfs(existing).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
        let text = format!(
            "no script in {} can run: it is mounted noexec",
            existing.display()
        );
        let remedy = "mount it with exec, a container's /run with --tmpfs /run:exec, or name another directory with HERMES_S6_SCANDIR";
        found.add(Level::Problem, text, remedy);
    }
}

/// Tells whether two paths lead to the same program: to the same file, or to files with the same content.
fn same_program(one: &Path, other: &Path) -> io::Result<bool> {
    let (first, second) = (fs::metadata(one)?, fs::metadata(other)?);
    Ok((first.dev(), first.ino()) == (second.dev(), second.ino())
        || (first.len() == second.len() && fs::read(one)? == fs::read(other)?))
}

/// Checks that the s6 of this environment is the s6 of the tree. `fresh` are the programs found here.
pub fn agreement(settings: &Settings, tools: &Tools, fresh: &Tools, found: &mut Findings) {
    let svc = |tools: &Tools| settings.root.at(tools.s6.join("s6-svc"));
    if !same_program(&svc(tools), &svc(fresh)).unwrap_or(true) {
        let (trees, here) = (tools.s6.display(), fresh.s6.display());
        let text = format!("the tree has the s6 of {trees}, and here is another in {here}");
        let remedy = format!("call {trees}/s6-svc, or {RESTART}");
        found.add(Level::Warning, text, &remedy);
    }
}

/// Checks that every program exists that the slots and hermes-s6 need.
pub fn programs(settings: &Settings, tools: &Tools, found: &mut Findings) {
    let mut missing = Vec::new();
    for (directory, programs) in [(&tools.s6, &S6[..]), (&tools.execline, &EXECLINE[..])] {
        for path in programs.iter().map(|program| directory.join(program)) {
            match is_executable(&settings.root.at(&path)) {
                Ok(true) => {}
                Ok(false) => missing.push(path),
                Err(error) => found.error(Level::Unknown, &error),
            }
        }
    }
    if !missing.is_empty() {
        let remedy =
            "install all of s6 and execline, or name their directory with HERMES_S6_BINDIR";
        found.add(
            Level::Problem,
            format!("missing: {}", list(&missing)),
            remedy,
        );
    }
    let gone = |program: &Path| format!("the slots run {}, which is gone", program.display());
    let no_hermes = format!("there is no program {}", tools.hermes.display());
    let install = "install Hermes Agent, or name it with HERMES_S6_HERMES";
    for (program, text, remedy) in [
        (&tools.hermes, no_hermes, install),
        (&tools.hermes_s6, gone(&tools.hermes_s6), RESTART),
    ] {
        match is_executable(&settings.root.at(program)) {
            Ok(true) => {}
            Ok(false) => found.add(Level::Problem, text, remedy),
            Err(error) => found.error(Level::Unknown, &error),
        }
    }
    bridge(settings, &tools.hermes, found);
    let (s6, execline, hermes) = (
        tools.s6.display(),
        tools.execline.display(),
        tools.hermes.display(),
    );
    found.conclude(format!("s6 in {s6}, execline in {execline}, and {hermes}"));
}

/// Checks that a Hermes in a virtual environment loads the bridge, if the bridge is installed.
///
/// Each version of Python has its own directory of packages, and needs the loader there.
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

/// Checks that the running s6 programs are of the s6 that will talk to them.
///
/// Programs of different versions of s6 misunderstand each other silently.
pub fn versions(settings: &Settings, scandir: &ScanDir, tools: &Tools, found: &mut Findings) {
    let slots = slots(Some(scandir));
    let supervisors = slots.iter().map(|name| {
        let slot = scandir.slot(name);
        let find = |slot: Option<Dir>| slot.as_ref().map_or(Ok(None), supervisor);
        ("s6-supervise", slot.and_then(find))
    });
    let (mut same, mut hidden, mut other) = (0, 0, Vec::new());
    for (program, holder) in supervisors.chain([("s6-svscan", scandir.watcher())]) {
        let pid = match holder {
            Ok(Some(Holder::Process(pid))) => pid,
            Ok(_) => continue,
            Err(_) => {
                hidden += 1;
                continue;
            }
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
        let text = format!("not the s6 of {place}: {}", list(&other));
        found.add(Level::Problem, text, RESTART);
    }
    if hidden > 0 {
        let text = format!("it cannot be seen to which s6 {hidden} processes belong");
        found.add(Level::Unknown, text, AS_ROOT);
    }
    if same == 0 {
        return found.conclude("nothing runs that could be compared".to_owned());
    }
    found.conclude(format!("{same} processes are of the s6 in {place}"));
}

/// Compares the times that gateways may take to stop: in the settings, in the tree, and in each slot.
pub fn stopping(
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
    // In a shell without HERMES_S6_STOP_TIMEOUT, the setting has its default and says nothing.
    if wanted != STOP_TIMEOUT && wanted != choices.stop_timeout() {
        let wanted = wanted.as_secs();
        let text = format!("HERMES_S6_STOP_TIMEOUT is {wanted}, and the tree has {stop}");
        found.add(Level::Warning, text, RESTART);
    }
    for name in slots(scandir) {
        let Some(Ok(Some(slot))) = scandir.map(|scandir| scandir.slot(&name)) else {
            // The check of the profiles says why.
            continue;
        };
        let content = match slot.read("timeout-kill", 32) {
            Ok(content) => String::from_utf8_lossy(&content).into_owned(),
            Err(unusable) if unusable.is_missing() => String::new(),
            Err(unusable) => {
                let what = format!("{}: {}", shown(slot.path()), unusable.text);
                found.of(name.as_str()).add(Level::Unknown, what, AS_ROOT);
                continue;
            }
        };
        if content.trim().parse() != Ok(choices.stop_timeout().as_millis()) {
            let text = format!("timeout-kill of its slot is '{}'", content.trim());
            found
                .of(name.as_str())
                .add(Level::Warning, text, "hermes-s6 reconcile");
        }
    }
}

/// Checks that the tender is there, without which nobody looks after the logs.
pub fn tender(settings: &Settings, scandir: &ScanDir, found: &mut Findings) {
    found.check = "logs";
    let is_up = match scandir.dir().dir_if_there(TENDER) {
        Ok(Some(service)) => supervised(&settings.root, &service)
            .map(|seen| seen.is_some_and(|(status, _)| status.wanted_up)),
        Ok(None) => Ok(false),
        Err(error) => Err(error),
    };
    match is_up {
        Ok(true) => found.conclude(format!("{TENDER} looks after the logs")),
        Ok(false) => {
            let text = format!("{TENDER}, which looks after the logs, does not run");
            found.add(Level::Problem, text, "hermes-s6 reconcile");
        }
        Err(error) => found.error(Level::Unknown, &error),
    }
}

/// Gives the number of slots that the running s6-svscan has room for; `None` if its limits cannot be seen.
pub fn room(
    settings: &Settings,
    scandir: &ScanDir,
    tools: &Tools,
    watcher: Option<Holder>,
) -> Result<Option<usize>> {
    let Some(Holder::Process(pid)) = watcher else {
        return Ok(None);
    };
    // If the command line is hidden, it is empty: the s6-svscan would seem to have no options.
    let cmdline = fs::read(settings.root.at(format!("/proc/{pid}/cmdline"))).unwrap_or_default();
    if cmdline.is_empty() {
        return Ok(None);
    }
    let is_other = |name: &OsString| {
        let profile = name.to_str().and_then(ProfileName::from_slot);
        let is_ours = profile.is_some_and(|profile| scandir.has_slot(&profile).unwrap_or(true));
        !is_ours && !name.as_encoded_bytes().starts_with(b".")
    };
    let mut others = scandir.dir().names()?;
    others.retain(is_other);
    scandir.room(settings, tools, watcher, &others).map(Some)
}

/// Checks that s6-svscan has room for the slots of all profiles.
pub fn capacity(needed: usize, room: Result<Option<usize>>, found: &mut Findings) {
    found.check = "capacity";
    let room = match room {
        Ok(Some(room)) => room,
        Ok(None) => {
            let text = "the limits of s6-svscan cannot be seen".to_owned();
            return found.add(Level::Unknown, text, AS_ROOT);
        }
        Err(error) => return found.error(Level::Unknown, &error),
    };
    if needed > room {
        let text = format!("{needed} profiles, and s6-svscan has room for {room}");
        let remedy = "restart the tree with hermes-s6 supervise, or s6-svscan with a larger limit, and with more descriptors (ulimit -n)";
        found.add(Level::Warning, text, remedy);
    }
    found.conclude(format!("{needed} profiles have room"));
}

/// Finds the gateways that should run but do not, and the profiles that cannot be used; `again` surveys the volume anew.
pub fn profiles(
    settings: &Settings,
    scandir: Option<&ScanDir>,
    survey: &Survey,
    again: impl FnOnce() -> Result<Survey>,
    found: &mut Findings,
) {
    found.check = "profiles";
    match scandir.map(|scandir| status::report(settings, scandir, survey, again)) {
        Some(Ok(report)) => {
            gateways(&report, found);
            memory(&settings.root, &report, found);
        }
        Some(Err(error)) => found.error(Level::Problem, &error),
        None => {}
    }
    for name in survey.profiles.keys() {
        for problem in survey.problems(settings, name) {
            found
                .of(name.as_str())
                .sentence(Level::Warning, &problem.text);
        }
    }
    for skipped in &survey.skipped {
        found
            .of(&skipped.name)
            .sentence(Level::Warning, &skipped.problem.text);
    }
    let wanted = survey.profiles.values();
    let wanted = wanted.filter(|profile| profile.intent.wants_running());
    let (wanted, all) = (wanted.count(), survey.profiles.len());
    found.conclude(format!("of {all} profiles {wanted} are to run"));
}

/// Finds out whether gateways were killed because the container has too little memory.
fn memory(root: &Root, report: &Report, found: &mut Findings) {
    let is_killed = |row: &&Row| {
        let killed = [Death::Signal(9), Death::Exit(137)];
        row.last_exit.is_some_and(|death| killed.contains(&death))
    };
    let killed = report.profiles.iter().filter(is_killed);
    let names: Vec<&str> = killed.map(|row| row.profile.as_str()).collect();
    let count = oom_kills(root);
    if names.is_empty() || count == 0 {
        return;
    }
    let text = format!(
        "the kernel has killed {count} processes of this container because its memory was full; {} ended by SIGKILL",
        first_few(&names)
    );
    let remedy =
        "give the container more memory (docker run --memory), or let fewer gateways run in it";
    found.add(Level::Problem, text, remedy);
}

/// Reads how many processes of this container the kernel has killed for want of memory; 0 if that cannot be seen.
fn oom_kills(root: &Root) -> u64 {
    let places = [
        // Of cgroups, version 2, and before.
        "/sys/fs/cgroup/memory.events",
        "/sys/fs/cgroup/memory/memory.oom_control",
    ];
    let count = |place: &str| {
        let text = fs::read_to_string(root.at(place)).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "))?;
        line.trim().parse().ok()
    };
    places.into_iter().find_map(count).unwrap_or(0)
}

/// Finds the gateways that should run but do not, and those that are parked.
fn gateways(report: &Report, found: &mut Findings) {
    for row in &report.profiles {
        if let (Some(note), Some(log)) = (row.log_note(), &row.log) {
            let text = note.replacen(&format!("{} ", row.profile), "", 1);
            let remedy = log.remedy.as_deref().unwrap_or_default();
            found
                .of(row.profile.as_str())
                .add(Level::Problem, text, remedy);
        }
        let level = match row.state {
            // Without a tree, no gateway has a supervisor, and the missing tree is a finding already.
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
            for (prefix, known) in [("{{ s6 }}/", &S6[..]), ("{{ execline }}/", &EXECLINE[..])] {
                for rest in text.as_deref().unwrap_or_default().split(prefix).skip(1) {
                    let program = rest.split_whitespace().next().unwrap_or_default();
                    assert!(known.contains(&program), "{program}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 20);
    }

    #[test]
    fn what_the_kernel_has_killed_for_want_of_memory_is_counted_in_both_kinds_of_cgroups() {
        let place = std::env::temp_dir().join(format!("hermes-s6-oom-{}", std::process::id()));
        let root = Root::new(place.clone());
        assert_eq!(oom_kills(&root), 0, "it cannot be seen");
        for (file, content) in [
            (
                "memory/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            ),
            (
                "memory.events",
                "low 0\noom 4\noom_kill 3\noom_group_kill 0\n",
            ),
        ] {
            let file = place.join("sys/fs/cgroup").join(file);
            let made = file.parent().map(fs::create_dir_all);
            assert!(made.is_some_and(|made| made.is_ok()) && fs::write(&file, content).is_ok());
            let expected = if file.ends_with("memory.events") {
                3
            } else {
                2
            };
            assert_eq!(oom_kills(&root), expected, "{}", file.display());
        }
        let _removed = fs::remove_dir_all(place);
    }
}
