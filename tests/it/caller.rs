//! What a caller brings along: signals that it ignores, and another path to the same home.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::{Run as _, TestEnv, has, ignored, programs};

/// Prepares hermes-s6 as it is called by a program that ignores signals.
fn ignoring(env: &TestEnv, signals: &str, line: &str) -> Command {
    let mut command = env.command("env");
    command
        .arg(format!("--ignore-signal={signals}"))
        .arg(programs().join("hermes-s6"))
        .args(line.split(' '));
    command
}

/// SIGHUP, SIGINT, SIGQUIT and SIGCHLD.
const INHERITED: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 16;

#[test]
fn a_tree_and_its_gateways_ignore_no_signal_that_their_caller_ignored() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.start(ignoring(&env, "CHLD,HUP,INT,QUIT,PIPE", "supervise"));
    env.await_state("coder", "ready");
    let status = fs::read_to_string(format!("/proc/{}/status", env.pid("coder"))).unwrap();
    assert_eq!(ignored(&status) & INHERITED, 0);
}

#[test]
fn with_sigchld_ignored_a_command_still_learns_what_came_of_it() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    for (line, said) in [
        ("stop -p coder", "gateway-coder is down ("),
        ("start -p coder", "gateway-coder is ready (pid "),
        ("restart -p coder", "gateway-coder is ready (pid "),
        ("reconcile", "reconcile: nothing changed"),
    ] {
        ignoring(&env, "CHLD", line).ran().ends(0).says(said);
    }
}

#[test]
fn a_tree_serves_its_home_by_whatever_path_the_caller_names_it() {
    let mut env = TestEnv::new();
    env.running("coder");
    let tree = env.supervise();
    env.await_state("coder", "ready");
    let run = env.slot("coder").join("run");
    let script = fs::read_to_string(&run).unwrap();
    let alias = env.place.join("alias");
    symlink(&env.home, &alias).unwrap();
    for (line, said) in [
        ("detect", "s6: s6-svscan (pid "),
        ("stop -p coder", "gateway-coder is down ("),
        ("start -p coder", "gateway-coder is ready (pid "),
        ("status", "Manager: s6 (container supervisor)"),
        ("reconcile", "reconcile: nothing changed"),
        ("render -p coder", script.as_str()),
    ] {
        let mut command = env.hermes_s6(line);
        command.env("HERMES_HOME", &alias).ran().ends(0).says(said);
    }
    // A tree that is started anew takes the path that it is started with.
    assert_eq!(tree.stop(), 0);
    env.home.clone_from(&alias);
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let named = format!("{}/profiles/coder", alias.display());
    has(&fs::read_to_string(&run).unwrap(), named);
}
