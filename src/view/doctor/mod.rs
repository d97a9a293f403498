//! The doctor: finds what is wrong with the container, its volume and its tree, and what to do about it.
//!
//! It changes nothing. If a check cannot be made, that is a finding too, and the other checks are made all the
//! same.

pub mod dashboard;
pub mod finding;
pub mod tree;
pub mod volume;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::error::{Error, Result, shown};
use crate::rights::Rights;
use crate::rights::ask::by_child;
use crate::s6::capacity::room_by_descriptors;
use crate::s6::tool::Tools;
use crate::settings::{CONTAINER_ENVIRONMENT, Settings};
use crate::system::process::{Holder, clone3_refused};
use crate::system::root::Root;
use crate::system::trust::{Changeable, Way, way};
use crate::tree::detect::detect;
use crate::tree::owner::Choices;
use crate::tree::plan::port_problems;
use crate::tree::scandir::ScanDir;
use crate::view::doctor::finding::{Diagnosis, Findings, Level};
use crate::volume::survey::{Survey, survey_as};

/// Makes all checks.
///
/// If `rights` is an error, this process is root and cannot become the user whose tree and volume these are. Then
/// neither is opened.
pub fn diagnose(settings: &Settings, rights: Result<Rights>) -> Diagnosis {
    let mut found = Findings::new("settings");
    for ignored in &settings.warnings {
        found.sentence(Level::Warning, ignored);
    }
    found.check = "pid1";
    // PID 1 shows whether the entrypoint of the image was replaced: then there is no supervision.
    let comm = settings.root.at("/proc/1/comm");
    match fs::read_to_string(&comm) {
        Ok(comm) => found.add(Level::Ok, format!("PID 1 is {}", comm.trim_end()), ""),
        Err(cause) => found.error(Level::Unknown, &Error::system("read", comm, cause)),
    }
    found.check = "seccomp";
    if let Some(refused) = clone3_refused() {
        found.error(Level::Warning, &refused);
    }
    found.check = "path";
    path(&settings.root, &mut found);
    match rights {
        Ok(rights) => look(settings, &rights, &mut found),
        Err(error) => {
            found.check = "rights";
            found.error(Level::Problem, &error);
            found.check = "tools";
            match Tools::find(settings) {
                Ok(tools) => tree::programs(settings, &tools, &mut found),
                Err(error) => found.error(Level::Problem, &error),
            }
            tree::file_system(settings, &mut found);
            for check in ["tree", "volume"] {
                found.check = check;
                let text = "not looked at: only the user of the gateways may";
                found.add(Level::Unknown, text.to_owned(), "");
            }
        }
    }
    Diagnosis::new(found.list)
}

/// Checks that root's scripts, which have the PATH of the container, find no programs of others first.
fn path(root: &Root, found: &mut Findings) {
    let environment = root.at(CONTAINER_ENVIRONMENT);
    // Root takes nothing from where others could write it; and there may be no such container.
    let Ok(Way::Roots(environment)) = way(&environment) else {
        return;
    };
    let Ok(path) = fs::read(environment.join("PATH")) else {
        return;
    };
    let path = OsString::from_vec(path.trim_ascii_end().to_vec());
    let mut first: Option<(PathBuf, Changeable)> = None;
    for entry in env::split_paths(&path).filter(|entry| entry.is_absolute()) {
        match (way(&root.at(&entry)), first.take()) {
            (Ok(Way::Changeable(changeable)), None) => first = Some((entry, changeable)),
            (Ok(Way::Changeable(_)), before) => first = before,
            (Ok(Way::Roots(_)), None) => {}
            (Ok(Way::Roots(_)), Some((place, changeable))) => {
                let (place, entry) = (shown(&place), shown(&entry));
                let text = format!(
                    "in the PATH of the container, {place} comes before {entry}, and {changeable}: what others put there \
                    is run by root's scripts"
                );
                let remedy =
                    format!("put {place} at the end, with ENV PATH in the image or --env PATH");
                return found.add(Level::Problem, text, &remedy);
            }
            (Err(error), _) => return found.error(Level::Unknown, &error),
        }
    }
    let text = "root's scripts find programs of root's first".to_owned();
    found.add(Level::Ok, text, "");
}

/// Makes the checks of the tree and of the volume.
fn look(settings: &Settings, rights: &Rights, found: &mut Findings) {
    found.check = "tree";
    let scandir = ScanDir::open_if_there(settings).unwrap_or_else(|error| {
        found.error(Level::Problem, &error);
        None
    });
    let watcher = scandir.as_ref().map_or(Ok(None), ScanDir::watcher);
    let runs = match detect(settings) {
        Ok(detection) => {
            let runs = detection.is_s6();
            let (level, remedy) = match watcher {
                _ if runs => (Level::Ok, ""),
                Ok(None) | Err(_) => (Level::Problem, "hermes-s6 supervise"),
                Ok(Some(Holder::Process(_))) => (Level::Problem, "hermes-s6 reconcile"),
                Ok(Some(Holder::Elsewhere)) => (
                    Level::Problem,
                    "give each container a scan directory of its own with HERMES_S6_SCANDIR",
                ),
            };
            found.add(level, detection.reason, remedy);
            runs
        }
        Err(error) => {
            found.error(Level::Unknown, &error);
            false
        }
    };
    let watcher = watcher.ok().flatten();

    tree::place(settings, rights, scandir.as_ref(), found);
    // Root must not run the programs of the owner file if somebody else could have written it.
    let is_trusted = !found
        .list
        .iter()
        .any(|finding| finding.check == "scandir" && finding.level == Level::Problem);
    let owner = scandir
        .as_ref()
        .filter(|_| runs && is_trusted)
        .and_then(|scandir| scandir.owner().ok()?);
    let fresh = Tools::find(settings);
    found.check = "tools";
    if let Err(error) = &fresh {
        found.error(Level::Problem, error);
    }
    // A running tree keeps the choices that it was started with.
    let choices = match (owner, &fresh) {
        (Some(owner), _) => Some(owner.choices),
        (None, Ok(tools)) => Some(Choices::new(settings, tools.clone())),
        (None, Err(_)) => None,
    };
    if let Some(choices) = &choices {
        if let Ok(fresh) = &fresh {
            tree::agreement(settings, &choices.tools, fresh, found);
        }
        tree::programs(settings, &choices.tools, found);
        if let Some(scandir) = &scandir {
            tree::versions(settings, scandir, &choices.tools, found);
        }
    }

    found.check = "volume";
    let tools = fresh.as_ref().ok();
    // Without s6, root cannot drop its rights. The missing s6 is a finding already.
    if matches!((rights, tools), (Rights::Direct(_), None)) {
        return;
    }
    let look = || survey_as(settings, rights, tools, &[]);
    let mut survey = match look() {
        Ok(survey) => survey,
        Err(error) => return found.error(Level::Problem, &error),
    };
    if let Some(Err(error)) = scandir
        .as_ref()
        .map(|scandir| scandir.keep_ports(settings, &mut survey))
    {
        found.error(Level::Unknown, &error);
    }
    let examined = by_child(settings, rights, tools, &["examine"], &())
        .unwrap_or_else(|| Ok(volume::examine(settings, &survey)));
    match examined {
        Ok(mut findings) => found.list.append(&mut findings),
        Err(error) => found.error(Level::Problem, &error),
    }
    if let Some(choices) = &choices {
        tree::stopping(settings, scandir.as_ref(), choices, found);
    }
    ports(settings, &survey, found);
    let room = match (watcher, &scandir, &choices) {
        (None, _, _) if !runs => Ok(Some(room_by_descriptors())),
        (watcher, Some(scandir), Some(choices)) => {
            tree::room(settings, scandir, &choices.tools, watcher)
        }
        _ => Ok(None),
    };
    let mut slots = tree::slots(scandir.as_ref());
    slots.extend(survey.profiles.keys().cloned());
    tree::capacity(slots.len(), room, found);
    if let Some(scandir) = scandir.as_ref().filter(|_| runs) {
        tree::tender(settings, scandir, found);
        dashboard::examine(settings, rights, scandir, found);
    }
    tree::profiles(settings, scandir.as_ref(), &survey, look, found);
}

/// Checks that every profile has a port of its own.
fn ports(settings: &Settings, survey: &Survey, found: &mut Findings) {
    found.check = "ports";
    if let Some(problem) = survey.problem_of_ports() {
        found.sentence(Level::Problem, problem);
    }
    let ports = survey.assigned_ports(settings);
    for (name, problem) in port_problems(settings, survey, &ports) {
        found
            .of(name.as_str())
            .sentence(Level::Problem, &problem.text);
    }
    found.conclude("every profile has a port of its own".to_owned());
}
