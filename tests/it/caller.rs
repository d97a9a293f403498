//! What a caller brings along: signals that it ignores, and another path to the same home.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::{Ran, TestEnv, programs};

/// Prepares hermes-s6 as it is called by a program that ignores signals.
fn ignoring(env: &TestEnv, signals: &str, words: &[&str]) -> Command {
    let mut command = env.command("env");
    command
        .arg(format!("--ignore-signal={signals}"))
        .arg(programs().join("hermes-s6"))
        .args(words);
    command
}

/// The signals that a process ignores, as a mask.
fn ignored(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    u64::from_str_radix(mask.unwrap().trim(), 16).unwrap()
}

/// SIGINT, SIGQUIT and SIGCHLD.
const INHERITED: u64 = 1 << 1 | 1 << 2 | 1 << 16;

#[test]
fn a_tree_and_its_gateways_ignore_no_signal_that_their_caller_ignored() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.start(ignoring(&env, "CHLD,INT,QUIT,PIPE", &["supervise"]));
    env.await_state("coder", "ready");
    assert_eq!(ignored(env.pid("coder")) & INHERITED, 0);
}

#[test]
fn with_sigchld_ignored_a_command_still_learns_what_came_of_it() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    for (words, said) in [
        (&["stop", "-p", "coder"][..], "gateway-coder is down ("),
        (&["start", "-p", "coder"], "gateway-coder is ready (pid "),
        (&["restart", "-p", "coder"], "gateway-coder is ready (pid "),
        (&["reconcile"], "reconcile: nothing changed"),
    ] {
        let ran = Ran::from(ignoring(&env, "CHLD", words).output().unwrap());
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.stdout.contains(said), "{ran:?}");
    }
}

#[test]
fn a_tree_serves_its_home_by_whatever_path_the_caller_names_it() {
    let mut env = TestEnv::new();
    env.running("coder");
    let tree = env.supervise();
    env.await_state("coder", "ready");
    let script = fs::read_to_string(env.slot("coder").join("run")).unwrap();
    let (home, alias) = (env.home.clone(), env.place.join("alias"));
    symlink(&home, &alias).unwrap();
    let by_alias = |words: &[&str]| {
        let mut command = env.command(programs().join("hermes-s6"));
        command.env("HERMES_HOME", &alias).args(words);
        Ran::from(command.output().unwrap())
    };
    for (words, said) in [
        (&["detect"][..], "s6: s6-svscan (pid "),
        (&["stop", "-p", "coder"], "gateway-coder is down ("),
        (&["start", "-p", "coder"], "gateway-coder is ready (pid "),
        (&["status"], "Manager: s6 (container supervisor)"),
        (&["reconcile"], "reconcile: nothing changed"),
        (&["render", "-p", "coder"], script.as_str()),
    ] {
        let ran = by_alias(words);
        assert_eq!(
            (ran.code, ran.stderr.as_str()),
            (0, ""),
            "{words:?} {ran:?}"
        );
        assert!(ran.stdout.contains(said), "{words:?} {ran:?}");
    }
    // A tree that is started anew takes the path that it is started with.
    assert_eq!(tree.stop(), 0);
    env.home.clone_from(&alias);
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let script = fs::read_to_string(env.slot("coder").join("run")).unwrap();
    let named = format!("{}/profiles/coder", alias.display());
    assert!(script.contains(&named), "{script}");
}
