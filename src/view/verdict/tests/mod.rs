//! What is seen of a gateway, and what is said of it.

mod advice;
mod state;

use super::*;
use crate::hermes::name::name;
use crate::hermes::state::{Heartbeat, Source};
use crate::s6::supervision::CRASH_LOOP_DEATHS;
use crate::view::row::Paths;
use Death::{Exit, Signal};
use State::{
    Down, Parked, Ready, Restarting, Starting, Stopping, Unregistered, Unresponsive, Unsupervised,
    Up, WaitingForLock,
};

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
    held: Option<Held>,
    called_by: &'static [&'static str],
    supervisor: Option<Holder>,
    pid: Option<u32>,
    wanted_up: bool,
    ready: bool,
    finishing: bool,
    last_exit: Option<Death>,
    age: u64,
    deaths: Vec<(u64, Death)>,
    said: Said,
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
        called_by: &[],
        supervisor: Some(Holder::Process(6)),
        pid: Some(7),
        wanted_up: true,
        ready: true,
        finishing: false,
        last_exit: None,
        age: 120,
        deaths: Vec::new(),
        said: Said::default(),
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
        lock: Some(free()),
        ..ready()
    }
}

/// One whose slot has no supervisor.
fn unsupervised() -> Case {
    Case {
        supervisor: None,
        ..ready()
    }
}

/// One that has no slot.
fn unregistered() -> Case {
    Case {
        has_slot: false,
        ..ready()
    }
}

/// One that is down, after these deaths: for each, its second on a clock on which the last one is the largest.
fn died(deaths: &[(u64, Death)]) -> Case {
    let last = deaths.last().map_or(0, |(second, _)| *second);
    let ago = |(second, death): &(u64, Death)| (120 + last - second, *death);
    Case {
        deaths: deaths.iter().map(ago).collect(),
        ..down()
    }
}

/// One that is not ready, after as many deaths as are given, a second apart, of which the last was `ago`.
fn restarting(deaths: u64, ago: u64) -> Case {
    Case {
        deaths: (0..deaths)
            .rev()
            .map(|before| (ago + before, Exit(75)))
            .collect(),
        ..unready(1)
    }
}

/// One that has given a heartbeat this long ago, as this process.
fn beating(pid: u32, age: u64) -> Case {
    Case {
        said: Said {
            heartbeat: Some(Heartbeat { pid, age }),
            ..Said::default()
        },
        ..ready()
    }
}

/// One whose state file says that this process has failed to start.
fn failed(pid: u32) -> Case {
    Case {
        said: Said {
            failed_start: Some(pid),
            ..Said::default()
        },
        ..ready()
    }
}

/// The same after one death, by this code.
fn exited(code: u8) -> Case {
    died(&[(0, Exit(code))])
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

/// The lock of another process of this container.
fn another() -> Lock {
    lock(true, Some(70))
}

/// The lock that nobody has.
fn free() -> Lock {
    lock(false, None)
}

/// Its home has this lock.
fn locked(lock: Option<Lock>, case: Case) -> Case {
    Case { lock, ..case }
}

/// Nobody has said whether it is to run.
fn unsaid(case: Case) -> Case {
    Case {
        intent: Intent::default(),
        ..case
    }
}

/// Its operator has stopped it.
fn stopped(case: Case) -> Case {
    let intent = Intent {
        state: Some("stopped".to_owned()),
        source: Some(Source::DesiredState),
    };
    Case { intent, ..case }
}

/// s6-supervise has been told to have it down.
fn told_down(case: Case) -> Case {
    Case {
        wanted_up: false,
        ..case
    }
}

/// Its slot has a `down` file.
fn registered_down(case: Case) -> Case {
    Case {
        is_registered_down: true,
        ..case
    }
}

/// No s6-svscan watches the scan directory.
fn unwatched(case: Case) -> Case {
    Case {
        watched: false,
        ..case
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
    let paths = Paths {
        home: String::new(),
        slot: String::new(),
        log: String::new(),
    };
    let mut row = Row::new(name("coder"), &case.intent, None, paths);
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
        held: case.held.clone(),
        service,
    };
    let called_by: Vec<ProfileName> = case.called_by.iter().map(|text| name(text)).collect();
    let called_by: Vec<&ProfileName> = called_by.iter().collect();
    let seen = Seen {
        selection: "-p coder",
        deaths: CRASH_LOOP_DEATHS,
        now: now(),
        called_by: &called_by,
        watched: case.watched,
        scandir: Path::new("/run/slots"),
        intent: &case.intent,
        lock: case.lock.as_ref(),
        said: &case.said,
        slot: Ok(case.has_slot.then_some(slot)),
    };
    judge(&mut row, &seen);
    row
}
