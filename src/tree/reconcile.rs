//! Convergence: brings the slots to what the volume asks for. It looks, makes a plan, applies it, and reports.

use std::collections::BTreeSet;
use std::fs::File;
use std::time::Duration;

use crate::error::{Code, Error, Result};
use crate::hermes::container::Command;
use crate::hermes::dashboard::{HIDDEN_REMEDY, left_out};
use crate::hermes::name::ProfileName;
use crate::report::{self, Warning};
use crate::rights::{Rights, make_scandir};
use crate::s6::capacity::{raise_descriptors, room_by_descriptors};
use crate::s6::tool::{Tools, roots_program};
use crate::settings::Settings;
use crate::system::trust::only_root_changes;
use crate::tree::apply::Apply;
use crate::tree::change::{Action, Change, Plan};
use crate::tree::owner::{Choices, Owner, instance};
use crate::tree::plan::{Scope, plan};
use crate::tree::remove::Failures;
use crate::tree::scandir::{ScanDir, choices_of_tree};
use crate::tree::slot::{Rendered, Renderer};
use crate::tree::tender;
use crate::tree::world::World;
use crate::volume::changes::{Settled, VolumeChanges};
use crate::volume::port::PORTS_FILE;
use crate::volume::survey::{Survey, survey_as};
use crate::volume::write::settle_as;

/// The number of attempts to record ports on a volume where other containers record theirs at the same time.
const PORT_TRIES: usize = 8;

/// The result of a convergence, or of a dry run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The plan. After a convergence, changes that failed have the action `failed`.
    pub plan: Plan,
    /// What could not be written on the volume.
    pub failures: Vec<Warning>,
}

impl Outcome {
    /// Gives the exit code: [`Code::No`] if something is wrong or could not be done.
    pub fn code(&self) -> Code {
        let has_warning = self
            .plan
            .changes
            .iter()
            .any(|change| change.warning.is_some());
        if has_warning || !self.failures.is_empty() {
            Code::No
        } else {
            Code::Done
        }
    }
}

/// An open scan directory, whose lock this process holds, ready to be converged.
#[derive(Debug)]
pub struct Session<'a> {
    settings: &'a Settings,
    rights: &'a Rights,
    choices: Choices,
    scandir: ScanDir,
    /// The volume as it was before gateways of an earlier tree were told to end, if any were.
    earlier: Option<Survey>,
    _lock: File,
}

/// What has come of a registration.
#[derive(Debug, Default)]
pub struct Registered {
    /// The profiles that had a slot already.
    pub existing: BTreeSet<ProfileName>,
    /// The profiles that got no slot, each with the error.
    pub failures: Failures,
    /// What could not be written on the volume, such as the port of a new slot.
    pub unwritten: Vec<Warning>,
}

/// What a plan was made from, and the plan.
struct Draft {
    survey: Survey,
    rendered: Rendered,
    world: World,
    plan: Plan,
}

impl<'a> Session<'a> {
    /// Opens and locks the scan directory, and makes it first if it does not exist.
    ///
    /// Waits for at most `limit` for another process that changes the scan directory.
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
        if rights.are_roots() {
            only_root_changes(scandir.dir().path())?;
            scandir.require_all_root_owned()?;
        }
        let lock = scandir.lock_within(limit)?;
        let choices = scandir.choices(settings, || Ok(tools))?;
        if rights.are_roots() {
            // The scripts that root runs name it.
            roots_program(&settings.root.at(&choices.tools.hermes_s6))?;
        }
        warn_of_hermes(settings, &choices.tools);
        Ok(Self {
            settings,
            rights,
            choices,
            scandir,
            earlier: None,
            _lock: lock,
        })
    }

    /// Gives the scan directory.
    pub fn scandir(&self) -> &ScanDir {
        &self.scandir
    }

    /// Gives the number of services of the tree that are no slots.
    pub fn others(&self) -> usize {
        1 + usize::from(self.choices.dashboard.is_some())
    }

    /// Ends the supervisors that outlived their s6-svscan.
    ///
    /// The intents that come from what their gateways wrote are written down first: a gateway that is told to end may
    /// write that it has stopped.
    pub fn take_over(&mut self) -> Result<()> {
        if self.scandir.has_supervisor()? {
            let draft = self.draft(false, Scope::All)?;
            // If this fails, the convergence tries it again, and says so.
            self.settle(&VolumeChanges {
                adopted: draft.plan.volume.adopted,
                ..VolumeChanges::default()
            })?;
            self.earlier = Some(draft.survey);
        }
        self.apply(&Rendered::new()).remover().take_over()
    }

    /// Adds the slots of profiles, down, and waits until they are supervised.
    pub fn register(&self, names: &BTreeSet<ProfileName>) -> Result<Registered> {
        for name in names {
            self.scandir.forget_unregistered(name);
        }
        let (draft, mut unwritten) = self.decide(false, Scope::Register(names))?;
        unwritten.extend(draft.survey.problem_of_ports().map(Warning::new));
        let Draft { rendered, plan, .. } = draft;
        let mut existing = names.clone();
        let mut failures = Failures::new();
        for change in &plan.changes {
            let Some(name) = &change.name else { continue };
            existing.remove(name);
            if change.action == Action::Skipped {
                let why = change.warning.clone().unwrap_or_default();
                failures.insert(name.clone(), Error::new(Code::No, why));
            }
        }
        let done = plan
            .changes
            .iter()
            .filter(|change| !change.steps.is_empty());
        let settled = self.settle(&VolumeChanges {
            boot_log: done.map(later).collect(),
            ..VolumeChanges::default()
        })?;
        unwritten.extend(settled.failures);
        failures.extend(self.apply(&rendered).slots(&plan));
        Ok(Registered {
            existing,
            failures,
            unwritten,
        })
    }

    /// Removes the slots of profiles, after their gateways and supervisors have ended; gives the failures.
    pub fn unregister(&self, names: &[ProfileName]) -> Result<Failures> {
        let mut failures = Failures::new();
        // Before the slots go: another command must not take one for a slot that has not been made yet.
        for name in names {
            self.scandir.note_unregistered(name);
        }
        self.apply(&Rendered::new())
            .remover()
            .remove(names.iter(), &mut failures);
        for name in failures.keys() {
            self.scandir.forget_unregistered(name);
        }
        let mut boot_log = Vec::new();
        for name in names.iter().filter(|name| !failures.contains_key(name)) {
            let change = Change {
                reason: Some("unregistered".to_owned()),
                ..Change::new(name, None, Action::Removed)
            };
            boot_log.push(later(&change));
        }
        self.settle_or_warn(&VolumeChanges {
            boot_log,
            ..VolumeChanges::default()
        })?;
        Ok(failures)
    }

    /// Says at the start of a tree what of the dashboard is not as its operator may expect.
    fn speak_of_dashboard(&self) {
        if self.settings.dashboard.is_none() {
            return;
        }
        if self.choices.dashboard.is_some() {
            if let Some(note) = self.settings.dashboard_note {
                report::warning(&format!("{note}: {HIDDEN_REMEDY}"));
            }
            return;
        }
        let command = Command::detect(&self.settings.root);
        if let Some(why) = left_out(&command, self.settings.no_supervise) {
            report::note(&format!("HERMES_DASHBOARD is left out, since {why}"));
        }
    }

    /// Converges the slots of all profiles, or only those of `only`.
    ///
    /// `starting` says that this process becomes the s6-svscan, which then gets all the room that it can have.
    pub fn converge(
        &self,
        starting: bool,
        only: Option<&BTreeSet<ProfileName>>,
    ) -> Result<Outcome> {
        for name in self.scandir.unregistered()? {
            if only.is_none_or(|only| only.contains(&name)) {
                self.scandir.forget_unregistered(&name);
            }
        }
        let scope = only.map_or(Scope::All, Scope::Only);
        let (draft, mut failures) = self.decide(starting, scope)?;
        failures.extend(draft.survey.problem_of_ports().map(Warning::new));
        let Draft {
            rendered,
            world,
            mut plan,
            ..
        } = draft;
        let apply = self.apply(&rendered);
        let is_new = apply.owner(&Owner {
            home: self.settings.home.clone(),
            instance: instance(self.settings)?,
            choices: self.choices.clone(),
        })?;
        if is_new {
            self.speak_of_dashboard();
        }
        let slots = apply.slots(&plan);
        let tender = tender::render(&self.choices, self.rights.drop_to());
        let is_foreign =
            |name: &ProfileName| world.slots.get(name).is_some_and(|found| !found.ours);
        let mut slots_now = self.scandir.slot_names()?;
        slots_now.retain(|name| !is_foreign(name));
        let slots_now = slots_now.len();
        let has_room = world.room.is_none_or(|room| room >= slots_now);
        let tender = tender.and_then(|files| apply.tender(&files, has_room));
        let dashboard = match &self.choices.dashboard {
            Some(dashboard) => {
                let has_room = world.room.is_none_or(|room| room > slots_now);
                let renderer = Renderer::new(self.settings, &self.choices, self.rights.drop_to());
                let files = renderer.dashboard(dashboard);
                files.and_then(|files| apply.dashboard(&files, has_room))
            }
            None => apply.no_dashboard(),
        };
        let errors = [tender, dashboard].into_iter().filter_map(Result::err);
        failures.extend(errors.map(|error| Warning::new(error.to_string())));
        mark_failures(&mut plan, slots);
        let boot_log = boot_log(&plan, &world);
        failures.extend(
            self.settle(&VolumeChanges {
                boot_log,
                ..VolumeChanges::default()
            })?
            .failures,
        );
        Ok(Outcome { plan, failures })
    }

    /// Makes a plan, and writes its changes of the volume; gives a sentence for each failure.
    ///
    /// If another container has recorded ports meanwhile, the plan is made anew: with the ports of that record.
    fn decide(&self, starting: bool, scope: Scope) -> Result<(Draft, Vec<Warning>)> {
        for _ in 0..PORT_TRIES {
            let draft = self.draft(starting, scope)?;
            let settled = self.settle(&draft.plan.volume)?;
            if !settled.is_overtaken {
                return Ok((draft, settled.failures));
            }
        }
        let mut draft = self.draft(starting, scope)?;
        draft.plan.volume.ports = None;
        let mut failures = self.settle(&draft.plan.volume)?.failures;
        failures.push(Warning::new(format!(
            "unable to write {PORTS_FILE}: other containers write it again and again: run hermes-s6 reconcile again"
        )));
        Ok((draft, failures))
    }

    fn draft(&self, starting: bool, scope: Scope) -> Result<Draft> {
        draft(
            self.settings,
            self.rights,
            &self.choices,
            Some(&self.scandir),
            self.earlier.as_ref(),
            starting,
            scope,
        )
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

    /// Writes on the volume.
    fn settle(&self, changes: &VolumeChanges) -> Result<Settled> {
        settle_as(self.settings, &self.choices.tools, self.rights, changes)
    }

    fn settle_or_warn(&self, changes: &VolumeChanges) -> Result<()> {
        report::warnings(&self.settle(changes)?.failures);
        Ok(())
    }
}

/// Makes the plan that [`Session::converge`] would apply, and changes nothing.
pub fn dry_run(settings: &Settings, rights: &Rights, tools: Tools) -> Result<Outcome> {
    let scandir = ScanDir::open_if_there(settings)?;
    if let Some(scandir) = &scandir {
        scandir.ours()?;
        if rights.are_roots() {
            scandir.require_all_root_owned()?;
        }
    }
    let scandir = scandir.as_ref();
    let choices = choices_of_tree(settings, rights, scandir, || Ok(tools))?;
    warn_of_hermes(settings, &choices.tools);
    let draft = draft(settings, rights, &choices, scandir, None, false, Scope::All)?;
    let problem = draft.survey.problem_of_ports().map(Warning::new);
    Ok(Outcome {
        plan: draft.plan,
        failures: problem.into_iter().collect(),
    })
}

/// Looks at the volume and at the scan directory, and makes a plan.
///
/// What `earlier` says of gateways that ran goes before what they have written since then.
fn draft(
    settings: &Settings,
    rights: &Rights,
    choices: &Choices,
    scandir: Option<&ScanDir>,
    earlier: Option<&Survey>,
    starting: bool,
    scope: Scope,
) -> Result<Draft> {
    let mut survey = survey_as(settings, rights, Some(&choices.tools), &[])?;
    if let Some(earlier) = earlier {
        survey.keep_intents(earlier);
    }
    if let Some(scandir) = scandir {
        scandir.keep_ports(settings, &mut survey)?;
    }
    let renderer = Renderer::new(settings, choices, rights.drop_to());
    let ports = survey.assigned_ports(settings);
    let render = |name: &ProfileName| {
        let files = renderer.render(name, ports.get(name).copied())?;
        Ok((name.clone(), files))
    };
    let is_rendered = |name: &&ProfileName| match scope {
        Scope::Register(names) => names.contains(*name),
        _ => true,
    };
    let names = survey.profiles.keys().filter(is_rendered);
    let rendered: Rendered = names.map(render).collect::<Result<_>>()?;
    let mut world = match scandir {
        Some(scandir) => World::of(scandir, settings, &choices.tools, &rendered)?,
        None => World::default(),
    };
    if starting {
        world.room = Some(room_by_descriptors());
    }
    let command = Command::detect(&settings.root);
    Ok(Draft {
        plan: plan(settings, &command, &survey, &world, scope),
        survey,
        rendered,
        world,
    })
}

fn warn_of_hermes(settings: &Settings, tools: &Tools) {
    match tools.has_hermes(settings) {
        Ok(true) => {}
        Ok(false) => report::warning(&format!(
            "there is no program {}, and no gateway can start without it: install Hermes Agent, or name it with HERMES_S6_HERMES",
            tools.hermes.display()
        )),
        Err(error) => report::warning(&error.to_string()),
    }
}

/// Marks the changes that failed, in the plan.
fn mark_failures(plan: &mut Plan, mut failures: Failures) {
    for change in &mut plan.changes {
        if let Some(error) = change.name.as_ref().and_then(|name| failures.remove(name)) {
            change.action = Action::Failed;
            change.reason = Some("error".to_owned());
            change.warning = Some(error.to_string());
        }
    }
}

/// Gives the lines for the boot log: at boot one of its own and one for each profile, later only those of changes.
fn boot_log(plan: &Plan, world: &World) -> Vec<String> {
    let is_boot = !world.live && !plan.is_empty();
    let boot = is_boot.then(|| format!("boot profiles={}", plan.changes.len()));
    let changes = plan
        .changes
        .iter()
        .filter(|change| is_boot || !change.steps.is_empty());
    let line = if is_boot { Change::to_string } else { later };
    boot.into_iter().chain(changes.map(line)).collect()
}

/// Writes a change of a tree that runs. Whoever waits for a boot looks for `profile=`, as in the original's log.
fn later(change: &Change) -> String {
    change.to_string().replacen("profile=", "slot=", 1)
}

/// Prints the warnings and failures of an outcome.
pub fn warn(outcome: &Outcome) {
    let warning = |change: &Change| Some(Warning::of(&change.profile, change.warning.clone()?));
    let warnings: Vec<Warning> = outcome.plan.changes.iter().filter_map(warning).collect();
    report::warnings(warnings.iter().chain(&outcome.failures));
}
