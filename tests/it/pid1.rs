//! Containers, as far as s6 can tell: s6-svscan as PID 1 of namespaces of its own, as root, with a
//! user hermes for the gateways.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Process, Ran, TestEnv, is_root, mode, processes, programs, skip, wait_for};

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
    let others: Vec<&str> = passwd
        .lines()
        .filter(|line| !line.starts_with("hermes:"))
        .collect();
    let passwd = others.join("\n") + "\n";
    fs::write(
        env.place.join("passwd"),
        format!("{passwd}hermes:x:{HERMES}:{HERMES}::/:/bin/sh\n"),
    )
    .unwrap();
    fs::write(
        env.place.join("group"),
        format!("root:x:0:\nhermes:x:{HERMES}:\n"),
    )
    .unwrap();
    env.own();
    Some(env)
}

/// Checks that everything beneath a directory belongs to hermes.
fn all_is_hermes(directory: impl AsRef<Path>) {
    for entry in walkdir::WalkDir::new(directory) {
        let entry = entry.unwrap();
        let owner = entry.metadata().unwrap().uid();
        assert_eq!(owner, HERMES, "{}", entry.path().display());
    }
}

/// A container: namespaces whose PID 1 is an s6-svscan on /run/service.
pub struct Container<'a> {
    env: &'a TestEnv,
    unshare: Child,
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
        let out = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(env.place.join("out"))
            .unwrap();
        let unshare = env
            .root_command("unshare")
            .env_remove("HERMES_S6_SCANDIR")
            .args(["-mpuf", "--kill-child", "--mount-proc", "sh", "-c", &script])
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let parent = i32::try_from(unshare.id()).unwrap();
        let find = || {
            processes()
                .into_iter()
                .find(|process| process.parent == parent && process.comm == "s6-svscan")
        };
        wait_for("PID 1 to be s6-svscan", || find().is_some(), || env.out());
        let init = find().unwrap();
        Self { env, unshare, init }
    }

    /// Prepares a command in the container, as root or as hermes.
    fn command(&self, user: &str, words: &[&str]) -> Command {
        let mut command = self.env.root_command("nsenter");
        command.env_remove("HERMES_S6_SCANDIR");
        command
            .arg("-t")
            .arg(self.init.pid.to_string())
            .args(["-m", "-p", "-u", "--"]);
        if user == "hermes" {
            let id = HERMES.to_string();
            command.args([
                "setpriv",
                "--reuid",
                &id,
                "--regid",
                &id,
                "--clear-groups",
                "--",
            ]);
        }
        command.args(words);
        command
    }

    fn run(&self, user: &str, words: &[&str]) -> Ran {
        Ran::from(self.command(user, words).output().unwrap())
    }

    /// Runs hermes-s6 in the container, on the given scan directory.
    pub fn hermes_s6(&self, user: &str, scandir: &str, words: &[&str]) -> Ran {
        let program = programs().join("hermes-s6");
        let words = [&[program.to_str().unwrap()], words, &["--scandir", scandir]].concat();
        self.run(user, &words)
    }

    pub fn await_state(&self, scandir: &str, profile: &str, state: &str) {
        let line = format!("{profile} {state}\n");
        wait_for(
            &format!("{profile} to be {state}"),
            || {
                self.hermes_s6("hermes", scandir, &["list"])
                    .stdout
                    .contains(&line)
            },
            || {
                format!(
                    "{:?}\n{}",
                    self.hermes_s6("hermes", scandir, &["status"]),
                    self.env.out()
                )
            },
        );
    }

    /// Ends the container as `docker kill` does.
    fn kill(mut self) {
        self.init.kill("KILL");
        self.unshare.wait().unwrap();
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _gone = self.unshare.kill();
        let _reaped = self.unshare.wait();
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
    let ran = container.hermes_s6("root", DIRECT, &["reconcile"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    container.await_state(DIRECT, "coder", "ready");
    container.await_state(DIRECT, "default", "ready");
    container.await_state(DIRECT, "viewer", "down");
    let ours = env.processes();
    for process in &ours {
        let expected = match process.comm.as_str() {
            "hermes" | "s6-log" | "sleep" => HERMES,
            _ => 0,
        };
        assert_eq!(process.uid, expected, "{process:?}");
    }
    // The container's environment reaches them; its tokens only the default profile.
    assert!(
        env.events("default")[0].contains(" token=secret "),
        "{:?}",
        env.events("default")
    );
    assert!(
        env.events("coder")[0].contains(" token= "),
        "{:?}",
        env.events("coder")
    );
    let again = container.hermes_s6("root", DIRECT, &["reconcile"]);
    assert_eq!(again.stdout, "reconcile: nothing changed\n", "{again:?}");
    all_is_hermes(&env.home);
}

#[test]
fn in_the_direct_layout_hermes_may_control_and_read_and_nothing_else() {
    let Some(env) = volume() else { return };
    env.running("coder");
    let container = Container::start(&env, "web-1", "");
    assert_eq!(container.hermes_s6("root", DIRECT, &["reconcile"]).code, 0);
    container.await_state(DIRECT, "coder", "ready");
    let slot = "/run/service/gateway-coder";
    assert!(
        container
            .run("hermes", &["s6-svstat", slot])
            .stdout
            .starts_with("up ")
    );
    assert_eq!(container.run("hermes", &["s6-svc", "-d", slot]).code, 0);
    container.await_state(DIRECT, "coder", "down");
    assert_eq!(container.run("hermes", &["s6-svc", "-u", slot]).code, 0);
    container.await_state(DIRECT, "coder", "ready");
    let detected = container.hermes_s6("hermes", DIRECT, &["detect"]);
    assert_eq!(
        (detected.code, detected.stdout.starts_with("s6: ")),
        (0, true),
        "{detected:?}"
    );
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
        let directory = entry.path().file_name().unwrap();
        if directory == "supervise" {
            assert_eq!(mode(entry.path()), 0o711, "{path}");
        }
    }
    for words in [
        vec!["touch", "/run/service/gateway-coder/run"],
        vec!["mkdir", "/run/service/gateway-x"],
        vec!["touch", "/run/service/gateway-coder/supervise/x"],
        vec!["ls", "/run/service/gateway-coder/event"],
        vec!["s6-svscanctl", "-t", "/run/service"],
    ] {
        assert_ne!(container.run("hermes", &words).code, 0, "{words:?}");
    }
    let refused = container.hermes_s6("hermes", DIRECT, &["reconcile"]);
    assert_eq!(refused.code, 100, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("run this as the owner of the scan directory"),
        "{refused:?}"
    );
}

#[test]
fn in_the_direct_layout_root_and_hermes_start_and_stop_and_only_root_registers() {
    let Some(mut env) = volume() else { return };
    env.set("HERMES_S6_STOP_TIMEOUT", "3");
    env.profile("coder", "");
    let container = Container::start(&env, "web-1", "");
    assert_eq!(container.hermes_s6("root", DIRECT, &["reconcile"]).code, 0);
    let down = "/run/service/gateway-coder/down";
    for user in ["root", "hermes"] {
        for (words, said) in [
            (&["start", "-p", "coder"][..], "is ready (pid"),
            (&["restart", "-p", "coder"], "is ready (pid"),
            (&["stop", "-p", "coder"], "is down ("),
            (&["restart", "-p", "coder"], "is ready (pid"),
            (&["shutdown"], "is down ("),
            (&["start", "--all"], "is ready (pid"),
        ] {
            let ran = container.hermes_s6(user, DIRECT, words);
            assert_eq!(ran.code, 0, "{user} {words:?} {ran:?}");
            assert!(ran.stdout.contains(said), "{user} {words:?} {ran:?}");
        }
        let ran = container.hermes_s6(user, DIRECT, &["stop", "--all"]);
        assert_eq!(ran.code, 0, "{user} {ran:?}");
        let state = fs::read_to_string(env.home_of("coder").join("gateway_state.json")).unwrap();
        assert!(state.contains("\"desired_state\":\"stopped\""), "{state}");
        all_is_hermes(&env.home);
    }
    assert_eq!(
        env.count("coder", "planned"),
        4,
        "{:?}",
        env.events("coder")
    );
    // Where hermes may not write, root's down file of before stays as it is.
    assert_eq!(container.run("root", &["test", "-e", down]).code, 0);
    env.profile("late", "");
    for words in [
        &["register", "-p", "late"][..],
        &["start", "-p", "late"],
        &["unregister", "-p", "coder"],
    ] {
        let ran = container.hermes_s6("hermes", DIRECT, words);
        assert_eq!(ran.code, 100, "{ran:?}");
        assert!(ran.stderr.contains("docker exec -u root"), "{ran:?}");
    }
    let ran = container.hermes_s6("root", DIRECT, &["start", "-p", "late"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    container.await_state(DIRECT, "late", "ready");
    let ran = container.hermes_s6("root", DIRECT, &["unregister", "-p", "late"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        container
            .run("root", &["test", "-e", "/run/service/gateway-late"])
            .code,
        1
    );
    assert!(env.gateways("late").is_empty());
    all_is_hermes(&env.home);
}

#[test]
fn in_the_direct_layout_root_names_what_a_killed_supervisor_has_left_and_calls_it_not_stopped() {
    let Some(mut env) = volume() else { return };
    env.set("HERMES_S6_STOP_TIMEOUT", "3");
    env.profile("coder", "")
        .behaviour("coder", "ignore-term 1\n");
    let container = Container::start(&env, "web-1", "");
    assert_eq!(container.hermes_s6("root", DIRECT, &["reconcile"]).code, 0);
    let ran = container.hermes_s6("root", DIRECT, &["start", "-p", "coder"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let gateway = env.gateways("coder")[0].clone();
    let ran = container.hermes_s6("root", DIRECT, &["stop", "-p", "coder", "--no-wait"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let supervisor = processes()
        .into_iter()
        .find(|process| process.pid == gateway.parent);
    supervisor.unwrap().kill("KILL");
    let ran = container.hermes_s6("root", DIRECT, &["stop", "-p", "coder"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("one without a supervisor still runs"),
        "{ran:?}"
    );
    // The one whom it belongs to may end it, and does.
    let ran = container.hermes_s6("hermes", DIRECT, &["stop", "-p", "coder"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(env.gateways("coder").is_empty());
}

#[test]
fn in_the_direct_layout_root_reads_no_log_and_says_who_shows_it() {
    let Some(env) = volume() else { return };
    env.running("coder");
    let container = Container::start(&env, "web-1", "");
    assert_eq!(container.hermes_s6("root", DIRECT, &["reconcile"]).code, 0);
    container.await_state(DIRECT, "coder", "ready");
    let line = "  stand-in gateway of coder, pid ";
    let status = |user| container.hermes_s6(user, DIRECT, &["status", "-p", "coder"]);
    wait_for(
        "the line in the log",
        || status("hermes").stdout.contains(line),
        || format!("{:?}", status("hermes")),
    );
    let root = status("root");
    assert!(
        root.stdout
            .ends_with("Last lines of its log:\n  see hermes-s6 logs -p coder\n"),
        "{root:?}"
    );
    assert_eq!(root.code, 0, "{root:?}");
}

#[test]
fn a_scan_directory_that_hermes_could_change_is_refused_by_root() {
    let Some(env) = volume() else { return };
    env.running("coder");
    let container = Container::start(
        &env,
        "web-1",
        "mkdir -m 777 /run/open; mkdir -m 755 /run/open/service",
    );
    for scandir in ["/run/open", "/run/open/service"] {
        let ran = container.hermes_s6("root", scandir, &["reconcile"]);
        assert_eq!(ran.code, 100, "{ran:?}");
        assert!(
            ran.stderr
                .contains("/run/open can be changed by others than root"),
            "{ran:?}"
        );
    }
    let inside = env.home.join("service").to_str().unwrap().to_owned();
    let ran = container.hermes_s6("root", &inside, &["reconcile"]);
    assert_eq!(ran.code, 100, "{ran:?}");
    assert!(!env.home.join("service/gateway-coder").exists());
}

#[test]
fn slots_that_hermes_has_made_are_refused_by_root() {
    let Some(env) = volume() else { return };
    env.running("coder");
    let container = Container::start(&env, "web-1", "install -d -o hermes /run/own");
    assert_eq!(
        container
            .hermes_s6("hermes", "/run/own", &["reconcile"])
            .code,
        0
    );
    assert_eq!(
        container.run("root", &["chown", "root", "/run/own"]).code,
        0
    );
    for words in [
        &["reconcile"][..],
        &["reconcile", "--dry-run"],
        &["render", "-p", "coder"],
        &["supervise"],
    ] {
        let ran = container.hermes_s6("root", "/run/own", words);
        assert_eq!(ran.code, 100, "{words:?} {ran:?}");
        assert!(ran.stderr.contains(" is not root's alone, and root would run what is in it: use a new, empty scan directory"), "{ran:?}");
    }
}

#[test]
fn root_runs_no_program_from_a_directory_that_hermes_could_change() {
    let Some(env) = volume() else { return };
    env.running("coder");
    let container = Container::start(
        &env,
        "web-1",
        "install -d -o hermes /run/bin; cp /usr/bin/s6-svscan /usr/bin/s6-setuidgid /usr/lib/execline/bin/execlineb /run/bin",
    );
    let reconcile = format!(
        "PATH=/run/bin:$PATH exec {} reconcile --scandir /run/service",
        programs().join("hermes-s6").display()
    );
    assert_eq!(container.run("root", &["sh", "-c", &reconcile]).code, 0);
    let run = container.run("root", &["cat", "/run/service/gateway-coder/run"]);
    assert!(!run.stdout.contains("/run/bin"), "{run:?}");
    let named = container.run(
        "root",
        &[
            "sh",
            "-c",
            &format!("HERMES_S6_BINDIR=/run/bin {reconcile}").replace("exec ", ""),
        ],
    );
    assert_eq!(named.code, 100, "{named:?}");
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
    let ours = env.processes();
    let of_root: Vec<_> = ours
        .iter()
        .filter(|process| process.uid == 0)
        .map(|process| process.comm.as_str())
        .collect();
    assert!(
        of_root
            .iter()
            .all(|comm| ["unshare", "s6-svscan", "s6-supervise"].contains(comm)),
        "{ours:#?}"
    );
    assert_eq!(
        of_root
            .iter()
            .filter(|comm| **comm == "s6-supervise")
            .count(),
        1,
        "{ours:#?}"
    );
    all_is_hermes(format!("/proc/{}/root{TREE}", container.init.pid));
    assert!(
        env.events("default")[0].contains(" token=secret "),
        "{:?}",
        env.events("default")
    );
    // As root or as hermes: the same answers, and nothing of root's on the volume.
    let (root, hermes) = (
        container.hermes_s6("root", TREE, &["list"]),
        container.hermes_s6("hermes", TREE, &["list"]),
    );
    assert_eq!(root.stdout, hermes.stdout);
    env.running("new");
    let ran = container.hermes_s6("root", TREE, &["reconcile"]);
    assert!(
        ran.stdout
            .contains("profile=new prior_state=running action=started"),
        "{ran:?}"
    );
    container.await_state(TREE, "new", "ready");
    all_is_hermes(&env.home);
    // A stop of the service is a stop of the tree: one SIGTERM each.
    assert_eq!(
        container
            .run("root", &["s6-svc", "-wD", "-d", "/run/service/hermes-tree"])
            .code,
        0
    );
    assert_eq!(
        (env.count("coder", "TERM"), env.count("coder", "saved")),
        (1, 1)
    );
}

#[test]
fn in_the_tree_root_and_hermes_can_do_everything_and_all_of_it_stays_hermes() {
    let Some(env) = volume() else { return };
    env.running("default");
    let container = Container::start(&env, "web-1", &tree_service());
    container.await_state(TREE, "default", "ready");
    for user in ["hermes", "root"] {
        env.profile("coder", "");
        for words in [
            &["register", "-p", "coder"][..],
            &["start", "-p", "coder"],
            &["restart", "-p", "coder"],
            &["status", "-p", "coder"],
            &["logs", "-p", "coder"],
            &["stop", "-p", "coder"],
            &["start", "--all"],
            &["unregister", "-p", "coder"],
            &["reconcile"],
            &["list"],
        ] {
            let ran = container.hermes_s6(user, TREE, words);
            assert_eq!(ran.code, 0, "{user} {words:?} {ran:?}");
        }
        let tree = format!("/proc/{}/root{TREE}", container.init.pid);
        all_is_hermes(&tree);
        all_is_hermes(&env.home);
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
        assert_eq!(
            (env.count("coder", "start"), env.count("viewer", "start")),
            (round, 0)
        );
        container.kill();
    }
    let log = fs::read_to_string(env.home.join("logs/container-boot.log")).unwrap();
    assert_eq!(log.lines().count(), 3 * 3, "{log}");
}

#[test]
fn a_second_container_on_the_volume_parks_the_profile_and_names_the_first() {
    let Some(mut env) = volume() else { return };
    // A gateway elsewhere is waited for that long, and 5 s more.
    env.set("HERMES_S6_STOP_TIMEOUT", "1");
    env.running("coder").running("default");
    let first = Container::start(&env, "web-1", &tree_service());
    first.await_state(TREE, "coder", "ready");
    first.await_state(TREE, "default", "ready");
    let pid = env.gateways("coder")[0].pid;
    let second = Container::start(&env, "web-2", &tree_service());
    second.await_state(TREE, "coder", "waiting-for-lock");
    let status = second.hermes_s6("hermes", TREE, &["status", "-p", "coder"]);
    assert!(
        status
            .stdout
            .contains("\ncoder wants running, is waiting for lock: its lock is held by web-1 pid "),
        "{status:?}"
    );
    assert_eq!(status.code, 1, "{status:?}");
    second.await_state(TREE, "coder", "parked");
    second.await_state(TREE, "default", "parked");
    let status = second.hermes_s6("hermes", TREE, &["status"]);
    assert!(
        status
            .stdout
            .contains("coder wants running, is parked: exit 69 (its lock is held by web-1 pid "),
        "{status:?}"
    );
    assert_eq!(
        env.gateways("coder")
            .iter()
            .map(|process| process.pid)
            .collect::<Vec<_>>(),
        [pid]
    );
    assert_eq!(
        (env.count("coder", "start"), env.count("coder", "TERM")),
        (1, 0)
    );
    first.kill();
    assert_eq!(
        second
            .run(
                "hermes",
                &["s6-svc", "-u", &format!("{TREE}/gateway-coder")]
            )
            .code,
        0
    );
    second.await_state(TREE, "coder", "ready");
}

#[test]
fn elsewhere_than_in_our_tree_s6_as_pid_1_is_not_enough() {
    let Some(env) = volume() else { return };
    let container = Container::start(&env, "web-1", "");
    for (user, reason) in [
        (
            "root",
            "none: /run/service has no gateways of hermes-s6: it was never reconciled\n",
        ),
        (
            "hermes",
            "none: /run/service has no gateways of hermes-s6: it was never reconciled\n",
        ),
    ] {
        let ran = container.hermes_s6(user, DIRECT, &["detect"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, reason), "{ran:?}");
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
    let mut command = env.root_command("unshare");
    command
        .env_remove("HERMES_S6_SCANDIR")
        .args(["-mpf", "--kill-child", "--mount-proc", "sh", "-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut unshare = command.spawn().unwrap();
    wait_for(
        "the gateway",
        || env.count("coder", "start") == 1,
        || format!("{:#?}", env.processes()),
    );
    let parent = i32::try_from(unshare.id()).unwrap();
    let init = processes()
        .into_iter()
        .find(|process| process.parent == parent)
        .unwrap();
    assert_eq!((init.comm.as_str(), init.uid), ("s6-svscan", HERMES));
    init.kill("TERM");
    assert_eq!(unshare.wait().unwrap().code(), Some(0));
    assert_eq!(env.count("coder", "saved"), 1);
}
