//! System calls that the kernel does not know, or that the seccomp filter of a container does not know.

use std::os::unix::fs::chown;
use std::process::Command;

use crate::support::{Ran, Run, TestEnv, Words, is_root, programs, skip};

/// The calls since Linux 5.1: pidfd_send_signal is the first of them.
const NEW: &str = "424-999";

/// Of these, pidfd_send_signal alone.
const SEND: &str = "424-424";

/// Prepares hermes-s6 where `calls` fail with this error.
fn without(env: &TestEnv, errno: &str, calls: &str, words: &(impl Words + ?Sized)) -> Command {
    filtered(env.command("python3"), errno, calls, words)
}

fn filtered(
    mut python: Command,
    errno: &str,
    calls: &str,
    words: &(impl Words + ?Sized),
) -> Command {
    python
        .args(["-c", include_str!("without.py"), errno, calls])
        .arg(programs().join("hermes-s6"))
        .args(words.words());
    python
}

/// Tells whether such filters can be set here.
fn can_filter(env: &TestEnv) -> bool {
    let mut probe = without(env, "ENOSYS", NEW, "--version");
    let can = probe.output().is_ok_and(|output| output.status.success());
    if !can {
        skip("seccomp filters need python3 and a kernel that has them");
    }
    can
}

/// Goes through what is done with a gateway, with one that runs.
fn go_through(env: &TestEnv, run: impl Fn(&str) -> Ran) {
    run("status").ends(0).says("coder");
    run("stop -p coder").ends(0).says("gateway-coder is down");
    run("start -p coder").ends(0).says("gateway-coder is ready");
    run("restart -p coder")
        .ends(0)
        .says("gateway-coder is ready");
    env.profile("writer", "");
    run("register -p writer").ends(0);
    run("unregister -p writer").ends(0);
    run("reconcile").ends(0).says("profile=writer");
    assert_eq!(env.count("coder", "TERM"), 2);
}

#[test]
fn on_a_kernel_without_the_newer_calls_a_tree_does_all_that_it_does() {
    let env = TestEnv::new();
    if !can_filter(&env) {
        return;
    }
    env.running("coder");
    let run = |line: &str| without(&env, "ENOSYS", NEW, line).ran();
    let tree = env.start(without(&env, "ENOSYS", NEW, "supervise"));
    env.await_state("coder", "ready");
    go_through(&env, run);
    run("doctor").ends(0).says("everything is owned by");
    // Its next start ends the orphan, within the tree.
    env.supervisor("coder").kill("KILL");
    env.await_event("coder", "start", 4);
    env.await_state("coder", "ready");
    assert_eq!(env.gateways("coder").len(), 1);
    run("shutdown").ends(0).says("gateway-coder is down");
    assert_eq!(tree.stop(), 0);
}

#[test]
fn in_a_container_that_refuses_the_calls_it_does_not_know_all_commands_work() {
    let env = TestEnv::new();
    if !can_filter(&env) {
        return;
    }
    env.running("coder");
    let run = |line: &str| without(&env, "EPERM", NEW, line).ran();
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    go_through(&env, run);
    let doctor = run("doctor").ends(1);
    doctor.says("WARN seccomp: the container answers 'Operation not permitted' for system calls that it does not know");
    doctor.says("update Docker to 20.10.10 or later");
    doctor.says("everything is owned by");
    doctor.says("problems: 0, warnings: 1, unknown: 0");
    run("shutdown").ends(0).says("gateway-coder is down");
}

#[test]
fn a_tree_that_starts_in_such_a_container_says_what_is_wrong_with_it() {
    let env = TestEnv::new();
    if !can_filter(&env) {
        return;
    }
    env.profile("coder", "");
    let tree = env.start(without(&env, "EPERM", NEW, "supervise"));
    env.wait_for("the tree to be watched", || env.run("detect").code == 0);
    let out = env.out();
    let warning = "hermes-s6: warning: the container answers 'Operation not permitted' for system calls that it does not know";
    assert!(out.contains(warning), "{out}");
    tree.kill();
}

#[test]
fn root_has_the_volume_read_by_its_user_in_such_a_container_too() {
    let mut env = TestEnv::new();
    if !is_root() {
        return skip("a user to drop to needs root");
    }
    if !can_filter(&env) {
        return;
    }
    env.set("HERMES_S6_USER", "nobody").running("coder");
    chown(&env.place, Some(0), Some(0)).unwrap();
    let python = env.root_command("python3");
    let ran = filtered(python, "EPERM", NEW, "reconcile --dry-run").ran();
    ran.ends(0)
        .says("profile=coder prior_state=running action=started");
}

#[test]
fn an_orphan_is_ended_without_the_calls_that_are_made_for_that() {
    for (errno, calls) in [
        ("ENOSYS", NEW),
        ("EPERM", NEW),
        ("EPERM", SEND),
        ("ENOSYS", SEND),
    ] {
        let env = TestEnv::new();
        if !can_filter(&env) {
            return;
        }
        env.running("coder").behaviour("coder", "ignore-term 1\n");
        let tree = env.supervise();
        env.await_state("coder", "ready");
        let orphan = env.pid("coder");
        tree.kill();
        for process in env.processes_named("s6-supervise") {
            process.kill("KILL");
        }
        env.wait_for("the gateway to be an orphan", || {
            env.gateways("coder")
                .iter()
                .all(|gateway| gateway.parent == 1)
        });
        let home = env.home_of("coder");
        let words = [
            "hold-lock",
            "-t",
            "100",
            home.to_str().unwrap(),
            "echo",
            "ours",
        ];
        let ran = without(&env, errno, calls, &words).ran().ends(0);
        ran.says("ours")
            .warns(format!("killing the orphaned gateway (pid {orphan})"));
        assert_eq!(env.gateways("coder").len(), 0, "{errno} {calls}");
    }
}

#[test]
fn where_locks_cannot_be_taken_it_is_said_and_is_not_the_work_of_another_command() {
    let env = TestEnv::new();
    if !can_filter(&env) {
        return;
    }
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let pid = env.pid("coder");
    let flock = if cfg!(target_arch = "x86_64") {
        "73-73"
    } else {
        "32-32"
    };
    for line in ["stop -p coder", "restart -p coder", "reconcile"] {
        let ran = without(&env, "ENOLCK", flock, line).ran().ends(111);
        ran.warns("unable to lock ").warns("No locks available");
    }
    assert_eq!(env.pid("coder"), pid);
    without(&env, "ENOLCK", flock, "shutdown")
        .ran()
        .ends(0)
        .says("gateway-coder is down");
}
