//! What hermes-s6 costs, as ratios in one run: against the Python original, where the program of a venv
//! with Hermes Agent is named by `HERMES_S6_TEST_HERMES`, and against a yardstick of bare system calls
//! that does the least that the same outcome needs. Machines differ and are noisy: only ratios count.

#![expect(clippy::cast_precision_loss, reason = "sizes of files")]
#![expect(clippy::print_stdout, reason = "a benchmark is read by people")]
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has failed"
)]

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hermes-s6");

fn main() {
    // As in a container: the volume on a disk, the scan directory in memory.
    let name = format!("hermes-s6-bench-{}", std::process::id());
    let place = std::env::temp_dir().join(&name);
    let memory = Path::new("/dev/shm").join(&name);
    for directory in [&place, &memory] {
        remove(directory);
        fs::create_dir(directory).unwrap();
    }
    size();
    start_up();
    println!();
    println!(
        "{:<34}{:>12}{:>14}{:>12}",
        "reconcile", "hermes-s6", "bare calls", "original"
    );
    for count in [1, 10, 100, 1000] {
        reconcile(&place, &memory, count);
    }
    println!();
    commands(&place, &memory);
    for directory in [&place, &memory] {
        remove(directory);
    }
}

/// A tree that runs, and is killed when the benchmark is done with it.
struct Tree {
    svscan: Child,
    scandir: PathBuf,
}

impl Tree {
    fn start(mut command: Command, scandir: &Path) -> Self {
        let svscan = gateway_environment(&mut command).spawn().unwrap();
        let scandir = scandir.to_owned();
        Self { svscan, scandir }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _asked = Command::new("s6-svscanctl")
            .arg("-t")
            .arg(&self.scandir)
            .status();
        let _ended = self.svscan.wait();
    }
}

/// What commands cost, and how long a gateway is away when it is restarted.
fn commands(place: &Path, memory: &Path) {
    let Some(hermes) = std::env::var_os("HERMES_S6_TEST_HERMES") else {
        println!("commands: skipped, HERMES_S6_TEST_HERMES names no real Hermes");
        return;
    };
    let (ours, theirs) = (home(place, "ours"), home(place, "theirs"));
    let (our_slots, their_slots) = (memory.join("ours"), memory.join("theirs"));
    let with = |command: &mut Command| {
        command
            .env("HERMES_HOME", &ours)
            .env("HERMES_S6_SCANDIR", &our_slots)
            .env("HERMES_S6_HERMES", &hermes);
    };
    let mut supervise = Command::new(PROGRAM);
    with(supervise.arg("supervise"));
    let tree = Tree::start(supervise, &our_slots);
    let command = |words: &[&str]| {
        let mut command = Command::new(PROGRAM);
        with(command.args(words));
        run(&mut command);
    };
    let watched = || {
        let mut detect = Command::new(PROGRAM);
        with(detect.arg("detect"));
        attempt(&mut detect)
    };
    until("the tree", watched);
    command(&["start", "-p", "coder"]);
    let least = median(20, || run(Command::new(&hermes).arg("--version")));
    for words in [
        &["status"][..],
        &["start", "-p", "coder"],
        &["start", "-p", "coder", "--no-wait"],
    ] {
        let took = median(50, || command(words));
        println!(
            "{:<34}{:>12}, {:.0} times faster than the original says its version",
            words.join(" "),
            shown(took),
            ratio(least, took)
        );
    }
    let named = |no_wait: &str| {
        median(50, || {
            let mut command = Command::new(PROGRAM);
            with(
                command
                    .arg0("hermes")
                    .args(START)
                    .env("HERMES_S6_NO_WAIT", no_wait),
            );
            run(&mut command);
        })
    };
    let (named, no_wait) = (named("0"), named("1"));
    let slot = our_slots.join("gateway-coder");
    let bare = median(50, || run(Command::new("s6-svc").arg("-u").arg(&slot)));
    // One that has been ready for a second is started again at once; s6 knows that only of a gateway
    // that tells it when it is ready.
    let settle = || std::thread::sleep(Duration::from_millis(1200));
    let restart = median_of(5, settle, || command(&["restart", "-p", "coder"]));
    drop(tree);

    let slot = slot_of_original(&their_slots, &theirs, Path::new(&hermes));
    let mut svscan = Command::new("s6-svscan");
    svscan.arg(&their_slots);
    let tree = Tree::start(svscan, &their_slots);
    let state = || -> Option<u64> {
        let text = fs::read(theirs.join("profiles/coder/gateway_state.json")).ok()?;
        let json: serde_json::Value = serde_json::from_slice(&text).ok()?;
        (json["gateway_state"] == "running").then(|| json["pid"].as_u64())?
    };
    until("the original's slot", || state().is_some());
    let real = median(5, || {
        let mut command = Command::new(Path::new(&hermes).with_file_name("python"));
        command.args(["-c", UNDER_S6]).args(START);
        run(command
            .env("SCANDIR", &their_slots)
            .env("HERMES_HOME", &theirs));
    });
    by_name(
        &[("", named), (", HERMES_S6_NO_WAIT=1", no_wait)],
        real,
        bare,
    );
    let original = median_of(5, settle, || {
        let before = state();
        run(Command::new("s6-svc").arg("-r").arg(&slot));
        until("the restart", || state().is_some() && state() != before);
    });
    drop(tree);
    println!(
        "restart, SIGTERM to ready: {}, in a slot of the original {}: {:.1} times, {} less",
        shown(restart),
        shown(original),
        ratio(original, restart),
        shown(original.saturating_sub(restart))
    );
}

/// Makes a home with one named profile.
fn home(place: &Path, name: &str) -> PathBuf {
    let home = place.join(name);
    fs::create_dir_all(home.join("profiles/coder")).unwrap();
    fs::write(home.join("profiles/coder/SOUL.md"), "").unwrap();
    home
}

/// Makes a slot like those of the original.
fn slot_of_original(scandir: &Path, home: &Path, hermes: &Path) -> PathBuf {
    let slot = scandir.join("gateway-coder");
    fs::create_dir_all(&slot).unwrap();
    let script = format!(
        "#!/bin/sh\nexport HERMES_HOME={}\nexec {} -p coder gateway run --replace\n",
        home.display(),
        hermes.display()
    );
    fs::write(slot.join("run"), script).unwrap();
    fs::set_permissions(slot.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    slot
}

fn by_name(rows: &[(&str, Duration)], real: Duration, bare: Duration) {
    for &(what, took) in rows {
        println!(
            "hermes {}{what}: {}, by the real program {}, {:.0} times; {:.1} times s6-svc alone ({})",
            START.join(" "),
            shown(took),
            shown(real),
            ratio(real, took),
            ratio(took, bare),
            shown(bare)
        );
    }
}

/// A command line of Hermes.
const START: [&str; 4] = ["-p", "coder", "gateway", "start"];

/// The real program where it finds s6: it looks for that at PID 1, with its slots and programs in fixed places.
const UNDER_S6: &str = "
import os, pathlib, sys
import hermes_cli.main
from hermes_cli import service_manager
service_manager._s6_running = lambda: True
service_manager._S6_BIN_DIR = '/usr/bin'
manager = service_manager.S6ServiceManager(pathlib.Path(os.environ['SCANDIR']))
service_manager.get_service_manager = lambda: manager
sys.exit(hermes_cli.main.main())
";

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "waited for {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn size() {
    let bytes = fs::metadata(PROGRAM).unwrap().len();
    println!(
        "size: {bytes} bytes, {:.2} of the limit of 2500000",
        bytes as f64 / 2.5e6
    );
}

/// The yardstick of a start is that of the smallest program there is.
fn start_up() {
    let ours = median(200, || run(Command::new(PROGRAM).arg("--version")));
    let least = median(200, || run(&mut Command::new("/bin/true")));
    println!(
        "start-up: {}, {:.1} times that of /bin/true ({})",
        shown(ours),
        ratio(ours, least),
        shown(least)
    );
}

fn reconcile(place: &Path, memory: &Path, count: usize) {
    let home = place.join(format!("home{count}"));
    for number in 1..count {
        let profile = home.join(format!("profiles/p{number:03}"));
        fs::create_dir_all(&profile).unwrap();
        fs::write(profile.join("SOUL.md"), "").unwrap();
        fs::write(
            profile.join("gateway_state.json"),
            r#"{"gateway_state":"running"}"#,
        )
        .unwrap();
    }
    fs::create_dir_all(home.join("logs")).unwrap();
    let scandir = memory.join(format!("service{count}"));
    let rounds = if count == 1000 { 5 } else { 15 };
    let ours = || {
        run(Command::new(PROGRAM)
            .arg("reconcile")
            .env("HERMES_HOME", &home)
            .env("HERMES_S6_SCANDIR", &scandir));
    };
    let fresh = median_of(rounds, || remove(&scandir), ours);
    let files = rendered(&scandir);
    let bare = memory.join(format!("bare{count}"));
    let written = median_of(rounds, || remove(&bare), || write_bare(&bare, &files));
    // The second run finds nothing to do; the least for that is to read everything once.
    let again = median(rounds, ours);
    let read = median(rounds, || {
        let home_files =
            (1..count).map(|number| home.join(format!("profiles/p{number:03}/gateway_state.json")));
        let slot_files = files.iter().map(|(path, _)| scandir.join(path));
        for path in home_files.chain(slot_files) {
            black_box(fs::read(path).unwrap());
        }
    });
    let original = |fresh: bool| -> Option<Duration> {
        let python =
            Path::new(&std::env::var_os("HERMES_S6_TEST_HERMES")?).with_file_name("python");
        let scandir = memory.join(format!("original{count}"));
        let boot = || {
            run(Command::new(&python)
                .args(["-m", "hermes_cli.container_boot"])
                .env("HERMES_HOME", &home)
                .env("S6_PROFILE_GATEWAY_SCANDIR", &scandir));
        };
        let prepare = || {
            if fresh {
                remove(&scandir);
                fs::create_dir(&scandir).unwrap();
            }
        };
        Some(median_of(5, prepare, boot))
    };
    row(
        &format!("{count} profiles, new slots"),
        fresh,
        written,
        original(true),
    );
    row(
        &format!("{count} profiles, nothing changed"),
        again,
        read,
        original(false),
    );
}

fn row(what: &str, ours: Duration, bare: Duration, original: Option<Duration>) {
    let original = original.map_or_else(
        || "-".to_owned(),
        |original| format!("{:.0} x", ratio(original, ours)),
    );
    println!(
        "{what:<34}{:>12}{:>14}{original:>12}",
        shown(ours),
        format!("{:.2} x", ratio(bare, ours))
    );
}

/// All files that a run has written, with their content.
fn rendered(scandir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let walk = walkdir::WalkDir::new(scandir)
        .into_iter()
        .map(Result::unwrap);
    walk.filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let path = entry.path().strip_prefix(scandir).unwrap().to_owned();
            (path, fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn write_bare(place: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for (path, content) in files {
        let path = place.join(path);
        let directory = path.parent().unwrap();
        if !directory.exists() {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(path, content).unwrap();
    }
}

fn run(command: &mut Command) {
    assert!(attempt(command), "{command:?}");
}

fn attempt(command: &mut Command) -> bool {
    gateway_environment(command).status().unwrap().success()
}

/// As root, the gateways of this benchmark are root's own: nothing is dropped. Hermes is not to refuse
/// that, nor to slow down a sixth start within two minutes. The ports are for a thousand profiles.
fn gateway_environment(command: &mut Command) -> &mut Command {
    command
        .env("HERMES_S6_USER", "root")
        .env("HERMES_ALLOW_ROOT_GATEWAY", "1")
        .env("HERMES_GATEWAY_MAX_STARTS", "0")
        .env("HERMES_S6_PORTS", "9200-10799")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

fn remove(directory: &Path) {
    let _none = fs::remove_dir_all(directory);
}

fn median(rounds: usize, work: impl Fn()) -> Duration {
    median_of(rounds, || (), work)
}

fn median_of(rounds: usize, prepare: impl Fn(), work: impl Fn()) -> Duration {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            prepare();
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[rounds / 2]
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

fn shown(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
