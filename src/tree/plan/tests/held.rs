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
        (None, None, None, false, "nowhere"),
        (None, None, Some(true), true, "config.yaml"),
        (None, Some(true), None, true, "the environment"),
        (None, Some(false), Some(true), false, "the environment goes before config.yaml"),
        (Some(true), None, None, true, ".env"),
        (Some(false), Some(true), Some(true), false, ".env goes before both"),
        (Some(true), Some(false), Some(false), true, "both ways"),
    ];
    for (env_file, environment, config, expected, sentence) in rows {
        let survey = Survey {
            multiplex_in_env_file: env_file,
            multiplex_in_config: config,
            ..survey(RUNNING)
        };
        let settings = Settings {
            multiplex: environment,
            ..Settings::example()
        };
        let held = |profile| held(&settings, &Command::default(), &survey, &name(profile));
        let why = expected.then(|| "multiplex".to_owned());
        assert_eq!(held("coder"), why, "{sentence}");
        assert_eq!(held("default"), None, "it is the one that serves");
    }
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
