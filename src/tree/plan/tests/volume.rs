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
fn two_profiles_with_one_port_are_told() {
    let both = || survey_of(&[("coder", RUNNING), ("writer", STOPPED)]);
    let coders = both().ports[&name("coder")];
    let sets =
        |survey, profile, port| with(survey, profile, |profile| profile.own_port = Some(port));
    #[rustfmt::skip]
    let rows = [
        (both(), Vec::new(), "each has its own"),
        (sets(both(), "default", coders), vec!["coder"], "who sets a port means it; the other was given the same one before"),
        (sets(both(), "writer", coders), vec!["coder"], "also where its name comes later"),
        (sets(sets(both(), "coder", 7), "writer", 7), vec!["writer"], "both set it: the first name has it"),
        (sets(sets(both(), "default", coders), "writer", coders), vec!["coder", "writer"], "three have one"),
    ];
    for (survey, told, sentence) in rows {
        let conflicts = conflicts(&survey, &survey.assigned_ports());
        let found: Vec<&str> = conflicts.keys().map(ProfileName::as_str).collect();
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
