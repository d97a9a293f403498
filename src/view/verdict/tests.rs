//! What is seen of a gateway, and what is said of it.

use super::*;
use crate::hermes::name::ProfileName;
use crate::hermes::state::Source;
use crate::view::row::Paths;

/// What is seen of a gateway of profile `coder`. Times are in seconds before now.
#[derive(Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact that is seen on its own"
)]
struct Case {
    intent: Intent,
    watched: bool,
    lock: Option<Lock>,
    has_slot: bool,
    is_registered_down: bool,
    held: Option<&'static str>,
    supervisor: Option<Holder>,
    pid: Option<u32>,
    wanted_up: bool,
    ready: bool,
    finishing: bool,
    last_exit: Option<Death>,
    age: u64,
    deaths: Vec<(u64, Death)>,
}

/// One that is wanted, and has been ready for two minutes.
fn ready() -> Case {
    Case {
        intent: Intent::running(),
        watched: true,
        lock: Some(lock(true, Some(7))),
        has_slot: true,
        is_registered_down: false,
        held: None,
        supervisor: Some(Holder::Process(6)),
        pid: Some(7),
        wanted_up: true,
        ready: true,
        finishing: false,
        last_exit: None,
        age: 120,
        deaths: Vec::new(),
    }
}

/// One that has been up for this long, and has not got ready.
fn unready(age: u64) -> Case {
    Case {
        ready: false,
        age,
        ..ready()
    }
}

/// One that went down two minutes ago, although it is wanted.
fn down() -> Case {
    Case {
        pid: None,
        wanted_up: false,
        lock: Some(lock(false, None)),
        ..ready()
    }
}

/// The same, after these deaths: for each, its second on a clock on which the last one is the largest.
fn died(deaths: &[(u64, Death)]) -> Case {
    let last = deaths.last().map_or(0, |(second, _)| *second);
    let ago = |(second, death): &(u64, Death)| (120 + last - second, *death);
    Case {
        deaths: deaths.iter().map(ago).collect(),
        ..down()
    }
}

/// The same after five deaths of one kind, a second apart.
fn died_five_times(death: Death) -> Case {
    died(&[0, 1, 2, 3, 4].map(|second| (second, death)))
}

fn lock(held: bool, pid: Option<i32>) -> Lock {
    Lock {
        signature: "web-1 pid 7 since then".to_owned(),
        held,
        pid,
    }
}

/// The lock of a gateway in another container.
fn elsewhere() -> Lock {
    lock(true, None)
}

fn stopped() -> Intent {
    Intent {
        state: Some("stopped".to_owned()),
        source: Some(Source::DesiredState),
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
}

fn before_now(seconds: u64) -> SystemTime {
    now() - Duration::from_secs(seconds)
}

/// The row of a case, judged.
fn judged(case: &Case) -> Row {
    let mut row = Row {
        profile: "coder"
            .parse()
            .unwrap_or_else(|_| ProfileName::default_profile()),
        state: State::Unregistered,
        reason: None,
        warning: None,
        remedy: None,
        pid: None,
        seconds: None,
        last_exit: None,
        restarts: None,
        intent: case.intent.state.clone(),
        wanted: case.intent.wants_running(),
        port: None,
        paths: Paths {
            home: String::new(),
            slot: String::new(),
            log: String::new(),
        },
        note: None,
        changed: None,
    };
    let service = case.supervisor.map(|supervisor| Service {
        status: Status {
            pid: case.pid,
            wanted_up: case.wanted_up,
            ready: case.ready,
            finishing: case.finishing,
            since: before_now(case.age),
            last_exit: case.last_exit,
        },
        supervisor,
        deaths: case
            .deaths
            .iter()
            .map(|(ago, death)| (before_now(*ago), *death))
            .collect(),
    });
    let slot = Slot {
        is_registered_down: case.is_registered_down,
        held: case.held.map(str::to_owned),
        service,
    };
    let seen = Seen {
        now: now(),
        watched: case.watched,
        scandir: Path::new("/run/slots"),
        intent: &case.intent,
        lock: case.lock.as_ref(),
        slot: case.has_slot.then_some(slot),
    };
    judge(&mut row, &seen);
    row
}

/// What a person is told of a gateway.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// Nothing but its state.
    Nothing,
    /// Why it is as it is, which is no fault.
    Note(String),
    /// What is not as its operator wants it.
    Warning(String),
}

fn note(text: &str) -> Told {
    Told::Note(text.to_owned())
}

fn warning(text: &str) -> Told {
    Told::Warning(text.to_owned())
}

/// State, reason, remedy and what is told; a text that is not there is empty.
type Verdict<'a> = (State, &'a str, &'a str, Told);

/// Judges each case, and compares all that is said of it. The last of each row is what the row is about.
fn compare_all<const N: usize>(rows: [(Case, Verdict, &str); N]) {
    for (case, verdict, sentence) in rows {
        let row = judged(&case);
        let told = match (row.warning, row.note) {
            (None, None) => Told::Nothing,
            (None, Some(note)) => Told::Note(note),
            (Some(warning), note) => {
                assert_eq!(note.as_ref(), Some(&warning), "{sentence}: the same");
                Told::Warning(warning)
            }
        };
        let reason = row.reason.unwrap_or_default();
        let remedy = row.remedy.unwrap_or_default();
        assert_eq!((row.state, &*reason, &*remedy, told), verdict, "{sentence}");
    }
}

const START: &str = "hermes-s6 start -p coder";
const STOP: &str = "hermes-s6 stop -p coder";

#[test]
fn what_a_gateway_does_follows_from_what_s6_says() {
    let finishing = Case {
        finishing: true,
        ..down()
    };
    for (case, state, sentence) in [
        (ready(), State::Ready, "it has said that it is"),
        (unready(0), State::Starting, "it has just been started"),
        (unready(59), State::Starting, "it may take a minute"),
        (unready(60), State::Up, "after a minute it counts as up"),
        (Case { age: 0, ..ready() }, State::Ready, "it was quick"),
        (
            Case {
                wanted_up: false,
                ..ready()
            },
            State::Stopping,
            "it was ready, and has been told to end",
        ),
        (
            Case {
                wanted_up: false,
                ..unready(1)
            },
            State::Stopping,
            "it was told to end before it was ready",
        ),
        (
            finishing.clone(),
            State::Stopping,
            "its process has ended, and finish runs",
        ),
        (
            Case {
                wanted_up: true,
                ..finishing
            },
            State::Starting,
            "finish runs between two starts",
        ),
        (
            Case {
                wanted_up: true,
                ..down()
            },
            State::Starting,
            "finish has run, and s6 waits a second",
        ),
        (down(), State::Down, "it is down, and stays down"),
        (
            Case {
                supervisor: None,
                ..ready()
            },
            State::Unsupervised,
            "a status without a supervisor is an old one",
        ),
        (
            Case {
                has_slot: false,
                ..ready()
            },
            State::Unregistered,
            "it has no slot",
        ),
    ] {
        assert_eq!(judged(&case).state, state, "{sentence}");
    }
}

#[test]
fn a_gateway_waits_for_its_lock_where_another_process_surely_has_it() {
    let waiting = Case {
        lock: Some(elsewhere()),
        ..unready(1)
    };
    for (case, state, sentence) in [
        (waiting.clone(), State::WaitingForLock, "another container"),
        (
            Case {
                age: 600,
                ..waiting.clone()
            },
            State::WaitingForLock,
            "after a minute it waits still",
        ),
        (
            Case {
                lock: Some(lock(true, Some(70))),
                ..waiting.clone()
            },
            State::WaitingForLock,
            "another process of this container",
        ),
        (
            Case {
                lock: Some(lock(true, Some(7))),
                ..waiting.clone()
            },
            State::Starting,
            "it has the lock itself",
        ),
        (
            Case {
                lock: Some(lock(false, None)),
                ..waiting.clone()
            },
            State::Starting,
            "nobody has the lock",
        ),
        (
            Case {
                lock: None,
                ..waiting.clone()
            },
            State::Starting,
            "nobody has ever had it",
        ),
        (
            Case {
                age: 0,
                ..waiting.clone()
            },
            State::Starting,
            "within the first second it may not have got to it",
        ),
        (
            Case {
                supervisor: Some(Holder::Elsewhere),
                lock: Some(lock(true, Some(70))),
                ..waiting.clone()
            },
            State::Starting,
            "its supervisor is of another container, and so are the pids",
        ),
        (
            Case {
                ready: true,
                ..waiting.clone()
            },
            State::Ready,
            "who is ready has its lock, whatever the look at the lock saw",
        ),
        (
            Case {
                wanted_up: false,
                ..waiting
            },
            State::Stopping,
            "who waits can be stopped",
        ),
    ] {
        assert_eq!(judged(&case).state, state, "{sentence}");
    }
}

#[test]
fn of_what_is_as_its_operator_wants_it_nothing_is_said() {
    let nothing = |state| (state, "", "", Told::Nothing);
    compare_all([
        (ready(), nothing(State::Ready), "wanted, and ready"),
        (unready(60), nothing(State::Up), "wanted, and up"),
        (unready(0), nothing(State::Starting), "wanted, and coming"),
        (
            Case {
                wanted_up: true,
                ..died(&[(0, Death::Exit(1))])
            },
            nothing(State::Starting),
            "wanted, and coming again",
        ),
        (
            Case {
                intent: stopped(),
                ..down()
            },
            nothing(State::Down),
            "stopped, and down",
        ),
        (
            Case {
                intent: stopped(),
                ..died(&[(0, Death::Exit(78))])
            },
            nothing(State::Down),
            "stopped, and down, however it ended",
        ),
        (
            Case {
                intent: stopped(),
                wanted_up: false,
                ..ready()
            },
            nothing(State::Stopping),
            "stopped, and about to end",
        ),
        (
            Case {
                intent: stopped(),
                has_slot: false,
                ..ready()
            },
            nothing(State::Unregistered),
            "stopped, and without a slot",
        ),
        (
            Case {
                intent: stopped(),
                supervisor: None,
                ..ready()
            },
            nothing(State::Unsupervised),
            "stopped, and without a supervisor",
        ),
        (
            Case {
                intent: Intent::default(),
                ..ready()
            },
            nothing(State::Ready),
            "nobody has said anything, and it is up",
        ),
        (
            Case {
                intent: Intent::default(),
                ..down()
            },
            nothing(State::Down),
            "nobody has said anything, and it is down",
        ),
        (
            Case {
                intent: Intent::default(),
                ..died(&[(0, Death::Exit(0))])
            },
            nothing(State::Down),
            "it ended by itself, and nobody wants it",
        ),
    ]);
}

#[test]
fn a_gateway_that_was_stopped_and_is_up_is_a_fault() {
    let up = |case| Case {
        intent: stopped(),
        ..case
    };
    compare_all([
        (
            up(ready()),
            (
                State::Ready,
                "",
                STOP,
                warning("coder wants stopped, is ready: hermes-s6 stop -p coder"),
            ),
            "ready",
        ),
        (
            up(unready(60)),
            (
                State::Up,
                "",
                STOP,
                warning("coder wants stopped, is up: hermes-s6 stop -p coder"),
            ),
            "up",
        ),
        (
            up(unready(0)),
            (
                State::Starting,
                "",
                STOP,
                warning("coder wants stopped, is starting: hermes-s6 stop -p coder"),
            ),
            "starting",
        ),
    ]);
}

#[test]
fn a_gateway_that_waits_names_who_has_its_lock() {
    let waiting = Case {
        lock: Some(elsewhere()),
        ..unready(60)
    };
    compare_all([
        (
            waiting.clone(),
            (
                State::WaitingForLock,
                "its lock is held by web-1 pid 7 since then",
                "",
                warning(
                    "coder wants running, is waiting for lock: its lock is held by web-1 pid 7 since then: stop it there, and it starts here",
                ),
            ),
            "nothing can be done here",
        ),
        (
            Case {
                lock: Some(lock(true, Some(70))),
                ..waiting.clone()
            },
            (
                State::WaitingForLock,
                "its lock is held by web-1 pid 7 since then, pid 70 here",
                "",
                warning(
                    "coder wants running, is waiting for lock: its lock is held by web-1 pid 7 since then, pid 70 here: stop it there, and it starts here",
                ),
            ),
            "the holder has another pid here than it signed with",
        ),
        (
            Case {
                intent: Intent::default(),
                ..waiting
            },
            (
                State::WaitingForLock,
                "its lock is held by web-1 pid 7 since then",
                "",
                note(
                    "coder is waiting for lock: its lock is held by web-1 pid 7 since then: stop it there, and it starts here",
                ),
            ),
            "nobody has said that it is to run: no fault",
        ),
    ]);
}

#[test]
fn a_gateway_that_is_down_though_wanted_tells_who_said_so() {
    compare_all([
        (
            down(),
            (
                State::Down,
                "it was told to go down",
                START,
                warning(
                    "coder wants running, is down: it was told to go down, 2 min ago: hermes-s6 start -p coder",
                ),
            ),
            "by s6-svc, say",
        ),
        (
            died(&[(0, Death::Signal(15))]),
            (
                State::Down,
                "it was told to go down",
                START,
                warning(
                    "coder wants running, is down: it was told to go down, 2 min ago: hermes-s6 start -p coder",
                ),
            ),
            "and ended as told",
        ),
        (
            Case {
                is_registered_down: true,
                ..down()
            },
            (
                State::Down,
                "its slot is registered down",
                START,
                warning(
                    "coder wants running, is down: its slot is registered down, 2 min ago: hermes-s6 start -p coder",
                ),
            ),
            "by the down file of its slot",
        ),
        (
            Case {
                is_registered_down: true,
                ..died(&[(0, Death::Exit(0))])
            },
            (
                State::Down,
                "its slot is registered down",
                START,
                warning(
                    "coder wants running, is down: its slot is registered down, 2 min ago: hermes-s6 start -p coder",
                ),
            ),
            "told to end by a command that was killed before it started it again: it is not parked",
        ),
        (
            Case {
                wanted_up: false,
                age: 5,
                ..ready()
            },
            (
                State::Stopping,
                "",
                START,
                warning("coder wants running, is stopping: hermes-s6 start -p coder"),
            ),
            "about to end; for how long does not matter",
        ),
    ]);
}

#[test]
fn a_parked_gateway_tells_how_it_ended() {
    let parked = |reason, told| (State::Parked, reason, START, told);
    compare_all([
        (
            died(&[(0, Death::Exit(78))]),
            parked(
                "exit 78 (configuration)",
                warning(
                    "coder wants running, is parked: exit 78 (configuration), 2 min ago: fix it, then hermes-s6 start -p coder",
                ),
            ),
            "78 is a configuration that cannot work",
        ),
        (
            Case {
                is_registered_down: true,
                ..died(&[(0, Death::Exit(78))])
            },
            parked(
                "exit 78 (configuration)",
                warning(
                    "coder wants running, is parked: exit 78 (configuration), 2 min ago: fix it, then hermes-s6 start -p coder",
                ),
            ),
            "also in a slot that is registered down",
        ),
        (
            died(&[(0, Death::Exit(0))]),
            parked(
                "exit 0 (it ended by itself)",
                warning(
                    "coder wants running, is parked: exit 0 (it ended by itself), 2 min ago: hermes-s6 start -p coder",
                ),
            ),
            "0 is an end by itself, and there is nothing to be fixed",
        ),
        (
            died_five_times(Death::Exit(1)),
            parked(
                "crash loop (5 deaths in two minutes)",
                warning(
                    "coder wants running, is parked: crash loop (5 deaths in two minutes), 2 min ago: fix it, then hermes-s6 start -p coder",
                ),
            ),
            "five crashes are a loop",
        ),
        (
            Case {
                intent: Intent::default(),
                ..died(&[(0, Death::Exit(78))])
            },
            parked(
                "exit 78 (configuration)",
                note(
                    "coder is parked: exit 78 (configuration): fix it, then hermes-s6 start -p coder",
                ),
            ),
            "nobody has said that it is to run: no fault",
        ),
    ]);
}

#[test]
fn a_gateway_parked_for_its_lock_tells_whether_that_is_free_now() {
    let locked = |lock| Case {
        lock,
        ..died(&[(0, Death::Exit(69))])
    };
    let parked = |reason, told| (State::Parked, reason, START, told);
    compare_all([
        (
            locked(Some(elsewhere())),
            parked(
                "exit 69 (its lock is held by web-1 pid 7 since then)",
                warning(
                    "coder wants running, is parked: exit 69 (its lock is held by web-1 pid 7 since then), 2 min ago: stop it there, then hermes-s6 start -p coder",
                ),
            ),
            "it is held still",
        ),
        (
            locked(Some(lock(false, None))),
            parked(
                "exit 69 (its lock was held by web-1 pid 7 since then, and is free now)",
                warning(
                    "coder wants running, is parked: exit 69 (its lock was held by web-1 pid 7 since then, and is free now), 2 min ago: hermes-s6 start -p coder",
                ),
            ),
            "it is free: nothing has to be stopped before",
        ),
        (
            locked(None),
            parked(
                "exit 69 (its lock was held)",
                warning(
                    "coder wants running, is parked: exit 69 (its lock was held), 2 min ago: hermes-s6 start -p coder",
                ),
            ),
            "its file is gone",
        ),
    ]);
}

#[test]
fn only_crashes_close_together_are_a_crash_loop() {
    let crash = Death::Exit(1);
    let five = |last| [0, 1, 2, 3, last].map(|second| (second, crash));
    let last = |death| {
        let mut deaths = five(4).to_vec();
        deaths.push((5, death));
        deaths
    };
    for (case, state, sentence) in [
        (died_five_times(crash), State::Parked, "five"),
        (died(&five(4)[1..]), State::Down, "four are none"),
        (died(&five(120)), State::Parked, "five in two minutes"),
        (died(&five(121)), State::Down, "the first is too long ago"),
        (
            died(&[
                (0, crash),
                (1, Death::Signal(15)),
                (2, crash),
                (3, crash),
                (4, crash),
            ]),
            State::Down,
            "one of the five was told to end",
        ),
        (
            died(&last(Death::Signal(15))),
            State::Parked,
            "as s6-permafailon: the last one need not be a crash",
        ),
        (
            Case {
                intent: Intent::default(),
                ..died_five_times(crash)
            },
            State::Parked,
            "whether it is wanted or not",
        ),
    ] {
        assert_eq!(judged(&case).state, state, "{sentence}");
    }
}

#[test]
fn a_crash_is_what_the_finish_script_counts_as_one() {
    for (death, is_crash, sentence) in [
        (Death::Exit(1), true, "an error"),
        (Death::Exit(74), true, "up to 74"),
        (Death::Exit(75), false, "Hermes asks for a restart by 75"),
        (Death::Exit(76), true, "from 76 on"),
        (Death::Exit(127), true, "its program was not found"),
        (Death::Exit(128), false, "no program ends with that"),
        (Death::Exit(143), false, "a shell's word for SIGTERM"),
        (Death::Exit(255), false, "nor does 255 count"),
        (Death::Signal(1), false, "SIGHUP"),
        (Death::Signal(2), false, "SIGINT"),
        (Death::Signal(4), true, "SIGILL"),
        (Death::Signal(6), true, "SIGABRT"),
        (Death::Signal(7), true, "SIGBUS"),
        (Death::Signal(8), true, "SIGFPE"),
        (Death::Signal(9), false, "SIGKILL: out of memory, say"),
        (Death::Signal(11), true, "SIGSEGV"),
        (Death::Signal(15), false, "SIGTERM"),
    ] {
        let state = judged(&died_five_times(death)).state;
        let expected = if is_crash { State::Parked } else { State::Down };
        assert_eq!(state, expected, "{death:?}: {sentence}");
    }
}

#[test]
fn a_gateway_that_has_lost_its_supervisor_is_named() {
    let orphaned = Case {
        lock: Some(lock(true, Some(70))),
        ..down()
    };
    let reason =
        "a gateway that has lost its supervisor still runs, pid 70: hermes-s6 stop ends it";
    let found = (
        State::Down,
        reason,
        START,
        warning(&format!(
            "coder wants running, is down: {reason}, 2 min ago: {START}"
        )),
    );
    compare_all([
        (orphaned.clone(), found, "it is wanted"),
        (
            Case {
                deaths: vec![(120, Death::Exit(69))],
                ..orphaned.clone()
            },
            (
                State::Down,
                reason,
                START,
                warning(&format!(
                    "coder wants running, is down: {reason}, 2 min ago: {START}"
                )),
            ),
            "it says more than that the slot is parked",
        ),
        (
            Case {
                intent: stopped(),
                ..orphaned.clone()
            },
            (
                State::Down,
                reason,
                "",
                note(&format!("coder is down: {reason}")),
            ),
            "it is stopped",
        ),
        (
            Case {
                intent: stopped(),
                age: 0,
                ..orphaned.clone()
            },
            (State::Down, "", "", Told::Nothing),
            "within a second it may be the process that has just gone down",
        ),
        (
            Case {
                intent: stopped(),
                supervisor: Some(Holder::Elsewhere),
                ..orphaned.clone()
            },
            (State::Down, "", "", Told::Nothing),
            "the supervisor is of another container",
        ),
        (
            Case {
                intent: stopped(),
                lock: Some(elsewhere()),
                ..orphaned
            },
            (State::Down, "", "", Told::Nothing),
            "the holder is of another container: whether it is supervised there is not known",
        ),
    ]);
}

#[test]
fn what_has_no_slot_or_no_supervisor_tells_how_it_gets_one() {
    let unsupervised = Case {
        supervisor: None,
        ..ready()
    };
    let unregistered = Case {
        has_slot: false,
        ..ready()
    };
    compare_all([
        (
            unsupervised.clone(),
            (
                State::Unsupervised,
                "s6-svscan has not taken it up",
                "hermes-s6 reconcile",
                warning(
                    "coder wants running, is unsupervised: s6-svscan has not taken it up: hermes-s6 reconcile",
                ),
            ),
            "s6-svscan runs, and has missed the slot",
        ),
        (
            Case {
                watched: false,
                ..unsupervised
            },
            (
                State::Unsupervised,
                "no s6-svscan watches /run/slots",
                "hermes-s6 supervise",
                warning(
                    "coder wants running, is unsupervised: no s6-svscan watches /run/slots: hermes-s6 supervise",
                ),
            ),
            "no s6-svscan runs",
        ),
        (
            unregistered.clone(),
            (
                State::Unregistered,
                "",
                START,
                warning("coder wants running, is unregistered: hermes-s6 start -p coder"),
            ),
            "s6-svscan runs: a start makes the slot",
        ),
        (
            Case {
                watched: false,
                ..unregistered
            },
            (
                State::Unregistered,
                "",
                "hermes-s6 supervise",
                warning("coder wants running, is unregistered: hermes-s6 supervise"),
            ),
            "there is nothing to start it in",
        ),
        (
            Case {
                watched: false,
                ..ready()
            },
            (State::Ready, "", "", Told::Nothing),
            "its s6-svscan was killed, and its own supervisor was not",
        ),
    ]);
}

#[test]
fn what_this_container_holds_down_is_not_missing() {
    let held = |case| Case {
        held: Some("role=dashboard"),
        is_registered_down: true,
        ..case
    };
    compare_all([
        (
            held(down()),
            (
                State::Down,
                "role=dashboard",
                "",
                note("coder is down: role=dashboard"),
            ),
            "it is down",
        ),
        (
            held(died(&[(0, Death::Exit(0))])),
            (
                State::Down,
                "role=dashboard",
                "",
                note("coder is down: role=dashboard"),
            ),
            "it was told to go down",
        ),
        (
            held(Case {
                supervisor: None,
                ..ready()
            }),
            (
                State::Unsupervised,
                "role=dashboard",
                "",
                note("coder is unsupervised: role=dashboard"),
            ),
            "nothing supervises it",
        ),
        (
            held(Case {
                supervisor: None,
                watched: false,
                ..ready()
            }),
            (
                State::Unsupervised,
                "role=dashboard",
                "",
                note("coder is unsupervised: role=dashboard"),
            ),
            "nothing supervises anything",
        ),
        (
            held(Case {
                wanted_up: false,
                ..ready()
            }),
            (
                State::Stopping,
                "role=dashboard",
                "",
                note("coder is stopping: role=dashboard"),
            ),
            "it is about to end",
        ),
        (
            held(died(&[(0, Death::Exit(78))])),
            (
                State::Parked,
                "exit 78 (configuration)",
                START,
                note(
                    "coder is parked: exit 78 (configuration): fix it, then hermes-s6 start -p coder",
                ),
            ),
            "how it ended says more",
        ),
    ]);
    assert!(!judged(&held(down())).wanted, "nothing here wants it");
}

#[test]
fn the_numbers_are_those_of_the_supervisor() {
    let crash = Death::Exit(1);
    let told = Death::Signal(15);
    // The pid, the seconds, the restarts, how it ended last.
    for (case, numbers, sentence) in [
        (
            ready(),
            (Some(7), Some(120), Some(0), None),
            "it has never ended",
        ),
        (
            down(),
            (None, Some(120), Some(0), None),
            "one that is down has no process",
        ),
        (
            Case {
                deaths: vec![(121, crash), (120, crash), (3, told)],
                ..ready()
            },
            (Some(7), Some(120), Some(2), Some(told)),
            "restarts are those of two minutes, of any kind; the last one counts",
        ),
        (
            Case {
                last_exit: Some(Death::Exit(78)),
                deaths: vec![(500, told)],
                ..ready()
            },
            (Some(7), Some(120), Some(0), Some(told)),
            "a death that is long ago is still the last one",
        ),
        (
            Case {
                last_exit: Some(Death::Exit(78)),
                ..ready()
            },
            (Some(7), Some(120), Some(0), Some(Death::Exit(78))),
            "without a tally, the status file knows",
        ),
        (
            Case {
                supervisor: None,
                ..ready()
            },
            (None, None, None, None),
            "without a supervisor, nothing is known",
        ),
        (
            Case {
                has_slot: false,
                ..ready()
            },
            (None, None, None, None),
            "nor without a slot",
        ),
    ] {
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
            deaths: vec![(later, Death::Exit(1))],
        }),
        ..Slot::default()
    };
    let seen = Seen {
        now: now(),
        watched: true,
        scandir: Path::new("/run/slots"),
        intent: &Intent::running(),
        lock: None,
        slot: Some(slot),
    };
    judge(&mut row, &seen);
    assert_eq!(row.state, State::Starting);
    assert_eq!(row.seconds, Some(0), "it did not go down in the future");
    assert_eq!(row.changed, Some(1_000_005), "the label says when it did");
    assert_eq!(row.restarts, Some(1), "the death counts");
    assert_eq!(row.last_exit, Some(Death::Exit(1)));
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
