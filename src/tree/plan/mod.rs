//! The decision, free of I/O: what is desired, against what is found, gives what is to be done.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::hermes::container::Command;
use crate::hermes::name::ProfileName;
use crate::hermes::state::{Intent, Source, Wanted};
use crate::settings::Settings;
use crate::volume::port::Ports;
use crate::volume::survey::{Problem, Profile, Record, Skipped, Survey};

/// A slot as it lies in the scan directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact that s6 keeps on its own"
)]
pub struct Found {
    /// Whether hermes-s6 made it.
    pub ours: bool,
    /// The files that differ from what they should be, by their path in the slot.
    pub outdated: Vec<&'static str>,
    /// Whether there is a `down` file.
    pub down: bool,
    /// Whether an s6-supervise looks after it.
    pub supervised: bool,
    /// Whether it has the status of a supervisor that is no more.
    pub stale: bool,
    /// Whether its supervisor wants the gateway up; one that is up all the same is about to end.
    pub up: bool,
}

/// The scan directory as it is.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The slots in it that have a profile's name.
    pub slots: BTreeMap<ProfileName, Found>,
    /// Whether an s6-svscan watches it.
    pub watched: bool,
    /// Whether this is not the first convergence since the container or the tree started.
    pub live: bool,
    /// The number of slots that its s6-svscan has room for, if there is a limit.
    pub room: Option<usize>,
}

/// What happens to one profile, in the words of the boot log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Its gateway starts, now or with the tree.
    Started,
    /// It has a slot, and its gateway stays down.
    Registered,
    /// Files of its slot are brought up to date; a running gateway notices at its next start.
    Updated,
    /// Its gateway is stopped.
    Stopped,
    /// Its slot is removed.
    Removed,
    /// It gets no slot.
    Skipped,
    /// It stays as it is, although something is wrong with it.
    Unchanged,
    /// What was planned for it could not be done.
    Failed,
}

/// One step of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// End the supervisors of the slot and remove it.
    Remove,
    /// Forget the status that an earlier supervisor left in the slot.
    Reset,
    /// Write the outdated files.
    Write(Vec<&'static str>),
    /// Add the `down` file.
    MarkDown,
    /// Remove the `down` file.
    UnmarkDown,
    /// Publish a new slot, with a `down` file or without.
    Publish {
        /// Whether the gateway stays down.
        down: bool,
    },
    /// Tell the supervisor to bring the gateway up.
    Up,
    /// Tell the supervisor to bring the gateway down.
    Down,
}

/// What is to be done for one profile, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The name of the profile, or of the directory that cannot be one.
    pub profile: String,
    /// The name, where it is a profile's.
    pub name: Option<ProfileName>,
    /// The state that the volume had.
    pub prior_state: Option<String>,
    /// What happens.
    pub action: Action,
    /// Why, in one word, where the state alone does not say it.
    pub reason: Option<String>,
    /// The same for a person, where something is wrong.
    pub warning: Option<String>,
    /// How, in this order.
    pub steps: Vec<Step>,
}

/// What is to be written on the volume, with the rights of its owner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeChanges {
    /// Where the default profile's first intent comes from, if it gets one.
    pub seed: Option<Seed>,
    /// Leftovers to remove.
    pub remove: Vec<(ProfileName, String)>,
    /// Profiles whose log directory is to be made.
    pub log_directories: Vec<ProfileName>,
    /// The ports to remember, if they are other than before.
    pub ports: Option<Ports>,
    /// Lines for the boot log, without their time.
    pub boot_log: Vec<String>,
    /// What operators want from now on.
    pub intents: Vec<(ProfileName, Wanted)>,
    /// Gateways that are about to be stopped on purpose.
    pub planned_stops: Vec<PlannedStop>,
}

/// A gateway that is about to be stopped on purpose, which it is to know: else it takes the signal for an
/// accident, and says so to the people whom it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStop {
    /// Its profile.
    pub profile: ProfileName,
    /// Its process.
    pub pid: u32,
    /// When that started, as field 22 of /proc/PID/stat.
    pub start: u64,
    /// The process that stops it.
    pub stopper: u32,
}

/// Why a default profile without a state file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seed {
    /// The container's command is `gateway run`.
    GatewayRun,
    /// HERMES_GATEWAY_BOOTSTRAP_STATE=running.
    Bootstrap,
}

/// Everything that is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Removals first, then the profiles in order, then what is skipped.
    pub changes: Vec<Change>,
    /// What goes onto the volume before the slots are touched.
    pub volume: VolumeChanges,
}

impl Plan {
    /// Tells whether anything is to be done at all; a skipped profile is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(|change| change.steps.is_empty())
            && self.volume == VolumeChanges::default()
    }
}

/// Decides.
pub fn plan(settings: &Settings, command: &Command, survey: &Survey, world: &World) -> Plan {
    let ports = survey.assigned_ports();
    let conflicts = conflicts(survey, &ports);
    let volume = volume(settings, command, survey, world, ports);
    let wish = |profile| Wish::of(profile, settings, command, survey, volume.seed, &conflicts);
    let wishes: Vec<Wish> = survey.profiles.values().map(wish).collect();
    let mut changes = removals(survey, world);
    let admitted = admitted(&wishes, world, &changes);
    for wish in &wishes {
        changes.extend(match world.slots.get(&wish.profile.name) {
            None if admitted.contains(&wish.profile.name) => Some(wish.publish(Vec::new(), None)),
            None => Some(wish.skip(
                "capacity",
                "s6-svscan has no room for its slot: restart the tree with hermes-s6 supervise, or s6-svscan with a larger limit",
            )),
            Some(found) if !found.ours => Some(wish.skip(
                "foreign-slot",
                "its place in the scan directory is taken by a directory that hermes-s6 did not make: remove that",
            )),
            Some(found) if world.watched && !found.supervised => {
                // s6-svscan has missed it; it looks again only at a new directory.
                Some(wish.publish(vec![Step::Remove], Some("unsupervised")))
            }
            Some(found) => wish.converge(found),
        });
    }
    let skipped = |skipped: &Skipped| Change::without_slot(&skipped.name, skipped.problem.clone());
    changes.extend(survey.skipped.iter().map(skipped));
    Plan { changes, volume }
}

/// Decides what goes onto the volume.
fn volume(
    settings: &Settings,
    command: &Command,
    survey: &Survey,
    world: &World,
    ports: Ports,
) -> VolumeChanges {
    let mut changes = VolumeChanges::default();
    if ports != survey.ports || survey.record == Record::Outdated {
        changes.ports = Some(ports);
    }
    if !world.live {
        changes.seed = seed(settings, command, survey);
    }
    for profile in survey.profiles.values() {
        let supervised = world
            .slots
            .get(&profile.name)
            .is_some_and(|found| found.supervised);
        if !world.live && !supervised {
            let stale = profile.stale.iter();
            changes
                .remove
                .extend(stale.map(|file| (profile.name.clone(), file.clone())));
        }
        if !profile.log_directory {
            changes.log_directories.push(profile.name.clone());
        }
    }
    changes
}

/// Decides which slots go: those of profiles that are surely gone.
fn removals(survey: &Survey, world: &World) -> Vec<Change> {
    let is_gone = |name: &ProfileName| {
        survey.complete && !survey.profiles.contains_key(name) && !survey.unknown.contains(name)
    };
    let ours = world.slots.iter().filter(|(_, found)| found.ours);
    let gone: Vec<_> = ours
        .map(|(name, _)| name)
        .filter(|name| is_gone(name))
        .collect();
    // A volume that has served named profiles remembers their ports. One that does not, beneath slots
    // of named profiles, is another one, or not mounted.
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

/// Chooses the profiles that get a new slot. Where there is not room for all, those that are to run
/// come first, then the others, each by name; who has a slot keeps it.
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

/// Finds the profiles whose port another one has, which comes before them: only one of them can serve.
pub fn conflicts(survey: &Survey, given: &Ports) -> BTreeMap<ProfileName, Problem> {
    let mut owners: BTreeMap<u16, &ProfileName> = BTreeMap::new();
    let mut conflicts = BTreeMap::new();
    // Who sets a port means it; who was given one can be told to choose another.
    let set = survey
        .profiles
        .values()
        .filter_map(|profile| Some((profile.own_port?, profile)));
    let unset = survey
        .profiles
        .values()
        .filter(|profile| profile.own_port.is_none());
    let unset = unset.filter_map(|profile| Some((*given.get(&profile.name)?, profile)));
    for (port, profile) in set.chain(unset) {
        if let Some(owner) = owners.get(&port) {
            let text = format!(
                "its port {port} is also that of {owner}: set another API_SERVER_PORT in the .env of one of them"
            );
            conflicts.insert(profile.name.clone(), Problem::new("port-conflict", text));
        } else {
            owners.insert(port, &profile.name);
        }
    }
    conflicts
}

/// Tells why the default profile gets its first intent, if it does. A state file, whatever is in it,
/// is never written over.
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

/// Finds whose gateway the container's command is about, and whether it is to be supervised.
fn gateway(settings: &Settings, command: &Command, survey: &Survey) -> Option<(ProfileName, bool)> {
    let gateway = command.gateway.as_ref()?;
    let profile = gateway.profile.clone();
    let profile = profile.unwrap_or_else(|| survey.meant(settings));
    Some((profile, gateway.supervised && !settings.no_supervise))
}

/// Tells why a gateway that its operator wants is held down all the same, if it is.
pub fn held(
    settings: &Settings,
    command: &Command,
    survey: &Survey,
    profile: &ProfileName,
) -> Option<String> {
    // In the order in which the gateway itself looks: its .env overrides its environment.
    let multiplex = survey
        .multiplex_in_env_file
        .or(settings.multiplex)
        .or(survey.multiplex_in_config);
    // A second one would be in the way of the container's command, which is this gateway.
    let is_command = gateway(settings, command, survey) == Some((profile.clone(), false));
    match (settings.autostart, command.other_role) {
        (Some(false), _) => Some("autostart=never".to_owned()),
        _ if is_command => Some("command=gateway-run".to_owned()),
        (None, Some(role)) => Some(format!("role={role}")),
        _ if multiplex == Some(true) && !profile.is_default() => Some("multiplex".to_owned()),
        _ => None,
    }
}

/// What is desired of one profile.
struct Wish<'a> {
    profile: &'a Profile,
    prior_state: Option<String>,
    /// Whether the gateway is to run.
    up: bool,
    /// Why it is not to run although its intent says so.
    held: Option<String>,
    /// What the intent says in so many words.
    intent: Intent,
    /// What is wrong with the profile.
    problem: Option<Problem>,
}

impl<'a> Wish<'a> {
    fn of(
        profile: &'a Profile,
        settings: &Settings,
        command: &Command,
        survey: &Survey,
        seed: Option<Seed>,
        conflicts: &BTreeMap<ProfileName, Problem>,
    ) -> Self {
        let seeded = seed.is_some() && profile.name.is_default();
        let intent = if seeded {
            Intent::running()
        } else {
            profile.intent.clone()
        };
        let held = held(settings, command, survey, &profile.name);
        Self {
            prior_state: profile.intent.state.clone(),
            up: intent.wants_running() && held.is_none(),
            held: held.filter(|_| intent.wants_running()),
            intent,
            problem: profile
                .problem
                .as_ref()
                .or_else(|| conflicts.get(&profile.name))
                .cloned(),
            profile,
        }
    }

    fn change(&self, action: Action, reason: Option<&str>, steps: Vec<Step>) -> Change {
        let problem = self.problem.as_ref();
        let reason = reason
            .or(self.held.as_deref())
            .or(problem.map(|problem| problem.reason.as_str()));
        Change {
            reason: reason.map(str::to_owned),
            warning: problem.map(|problem| problem.text.clone()),
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

    fn publish(&self, mut steps: Vec<Step>, reason: Option<&str>) -> Change {
        steps.push(Step::Publish { down: !self.up });
        let action = if self.up {
            Action::Started
        } else {
            Action::Registered
        };
        self.change(action, reason, steps)
    }

    /// Brings a slot that is there to what is desired, `None` if it is so already.
    fn converge(&self, found: &Found) -> Option<Change> {
        let mut steps = Vec::new();
        if found.stale && !found.supervised {
            steps.push(Step::Reset);
        }
        if !found.outdated.is_empty() {
            steps.push(Step::Write(found.outdated.clone()));
        }
        let fresh = steps.contains(&Step::Reset);
        let mut action = Action::Updated;
        if !found.supervised {
            match (self.up, found.down) {
                (true, true) => steps.push(Step::UnmarkDown),
                (false, false) => steps.push(Step::MarkDown),
                _ => {}
            }
            if fresh || self.up == found.down {
                action = if self.up {
                    Action::Started
                } else {
                    Action::Registered
                };
            }
        } else if self.intent.source == Some(Source::DesiredState) {
            // A supervised gateway is moved only by what its operator said in so many words: the
            // state that it writes itself also says "starting" while it goes its way. One that is
            // down without a down file was parked, or told so by s6-svc: it stays.
            if self.up && found.down {
                // In this order: a run that is killed in between is made good by the next.
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
            self.problem.as_ref()?;
            action = Action::Unchanged;
        }
        Some(self.change(action, None, steps))
    }
}

impl Change {
    /// Makes the line for something that looks like a profile and gets no slot.
    fn without_slot(name: &str, problem: Problem) -> Self {
        Self {
            profile: name.to_owned(),
            name: None,
            prior_state: None,
            action: Action::Skipped,
            reason: Some(problem.reason),
            warning: Some(problem.text),
            steps: Vec::new(),
        }
    }

    /// Makes a change without steps.
    pub fn new(name: &ProfileName, prior_state: Option<String>, action: Action) -> Self {
        Self {
            profile: name.to_string(),
            name: Some(name.clone()),
            prior_state,
            action,
            reason: None,
            warning: None,
            steps: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
