//! What a gateway does, since when, and how often it has ended.

use crate::s6::supervision::CRASH_LOOP_DEATHS;

use super::*;

#[test]
fn what_a_gateway_does_follows_from_what_s6_says() {
    let finishing = Case {
        finishing: true,
        ..down()
    };
    #[rustfmt::skip]
    let rows = [
        (ready(), Ready, "it has said that it is"),
        (unready(0), Starting, "it has just been started"),
        (unready(59), Starting, "it may take a minute"),
        (unready(60), Up, "after a minute it counts as up"),
        (Case { age: 0, ..ready() }, Ready, "it was quick"),
        (told_down(ready()), Stopping, "it was ready, and has been told to end"),
        (told_down(unready(1)), Stopping, "it was told to end before it was ready"),
        (finishing.clone(), Stopping, "its process has ended, and finish runs"),
        (Case { wanted_up: true, ..finishing }, Starting, "finish runs between two starts"),
        (Case { wanted_up: true, ..down() }, Starting, "finish has run, and s6 waits a second"),
        (down(), Down, "it is down, and stays down"),
        (unsupervised(), Unsupervised, "a status without a supervisor is an old one"),
        (unregistered(), Unregistered, "it has no slot"),
    ];
    for (case, state, sentence) in rows {
        assert_eq!(judged(&case).state, state, "{sentence}");
    }
}

#[test]
fn a_gateway_waits_for_its_lock_where_another_process_surely_has_it() {
    let waiting = || locked(Some(elsewhere()), unready(1));
    let supervised_elsewhere = Case {
        supervisor: Some(Holder::Elsewhere),
        ..locked(Some(another()), waiting())
    };
    #[rustfmt::skip]
    let rows = [
        (waiting(), WaitingForLock, "another container"),
        (Case { age: 600, ..waiting() }, WaitingForLock, "after a minute it waits still"),
        (locked(Some(another()), waiting()), WaitingForLock, "another process of this container"),
        (locked(Some(lock(true, Some(7))), waiting()), Starting, "it has the lock itself"),
        (locked(Some(free()), waiting()), Starting, "nobody has the lock"),
        (locked(None, waiting()), Starting, "nobody has ever had it"),
        (Case { age: 0, ..waiting() }, Starting, "within the first second it may not have got to it"),
        (supervised_elsewhere, Starting, "its supervisor is of another container, and so are the pids"),
        (Case { ready: true, ..waiting() }, Ready, "who is ready has its lock, whatever the look at the lock saw"),
        (told_down(waiting()), Stopping, "who waits can be stopped"),
    ];
    for (case, state, sentence) in rows {
        assert_eq!(judged(&case).state, state, "{sentence}");
    }
}

#[test]
fn only_crashes_close_together_are_a_crash_loop() {
    let crash = Exit(1);
    let five = |last| [0, 1, 2, 3, last].map(|second| (second, crash));
    let then = |death| died(&[&five(4)[..], &[(5, death)]].concat());
    let mut told = five(4);
    told[1].1 = Signal(15);
    #[rustfmt::skip]
    let rows = [
        (died_five_times(crash), Parked, "five"),
        (died(&five(4)[1..]), Down, "four are none"),
        (died(&five(120)), Parked, "five in two minutes"),
        (died(&five(121)), Down, "the first is too long ago"),
        (died(&told), Down, "one of the five was told to end"),
        (then(Signal(15)), Parked, "as s6-permafailon: the last one need not be a crash"),
        (unsaid(died_five_times(crash)), Parked, "whether it is wanted or not"),
    ];
    for (case, state, sentence) in rows {
        assert_eq!(judged(&case).state, state, "{sentence}");
    }
}

#[test]
fn a_crash_is_what_the_finish_script_counts_as_one() {
    for (death, is_crash, sentence) in [
        (Exit(1), true, "an error"),
        (Exit(74), true, "up to 74"),
        (Exit(75), false, "Hermes asks for a restart by 75"),
        (Exit(76), true, "from 76 on"),
        (Exit(127), true, "its program was not found"),
        (Exit(128), false, "no program ends with that"),
        (Exit(143), false, "a shell's word for SIGTERM"),
        (Exit(255), false, "nor does 255 count"),
        (Signal(1), false, "SIGHUP"),
        (Signal(2), false, "SIGINT"),
        (Signal(4), true, "SIGILL"),
        (Signal(6), true, "SIGABRT"),
        (Signal(7), true, "SIGBUS"),
        (Signal(8), true, "SIGFPE"),
        (Signal(9), false, "SIGKILL: out of memory, say"),
        (Signal(11), true, "SIGSEGV"),
        (Signal(15), false, "SIGTERM"),
    ] {
        let state = judged(&died_five_times(death)).state;
        let expected = if is_crash { Parked } else { Down };
        assert_eq!(state, expected, "{death:?}: {sentence}");
    }
}

#[test]
fn the_numbers_are_those_of_the_supervisor() {
    let (crash, told, broken) = (Exit(1), Signal(15), Exit(78));
    let dying = Case {
        deaths: vec![(121, crash), (120, crash), (3, told)],
        ..ready()
    };
    let untallied = || Case {
        last_exit: Some(broken),
        ..ready()
    };
    let long_ago = Case {
        deaths: vec![(500, told)],
        ..untallied()
    };
    // The pid, the seconds, the restarts, how it ended last.
    #[rustfmt::skip]
    let rows = [
        (ready(), (Some(7), Some(120), Some(0), None), "it has never ended"),
        (down(), (None, Some(120), Some(0), None), "one that is down has no process"),
        (dying, (Some(7), Some(120), Some(2), Some(told)), "restarts are those of two minutes, of any kind; the last one counts"),
        (long_ago, (Some(7), Some(120), Some(0), Some(told)), "a death that is long ago is still the last one"),
        (untallied(), (Some(7), Some(120), Some(0), Some(broken)), "without a tally, the status file knows"),
        (unsupervised(), (None, None, None, None), "without a supervisor, nothing is known"),
        (unregistered(), (None, None, None, None), "nor without a slot"),
    ];
    for (case, numbers, sentence) in rows {
        let row = judged(&case);
        assert_eq!(
            (row.pid, row.seconds, row.restarts, row.last_exit),
            numbers,
            "{sentence}"
        );
        let changed = row.seconds.map(|seconds| 1_000_000 - seconds);
        assert_eq!(row.changed, changed, "{sentence}");
    }
}

#[test]
fn what_happens_while_it_is_looked_at_is_now() {
    let mut row = judged(&ready());
    let later = now() + Duration::from_secs(5);
    let slot = Slot {
        service: Some(Service {
            status: Status {
                pid: None,
                wanted_up: true,
                ready: false,
                finishing: true,
                since: later,
                last_exit: None,
            },
            supervisor: Holder::Process(6),
            deaths: vec![(later, Exit(1))],
        }),
        ..Slot::default()
    };
    let seen = Seen {
        selection: "-p coder",
        deaths: CRASH_LOOP_DEATHS,
        now: now(),
        called_by: &[],
        watched: true,
        scandir: Path::new("/run/slots"),
        intent: &Intent::running(),
        lock: None,
        said: &Said::default(),
        slot: Ok(Some(slot)),
    };
    judge(&mut row, &seen);
    assert_eq!(row.state, Starting);
    assert_eq!(row.seconds, Some(0), "it did not go down in the future");
    assert_eq!(row.changed, Some(1_000_005), "the label says when it did");
    assert_eq!(row.restarts, Some(1), "the death counts");
    assert_eq!(row.last_exit, Some(Exit(1)));
}

#[test]
fn what_a_gateway_says_of_itself_counts_while_it_is_that_process() {
    #[rustfmt::skip]
    let rows = [
        (beating(7, 119), Ready, None, "its heartbeat is young enough"),
        (beating(7, 120), Unresponsive, Some("its last heartbeat is 120 s old"), "it is too old"),
        (beating(8, 999), Ready, None, "it is that of another process"),
        (Case { ready: false, age: 5, ..beating(7, 999) }, Starting, None, "it is not ready, and so need not have one"),
        (failed(7), Unresponsive, Some("its state file says startup_failed"), "it says so itself"),
        (failed(8), Ready, None, "another process has said that"),
    ];
    for (case, state, reason, sentence) in rows {
        let row = judged(&case);
        assert_eq!(
            (row.state, row.reason.as_deref()),
            (state, reason),
            "{sentence}"
        );
        assert_eq!(row.is_missing(), state == Unresponsive, "{sentence}");
        let remedy = (state == Unresponsive).then_some("hermes-s6 restart -p coder");
        assert_eq!(row.remedy.as_deref(), remedy, "{sentence}");
    }
}

#[test]
fn a_gateway_that_ends_again_and_again_is_restarting_and_missed_after_two_minutes() {
    let reason = |deaths: u64| format!("{deaths} deaths in a row, the last by exit 75");
    #[rustfmt::skip]
    let rows = [
        (restarting(3, 1), Starting, None, false, "three deaths are not many"),
        (restarting(4, 1), Restarting, Some(reason(4)), false, "four in a row are"),
        (Case { pid: None, ..restarting(4, 1) }, Restarting, Some(reason(4)), false, "also between two starts"),
        (Case { ready: true, ..restarting(4, 1) }, Ready, None, false, "it serves now"),
        (restarting(4, 120), Starting, None, false, "the last was some time ago"),
        (restarting(120, 1), Restarting, Some(reason(120)), false, "for two minutes, a crash loop would have been parked"),
        (restarting(121, 1), Restarting, Some(reason(121)), true, "longer than that, it is missed"),
    ];
    for (case, state, reason, is_missing, sentence) in rows {
        let row = judged(&case);
        assert_eq!(
            (row.state, row.reason.clone()),
            (state, reason),
            "{sentence}"
        );
        assert_eq!(row.is_missing(), is_missing, "{sentence}");
    }
}

#[test]
fn what_was_some_time_ago_has_one_unit() {
    let texts = [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 900_000].map(ago);
    assert_eq!(
        texts,
        [
            "0 s ago",
            "59 s ago",
            "1 min ago",
            "59 min ago",
            "1 h ago",
            "23 h ago",
            "1 d ago",
            "10 d ago"
        ]
    );
}

#[test]
fn a_holder_is_named_as_it_signed_and_as_it_is_seen_here() {
    let named = |held, pid| holder_text(&lock(held, pid));
    let held = "its lock is held by web-1 pid 7 since then";
    assert_eq!(named(true, None), held, "elsewhere");
    assert_eq!(named(true, Some(7)), held);
    assert_eq!(named(true, Some(70)), format!("{held}, pid 70 here"));
    assert_eq!(
        named(false, None),
        "its lock was held by web-1 pid 7 since then, and is free now"
    );
}
