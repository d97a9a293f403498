//! The plan: decides, without I/O, how the slots have to change.
//!
//! Input are the survey of the volume (what operators want) and the world (the slots that exist). Output are the
//! steps for each profile, and the changes of the volume. `--dry-run` prints the same plan.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

use crate::hermes::container::Command;
use crate::hermes::name::ProfileName;
use crate::hermes::state::{Intent, Source};
use crate::settings::Settings;
use crate::tree::change::{Action, Change, Plan, Step};
use crate::tree::held::{Held, called_by, gateway, held, intent};
use crate::tree::world::{Found, World};
use crate::volume::changes::{NewPorts, Seed, VolumeChanges};
use crate::volume::port::{NO_PORT_REMEDY, Ports, Record, all_given};
use crate::volume::problem::Problem;
use crate::volume::survey::{Profile, Skipped, Survey, UNREADABLE};

/// The profiles that a plan may change, and how.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// Slots of all profiles are added, changed and removed.
    All,
    /// Only slots of these profiles are added, changed and removed.
    Only(&'a BTreeSet<ProfileName>),
    /// Those of these profiles that have no slot get one, down. Nothing else changes.
    Register(&'a BTreeSet<ProfileName>),
}

impl Scope<'_> {
    fn has(self, name: &ProfileName) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) | Self::Register(names) => names.contains(name),
        }
    }

    fn registers(self) -> bool {
        matches!(self, Self::Register(_))
    }
}

/// Makes the plan for the profiles of the survey, in the world as it was found.
pub fn plan(
    settings: &Settings,
    command: &Command,
    survey: &Survey,
    world: &World,
    scope: Scope,
) -> Plan {
    let survey = &Survey {
        starting: !world.live,
        ..survey.clone()
    };
    let ports = survey.assigned_ports(settings);
    let port_problems = port_problems(settings, survey, &ports);
    let mut volume = volume(settings, command, survey, world, ports, scope);
    // One that cannot be looked at may run.
    let may_run = |found: &Found| found.up || found.failure.is_some();
    let mut slots = world.slots.iter();
    let others_run = slots.any(|(name, found)| !name.is_default() && may_run(found));
    let wish = |profile| {
        let wish = Wish::of(
            profile,
            settings,
            command,
            survey,
            volume.seed,
            others_run,
            &port_problems,
        );
        Wish {
            up: wish.up && !scope.registers(),
            keeps: wish.keeps && !scope.registers(),
            ..wish
        }
    };
    let counts = |wish: &Wish| match scope {
        // Also with Scope::Only, all profiles compete for the room of s6-svscan.
        Scope::All | Scope::Only(_) => true,
        Scope::Register(names) => names.contains(&wish.profile.name),
    };
    let wishes: Vec<Wish> = survey.profiles.values().map(wish).filter(counts).collect();
    let adopted = wishes
        .iter()
        .filter(|wish| scope.has(&wish.profile.name) && wish.is_adopted(world));
    volume.adopted = adopted.map(|wish| wish.profile.name.clone()).collect();
    let mut changes = if scope.registers() {
        Vec::new()
    } else {
        removals(survey, world)
    };
    let admitted = admitted(&wishes, world, &changes);
    for wish in &wishes {
        changes.extend(match world.slots.get(&wish.profile.name) {
            None if admitted.contains(&wish.profile.name) => Some(wish.publish(Vec::new(), None, wish.up)),
            None => Some(wish.skip(
                "capacity",
                "s6-svscan has no room for its slot: restart the tree with hermes-s6 supervise, or s6-svscan with a larger limit",
            )),
            Some(Found { failure: Some(failure), .. }) => {
                let text = format!("its slot cannot be looked at, and stays as it is: {failure}");
                Some(wish.skip(UNREADABLE, &text))
            }
            Some(found) if !found.ours => Some(wish.skip(
                "foreign-slot",
                "its place in the scan directory is taken by a directory that hermes-s6 did not make: remove that",
            )),
            Some(found) if world.watched && !found.supervised => {
                // s6-svscan has failed to take up this slot, and tries again only with a new directory.
                Some(wish.publish(vec![Step::Remove], Some("unsupervised"), wish.up_in(found)))
            }
            Some(_) if scope.registers() => None,
            Some(found) => wish.converge(found),
        });
    }
    let skipped = |skipped: &Skipped| Change::without_slot(&skipped.name, skipped.problem.clone());
    changes.extend(survey.skipped.iter().map(skipped));
    if !matches!(scope, Scope::All) {
        changes.retain(|change| change.name.as_ref().is_some_and(|name| scope.has(name)));
    }
    Plan { changes, volume }
}

/// Decides the changes of the volume.
fn volume(
    settings: &Settings,
    command: &Command,
    survey: &Survey,
    world: &World,
    ports: Ports,
    scope: Scope,
) -> VolumeChanges {
    let mut changes = VolumeChanges::default();
    let is_recorded = match survey.record {
        // Where the profiles cannot be listed, it may be another volume, which has never served any of these.
        Record::None => ports.is_empty() || !survey.complete,
        Record::Current => ports == survey.ports,
        Record::Outdated => false,
        // It may have other ports for profiles that have no slot now: it is not overwritten.
        Record::Unusable => true,
    };
    changes.ports = (!is_recorded).then(|| NewPorts {
        seen: survey.recorded.clone(),
        ports,
    });
    // To register some profiles changes nothing for the other profiles.
    let is_boot = !world.live && !scope.registers();
    if is_boot {
        changes.seed = seed(settings, command, survey);
    }
    let profiles = survey.profiles.values();
    for profile in profiles.filter(|profile| !scope.registers() || scope.has(&profile.name)) {
        let supervised = world
            .slots
            .get(&profile.name)
            .is_some_and(|found| found.supervised);
        if is_boot && !supervised {
            let stale = profile.stale.iter();
            changes
                .remove
                .extend(stale.map(|file| (profile.name.clone(), file.clone())));
        }
        if !profile.log.exists {
            changes.log_directories.push(profile.name.clone());
        }
    }
    changes
}

/// Decides which slots are removed: those of profiles that certainly do not exist any more.
fn removals(survey: &Survey, world: &World) -> Vec<Change> {
    let ours = world.slots.iter().filter(|(_, found)| found.ours);
    let gone: Vec<_> = ours
        .map(|(name, _)| name)
        .filter(|name| survey.is_gone(name))
        .collect();
    // A volume that has served named profiles has a record of ports. If there are slots of named profiles but no
    // record, this is another volume, or the volume is not mounted.
    if survey.record == Record::None && !gone.is_empty() {
        let text = format!(
            "{} slots have no profile on this volume, which has never served any: is it the right one, and mounted? Nothing is removed",
            gone.len()
        );
        return vec![Change::without_slot(
            "profiles/",
            Problem::new("other-volume", text),
        )];
    }
    let removed = |name: &ProfileName| Change {
        reason: Some("profile-gone".to_owned()),
        steps: vec![Step::Remove],
        ..Change::new(name, None, Action::Removed)
    };
    gone.into_iter().map(removed).collect()
}

/// Chooses the profiles that get a new slot.
///
/// Existing slots stay. If there is not room for all new ones, gateways that shall run come first, then the
/// others, both in the order of their names.
fn admitted<'a>(
    wishes: &[Wish<'a>],
    world: &World,
    removals: &[Change],
) -> BTreeSet<&'a ProfileName> {
    let ours = world.slots.values().filter(|found| found.ours).count();
    let removed = removals
        .iter()
        .filter(|change| !change.steps.is_empty())
        .count();
    let room = world
        .room
        .map_or(usize::MAX, |room| room.saturating_sub(ours - removed));
    let new = |up: bool| {
        wishes
            .iter()
            .filter(move |wish| wish.up == up && !world.slots.contains_key(&wish.profile.name))
            .map(|wish| &wish.profile.name)
    };
    let mut admitted = BTreeSet::new();
    admitted.extend(new(true).chain(new(false)).take(room));
    admitted
}

/// Finds the profiles with a port that an earlier profile has already, since only one of them can serve on it, and
/// the profiles that no port was left for. Of a port that cannot be read nothing is said.
///
/// `given` are the ports that profiles were given; a port that a profile sets itself counts instead.
pub fn port_problems(
    settings: &Settings,
    survey: &Survey,
    given: &Ports,
) -> BTreeMap<ProfileName, Problem> {
    let mut owners: BTreeMap<u16, &ProfileName> = BTreeMap::new();
    let mut problems = BTreeMap::new();
    // Profiles that set their port come first: they own it. The conflict is a problem of the others.
    let (set, unset): (Vec<&Profile>, Vec<&Profile>) = survey
        .profiles
        .values()
        .filter(|profile| profile.own_port.known().is_some())
        .partition(|profile| profile.own_port.known().is_some_and(Option::is_some));
    for profile in set.into_iter().chain(unset) {
        let name = &profile.name;
        let own = profile.own_port.known().copied().flatten();
        let port = own.or_else(|| given.get(name).copied());
        let problem = match port {
            // The usual port of the default profile is its own, unless another profile has set it.
            None if name.is_default() => {
                owners.entry(survey.default_port(settings)).or_insert(name);
                None
            }
            None => {
                let all_given = all_given(&settings.ports);
                let text = format!("it has no port: {all_given}: {NO_PORT_REMEDY}");
                Some(Problem::new("no-port", text))
            }
            Some(port) => match owners.entry(port) {
                Entry::Vacant(free) => {
                    free.insert(name);
                    None
                }
                Entry::Occupied(owner) => {
                    let owner = owner.get();
                    let text = format!(
                        "its port {port} is also that of {owner}: set another API_SERVER_PORT in the .env of one of them"
                    );
                    Some(Problem::new("port-conflict", text))
                }
            },
        };
        problems.extend(problem.map(|problem| (name.clone(), problem)));
    }
    problems
}

/// Decides whether, and why, the default profile gets a first state file.
///
/// An existing state file is never overwritten, whatever its content.
fn seed(settings: &Settings, command: &Command, survey: &Survey) -> Option<Seed> {
    survey
        .profiles
        .get(&ProfileName::default_profile())
        .filter(|profile| profile.stateless)?;
    match gateway(settings, command, survey) {
        Some((profile, true)) if profile.is_default() => Some(Seed::GatewayRun),
        _ => settings.bootstrap.then_some(Seed::Bootstrap),
    }
}

/// The desired state of one profile's slot.
struct Wish<'a> {
    profile: &'a Profile,
    /// The state on the volume.
    prior_state: Option<String>,
    /// Whether the gateway shall run.
    up: bool,
    /// Whether it shall run or not as it did before, since nothing new is known.
    keeps: bool,
    /// Why the gateway shall not run although its operator wants it, see [`held`].
    held: Option<Held>,
    /// The profile for which the gateway shall run although its own operator has not asked for it.
    called_by: Option<ProfileName>,
    /// What is wanted of the gateway.
    intent: Intent,
    /// The problems of the profile.
    problems: Vec<Problem>,
}

impl<'a> Wish<'a> {
    fn of(
        profile: &'a Profile,
        settings: &Settings,
        command: &Command,
        survey: &Survey,
        seed: Option<Seed>,
        others_run: bool,
        port_problems: &BTreeMap<ProfileName, Problem>,
    ) -> Self {
        let name = &profile.name;
        let seeded = seed.is_some() && name.is_default();
        let intent = if seeded {
            Intent::running()
        } else {
            intent(settings, survey, others_run, name)
        };
        let is_called = name.is_default() && !seeded && !profile.intent.wants_running();
        let calls = called_by(settings, survey, others_run).into_iter().next();
        let held = held(settings, command, survey, name).filter(|_| intent.wants_running());
        let mut problems = survey.problems(settings, name);
        problems.extend(port_problems.get(name).cloned());
        Self {
            prior_state: profile.intent.state.clone(),
            up: intent.wants_running() && held.is_none(),
            keeps: matches!(held, Some(Held::Unknown(_))),
            held,
            called_by: calls.filter(|_| is_called).cloned(),
            intent,
            problems,
            profile,
        }
    }

    /// Tells whether the gateway is to run because of what it wrote itself. Then this becomes the operator's intent:
    /// what the gateway writes later, when it is told to end, does not keep it down.
    ///
    /// An intent to stay down is not written: no operator has asked for it, and `start --all` would take it for a stop.
    fn is_adopted(&self, world: &World) -> bool {
        let runs = world
            .slots
            .get(&self.profile.name)
            .map_or(self.up, |found| {
                // What is down although it is supervised, `gateway_state` does not bring up.
                self.up_in(found) && (!found.supervised || found.up)
            });
        // Not what others want of it, see `called_by`.
        let own = &self.profile.intent;
        runs && own.wants_running() && own.source == Some(Source::GatewayState)
    }

    /// Tells whether the gateway of an existing slot shall run with the next start of its supervisor.
    fn up_in(&self, found: &Found) -> bool {
        self.up || (self.keeps && !found.down)
    }

    /// Makes a change of the slot, whose reason is `reason`, else what holds the gateway, else the first problem,
    /// else the profile for which it runs.
    fn change(&self, action: Action, reason: Option<&str>, steps: Vec<Step>) -> Change {
        let held = self.held.as_ref().map(Held::word);
        let problem = self.problems.first();
        let reason = reason
            .or(held)
            .or(problem.map(|problem| problem.reason.as_str()))
            .map(str::to_owned);
        let called = || {
            let name = self.called_by.as_ref().filter(|_| self.up)?;
            Some(format!("serves={name}"))
        };
        let texts: Vec<&str> = self
            .problems
            .iter()
            .map(|problem| problem.text.as_str())
            .collect();
        Change {
            reason: reason.or_else(called),
            warning: (!texts.is_empty()).then(|| texts.join("; and ")),
            steps,
            ..Change::new(&self.profile.name, self.prior_state.clone(), action)
        }
    }

    fn skip(&self, reason: &str, text: &str) -> Change {
        Change {
            reason: Some(reason.to_owned()),
            warning: Some(text.to_owned()),
            ..Change::new(
                &self.profile.name,
                self.prior_state.clone(),
                Action::Skipped,
            )
        }
    }

    /// Makes the change that publishes a new slot, after other steps.
    fn publish(&self, mut steps: Vec<Step>, reason: Option<&str>, up: bool) -> Change {
        steps.push(Step::Publish { down: !up });
        let action = if up {
            Action::Started
        } else {
            Action::Registered
        };
        self.change(action, reason, steps)
    }

    /// Makes the change that brings an existing slot to the desired state; `None` if there is nothing to change.
    fn converge(&self, found: &Found) -> Option<Change> {
        let mut steps = Vec::new();
        if found.stale && !found.supervised {
            steps.push(Step::Reset);
        }
        if !found.debris.is_empty() {
            steps.push(Step::Sweep(found.debris.clone()));
        }
        if !found.outdated.is_empty() {
            steps.push(Step::Write(found.outdated.clone()));
        }
        let is_reset = steps.contains(&Step::Reset);
        let mut action = Action::Updated;
        if !found.supervised {
            let up = self.up_in(found);
            match (up, found.down) {
                (true, true) => steps.push(Step::UnmarkDown),
                (false, false) => steps.push(Step::MarkDown),
                _ => {}
            }
            if is_reset || up == found.down {
                action = if up {
                    Action::Started
                } else {
                    Action::Registered
                };
            }
        } else if self.intent.source == Some(Source::DesiredState) {
            // Only an explicit `desired_state` moves a supervised gateway. The state that the gateway writes
            // itself does not: it is also "starting" in between. A gateway that is down without a `down` file was
            // parked, or brought down by s6-svc: it stays down.
            if self.up && found.down {
                // In this order: if this run is killed in between, the next run sees the down file and goes on.
                steps.extend([Step::Up, Step::UnmarkDown]);
                action = Action::Started;
            } else if self.intent.wants_stopped() && (found.up || !found.down) {
                action = if found.up {
                    Action::Stopped
                } else {
                    Action::Registered
                };
                steps.extend((!found.down).then_some(Step::MarkDown));
                steps.extend(found.up.then_some(Step::Down));
            }
        }
        if steps.is_empty() {
            self.problems.first()?;
            action = Action::Unchanged;
        }
        Some(self.change(action, None, steps))
    }
}

#[cfg(test)]
mod tests;
