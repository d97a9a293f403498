//! A volume whose daemon hangs: who waits for it can be ended by nobody. What needs nothing from it goes on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::pid1::{Container, DIRECT, TREE, tree_service, volume};
use crate::support::{Background, Process, Ran, TestEnv, chmod, has, programs, skip};

/// The words for a volume that is not waited for any longer.
const SILENT: &str = "does not answer: look at the server or the daemon of its file system";

/// A volume with two profiles whose gateways need nothing from it once they run; `None` where there is no FUSE.
fn quiet() -> Option<TestEnv> {
    let mut env = volume()?;
    if !Path::new("/dev/fuse").exists() {
        skip("there is no FUSE");
        return None;
    }
    let gateway = env.place.join("quiet");
    env.write(&gateway, "#!/bin/sh\nexec sleep 86300\n");
    chmod(&gateway, 0o755);
    env.set("HERMES_S6_HERMES", gateway.to_str().unwrap());
    env.running("coder").running("viewer");
    Some(env)
}

/// A container whose volume hangs while its gateways run.
struct Hung<'a> {
    container: Container<'a>,
    env: &'a TestEnv,
    scandir: &'static str,
    _daemon: Background<'a>,
}

impl<'a> Hung<'a> {
    fn start(env: &'a TestEnv, scandir: &'static str) -> Self {
        Self::start_with(env, scandir, &env.home)
    }

    /// Starts a container in which `place` hangs, which need not be the volume.
    fn start_with(env: &'a TestEnv, scandir: &'static str, place: &Path) -> Self {
        let is_direct = scandir == DIRECT;
        let service = if is_direct {
            String::new()
        } else {
            tree_service()
        };
        let container = Container::start(env, "web-1", &service);
        if is_direct {
            container.hermes_s6("root", scandir, "reconcile").ends(0);
        }
        container.await_state(scandir, "coder", "starting");
        container.await_state(scandir, "viewer", "starting");
        env.wait_for("the gateways", || gateways(env) == 2);
        let daemon = hang(env, &container, place);
        Self {
            container,
            env,
            scandir,
            _daemon: daemon,
        }
    }

    /// Starts hermes-s6.
    fn begin(&self, user: &str, line: &str) -> Background<'a> {
        let line = format!("{} {line}", programs().join("hermes-s6").display());
        let mut command = self.container.command(user, &*line);
        command.env("HERMES_S6_SCANDIR", self.scandir);
        self.env.spawn(command)
    }

    /// Runs hermes-s6 to its end: what waits for the volume has none.
    #[track_caller]
    fn run(&self, user: &str, line: &str) -> Ran {
        self.begin(user, line).end()
    }
}

/// Mounts a file system over a place that answers nothing from then on.
fn hang<'a>(env: &'a TestEnv, container: &Container, place: &Path) -> Background<'a> {
    let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-in/hung");
    let words = [stand_in.to_str().unwrap(), place.to_str().unwrap()];
    let daemon = env.spawn(container.command("root", &words));
    env.wait_for("the mount", || daemon.said().contains("mounted"));
    daemon
}

fn gateways(env: &TestEnv) -> usize {
    env.processes()
        .iter()
        .filter(|process| process.cmdline == "sleep\086300\0")
        .count()
}

#[test]
fn a_volume_that_hangs_hangs_no_command() {
    let Some(env) = quiet() else { return };
    let hung = Hung::start(&env, TREE);
    let not_read = "hermes_s6_volume 0\n";
    let refused = "";
    #[rustfmt::skip]
    let rows = [
        ("hermes", "status", 111, "coder    starting"),
        ("root", "status", 111, "coder    starting"),
        ("hermes", "list", 111, "viewer starting\n"),
        ("hermes", "status --json", 111, "\"volume\":\""),
        ("hermes", "status --format prometheus", 111, not_read),
        ("hermes", "detect", 0, "s6: "),
        ("hermes", "start -p coder", 111, refused),
        ("hermes", "restart --all --timeout 6", 111, refused),
        ("hermes", "reconcile", 111, refused),
        ("hermes", "reconcile --dry-run", 111, refused),
        ("hermes", "logs -p coder", 111, refused),
        ("hermes", "port -p coder", 111, refused),
        ("hermes", "stop", 100, refused),
        ("hermes", "hermes gateway stop", 111, refused),
        ("hermes", "doctor", 1, "FAIL volume: "),
        ("hermes", "hermes -p coder gateway status", 111, "Gateway is running (PID: "),
        ("hermes", "hermes gateway list", 0, "coder"),
    ];
    // All at once: each waits for the volume, for a while.
    let all = rows.map(|row| (row, hung.begin(row.0, row.1)));
    for ((user, line, code, expected), command) in all {
        let ran = command.end();
        assert_eq!(ran.code, code, "{user}: {line}: {ran:?}");
        has(&ran.stdout, expected);
        if expected == refused && code == 111 {
            has(&ran.stderr, SILENT);
            let is_one_line = ran.stdout.is_empty() && ran.stderr.lines().count() == 1;
            assert!(is_one_line, "{user}: {line}: {ran:?}");
        } else if code == 111 {
            has(&ran.stderr, SILENT);
        }
        // However long it lasts, one look at the readiness of each gateway waits, and one comes after it.
        let is_look = |process: &&Process| process.cmdline.contains("\0check-ready\0");
        let looks = env.processes().iter().filter(is_look).count();
        assert!(looks <= 4, "{looks}");
        let claims = expected == not_read && ran.stdout.contains("hermes_s6_wanted{");
        assert!(!claims, "{ran:?}");
    }
}

#[test]
fn a_link_of_a_setting_into_a_file_system_that_hangs_is_not_followed() {
    let Some(env) = quiet() else { return };
    let secrets = env.place.join("secrets");
    fs::create_dir(&secrets).unwrap();
    symlink(secrets.join("env"), env.home.join(".env")).unwrap();
    env.own();
    let hung = Hung::start_with(&env, TREE, &secrets);
    let told = "/.env is a symbolic link to a file system that may never answer: put the file itself there";
    hung.run("hermes", "reconcile").ends(1).warns(told);
    hung.run("hermes", "stop -p coder").ends(0);
    has(&env.state_file("coder"), "\"desired_state\":\"stopped\"");
}

#[test]
fn logs_that_are_followed_end_when_the_volume_hangs() {
    let Some(env) = quiet() else { return };
    // A file system of the kernel's that is not among those known: so a child reads, although all of it answers.
    let other = env.home.join("other");
    let mount = format!("mkdir {0} && mount -t mqueue mqueue {0}", other.display());
    let container = Container::start(&env, "web-1", &format!("{mount}\n{}", tree_service()));
    container.await_state(TREE, "coder", "starting");
    let program = programs().join("hermes-s6");
    let line = format!(
        "HERMES_S6_SCANDIR={TREE} exec {} logs -f -p coder",
        program.display()
    );
    let logs = env.spawn(container.command("hermes", &["sh", "-c", &line]));
    logs.await_note("gateway-coder has not said anything yet");
    let _daemon = hang(&env, &container, &env.home);
    let ran = logs.end();
    assert_eq!(ran.code, 111, "{ran:?}");
    has(&ran.stderr, SILENT);
}

#[test]
fn gateways_are_stopped_and_shut_down_while_the_volume_hangs() {
    let Some(env) = quiet() else { return };
    let hung = Hung::start(&env, TREE);
    let ran = hung.run("hermes", "stop -p coder --timeout 9").ends(1);
    has(&ran.stdout, "gateway-coder is down");
    has(&ran.stderr, SILENT);
    assert_eq!(gateways(&env), 1);
    let ran = hung.run("hermes", "shutdown --timeout 3").ends(1);
    has(&ran.stdout, "gateway-viewer is down");
    has(
        &ran.stderr,
        "it cannot be told whether a process without a supervisor still runs",
    );
    assert_eq!(gateways(&env), 0);
    // The tree ends too, with a tender that waits for the volume.
    let is_tender = |process: &Process| process.cmdline.contains("\0tend\0");
    env.wait_for("the tender", || env.processes().iter().any(is_tender));
    hung.container
        .run("root", "s6-svc -dx /run/service/hermes-tree")
        .ends(0);
    let is_left =
        || env.processes_named("s6-svscan").len() + env.processes_named("s6-supervise").len();
    env.wait_for("the end of the tree", || is_left() == 1);
}

#[test]
fn root_waits_for_no_volume_that_hangs_either() {
    let Some(env) = quiet() else { return };
    let hung = Hung::start(&env, DIRECT);
    let ran = hung.run("root", "status").ends(111);
    has(&ran.stderr, SILENT);
    has(&ran.stdout, "coder    starting");
    hung.run("root", "start -p coder").ends(111);
    let ran = hung.run("root", "stop --all").ends(1);
    has(&ran.stdout, "gateway-coder is down");
    has(&ran.stdout, "gateway-viewer is down");
}

#[test]
fn where_a_volume_could_hang_children_do_all_that_is_done_elsewhere() {
    let Some(env) = volume() else { return };
    env.running("coder");
    // A file system of the kernel's that is not among those known: it answers, like all of the volume.
    let other = env.home.join("other");
    let mount = format!("mkdir {0} && mount -t mqueue mqueue {0}", other.display());
    let container = Container::start(&env, "web-1", &format!("{mount}\n{}", tree_service()));
    container.await_state(TREE, "coder", "ready");
    let run = |line: &str| container.hermes_s6("hermes", TREE, line);
    let status = run("status").ends(0);
    assert_eq!(status.stderr, "");
    has(&status.stdout, "running");
    run("stop -p coder").ends(0).says("gateway-coder is down");
    has(&env.state_file("coder"), "\"desired_state\":\"stopped\"");
    env.profile("writer", "");
    run("start -p coder")
        .ends(0)
        .warns("gateway-writer is registered, and down");
    has(&env.state_file("coder"), "\"desired_state\":\"running\"");
    run("doctor").says("every profile has a port of its own");
    let program = programs().join("hermes-s6");
    let line = format!(
        "trap '' CHLD; HERMES_S6_SCANDIR={TREE} exec {} hermes gateway list",
        program.display()
    );
    let listed = container.run("hermes", &["sh", "-c", &line]).ends(0);
    has(&listed.stdout, "coder");
    // A gateway without its supervisor is found by its lock, and ended.
    container
        .run("hermes", &*format!("touch {TREE}/gateway-coder/down"))
        .ends(0);
    env.supervisor("coder").kill("KILL");
    container.await_state(TREE, "coder", "down");
    run("stop -p coder").ends(0).says("gateway-coder is down");
    assert_eq!(env.gateways("coder").len(), 0);
    // What goes wrong is said as elsewhere.
    let ran = run("status --home /nowhere").ends(100);
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    chmod(env.home_of("coder"), 0);
    run("stop -p coder").ends(1).warns("Permission denied");
    chmod(env.home_of("coder"), 0o755);
}
