//! Which profiles a request is about: what was asked for, against what was seen. Free of I/O.

use std::collections::BTreeSet;

use crate::cli::Selection;
use crate::command::context::must_exist;
use crate::error::{Code, Error, Result};
use crate::hermes::container::Command;
use crate::hermes::name::ProfileName;
use crate::report;
use crate::settings::Settings;
use crate::tree::lifecycle::request::Verb;
use crate::tree::plan::{held, is_multiplexed};
use crate::volume::survey::{Skipped, Survey};

/// What is seen before a request.
#[derive(Debug)]
pub struct Seen<'a> {
    /// What was asked for.
    pub settings: &'a Settings,
    /// The volume.
    pub survey: &'a Survey,
    /// What the container was started for; looked for only where a start depends on it.
    pub command: Command,
    /// The profiles that have a slot, as far as the selection is about them.
    pub slots: BTreeSet<ProfileName>,
    /// Those of them whose gateway s6 has been told to have up.
    pub wanted_up: BTreeSet<ProfileName>,
}

/// What was chosen, and what is to be said about the rest.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The profiles, in order.
    pub names: Vec<ProfileName>,
    /// What is wrong.
    pub warnings: Vec<String>,
    /// Why some are left out.
    pub notes: Vec<String>,
}

impl Choice {
    /// Says what there is to say, and gives the profiles.
    pub fn said(self) -> Vec<ProfileName> {
        self.warnings
            .iter()
            .for_each(|warning| report::warning(warning));
        self.notes.iter().for_each(|note| report::note(note));
        self.names
    }
}

/// Chooses the profiles that a request is about. `unless_stopped` leaves out what its operator has stopped, and
/// what this container keeps down.
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
        let (names, notes) = (&mut choice.names, &mut choice.notes);
        names.retain(|name| match why_not(seen, name) {
            None => true,
            Some(why) => {
                notes.push(stays_down(name, &why));
                false
            }
        });
    }
    Ok(choice)
}

/// Takes the profiles that were named, or the one that is meant where none is.
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
        names.push(survey.meant(seen.settings));
        if survey.active.as_ref() == names.first() {
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
    for name in names {
        // What is left of a profile that is gone can be stopped and removed.
        if verb.is_up() || !seen.slots.contains(name) {
            must_exist(name, survey)?;
        }
        if verb.is_up() && is_multiplexed(seen.settings, survey, name) {
            choice.warnings.push(format!(
                "profile {name} is served by the default profile's gateway (multiplex_profiles), beside which its own ends at once"
            ));
        }
    }
    Ok(choice)
}

/// Takes all profiles that are to run, and says which are held down.
fn all_to_run(seen: &Seen, verb: Verb) -> Choice {
    let mut choice = Choice {
        warnings: skipped(seen.survey),
        ..Choice::default()
    };
    for (name, profile) in &seen.survey.profiles {
        let is_up = seen.wanted_up.contains(name);
        // What its operator stopped stays stopped.
        if verb == Verb::Restart && !is_up && !profile.intent.wants_running() {
            continue;
        }
        match held(seen.settings, &seen.command, seen.survey, name) {
            Some(why) if !is_up => choice.notes.push(stays_down(name, &why)),
            _ => choice.names.push(name.clone()),
        }
    }
    choice
}

/// Takes all profiles that have a slot. To be stopped is an intent also where there is nothing to stop.
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
        notes: Vec::new(),
    }
}

/// Tells what speaks against a start: the operator's last word, or this container.
fn why_not(seen: &Seen, name: &ProfileName) -> Option<String> {
    let profile = seen.survey.profiles.get(name);
    if profile.is_some_and(|profile| profile.intent.wants_stopped()) {
        return Some(format!(
            "it was stopped; start it with hermes-s6 start -p {name}"
        ));
    }
    held(seen.settings, &seen.command, seen.survey, name).filter(|_| !seen.wanted_up.contains(name))
}

fn stays_down(name: &ProfileName, why: &str) -> String {
    format!("{} stays down here ({why})", name.slot())
}

/// Names what looks like a profile and has no slot.
pub fn skipped(survey: &Survey) -> Vec<String> {
    let sentence =
        |skipped: &Skipped| format!("profile {}: {}", skipped.name, skipped.problem.text);
    survey.skipped.iter().map(sentence).collect()
}

#[cfg(test)]
mod tests;
