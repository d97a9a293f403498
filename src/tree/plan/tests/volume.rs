//! What a plan changes of the volume, and what it tells of it.

use super::*;

#[test]
fn the_default_profile_is_seeded_at_boot_where_it_has_no_state_at_all() {
    let settings = Settings::example;
    let bootstrap = || Settings {
        bootstrap: true,
        ..settings()
    };
    let (plain, boot) = (Command::default, World::default);
    let run = || gateway_run(Some("default"), true);
    let unsaid = || survey(UNSAID);
    let with_state = with(unsaid(), "default", |default| default.stateless = false);
    #[rustfmt::skip]
    let rows = [
        (settings(), plain(), unsaid(), boot(), None, "not unasked"),
        (settings(), run(), unsaid(), boot(), Some(Seed::GatewayRun), "by the container's command"),
        (bootstrap(), plain(), unsaid(), boot(), Some(Seed::Bootstrap), "by the environment"),
        (bootstrap(), run(), unsaid(), boot(), Some(Seed::GatewayRun), "the command goes first"),
        (settings(), gateway_run(Some("default"), false), unsaid(), boot(), None, "not where the command is the gateway itself"),
        (settings(), gateway_run(Some("coder"), true), unsaid(), boot(), None, "not by a command about another profile"),
        (settings(), run(), unsaid(), world(up()), None, "not on a live tree"),
        (bootstrap(), run(), with_state, boot(), None, "not over a file, whatever is in it"),
    ];
    for (settings, command, survey, world, seed, sentence) in rows {
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
    #[rustfmt::skip]
    let rows = [
        (World::default(), both.clone(), "the first start"),
        (offline(ours()), both, "a later one"),
        (world(up()), Vec::new(), "live"),
        (offline(up()), Vec::new(), "its s6-svscan was killed, it was not"),
    ];
    for (world, removed, sentence) in rows {
        let plan = decide(&survey, &world);
        assert_eq!(plan.volume.remove, removed, "{sentence}");
    }
}

#[test]
fn ports_and_log_directories_go_onto_the_volume_where_they_are_not_there() {
    let recorded = |record| Survey {
        record,
        ..survey(RUNNING)
    };
    let forgotten = Survey {
        ports: Ports::new(),
        ..recorded(Record::None)
    };
    let unreadable = Survey {
        ports: Ports::new(),
        ..recorded(Record::Unusable)
    };
    let unlisted = Survey {
        complete: false,
        ..recorded(Record::None)
    };
    let without_log = with(survey(RUNNING), "coder", |coder| {
        coder.log.exists = false;
    });
    let ports = || VolumeChanges {
        ports: Some(new_ports(&survey(RUNNING))),
        ..VolumeChanges::default()
    };
    let log = VolumeChanges {
        log_directories: vec![name("coder")],
        ..VolumeChanges::default()
    };
    #[rustfmt::skip]
    let rows = [
        (survey(RUNNING), VolumeChanges::default(), "all is there"),
        (forgotten, ports(), "a new profile has its port remembered"),
        (recorded(Record::None), ports(), "the slots have ports that are not on record"),
        (unlisted, VolumeChanges::default(), "nor where it may be another volume"),
        (recorded(Record::Outdated), ports(), "names that are gone are forgotten"),
        (recorded(Record::Unusable), VolumeChanges::default(), "nobody knows what would be lost"),
        (unreadable, VolumeChanges::default(), "also where a port would be new"),
        (without_log, log, "a log needs its directory"),
    ];
    for (survey, changes, sentence) in rows {
        let plan = decide(&survey, &world(up()));
        assert_eq!(plan.volume, changes, "{sentence}");
        assert_eq!(plan.changes, [], "{sentence}: the slots stay as they are");
        let is_nothing = changes == VolumeChanges::default();
        assert_eq!(plan.is_empty(), is_nothing, "{sentence}: it is to be done");
    }
}

#[test]
fn an_intent_that_the_gateway_told_itself_is_written_down_when_it_first_counts() {
    let itself = |state: &str| survey(&format!(r#"{{"gateway_state":"{state}"}}"#));
    let running = || itself("running");
    let (settings, never) = (Settings::example, Settings::never);
    #[rustfmt::skip]
    let rows = [
        (settings(), running(), World::default(), true, "it starts for the first time"),
        (settings(), itself("draining"), World::default(), true, "it was killed while it ended"),
        (settings(), itself("degraded"), bare(), true, "also in a live tree"),
        (settings(), running(), offline(ours()), true, "its slot is there already"),
        (settings(), running(), offline(up()), true, "it is about to be told to end: it would say that it has"),
        (settings(), running(), world(up()), true, "it runs, and an earlier version has started it"),
        (settings(), running(), world(down()), false, "it is down: what it once wrote does not bring it up"),
        (settings(), running(), world(parked()), false, "nor where it is parked"),
        (settings(), running(), offline(down()), false, "nor where its tree was killed since"),
        (never(), running(), World::default(), false, "it is held down here"),
        (settings(), unsure("config-unreadable", running()), world(up()), true, "it runs on, whoever serves it"),
        (settings(), unsure("config-unreadable", running()), offline(ours()), true, "it comes back as it was"),
        (settings(), unsure("config-unreadable", running()), World::default(), false, "a new one is not started"),
        (settings(), itself("stopped"), World::default(), false, "no operator has asked for it to be down"),
        (settings(), itself("starting"), World::default(), false, "nor here"),
        (settings(), itself("startup_failed"), World::default(), false, "nor here"),
        (settings(), survey(UNSAID), World::default(), false, "nothing is said"),
        (settings(), survey(RUNNING), World::default(), false, "the operator has said it"),
        (settings(), survey(STOPPED), World::default(), false, "or the contrary"),
    ];
    for (settings, survey, world, is_written, sentence) in rows {
        let plan = plan(&settings, &Command::default(), &survey, &world, Scope::All);
        let coder = [name("coder")];
        let expected = if is_written { &coder[..] } else { &[] };
        assert_eq!(plan.volume.adopted, expected, "{sentence}");
    }
    let both = survey_of(&[
        ("coder", r#"{"gateway_state":"running"}"#),
        ("writer", r#"{"gateway_state":"running"}"#),
    ]);
    let writer = names(&["writer"]);
    let adopted = |scope| decide_for(&both, &bare(), scope).volume.adopted;
    assert_eq!(
        adopted(Scope::Only(&writer)),
        [name("writer")],
        "only of these"
    );
    assert_eq!(adopted(Scope::Register(&writer)), [], "none starts");
    let plan = decide(&both, &world(up()));
    let line = "desired_state=running for coder, writer";
    assert_eq!(plan.adopted().as_deref(), Some(line));
    assert_eq!(decide(&survey(RUNNING), &world(up())).adopted(), None);
}

#[test]
fn what_a_gateway_writes_when_it_is_told_to_end_does_not_keep_it_down() {
    let itself = |state: &str| format!(r#"{{"gateway_state":"{state}"}}"#);
    #[rustfmt::skip]
    let rows = [
        (itself("running"), itself("stopped"), true, "it ran, and was told to end"),
        (itself("degraded"), UNSAID.to_owned(), true, "whatever it wrote"),
        (itself("running"), STOPPED.to_owned(), false, "its operator has stopped it since"),
        (itself("stopped"), itself("running"), true, "it did not run, and does"),
        (itself("starting"), itself("stopped"), false, "nobody knows that it ran"),
        (STOPPED.to_owned(), itself("stopped"), false, "it was not to run"),
    ];
    for (before, now, runs, sentence) in rows {
        let mut now = survey(&now);
        now.keep_intents(&survey(&before));
        let is_up = of(&decide(&now, &World::default()), "coder")
            == happens(Action::Started, publish(false));
        assert_eq!(is_up, runs, "{sentence}");
    }
    let mut gone = survey_of(&[]);
    gone.keep_intents(&survey(RUNNING));
    assert_eq!(
        gone.profiles.len(),
        1,
        "a profile that is gone does not come back"
    );
}

#[test]
fn two_profiles_with_one_port_are_told() {
    let both = || survey_of(&[("coder", RUNNING), ("writer", STOPPED)]);
    let coders = both().ports[&name("coder")];
    let sets = |survey, profile, port| {
        with(survey, profile, |profile| {
            profile.own_port = Answer::Known(Some(port));
        })
    };
    let given = |mut survey: Survey, profile, port| {
        survey.ports.insert(name(profile), port);
        survey
    };
    #[rustfmt::skip]
    let rows = [
        (both(), Vec::new(), "each has its own"),
        (sets(both(), "default", coders), vec!["coder"], "who sets a port means it; the other was given the same one before"),
        (sets(both(), "writer", coders), vec!["coder"], "also where its name comes later"),
        (sets(sets(both(), "coder", 7), "writer", 7), vec!["writer"], "both set it: the first name has it"),
        (sets(sets(both(), "default", coders), "writer", coders), vec!["coder", "writer"], "three have one"),
        (given(both(), "coder", 8642), vec!["coder"], "the usual port of the default profile"),
        (sets(given(both(), "coder", 8642), "default", 7), Vec::new(), "which has another one here"),
        (sets(both(), "coder", 8642), Vec::new(), "who sets that one may have no server in the default profile"),
    ];
    for (survey, told, sentence) in rows {
        let settings = Settings::example();
        let problems = port_problems(&settings, &survey, &survey.assigned_ports(&settings));
        let found: Vec<&str> = problems.keys().map(ProfileName::as_str).collect();
        assert_eq!(found, told, "{sentence}");
    }
    let survey = sets(survey(RUNNING), "default", coders);
    let plan = decide(&survey, &world(up()));
    assert_eq!(
        of(&plan, "coder"),
        because(Action::Unchanged, "port-conflict", [])
    );
    assert_eq!(actions(&plan), [("coder", Action::Unchanged)], "only it");
}

#[test]
fn a_profile_without_a_port_is_told() {
    let new = || Survey {
        ports: Ports::new(),
        ..survey_of(&[("coder", RUNNING), ("viewer", RUNNING), ("writer", STOPPED)])
    };
    let own = |profile| {
        with(new(), profile, |profile| {
            profile.own_port = Answer::Known(Some(9571));
        })
    };
    let settings = |ports| Settings {
        ports,
        ..Settings::example()
    };
    #[rustfmt::skip]
    let rows = [
        (new(), 9200..=9799, vec![], "there are enough"),
        (new(), 9570..=9571, vec!["writer"], "the last one gets none"),
        (new(), 9570..=9570, vec!["viewer", "writer"], "nor do two"),
        (own("writer"), 9570..=9571, vec!["viewer"], "a port of its own is one, and is given to nobody"),
        (survey_of(&[("coder", RUNNING)]), 9571..=9571, vec![], "a port that was given before is enough"),
        (new(), 8641..=8643, vec!["writer"], "the port of the default profile is given to nobody"),
    ];
    for (survey, ports, told, sentence) in rows {
        let settings = settings(ports);
        let problems = port_problems(&settings, &survey, &survey.assigned_ports(&settings));
        let found: Vec<&str> = problems.keys().map(ProfileName::as_str).collect();
        assert_eq!(found, told, "{sentence}");
        assert!(problems.values().all(|problem| problem.reason == "no-port"));
    }
    let command = Command::default();
    let plan = plan(
        &settings(9570..=9571),
        &command,
        &new(),
        &bare(),
        Scope::All,
    );
    let warnings = plan
        .changes
        .iter()
        .filter_map(|change| change.warning.as_deref());
    let text = "it has no port: all of 9570 to 9571 are given: set API_SERVER_PORT in its .env, or a wider range with HERMES_S6_PORTS";
    assert_eq!(warnings.collect::<Vec<_>>(), [text]);
}

#[test]
fn a_problem_is_told_each_time_and_changes_nothing_by_itself() {
    let survey = Survey {
        skipped: vec![skipped("Foo")],
        ..ill()
    };
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
