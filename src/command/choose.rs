//! The choice of the profiles that a request is about, made without I/O from the selection and from what was
//! seen.

use std::collections::BTreeSet;

use crate::cli::Selection;
use crate::command::context::must_exist;
use crate::error::{Code, Error, Result};
use crate::hermes::container::Command;
use crate::hermes::name::ProfileName;
use crate::report::{self, Warning};
use crate::settings::Settings;
use crate::tree::held::{Held, held, intent, is_multiplexed};
use crate::tree::lifecycle::request::Verb;
use crate::volume::problem::Answer;
use crate::volume::survey::{Skipped, Survey};

/// What a gateway does beside the one that serves its profile. Hermes ends it, unless it cannot see there that it is
/// served: it does not read the `.env` of `default`, and its own `.env` may say the contrary.
const SERVED: &str = "the default profile's gateway serves it (multiplex_profiles): its own gateway will end at once, or take messages from that one";

/// What it does while that one does not run. That one does not look for it when it starts.
const ALONE: &str = "the default profile's gateway, which is to serve it (multiplex_profiles), does not run: its own gateway runs on its own, and is to be stopped before that of default is started";

/// What was seen before a request.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The settings of this run.
    pub settings: &'a Settings,
    /// The survey of the volume.
    pub survey: &'a Survey,
    /// The container's command. Read only if the choice depends on it.
    pub command: Command,
    /// The profiles of the selection that have a slot.
    pub slots: BTreeSet<ProfileName>,
    /// Those of `slots` whose gateway s6 wants up. Read only if the choice depends on it.
    pub wanted_up: BTreeSet<ProfileName>,
    /// Whether the gateway of `default` runs, or may do so.
    pub default_runs: bool,
}

/// The chosen profiles, and what a person has to know about the others.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The chosen profiles, in order.
    pub names: Vec<ProfileName>,
    /// Problems of profiles.
    pub warnings: Vec<Warning>,
    /// The reasons why profiles are left out, as sentences.
    pub notes: Vec<String>,
    /// What keeps it from being known whether profiles are to be left out, as sentences.
    pub failures: Vec<Warning>,
}

impl Choice {
    /// Leaves out a profile that is kept down here.
    fn leave_out(&mut self, name: &ProfileName, held: &Held) {
        self.notes.push(stays_down(name, held.word()));
        if let Held::Unknown(problem) = held {
            let failure = Warning::new(&problem.text);
            if !self.failures.contains(&failure) {
                self.failures.push(failure);
            }
        }
    }

    /// Prints the warnings and notes, and gives the chosen profiles.
    pub fn print_and_take(self) -> Vec<ProfileName> {
        report::warnings(&self.warnings);
        self.notes.iter().for_each(|note| report::note(note));
        self.names
    }
}

/// Chooses the profiles that a request is about.
///
/// `unless_stopped` leaves out the gateways that their operator has stopped, and those that this container keeps
/// down.
pub fn choose(
    seen: &Seen,
    selection: &Selection,
    verb: Verb,
    unless_stopped: bool,
) -> Result<Choice> {
    let mut choice = match (selection.all, verb.is_up()) {
        (false, _) => named(seen, selection, verb)?,
        (true, true) => all_to_run(seen, verb),
        (true, false) => all_to_end(seen, verb),
    };
    if unless_stopped {
        let names = std::mem::take(&mut choice.names);
        for name in names {
            match reason_against(seen, &name) {
                None => choice.names.push(name),
                Some(Against::Stopped) => choice.notes.push(stays_down(
                    &name,
                    &format!("it was stopped; start it with hermes-s6 start -p {name}"),
                )),
                Some(Against::Held(held)) => choice.leave_out(&name, &held),
            }
        }
    }
    Ok(choice)
}

/// Chooses the profiles that were named, or the one that is meant without a name, see [`Survey::meant`].
fn named(seen: &Seen, selection: &Selection, verb: Verb) -> Result<Choice> {
    let survey = seen.survey;
    let mut choice = Choice {
        names: selection.profile.clone(),
        ..Choice::default()
    };
    let names = &mut choice.names;
    if names.is_empty() {
        if survey.profiles.is_empty() {
            return Err(Error::new(Code::Usage, "no profile is named")
                .remedy("name it with -p: the volume does not tell which one is meant"));
        }
        names.push(survey.meant(seen.settings)?);
        if survey.active.known().and_then(Option::as_ref) == names.first() {
            must_exist(&names[0], survey).map_err(|error| {
                let other = "choose another with hermes profile use";
                let remedy = match error.advice() {
                    Some(first) => format!("{first}, or {other}"),
                    None => other.to_owned(),
                };
                error.remedy(remedy)
            })?;
        }
    }
    names.sort_unstable();
    names.dedup();
    let is_served = seen.default_runs || names.iter().any(ProfileName::is_default);
    for name in names {
        // The slot of a profile that is gone can still be stopped and removed.
        if verb.is_up() || !seen.slots.contains(name) {
            must_exist(name, survey)?;
        }
        if verb.is_up() && is_multiplexed(seen.settings, survey, name) {
            let text = if is_served { SERVED } else { ALONE };
            choice.warnings.push(Warning::of(name.as_str(), text));
        }
        if verb.is_up()
            && !name.is_default()
            && let Answer::Unknown(problem) = survey.multiplex(seen.settings)
        {
            let text = format!(
                "whether the default profile's gateway serves it is not known: {}",
                problem.text
            );
            choice.warnings.push(Warning::of(name.as_str(), text));
        }
    }
    Ok(choice)
}

/// Chooses all profiles that shall run; those that are held down get a note.
fn all_to_run(seen: &Seen, verb: Verb) -> Choice {
    let mut choice = Choice {
        warnings: skipped(seen.survey),
        ..Choice::default()
    };
    let others_run = seen.wanted_up.iter().any(|name| !name.is_default());
    for name in seen.survey.profiles.keys() {
        let is_up = seen.wanted_up.contains(name);
        // A restart leaves a gateway down that its operator has stopped.
        let wants_running = || intent(seen.settings, seen.survey, others_run, name).wants_running();
        if verb == Verb::Restart && !is_up && !wants_running() {
            continue;
        }
        match held(seen.settings, &seen.command, seen.survey, name) {
            Some(held) if !is_up => choice.leave_out(name, &held),
            _ => choice.names.push(name.clone()),
        }
    }
    choice
}

/// Chooses all profiles that have a slot. A stop also takes wanted profiles without a slot: it changes their
/// intent.
fn all_to_end(seen: &Seen, verb: Verb) -> Choice {
    let mut names = seen.slots.clone();
    let wanted = seen
        .survey
        .profiles
        .iter()
        .filter(|(_, profile)| verb == Verb::Stop && profile.intent.wants_running());
    names.extend(wanted.map(|(name, _)| name.clone()));
    Choice {
        names: names.into_iter().collect(),
        warnings: skipped(seen.survey),
        ..Choice::default()
    }
}

/// The reason not to start a gateway.
enum Against {
    /// Its operator has stopped it.
    Stopped,
    /// It is kept down here.
    Held(Held),
}

fn reason_against(seen: &Seen, name: &ProfileName) -> Option<Against> {
    let profile = seen.survey.profiles.get(name);
    if profile.is_some_and(|profile| profile.intent.wants_stopped()) {
        return Some(Against::Stopped);
    }
    let held = held(seen.settings, &seen.command, seen.survey, name);
    held.filter(|_| !seen.wanted_up.contains(name))
        .map(Against::Held)
}

fn stays_down(name: &ProfileName, reason: &str) -> String {
    format!("{} stays down here ({reason})", name.slot())
}

/// Gives a warning for each directory that looks like a profile but cannot have a slot.
pub fn skipped(survey: &Survey) -> Vec<Warning> {
    let warning = |skipped: &Skipped| Warning::of(&skipped.name, &skipped.problem.text);
    survey.skipped.iter().map(warning).collect()
}

#[cfg(test)]
mod tests;
