//! Convergence from beginning to end: look, decide, apply, report.

use std::collections::BTreeMap;
use std::fs::File;

use serde::Serialize;

use crate::apply::volume::settle;
use crate::apply::{Apply, Failures};
use crate::capacity::room_by_descriptors;
use crate::child::as_account;
use crate::container::Command;
use crate::error::{Code, Error, Result, escaped};
use crate::plan::{Action, Change, Plan, VolumeChanges, World, plan};
use crate::report;
use crate::rights::{Rights, make_scandir};
use crate::scandir::{Owner, ScanDir, instance};
use crate::settings::Settings;
use crate::slot::{Rendered, Renderer};
use crate::survey::{Survey, survey};
use crate::tool::Tools;

/// What a convergence did, or would do.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was decided; changes that failed have the action `failed`.
    pub plan: Plan,
    /// Problems that do not belong to one profile.
    pub failures: Vec<String>,
}

impl Outcome {
    /// Gives the exit code: a part that could not be done is a no.
    pub fn code(&self) -> Code {
        let bad = self
            .plan
            .changes
            .iter()
            .any(|change| change.warning.is_some());
        if bad || !self.failures.is_empty() {
            Code::No
        } else {
            Code::Done
        }
    }
}

/// A scan directory under our lock, ready to be converged.
#[derive(Debug)]
pub struct Session<'a> {
    settings: &'a Settings,
    rights: &'a Rights,
    tools: Tools,
    scandir: ScanDir,
    _lock: File,
}

impl<'a> Session<'a> {
    /// Opens and locks the scan directory; it is made if it is not there.
    pub fn begin(settings: &'a Settings, rights: &'a Rights, tools: Tools) -> Result<Self> {
        make_scandir(settings, rights)?;
        let scandir = ScanDir::open(settings)?;
        let lock = scandir.lock()?;
        let tools = check_owner(settings, &scandir, tools)?;
        Ok(Self {
            settings,
            rights,
            tools,
            scandir,
            _lock: lock,
        })
    }

    /// Gives the scan directory.
    pub fn scandir(&self) -> &ScanDir {
        &self.scandir
    }

    /// Ends supervisors that have outlived their s6-svscan.
    pub fn take_over(&self) -> Result<()> {
        self.apply(&BTreeMap::new()).take_over()
    }

    /// Converges. `starting` says that an s6-svscan of ours comes next, with all the room it can get.
    pub fn converge(&self, starting: bool) -> Result<Outcome> {
        let survey = look(self.settings, self.rights, &self.tools)?;
        let rendered = render(self.settings, self.rights, &self.tools, &survey)?;
        let mut world = self.scandir.world(self.settings, &self.tools, &rendered)?;
        if starting {
            world.room = Some(room_by_descriptors());
        }
        let command = Command::detect(&self.settings.root);
        let mut plan = plan(self.settings, &command, &survey, &world);
        let mut failures = self.settle(&plan.volume)?;
        let apply = self.apply(&rendered);
        apply.owner(&Owner {
            home: self.settings.home.clone(),
            instance: instance(self.settings),
            tools: self.tools.clone(),
        })?;
        let slots = apply.slots(&plan);
        mark_failures(&mut plan, slots);
        let boot_log = boot_log(&plan, &world);
        failures.extend(self.settle(&VolumeChanges {
            boot_log,
            ..VolumeChanges::default()
        })?);
        Ok(Outcome { plan, failures })
    }

    fn apply<'s>(&'s self, rendered: &'s Rendered) -> Apply<'s> {
        Apply {
            settings: self.settings,
            tools: &self.tools,
            rights: self.rights,
            scandir: &self.scandir,
            rendered,
        }
    }

    fn settle(&self, changes: &VolumeChanges) -> Result<Vec<String>> {
        if *changes == VolumeChanges::default() {
            return Ok(Vec::new());
        }
        match self.rights {
            Rights::Direct(account) => {
                as_account(self.settings, &self.tools, account, "settle", changes)
            }
            _ => Ok(settle(self.settings, changes)),
        }
    }
}

/// Decides as [`Session::converge`] would, and does nothing.
pub fn dry_run(settings: &Settings, rights: &Rights, tools: Tools) -> Result<Outcome> {
    let tools = tools_of_tree(settings, tools)?;
    let scandir = open_if_there(settings)?;
    let survey = look(settings, rights, &tools)?;
    let rendered = render(settings, rights, &tools, &survey)?;
    let world = match scandir {
        Some(scandir) => scandir.world(settings, &tools, &rendered)?,
        None => World::default(),
    };
    let command = Command::detect(&settings.root);
    Ok(Outcome {
        plan: plan(settings, &command, &survey, &world),
        failures: Vec::new(),
    })
}

/// Looks at the volume with the rights of its owner.
pub fn look(settings: &Settings, rights: &Rights, tools: &Tools) -> Result<Survey> {
    match rights {
        Rights::Direct(account) => as_account(settings, tools, account, "survey", &()),
        _ => survey(settings),
    }
}

/// Renders the slots of all profiles.
fn render(
    settings: &Settings,
    rights: &Rights,
    tools: &Tools,
    survey: &Survey,
) -> Result<Rendered> {
    let renderer = Renderer::new(settings, tools, rights.drop_to());
    let ports = survey.assigned_ports();
    let mut rendered = Rendered::new();
    for name in survey.profiles.keys() {
        rendered.insert(
            name.clone(),
            renderer.render(name, ports.get(name).copied())?,
        );
    }
    Ok(rendered)
}

/// Gives the programs that slots would name: those of the tree that runs, if one does.
pub fn tools_of_tree(settings: &Settings, tools: Tools) -> Result<Tools> {
    match open_if_there(settings)? {
        Some(scandir) => check_owner(settings, &scandir, tools),
        None => Ok(tools),
    }
}

fn open_if_there(settings: &Settings) -> Result<Option<ScanDir>> {
    match ScanDir::open(settings) {
        Ok(scandir) => Ok(Some(scandir)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses a scan directory of another data root, and gives the programs to use: those that a running
/// tree was started with, since a client and a supervisor of two versions misunderstand each other.
fn check_owner(settings: &Settings, scandir: &ScanDir, tools: Tools) -> Result<Tools> {
    let Some(owner) = scandir.owner() else {
        return Ok(tools);
    };
    if owner.home != settings.home {
        let shown = |path: &std::path::Path| escaped(path.as_os_str().as_encoded_bytes());
        return Err(Error::new(
            Code::Usage,
            format!(
                "{} has the gateways of {}, not of {}",
                shown(&settings.scandir),
                shown(&owner.home),
                shown(&settings.home)
            ),
        )
        .remedy("name that data directory with --home, or another scan directory with --scandir"));
    }
    let running = scandir.watcher().is_some() && owner.instance == instance(settings);
    let named = settings.bindir.is_some() || settings.hermes.is_some();
    Ok(if running && !named {
        owner.tools
    } else {
        tools
    })
}

fn mark_failures(plan: &mut Plan, mut failures: Failures) {
    for change in &mut plan.changes {
        if let Some(error) = change.name.as_ref().and_then(|name| failures.remove(name)) {
            change.action = Action::Failed;
            change.reason = Some("error".to_owned());
            change.warning = Some(error.to_string());
        }
    }
}

/// Chooses the lines for the boot log: at boot everything, later only what changed.
fn boot_log(plan: &Plan, world: &World) -> Vec<String> {
    let all = !world.live && !plan.is_empty();
    plan.changes
        .iter()
        .filter(|change| all || !change.steps.is_empty())
        .map(report::change_line)
        .collect()
}

/// Says what a convergence did: a line per change, then warnings.
pub fn say(outcome: &Outcome, json: bool, dry_run: bool) {
    if json {
        report::json(&Json::of(outcome, dry_run));
        return;
    }
    let changes = &outcome.plan.changes;
    for change in changes {
        report::line(&format!("reconcile: {}", report::change_line(change)));
    }
    let count = changes
        .iter()
        .filter(|change| !change.steps.is_empty())
        .count();
    report::line(&match (count, dry_run) {
        (0, _) if outcome.plan.is_empty() => "reconcile: nothing changed".to_owned(),
        (0, _) => "reconcile: no slot changed".to_owned(),
        (count, false) => format!("reconcile: {count} changed"),
        (count, true) => format!("reconcile: {count} would change"),
    });
    warn(outcome);
}

/// Says what is wrong, on stderr.
pub fn warn(outcome: &Outcome) {
    for change in &outcome.plan.changes {
        if let Some(warning) = &change.warning {
            report::warning(&format!("profile {}: {warning}", change.profile));
        }
    }
    for failure in &outcome.failures {
        report::warning(failure);
    }
}

#[derive(Serialize)]
struct Json<'a> {
    version: u32,
    dry_run: bool,
    changed: bool,
    changes: Vec<JsonChange<'a>>,
    failures: &'a [String],
}

#[derive(Serialize)]
struct JsonChange<'a> {
    profile: &'a str,
    prior_state: Option<&'a str>,
    action: Action,
    reason: Option<&'a str>,
    warning: Option<&'a str>,
}

impl<'a> Json<'a> {
    fn of(outcome: &'a Outcome, dry_run: bool) -> Self {
        let json = |change: &'a Change| JsonChange {
            profile: &change.profile,
            prior_state: change.prior_state.as_deref(),
            action: change.action,
            reason: change.reason.as_deref(),
            warning: change.warning.as_deref(),
        };
        Self {
            version: 1,
            dry_run,
            changed: !outcome.plan.is_empty(),
            changes: outcome.plan.changes.iter().map(json).collect(),
            failures: &outcome.failures,
        }
    }
}
