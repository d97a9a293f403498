//! Choices, one request at a time.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::hermes::container::Gateway;
use crate::hermes::state::{Intent, intent};
use crate::system::root::Root;
use crate::volume::survey::{Problem, Profile};

fn settings() -> Settings {
    Settings {
        root: Root::new("/"),
        home: PathBuf::from("/opt/data"),
        home_profile: None,
        scandir: PathBuf::from("/run/hermes-s6/service"),
        user: "hermes".to_owned(),
        bindir: None,
        hermes: None,
        path: Vec::new(),
        stop_timeout: Duration::from_secs(25),
        autostart: None,
        bootstrap: false,
        no_supervise: false,
        multiplex: None,
        api_server_port: None,
        warnings: Vec::new(),
    }
}

fn multiplex() -> Settings {
    Settings {
        multiplex: Some(true),
        ..settings()
    }
}

fn never() -> Settings {
    Settings {
        autostart: Some(false),
        ..settings()
    }
}

fn dashboard() -> Command {
    Command {
        other_role: Some("dashboard"),
        gateway: None,
    }
}

fn name(text: &str) -> ProfileName {
    text.parse()
        .unwrap_or_else(|_| ProfileName::default_profile())
}

fn names(texts: &[&str]) -> Vec<ProfileName> {
    texts.iter().map(|text| name(text)).collect()
}

/// A volume with `default` and `viewer`, of which nobody has said anything, with `coder`, which is to run, and
/// with `writer`, which was stopped.
fn survey() -> Survey {
    let mut survey = Survey {
        complete: true,
        ..Survey::default()
    };
    for (text, state) in [
        ("default", "{}"),
        ("coder", r#"{"desired_state":"running"}"#),
        ("viewer", "{}"),
        ("writer", r#"{"desired_state":"stopped"}"#),
    ] {
        let profile = Profile {
            name: name(text),
            intent: intent(state.as_bytes()).unwrap_or_default(),
            stateless: false,
            problem: None,
            own_port: None,
            stale: Vec::new(),
            log_directory: true,
            lock: None,
        };
        survey.profiles.insert(profile.name.clone(), profile);
    }
    survey
}

/// The same volume, on which `hermes profile use` chose this profile.
fn active(text: &str) -> Survey {
    Survey {
        active: Some(name(text)),
        ..survey()
    }
}

/// The same volume, with a directory that cannot be a profile's.
fn with_skipped(text: &str, complete: bool) -> Survey {
    Survey {
        skipped: vec![Skipped {
            name: text.to_owned(),
            problem: Problem::new("symlink", "it is a link"),
        }],
        complete,
        ..survey()
    }
}

/// A request, and what is seen before it.
struct Case {
    verb: Verb,
    all: bool,
    profile: &'static [&'static str],
    unless_stopped: bool,
    settings: Settings,
    command: Command,
    survey: Survey,
    slots: &'static [&'static str],
    wanted_up: &'static [&'static str],
}

/// A verb for the profiles that are named, on a plain machine, where none has a slot.
fn named(verb: Verb, profile: &'static [&'static str]) -> Case {
    Case {
        verb,
        all: false,
        profile,
        unless_stopped: false,
        settings: settings(),
        command: Command::default(),
        survey: survey(),
        slots: &[],
        wanted_up: &[],
    }
}

/// A verb for all of them.
fn all(verb: Verb) -> Case {
    Case {
        all: true,
        ..named(verb, &[])
    }
}

fn chosen(case: &Case) -> Result<Choice> {
    let seen = Seen {
        settings: &case.settings,
        survey: &case.survey,
        command: case.command.clone(),
        slots: names(case.slots).into_iter().collect(),
        wanted_up: names(case.wanted_up).into_iter().collect(),
    };
    let selection = Selection {
        profile: names(case.profile),
        all: case.all,
    };
    choose(&seen, &selection, case.verb, case.unless_stopped)
}

/// A choice without a word about it.
fn plainly(texts: &[&str]) -> Choice {
    Choice {
        names: names(texts),
        ..Choice::default()
    }
}

/// A choice with notes on those that are left out.
fn noting(texts: &[&str], notes: &[&str]) -> Choice {
    Choice {
        notes: notes.iter().map(|&note| note.to_owned()).collect(),
        ..plainly(texts)
    }
}

/// A choice with warnings.
fn warning(texts: &[&str], warnings: &[&str]) -> Choice {
    Choice {
        warnings: warnings.iter().map(|&text| text.to_owned()).collect(),
        ..plainly(texts)
    }
}

/// Compares the choice of each request. The last of each row is what the row is about.
fn choose_all<const N: usize>(rows: [(Case, Choice, &str); N]) {
    for (case, expected, sentence) in rows {
        let choice = chosen(&case).map_err(|error| error.to_string());
        assert_eq!(choice, Ok(expected), "{sentence}");
    }
}

/// Compares the code of each refusal, and how its text begins.
fn refuse_all<const N: usize>(rows: [(Case, Code, &str, &str); N]) {
    for (case, code, text, sentence) in rows {
        let refusal = chosen(&case).map_err(|error| (error.code(), error.to_string()));
        let begins = match &refusal {
            Err((found, error)) => *found == code && error.starts_with(text),
            Ok(_) => false,
        };
        assert!(begins, "{sentence}: {refusal:?}");
    }
}

const WRITER_STAYS: &str =
    "gateway-writer stays down here (it was stopped; start it with hermes-s6 start -p writer)";
const CODER_IS_SERVED: &str = "profile coder is served by the default profile's gateway (multiplex_profiles), beside which its own ends at once";

#[test]
fn what_is_named_is_chosen() {
    choose_all([
        (
            named(Verb::Start, &["coder"]),
            plainly(&["coder"]),
            "one, whether it has a slot or not",
        ),
        (
            named(Verb::Start, &["writer", "default", "coder", "writer"]),
            plainly(&["default", "coder", "writer"]),
            "several are each taken once, in the order of all lists",
        ),
        (
            named(Verb::Start, &["writer"]),
            plainly(&["writer"]),
            "who names one that was stopped means it",
        ),
        (
            named(Verb::Restart, &["writer"]),
            plainly(&["writer"]),
            "so does who restarts it",
        ),
        (
            named(Verb::Stop, &["writer"]),
            plainly(&["writer"]),
            "it may be stopped again",
        ),
        (
            named(Verb::Stop, &["viewer"]),
            plainly(&["viewer"]),
            "to be stopped is an intent also of one without a slot",
        ),
        (
            Case {
                command: dashboard(),
                ..named(Verb::Start, &["coder"])
            },
            plainly(&["coder"]),
            "who names one that is held down here means it",
        ),
        (
            Case {
                survey: with_skipped("Foo", true),
                ..named(Verb::Start, &["coder"])
            },
            plainly(&["coder"]),
            "what is wrong with others is not told",
        ),
    ]);
}

#[test]
fn where_none_is_named_hermes_would_take_the_same_one() {
    let in_home_of_writer = || Settings {
        home_profile: Some(name("writer")),
        ..settings()
    };
    choose_all([
        (
            named(Verb::Start, &[]),
            plainly(&["default"]),
            "nothing else is said",
        ),
        (
            Case {
                survey: active("coder"),
                ..named(Verb::Start, &[])
            },
            plainly(&["coder"]),
            "the active one",
        ),
        (
            Case {
                settings: in_home_of_writer(),
                ..named(Verb::Stop, &[])
            },
            plainly(&["writer"]),
            "that of HERMES_HOME",
        ),
        (
            Case {
                settings: in_home_of_writer(),
                survey: active("coder"),
                ..named(Verb::Restart, &[])
            },
            plainly(&["writer"]),
            "HERMES_HOME goes before the active one",
        ),
        (
            Case {
                settings: in_home_of_writer(),
                survey: active("gone"),
                ..named(Verb::Start, &[])
            },
            plainly(&["writer"]),
            "then the active one need not exist",
        ),
        (
            Case {
                survey: active("gone"),
                ..named(Verb::Start, &["coder"])
            },
            plainly(&["coder"]),
            "nor where one is named",
        ),
    ]);
}

#[test]
fn the_one_that_is_meant_has_to_be_there() {
    refuse_all([
        (
            Case {
                survey: active("gone"),
                ..named(Verb::Start, &[])
            },
            Code::Usage,
            "profile gone does not exist: ",
            "the active one is gone",
        ),
        (
            Case {
                settings: Settings {
                    home_profile: Some(name("gone")),
                    ..settings()
                },
                ..named(Verb::Start, &[])
            },
            Code::Usage,
            "profile gone does not exist: create it with hermes profile create gone",
            "that of HERMES_HOME is gone",
        ),
        (
            Case {
                survey: Survey::default(),
                ..named(Verb::Stop, &[])
            },
            Code::Usage,
            "no profile is named: name it with -p: the volume does not tell which one is meant",
            "the volume could not be read",
        ),
        (
            Case {
                survey: active("gone"),
                slots: &["gone"],
                ..named(Verb::Stop, &[])
            },
            Code::Usage,
            "profile gone does not exist: ",
            "what is left of the active one has to be named",
        ),
    ]);
    let refusal = chosen(&Case {
        survey: active("gone"),
        ..named(Verb::Start, &[])
    });
    let text = refusal.map_err(|error| error.to_string());
    let is_told =
        matches!(&text, Err(text) if text.ends_with("choose another with hermes profile use"));
    assert!(is_told, "who chose it can choose another one: {text:?}");
}

#[test]
fn what_is_left_of_a_profile_that_is_gone_can_be_stopped_and_removed() {
    let slot = |verb| Case {
        slots: &["gone"],
        wanted_up: &["gone"],
        ..named(verb, &["gone"])
    };
    choose_all([
        (
            slot(Verb::Stop),
            plainly(&["gone"]),
            "its gateway is stopped",
        ),
        (
            slot(Verb::Remove),
            plainly(&["gone"]),
            "its slot is removed",
        ),
        (
            Case {
                survey: Survey::default(),
                ..slot(Verb::Stop)
            },
            plainly(&["gone"]),
            "also where the volume could not be read",
        ),
    ]);
    let missing = "profile gone does not exist: create it with hermes profile create gone";
    refuse_all([
        (slot(Verb::Start), Code::Usage, missing, "not started"),
        (slot(Verb::Restart), Code::Usage, missing, "not restarted"),
        (
            named(Verb::Stop, &["gone"]),
            Code::Usage,
            missing,
            "without a slot there is nothing to stop",
        ),
        (
            named(Verb::Remove, &["gone"]),
            Code::Usage,
            missing,
            "nor to remove",
        ),
        (
            Case {
                slots: &["gone"],
                ..named(Verb::Stop, &["coder", "gone", "other"])
            },
            Code::Usage,
            "profile other does not exist",
            "one that is not there spoils the request",
        ),
    ]);
}

#[test]
fn a_profile_that_cannot_be_one_is_told_why() {
    refuse_all([
        (
            Case {
                survey: with_skipped("gone", true),
                ..named(Verb::Start, &["gone"])
            },
            Code::Usage,
            "profile gone: it is a link",
            "what is in its place has something wrong",
        ),
        (
            Case {
                survey: Survey {
                    soulless: names(&["gone"]),
                    ..survey()
                },
                ..named(Verb::Start, &["gone"])
            },
            Code::Usage,
            "profile gone has no SOUL.md: create that file in its home",
            "its home is not one yet",
        ),
        (
            Case {
                survey: with_skipped("profiles/", false),
                ..named(Verb::Start, &["gone"])
            },
            Code::System,
            "it is a link",
            "the profiles could not be listed: it may be there",
        ),
    ]);
}

#[test]
fn who_starts_what_the_default_profile_serves_is_warned() {
    let served = |verb| Case {
        settings: multiplex(),
        ..named(verb, &["default", "coder"])
    };
    let both = ["default", "coder"];
    choose_all([
        (
            served(Verb::Start),
            warning(&both, &[CODER_IS_SERVED]),
            "a start",
        ),
        (
            served(Verb::Restart),
            warning(&both, &[CODER_IS_SERVED]),
            "a restart",
        ),
        (served(Verb::Stop), plainly(&both), "a stop is right"),
        (served(Verb::Remove), plainly(&both), "so is a removal"),
        (
            Case {
                settings: settings(),
                survey: Survey {
                    multiplex_in_config: Some(true),
                    ..survey()
                },
                ..served(Verb::Start)
            },
            warning(&both, &[CODER_IS_SERVED]),
            "its config.yaml says so too",
        ),
        (
            Case {
                survey: Survey {
                    multiplex_in_env_file: Some(false),
                    ..survey()
                },
                ..served(Verb::Start)
            },
            plainly(&both),
            "its .env goes before the environment",
        ),
        (
            Case {
                command: Command {
                    other_role: None,
                    gateway: Some(Gateway {
                        profile: Some(name("coder")),
                        supervised: false,
                    }),
                },
                ..served(Verb::Start)
            },
            warning(&both, &[CODER_IS_SERVED]),
            "whatever the container's command is",
        ),
    ]);
}

#[test]
fn a_start_of_all_takes_every_profile_that_nothing_holds_down_here() {
    let everyone = ["default", "coder", "viewer", "writer"];
    let held = |why: &str| {
        everyone
            .map(|name| format!("gateway-{name} stays down here ({why})"))
            .to_vec()
    };
    choose_all([
        (
            all(Verb::Start),
            plainly(&everyone),
            "also those that were stopped",
        ),
        (
            Case {
                slots: &["coder", "gone"],
                ..all(Verb::Start)
            },
            plainly(&everyone),
            "not the slot of a profile that is gone",
        ),
        (
            Case {
                survey: with_skipped("Foo", true),
                ..all(Verb::Start)
            },
            warning(&everyone, &["profile Foo: it is a link"]),
            "what cannot be a profile is told",
        ),
        (
            Case {
                command: dashboard(),
                ..all(Verb::Start)
            },
            Choice {
                notes: held("role=dashboard"),
                ..Choice::default()
            },
            "none in a container that is there for something else",
        ),
        (
            Case {
                settings: never(),
                ..all(Verb::Start)
            },
            Choice {
                notes: held("autostart=never"),
                ..Choice::default()
            },
            "none where that is switched off",
        ),
        (
            Case {
                settings: multiplex(),
                ..all(Verb::Start)
            },
            noting(
                &["default"],
                &[
                    "gateway-coder stays down here (multiplex)",
                    "gateway-viewer stays down here (multiplex)",
                    "gateway-writer stays down here (multiplex)",
                ],
            ),
            "one gateway serves all, and nobody is warned of what was not asked for",
        ),
        (
            Case {
                settings: multiplex(),
                slots: &["default", "coder", "viewer"],
                wanted_up: &["viewer"],
                ..all(Verb::Start)
            },
            noting(
                &["default", "viewer"],
                &[
                    "gateway-coder stays down here (multiplex)",
                    "gateway-writer stays down here (multiplex)",
                ],
            ),
            "one that runs all the same is not said to stay down",
        ),
    ]);
}

#[test]
fn a_restart_of_all_leaves_down_what_is_down_on_purpose() {
    choose_all([
        (
            all(Verb::Restart),
            plainly(&["coder"]),
            "what is wanted; nothing is said of the others",
        ),
        (
            Case {
                slots: &["viewer", "writer"],
                wanted_up: &["viewer", "writer"],
                ..all(Verb::Restart)
            },
            plainly(&["coder", "viewer", "writer"]),
            "and what is up, whatever was said of it",
        ),
        (
            Case {
                command: dashboard(),
                ..all(Verb::Restart)
            },
            noting(&[], &["gateway-coder stays down here (role=dashboard)"]),
            "what is wanted and held down is told",
        ),
        (
            Case {
                command: dashboard(),
                slots: &["coder", "viewer"],
                wanted_up: &["coder", "viewer"],
                ..all(Verb::Restart)
            },
            plainly(&["coder", "viewer"]),
            "what runs all the same is restarted",
        ),
        (
            Case {
                survey: with_skipped("Foo", true),
                ..all(Verb::Restart)
            },
            warning(&["coder"], &["profile Foo: it is a link"]),
            "what cannot be a profile is told",
        ),
    ]);
}

#[test]
fn to_stop_or_unregister_all_is_about_every_slot() {
    let slots = |verb| Case {
        slots: &["viewer", "gone"],
        ..all(verb)
    };
    choose_all([
        (
            slots(Verb::Stop),
            plainly(&["coder", "gone", "viewer"]),
            "also what is wanted without a slot: it is to be stopped from now on",
        ),
        (
            slots(Verb::Remove),
            plainly(&["gone", "viewer"]),
            "without a slot there is nothing to remove",
        ),
        (all(Verb::Remove), plainly(&[]), "there are no slots"),
        (
            Case {
                command: dashboard(),
                settings: never(),
                ..slots(Verb::Stop)
            },
            plainly(&["coder", "gone", "viewer"]),
            "what holds down does not keep from being stopped",
        ),
        (
            Case {
                survey: Survey::default(),
                ..slots(Verb::Stop)
            },
            plainly(&["gone", "viewer"]),
            "nor does a volume that could not be read",
        ),
        (
            Case {
                survey: with_skipped("Foo", true),
                ..slots(Verb::Stop)
            },
            warning(&["coder", "gone", "viewer"], &["profile Foo: it is a link"]),
            "what cannot be a profile is told",
        ),
    ]);
}

#[test]
fn unless_stopped_leaves_out_what_its_operator_stopped_and_what_is_held_down() {
    let gently = |case| Case {
        unless_stopped: true,
        ..case
    };
    choose_all([
        (
            gently(named(Verb::Start, &["coder", "viewer", "writer"])),
            noting(&["coder", "viewer"], &[WRITER_STAYS]),
            "of whom nothing is said is not stopped",
        ),
        (
            gently(named(Verb::Start, &["writer"])),
            noting(&[], &[WRITER_STAYS]),
            "nothing may be left",
        ),
        (
            gently(Case {
                command: dashboard(),
                ..named(Verb::Start, &["coder", "writer"])
            }),
            noting(
                &[],
                &[
                    "gateway-coder stays down here (role=dashboard)",
                    WRITER_STAYS,
                ],
            ),
            "the operator's word says more than the container's",
        ),
        (
            gently(all(Verb::Start)),
            noting(&["default", "coder", "viewer"], &[WRITER_STAYS]),
            "of all",
        ),
        (
            gently(Case {
                command: dashboard(),
                survey: Survey {
                    profiles: [survey().profiles.remove_entry(&name("coder"))]
                        .into_iter()
                        .flatten()
                        .collect(),
                    ..survey()
                },
                ..all(Verb::Start)
            }),
            noting(&[], &["gateway-coder stays down here (role=dashboard)"]),
            "what is left out already is not told twice",
        ),
        (
            gently(Case {
                settings: multiplex(),
                ..named(Verb::Start, &["default", "coder"])
            }),
            Choice {
                warnings: vec![CODER_IS_SERVED.to_owned()],
                ..noting(&["default"], &["gateway-coder stays down here (multiplex)"])
            },
            "who named it is told what is wrong, too",
        ),
    ]);
}

#[test]
fn what_the_gateway_wrote_itself_is_not_its_operators_word() {
    let mut survey = survey();
    if let Some(viewer) = survey.profiles.get_mut(&name("viewer")) {
        viewer.intent = intent(br#"{"gateway_state":"stopped"}"#).unwrap_or_default();
        assert_ne!(viewer.intent, Intent::default());
    }
    choose_all([(
        Case {
            unless_stopped: true,
            survey,
            ..named(Verb::Start, &["viewer"])
        },
        plainly(&["viewer"]),
        "it went down, and nobody has asked for that",
    )]);
}
