//! Containers, as far as s6 can tell: s6-svscan as PID 1 of namespaces of its own, as root, with a
//! user hermes for the gateways.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;

use crate::support::{
    PATIENCE_SECONDS, Process, Ran, Run, TestEnv, Tree, Words, all_is_of, is_root, mode, processes,
    programs, skip, wait_for, wait_some,
};

const HERMES: u32 = 10_000;

/// A volume that belongs to hermes, and the account files of the containers that use it.
pub fn volume() -> Option<TestEnv> {
    if !is_root() {
        skip("namespaces with a second user need root");
        return None;
    }
    let mut env = TestEnv::new();
    env.owner = HERMES;
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let lines = passwd.lines();
    let others: Vec<&str> = lines.filter(|line| !line.starts_with("hermes:")).collect();
    let hermes = format!("hermes:x:{HERMES}:{HERMES}::/:/bin/sh\n");
    let passwd = [&*others.join("\n"), "\n", &hermes].concat();
    env.write(&env.place.join("passwd"), &passwd);
    let group = format!("root:x:0:\nhermes:x:{HERMES}:\n");
    env.write(&env.place.join("group"), &group);
    env.own();
    Some(env)
}

/// A container: namespaces whose PID 1 is an s6-svscan on /run/service.
pub struct Container<'a> {
    env: &'a TestEnv,
    unshare: Tree<'a>,
    init: Process,
}

impl<'a> Container<'a> {
    /// Starts one; `prepare` is a shell script that runs as root before s6-svscan.
    pub fn start(env: &'a TestEnv, name: &str, prepare: &str) -> Self {
        let place = env.place.display();
        let script = format!(
            "set -e
            hostname {name}
            mount -t tmpfs -o mode=755 tmpfs /run
            mount --bind {place}/passwd /etc/passwd
            mount --bind {place}/group /etc/group
            mkdir -p /run/service /run/s6/basedir /run/s6/container_environment
            {prepare}
            exec s6-svscan /run/service"
        );
        let mut unshare = env.root_command("unshare");
        unshare
            .env_remove("HERMES_S6_SCANDIR")
            .args(["-mpuf", "--kill-child", "--mount-proc", "sh", "-c"])
            .arg(&script);
        let unshare = env.start(unshare);
        let parent = i32::try_from(unshare.pid()).unwrap();
        let is_init = |process: &Process| process.parent == parent && process.comm == "s6-svscan";
        let find = || processes().into_iter().find(is_init);
        let init = wait_some("PID 1 to be s6-svscan", find, || env.out());
        Self { env, unshare, init }
    }

    /// Runs a command in the container, as root, as hermes or as a stranger.
    pub fn run(&self, user: &str, words: &(impl Words + ?Sized)) -> Ran {
        self.command(user, words).ran()
    }

    /// Prepares such a command.
    pub fn command(&self, user: &str, words: &(impl Words + ?Sized)) -> Command {
        let mut command = self.env.root_command("nsenter");
        command.env_remove("HERMES_S6_SCANDIR");
        let pid = self.init.pid.to_string();
        command.args(["-t", &pid, "-m", "-p", "-u", "--"]);
        let id = match user {
            "root" => 0,
            "hermes" => HERMES,
            _ => 1234,
        };
        if id != 0 {
            let change = format!("setpriv --reuid {id} --regid {id} --clear-groups --");
            command.args(change.words());
        }
        command.args(words.words());
        command
    }

    /// Runs hermes-s6 in the container, on the given scan directory.
    pub fn hermes_s6(&self, user: &str, scandir: &str, line: &str) -> Ran {
        let program = programs().join("hermes-s6");
        let program = program.to_str().unwrap();
        self.run(user, &*format!("{program} {line} --scandir {scandir}"))
    }

    pub fn await_state(&self, scandir: &str, profile: &str, state: &str) {
        let line = format!("{profile} {state}\n");
        let run = |line| self.hermes_s6("hermes", scandir, line).stdout;
        let explain = || format!("{}\n{}", run("status"), self.env.out());
        wait_for(&line, || run("list").contains(&line), explain);
    }

    /// Ends the container as `docker kill` does.
    fn kill(self) {
        self.init.kill("KILL");
        self.unshare.wait();
    }
}

pub const DIRECT: &str = "/run/service";
pub const TREE: &str = "/run/hermes-s6/service";

/// Starts the tree in a service of root's, as an image does.
pub fn tree_service() -> String {
    format!(
        "mkdir /run/service/hermes-tree
        printf '#!/bin/sh\\nexec {} supervise\\n' >/run/service/hermes-tree/run
        chmod 755 /run/service/hermes-tree/run
        echo secret >/run/s6/container_environment/TELEGRAM_BOT_TOKEN",
        programs().join("hermes-s6").display()
    )
}

#[test]
fn in_the_direct_layout_root_supervises_and_hermes_serves() {
    let Some(env) = volume() else { return };
    env.running("coder")
        .running("default")
        .profile("viewer", "");
    let container = Container::start(
        &env,
        "web-1",
        "echo secret >/run/s6/container_environment/TELEGRAM_BOT_TOKEN",
    );
    container.hermes_s6("root", DIRECT, "reconcile").ends(0);
    container.await_state(DIRECT, "coder", "ready");
    container.await_state(DIRECT, "default", "ready");
    container.await_state(DIRECT, "viewer", "down");
    let loggers = || env.processes_named("s6-log").len();
    env.wait_for("a logger for each", || loggers() == 3);
    for process in env.processes() {
        let expected = match process.comm.as_str() {
            "hermes" | "s6-log" | "sleep" | "loopwhilex" | "hermes-s6" => HERMES,
            _ => 0,
        };
        assert_eq!(process.uid, expected, "{process:?}");
    }
    // The container's environment reaches them; its tokens only the default profile.
    for (profile, token) in [("default", " token=secret "), ("coder", " token= ")] {
        let start = env.events(profile).remove(0);
        assert!(start.contains(token), "{profile}: {start}");
    }
    let again = container.hermes_s6("root", DIRECT, "reconcile");
    assert_eq!(again.stdout, "reconcile: nothing changed\n", "{again:?}");
    all_is_of(HERMES, &env.home);
}

#[test]
fn in_the_direct_layout_hermes_may_control_and_read_and_nothing_else() {
    let Some(env) = volume() else { return };
    env.running("coder");
    let container = Container::start(&env, "web-1", "");
    container.hermes_s6("root", DIRECT, "reconcile").ends(0);
    container.await_state(DIRECT, "coder", "ready");
    let slot = "/run/service/gateway-coder";
    let status = container.run("hermes", &["s6-svstat", slot]);
    assert!(status.stdout.starts_with("up "), "{status:?}");
    container.run("hermes", &["s6-svc", "-d", slot]).ends(0);
    container.await_state(DIRECT, "coder", "down");
    container.run("hermes", &["s6-svc", "-u", slot]).ends(0);
    container.await_state(DIRECT, "coder", "ready");
    let detected = container.hermes_s6("hermes", DIRECT, "detect").ends(0);
    assert!(detected.stdout.starts_with("s6: "), "{detected:?}");
    // Through /proc/PID/root, since the tmpfs on /run is the container's.
    let service = format!("/proc/{}/root/run/service", container.init.pid);
    for entry in walkdir::WalkDir::new(&service) {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let path = entry.path().display();
        assert_eq!(meta.uid(), 0, "{path}");
        assert_eq!(meta.mode() & 0o002, 0, "{path}: writable by everybody");
        let control = entry.file_name() == "control"
            && meta.file_type().is_fifo()
            && meta.mode() & 0o7777 == 0o620;
        assert!(
            meta.gid() == 0 || (meta.gid() == HERMES && control),
            "{path}: for hermes' group"
        );
        if entry.file_name() == "supervise" {
            assert_eq!(mode(entry.path()), 0o711, "{path}");
        }
    }
    for line in [
        "touch /run/service/gateway-coder/run",
        "mkdir /run/service/gateway-x",
        "touch /run/service/gateway-coder/supervise/x",
        "ls /run/service/gateway-coder/event",
        "s6-svscanctl -t /run/service",
    ] {
        assert_ne!(container.run("hermes", line).code, 0, "{line}");
    }
    container
        .hermes_s6("hermes", DIRECT, "reconcile")
        .ends(100)
        .warns("run this as the owner of the scan directory");
}

#[test]
fn in_the_direct_layout_root_and_hermes_start_and_stop_and_only_root_registers() {
    let Some(env) = volume() else { return };
    env.profile("coder", "");
    let container = Container::start(&env, "web-1", "");
    container.hermes_s6("root", DIRECT, "reconcile").ends(0);
    let down = "/run/service/gateway-coder/down";
    for user in ["root", "hermes"] {
        for (line, said) in [
            ("start -p coder", "is ready (pid"),
            ("restart -p coder", "is ready (pid"),
            ("stop -p coder", "is down ("),
            ("restart -p coder", "is ready (pid"),
            ("shutdown", "is down ("),
            ("start --all", "is ready (pid"),
            ("stop --all", "is down ("),
        ] {
            let ran = container.hermes_s6(user, DIRECT, line);
            assert_eq!(ran.code, 0, "{user} {line} {ran:?}");
            ran.says(said);
        }
        let state = env.state_file("coder");
        assert!(state.contains("\"desired_state\":\"stopped\""), "{state}");
        all_is_of(HERMES, &env.home);
    }
    let events = env.events("coder");
    assert_eq!(env.count("coder", "planned"), 4, "{events:?}");
    // Where hermes may not write, root's down file of before stays as it is.
    container.run("root", &["test", "-e", down]).ends(0);
    env.profile("late", "");
    let run = |user: &str, line: &str| container.hermes_s6(user, DIRECT, line);
    for line in ["register -p late", "start -p late", "unregister -p coder"] {
        run("hermes", line).ends(100).warns("docker exec -u root");
    }
    run("root", "start -p late").ends(0);
    container.await_state(DIRECT, "late", "ready");
    run("root", "unregister -p late").ends(0);
    container
        .run("root", "test -e /run/service/gateway-late")
        .ends(1);
    assert!(env.gateways("late").is_empty());
    all_is_of(HERMES, &env.home);
}

#[test]
fn in_the_direct_layout_root_names_what_a_killed_supervisor_has_left_and_calls_it_not_stopped() {
    let Some(env) = volume() else { return };
    env.profile("coder", "")
        .behaviour("coder", "ignore-term 1\n");
    let container = Container::start(&env, "web-1", "");
    let run = |user: &str, line: &str| container.hermes_s6(user, DIRECT, line);
    run("root", "reconcile").ends(0);
    run("root", "start -p coder").ends(0);
    run("root", "stop -p coder --no-wait").ends(0);
    env.supervisor("coder").kill("KILL");
    let left = "one without a supervisor still runs";
    run("root", "stop -p coder").ends(1).warns(left);
    // The one whom it belongs to may end it, and does.
    run("hermes", "stop -p coder --timeout 1").ends(0);
    assert!(env.gateways("coder").is_empty());
}

#[test]
fn in_the_direct_layout_root_reads_no_log_and_says_who_shows_it() {
    let Some(env) = volume() else { return };
    env.running("coder");
    let container = Container::start(&env, "web-1", "");
    container.hermes_s6("root", DIRECT, "reconcile").ends(0);
    container.await_state(DIRECT, "coder", "ready");
    let line = "  stand-in gateway of coder, pid ";
    let status = |user| container.hermes_s6(user, DIRECT, "status -p coder");
    let shown = || status("hermes").stdout;
    wait_for("the line in the log", || shown().contains(line), shown);
    let root = status("root").ends(0);
    let end = "Last lines of its log:\n  see hermes-s6 logs -p coder\n";
    assert!(root.stdout.ends_with(end), "{root:?}");
}

#[test]
fn a_scan_directory_that_hermes_could_change_is_refused_by_root() {
    let Some(env) = volume() else { return };
    env.running("coder");
    let open = "mkdir -m 777 /run/open; mkdir -m 755 /run/open/service";
    let container = Container::start(&env, "web-1", open);
    for scandir in ["/run/open", "/run/open/service"] {
        container
            .hermes_s6("root", scandir, "reconcile")
            .ends(100)
            .warns("/run/open can be changed by others than root");
    }
    let inside = env.home.join("service").to_str().unwrap().to_owned();
    container.hermes_s6("root", &inside, "reconcile").ends(100);
    assert!(!env.home.join("service/gateway-coder").exists());
}

#[test]
fn slots_that_hermes_has_made_are_refused_by_root() {
    let Some(env) = volume() else { return };
    env.running("coder");
    let container = Container::start(&env, "web-1", "install -d -o hermes /run/own");
    let run = |user: &str, line: &str| container.hermes_s6(user, "/run/own", line);
    run("hermes", "reconcile").ends(0);
    container.run("root", "chown root /run/own").ends(0);
    let why =
        " is not root's alone, and root would run what is in it: use a new, empty scan directory";
    for line in [
        "reconcile",
        "reconcile --dry-run",
        "render -p coder",
        "supervise",
    ] {
        run("root", line).ends(100).warns(why);
    }
}

#[test]
fn root_runs_no_program_from_a_directory_that_hermes_could_change() {
    let Some(env) = volume() else { return };
    env.running("coder");
    let programs_of_hermes = "install -d -o hermes /run/bin
        cp /usr/bin/s6-svscan /usr/bin/s6-setuidgid /usr/lib/execline/bin/execlineb /run/bin";
    let container = Container::start(&env, "web-1", programs_of_hermes);
    let program = programs().join("hermes-s6");
    let reconcile = |variable: &str| {
        let program = program.display();
        let script = format!("{variable} {program} reconcile --scandir /run/service");
        container.run("root", &["sh", "-c", &script])
    };
    reconcile("PATH=/run/bin:$PATH").ends(0);
    let run = container.run("root", "cat /run/service/gateway-coder/run");
    assert!(!run.stdout.contains("/run/bin"), "{run:?}");
    reconcile("HERMES_S6_BINDIR=/run/bin").ends(100);
}

#[test]
fn a_service_of_roots_starts_the_tree_and_drops_to_hermes() {
    let Some(env) = volume() else { return };
    env.running("coder")
        .running("default")
        .profile("viewer", "");
    let container = Container::start(&env, "web-1", &tree_service());
    container.await_state(TREE, "coder", "ready");
    container.await_state(TREE, "default", "ready");
    // Root's are its own s6-svscan and the s6-supervise of the one service that starts the tree.
    let mut of_root = env.processes();
    of_root.retain(|process| process.uid == 0);
    let mut of_root: Vec<_> = of_root.iter().map(|process| &*process.comm).collect();
    of_root.sort_unstable();
    assert_eq!(of_root, ["s6-supervise", "s6-svscan", "unshare"]);
    all_is_of(HERMES, format!("/proc/{}/root{TREE}", container.init.pid));
    let start = env.events("default").remove(0);
    assert!(start.contains(" token=secret "), "{start}");
    // As root or as hermes: the same answers, and nothing of root's on the volume.
    let list = |user: &str| container.hermes_s6(user, TREE, "list").stdout;
    assert_eq!(list("root"), list("hermes"));
    env.running("new");
    container
        .hermes_s6("root", TREE, "reconcile")
        .says("profile=new prior_state=running action=started");
    container.await_state(TREE, "new", "ready");
    all_is_of(HERMES, &env.home);
    // A stop of the service is a stop of the tree: one SIGTERM each.
    container
        .run("root", "s6-svc -wD -d /run/service/hermes-tree")
        .ends(0);
    assert_eq!(env.count("coder", "TERM"), 1);
    assert_eq!(env.count("coder", "saved"), 1);
}

#[test]
fn in_the_tree_root_and_hermes_can_do_everything_and_all_of_it_stays_hermes() {
    let Some(env) = volume() else { return };
    env.running("default");
    let container = Container::start(&env, "web-1", &tree_service());
    container.await_state(TREE, "default", "ready");
    for user in ["hermes", "root"] {
        env.profile("coder", "");
        for line in [
            "register -p coder",
            "start -p coder",
            "restart -p coder",
            "status -p coder",
            "logs -p coder",
            "stop -p coder",
            "start --all",
            "unregister -p coder",
            "reconcile",
            "list",
        ] {
            let ran = container.hermes_s6(user, TREE, line);
            assert_eq!(ran.code, 0, "{user} {line} {ran:?}");
        }
        let tree = format!("/proc/{}/root{TREE}", container.init.pid);
        all_is_of(HERMES, &tree);
        all_is_of(HERMES, &env.home);
        for process in env.processes_named("hermes") {
            assert_eq!(process.uid, HERMES, "{process:?}");
        }
    }
}

#[test]
fn after_a_container_was_killed_the_next_has_the_same_gateways() {
    let Some(env) = volume() else { return };
    env.running("coder")
        .profile("viewer", r#"{"desired_state":"stopped"}"#);
    for round in 1..=3 {
        let container = Container::start(&env, "web-1", &tree_service());
        container.await_state(TREE, "coder", "ready");
        container.await_state(TREE, "viewer", "down");
        assert_eq!(env.count("coder", "start"), round);
        assert_eq!(env.count("viewer", "start"), 0);
        container.kill();
    }
    let log = fs::read_to_string(env.home.join("logs/container-boot.log")).unwrap();
    // One for each boot, and one for each profile.
    assert_eq!(log.lines().count(), 3 * (1 + 3), "{log}");
}

#[test]
fn a_second_container_on_the_volume_parks_the_profile_and_names_the_first() {
    let Some(env) = volume() else { return };
    env.running("coder").running("default");
    let first = Container::start(&env, "web-1", &tree_service());
    first.await_state(TREE, "coder", "ready");
    first.await_state(TREE, "default", "ready");
    let pid = env.gateways("coder")[0].pid;
    // A gateway elsewhere is waited for that long, and 5 s more.
    let second = |seconds: &str| {
        let tree = tree_service();
        let prepare = format!("export HERMES_S6_STOP_TIMEOUT={seconds}\n{tree}");
        Container::start(&env, "web-2", &prepare)
    };
    let held = "its lock is held by web-1 pid ";
    let waits = second(PATIENCE_SECONDS);
    waits.await_state(TREE, "coder", "waiting-for-lock");
    let status = waits.hermes_s6("hermes", TREE, "status -p coder").ends(1);
    status.says(format!(
        "\ncoder wants running, is waiting for lock: {held}"
    ));
    waits.kill();
    let second = second("1");
    second.await_state(TREE, "coder", "parked");
    second.await_state(TREE, "default", "parked");
    second
        .hermes_s6("hermes", TREE, "status")
        .says(format!("coder wants running, is parked: exit 69 ({held}"));
    let gateways = env.gateways("coder");
    let pids: Vec<i32> = gateways.iter().map(|process| process.pid).collect();
    assert_eq!(pids, [pid]);
    assert_eq!(env.count("coder", "start"), 1);
    assert_eq!(env.count("coder", "TERM"), 0);
    first.kill();
    let start = format!("s6-svc -u {TREE}/gateway-coder");
    second.run("hermes", &*start).ends(0);
    second.await_state(TREE, "coder", "ready");
}

#[test]
fn elsewhere_than_in_our_tree_s6_as_pid_1_is_not_enough() {
    let Some(env) = volume() else { return };
    let container = Container::start(&env, "web-1", "");
    let none = "none: /run/service has no gateways of hermes-s6: it was never reconciled\n";
    for user in ["root", "hermes"] {
        let ran = container.hermes_s6(user, DIRECT, "detect").ends(1);
        assert_eq!(ran.stdout, none, "{ran:?}");
    }
}

#[test]
fn supervise_itself_can_be_pid_1() {
    let Some(env) = volume() else { return };
    env.running("coder");
    let script = format!(
        "mount -t tmpfs -o mode=755 tmpfs /run; mount --bind {0}/passwd /etc/passwd; mount --bind {0}/group /etc/group; exec {1} supervise",
        env.place.display(),
        programs().join("hermes-s6").display()
    );
    let mut unshare = env.root_command("unshare");
    unshare.env_remove("HERMES_S6_SCANDIR").args([
        "-mpf",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        &script,
    ]);
    let unshare = env.spawn(unshare);
    env.await_event("coder", "start", 1);
    let parent = i32::try_from(unshare.pid()).unwrap();
    let is_init = |process: &Process| process.parent == parent;
    let init = processes().into_iter().find(is_init).unwrap();
    assert_eq!((&*init.comm, init.uid), ("s6-svscan", HERMES));
    init.kill("TERM");
    unshare.end().ends(0);
    assert_eq!(env.count("coder", "saved"), 1);
}
