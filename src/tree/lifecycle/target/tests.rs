//! One gateway at a time: what was seen of it, what is told to s6, and what came of it.

use super::*;
use crate::tree::lifecycle::request::SHUT_DOWN;

/// The time of day at which each request begins.
const NOON: SystemTime = SystemTime::UNIX_EPOCH;

/// How long the gateways here have to end.
const BUDGET: Duration = Duration::from_secs(25);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A gateway that has been ready for long.
fn up() -> Status {
    Status {
        pid: Some(7),
        wanted_up: true,
        ready: true,
        finishing: false,
        since: NOON,
        last_exit: None,
    }
}

/// One that was started at noon and is not ready.
fn starting() -> Status {
    Status {
        ready: false,
        ..up()
    }
}

/// One that has been told to end.
fn ending() -> Status {
    Status {
        wanted_up: false,
        ..up()
    }
}

/// One whose `finish` runs, and that is to be up again.
fn finishing() -> Status {
    Status {
        pid: None,
        ready: false,
        finishing: true,
        ..up()
    }
}

/// One that is down, and stays so.
fn down() -> Status {
    Status {
        pid: None,
        wanted_up: false,
        ..up()
    }
}

/// The same a second later than it was: it has gone down or up in between.
fn later(status: Status) -> Status {
    Status {
        since: NOON + seconds(1),
        ..status
    }
}

/// A look in which no other command is at work.
fn seen(status: Option<Status>) -> Seen {
    Seen {
        now: NOON,
        elapsed: Duration::ZERO,
        status,
        has_slot: true,
        is_signalled: false,
        has_lock: true,
        is_held_back: false,
        last_death: Some(Death::Exit(0)),
    }
}

fn at(elapsed: u64, status: Status) -> Seen {
    Seen {
        now: NOON + seconds(elapsed),
        elapsed: seconds(elapsed),
        ..seen(Some(status))
    }
}

fn request(verb: Verb) -> Request {
    Request::new(verb)
}

fn no_wait(verb: Verb) -> Request {
    Request {
        wait: false,
        ..Request::new(verb)
    }
}

fn target(is_owner: bool) -> Target {
    Target::new(ProfileName::default_profile(), BUDGET, is_owner)
}

/// A gateway whose way has begun with this look.
fn begun(request: Request, seen: &Seen) -> Target {
    let mut target = target(true);
    target.begin(seen, request);
    target
}

/// The end as a word, empty if there is none yet.
fn end(target: &Target) -> String {
    match &target.end {
        None => String::new(),
        Some(End::Failed(error)) => error.to_string(),
        Some(end) => format!("{end:?}"),
    }
}

#[test]
fn a_start_brings_up_what_is_down_and_waits_for_what_ends() {
    use Order::{ForgetDeaths, MarkDown, Restart, Unlock, UnmarkDown, Up};
    let held_back = Seen {
        is_held_back: true,
        ..seen(Some(starting()))
    };
    let signalled = |status| Seen {
        is_signalled: true,
        ..seen(Some(status))
    };
    let locked = |status| Seen {
        has_lock: false,
        ..seen(Some(status))
    };
    #[rustfmt::skip]
    let rows = [
        (seen(Some(down())), &[ForgetDeaths, Up, UnmarkDown][..], "", false, "down: it is told to be up, and its earlier deaths do not count"),
        (seen(Some(up())), &[UnmarkDown, Unlock], "WasReady", false, "ready: there is nothing to do"),
        (seen(Some(starting())), &[UnmarkDown, Unlock], "", false, "not ready yet: it is waited for"),
        (held_back, &[UnmarkDown, ForgetDeaths, Restart], "", true, "its start is held back: it is started now"),
        (locked(up()), &[UnmarkDown], "", true, "another command restarts it: its process will end"),
        (seen(Some(ending())), &[MarkDown(TO_BE_STARTED)], "", true, "it has been told to end: it is started when it has, also by the next reconcile"),
        (signalled(up()), &[UnmarkDown], "", true, "it has its signal, and is wanted up again: it ends all the same"),
        (seen(Some(finishing())), &[UnmarkDown], "", true, "its finish runs: s6-supervise starts it by itself"),
        (seen(None), &[], "Unsupervised", false, "no supervisor: nobody can be told"),
    ];
    for (look, orders, ended, waits_for_its_end, sentence) in rows {
        let mut target = target(true);
        let told = target.begin(&look, request(Verb::Start));
        assert_eq!(told, orders, "{sentence}");
        assert_eq!(
            (end(&target).as_str(), target.is_ending()),
            (ended, waits_for_its_end),
            "{sentence}"
        );
    }
}

#[test]
fn a_restart_ends_what_runs_unless_it_was_just_started() {
    use Order::{ForgetDeaths, Restart, Unlock, UnmarkDown, Up};
    #[rustfmt::skip]
    let rows = [
        (at(0, up()), &[UnmarkDown, ForgetDeaths, Restart][..], true, "ready: it is ended, and started again"),
        (at(9, starting()), &[UnmarkDown, Unlock], false, "started 9 seconds ago: two restarts at once are one"),
        (at(0, later(starting())), &[UnmarkDown, Unlock], false, "started in a second from now, by a clock that was set back"),
        (at(10, starting()), &[UnmarkDown, ForgetDeaths, Restart], true, "not ready after 10 seconds: it is ended"),
        (at(0, down()), &[ForgetDeaths, Up, UnmarkDown], false, "down: it is started"),
    ];
    for (look, orders, waits_for_its_end, sentence) in rows {
        let mut target = target(true);
        let told = target.begin(&look, request(Verb::Restart));
        assert_eq!(told, orders, "{sentence}");
        assert_eq!(
            (end(&target).as_str(), target.is_ending()),
            ("", waits_for_its_end),
            "{sentence}"
        );
    }
}

#[test]
fn what_is_to_be_down_gets_one_signal_and_a_down_file_that_says_why() {
    use Order::{Down, MarkDown, Once};
    let signalled = || Seen {
        is_signalled: true,
        ..seen(Some(up()))
    };
    let (stop, remove) = (request(Verb::Stop), request(Verb::Remove));
    #[rustfmt::skip]
    let rows = [
        (stop, seen(Some(up())), &[MarkDown(STOPPED), Down][..], "", "up: it gets its signal"),
        (stop, signalled(), &[MarkDown(STOPPED), Once], "", "it has one from another command: it is only kept down"),
        (stop, seen(Some(ending())), &[MarkDown(STOPPED)], "", "it is about to end: that is waited for"),
        (stop, seen(Some(down())), &[MarkDown(STOPPED)], "WasDown", "down: it stays down after the next start, too"),
        (stop, seen(None), &[], "WasDown", "no supervisor: there is nothing to stop"),
        (no_wait(Verb::Stop), seen(Some(up())), &[MarkDown(STOPPED), Down], "Told", "nobody waits: it is told, and that is all"),
        (no_wait(Verb::Stop), seen(Some(down())), &[MarkDown(STOPPED)], "WasDown", "nobody has to wait for what is down"),
        (request_shutdown(), seen(Some(up())), &[MarkDown(SHUT_DOWN), Down], "", "at the end of a container the file says so"),
        (remove, seen(Some(up())), &[Down], "", "a slot that goes needs no file"),
    ];
    for (request, look, orders, ended, sentence) in rows {
        let mut target = target(true);
        assert_eq!(target.begin(&look, request), orders, "{sentence}");
        assert_eq!(end(&target), ended, "{sentence}");
    }
}

fn request_shutdown() -> Request {
    Request {
        timeout: Some(seconds(5)),
        ..request(Verb::Shutdown)
    }
}

#[test]
fn in_a_slot_that_is_not_ours_nothing_is_written() {
    use Order::{Down, ForgetDeaths, Unlock, Up};
    #[rustfmt::skip]
    let rows = [
        (Verb::Start, down(), &[ForgetDeaths, Up][..], "no down file is removed"),
        (Verb::Start, up(), &[Unlock], "nor where it is up already"),
        (Verb::Start, ending(), &[], "none is written for what is to be started later"),
        (Verb::Stop, up(), &[Down], "and none for what is stopped"),
    ];
    for (verb, status, orders, sentence) in rows {
        let mut target = target(false);
        assert_eq!(
            target.begin(&seen(Some(status)), request(verb)),
            orders,
            "{sentence}"
        );
    }
}

#[test]
fn only_what_counts_for_the_next_decision_is_looked_at() {
    let joining = || {
        let look = Seen {
            has_lock: false,
            ..seen(Some(up()))
        };
        begun(request(Verb::Start), &look)
    };
    #[rustfmt::skip]
    let rows = [
        (target(true), Verb::Start, up(), false, (true, true), "up: may it be ending, is another command at work"),
        (target(true), Verb::Start, up(), true, (true, false), "it has its signal: who has the lock does not matter"),
        (target(true), Verb::Start, down(), false, (true, false), "down: nobody can restart it"),
        (target(false), Verb::Start, up(), false, (false, true), "not ours: the lock alone tells"),
        (target(true), Verb::Stop, up(), false, (true, false), "a stop never takes the lock"),
        (target(true), Verb::Stop, down(), false, (false, false), "nothing to stop: nothing to look at"),
        (joining(), Verb::Start, up(), false, (false, true), "a restart of another command ends with its lock"),
        (begun(request(Verb::Stop), &seen(Some(up()))), Verb::Stop, ending(), false, (false, false), "on its way down"),
    ];
    for (target, verb, status, is_signalled, asks, sentence) in rows {
        let asked = (
            target.asks_for_signal(&status, verb),
            target.asks_for_lock(&status, is_signalled, verb),
        );
        assert_eq!(asked, asks, "{sentence}");
    }
}

#[test]
fn what_was_started_is_ready_lost_or_overruled() {
    let start = request(Verb::Start);
    let wanted = || Status {
        wanted_up: true,
        ..down()
    };
    #[rustfmt::skip]
    let rows = [
        (start, at(1, down()), "", "s6-supervise has not looked yet"),
        (start, at(1, wanted()), "", "it is about to start it"),
        (start, at(1, later(starting())), "", "it has started it"),
        (start, at(1, later(up())), "Ready", "it is ready"),
        (start, at(1, later(down())), "Lost", "it has ended, and stays down"),
        (start, at(1, later(ending())), "Overruled", "another command has told it to end"),
        (start, Seen { status: None, ..at(1, up()) }, "Unsupervised", "its supervisor is gone"),
        (start, Seen { status: None, has_slot: false, ..at(1, up()) }, "Overruled", "its slot is gone, with all that was told"),
        (no_wait(Verb::Start), at(1, later(starting())), "Told", "nobody waits for it to get ready"),
    ];
    for (request, look, ended, sentence) in rows {
        let mut target = begun(request, &seen(Some(down())));
        assert_eq!(target.step(&look, request), [], "{sentence}");
        assert_eq!(end(&target), ended, "{sentence}");
    }
}

#[test]
fn a_restart_waits_for_another_process_and_kills_the_old_one_if_it_is_late() {
    use Order::{Again, Kill, Unlock};
    #[rustfmt::skip]
    let rows = [
        (at(24, up()), &[][..], false, "the old process saves"),
        (at(25, up()), &[Kill], true, "its time is over: s6-supervise kills only what is to be down"),
        (at(1, finishing()), &[], false, "its finish runs"),
        (at(1, later(starting())), &[Unlock], false, "the new process is there"),
        (at(1, later(down())), &[Again], false, "it was parked: it is started anew"),
    ];
    for (look, orders, killed, sentence) in rows {
        let mut target = begun(request(Verb::Restart), &seen(Some(up())));
        let told = target.step(&look, request(Verb::Restart));
        assert_eq!(told, orders, "{sentence}");
        assert_eq!(
            (end(&target).as_str(), target.killed),
            ("", killed),
            "{sentence}"
        );
    }
    let mut target = begun(request(Verb::Restart), &seen(Some(up())));
    target.step(&at(25, up()), request(Verb::Restart));
    let again = target.step(&at(26, up()), request(Verb::Restart));
    assert_eq!(again, [], "it is killed once");
    target.step(&at(27, later(starting())), request(Verb::Restart));
    target.step(&at(28, later(up())), request(Verb::Restart));
    assert_eq!(
        (end(&target).as_str(), target.killed),
        ("Ready", true),
        "and then is ready"
    );
}

#[test]
fn a_restart_by_another_command_is_joined() {
    use Order::{Again, Unlock};
    let locked = |look: Seen| Seen {
        has_lock: false,
        ..look
    };
    #[rustfmt::skip]
    let rows = [
        (locked(at(1, up())), &[][..], "the other command is at work"),
        (at(1, later(starting())), &[Unlock], "the new process is there"),
        (at(1, up()), &[Again], "the other command was killed: it is begun anew"),
    ];
    for (look, orders, sentence) in rows {
        let mut target = begun(request(Verb::Start), &locked(seen(Some(up()))));
        let told = target.step(&look, request(Verb::Start));
        assert_eq!(told, orders, "{sentence}");
    }
}

#[test]
fn what_was_just_started_is_restarted_only_if_it_does_not_get_ready() {
    #[rustfmt::skip]
    let rows = [
        (at(9, starting()), &[][..], "", "it has 10 seconds from its start"),
        (at(9, up()), &[], "Ready", "it is ready: that was the restart"),
        (at(10, starting()), &[Order::Again], "", "it is not: it is restarted after all"),
    ];
    for (look, orders, ended, sentence) in rows {
        let mut target = begun(request(Verb::Restart), &seen(Some(starting())));
        let told = target.step(&look, request(Verb::Restart));
        assert_eq!(told, orders, "{sentence}");
        assert_eq!(end(&target), ended, "{sentence}");
    }
}

#[test]
fn what_was_stopped_is_down_killed_or_overruled() {
    let died = |elapsed, death| Seen {
        last_death: Some(death),
        ..at(elapsed, later(down()))
    };
    let gone = |has_slot| Seen {
        status: None,
        has_slot,
        ..at(1, up())
    };
    #[rustfmt::skip]
    let rows = [
        (at(1, ending()), &[][..], "", false, "it saves"),
        (died(1, Death::Exit(0)), &[], "Down", false, "it has ended"),
        (died(1, Death::Signal(15)), &[], "Down", false, "by its signal"),
        (died(1, Death::Signal(9)), &[], "Killed", false, "somebody has killed it"),
        (died(25, Death::Signal(9)), &[], "Killed", true, "it was killed because its time was over"),
        (at(26, ending()), &[], "", false, "s6-supervise is about to kill it"),
        (at(27, ending()), &[Order::Kill], "", true, "and has not: we do"),
        (at(1, later(up())), &[], "Overruled", false, "another command has started it again"),
        (gone(true), &[], "", false, "its supervisor was killed, and s6-svscan starts another"),
        (gone(false), &[], "Down", false, "its slot is gone, and all that was in it"),
    ];
    for (look, orders, ended, killed, sentence) in rows {
        let mut target = begun(request(Verb::Stop), &seen(Some(up())));
        target.note_heard(Verb::Stop);
        let told = target.step(&look, request(Verb::Stop));
        assert_eq!(told, orders, "{sentence}");
        assert_eq!(
            (end(&target).as_str(), target.killed),
            (ended, killed),
            "{sentence}"
        );
    }
}

#[test]
fn at_the_end_of_a_container_the_time_that_was_given_counts() {
    for (elapsed, orders) in [(4, &[][..]), (5, &[Order::Kill])] {
        let mut target = begun(request_shutdown(), &seen(Some(up())));
        let told = target.step(&at(elapsed, ending()), request_shutdown());
        assert_eq!(told, orders, "after {elapsed} s");
    }
}

#[test]
fn a_process_whose_signal_was_left_to_another_command_gets_one_if_it_has_none() {
    let signalled = |look: Seen| Seen {
        is_signalled: true,
        ..look
    };
    #[rustfmt::skip]
    let rows = [
        (true, at(1, ending()), &[][..], "ours: it is known that the process has its signal"),
        (true, at(1, later(ending())), &[Order::Down], "another process has come, which has none"),
        (false, signalled(at(1, ending())), &[], "not ours: the lock says that the other command is at work"),
        (false, at(1, ending()), &[Order::Down], "it is not any more, and the process is still there"),
        (false, signalled(at(25, ending())), &[Order::Down], "its time is over: it may have had none"),
    ];
    for (is_owner, look, orders, sentence) in rows {
        let mut target = target(is_owner);
        target.begin(&signalled(seen(Some(up()))), request(Verb::Stop));
        let told = target.step(&look, request(Verb::Stop));
        assert_eq!(told, orders, "{sentence}");
    }
}

#[test]
fn s6_supervise_has_heard_when_it_wants_what_it_was_told() {
    #[rustfmt::skip]
    let rows = [
        (Verb::Start, down(), down(), false, "nothing has happened"),
        (Verb::Start, down(), later(starting()), true, "it is wanted up"),
        (Verb::Start, down(), later(down()), true, "it was up, and has ended since"),
        (Verb::Stop, up(), up(), false, "it is still wanted up"),
        (Verb::Stop, starting(), up(), false, "it got ready, which tells nothing"),
        (Verb::Stop, up(), ending(), true, "it is wanted down"),
        (Verb::Stop, up(), later(starting()), false, "it has crashed, and was started again, which tells nothing either"),
        (Verb::Restart, up(), up(), true, "a restart changes nothing of what is wanted"),
    ];
    for (verb, before, now, heard, sentence) in rows {
        let mut target = begun(request(verb), &seen(Some(before)));
        assert_eq!(target.is_heard(Some(&now)), heard, "{sentence}");
        assert!(target.is_heard(None), "who is gone is not waited for");
        target.note_not_heard(Some(&before));
        assert!(end(&target).starts_with("s6-supervise does not answer: see hermes-s6 status"));
    }
    let mut target = begun(request(Verb::Stop), &seen(Some(up())));
    target.note_not_heard(Some(&later(up())));
    assert_eq!(end(&target), "Overruled", "it was started again and again");
}

#[test]
fn an_intent_is_written_again_only_if_no_other_command_has_come_after_ours() {
    let owner = true;
    #[rustfmt::skip]
    let rows = [
        (owner, Wanted::Running, None, Some(up()), true, "it is wanted up"),
        (owner, Wanted::Running, Some(TO_BE_STARTED), Some(up()), true, "and is to be started when it has ended"),
        (owner, Wanted::Running, Some(STOPPED), Some(up()), false, "another command has stopped it"),
        (owner, Wanted::Running, None, Some(down()), false, "s6 does not want it up"),
        (owner, Wanted::Running, None, None, false, "nobody supervises it"),
        (owner, Wanted::Stopped, Some(STOPPED), Some(down()), true, "its down file is ours"),
        (owner, Wanted::Stopped, None, Some(down()), false, "another command has removed it"),
        (owner, Wanted::Stopped, Some(TO_BE_STARTED), Some(down()), false, "another command waits to start it"),
        (!owner, Wanted::Stopped, Some(STOPPED), Some(down()), false, "not ours: who waits to start it leaves no trace"),
    ];
    for (is_owner, wanted, down_file, status, expected, sentence) in rows {
        let is_last = target(is_owner).is_last_word(wanted, down_file, status.as_ref());
        assert_eq!(is_last, expected, "{sentence}");
    }
}

#[test]
fn the_wait_is_as_long_as_what_is_waited_for_can_take() {
    let with = |verb, timeout: Option<u64>| Request {
        timeout: timeout.map(seconds),
        ..request(verb)
    };
    #[rustfmt::skip]
    let rows = [
        (with(Verb::Start, None), down(), 60, "a start: a minute to get ready"),
        (with(Verb::Start, None), ending(), 94, "what ends first has its own time, and a bit"),
        (with(Verb::Restart, None), up(), 94, "so has what is restarted"),
        (with(Verb::Stop, None), up(), 34, "a stop: the time to end, and a bit"),
        (with(Verb::Stop, Some(3)), up(), 3, "a time that was given counts"),
        (with(Verb::Shutdown, Some(3)), up(), 10, "then the container's end kills, which takes a bit"),
        (with(Verb::Shutdown, None), up(), 34, "and without one waits as a stop does"),
    ];
    for (request, status, expected, sentence) in rows {
        let targets = [begun(request, &seen(Some(status)))];
        assert_eq!(
            time_limit(targets.iter(), request, request.timeout),
            seconds(expected),
            "{sentence}"
        );
    }
}
