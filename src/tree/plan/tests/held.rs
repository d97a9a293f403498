//! What this container holds down, although it is to run.

use super::*;

/// What happens to `coder`, which is to run and has no slot yet.
fn new_slot(settings: &Settings, command: &Command, survey: &Survey) -> Happens {
    let plan = plan(settings, command, survey, &World::default(), Scope::All);
    of(&plan, "coder")
}

#[test]
fn a_role_or_one_gateway_for_all_holds_down_and_says_why() {
    let held = |reason| because(Action::Registered, reason, publish(true));
    let started = || happens(Action::Started, publish(false));
    let (settings, plain) = (Settings::example, Command::default);
    #[rustfmt::skip]
    let rows = [
        (settings(), plain(), started(), "nothing holds it down"),
        (settings(), Command::dashboard(), held("role=dashboard"), "the container is there for something else"),
        (Settings::never(), plain(), held("autostart=never"), "switched off"),
        (Settings::never(), Command::dashboard(), held("autostart=never"), "what was said goes before what was seen"),
        (Settings::always(), Command::dashboard(), started(), "switched on, whatever the container is there for"),
        (Settings::multiplex(), plain(), held("multiplex"), "one serves all"),
        (Settings { multiplex: Some(true), ..Settings::always() }, plain(), held("multiplex"), "which nothing else overrides: it would end at once"),
    ];
    for (settings, command, expected, sentence) in rows {
        let found = new_slot(&settings, &command, &survey(RUNNING));
        assert_eq!(found, expected, "{sentence}");
    }
    let unwanted = new_slot(
        &Settings::example(),
        &Command::dashboard(),
        &survey(STOPPED),
    );
    let registered = happens(Action::Registered, publish(true));
    assert_eq!(unwanted, registered, "what is stopped is not held");
}

#[test]
fn one_gateway_for_all_is_what_the_gateway_itself_would_read() {
    // The default profile's .env, our environment, its config.yaml; then whether one serves all.
    #[rustfmt::skip]
    let rows = [
        (None, None, false, false, "nowhere"),
        (None, None, true, true, "config.yaml"),
        (None, Some(true), false, true, "the environment"),
        (None, Some(false), true, false, "the environment goes before config.yaml"),
        (Some(true), None, false, true, ".env"),
        (Some(false), Some(true), true, false, ".env goes before both"),
        (Some(true), Some(false), false, true, "both ways"),
    ];
    for (env_file, environment, config, expected, sentence) in rows {
        let survey = Survey {
            multiplex_in_env_file: Answer::Known(env_file),
            multiplex_in_config: Answer::Known(config),
            ..survey(RUNNING)
        };
        let settings = Settings {
            multiplex: environment,
            ..Settings::example()
        };
        let held = |profile| held(&settings, &Command::default(), &survey, &name(profile));
        let why = expected.then_some(Held::Served);
        assert_eq!(held("coder"), why, "{sentence}");
        assert_eq!(held("default"), None, "it is the one that serves");
    }
}

#[test]
fn a_setting_that_cannot_be_read_leaves_what_runs_as_it_is() {
    use Step::{Down, MarkDown, Publish, Remove, Reset};
    let unknown = |state| unsure("config-unreadable", survey(state));
    let in_env_file = Survey {
        multiplex_in_env_file: Answer::Unknown(problem()),
        ..survey(RUNNING)
    };
    let stays = || because(Action::Registered, "multiplex-unknown", publish(true));
    let registered = || happens(Action::Registered, publish(true));
    let marked = || Found {
        down: true,
        ..ours()
    };
    let stale = |found| Found {
        stale: true,
        ..found
    };
    let replace = |down| [Remove, Publish { down }];
    #[rustfmt::skip]
    decide_all([
        (unknown(RUNNING), world(up()), None, "one that runs goes on"),
        (unknown(RUNNING), world(down()), None, "one that is down stays down"),
        (unknown(RUNNING), bare(), stays(), "a new one is not started"),
        (unknown(RUNNING), World::default(), stays(), "also where nothing runs yet"),
        (in_env_file, World::default(), stays(), "the .env could say so too"),
        (unknown(STOPPED), World::default(), registered(), "one that is stopped is not held"),
        (unknown(STOPPED), world(up()), happens(Action::Stopped, [MarkDown, Down]), "and is stopped"),
        (unknown(RUNNING), offline(ours()), None, "with a new start it comes back"),
        (unknown(RUNNING), offline(marked()), None, "or stays down, as before"),
        (unknown(RUNNING), offline(stale(ours())), because(Action::Started, "multiplex-unknown", [Reset]), "an earlier tree has had it up"),
        (unknown(RUNNING), offline(stale(marked())), because(Action::Registered, "multiplex-unknown", [Reset]), "or down"),
        (unknown(STOPPED), offline(ours()), happens(Action::Registered, [MarkDown]), "but one that is stopped stays down"),
        (unknown(RUNNING), world(ours()), because(Action::Started, "unsupervised", replace(false)), "also with a new slot"),
        (unknown(RUNNING), world(marked()), because(Action::Registered, "unsupervised", replace(true)), "both ways"),
    ]);
    for (state, world) in [(RUNNING, world(up())), (RUNNING, World::default())] {
        let plan = decide(&unknown(state), &world);
        let told = plan
            .changes
            .iter()
            .filter(|change| change.warning.is_some());
        let told: Vec<&str> = told.map(|change| change.profile.as_str()).collect();
        assert_eq!(told, ["default"], "the file is default's");
    }
}

#[test]
fn what_decides_before_the_unknown_is_enough() {
    let known = Survey {
        multiplex_in_env_file: Answer::Known(Some(false)),
        ..unsure("config-unreadable", survey(RUNNING))
    };
    let plan = decide(&known, &World::default());
    let started = happens(Action::Started, publish(false));
    assert_eq!(of(&plan, "coder"), started, "its .env says no");
    assert!(plan.changes.iter().all(|change| change.warning.is_none()));
    let alone = unsure("config-unreadable", survey_of(&[]));
    let plan = decide(&alone, &World::default());
    assert!(
        plan.changes.iter().all(|change| change.warning.is_none()),
        "there is nobody to serve"
    );
}

#[test]
fn hermes_starts_without_a_configuration_that_it_cannot_load() {
    let torn = unsure("config-malformed", survey(RUNNING));
    let boot = decide(&torn, &World::default());
    let started = happens(Action::Started, publish(false));
    assert_eq!(of(&boot, "coder"), started, "nobody serves it");
    let warned = |plan: &Plan| plan.changes.iter().any(|change| change.warning.is_some());
    assert!(warned(&boot), "the file is wrong all the same");
    let live = decide(&torn, &world(down()));
    assert_eq!(
        of(&live, "coder"),
        None,
        "the gateway that runs may have loaded it before"
    );
    assert!(warned(&live));
}

#[test]
fn the_gateway_that_serves_all_runs_when_one_of_them_is_to_run() {
    use Step::{UnmarkDown, Up};
    const WROTE: &str = r#"{"gateway_state":"running"}"#;
    const HAD_ENDED: &str = r#"{"gateway_state":"stopped"}"#;
    let on = |state: &str, default: &str| {
        let default = intent(default.as_bytes()).unwrap_or_default();
        with(survey(state), "default", |profile| {
            profile.intent = default.clone();
        })
    };
    let unseen = || Found {
        failure: Some("why".to_owned()),
        ..Found::default()
    };
    let serves = |steps: Vec<Step>| because(Action::Started, "serves=coder", steps);
    let new = || serves(publish(false).to_vec());
    let stays = || happens(Action::Registered, publish(true));
    #[rustfmt::skip]
    let rows = [
        (on(RUNNING, UNSAID), World::default(), new(), "nobody has asked for it itself"),
        (on(RUNNING, HAD_ENDED), World::default(), new(), "what it wrote itself is no wish"),
        (on(WROTE, UNSAID), World::default(), new(), "the other one ran when it was last seen"),
        (on(STOPPED, UNSAID), World::default(), stays(), "the other one is stopped"),
        (on(RUNNING, STOPPED), World::default(), stays(), "its operator has stopped it"),
        (on(RUNNING, RUNNING), World::default(), happens(Action::Started, publish(false)), "its operator wants it"),
        (on(RUNNING, UNSAID), world(down()), serves(vec![Up, UnmarkDown]), "an operator has said so"),
        (on(WROTE, UNSAID), world(down()), None, "nobody has said so"),
        (on(RUNNING, STOPPED), world(down()), None, "a stop of it counts"),
        (on(RUNNING, UNSAID), world(up()), None, "the other one still has its own gateway"),
        (on(RUNNING, UNSAID), world(unseen()), None, "nobody can tell whether it has"),
    ];
    let command = Command::default();
    for (survey, world, expected, sentence) in rows {
        let plan = plan(
            &Settings::multiplex(),
            &command,
            &survey,
            &world,
            Scope::All,
        );
        assert_eq!(of(&plan, "default"), expected, "{sentence}");
        let coder = of(&plan, "coder").map(|(action, ..)| action);
        assert_ne!(
            coder,
            Some(Action::Started),
            "{sentence}: only one is started"
        );
        assert_eq!(
            plan.volume.adopted,
            [],
            "{sentence}: what others want of it is not written into its own state file"
        );
    }
    let alone = decide(&on(RUNNING, UNSAID), &World::default());
    assert_eq!(
        of(&alone, "default"),
        stays(),
        "where each has its own, nobody needs it"
    );
    let never = plan(
        &Settings {
            autostart: Some(false),
            ..Settings::multiplex()
        },
        &command,
        &on(RUNNING, UNSAID),
        &World::default(),
        Scope::All,
    );
    let held = because(Action::Registered, "autostart=never", publish(true));
    assert_eq!(
        of(&never, "default"),
        held,
        "this container is not to run any"
    );
}

#[test]
fn a_port_that_cannot_be_read_keeps_nobody_from_anything() {
    let unreadable = || Answer::Unknown(Problem::new("env-unreadable", "why"));
    let survey = || {
        with(survey(RUNNING), "coder", |coder| {
            coder.own_port = unreadable();
        })
    };
    let ports = survey().assigned_ports(&Settings::example());
    assert_eq!(
        ports,
        survey_of(&[("coder", RUNNING)]).ports,
        "its given port stays its own"
    );
    let settings = Settings::example();
    assert_eq!(port_problems(&settings, &survey(), &ports), BTreeMap::new());
    let unchanged = because(Action::Unchanged, "env-unreadable", []);
    assert_eq!(
        of(&decide(&survey(), &world(up())), "coder"),
        unchanged,
        "it runs on, and it is told"
    );
}

#[test]
fn a_gateway_that_the_container_itself_runs_is_not_started_beside_it() {
    let settings = Settings::example;
    let environment = || Settings {
        no_supervise: true,
        ..Settings::example()
    };
    let home = || Settings {
        home_profile: Some(name("coder")),
        ..Settings::example()
    };
    #[rustfmt::skip]
    let rows = [
        (settings(), gateway_run(Some("coder"), false), true, "--no-supervise"),
        (environment(), gateway_run(Some("coder"), true), true, "HERMES_GATEWAY_NO_SUPERVISE"),
        (Settings::always(), gateway_run(Some("coder"), false), true, "also where everything is switched on"),
        (settings(), gateway_run(Some("coder"), true), false, "it is left to us"),
        (settings(), gateway_run(Some("other"), false), false, "it is another one"),
        (settings(), gateway_run(None, false), false, "none is named: the default one is meant"),
        (home(), gateway_run(None, false), true, "none is named: that of HERMES_HOME is meant"),
    ];
    for (settings, command, is_held, sentence) in rows {
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
    let (settings, survey, world) = (Settings::example(), survey(RUNNING), world(up()));
    let plan = plan(
        &settings,
        &Command::dashboard(),
        &survey,
        &world,
        Scope::All,
    );
    assert_eq!(plan.changes, []);
}
