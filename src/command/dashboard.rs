//! The operator's commands on the dashboard. They write no intent: that is HERMES_DASHBOARD, which counts when the tree
//! is started.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::cli::{Common, Waiting};
use crate::command::context::Tree;
use crate::error::{Code, Error, Result};
use crate::report;
use crate::rights::Rights;
use crate::rights::ask::reach;
use crate::s6::supervision::{Status, deaths, supervised};
use crate::system::beneath::Dir;
use crate::system::wait::wait_until;
use crate::tree::dashboard::{DASHBOARD, STOP_TIME};
use crate::tree::lifecycle::request::Verb;
use crate::view::dashboard::look;
use crate::view::row::Row;

/// How long the dashboard may take to get ready, unless the caller says.
const START_TIME: Duration = Duration::from_secs(60);

/// How much longer than its own time to end the dashboard is waited for.
const END_MARGIN: Duration = Duration::from_secs(3);

#[derive(Serialize)]
struct Answer<'a> {
    version: u32,
    ok: bool,
    dashboard: &'a Row,
}

/// Starts, stops or restarts the dashboard, and waits for that.
pub fn operate(common: &Common, verb: Verb, waiting: Waiting) -> Result<Code> {
    let tree = Tree::enter(common, true)?;
    let service = service(&tree)?;
    let status = status(&tree, &service)?;
    let begun = SystemTime::now();
    let old = status.pid.filter(|_| status.wanted_up);
    match (verb, old) {
        (Verb::Stop, _) => tell(&tree, &service, "-d")?,
        (Verb::Restart, Some(_)) => {
            forget(&tree, &service);
            tell(&tree, &service, "-r")?;
        }
        (_, Some(_)) => {}
        (_, None) => {
            forget(&tree, &service);
            tell(&tree, &service, "-u")?;
        }
    }
    let is_new = |pid| verb == Verb::Start || Some(pid) != old;
    let is_parked = |status: &Status| {
        let deaths = deaths(&service).unwrap_or_default();
        status.is_down() && deaths.last().is_some_and(|(time, _)| *time >= begun)
    };
    let mut is_done = waiting.no_wait;
    let (usual, what) = match verb {
        Verb::Stop => (STOP_TIME + END_MARGIN, "the dashboard to end"),
        _ => (START_TIME, "the dashboard to get ready"),
    };
    let limit = waiting.timeout.map_or(usual, Duration::from_secs);
    let is_over = waiting.no_wait
        || wait_until(limit, what, || {
            // A look that fails is made again.
            let Ok(status) = self::status(&tree, &service) else {
                return false;
            };
            is_done = match verb {
                Verb::Stop => status.is_down(),
                _ => status.wanted_up && status.ready && status.pid.is_some_and(is_new),
            };
            is_done || (verb != Verb::Stop && is_parked(&status))
        });
    let settings = tree.settings();
    let with_log =
        !matches!(tree.rights(), Rights::Direct(_)) && reach(settings, &settings.home).is_ok();
    let seen = look(tree.settings(), &tree.scandir, true, with_log)?;
    let seen = seen.ok_or_else(|| none(&tree))?;
    if waiting.json {
        report::json(&Answer {
            version: 1,
            ok: is_done,
            dashboard: &seen,
        });
    } else {
        report::outcome(is_done, &said(verb, waiting.no_wait, is_done, &seen));
    }
    Ok(match (is_done, is_over) {
        (true, _) => Code::Done,
        (false, true) => Code::No,
        (false, false) => Code::TimedOut,
    })
}

/// Tells the dashboard to end, because the container ends; a tree without one is told nothing.
pub fn begin_to_end(tree: &Tree) {
    if let Err(error) = service(tree).and_then(|service| tell(tree, &service, "-d"))
        && error.code() != Code::No
    {
        report::warning(&error.to_string());
    }
}

/// Waits until the dashboard has ended, for as long as it can take, and at most for `limit`.
pub fn await_end(tree: &Tree, limit: Option<Duration>) {
    let Ok(service) = service(tree) else { return };
    let usual = STOP_TIME + END_MARGIN;
    let is_down = || status(tree, &service).is_ok_and(|status| status.is_down());
    let limit = limit.unwrap_or(usual).min(usual);
    if !wait_until(limit, "the dashboard to end", is_down) {
        report::warning("the dashboard was not seen to end: hermes-s6 status");
    }
}

/// Says what has come of it.
fn said(verb: Verb, no_wait: bool, is_done: bool, seen: &Row) -> String {
    let pid = seen
        .pid
        .map_or_else(String::new, |pid| format!(" (pid {pid})"));
    match (is_done, verb) {
        (true, _) if no_wait => format!("dashboard is {}{pid}", seen.state.words()),
        (true, Verb::Stop) => "dashboard is down".to_owned(),
        (true, _) => format!(
            "dashboard is ready{pid}: {}",
            seen.url.as_deref().unwrap_or_default()
        ),
        (false, _) => seen.note.clone().unwrap_or_else(|| {
            format!(
                "dashboard is {}{pid}: see hermes-s6 logs --dashboard",
                seen.state.words()
            )
        }),
    }
}

/// Opens the service of the dashboard.
fn service(tree: &Tree) -> Result<Dir> {
    if tree.rights().are_roots() && tree.scandir.dir().kind(DASHBOARD)?.is_some() {
        tree.scandir.require_root_owned(DASHBOARD)?;
    }
    let service = tree.scandir.dir().dir_if_there(DASHBOARD)?;
    service.ok_or_else(|| none(tree))
}

/// Makes the error for a tree whose dashboard is not there.
fn none(tree: &Tree) -> Error {
    let owner = match tree.scandir.owner() {
        Ok(owner) => owner,
        Err(error) => return error,
    };
    let what = "there is no dashboard in this tree";
    Error::new(Code::No, what).remedy(match owner.and_then(|owner| owner.choices.dashboard) {
        Some(_) => "hermes-s6 reconcile",
        None => "start the container with HERMES_DASHBOARD=1",
    })
}

fn status(tree: &Tree, service: &Dir) -> Result<Status> {
    let seen = supervised(&tree.settings().root, service)?;
    seen.map(|(status, _supervisor)| status).ok_or_else(|| {
        let what = "the dashboard has no supervisor";
        Error::new(Code::No, what).remedy("hermes-s6 reconcile")
    })
}

/// Clears the death tally. Only the owner of the service may; without that, it is started all the same.
fn forget(tree: &Tree, service: &Dir) {
    let root = &tree.settings().root;
    let _not_permitted = tree.tools.run(root, "s6-svdt-clear", &[], service.path());
}

/// Tells the supervisor something by `s6-svc`.
fn tell(tree: &Tree, service: &Dir, letters: &str) -> Result<()> {
    let root = &tree.settings().root;
    tree.tools.run(root, "s6-svc", &[letters], service.path())
}
