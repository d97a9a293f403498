//! What becomes of a run whose output cannot be printed: it says so, and a script sees it by the exit code.

use std::fs::{self, File};
use std::io::Read;
use std::process::{Command, Stdio};

use rustix::fs::{OFlags, fcntl_setfl};

use crate::support::{Ran, TestEnv, closes, programs};

/// What every command says that cannot print its data on a full disk.
const FULL: &str = "hermes-s6: fatal: unable to write stdout: No space left on device\n";

/// Runs a command with this as its stdout.
fn printing_on(stdout: impl Into<Stdio>, command: &mut Command) -> Ran {
    let child = command.stdout(stdout).stderr(Stdio::piped()).spawn();
    child.unwrap().wait_with_output().unwrap().into()
}

/// Checks what commands do that cannot print.
#[track_caller]
fn fail_on_full(env: &TestEnv, lines: &[&str]) {
    for line in lines {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ran = printing_on(full, &mut env.hermes_s6(*line));
        assert_eq!(ran.code, 111, "{line}: {ran:?}");
        closes(&ran.stderr, FULL);
        assert_eq!(ran.stderr.matches("fatal").count(), 1, "{line}: {ran:?}");
    }
}

#[test]
fn what_cannot_be_printed_without_a_tree_is_told_and_111() {
    let env = TestEnv::new();
    env.running("coder");
    let out = format!("render -p coder --out {}", env.place.display());
    fail_on_full(
        &env,
        &[
            "--help",
            "-V",
            "--version",
            "status --help",
            "detect",
            "detect --json",
            "doctor",
            "doctor --json",
            "port",
            "port -p coder",
            "reconcile --dry-run",
            "reconcile --dry-run --json",
            "render -p coder",
            &out,
            "survey",
            "reconcile",
            "reconcile --json",
            "status",
            "list",
        ],
    );
    assert!(env.slot("coder").is_dir(), "what was to be done is done");
}

#[test]
fn what_cannot_be_printed_of_a_tree_is_told_and_111() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    fail_on_full(
        &env,
        &[
            "status",
            "status -p coder",
            "status --json",
            "status --format table",
            "status --format json",
            "status --format prometheus",
            "list",
            "list --json",
            "logs -p coder",
            "logs -p coder -f",
            "start -p coder",
            "start -p coder --json",
            "restart -p coder",
            "stop -p coder",
            "stop -p coder --json",
            "unregister -p coder",
            "register -p coder",
            "register -p coder",
            "dispatch start -p coder",
            "dispatch install",
            "hermes -p coder gateway status",
            "hermes -p coder gateway stop",
            "hermes gateway list",
            "hermes gateway install",
            "hermes gateway start --all",
            "shutdown",
            "shutdown --json",
        ],
    );
    assert_eq!(env.state("coder"), "down", "what was to be done is done");
}

#[test]
fn an_answer_of_no_that_cannot_be_printed_is_111_too() {
    let env = TestEnv::new();
    env.running("coder");
    env.run("reconcile").ends(0);
    env.run("status").ends(1);
    fail_on_full(&env, &["status", "status --json"]);
}

#[test]
fn a_stdout_that_is_only_for_reading_is_told() {
    let env = TestEnv::new();
    let ran = printing_on(File::open("/dev/null").unwrap(), &mut env.hermes_s6("port"));
    let message = "hermes-s6: fatal: unable to write stdout: Bad file descriptor\n";
    ran.is(111, "", message);
}

#[test]
fn a_reader_who_goes_away_changes_no_answer() {
    let env = TestEnv::new();
    env.running("coder");
    env.run("reconcile").ends(0);
    for (line, code) in [("--help", 0), ("status", 1), ("port", 0), ("doctor", 1)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        printing_on(writer, &mut env.hermes_s6(line)).is(code, "", "");
    }
}

#[test]
fn a_stdout_that_does_not_block_gets_all_of_it() {
    let env = TestEnv::new();
    env.profile("coder", "");
    fs::create_dir_all(env.log("coder")).unwrap();
    let lines: Vec<String> = (0..20_000)
        .map(|number| format!("line {number}\n"))
        .collect();
    let lines = lines.concat();
    env.write(&env.log("coder").join("current"), &lines);
    env.own();
    let (mut reader, writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    let mut command = env.command(programs().join("hermes-s6"));
    command.args(["logs", "-p", "coder", "-n", "20000"]);
    let mut child = command.stdout(writer).spawn().unwrap();
    // It still has the writing end of the pipe.
    drop(command);
    // Until the pipe is full, there is nothing to wait for.
    let pipe = 64 << 10;
    let mut read = vec![0; pipe];
    reader.read_exact(&mut read).unwrap();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(String::from_utf8(read).unwrap() == lines);
}
