//! Plans that are about some profiles only.

use super::*;
use Action::{Registered, Removed, Skipped, Started, Stopped};

/// The plan that registers these profiles.
fn register(survey: &Survey, world: &World, profiles: &[&str]) -> Plan {
    let names = names(profiles);
    decide_for(survey, world, Scope::Register(&names))
}

/// A volume on which everything is to be done: a seed, leftovers, ports, log directories.
fn untouched() -> Survey {
    let mut survey = survey_of(&[("coder", RUNNING), ("writer", RUNNING)]);
    for profile in survey.profiles.values_mut() {
        profile.log.exists = false;
        profile.stale = vec!["gateway.pid".to_owned()];
    }
    survey.ports = Ports::new();
    survey.record = Record::None;
    survey
}

#[test]
fn to_register_gives_a_slot_to_those_that_are_named_and_have_none() {
    let registered = || because(Registered, "", publish(true));
    let skipped = |reason| because(Skipped, reason, []);
    let replace = [Step::Remove, Step::Publish { down: true }];
    #[rustfmt::skip]
    let rows = [
        (survey(RUNNING), bare(), registered(), "to run: down"),
        (survey(STOPPED), bare(), registered(), "stopped: down"),
        (survey(UNSAID), bare(), registered(), "nothing said: down"),
        (survey(RUNNING), world(up()), None, "it has one"),
        (survey(STOPPED), world(up()), None, "it is not stopped"),
        (survey(RUNNING), world(down()), None, "it is not started"),
        (survey(RUNNING), world(worn(down())), None, "nor put right"),
        (survey(RUNNING), offline(ours()), None, "nor is its down file changed before the tree starts"),
        (survey(RUNNING), world(ours()), because(Registered, "unsupervised", replace), "one that s6-svscan has missed is no slot"),
        (survey(RUNNING), world(foreign()), skipped("foreign-slot"), "its place is taken"),
        (survey(RUNNING), room(0, bare()), skipped("capacity"), "there is no room"),
        (survey(RUNNING), room(1, bare()), registered(), "the others need no room"),
        (ill(), bare(), because(Registered, "state-not-json", publish(true)), "what is wrong with it is told"),
        (ill(), world(up()), None, "but not of one that has a slot"),
        (survey_of(&[]), bare(), None, "it is not on the volume"),
    ];
    for (survey, world, expected, sentence) in rows {
        let plan = register(&survey, &world, &["coder"]);
        assert_eq!(of(&plan, "coder"), expected, "{sentence}");
        let others = plan.changes.len() - usize::from(expected.is_some());
        assert_eq!(others, 0, "{sentence}: nothing happens to others");
    }
}

#[test]
fn to_register_one_changes_nothing_of_the_others() {
    let gone = survey_of(&[("writer", STOPPED)]);
    let survey = Survey {
        skipped: vec![skipped("Foo")],
        ..survey_of(&[("coder", STOPPED), ("writer", STOPPED)])
    };
    #[rustfmt::skip]
    let rows = [
        (&survey, world(up()), &["writer"][..], vec![("writer", Registered)], "one that should be down stays up, and what is skipped is not told"),
        (&gone, world(up()), &["writer"], vec![("writer", Registered)], "the slot of a profile that is gone stays"),
        (&gone, world(up()), &["coder", "writer"], vec![("writer", Registered)], "also where that is named"),
        (&gone, room(2, world(up())), &["writer"], vec![("writer", Skipped)], "and so it makes no room"),
        (&survey, bare(), &["coder", "writer"], vec![("coder", Registered), ("writer", Registered)], "several can be named"),
        (&survey, room(1, bare()), &["coder", "writer"], vec![("coder", Registered), ("writer", Skipped)], "where the room ends, the first names have it"),
        (&survey, bare(), &[], Vec::new(), "none is named"),
    ];
    for (survey, world, profiles, told, sentence) in rows {
        let plan = register(survey, &world, profiles);
        assert_eq!(actions(&plan), told, "{sentence}");
    }
}

#[test]
fn to_register_writes_of_the_volume_what_the_slots_need() {
    let survey = untouched();
    let bootstrap = Settings {
        bootstrap: true,
        ..Settings::example()
    };
    let names = names(&["coder"]);
    for (world, sentence) in [(bare(), "live"), (World::default(), "at boot")] {
        let scope = Scope::Register(&names);
        let plan = plan(&bootstrap, &Command::default(), &survey, &world, scope);
        let expected = VolumeChanges {
            log_directories: vec![name("coder")],
            // With the ports of the others, so that each keeps its own.
            ports: Some(new_ports(&survey)),
            ..VolumeChanges::default()
        };
        assert_eq!(plan.volume, expected, "{sentence}: no seed, no leftovers");
    }
    assert_eq!(
        survey.assigned_ports(&Settings::example()).len(),
        2,
        "coder and writer"
    );
}

#[test]
fn a_plan_for_some_is_the_plan_for_all_without_the_other_profiles() {
    let survey = || survey_of(&[("coder", STOPPED), ("writer", RUNNING)]);
    let writer = || survey_of(&[("writer", RUNNING)]);
    let passed_over = Survey {
        skipped: vec![skipped("coder")],
        unknown: vec![name("coder")],
        ..survey_of(&[])
    };
    #[rustfmt::skip]
    let rows = [
        (&["coder"][..], survey(), world(up()), vec![("coder", Stopped)], "the other gets no slot"),
        (&["writer"], survey(), world(up()), vec![("writer", Started)], "the other is not stopped"),
        (&["coder", "writer"], survey(), world(up()), vec![("coder", Stopped), ("writer", Started)], "both are named"),
        (&["coder"], writer(), world(up()), vec![("coder", Removed)], "a slot is removed where its profile is named"),
        (&["writer"], writer(), world(up()), vec![("writer", Started)], "and no other one"),
        (&["coder"], unserved(survey_of(&[])), world(up()), Vec::new(), "nothing is told that is about no profile"),
        (&["coder"], passed_over, world(up()), Vec::new(), "nor what is skipped"),
        (&["coder"], survey(), room(1, bare()), vec![("coder", Skipped)], "the room is for another one, which is to run"),
        (&["writer"], survey(), room(1, bare()), vec![("writer", Started)], "and that gets it"),
    ];
    for (only, survey, world, told, sentence) in rows {
        let names = names(only);
        let plan = decide_for(&survey, &world, Scope::Only(&names));
        assert_eq!(actions(&plan), told, "{sentence}");
    }
}
