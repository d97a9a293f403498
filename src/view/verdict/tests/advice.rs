//! What is said of a gateway, and what is to be done.

use super::*;
use crate::volume::problem::Problem;
use Told::{Note, Nothing, Warning};

/// What a person is told of a gateway. In a text, `{reason}` and `{remedy}` stand for those of the verdict.
#[derive(Clone, Copy)]
enum Told {
    /// Nothing but its state.
    Nothing,
    /// Why it is as it is, which is no fault.
    Note(&'static str),
    /// What is not as its operator wants it.
    Warning(&'static str),
}

/// State, reason, remedy and what is told; a text that is not there is empty.
type Verdict<'a> = (State, &'a str, &'a str, Told);

/// Judges each case, and compares all that is said of it. The last of each row is what the row is about.
fn compare_all<const N: usize>(rows: [(Case, Verdict, &str); N]) {
    for (case, (state, reason, remedy, told), sentence) in rows {
        let row = judged(&case);
        let filled =
            |text: &str| Some(text.replace("{reason}", reason).replace("{remedy}", remedy));
        let (warning, note) = match told {
            Nothing => (None, None),
            Note(text) => (None, filled(text)),
            // A warning is the note, too.
            Warning(text) => (filled(text), filled(text)),
        };
        let why = row.reason.unwrap_or_default();
        let remedied = row.remedy.unwrap_or_default();
        let found = (row.state, &*why, &*remedied);
        assert_eq!(found, (state, reason, remedy), "{sentence}");
        assert_eq!((row.warning, row.note), (warning, note), "{sentence}");
    }
}

const START: &str = "hermes-s6 start -p coder";
const STOP: &str = "hermes-s6 stop -p coder";
const RECONCILE: &str = "hermes-s6 reconcile";
const SUPERVISE: &str = "hermes-s6 supervise";

#[test]
fn of_what_is_as_its_operator_wants_it_nothing_is_said() {
    let nothing = |state| (state, "", "", Nothing);
    let coming = Case {
        wanted_up: true,
        ..exited(1)
    };
    #[rustfmt::skip]
    compare_all([
        (ready(), nothing(Ready), "wanted, and ready"),
        (unready(60), nothing(Up), "wanted, and up"),
        (unready(0), nothing(Starting), "wanted, and coming"),
        (coming, nothing(Starting), "wanted, and coming again"),
        (stopped(down()), nothing(Down), "stopped, and down"),
        (stopped(exited(78)), nothing(Down), "stopped, and down, however it ended"),
        (stopped(told_down(ready())), nothing(Stopping), "stopped, and about to end"),
        (stopped(unregistered()), nothing(Unregistered), "stopped, and without a slot"),
        (stopped(unsupervised()), nothing(Unsupervised), "stopped, and without a supervisor"),
        (unsaid(ready()), nothing(Ready), "nobody has said anything, and it is up"),
        (unsaid(down()), nothing(Down), "nobody has said anything, and it is down"),
        (unsaid(exited(0)), nothing(Down), "it ended by itself, and nobody wants it"),
    ]);
}

#[test]
fn a_gateway_that_was_stopped_and_is_up_is_a_fault() {
    #[rustfmt::skip]
    compare_all([
        (stopped(ready()), (Ready, "", STOP, Warning("coder wants stopped, is ready: hermes-s6 stop -p coder")), "ready"),
        (stopped(unready(60)), (Up, "", STOP, Warning("coder wants stopped, is up: hermes-s6 stop -p coder")), "up"),
        (stopped(unready(0)), (Starting, "", STOP, Warning("coder wants stopped, is starting: hermes-s6 stop -p coder")), "starting"),
    ]);
}

#[test]
fn a_gateway_that_waits_names_who_has_its_lock() {
    let waiting = |lock| locked(Some(lock), unready(60));
    let held = "its lock is held by web-1 pid 7 since then";
    let held_as_70 = "its lock is held by web-1 pid 7 since then, pid 70 here";
    let missing = Warning(
        "coder wants running, is waiting for lock: {reason}: stop it there, and it starts here",
    );
    let no_fault = Note("coder is waiting for lock: {reason}: stop it there, and it starts here");
    let unwanted =
        Warning("coder wants stopped, is waiting for lock: {reason}: hermes-s6 stop -p coder");
    #[rustfmt::skip]
    compare_all([
        (stopped(waiting(elsewhere())), (WaitingForLock, held, STOP, unwanted), "what was stopped is to be down, and not to start here"),
        (waiting(elsewhere()), (WaitingForLock, held, "", missing), "nothing can be done here"),
        (waiting(another()), (WaitingForLock, held_as_70, "", missing), "the holder has another pid here than it signed with"),
        (unsaid(waiting(elsewhere())), (WaitingForLock, held, "", no_fault), "nobody has said that it is to run: no fault"),
    ]);
}

#[test]
fn a_gateway_that_is_down_though_wanted_tells_who_said_so() {
    let missing = Warning("coder wants running, is down: {reason}, 2 min ago: {remedy}");
    let told = (Down, "it was told to go down", START, missing);
    let registered = (Down, "its slot is registered down", START, missing);
    let stopping = (
        Stopping,
        "",
        START,
        Warning("coder wants running, is stopping: {remedy}"),
    );
    let ending = Case {
        age: 5,
        ..told_down(ready())
    };
    #[rustfmt::skip]
    compare_all([
        (down(), told, "by s6-svc, say"),
        (died(&[(0, Signal(15))]), told, "and ended as told"),
        (registered_down(down()), registered, "by the down file of its slot"),
        (registered_down(exited(0)), registered, "told to end by a command that was killed before it started it again: it is not parked"),
        (ending, stopping, "about to end; for how long does not matter"),
    ]);
}

#[test]
fn a_parked_gateway_tells_how_it_ended() {
    let to_fix =
        Warning("coder wants running, is parked: {reason}, 2 min ago: fix it, then {remedy}");
    let to_start = Warning("coder wants running, is parked: {reason}, 2 min ago: {remedy}");
    let no_fault = Note("coder is parked: {reason}: fix it, then {remedy}");
    let parked = |reason, told| (Parked, reason, START, told);
    let crashed = died_five_times(Exit(1));
    #[rustfmt::skip]
    compare_all([
        (exited(78), parked("exit 78 (configuration)", to_fix), "78 is a configuration that cannot work"),
        (registered_down(exited(78)), parked("exit 78 (configuration)", to_fix), "also in a slot that is registered down"),
        (exited(0), parked("exit 0 (it ended by itself)", to_start), "0 is an end by itself, and there is nothing to be fixed"),
        (crashed, parked("crash loop (5 deaths in two minutes)", to_fix), "five crashes are a loop"),
        (unsaid(exited(78)), parked("exit 78 (configuration)", no_fault), "nobody has said that it is to run: no fault"),
    ]);
}

#[test]
fn a_gateway_parked_for_its_lock_tells_whether_that_is_free_now() {
    let to_stop = Warning(
        "coder wants running, is parked: {reason}, 2 min ago: stop it there, then {remedy}",
    );
    let to_start = Warning("coder wants running, is parked: {reason}, 2 min ago: {remedy}");
    let parked = |reason, told| (Parked, reason, START, told);
    let held = "exit 69 (its lock is held by web-1 pid 7 since then)";
    let free_now = "exit 69 (its lock was held by web-1 pid 7 since then, and is free now)";
    #[rustfmt::skip]
    compare_all([
        (locked(Some(elsewhere()), exited(69)), parked(held, to_stop), "it is held still"),
        (locked(Some(free()), exited(69)), parked(free_now, to_start), "it is free: nothing has to be stopped before"),
        (locked(None, exited(69)), parked("exit 69 (its lock was held)", to_start), "its file is gone"),
    ]);
}

#[test]
fn a_gateway_that_has_lost_its_supervisor_is_named() {
    let orphaned = || locked(Some(another()), down());
    let parked = locked(Some(another()), exited(69));
    let just_now = Case {
        age: 0,
        ..orphaned()
    };
    let supervised_elsewhere = Case {
        supervisor: Some(Holder::Elsewhere),
        ..orphaned()
    };
    let reason =
        "a gateway that has lost its supervisor still runs, pid 70: hermes-s6 stop ends it";
    let missing = (
        Down,
        reason,
        START,
        Warning("coder wants running, is down: {reason}, 2 min ago: {remedy}"),
    );
    let no_fault = (Down, reason, "", Note("coder is down: {reason}"));
    let nothing = (Down, "", "", Nothing);
    #[rustfmt::skip]
    compare_all([
        (orphaned(), missing, "it is wanted"),
        (parked, missing, "it says more than that the slot is parked"),
        (stopped(orphaned()), no_fault, "it is stopped"),
        (stopped(just_now), nothing, "within a second it may be the process that has just gone down"),
        (stopped(supervised_elsewhere), nothing, "the supervisor is of another container"),
        (stopped(locked(Some(elsewhere()), down())), nothing, "the holder is of another container: whether it is supervised there is not known"),
    ]);
}

#[test]
fn what_has_no_slot_or_no_supervisor_tells_how_it_gets_one() {
    let missed = "s6-svscan has not taken it up";
    let alone = "no s6-svscan watches /run/slots";
    let without_supervisor = Warning("coder wants running, is unsupervised: {reason}: {remedy}");
    let without_slot = Warning("coder wants running, is unregistered: {remedy}");
    #[rustfmt::skip]
    compare_all([
        (unsupervised(), (Unsupervised, missed, RECONCILE, without_supervisor), "s6-svscan runs, and has missed the slot"),
        (unwatched(unsupervised()), (Unsupervised, alone, SUPERVISE, without_supervisor), "no s6-svscan runs"),
        (unregistered(), (Unregistered, "", START, without_slot), "s6-svscan runs: a start makes the slot"),
        (unwatched(unregistered()), (Unregistered, "", SUPERVISE, without_slot), "there is nothing to start it in"),
        (unwatched(ready()), (Ready, "", "", Nothing), "its s6-svscan was killed, and its own supervisor was not"),
    ]);
}

#[test]
fn what_this_container_holds_down_is_not_missing() {
    let held = |case| Case {
        held: Some(Held::Meant("role=dashboard".to_owned())),
        ..registered_down(case)
    };
    let role = |state, told| (state, "role=dashboard", "", Note(told));
    let parked = Note("coder is parked: {reason}: fix it, then {remedy}");
    #[rustfmt::skip]
    compare_all([
        (held(down()), role(Down, "coder is down: role=dashboard"), "it is down"),
        (held(exited(0)), role(Down, "coder is down: role=dashboard"), "it was told to go down"),
        (held(unsupervised()), role(Unsupervised, "coder is unsupervised: role=dashboard"), "nothing supervises it"),
        (held(unwatched(unsupervised())), role(Unsupervised, "coder is unsupervised: role=dashboard"), "nothing supervises anything"),
        (held(told_down(ready())), role(Stopping, "coder is stopping: role=dashboard"), "it is about to end"),
        (held(exited(78)), (Parked, "exit 78 (configuration)", START, parked), "how it ended says more"),
    ]);
    assert!(!judged(&held(down())).wanted, "nothing here wants it");
}

#[test]
fn what_one_gateway_for_all_does_to_the_others_is_told() {
    let problem = Problem::new(
        "env-unreadable",
        "/opt/data/.env cannot be read: make it readable",
    );
    let held = |held: &Held, case| Case {
        held: Some(held.clone()),
        ..registered_down(case)
    };
    let unknown = Held::Unknown(problem);
    let cannot = "/opt/data/.env cannot be read: make it readable";
    let then = Warning("coder wants running, is down: {reason}, 2 min ago: then {remedy}");
    let was_stopped = "one gateway serves all profiles, and it was stopped";
    let down_since = Warning("coder wants running, is down: {reason}, 2 min ago: {remedy}");
    let called = |called_by| Case {
        called_by,
        ..registered_down(down())
    };
    let is_down = "its slot is registered down";
    let for_writer = Warning("coder is to serve writer, is down: {reason}, 2 min ago: {remedy}");
    let for_all =
        Warning("coder is to serve qa and 2 more, is down: {reason}, 2 min ago: {remedy}");
    #[rustfmt::skip]
    compare_all([
        (held(&Held::Served, down()), (Down, "multiplex", "", Note("coder is down: multiplex")), "it is served"),
        (held(&Held::Unserved, down()), (Down, was_stopped, "hermes-s6 start -p default", down_since), "it would be served"),
        (held(&unknown, down()), (Down, cannot, RECONCILE, then), "nobody knows: what is wanted is missing"),
        (held(&unknown, ready()), (Ready, "", "", Nothing), "one that runs is all right"),
        (called(&["writer"]), (Down, is_down, START, for_writer), "the one that serves is missing"),
        (called(&["qa", "viewer", "writer"]), (Down, is_down, START, for_all), "for three"),
    ]);
}
