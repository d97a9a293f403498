//! What happens to a slot: by the intent, by what was found, and by the room that there is.

use super::*;
use Action::{Registered, Removed, Skipped, Started, Stopped, Updated};
use Step::{Down, MarkDown, Publish, Remove, Reset, UnmarkDown, Up};

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
    let start = happens(Started, publish(false));
    let stay = happens(Registered, publish(true));
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
    #[rustfmt::skip]
    decide_all([
        (survey(RUNNING), world(down()), happens(Started, [Up, UnmarkDown]), "to run, and registered down"),
        (survey(RUNNING), world(marked.clone()), happens(Started, [Up, UnmarkDown]), "the run before was killed between the two steps"),
        (survey(STOPPED), world(up()), happens(Stopped, [MarkDown, Down]), "stopped, and up"),
        (survey(STOPPED), world(marked), happens(Stopped, [Down]), "stopped and registered down, and up"),
        (survey(STOPPED), world(parked()), happens(Registered, [MarkDown]), "stopped and down, but not after the next start"),
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
    #[rustfmt::skip]
    decide_all([
        (survey(RUNNING), world(parked()), None, "down without a down file: it failed, or s6-svc said so"),
    ]);
}

#[test]
fn offline_the_down_file_follows_every_kind_of_intent() {
    let itself = |state: &str| survey(&format!(r#"{{"gateway_state":"{state}"}}"#));
    let marked = || Found {
        down: true,
        ..ours()
    };
    let unmark = happens(Started, [UnmarkDown]);
    let mark = happens(Registered, [MarkDown]);
    #[rustfmt::skip]
    decide_all([
        (itself("draining"), offline(marked()), unmark.clone(), "it was killed while it ran"),
        (itself("draining"), offline(ours()), None, "it starts anyway"),
        (itself("startup_failed"), offline(ours()), mark.clone(), "it had failed to start"),
        (itself("startup_failed"), offline(marked()), None, "it stays down anyway"),
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
    #[rustfmt::skip]
    decide_all([
        (survey(RUNNING), offline(stale()), happens(Started, [Reset]), "it starts with the tree"),
        (survey(RUNNING), offline(marked()), happens(Started, [Reset, UnmarkDown]), "it was registered down"),
        (survey(STOPPED), offline(marked()), happens(Registered, [Reset]), "it stays down"),
        (survey(RUNNING), world(Found { stale: true, ..up() }), None, "a status with a supervisor is true"),
    ]);
}

#[test]
fn outdated_files_and_debris_are_put_right_whatever_else_happens() {
    let sweep = || Step::Sweep(vec![".run.hermes-s6-0123456789abcdef".to_owned()]);
    let write = || Step::Write(vec!["run"]);
    let torn = Found {
        outdated: Vec::new(),
        ..worn(up())
    };
    let outdated = Found {
        debris: Vec::new(),
        ..worn(up())
    };
    let stale = Found {
        stale: true,
        ..ours()
    };
    let updated = || happens(Updated, [sweep(), write()]);
    let replaced = because(Started, "unsupervised", [Remove, Publish { down: false }]);
    #[rustfmt::skip]
    decide_all([
        (survey(RUNNING), world(torn), happens(Updated, [sweep()]), "a killed run has left a file half written"),
        (survey(RUNNING), world(outdated), happens(Updated, [write()]), "a file is another one than it should be"),
        (survey(RUNNING), world(worn(up())), updated(), "the room of the debris is free before anything is written"),
        (survey(RUNNING), world(worn(down())), happens(Started, [sweep(), write(), Up, UnmarkDown]), "a gateway starts with the new files"),
        (survey(STOPPED), world(worn(up())), happens(Stopped, [sweep(), write(), MarkDown, Down]), "one that is stopped gets them too"),
        (survey(RUNNING), world(worn(parked())), updated(), "one that is parked stays parked"),
        (survey(RUNNING), offline(worn(stale)), happens(Started, [Reset, sweep(), write()]), "what an earlier tree left goes first"),
        (survey(RUNNING), offline(worn(ours())), updated(), "without a status, it is no new boot"),
        (survey(RUNNING), world(worn(ours())), replaced, "a slot that is replaced has all files new"),
    ]);
}

#[test]
fn a_slot_that_s6_svscan_does_not_know_is_replaced() {
    let replace = |down| [Remove, Publish { down }];
    #[rustfmt::skip]
    decide_all([
        (survey(RUNNING), world(ours()), because(Started, "unsupervised", replace(false)), "to run"),
        (survey(STOPPED), world(ours()), because(Registered, "unsupervised", replace(true)), "stopped"),
        (survey(RUNNING), offline(ours()), None, "an s6-svscan that has yet to start will find it"),
    ]);
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    #[rustfmt::skip]
    decide_all([
        (survey(RUNNING), world(foreign()), because(Skipped, "foreign-slot", []), "it is in the way of a slot"),
        (survey(RUNNING), world(Found::default()), because(Skipped, "foreign-slot", []), "also where nothing supervises it"),
        (survey_of(&[]), world(foreign()), None, "it is not removed with the profile"),
    ]);
}

#[test]
fn a_slot_goes_only_when_its_profile_is_surely_gone() {
    let gone = survey_of(&[]);
    #[rustfmt::skip]
    decide_all([
        (gone.clone(), world(up()), because(Removed, "profile-gone", [Remove]), "the volume is read, and has no such profile"),
        (gone.clone(), offline(ours()), because(Removed, "profile-gone", [Remove]), "also before the tree starts"),
        (Survey { unknown: vec![name("coder")], ..gone.clone() }, world(up()), None, "it is there and cannot be looked into"),
        (Survey { complete: false, ..gone.clone() }, world(up()), None, "the list of profiles is not complete"),
        (unserved(gone.clone()), world(up()), None, "the volume has never served any: it is another one"),
        (gone.clone(), world(foreign()), None, "the slot is not ours"),
    ]);
    let plan = decide(&unserved(gone), &world(up()));
    assert_eq!(plan.changes[0].reason.as_deref(), Some("other-volume"));
    assert_eq!(plan.changes[0].profile, "profiles/", "it is told once");
    assert!(plan.is_empty(), "there is nothing to do about it");
    let first = decide(&unserved(survey(RUNNING)), &bare());
    assert_eq!(
        of(&first, "coder"),
        happens(Started, publish(false)),
        "a volume that has yet to serve one is no other volume"
    );
}

#[test]
fn where_the_room_ends_those_that_are_to_run_have_it_and_then_the_first_names() {
    let three = || survey_of(&[("coder", RUNNING), ("writer", STOPPED)]);
    let writer = || survey_of(&[("writer", RUNNING)]);
    #[rustfmt::skip]
    let rows = [
        (survey(RUNNING), room(1, bare()), vec![("default", Skipped), ("coder", Started)], "one is to run"),
        (survey(STOPPED), room(1, bare()), vec![("default", Registered), ("coder", Skipped)], "none is: the first name"),
        (three(), room(2, bare()), vec![("default", Registered), ("coder", Started), ("writer", Skipped)], "one is, and then the first name"),
        (three(), room(2, world(up())), vec![("writer", Skipped)], "who has a slot keeps it"),
        (three(), room(3, world(up())), vec![("writer", Registered)], "there is room for one more"),
        (three(), room(1, world(up())), vec![("writer", Skipped)], "there are more slots already than there is room for"),
        (writer(), room(2, world(up())), vec![("coder", Removed), ("writer", Started)], "a slot that is removed makes room"),
        (writer(), room(2, world(foreign())), vec![("writer", Started)], "what is not ours is counted by who gives the room"),
    ];
    for (survey, world, told, sentence) in rows {
        let plan = decide(&survey, &world);
        assert_eq!(actions(&plan), told, "{sentence}");
        let skipped = plan.changes.iter().filter(|it| it.action == Skipped);
        for change in skipped {
            assert_eq!(change.reason.as_deref(), Some("capacity"), "{sentence}");
        }
    }
    let plan = decide(&unserved(writer()), &room(2, world(up())));
    assert_eq!(
        of(&plan, "writer"),
        because(Skipped, "capacity", []),
        "a slot that would go on another volume, and stays, makes no room"
    );
}
