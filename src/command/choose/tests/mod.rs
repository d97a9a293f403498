//! Choices, one request at a time.

mod served;

use super::*;
use crate::hermes::container::Gateway;
use crate::hermes::name::name;
use crate::hermes::state::{Intent, Said, intent};
use crate::volume::log::LogPlace;
use crate::volume::problem::Problem;
use crate::volume::survey::Profile;
use Code::{System, Usage};
use Verb::{Remove, Restart, Start, Stop};

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
    survey
}

/// The same volume, on which `hermes profile use` chose this profile.
fn active(text: &str) -> Survey {
    Survey {
        active: Answer::Known(Some(name(text))),
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

/// The same volume, with `Foo`, which cannot be a profile.
fn with_foo() -> Survey {
    with_skipped("Foo", true)
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
    default_runs: bool,
}

/// A verb for the profiles that are named, on a plain machine, where none has a slot.
fn named(verb: Verb, profile: &'static [&'static str]) -> Case {
    Case {
        verb,
        all: false,
        profile,
        unless_stopped: false,
        settings: Settings::example(),
        command: Command::default(),
        survey: survey(),
        slots: &[],
        wanted_up: &[],
        default_runs: false,
    }
}

/// A verb for all of them.
fn all(verb: Verb) -> Case {
    Case {
        all: true,
        ..named(verb, &[])
    }
}

/// The same, where these have a slot and are wanted up.
fn running(profiles: &'static [&'static str], case: Case) -> Case {
    Case {
        slots: profiles,
        wanted_up: profiles,
        ..case
    }
}

/// A verb without a name, where HERMES_HOME is the home of this profile.
fn in_home_of(profile: &str, verb: Verb) -> Case {
    Case {
        settings: Settings {
            home_profile: Some(name(profile)),
            ..Settings::example()
        },
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
        default_runs: case.default_runs,
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

/// A choice with the warning of a profile.
fn warning(texts: &[&str], (profile, text): (&str, &str)) -> Choice {
    Choice {
        warnings: vec![Warning::of(profile, text)],
        ..plainly(texts)
    }
}

/// A choice that leaves these out, for one reason.
fn leaving(texts: &[&str], left: &[&str], why: &str) -> Choice {
    let note = |name| format!("gateway-{name} stays down here ({why})");
    Choice {
        notes: left.iter().map(note).collect(),
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

const FOO_IS_A_LINK: (&str, &str) = ("Foo", "it is a link");
const WRITER_STAYS: &str =
    "gateway-writer stays down here (it was stopped; start it with hermes-s6 start -p writer)";
const CODER_IS_SERVED: (&str, &str) = (
    "coder",
    "the default profile's gateway serves it (multiplex_profiles): its own gateway will end at once, or take messages from that one",
);

#[test]
fn what_is_named_is_chosen() {
    #[rustfmt::skip]
    choose_all([
        (named(Start, &["coder"]), plainly(&["coder"]), "one, whether it has a slot or not"),
        (named(Start, &["writer", "default", "coder", "writer"]), plainly(&["default", "coder", "writer"]), "several are each taken once, in the order of all lists"),
        (named(Start, &["writer"]), plainly(&["writer"]), "who names one that was stopped means it"),
        (named(Restart, &["writer"]), plainly(&["writer"]), "so does who restarts it"),
        (named(Stop, &["writer"]), plainly(&["writer"]), "it may be stopped again"),
        (named(Stop, &["viewer"]), plainly(&["viewer"]), "to be stopped is an intent also of one without a slot"),
        (Case { command: Command::dashboard(), ..named(Start, &["coder"]) }, plainly(&["coder"]), "who names one that is held down here means it"),
        (Case { survey: with_foo(), ..named(Start, &["coder"]) }, plainly(&["coder"]), "what is wrong with others is not told"),
    ]);
}

#[test]
fn where_none_is_named_hermes_would_take_the_same_one() {
    #[rustfmt::skip]
    choose_all([
        (named(Start, &[]), plainly(&["default"]), "nothing else is said"),
        (Case { survey: active("coder"), ..named(Start, &[]) }, plainly(&["coder"]), "the active one"),
        (in_home_of("writer", Stop), plainly(&["writer"]), "that of HERMES_HOME"),
        (Case { survey: active("coder"), ..in_home_of("writer", Restart) }, plainly(&["writer"]), "HERMES_HOME goes before the active one"),
        (Case { survey: active("gone"), ..in_home_of("writer", Start) }, plainly(&["writer"]), "then the active one need not exist"),
        (Case { survey: active("gone"), ..named(Start, &["coder"]) }, plainly(&["coder"]), "nor where one is named"),
    ]);
}

#[test]
fn the_one_that_is_meant_has_to_be_there() {
    let unread = Case {
        survey: Survey::default(),
        ..named(Stop, &[])
    };
    let gone = "profile gone does not exist: create it with hermes profile create gone, or choose another with hermes profile use";
    let to_create = "profile gone does not exist: create it with hermes profile create gone";
    let to_name =
        "no profile is named: name it with -p: the volume does not tell which one is meant";
    #[rustfmt::skip]
    refuse_all([
        (Case { survey: active("gone"), ..named(Start, &[]) }, Usage, gone, "the active one is gone"),
        (in_home_of("gone", Start), Usage, to_create, "that of HERMES_HOME is gone"),
        (unread, Usage, to_name, "the volume could not be read"),
        (Case { survey: active("gone"), slots: &["gone"], ..named(Stop, &[]) }, Usage, gone, "what is left of the active one has to be named"),
    ]);
}

#[test]
fn what_is_left_of_a_profile_that_is_gone_can_be_stopped_and_removed() {
    let slot = |verb| running(&["gone"], named(verb, &["gone"]));
    #[rustfmt::skip]
    choose_all([
        (slot(Stop), plainly(&["gone"]), "its gateway is stopped"),
        (slot(Remove), plainly(&["gone"]), "its slot is removed"),
        (Case { survey: Survey::default(), ..slot(Stop) }, plainly(&["gone"]), "also where the volume could not be read"),
    ]);
    let missing = "profile gone does not exist: create it with hermes profile create gone";
    #[rustfmt::skip]
    refuse_all([
        (slot(Start), Usage, missing, "not started"),
        (slot(Restart), Usage, missing, "not restarted"),
        (named(Stop, &["gone"]), Usage, missing, "without a slot there is nothing to stop"),
        (named(Remove, &["gone"]), Usage, missing, "nor to remove"),
        (Case { slots: &["gone"], ..named(Stop, &["coder", "gone", "other"]) }, Usage, "profile other does not exist", "one that is not there spoils the request"),
    ]);
}

#[test]
fn a_profile_that_cannot_be_one_is_told_why() {
    let start = |survey| Case {
        survey,
        ..named(Start, &["gone"])
    };
    let soulless = Survey {
        soulless: names(&["gone"]),
        ..survey()
    };
    let no_soul = "profile gone has no SOUL.md: create that file in its home";
    #[rustfmt::skip]
    refuse_all([
        (start(with_skipped("gone", true)), Usage, "profile gone: it is a link", "what is in its place has something wrong"),
        (start(soulless), Usage, no_soul, "its home is not one yet"),
        (start(with_skipped("profiles/", false)), System, "it is a link", "the profiles could not be listed: it may be there"),
    ]);
}

#[test]
fn without_a_name_nobody_is_meant_if_the_chosen_one_cannot_be_read() {
    let unread = |case: Case| Case {
        survey: Survey {
            active: Answer::Unknown(Problem::new(
                "active-profile-unreadable",
                "it is unreadable: why",
            )),
            ..survey()
        },
        ..case
    };
    let text = "it is unreadable: why, or name the profile with -p";
    #[rustfmt::skip]
    refuse_all([
        (unread(named(Start, &[])), System, text, "a start"),
        (unread(named(Stop, &[])), System, text, "a stop"),
    ]);
    #[rustfmt::skip]
    choose_all([
        (unread(named(Stop, &["coder"])), plainly(&["coder"]), "one is named"),
        (unread(in_home_of("coder", Stop)), plainly(&["coder"]), "HERMES_HOME names it"),
        (unread(all(Restart)), plainly(&["coder"]), "all are meant"),
    ]);
}

#[test]
fn a_start_of_all_takes_every_profile_that_nothing_holds_down_here() {
    let everyone = ["default", "coder", "viewer", "writer"];
    let served = || Case {
        settings: Settings::multiplex(),
        ..all(Start)
    };
    let viewer_runs = Case {
        slots: &["default", "coder", "viewer"],
        wanted_up: &["viewer"],
        ..served()
    };
    #[rustfmt::skip]
    choose_all([
        (all(Start), plainly(&everyone), "also those that were stopped"),
        (Case { slots: &["coder", "gone"], ..all(Start) }, plainly(&everyone), "not the slot of a profile that is gone"),
        (Case { survey: with_foo(), ..all(Start) }, warning(&everyone, FOO_IS_A_LINK), "what cannot be a profile is told"),
        (Case { command: Command::dashboard(), ..all(Start) }, leaving(&[], &everyone, "role=dashboard"), "none in a container that is there for something else"),
        (Case { settings: Settings::never(), ..all(Start) }, leaving(&[], &everyone, "autostart=never"), "none where that is switched off"),
        (served(), leaving(&["default"], &["coder", "viewer", "writer"], "multiplex"), "one gateway serves all, and nobody is warned of what was not asked for"),
        (viewer_runs, leaving(&["default", "viewer"], &["coder", "writer"], "multiplex"), "one that runs all the same is not said to stay down"),
    ]);
}

#[test]
fn a_restart_of_all_leaves_down_what_is_down_on_purpose() {
    let held = || Case {
        command: Command::dashboard(),
        ..all(Restart)
    };
    #[rustfmt::skip]
    choose_all([
        (all(Restart), plainly(&["coder"]), "what is wanted; nothing is said of the others"),
        (running(&["viewer", "writer"], all(Restart)), plainly(&["coder", "viewer", "writer"]), "and what is up, whatever was said of it"),
        (held(), noting(&[], &["gateway-coder stays down here (role=dashboard)"]), "what is wanted and held down is told"),
        (running(&["coder", "viewer"], held()), plainly(&["coder", "viewer"]), "what runs all the same is restarted"),
        (Case { survey: with_foo(), ..all(Restart) }, warning(&["coder"], FOO_IS_A_LINK), "what cannot be a profile is told"),
    ]);
}

#[test]
fn to_stop_or_unregister_all_is_about_every_slot() {
    let slots = |verb| Case {
        slots: &["viewer", "gone"],
        ..all(verb)
    };
    let three = ["coder", "gone", "viewer"];
    #[rustfmt::skip]
    choose_all([
        (slots(Stop), plainly(&three), "also what is wanted without a slot: it is to be stopped from now on"),
        (slots(Remove), plainly(&["gone", "viewer"]), "without a slot there is nothing to remove"),
        (all(Remove), plainly(&[]), "there are no slots"),
        (Case { command: Command::dashboard(), settings: Settings::never(), ..slots(Stop) }, plainly(&three), "what holds down does not keep from being stopped"),
        (Case { survey: Survey::default(), ..slots(Stop) }, plainly(&["gone", "viewer"]), "nor does a volume that could not be read"),
        (Case { survey: with_foo(), ..slots(Stop) }, warning(&three, FOO_IS_A_LINK), "what cannot be a profile is told"),
    ]);
}

#[test]
fn unless_stopped_leaves_out_what_its_operator_stopped_and_what_is_held_down() {
    let gently = |case| Case {
        unless_stopped: true,
        ..case
    };
    let held = |case| Case {
        command: Command::dashboard(),
        ..case
    };
    let coder_alone = Case {
        survey: Survey {
            profiles: [survey().profiles.remove_entry(&name("coder"))]
                .into_iter()
                .flatten()
                .collect(),
            ..survey()
        },
        ..all(Start)
    };
    let served = Case {
        settings: Settings::multiplex(),
        ..named(Start, &["default", "coder"])
    };
    let coder_runs = Case {
        slots: &["coder"],
        wanted_up: &["coder"],
        ..named(Start, &["coder"])
    };
    let coder_stays = "gateway-coder stays down here (role=dashboard)";
    let warned = Choice {
        warnings: vec![Warning::of(CODER_IS_SERVED.0, CODER_IS_SERVED.1)],
        ..leaving(&["default"], &["coder"], "multiplex")
    };
    #[rustfmt::skip]
    choose_all([
        (gently(named(Start, &["coder", "viewer", "writer"])), noting(&["coder", "viewer"], &[WRITER_STAYS]), "of whom nothing is said is not stopped"),
        (gently(named(Start, &["writer"])), noting(&[], &[WRITER_STAYS]), "nothing may be left"),
        (gently(held(named(Start, &["coder", "writer"]))), noting(&[], &[coder_stays, WRITER_STAYS]), "the operator's word says more than the container's"),
        (gently(all(Start)), noting(&["default", "coder", "viewer"], &[WRITER_STAYS]), "of all"),
        (gently(held(coder_runs)), plainly(&["coder"]), "of one that runs all the same it is not said that it stays down"),
        (gently(held(coder_alone)), noting(&[], &[coder_stays]), "what is left out already is not told twice"),
        (gently(served), warned, "who named it is told what is wrong, too"),
    ]);
}

#[test]
fn what_the_gateway_wrote_itself_is_not_its_operators_word() {
    let mut survey = survey();
    if let Some(viewer) = survey.profiles.get_mut(&name("viewer")) {
        viewer.intent = intent(br#"{"gateway_state":"stopped"}"#).unwrap_or_default();
        assert_ne!(viewer.intent, Intent::default());
    }
    #[rustfmt::skip]
    choose_all([
        (Case { unless_stopped: true, survey, ..named(Start, &["viewer"]) }, plainly(&["viewer"]), "it went down, and nobody has asked for that"),
    ]);
}
