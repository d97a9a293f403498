//! Clients that give random commands at once, while whatever runs is killed: what holds when it is over.
//!
//! A command that ended with 0 is acknowledged. The intent of a profile has to be that of one of the last commands:
//! one after whose end no acknowledged command has begun. A command that was killed or has failed may have had its
//! effect or not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::random::{Random, all, seed};
use crate::support::{Process, TestEnv, names, say};

const CLIENTS: usize = 8;

const PROFILES: [&str; 12] = [
    "default", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k",
];

/// How long a command may take as it is told, in seconds, and how much later it may be on a machine with a load.
const TIMEOUT: &str = "20";
const BOUND: Duration = Duration::from_secs(20 + 40);

/// The codes with which a command may end: done, no, too late, no supervisor, a call or a tool that failed.
const CODES: [i32; 5] = [0, 1, 99, 102, 111];

/// What commands do: their words, and the intent that they write.
const COMMANDS: [(&str, Option<&str>); 10] = [
    ("start", Some("running")),
    ("start", Some("running")),
    ("stop", Some("stopped")),
    ("stop", Some("stopped")),
    ("restart", Some("running")),
    ("register", None),
    ("unregister", None),
    ("status", None),
    ("reconcile", None),
    ("list", None),
];

/// What is killed, and how often.
const VICTIMS: [Victim; 14] = [
    Victim::Gateway,
    Victim::Gateway,
    Victim::Gateway,
    Victim::Logger,
    Victim::Logger,
    Victim::Supervisor,
    Victim::Supervisor,
    Victim::SupervisorOfLogger,
    Victim::SupervisorOfLogger,
    Victim::Client,
    Victim::Client,
    Victim::Client,
    Victim::Tender,
    Victim::Svscan,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Gateway,
    Logger,
    Supervisor,
    SupervisorOfLogger,
    Client,
    Tender,
    Svscan,
}

impl Victim {
    fn is(self, process: &Process) -> bool {
        let words = process.cmdline.trim_end_matches('\0').replace('\0', " ");
        let is_of = |comm: &str| process.comm == comm;
        match self {
            Self::Gateway => is_of("hermes") && words.ends_with("gateway run --replace"),
            Self::Logger => is_of("s6-log"),
            Self::Supervisor => {
                is_of("s6-supervise") && words.contains("gateway-") && !words.ends_with("/log")
            }
            Self::SupervisorOfLogger => {
                is_of("s6-supervise") && words.contains("gateway-") && words.ends_with("/log")
            }
            Self::Tender => words.contains("hermes-s6-tender"),
            Self::Svscan => is_of("s6-svscan"),
            Self::Client => false,
        }
    }
}

/// A command that has written an intent, or may have.
struct Written {
    intent: &'static str,
    begun: Instant,
    ended: Instant,
    is_acknowledged: bool,
}

/// What has been done so far.
#[derive(Default)]
struct Record {
    /// By profile.
    intents: Mutex<BTreeMap<&'static str, Vec<Written>>>,
    /// How many commands have ended with which code; −1 if they were killed.
    codes: Mutex<BTreeMap<i32, usize>>,
    kills: Mutex<BTreeMap<Victim, usize>>,
    faults: Mutex<Vec<String>>,
}

impl Record {
    fn write(&self, profile: &'static str, written: Written) {
        let mut intents = self.intents.lock().unwrap();
        intents.entry(profile).or_default().push(written);
    }

    /// The intents that a profile may have now: one of the last commands has written it, or nobody has.
    fn possible(&self, profile: &str) -> BTreeSet<&'static str> {
        let intents = self.intents.lock().unwrap();
        let written = intents.get(profile).map_or(&[][..], Vec::as_slice);
        let begun = written.iter().filter(|one| one.is_acknowledged);
        let last_begun = begun.map(|one| one.begun).max();
        let is_last = |one: &&Written| last_begun.is_none_or(|begun| one.ended >= begun);
        let last = written.iter().filter(is_last).map(|one| one.intent);
        last.chain(last_begun.is_none().then_some("")).collect()
    }
}

/// The commands that run now, one for each client.
type Clients = [Mutex<Option<Child>>; CLIENTS];

/// Gives random commands until it is over.
fn client(
    env: &TestEnv,
    record: &Record,
    mine: &Mutex<Option<Child>>,
    is_over: &AtomicBool,
    mut random: Random,
) {
    while !is_over.load(Ordering::Relaxed) {
        let (verb, intent) = *random.pick(&COMMANDS);
        let profile = *random.pick(&PROFILES);
        let mut words = vec![verb];
        match verb {
            "reconcile" | "list" => {}
            _ => words.extend(["-p", profile]),
        }
        if intent.is_some() {
            words.extend(["--timeout", TIMEOUT]);
        }
        let begun = Instant::now();
        let mut command = env.hermes_s6(&words[..]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        *mine.lock().unwrap() = Some(command.spawn().unwrap());
        let code = loop {
            // Under the lock: what has been waited for may not be killed any more.
            let mut child = mine.lock().unwrap();
            if let Some(status) = child.as_mut().unwrap().try_wait().unwrap() {
                *child = None;
                break status.code().unwrap_or(-1);
            }
            drop(child);
            std::thread::sleep(Duration::from_millis(5));
        };
        let ended = Instant::now();
        *record.codes.lock().unwrap().entry(code).or_default() += 1;
        let took = ended - begun;
        if took > BOUND || !(CODES.contains(&code) || code == -1) {
            let fault = format!("{words:?} ended with {code} after {took:?}");
            record.faults.lock().unwrap().push(fault);
        }
        if let Some(intent) = intent {
            let is_acknowledged = code == 0;
            let written = Written {
                intent,
                begun,
                ended,
                is_acknowledged,
            };
            record.write(profile, written);
        }
    }
}

/// Kills whatever runs until it is over.
fn killer(
    env: &TestEnv,
    record: &Record,
    clients: &Clients,
    is_over: &AtomicBool,
    mut random: Random,
) {
    while !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20 + random.next() % 120));
        let victim = *random.pick(&VICTIMS);
        let is_killed = if victim == Victim::Client {
            let mut client = random.pick(clients).lock().unwrap();
            client.as_mut().is_some_and(|child| child.kill().is_ok())
        } else {
            let found: Vec<Process> = env
                .processes()
                .into_iter()
                .filter(|process| victim.is(process))
                .collect();
            !found.is_empty() && {
                random.pick(&found).kill("KILL");
                true
            }
        };
        if is_killed {
            *record.kills.lock().unwrap().entry(victim).or_default() += 1;
        }
    }
}

/// Keeps a tree there, as the root service of a container does, until somebody ends it at rest. Gives how many times it
/// was started.
fn keeper(env: &TestEnv, is_at_rest: &AtomicBool) -> usize {
    let mut starts = 0;
    loop {
        env.start(env.hermes_s6("supervise")).wait();
        starts += 1;
        if is_at_rest.load(Ordering::Relaxed) {
            return starts;
        }
    }
}

/// What lies in a tree and on its volume once all profiles have been started and stopped.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    scandir: Vec<String>,
    slots: Vec<Vec<String>>,
    homes: Vec<Vec<String>>,
    /// How many descriptors a supervisor has.
    descriptors: BTreeSet<usize>,
}

impl Shape {
    fn of(env: &TestEnv) -> Self {
        let supervisors = env.processes_named("s6-supervise");
        let descriptors =
            |process: &Process| names(Path::new(&format!("/proc/{}/fd", process.pid))).len();
        Self {
            scandir: names(&env.scandir),
            slots: PROFILES
                .iter()
                .map(|profile| names(&env.slot(profile)))
                .collect(),
            homes: PROFILES
                .iter()
                .map(|profile| names(&env.home_of(profile)))
                .collect(),
            descriptors: supervisors.iter().map(descriptors).collect(),
        }
    }
}

/// Makes what killed commands have left half written so old that nobody can be writing it any more.
fn age(env: &TestEnv) {
    let day = Duration::from_secs(24 * 60 * 60);
    for profile in PROFILES {
        let home = env.home_of(profile);
        for name in names(&home)
            .iter()
            .filter(|name| name.contains(".hermes-s6-"))
        {
            let file = fs::File::open(home.join(name)).unwrap();
            file.set_modified(SystemTime::now() - day).unwrap();
        }
    }
}

/// What is not as it has to be, now that nobody does anything any more.
fn faults(env: &TestEnv, record: &Record) -> Vec<String> {
    let mut faults = Vec::new();
    let processes = env.processes();
    for profile in PROFILES {
        let state = env.state_file(profile);
        let intents = ["running", "stopped"];
        let intent = intents
            .into_iter()
            .find(|intent| state.contains(&format!("\"desired_state\":\"{intent}\"")));
        let intent = intent.unwrap_or_default();
        let possible = record.possible(profile);
        if !possible.contains(intent) {
            faults.push(format!(
                "{profile} has the intent '{intent}', and not one of {possible:?}: {state}"
            ));
        }
        let gateways = env.gateways(profile).len();
        let expected = usize::from(intent == "running");
        if gateways != expected {
            faults.push(format!(
                "{profile} has the intent '{intent}', and {gateways} gateways"
            ));
        }
        let twice = env.count(profile, "two");
        if twice > 0 {
            faults.push(format!("{profile} ran twice at once, {twice} times"));
        }
        let slot = format!("gateway-{profile}");
        let supervises = |name: &str| {
            let is_it = |process: &&Process| {
                process.comm == "s6-supervise"
                    && process
                        .cmdline
                        .trim_end_matches('\0')
                        .ends_with(&format!("\0{name}"))
            };
            processes.iter().filter(is_it).count()
        };
        let logs = env.log(profile);
        let is_logger = |process: &&Process| {
            process.comm == "s6-log" && process.cmdline.contains(&format!("{}\0", logs.display()))
        };
        let counts = [
            supervises(&slot),
            supervises(&format!("{slot}/log")),
            processes.iter().filter(is_logger).count(),
        ];
        if counts != [1; 3] {
            faults.push(format!(
                "{profile} has {counts:?} supervisors, supervisors of its log, and loggers"
            ));
        }
    }
    faults
}

#[test]
fn whatever_is_killed_each_profile_is_as_its_last_acknowledged_command_says() {
    let seed = seed();
    let time = Duration::from_secs(if all() { 600 } else { 40 });
    say(&format!(
        "chaos: HERMES_S6_TEST_SEED={seed}, {} s",
        time.as_secs()
    ));
    let mut env = TestEnv::new();
    env.set("HERMES_S6_STOP_TIMEOUT", "5");
    for profile in PROFILES {
        env.profile(profile, "").behaviour(profile, "witness 1\n");
    }
    let env = env;
    let before = {
        let tree = env.supervise();
        env.run("start --all").ends(0);
        env.run("restart --all").ends(0);
        env.run("stop --all").ends(0);
        let shape = Shape::of(&env);
        tree.stop();
        shape
    };
    let record = Record::default();
    for profile in PROFILES {
        fs::write(env.home_of(profile).join("events"), "").unwrap();
        let now = Instant::now();
        let stop = Written {
            intent: "stopped",
            begun: now,
            ended: now,
            is_acknowledged: true,
        };
        record.write(profile, stop);
    }
    env.own();
    let clients = Clients::default();
    let [is_over, is_at_rest] = [false, false].map(AtomicBool::new);
    let mut random = Random::new(seed);
    std::thread::scope(|scope| {
        let tree = scope.spawn(|| keeper(&env, &is_at_rest));
        env.wait_for("the tree to be watched", || env.run("detect").code == 0);
        let mut workers = Vec::new();
        for mine in &clients {
            let random = Random::new(random.next());
            workers.push(scope.spawn(|| client(&env, &record, mine, &is_over, random)));
        }
        let for_killer = Random::new(random.next());
        workers.push(scope.spawn(|| killer(&env, &record, &clients, &is_over, for_killer)));
        std::thread::sleep(time);
        is_over.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.join().unwrap();
        }
        env.wait_for("the tree to be watched", || env.run("detect").code == 0);
        env.run("reconcile").ends(0);
        settle(&env, &record, "after a reconcile");
        // What the volume says is all that counts for another tree.
        is_at_rest.store(true, Ordering::Relaxed);
        env.command("s6-svscanctl")
            .arg("-t")
            .arg(&env.scandir)
            .status()
            .unwrap();
        let starts = tree.join().unwrap();
        say(&format!(
            "chaos: codes {:?}, kills {:?}, {starts} starts of the tree",
            record.codes.lock().unwrap(),
            record.kills.lock().unwrap()
        ));
    });
    let tree = env.supervise();
    settle(&env, &record, "in another tree");
    age(&env);
    for command in ["start --all", "stop --all"] {
        env.run(command).ends(0);
    }
    assert_eq!(Shape::of(&env), before, "seed {seed}");
    tree.stop();
    env.wait_for("all processes to end", || {
        env.processes()
            .iter()
            .all(|process| process.comm == "sleep")
    });
    let faults = record.faults.into_inner().unwrap();
    assert!(faults.is_empty(), "seed {seed}: {faults:#?}");
}

/// Waits until all is as it has to be.
#[track_caller]
fn settle(env: &TestEnv, record: &Record, when: &str) {
    let mut last = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        last = faults(env, record);
        if last.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("{when}: {last:#?}\n{}", env.run("status").stdout);
}
