//! Convergence from beginning to end: look, decide, apply, report.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::time::Duration;

use serde::Serialize;

use crate::command::child::as_account;
use crate::error::{Code, Error, Result, shown};
use crate::hermes::container::Command;
use crate::hermes::name::ProfileName;
use crate::report;
use crate::rights::{Rights, make_scandir};
use crate::s6::capacity::{raise_descriptors, room_by_descriptors};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::tree::apply::{Apply, Failures};
use crate::tree::plan::{Action, Change, Plan, Step, VolumeChanges, World, plan};
use crate::tree::scandir::{Choices, Owner, ScanDir, instance};
use crate::tree::slot::{Rendered, Renderer};
use crate::volume::survey::{Survey, survey};
use crate::volume::write::settle;

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
    choices: Choices,
    scandir: ScanDir,
    _lock: File,
}

impl<'a> Session<'a> {
    /// Opens and locks the scan directory; it is made if it is not there.
    ///
    /// Another process that changes it is waited for, for at most `limit`.
    pub fn begin(
        settings: &'a Settings,
        rights: &'a Rights,
        tools: Tools,
        limit: Duration,
    ) -> Result<Self> {
        make_scandir(settings, rights)?;
        raise_descriptors(usize::MAX);
        let scandir = ScanDir::open(settings)?;
        scandir.ours()?;
        if let Rights::Direct(_) = rights {
            scandir.only_roots()?;
        }
        let lock = scandir.lock_within(limit)?;
        let choices = check_owner(settings, &scandir, Ok(tools))?;
        warn_of_hermes(settings, &choices.tools);
        Ok(Self {
            settings,
            rights,
            choices,
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

    /// Gives profiles their slots, down, and waits until they are supervised. Gives those that have one
    /// already, and what could not be done.
    pub fn register(&self, names: &[ProfileName]) -> Result<(Vec<ProfileName>, Failures)> {
        let mut survey = look(self.settings, self.rights, &self.choices.tools, &[])?;
        let ports = survey.assigned_ports();
        let renderer = Renderer::new(self.settings, &self.choices, self.rights.drop_to());
        let mut rendered = Rendered::new();
        for name in names {
            rendered.insert(
                name.clone(),
                renderer.render(name, ports.get(name).copied())?,
            );
        }
        for name in names {
            self.scandir.forget_unregistered(name);
        }
        // Nothing else is decided here than what these names need.
        survey.complete = false;
        let world = self
            .scandir
            .world(self.settings, &self.choices.tools, &rendered)?;
        let command = Command::detect(&self.settings.root);
        let mut plan = plan(self.settings, &command, &survey, &world);
        plan.changes.retain(|change| {
            change
                .name
                .as_ref()
                .is_some_and(|name| names.contains(name))
        });
        let mut failures = Failures::new();
        let mut there = names.to_vec();
        for change in &mut plan.changes {
            let Some(name) = &change.name else { continue };
            let warning = change.warning.take().unwrap_or_default();
            let mut publishes = false;
            for step in &mut change.steps {
                if let Step::Publish { down } = step {
                    *down = true;
                    publishes = true;
                }
            }
            if publishes {
                there.retain(|there| there != name);
                change.action = Action::Registered;
            } else {
                change.steps.clear();
                if change.action == Action::Skipped {
                    there.retain(|there| there != name);
                    failures.insert(name.clone(), Error::new(Code::No, warning));
                }
            }
        }
        plan.changes.retain(|change| !change.steps.is_empty());
        let mut log_directories = plan.volume.log_directories;
        log_directories.retain(|name| names.contains(name));
        let volume = VolumeChanges {
            ports: plan.volume.ports.take(),
            log_directories,
            boot_log: plan.changes.iter().map(report::change_line).collect(),
            ..VolumeChanges::default()
        };
        plan.volume = VolumeChanges::default();
        for failure in self.settle(&volume)? {
            report::warning(&failure);
        }
        failures.extend(self.apply(&rendered).slots(&plan));
        Ok((there, failures))
    }

    /// Ends the supervisors of slots and removes them; gives what could not be done.
    pub fn unregister(&self, names: &[ProfileName]) -> Result<Failures> {
        let mut failures = Failures::new();
        self.apply(&Rendered::new())
            .remove(names.iter(), &mut failures);
        let removed = names.iter().filter(|name| !failures.contains_key(name));
        removed
            .clone()
            .for_each(|name| self.scandir.note_unregistered(name));
        let line = |name: &ProfileName| {
            report::change_line(&Change {
                reason: Some("unregistered".to_owned()),
                ..Change::new(name, None, Action::Removed)
            })
        };
        let boot_log = removed.map(line).collect();
        for failure in self.settle(&VolumeChanges {
            boot_log,
            ..VolumeChanges::default()
        })? {
            report::warning(&failure);
        }
        Ok(failures)
    }

    /// Converges. `starting` says that an s6-svscan of ours comes next, with all the room it can get; only
    /// the slots of `only` are changed, if that is given.
    pub fn converge(
        &self,
        starting: bool,
        only: Option<&BTreeSet<ProfileName>>,
    ) -> Result<Outcome> {
        let survey = look(self.settings, self.rights, &self.choices.tools, &[])?;
        let rendered = render(self.settings, self.rights, &self.choices, &survey)?;
        let mut world = self
            .scandir
            .world(self.settings, &self.choices.tools, &rendered)?;
        if starting {
            world.room = Some(room_by_descriptors());
        }
        let command = Command::detect(&self.settings.root);
        for name in self.scandir.unregistered()? {
            if only.is_none_or(|only| only.contains(&name)) {
                self.scandir.forget_unregistered(&name);
            }
        }
        let mut plan = plan(self.settings, &command, &survey, &world);
        if let Some(only) = only {
            let is_meant = |name: &ProfileName| only.contains(name);
            plan.changes
                .retain(|change| change.name.as_ref().is_some_and(is_meant));
        }
        let mut failures = self.settle(&plan.volume)?;
        let apply = self.apply(&rendered);
        apply.owner(&Owner {
            home: self.settings.home.clone(),
            instance: instance(self.settings),
            choices: self.choices.clone(),
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
            tools: &self.choices.tools,
            stop_timeout: self.choices.stop_timeout(),
            rights: self.rights,
            scandir: &self.scandir,
            rendered,
        }
    }

    fn settle(&self, changes: &VolumeChanges) -> Result<Vec<String>> {
        settle_as(self.settings, &self.choices.tools, self.rights, changes)
    }
}

/// Writes on the volume with the rights of its owner, and gives what could not be done, as sentences.
pub fn settle_as(
    settings: &Settings,
    tools: &Tools,
    rights: &Rights,
    changes: &VolumeChanges,
) -> Result<Vec<String>> {
    if *changes == VolumeChanges::default() {
        return Ok(Vec::new());
    }
    match rights {
        Rights::Direct(account) => as_account(settings, tools, account, &["settle"], changes),
        _ => Ok(settle(settings, changes)),
    }
}

/// Decides as [`Session::converge`] would, and does nothing.
pub fn dry_run(settings: &Settings, rights: &Rights, tools: Tools) -> Result<Outcome> {
    let scandir = open_if_there(settings)?;
    if let Some(scandir) = &scandir {
        scandir.ours()?;
    }
    let choices = choices_of_tree(settings, rights, Ok(tools))?;
    warn_of_hermes(settings, &choices.tools);
    let survey = look(settings, rights, &choices.tools, &[])?;
    let rendered = render(settings, rights, &choices, &survey)?;
    let world = match scandir {
        Some(scandir) => scandir.world(settings, &choices.tools, &rendered)?,
        None => World::default(),
    };
    let command = Command::detect(&settings.root);
    Ok(Outcome {
        plan: plan(settings, &command, &survey, &world),
        failures: Vec::new(),
    })
}

/// Looks at the volume as [`survey`] does, with the rights of its owner.
pub fn look(
    settings: &Settings,
    rights: &Rights,
    tools: &Tools,
    only: &[ProfileName],
) -> Result<Survey> {
    let Rights::Direct(account) = rights else {
        return survey(settings, only);
    };
    let mut words = vec!["survey"];
    for name in only {
        words.extend(["-p", name.as_str()]);
    }
    as_account(settings, tools, account, &words, &())
}

/// Renders the slots of all profiles.
fn render(
    settings: &Settings,
    rights: &Rights,
    choices: &Choices,
    survey: &Survey,
) -> Result<Rendered> {
    let renderer = Renderer::new(settings, choices, rights.drop_to());
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

/// Gives what slots would be made with: what those of the tree that runs were, if one does.
///
/// `tools` are those that are found; a tree that runs names its own.
pub fn choices_of_tree(
    settings: &Settings,
    rights: &Rights,
    tools: Result<Tools>,
) -> Result<Choices> {
    let Some(scandir) = open_if_there(settings)? else {
        return Ok(Choices::new(settings, tools?));
    };
    if let Rights::Direct(_) = rights {
        // Root runs the programs that are named there.
        scandir.only_roots()?;
    }
    check_owner(settings, &scandir, tools)
}

fn open_if_there(settings: &Settings) -> Result<Option<ScanDir>> {
    match ScanDir::open(settings) {
        Ok(scandir) => Ok(Some(scandir)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses a scan directory of another data root, and gives what to make slots with. A tree that runs
/// keeps what it was started with, whatever this caller's environment says: a client and a supervisor
/// of two versions misunderstand each other, and a setting for one command is none for all gateways.
fn check_owner(settings: &Settings, scandir: &ScanDir, tools: Result<Tools>) -> Result<Choices> {
    let owner = owner_of(settings, scandir)?
        .filter(|owner| scandir.watcher().is_some() && owner.instance == instance(settings));
    let Some(owner) = owner else {
        return Ok(Choices::new(settings, tools?));
    };
    let other = settings
        .hermes
        .as_ref()
        .is_some_and(|hermes| *hermes != owner.choices.tools.hermes)
        || settings
            .bindir
            .as_ref()
            .is_some_and(|bindir| *bindir != owner.choices.tools.s6);
    if other {
        report::warning(
            "the tree that runs keeps its own programs: HERMES_S6_HERMES and HERMES_S6_BINDIR count when it is started again",
        );
    }
    Ok(owner.choices)
}

/// Reads whose gateways a scan directory has, and refuses another data root's.
pub fn owner_of(settings: &Settings, scandir: &ScanDir) -> Result<Option<Owner>> {
    let owner = scandir.owner();
    let other = owner.as_ref().filter(|owner| owner.home != settings.home);
    let Some(other) = other else {
        return Ok(owner);
    };
    let what = format!(
        "{} has the gateways of {}, not of {}",
        shown(&settings.scandir),
        shown(&other.home),
        shown(&settings.home)
    );
    Err(Error::new(Code::Usage, what)
        .remedy("name that data directory with --home, or another scan directory with --scandir"))
}

fn warn_of_hermes(settings: &Settings, tools: &Tools) {
    if !tools.has_hermes(settings) {
        report::warning(&format!(
            "there is no program {}, and no gateway starts without: install Hermes Agent, or name it with HERMES_S6_HERMES",
            tools.hermes.display()
        ));
    }
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
    let failed = changes
        .iter()
        .filter(|change| change.action == Action::Failed)
        .count();
    let changed = changes
        .iter()
        .filter(|change| !change.steps.is_empty())
        .count()
        - failed;
    let failed = if failed == 0 {
        String::new()
    } else {
        format!(", {failed} failed")
    };
    report::line(&match (changed, dry_run) {
        (0, _) if outcome.plan.is_empty() => "reconcile: nothing changed".to_owned(),
        (0, _) if failed.is_empty() => "reconcile: no slot changed".to_owned(),
        (_, false) => format!("reconcile: {changed} changed{failed}"),
        (_, true) => format!("reconcile: {changed} would change"),
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
