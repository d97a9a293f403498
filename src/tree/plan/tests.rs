//! Decisions, one fact changed at a time.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::hermes::container::Gateway;
use crate::hermes::state::intent;
use crate::system::root::Root;

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

fn never() -> Settings {
    Settings {
        autostart: Some(false),
        ..settings()
    }
}

fn always() -> Settings {
    Settings {
        autostart: Some(true),
        ..settings()
    }
}

fn multiplex() -> Settings {
    Settings {
        multiplex: Some(true),
        ..settings()
    }
}

fn dashboard() -> Command {
    Command {
        other_role: Some("dashboard"),
        gateway: None,
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

fn name(text: &str) -> ProfileName {
    text.parse()
        .unwrap_or_else(|_| ProfileName::default_profile())
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
            own_port: None,
            stale: Vec::new(),
            log_directory: true,
            lock: None,
        };
        survey.profiles.insert(profile.name.clone(), profile);
    }
    survey.ports = survey.assigned_ports();
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

fn decide(survey: &Survey, world: &World) -> Plan {
    plan(&settings(), &Command::default(), survey, world, Scope::All)
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

#[test]
fn what_is_as_it_should_be_needs_nothing() {
    for (state, found, sentence) in [
        (RUNNING, up(), "to run, and up"),
        (STOPPED, down(), "stopped, and down"),
        (UNSAID, down(), "nothing said, and down"),
        (UNSAID, up(), "nothing said, and up"),
    ] {
        let plan = decide(&survey(state), &world(found));
        assert_eq!(plan, Plan::default(), "{sentence}");
        assert!(plan.is_empty(), "{sentence}");
    }
}

#[test]
fn a_new_slot_starts_or_stays_down_by_the_intent() {
    let start = happens(Action::Started, publish(false));
    let stay = happens(Action::Registered, publish(true));
    decide_all([
        (survey(RUNNING), World::default(), start.clone(), "to run"),
        (survey(STOPPED), World::default(), stay.clone(), "stopped"),
        (survey(UNSAID), World::default(), stay.clone(), "nothing"),
        (survey(RUNNING), bare(), start, "also in a live tree"),
        (survey(STOPPED), bare(), stay, "also there stopped"),
    ]);
}

#[test]
fn an_explicit_intent_moves_a_supervised_gateway_both_ways() {
    let marked = Found { down: true, ..up() };
    decide_all([
        (
            survey(RUNNING),
            world(down()),
            happens(Action::Started, [Step::Up, Step::UnmarkDown]),
            "to run, and registered down",
        ),
        (
            survey(RUNNING),
            world(marked.clone()),
            happens(Action::Started, [Step::Up, Step::UnmarkDown]),
            "the run before was killed between the two steps",
        ),
        (
            survey(STOPPED),
            world(up()),
            happens(Action::Stopped, [Step::MarkDown, Step::Down]),
            "stopped, and up",
        ),
        (
            survey(STOPPED),
            world(marked),
            happens(Action::Stopped, [Step::Down]),
            "stopped and registered down, and up",
        ),
        (
            survey(STOPPED),
            world(parked()),
            happens(Action::Registered, [Step::MarkDown]),
            "stopped and down, but not after the next start",
        ),
    ]);
}

#[test]
fn what_the_gateway_writes_itself_does_not_move_it_while_it_is_supervised() {
    for state in [
        "starting",
        "startup_failed",
        "stopped",
        "draining",
        "running",
    ] {
        let survey = survey(&format!(r#"{{"gateway_state":"{state}"}}"#));
        for (found, sentence) in [(up(), "up"), (down(), "down"), (parked(), "parked")] {
            let plan = decide(&survey, &world(found));
            assert_eq!(of(&plan, "coder"), None, "{state} and {sentence}");
        }
    }
}

#[test]
fn a_parked_gateway_stays_parked() {
    decide_all([(
        survey(RUNNING),
        world(parked()),
        None,
        "down without a down file: it failed, or s6-svc said so",
    )]);
}

#[test]
fn offline_the_down_file_follows_every_kind_of_intent() {
    let itself = |state: &str| survey(&format!(r#"{{"gateway_state":"{state}"}}"#));
    let marked = || Found {
        down: true,
        ..ours()
    };
    let unmark = happens(Action::Started, [Step::UnmarkDown]);
    let mark = happens(Action::Registered, [Step::MarkDown]);
    decide_all([
        (
            itself("draining"),
            offline(marked()),
            unmark.clone(),
            "it was killed while it ran",
        ),
        (
            itself("draining"),
            offline(ours()),
            None,
            "it starts anyway",
        ),
        (
            itself("startup_failed"),
            offline(ours()),
            mark.clone(),
            "it had failed to start",
        ),
        (
            itself("startup_failed"),
            offline(marked()),
            None,
            "it stays down anyway",
        ),
        (survey(RUNNING), offline(marked()), unmark, "to run"),
        (survey(STOPPED), offline(ours()), mark.clone(), "stopped"),
        (survey(UNSAID), offline(ours()), mark, "nothing said"),
    ]);
}

#[test]
fn what_an_earlier_tree_left_is_forgotten_and_told_as_a_new_boot() {
    let stale = || Found {
        stale: true,
        ..ours()
    };
    let marked = || Found {
        down: true,
        ..stale()
    };
    decide_all([
        (
            survey(RUNNING),
            offline(stale()),
            happens(Action::Started, [Step::Reset]),
            "it starts with the tree",
        ),
        (
            survey(RUNNING),
            offline(marked()),
            happens(Action::Started, [Step::Reset, Step::UnmarkDown]),
            "it was registered down",
        ),
        (
            survey(STOPPED),
            offline(marked()),
            happens(Action::Registered, [Step::Reset]),
            "it stays down",
        ),
        (
            survey(RUNNING),
            world(Found {
                stale: true,
                ..up()
            }),
            None,
            "a status with a supervisor is true",
        ),
    ]);
}

#[test]
fn outdated_files_and_debris_are_put_right_whatever_else_happens() {
    let worn = |found| Found {
        outdated: vec!["run"],
        debris: vec![".run.new".to_owned()],
        ..found
    };
    let sweep = || Step::Sweep(vec![".run.new".to_owned()]);
    let write = || Step::Write(vec!["run"]);
    decide_all([
        (
            survey(RUNNING),
            world(Found {
                debris: vec![".run.new".to_owned()],
                ..up()
            }),
            happens(Action::Updated, [sweep()]),
            "a killed run has left a file half written",
        ),
        (
            survey(RUNNING),
            world(Found {
                outdated: vec!["run"],
                ..up()
            }),
            happens(Action::Updated, [write()]),
            "a file is another one than it should be",
        ),
        (
            survey(RUNNING),
            world(worn(up())),
            happens(Action::Updated, [sweep(), write()]),
            "the room of the debris is free before anything is written",
        ),
        (
            survey(RUNNING),
            world(worn(down())),
            happens(
                Action::Started,
                [sweep(), write(), Step::Up, Step::UnmarkDown],
            ),
            "a gateway starts with the new files",
        ),
        (
            survey(STOPPED),
            world(worn(up())),
            happens(
                Action::Stopped,
                [sweep(), write(), Step::MarkDown, Step::Down],
            ),
            "one that is stopped gets them too",
        ),
        (
            survey(RUNNING),
            world(worn(parked())),
            happens(Action::Updated, [sweep(), write()]),
            "one that is parked stays parked",
        ),
        (
            survey(RUNNING),
            offline(worn(Found {
                stale: true,
                ..ours()
            })),
            happens(Action::Started, [Step::Reset, sweep(), write()]),
            "what an earlier tree left goes first",
        ),
        (
            survey(RUNNING),
            offline(worn(ours())),
            happens(Action::Updated, [sweep(), write()]),
            "without a status, it is no new boot",
        ),
        (
            survey(RUNNING),
            world(worn(ours())),
            because(
                Action::Started,
                "unsupervised",
                [Step::Remove, Step::Publish { down: false }],
            ),
            "a slot that is replaced has all files new",
        ),
    ]);
}

#[test]
fn a_slot_that_s6_svscan_does_not_know_is_replaced() {
    let replace = |down| [Step::Remove, Step::Publish { down }];
    decide_all([
        (
            survey(RUNNING),
            world(ours()),
            because(Action::Started, "unsupervised", replace(false)),
            "to run",
        ),
        (
            survey(STOPPED),
            world(ours()),
            because(Action::Registered, "unsupervised", replace(true)),
            "stopped",
        ),
        (
            survey(RUNNING),
            offline(ours()),
            None,
            "an s6-svscan that has yet to start will find it",
        ),
    ]);
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    decide_all([
        (
            survey(RUNNING),
            world(foreign()),
            because(Action::Skipped, "foreign-slot", []),
            "it is in the way of a slot",
        ),
        (
            survey(RUNNING),
            world(Found::default()),
            because(Action::Skipped, "foreign-slot", []),
            "also where nothing supervises it",
        ),
        (
            survey_of(&[]),
            world(foreign()),
            None,
            "it is not removed with the profile",
        ),
    ]);
}

#[test]
fn a_slot_goes_only_when_its_profile_is_surely_gone() {
    let gone = survey_of(&[]);
    decide_all([
        (
            gone.clone(),
            world(up()),
            because(Action::Removed, "profile-gone", [Step::Remove]),
            "the volume is read, and has no such profile",
        ),
        (
            gone.clone(),
            offline(ours()),
            because(Action::Removed, "profile-gone", [Step::Remove]),
            "also before the tree starts",
        ),
        (
            Survey {
                unknown: vec![name("coder")],
                ..gone.clone()
            },
            world(up()),
            None,
            "it is there and cannot be looked into",
        ),
        (
            Survey {
                complete: false,
                ..gone.clone()
            },
            world(up()),
            None,
            "the list of profiles is not complete",
        ),
        (
            Survey {
                record: Record::None,
                ..gone.clone()
            },
            world(up()),
            None,
            "the volume has never served any: it is another one",
        ),
        (gone.clone(), world(foreign()), None, "the slot is not ours"),
    ]);
    let other_volume = Survey {
        record: Record::None,
        ..gone
    };
    let plan = decide(&other_volume, &world(up()));
    assert_eq!(plan.changes[0].reason.as_deref(), Some("other-volume"));
    assert_eq!(plan.changes[0].profile, "profiles/", "it is told once");
    assert!(plan.is_empty(), "there is nothing to do about it");
    let first = decide(
        &Survey {
            record: Record::None,
            ..survey(RUNNING)
        },
        &bare(),
    );
    assert_eq!(
        of(&first, "coder"),
        happens(Action::Started, publish(false)),
        "a volume that has yet to serve one is no other volume"
    );
}

/// What happens to `coder`, which is to run and has no slot yet.
fn new_slot(settings: &Settings, command: &Command, survey: &Survey) -> Happens {
    let plan = plan(settings, command, survey, &World::default(), Scope::All);
    of(&plan, "coder")
}

#[test]
fn a_role_or_one_gateway_for_all_holds_down_and_says_why() {
    let held = |reason| because(Action::Registered, reason, publish(true));
    let started = || happens(Action::Started, publish(false));
    let plain = Command::default;
    for (settings, command, expected, sentence) in [
        (settings(), plain(), started(), "nothing holds it down"),
        (
            settings(),
            dashboard(),
            held("role=dashboard"),
            "the container is there for something else",
        ),
        (never(), plain(), held("autostart=never"), "switched off"),
        (
            never(),
            dashboard(),
            held("autostart=never"),
            "what was said goes before what was seen",
        ),
        (
            always(),
            dashboard(),
            started(),
            "switched on, whatever the container is there for",
        ),
        (multiplex(), plain(), held("multiplex"), "one serves all"),
        (
            Settings {
                multiplex: Some(true),
                ..always()
            },
            plain(),
            held("multiplex"),
            "which nothing else overrides: it would end at once",
        ),
    ] {
        let found = new_slot(&settings, &command, &survey(RUNNING));
        assert_eq!(found, expected, "{sentence}");
    }
    let unwanted = new_slot(&settings(), &dashboard(), &survey(STOPPED));
    let registered = happens(Action::Registered, publish(true));
    assert_eq!(unwanted, registered, "what is stopped is not held");
}

#[test]
fn one_gateway_for_all_is_what_the_gateway_itself_would_read() {
    // The default profile's .env, our environment, its config.yaml; then whether one serves all.
    for (env_file, environment, config, expected, sentence) in [
        (None, None, None, false, "nowhere"),
        (None, None, Some(true), true, "config.yaml"),
        (None, Some(true), None, true, "the environment"),
        (
            None,
            Some(false),
            Some(true),
            false,
            "the environment goes before config.yaml",
        ),
        (Some(true), None, None, true, ".env"),
        (
            Some(false),
            Some(true),
            Some(true),
            false,
            ".env goes before both",
        ),
        (Some(true), Some(false), Some(false), true, "both ways"),
    ] {
        let survey = Survey {
            multiplex_in_env_file: env_file,
            multiplex_in_config: config,
            ..survey(RUNNING)
        };
        let settings = Settings {
            multiplex: environment,
            ..settings()
        };
        let held = |profile| held(&settings, &Command::default(), &survey, &name(profile));
        let why = expected.then(|| "multiplex".to_owned());
        assert_eq!(held("coder"), why, "{sentence}");
        assert_eq!(held("default"), None, "it is the one that serves");
    }
}

#[test]
fn a_gateway_that_the_container_itself_runs_is_not_started_beside_it() {
    let environment = || Settings {
        no_supervise: true,
        ..settings()
    };
    let home = || Settings {
        home_profile: Some(name("coder")),
        ..settings()
    };
    for (settings, command, is_held, sentence) in [
        (
            settings(),
            gateway_run(Some("coder"), false),
            true,
            "--no-supervise",
        ),
        (
            environment(),
            gateway_run(Some("coder"), true),
            true,
            "HERMES_GATEWAY_NO_SUPERVISE",
        ),
        (
            always(),
            gateway_run(Some("coder"), false),
            true,
            "also where everything is switched on",
        ),
        (
            settings(),
            gateway_run(Some("coder"), true),
            false,
            "it is left to us",
        ),
        (
            settings(),
            gateway_run(Some("other"), false),
            false,
            "it is another one",
        ),
        (
            settings(),
            gateway_run(None, false),
            false,
            "none is named: the default one is meant",
        ),
        (
            home(),
            gateway_run(None, false),
            true,
            "none is named: that of HERMES_HOME is meant",
        ),
    ] {
        let expected = if is_held {
            because(Action::Registered, "command=gateway-run", publish(true))
        } else {
            happens(Action::Started, publish(false))
        };
        let found = new_slot(&settings, &command, &survey(RUNNING));
        assert_eq!(found, expected, "{sentence}");
    }
}

#[test]
fn a_held_profile_that_runs_is_not_stopped_for_that() {
    let (survey, world) = (survey(RUNNING), world(up()));
    let plan = plan(&settings(), &dashboard(), &survey, &world, Scope::All);
    assert_eq!(plan.changes, []);
}

#[test]
fn the_default_profile_is_seeded_at_boot_where_it_has_no_state_at_all() {
    let bootstrap = || Settings {
        bootstrap: true,
        ..settings()
    };
    let run = || gateway_run(Some("default"), true);
    let boot = World::default;
    let with_state = with(survey(UNSAID), "default", |default| {
        default.stateless = false;
    });
    for (settings, command, survey, world, seed, sentence) in [
        (
            settings(),
            Command::default(),
            survey(UNSAID),
            boot(),
            None,
            "not unasked",
        ),
        (
            settings(),
            run(),
            survey(UNSAID),
            boot(),
            Some(Seed::GatewayRun),
            "by the container's command",
        ),
        (
            bootstrap(),
            Command::default(),
            survey(UNSAID),
            boot(),
            Some(Seed::Bootstrap),
            "by the environment",
        ),
        (
            bootstrap(),
            run(),
            survey(UNSAID),
            boot(),
            Some(Seed::GatewayRun),
            "the command goes first",
        ),
        (
            settings(),
            gateway_run(Some("default"), false),
            survey(UNSAID),
            boot(),
            None,
            "not where the command is the gateway itself",
        ),
        (
            settings(),
            gateway_run(Some("coder"), true),
            survey(UNSAID),
            boot(),
            None,
            "not by a command about another profile",
        ),
        (
            settings(),
            run(),
            survey(UNSAID),
            world(up()),
            None,
            "not on a live tree",
        ),
        (
            bootstrap(),
            run(),
            with_state,
            boot(),
            None,
            "not over a file, whatever is in it",
        ),
    ] {
        let plan = plan(&settings, &command, &survey, &world, Scope::All);
        assert_eq!(plan.volume.seed, seed, "{sentence}");
        let is_up = of(&plan, "default") == happens(Action::Started, publish(false));
        assert_eq!(is_up, seed.is_some(), "{sentence}: it starts at once");
    }
}

#[test]
fn leftovers_of_a_killed_gateway_go_at_boot_where_no_supervisor_has_one() {
    let survey = with(survey(RUNNING), "coder", |coder| {
        coder.stale = vec!["gateway.pid".to_owned(), "processes.json".to_owned()];
    });
    let file = |file: &str| (name("coder"), file.to_owned());
    let both = vec![file("gateway.pid"), file("processes.json")];
    for (world, removed, sentence) in [
        (World::default(), both.clone(), "the first start"),
        (offline(ours()), both, "a later one"),
        (world(up()), Vec::new(), "live"),
        (
            offline(up()),
            Vec::new(),
            "its s6-svscan was killed, it was not",
        ),
    ] {
        let plan = decide(&survey, &world);
        assert_eq!(plan.volume.remove, removed, "{sentence}");
    }
}

#[test]
fn ports_and_log_directories_go_onto_the_volume_where_they_are_not_there() {
    let ports = survey(RUNNING).assigned_ports();
    let recorded = |record| Survey {
        record,
        ..survey(RUNNING)
    };
    for (survey, changes, sentence) in [
        (survey(RUNNING), VolumeChanges::default(), "all is there"),
        (
            Survey {
                ports: Ports::new(),
                record: Record::None,
                ..survey(RUNNING)
            },
            VolumeChanges {
                ports: Some(ports.clone()),
                ..VolumeChanges::default()
            },
            "a new profile has its port remembered",
        ),
        (
            recorded(Record::Outdated),
            VolumeChanges {
                ports: Some(ports),
                ..VolumeChanges::default()
            },
            "names that are gone are forgotten",
        ),
        (
            with(survey(RUNNING), "coder", |coder| {
                coder.log_directory = false;
            }),
            VolumeChanges {
                log_directories: vec![name("coder")],
                ..VolumeChanges::default()
            },
            "a log needs its directory",
        ),
    ] {
        let plan = decide(&survey, &world(up()));
        assert_eq!(plan.volume, changes, "{sentence}");
        assert_eq!(plan.changes, [], "{sentence}: the slots stay as they are");
        let is_nothing = changes == VolumeChanges::default();
        assert_eq!(plan.is_empty(), is_nothing, "{sentence}: it is to be done");
    }
}

#[test]
fn where_the_room_ends_those_that_are_to_run_have_it_and_then_the_first_names() {
    let three = || survey_of(&[("coder", RUNNING), ("writer", STOPPED)]);
    let room = |room, world| World {
        room: Some(room),
        ..world
    };
    let (skipped, started, registered) = (Action::Skipped, Action::Started, Action::Registered);
    for (survey, world, told, sentence) in [
        (
            survey(RUNNING),
            room(1, bare()),
            vec![("default", skipped), ("coder", started)],
            "one is to run",
        ),
        (
            survey(STOPPED),
            room(1, bare()),
            vec![("default", registered), ("coder", skipped)],
            "none is: the first name",
        ),
        (
            three(),
            room(2, bare()),
            vec![
                ("default", registered),
                ("coder", started),
                ("writer", skipped),
            ],
            "one is, and then the first name",
        ),
        (
            three(),
            room(2, world(up())),
            vec![("writer", skipped)],
            "who has a slot keeps it",
        ),
        (
            three(),
            room(3, world(up())),
            vec![("writer", registered)],
            "there is room for one more",
        ),
        (
            three(),
            room(1, world(up())),
            vec![("writer", skipped)],
            "there are more slots already than there is room for",
        ),
        (
            survey_of(&[("writer", RUNNING)]),
            room(2, world(up())),
            vec![("coder", Action::Removed), ("writer", started)],
            "a slot that is removed makes room",
        ),
        (
            survey_of(&[("writer", RUNNING)]),
            room(2, world(foreign())),
            vec![("writer", started)],
            "what is not ours is counted by who gives the room",
        ),
    ] {
        let plan = decide(&survey, &world);
        assert_eq!(actions(&plan), told, "{sentence}");
        let skipped = plan.changes.iter().filter(|it| it.action == skipped);
        for change in skipped {
            assert_eq!(change.reason.as_deref(), Some("capacity"), "{sentence}");
        }
    }
    let other_volume = Survey {
        record: Record::None,
        ..survey_of(&[("writer", RUNNING)])
    };
    let plan = decide(&other_volume, &room(2, world(up())));
    assert_eq!(
        of(&plan, "writer"),
        because(Action::Skipped, "capacity", []),
        "a slot that would go on another volume, and stays, makes no room"
    );
}

#[test]
fn two_profiles_with_one_port_are_told() {
    let both = || survey_of(&[("coder", RUNNING), ("writer", STOPPED)]);
    let given = both().ports;
    let sets =
        |survey, profile, port| with(survey, profile, |profile| profile.own_port = Some(port));
    for (survey, told, sentence) in [
        (both(), Vec::new(), "each has its own"),
        (
            sets(both(), "default", given[&name("coder")]),
            vec!["coder"],
            "who sets a port means it; the other was given the same one before",
        ),
        (
            sets(both(), "writer", given[&name("coder")]),
            vec!["coder"],
            "also where its name comes later",
        ),
        (
            sets(sets(both(), "coder", 7), "writer", 7),
            vec!["writer"],
            "both set it: the first name has it",
        ),
        (
            sets(
                sets(both(), "default", given[&name("coder")]),
                "writer",
                given[&name("coder")],
            ),
            vec!["coder", "writer"],
            "three have one",
        ),
    ] {
        let conflicts = conflicts(&survey, &survey.assigned_ports());
        let found: Vec<&str> = conflicts.keys().map(ProfileName::as_str).collect();
        assert_eq!(found, told, "{sentence}");
    }
    let survey = sets(survey(RUNNING), "default", given[&name("coder")]);
    let plan = decide(&survey, &world(up()));
    assert_eq!(
        of(&plan, "coder"),
        because(Action::Unchanged, "port-conflict", [])
    );
    assert_eq!(actions(&plan), [("coder", Action::Unchanged)], "only it");
}

#[test]
fn a_problem_is_told_each_time_and_changes_nothing_by_itself() {
    let mut survey = with(survey(UNSAID), "coder", |coder| {
        coder.problem = Some(problem());
    });
    survey.skipped.push(Skipped {
        name: "Foo".to_owned(),
        problem: problem(),
    });
    let plan = decide(&survey, &world(up()));
    assert_eq!(
        actions(&plan),
        [("coder", Action::Unchanged), ("Foo", Action::Skipped)]
    );
    for change in &plan.changes {
        assert_eq!(change.reason.as_deref(), Some("state-not-json"));
        assert_eq!(change.warning.as_deref(), Some("why"));
    }
    assert!(plan.is_empty());
    let plan = decide(&survey, &bare());
    let registered = because(Action::Registered, "state-not-json", publish(true));
    assert_eq!(of(&plan, "coder"), registered, "it gets its slot");
}

/// The plan that registers these profiles.
fn register(survey: &Survey, world: &World, profiles: &[&str]) -> Plan {
    let names = names(profiles);
    let scope = Scope::Register(&names);
    plan(&settings(), &Command::default(), survey, world, scope)
}

/// A volume on which everything is to be done: a seed, leftovers, ports, log directories.
fn untouched() -> Survey {
    let mut survey = survey_of(&[("coder", RUNNING), ("writer", RUNNING)]);
    for profile in survey.profiles.values_mut() {
        profile.log_directory = false;
        profile.stale = vec!["gateway.pid".to_owned()];
    }
    survey.ports = Ports::new();
    survey.record = Record::None;
    survey
}

#[test]
fn to_register_gives_a_slot_to_those_that_are_named_and_have_none() {
    let registered = || because(Action::Registered, "", publish(true));
    let skipped = |reason| because(Action::Skipped, reason, []);
    let worn = Found {
        outdated: vec!["run"],
        debris: vec![".run.new".to_owned()],
        ..down()
    };
    let room = |room, world| World {
        room: Some(room),
        ..world
    };
    for (survey, world, expected, sentence) in [
        (survey(RUNNING), bare(), registered(), "to run: down"),
        (survey(STOPPED), bare(), registered(), "stopped: down"),
        (survey(UNSAID), bare(), registered(), "nothing said: down"),
        (survey(RUNNING), world(up()), None, "it has one"),
        (survey(STOPPED), world(up()), None, "it is not stopped"),
        (survey(RUNNING), world(down()), None, "it is not started"),
        (survey(RUNNING), world(worn), None, "nor put right"),
        (
            survey(RUNNING),
            offline(ours()),
            None,
            "nor is its down file changed before the tree starts",
        ),
        (
            survey(RUNNING),
            world(ours()),
            because(
                Action::Registered,
                "unsupervised",
                [Step::Remove, Step::Publish { down: true }],
            ),
            "one that s6-svscan has missed is no slot",
        ),
        (
            survey(RUNNING),
            world(foreign()),
            skipped("foreign-slot"),
            "its place is taken",
        ),
        (
            survey(RUNNING),
            room(0, bare()),
            skipped("capacity"),
            "there is no room",
        ),
        (
            survey(RUNNING),
            room(1, bare()),
            registered(),
            "the others need no room",
        ),
        (
            with(survey(UNSAID), "coder", |coder| {
                coder.problem = Some(problem());
            }),
            bare(),
            because(Action::Registered, "state-not-json", publish(true)),
            "what is wrong with it is told",
        ),
        (
            with(survey(UNSAID), "coder", |coder| {
                coder.problem = Some(problem());
            }),
            world(up()),
            None,
            "but not of one that has a slot",
        ),
        (survey_of(&[]), bare(), None, "it is not on the volume"),
    ] {
        let plan = register(&survey, &world, &["coder"]);
        assert_eq!(of(&plan, "coder"), expected, "{sentence}");
        let others = plan.changes.len() - usize::from(expected.is_some());
        assert_eq!(others, 0, "{sentence}: nothing happens to others");
    }
}

#[test]
fn to_register_one_changes_nothing_of_the_others() {
    let gone = survey_of(&[("writer", STOPPED)]);
    let full = World {
        room: Some(2),
        ..world(up())
    };
    let mut survey = survey_of(&[("coder", STOPPED), ("writer", STOPPED)]);
    survey.skipped.push(Skipped {
        name: "Foo".to_owned(),
        problem: problem(),
    });
    for (plan, told, sentence) in [
        (
            register(&survey, &world(up()), &["writer"]),
            vec![("writer", Action::Registered)],
            "one that should be down stays up, and what is skipped is not told",
        ),
        (
            register(&gone, &world(up()), &["writer"]),
            vec![("writer", Action::Registered)],
            "the slot of a profile that is gone stays",
        ),
        (
            register(&gone, &world(up()), &["coder", "writer"]),
            vec![("writer", Action::Registered)],
            "also where that is named",
        ),
        (
            register(&gone, &full, &["writer"]),
            vec![("writer", Action::Skipped)],
            "and so it makes no room",
        ),
        (
            register(&survey, &bare(), &["coder", "writer"]),
            vec![
                ("coder", Action::Registered),
                ("writer", Action::Registered),
            ],
            "several can be named",
        ),
        (
            register(
                &survey,
                &World {
                    room: Some(1),
                    ..bare()
                },
                &["coder", "writer"],
            ),
            vec![("coder", Action::Registered), ("writer", Action::Skipped)],
            "where the room ends, the first names have it",
        ),
        (register(&survey, &bare(), &[]), Vec::new(), "none is named"),
    ] {
        assert_eq!(actions(&plan), told, "{sentence}");
    }
}

#[test]
fn to_register_writes_of_the_volume_what_the_slots_need() {
    let survey = untouched();
    let bootstrap = Settings {
        bootstrap: true,
        ..settings()
    };
    let names = names(&["coder"]);
    for (world, sentence) in [(bare(), "live"), (World::default(), "at boot")] {
        let scope = Scope::Register(&names);
        let plan = plan(&bootstrap, &Command::default(), &survey, &world, scope);
        let expected = VolumeChanges {
            log_directories: vec![name("coder")],
            // With the ports of the others, so that each keeps its own.
            ports: Some(survey.assigned_ports()),
            ..VolumeChanges::default()
        };
        assert_eq!(plan.volume, expected, "{sentence}: no seed, no leftovers");
    }
    assert_eq!(survey.assigned_ports().len(), 2, "coder and writer");
}

#[test]
fn a_plan_for_some_is_the_plan_for_all_without_the_other_profiles() {
    let survey = || survey_of(&[("coder", STOPPED), ("writer", RUNNING)]);
    let (stopped, started) = (Action::Stopped, Action::Started);
    for (only, survey, world, told, sentence) in [
        (
            &["coder"][..],
            survey(),
            world(up()),
            vec![("coder", stopped)],
            "the other gets no slot",
        ),
        (
            &["writer"],
            survey(),
            world(up()),
            vec![("writer", started)],
            "the other is not stopped",
        ),
        (
            &["coder", "writer"],
            survey(),
            world(up()),
            vec![("coder", stopped), ("writer", started)],
            "both are named",
        ),
        (
            &["coder"],
            survey_of(&[("writer", RUNNING)]),
            world(up()),
            vec![("coder", Action::Removed)],
            "a slot is removed where its profile is named",
        ),
        (
            &["writer"],
            survey_of(&[("writer", RUNNING)]),
            world(up()),
            vec![("writer", started)],
            "and no other one",
        ),
        (
            &["coder"],
            Survey {
                record: Record::None,
                ..survey_of(&[])
            },
            world(up()),
            Vec::new(),
            "nothing is told that is about no profile",
        ),
        (
            &["coder"],
            Survey {
                skipped: vec![Skipped {
                    name: "coder".to_owned(),
                    problem: problem(),
                }],
                unknown: vec![name("coder")],
                ..survey_of(&[])
            },
            world(up()),
            Vec::new(),
            "nor what is skipped",
        ),
        (
            &["coder"],
            survey(),
            World {
                room: Some(1),
                ..bare()
            },
            vec![("coder", Action::Skipped)],
            "the room is for another one, which is to run",
        ),
        (
            &["writer"],
            survey(),
            World {
                room: Some(1),
                ..bare()
            },
            vec![("writer", started)],
            "and that gets it",
        ),
    ] {
        let names = names(only);
        let scope = Scope::Only(&names);
        let plan = plan(&settings(), &Command::default(), &survey, &world, scope);
        assert_eq!(actions(&plan), told, "{sentence}");
    }
}

#[test]
fn a_change_is_one_line_whose_values_end_where_they_seem_to() {
    let change = |profile: &str, state: Option<&str>, reason: Option<&str>| Change {
        profile: profile.to_owned(),
        name: None,
        prior_state: state.map(str::to_owned),
        action: Action::Skipped,
        reason: reason.map(str::to_owned),
        warning: Some("which is not in it".to_owned()),
        steps: vec![Step::Up],
    };
    for (change, line, sentence) in [
        (
            change("coder", None, None),
            "profile=coder prior_state=None action=skipped",
            "no state, no reason",
        ),
        (
            change("my_bot-2", Some("running"), Some("role=dashboard")),
            "profile=my_bot-2 prior_state=running action=skipped reason=role=dashboard",
            "plain words stand as they are",
        ),
        (
            change("mmm.bak", Some(""), None),
            r#"profile=mmm.bak prior_state="" action=skipped"#,
            "an empty state is not no state",
        ),
        (
            change("a b", Some("x action=started"), Some("why not")),
            r#"profile="a b" prior_state="x action=started" action=skipped reason="why not""#,
            "a space does not end a value",
        ),
        (
            change("coder", Some(r#"x" action="started"#), None),
            r#"profile=coder prior_state="x\" action=\"started" action=skipped"#,
            "nor does a quote",
        ),
        (
            change(
                "coder",
                Some("x\nprofile=writer\r\t\0\u{1b}[2J\u{85}"),
                None,
            ),
            r#"profile=coder prior_state="x\nprofile=writer\r\t\u{0}\u{1b}[2J\u{85}" action=skipped"#,
            "a control character ends neither the value nor the line",
        ),
        (
            change("é/ö", None, None),
            r#"profile="é/ö" prior_state=None action=skipped"#,
            "other letters can be read",
        ),
        (
            change("a\\nb", None, None),
            r#"profile="a\nb" prior_state=None action=skipped"#,
            "a name that was made printable before is not escaped twice",
        ),
    ] {
        assert_eq!(change.to_string(), line, "{sentence}");
    }
    let words = [
        (Action::Started, "started"),
        (Action::Registered, "registered"),
        (Action::Updated, "updated"),
        (Action::Stopped, "stopped"),
        (Action::Removed, "removed"),
        (Action::Skipped, "skipped"),
        (Action::Unchanged, "unchanged"),
        (Action::Failed, "failed"),
    ];
    for (action, word) in words {
        let change = Change::new(&name("coder"), None, action);
        let line = format!("profile=coder prior_state=None action={word}");
        assert_eq!(change.to_string(), line);
    }
}
