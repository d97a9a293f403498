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

fn name(text: &str) -> ProfileName {
    text.parse()
        .unwrap_or_else(|_| ProfileName::default_profile())
}

fn gateway(profile: &str, supervised: bool) -> Gateway {
    Gateway {
        profile: Some(name(profile)),
        supervised,
    }
}

/// A volume with `default`, which has no state, and a profile with the given content of its state file.
fn survey(state: &str) -> Survey {
    let mut survey = Survey {
        complete: true,
        ..Survey::default()
    };
    for (profile, intent) in [
        ("default", Intent::default()),
        ("coder", intent(state.as_bytes()).unwrap_or_default()),
    ] {
        let profile = Profile {
            stateless: profile == "default",
            name: name(profile),
            intent,
            problem: None,
            own_port: None,
            stale: Vec::new(),
            log_directory: true,
            lock: None,
        };
        survey.profiles.insert(profile.name.clone(), profile);
    }
    survey.ports = survey.assigned_ports();
    survey.record = Record::Current;
    survey
}

const RUNNING: &str = r#"{"desired_state":"running"}"#;
const STOPPED: &str = r#"{"desired_state":"stopped"}"#;

/// A live tree in which both profiles have their slot; `default` is down.
fn world(coder: Found) -> World {
    let default = Found {
        ours: true,
        supervised: true,
        down: true,
        ..Found::default()
    };
    World {
        slots: BTreeMap::from([(name("default"), default), (name("coder"), coder)]),
        watched: true,
        live: true,
        room: None,
    }
}

fn up() -> Found {
    Found {
        ours: true,
        supervised: true,
        up: true,
        ..Found::default()
    }
}

fn decide(survey: &Survey, world: &World) -> Plan {
    plan(&settings(), &Command::default(), survey, world, Scope::All)
}

/// What happens to `coder`.
fn coder(survey: &Survey, world: &World) -> Option<(Action, Vec<Step>)> {
    let changes = decide(survey, world).changes;
    let change = changes.into_iter().find(|change| change.profile == "coder");
    change.map(|change| (change.action, change.steps))
}

#[test]
fn what_is_as_it_should_be_needs_nothing() {
    assert_eq!(decide(&survey(RUNNING), &world(up())), Plan::default());
    let down = Found {
        up: false,
        down: true,
        ..up()
    };
    assert_eq!(decide(&survey(STOPPED), &world(down)), Plan::default());
}

#[test]
fn a_new_slot_starts_or_stays_down_by_the_intent() {
    let empty = World::default();
    let publish = |down| vec![Step::Publish { down }];
    assert_eq!(
        coder(&survey(RUNNING), &empty),
        Some((Action::Started, publish(false)))
    );
    assert_eq!(
        coder(&survey(STOPPED), &empty),
        Some((Action::Registered, publish(true)))
    );
    assert_eq!(
        coder(&survey("{}"), &empty),
        Some((Action::Registered, publish(true)))
    );
}

#[test]
fn an_explicit_intent_moves_a_supervised_gateway_both_ways() {
    let down = Found {
        up: false,
        down: true,
        ..up()
    };
    let start = vec![Step::Up, Step::UnmarkDown];
    assert_eq!(
        coder(&survey(RUNNING), &world(down)),
        Some((Action::Started, start))
    );
    let stop = vec![Step::MarkDown, Step::Down];
    assert_eq!(
        coder(&survey(STOPPED), &world(up())),
        Some((Action::Stopped, stop))
    );
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
        assert_eq!(coder(&survey, &world(up())), None, "{state} and up");
        let down = Found {
            up: false,
            down: true,
            ..up()
        };
        assert_eq!(coder(&survey, &world(down)), None, "{state} and down");
    }
}

#[test]
fn a_parked_gateway_stays_parked() {
    let parked = Found { up: false, ..up() };
    assert_eq!(coder(&survey(RUNNING), &world(parked)), None);
}

#[test]
fn offline_the_down_file_follows_every_kind_of_intent() {
    let offline = |down| World {
        watched: false,
        live: false,
        ..world(Found {
            ours: true,
            down,
            ..Found::default()
        })
    };
    let draining = survey(r#"{"gateway_state":"draining"}"#);
    assert_eq!(
        coder(&draining, &offline(true)),
        Some((Action::Started, vec![Step::UnmarkDown]))
    );
    assert_eq!(coder(&draining, &offline(false)), None);
    let failed = survey(r#"{"gateway_state":"startup_failed"}"#);
    assert_eq!(
        coder(&failed, &offline(false)),
        Some((Action::Registered, vec![Step::MarkDown]))
    );
}

#[test]
fn what_an_earlier_tree_left_is_forgotten_and_told_as_a_new_boot() {
    let stale = Found {
        ours: true,
        stale: true,
        ..Found::default()
    };
    let offline = World {
        watched: false,
        live: false,
        ..world(stale)
    };
    assert_eq!(
        coder(&survey(RUNNING), &offline),
        Some((Action::Started, vec![Step::Reset]))
    );
}

#[test]
fn a_slot_that_s6_svscan_does_not_know_is_replaced() {
    let missed = Found {
        ours: true,
        ..Found::default()
    };
    let steps = vec![Step::Remove, Step::Publish { down: false }];
    assert_eq!(
        coder(&survey(RUNNING), &world(missed)),
        Some((Action::Started, steps))
    );
}

#[test]
fn a_slot_goes_only_when_its_profile_is_surely_gone() {
    let mut gone = survey(RUNNING);
    gone.profiles.remove(&name("coder"));
    assert_eq!(
        coder(&gone, &world(up())),
        Some((Action::Removed, vec![Step::Remove]))
    );
    let unknown = Survey {
        unknown: vec![name("coder")],
        ..gone.clone()
    };
    assert_eq!(coder(&unknown, &world(up())), None);
    let incomplete = Survey {
        complete: false,
        ..gone.clone()
    };
    assert_eq!(coder(&incomplete, &world(up())), None);
    let other_volume = Survey {
        record: Record::None,
        ..gone.clone()
    };
    assert_eq!(coder(&other_volume, &world(up())), None);
    let plan = decide(&other_volume, &world(up()));
    assert_eq!(plan.changes[0].reason.as_deref(), Some("other-volume"));
    let foreign = Found {
        ours: false,
        ..up()
    };
    assert_eq!(coder(&gone, &world(foreign)), None);
}

#[test]
fn a_role_or_one_gateway_for_all_holds_down_and_says_why() {
    let reason = |settings: &Settings, command: &Command| {
        let plan = plan(
            settings,
            command,
            &survey(RUNNING),
            &World::default(),
            Scope::All,
        );
        let change = plan
            .changes
            .into_iter()
            .find(|change| change.profile == "coder");
        change.map(|change| (change.action, change.reason.unwrap_or_default()))
    };
    let dashboard = Command {
        other_role: Some("dashboard"),
        gateway: None,
    };
    let held = |reason: &str| Some((Action::Registered, reason.to_owned()));
    assert_eq!(reason(&settings(), &dashboard), held("role=dashboard"));
    let never = Settings {
        autostart: Some(false),
        ..settings()
    };
    assert_eq!(reason(&never, &Command::default()), held("autostart=never"));
    let multiplex = Settings {
        multiplex: Some(true),
        ..settings()
    };
    assert_eq!(reason(&multiplex, &Command::default()), held("multiplex"));
    let always = Settings {
        autostart: Some(true),
        ..settings()
    };
    assert_eq!(
        reason(&always, &dashboard),
        Some((Action::Started, String::new()))
    );
}

#[test]
fn a_gateway_that_the_container_itself_runs_is_not_started_beside_it() {
    let actions = |settings: &Settings, gateway: Gateway| {
        let command = Command {
            gateway: Some(gateway),
            ..Command::default()
        };
        let plan = plan(
            settings,
            &command,
            &survey(RUNNING),
            &World::default(),
            Scope::All,
        );
        let change = plan
            .changes
            .into_iter()
            .find(|change| change.profile == "coder");
        change.map(|change| (change.action, change.reason.unwrap_or_default()))
    };
    let held = Some((Action::Registered, "command=gateway-run".to_owned()));
    let started = Some((Action::Started, String::new()));
    let environment = Settings {
        no_supervise: true,
        ..settings()
    };
    let always = Settings {
        autostart: Some(true),
        ..settings()
    };
    assert_eq!(actions(&settings(), gateway("coder", false)), held);
    assert_eq!(actions(&environment, gateway("coder", true)), held);
    assert_eq!(actions(&always, gateway("coder", false)), held);
    assert_eq!(actions(&settings(), gateway("coder", true)), started);
    assert_eq!(actions(&settings(), gateway("other", false)), started);
    let unnamed = Gateway {
        profile: None,
        supervised: false,
    };
    assert_eq!(actions(&settings(), unnamed.clone()), started);
    let home = Settings {
        home_profile: Some(name("coder")),
        ..settings()
    };
    assert_eq!(actions(&home, unnamed), held);
}

#[test]
fn a_held_profile_that_runs_is_not_stopped_for_that() {
    let dashboard = Command {
        other_role: Some("dashboard"),
        gateway: None,
    };
    let plan = plan(
        &settings(),
        &dashboard,
        &survey(RUNNING),
        &world(up()),
        Scope::All,
    );
    assert_eq!(plan.changes, []);
}

#[test]
fn the_default_profile_is_seeded_at_boot_where_it_has_no_state_at_all() {
    let run = Command {
        other_role: None,
        gateway: Some(gateway("default", true)),
    };
    let seed = |survey: &Survey, world: &World| {
        plan(&settings(), &run, survey, world, Scope::All)
            .volume
            .seed
    };
    assert_eq!(
        seed(&survey("{}"), &World::default()),
        Some(Seed::GatewayRun)
    );
    assert_eq!(
        seed(&survey("{}"), &world(up())),
        None,
        "not on a live tree"
    );
    let mut broken = survey("{}");
    if let Some(default) = broken.profiles.get_mut(&name("default")) {
        default.stateless = false;
    }
    assert_eq!(
        seed(&broken, &World::default()),
        None,
        "not over a file, whatever is in it"
    );
}

#[test]
fn leftovers_of_a_killed_gateway_go_at_boot_where_no_supervisor_has_one() {
    let mut survey = survey(RUNNING);
    if let Some(coder) = survey.profiles.get_mut(&name("coder")) {
        coder.stale = vec!["gateway.pid".to_owned()];
    }
    let removed = |world: &World| decide(&survey, world).volume.remove.len();
    assert_eq!(removed(&World::default()), 1);
    assert_eq!(removed(&world(up())), 0, "live");
    let orphaned = World {
        watched: false,
        live: false,
        ..world(up())
    };
    assert_eq!(
        removed(&orphaned),
        0,
        "its s6-svscan was killed, it was not"
    );
}

#[test]
fn where_the_room_ends_those_that_are_to_run_have_it_and_then_the_first_names() {
    let told = |state: &str| -> Vec<(String, Action)> {
        let world = World {
            watched: true,
            live: true,
            room: Some(1),
            ..World::default()
        };
        let changes = decide(&survey(state), &world).changes;
        changes
            .into_iter()
            .map(|change| (change.profile, change.action))
            .collect()
    };
    let both = |default, coder| vec![("default".to_owned(), default), ("coder".to_owned(), coder)];
    assert_eq!(told(RUNNING), both(Action::Skipped, Action::Started));
    assert_eq!(told(STOPPED), both(Action::Registered, Action::Skipped));
}

#[test]
fn two_profiles_with_one_port_are_told() {
    let mut survey = survey(RUNNING);
    let port = survey.ports[&name("coder")];
    if let Some(default) = survey.profiles.get_mut(&name("default")) {
        default.own_port = Some(port);
    }
    let changes = decide(&survey, &world(up())).changes;
    let told: Vec<_> = changes
        .iter()
        .map(|change| (change.profile.as_str(), change.reason.as_deref()))
        .collect();
    assert_eq!(told, [("coder", Some("port-conflict"))]);
}

#[test]
fn a_problem_is_told_each_time_and_changes_nothing_by_itself() {
    let problem = Problem {
        reason: "state-not-json".to_owned(),
        text: "why".to_owned(),
    };
    let mut survey = survey("{}");
    if let Some(coder) = survey.profiles.get_mut(&name("coder")) {
        coder.problem = Some(problem.clone());
    }
    survey.skipped.push(Skipped {
        name: "Foo".to_owned(),
        problem,
    });
    let plan = decide(&survey, &world(up()));
    let told: Vec<_> = plan
        .changes
        .iter()
        .map(|change| (change.profile.as_str(), change.action))
        .collect();
    assert_eq!(
        told,
        [("coder", Action::Unchanged), ("Foo", Action::Skipped)]
    );
    assert!(plan.is_empty());
}
