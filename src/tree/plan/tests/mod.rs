//! Decisions, one fact changed at a time.

mod held;
mod line;
mod scope;
mod slots;
mod volume;

use super::*;
use crate::hermes::container::Gateway;
use crate::hermes::name::name;
use crate::hermes::state::{Said, intent};
use crate::volume::log::LogPlace;
use crate::volume::problem::Answer;

/// A volume on which it is not known whether one gateway serves all, for this reason.
fn unsure(reason: &str, survey: Survey) -> Survey {
    Survey {
        multiplex_in_config: Answer::Unknown(Problem::new(reason, "why")),
        ..survey
    }
}

/// A container whose command is `gateway run` for this profile, or for the one that is meant.
fn gateway_run(profile: Option<&str>, supervised: bool) -> Command {
    Command {
        other_role: None,
        gateway: Some(Gateway {
            profile: profile.map(name),
            supervised,
        }),
    }
}

fn names(texts: &[&str]) -> BTreeSet<ProfileName> {
    texts.iter().map(|text| name(text)).collect()
}

const RUNNING: &str = r#"{"desired_state":"running"}"#;
const STOPPED: &str = r#"{"desired_state":"stopped"}"#;
const UNSAID: &str = "{}";

/// A volume with `default`, which has no state, and with profiles with the given content of their state files.
fn survey_of(profiles: &[(&str, &str)]) -> Survey {
    let mut survey = Survey {
        complete: true,
        record: Record::Current,
        ..Survey::default()
    };
    for (profile, state) in [("default", UNSAID)].iter().chain(profiles) {
        let profile = Profile {
            stateless: *profile == "default",
            name: name(profile),
            intent: intent(state.as_bytes()).unwrap_or_default(),
            problem: None,
            own_port: Answer::Known(None),
            stale: Vec::new(),
            log: LogPlace {
                exists: true,
                ..LogPlace::default()
            },
            said: Said::default(),
            lock: None,
            lock_failure: None,
        };
        survey.profiles.insert(profile.name.clone(), profile);
    }
    survey.ports = survey.assigned_ports(&Settings::example());
    survey
}

/// The same with `coder` alone.
fn survey(state: &str) -> Survey {
    survey_of(&[("coder", state)])
}

/// The same with a profile changed.
fn with(mut survey: Survey, profile: &str, change: impl Fn(&mut Profile)) -> Survey {
    survey.profiles.entry(name(profile)).and_modify(change);
    survey
}

/// The same with a profile that has a problem, of which nothing else is said.
fn ill() -> Survey {
    with(survey(UNSAID), "coder", |coder| {
        coder.problem = Some(problem());
    })
}

/// A volume that has never served a profile.
fn unserved(survey: Survey) -> Survey {
    Survey {
        record: Record::None,
        ..survey
    }
}

/// The ports that a survey leads to, with the record that it has read.
fn new_ports(survey: &Survey) -> NewPorts {
    NewPorts {
        seen: survey.recorded.clone(),
        ports: survey.assigned_ports(&Settings::example()),
    }
}

/// What is in `profiles/` under this name, and cannot be a profile.
fn skipped(name: &str) -> Skipped {
    Skipped {
        name: name.to_owned(),
        problem: problem(),
    }
}

fn problem() -> Problem {
    Problem::new("state-not-json", "why")
}

/// A slot of ours without a supervisor.
fn ours() -> Found {
    Found {
        ours: true,
        ..Found::default()
    }
}

/// One whose gateway is up.
fn up() -> Found {
    Found {
        supervised: true,
        up: true,
        ..ours()
    }
}

/// One whose gateway is down, and registered down.
fn down() -> Found {
    Found {
        up: false,
        down: true,
        ..up()
    }
}

/// One whose gateway is down, and not registered down.
fn parked() -> Found {
    Found { up: false, ..up() }
}

/// One that hermes-s6 did not make.
fn foreign() -> Found {
    Found {
        ours: false,
        ..up()
    }
}

/// One with a file that is another than it should be, and with another that was half written.
fn worn(mut found: Found) -> Found {
    found.outdated = vec!["run"];
    found.debris = vec![".run.hermes-s6-0123456789abcdef".to_owned()];
    found
}

/// A live tree in which both profiles have their slot; `default` is down.
fn world(coder: Found) -> World {
    World {
        slots: BTreeMap::from([(name("default"), down()), (name("coder"), coder)]),
        watched: true,
        live: true,
        room: None,
    }
}

/// A live tree without a slot.
fn bare() -> World {
    World {
        watched: true,
        live: true,
        ..World::default()
    }
}

/// The same before its s6-svscan has started.
fn offline(coder: Found) -> World {
    World {
        watched: false,
        live: false,
        ..world(coder)
    }
}

/// The same with room for so many slots.
fn room(room: usize, world: World) -> World {
    World {
        room: Some(room),
        ..world
    }
}

/// The plan where nothing is set, for some of the profiles.
fn decide_for(survey: &Survey, world: &World, scope: Scope) -> Plan {
    let (settings, command) = (Settings::example(), Command::default());
    plan(&settings, &command, survey, world, scope)
}

/// The plan for all of them.
fn decide(survey: &Survey, world: &World) -> Plan {
    decide_for(survey, world, Scope::All)
}

/// What happens to a profile: the action, the reason, which is empty if there is none, and the steps.
type Happens = Option<(Action, String, Vec<Step>)>;

#[expect(
    clippy::unnecessary_wraps,
    reason = "a row can also say that nothing happens"
)]
fn because(action: Action, reason: &str, steps: impl Into<Vec<Step>>) -> Happens {
    Some((action, reason.to_owned(), steps.into()))
}

fn happens(action: Action, steps: impl Into<Vec<Step>>) -> Happens {
    because(action, "", steps)
}

fn of(plan: &Plan, profile: &str) -> Happens {
    let mut changes = plan.changes.iter();
    let change = changes.find(|change| change.profile == profile)?;
    let reason = change.reason.clone().unwrap_or_default();
    Some((change.action, reason, change.steps.clone()))
}

/// Compares what happens to `coder`. The last of each row is what the row is about.
fn decide_all<const N: usize>(rows: [(Survey, World, Happens, &str); N]) {
    for (survey, world, expected, sentence) in rows {
        let plan = decide(&survey, &world);
        assert_eq!(of(&plan, "coder"), expected, "{sentence}");
    }
}

/// The profiles that a plan has changes for, in its order, with what happens to each.
fn actions(plan: &Plan) -> Vec<(&str, Action)> {
    let changes = plan.changes.iter();
    changes
        .map(|change| (change.profile.as_str(), change.action))
        .collect()
}

fn publish(down: bool) -> [Step; 1] {
    [Step::Publish { down }]
}
