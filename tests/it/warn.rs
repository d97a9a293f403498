//! A problem of many profiles is one line, that names them; the JSON has all of it.

use std::fs;

use serde_json::Value;

use crate::support::{TestEnv, chmod};

/// Makes twenty profiles that are to run, and gives their names.
fn twenty(env: &TestEnv) -> Vec<String> {
    let names: Vec<String> = (1..=20).map(|number| format!("p{number:02}")).collect();
    for name in &names {
        env.running(name);
    }
    names
}

/// Reads the JSON that a command prints.
fn json(env: &TestEnv, line: &str) -> Value {
    serde_json::from_str(&env.run(line).stdout).unwrap()
}

/// The messages that are no mere information.
fn warnings(stderr: &str) -> Vec<&str> {
    let lines = stderr.lines();
    lines.filter(|line| !line.contains(": info: ")).collect()
}

#[test]
fn twenty_profiles_without_a_port_are_one_warning() {
    let mut env = TestEnv::new();
    env.set("HERMES_S6_PORTS", "9200-9200");
    twenty(&env);
    env.profile("a-first", "");
    let text = "it has no port: all of 9200 to 9200 are given: set API_SERVER_PORT in its .env, or a wider range with HERMES_S6_PORTS";
    for line in ["reconcile --dry-run", "reconcile", "reconcile"] {
        let ran = env.run(line).ends(1);
        let expected = format!("hermes-s6: warning: profiles p01, p02, p03 and 17 more: {text}\n");
        assert_eq!(ran.stderr, expected, "{line}");
        let named = ran.stdout.lines().filter(|line| line.contains("no-port"));
        assert_eq!(named.count(), 20, "each is named where it is told of");
    }
    let changes = json(&env, "reconcile --json");
    let told = changes["changes"].as_array().unwrap().iter();
    assert_eq!(told.filter(|change| change["warning"] == text).count(), 20);
}

#[test]
fn profiles_that_there_is_no_room_for_are_one_warning_with_their_names() {
    let env = TestEnv::new();
    env.profile("a-first", "");
    let _tree = env.svscan(2);
    env.run("reconcile").ends(0);
    twenty(&env);
    let start = "hermes-s6: warning: profiles p01, p02, p03 and 17 more: s6-svscan has no room for its slot: ";
    for line in ["reconcile", "stop -p a-first"] {
        let ran = env.run(line);
        let warnings = warnings(&ran.stderr);
        assert_eq!(warnings.len(), 1, "{line}: {ran:?}");
        assert!(warnings[0].starts_with(start), "{line}: {ran:?}");
    }
}

#[test]
fn what_cannot_be_written_for_twenty_profiles_is_one_warning() {
    let env = TestEnv::new();
    let names = twenty(&env);
    let _tree = env.supervise();
    for name in &names {
        env.await_state(name, "ready");
    }
    let close = |mode| {
        for name in &names {
            chmod(env.home_of(name), mode);
        }
    };
    close(0o555);
    let ran = env.run("stop --all").ends(1);
    let home = env.home.display();
    let cause = "Permission denied";
    let intents = format!(
        "hermes-s6: warning: profiles p01, p02, p03 and 17 more: unable to write {home}/profiles/p01/gateway_state.json: {cause}: the volume does not say that p01 is wanted stopped"
    );
    let stops = format!(
        "hermes-s6: warning: profiles p01, p02, p03 and 17 more: unable to write {home}/profiles/p01/.gateway-planned-stop.json: {cause}"
    );
    let told = warnings(&ran.stderr);
    assert!(told.contains(&&*intents), "{ran:?}");
    assert!(
        told.iter().all(|line| [&*intents, &stops].contains(line)),
        "{ran:?}"
    );
    let failures = &json(&env, "stop --all --json")["failures"];
    for name in &names {
        let text = format!("{name} is wanted stopped");
        let is_its = |failure: &&Value| failure.as_str().unwrap().ends_with(&text);
        assert_eq!(
            failures.as_array().unwrap().iter().filter(is_its).count(),
            1
        );
    }
    close(0o755);
}

#[test]
fn logs_that_cannot_be_read_are_one_warning() {
    let env = TestEnv::new();
    for name in twenty(&env) {
        let log = env.log(&name);
        fs::create_dir_all(&log).unwrap();
        chmod(log, 0o000);
    }
    env.own();
    let ran = env.run("logs --all").ends(111);
    let logs = env.log("p01").display().to_string();
    let text =
        format!("profiles p01, p02, p03 and 17 more: unable to open {logs}: Permission denied");
    assert_eq!(
        warnings(&ran.stderr),
        [format!("hermes-s6: warning: {text}")]
    );
    // So that the directory can be removed.
    for name in 1..=20 {
        chmod(env.log(&format!("p{name:02}")), 0o755);
    }
}

#[test]
fn a_note_of_twenty_profiles_is_one_line_below_the_table() {
    let mut env = TestEnv::new();
    twenty(&env);
    env.run("reconcile").ends(0);
    let place = env.scandir.display();
    let ran = env.run("status").ends(1);
    let (_, notes) = ran.stdout.rsplit_once("\n\n").unwrap();
    let text = format!(
        "wants running, is unsupervised: no s6-svscan watches {place}: hermes-s6 supervise"
    );
    assert_eq!(notes, format!("p01, p02, p03 and 17 more: each {text}\n"));
    let status = json(&env, "status --json");
    let rows = status["profiles"].as_array().unwrap().iter();
    let warned =
        rows.filter(|row| row["warning"] == format!("{} {text}", row["profile"].as_str().unwrap()));
    assert_eq!(warned.count(), 20);
    env.set("HERMES_S6_AUTOSTART", "never");
    env.run("reconcile").ends(0);
    env.run("status")
        .says("\n\np01, p02, p03 and 17 more: each is unsupervised: autostart=never\n");
}

#[test]
fn a_warning_that_is_met_again_in_a_run_is_printed_once() {
    let mut env = TestEnv::new();
    env.set("HERMES_S6_HERMES", "/nowhere/hermes");
    env.profile("coder", "");
    let _tree = env.svscan(10);
    env.run("reconcile").ends(0);
    env.running("new").running("other");
    // Slots are made for the one that is named, and then for the other.
    let ran = env.run("start -p new --no-wait");
    ran.warns("gateway-other is registered");
    let text = "there is no program /nowhere/hermes";
    assert_eq!(ran.stderr.matches(text).count(), 1, "{ran:?}");
}
