//! Start, stop, restart, and the coming and going of slots, on real s6 with a stand-in for the gateway.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Child;
use std::time::Duration;

use crate::support::{Ran, TestEnv, Tree, is_root, mode, programs, wait_for};

/// How long a gateway has to end in these trees, in seconds.
const BUDGET: &str = "3";

fn home(profiles: &[&str]) -> TestEnv {
    let mut env = TestEnv::new();
    env.set("HERMES_S6_STOP_TIMEOUT", BUDGET);
    for profile in profiles {
        env.profile(profile, "");
    }
    env
}

fn supervised(env: &TestEnv) -> Tree<'_> {
    let tree = env.supervise();
    tree.await_watched();
    tree
}

fn state_file(env: &TestEnv, profile: &str) -> String {
    fs::read_to_string(env.home_of(profile).join("gateway_state.json")).unwrap_or_default()
}

fn wants(env: &TestEnv, profile: &str, wanted: &str) {
    let text = state_file(env, profile);
    assert!(
        text.contains(&format!("\"desired_state\":\"{wanted}\"")),
        "{profile} wants {wanted}: {text}"
    );
}

/// Checks that a command did its work, and said so in one line that matches.
fn done(ran: &Ran, said: &str) {
    assert_eq!(ran.code, 0, "{ran:?}");
    one_line(&ran.stdout, "\u{2713} ", said);
}

/// Checks that a command did not, with this code, and said why in one line that matches.
fn not_done(ran: &Ran, code: i32, said: &str) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert_eq!(ran.stdout, "", "{ran:?}");
    let line: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| !line.contains(": info: waiting for "))
        .collect();
    one_line(&line.join("\n"), "\u{2717} ", said);
}

fn one_line(text: &str, mark: &str, said: &str) {
    let line = text.trim_end();
    assert!(
        line.starts_with(mark) && !line.contains('\n') && line.contains(said),
        "expected '{mark}… {said} …': {text:?}"
    );
}

/// Starts a command and leaves it running.
fn background(env: &TestEnv, arguments: &[&str]) -> Child {
    let mut command = env.command(programs().join("hermes-s6"));
    command
        .args(arguments)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    command.spawn().unwrap()
}

fn finished(child: Child) -> Ran {
    Ran::from(child.wait_with_output().unwrap())
}

/// Waits until a gateway has been ready for so long that s6 starts it again at once.
fn settled(env: &TestEnv, profile: &str) {
    env.await_state(profile, "ready");
    std::thread::sleep(Duration::from_millis(1100));
}

/// Counts events of the gateway of `coder`.
fn counts<const N: usize>(env: &TestEnv, events: [&str; N]) -> [usize; N] {
    events.map(|event| env.count("coder", event))
}

fn await_event(env: &TestEnv, profile: &str, event: &str, count: usize) {
    wait_for(
        &format!("{count} times {event} of {profile}"),
        || env.count(profile, event) == count,
        || format!("{:?}\n{}", env.events(profile), env.out()),
    );
}

#[test]
fn start_stop_and_restart_wait_and_say_what_came_of_it() {
    let env = home(&["coder"]);
    let _tree = supervised(&env);
    let started = env.run(&["start", "-p", "coder"]);
    let pid = env.pid("coder");
    done(&started, &format!("gateway-coder is ready (pid {pid}, "));
    assert_eq!(env.state("coder"), "ready");
    wants(&env, "coder", "running");
    assert!(!env.slot("coder").join("down").exists());
    done(
        &env.run(&["start", "-p", "coder"]),
        &format!("gateway-coder is ready already (pid {pid})"),
    );
    settled(&env, "coder");
    let restarted = env.run(&["restart", "-p", "coder"]);
    assert_ne!(env.pid("coder"), pid);
    done(
        &restarted,
        &format!("gateway-coder is ready (pid {}, ", env.pid("coder")),
    );
    done(
        &env.run(&["stop", "-p", "coder"]),
        "gateway-coder is down (",
    );
    assert_eq!(env.state("coder"), "down");
    assert!(env.gateways("coder").is_empty());
    wants(&env, "coder", "stopped");
    assert!(env.slot("coder").join("down").exists());
    done(
        &env.run(&["stop", "-p", "coder"]),
        "gateway-coder is down already",
    );
    let events = env.events("coder");
    let words: Vec<&str> = events
        .iter()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        words,
        [
            "start", "TERM", "saved", "start", "TERM", "saved", "planned"
        ]
    );
}

#[test]
fn what_was_started_or_stopped_is_so_again_after_the_tree_was_killed() {
    let env = home(&["coder", "viewer"]);
    let tree = supervised(&env);
    assert_eq!(env.run(&["start", "--all"]).code, 0);
    assert_eq!(env.run(&["stop", "-p", "viewer"]).code, 0);
    env.kill_all();
    tree.wait();
    let _tree = supervised(&env);
    env.await_state("coder", "ready");
    env.await_state("default", "ready");
    assert_eq!(env.state("viewer"), "down");
}

#[test]
fn a_stop_is_announced_to_the_gateway_before_its_signal() {
    let env = home(&["coder"]);
    let _tree = supervised(&env);
    // One that does not read the announcement leaves it there to look at.
    env.behaviour("coder", "ignore-term 1\n");
    env.run(&["start", "-p", "coder"]);
    let pid = env.pid("coder");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start = stat.rsplit(')').next().unwrap().split_whitespace().nth(19);
    let stopping = background(&env, &["stop", "-p", "coder"]);
    await_event(&env, "coder", "TERM", 1);
    let place = env.home_of("coder").join(".gateway-planned-stop.json");
    let marker = fs::read_to_string(&place).unwrap();
    let stopper = stopping.id();
    let expected = format!(
        "{{\"target_pid\":{pid},\"target_start_time\":{},\"stopper_pid\":{stopper},\"written_at\":\"20",
        start.unwrap()
    );
    assert!(marker.starts_with(&expected), "{marker}");
    assert!(marker.ends_with("+00:00\"}"), "{marker}");
    done(&finished(stopping), "gateway-coder is down (killed");
    assert!(!place.exists(), "it is of no use any more");
}

#[test]
fn a_start_says_what_is_wrong_with_a_gateway_that_does_not_get_ready() {
    let env = home(&["clean", "config", "crash", "failing", "quiet", "again"]);
    env.behaviour("clean", "exit 0\n")
        .behaviour("config", "exit 78\n")
        .behaviour("failing", "exit 1\n")
        .behaviour("crash", "crash SEGV\n")
        .behaviour("again", "exit 75\n")
        .behaviour("quiet", "never-ready 1\n");
    let _tree = supervised(&env);
    for (profile, code, said) in [
        ("clean", 1, "parked: exit 0 (it ended by itself)"),
        ("config", 1, "parked: exit 78 (configuration)"),
        ("failing", 1, "parked: crash loop (5 deaths in two minutes)"),
        ("crash", 1, "parked: crash loop (5 deaths in two minutes)"),
        ("quiet", 99, "not ready after 2 s: it is starting"),
        ("again", 99, "not ready after 2 s: it is starting"),
    ] {
        let mut words = vec!["start", "-p", profile];
        if code == 99 {
            words.extend(["--timeout", "2"]);
        }
        let ran = env.run(&words);
        let said = format!("gateway-{profile} is {said}, see hermes-s6 logs -p {profile}");
        not_done(&ran, code, &said);
        wants(&env, profile, "running");
    }
    // Together: each has its line, and no failure is lost among the others.
    env.behaviour("again", "");
    let all = env.run(&["start", "--all", "--timeout", "8"]);
    assert_eq!(all.code, 1, "{all:?}");
    assert_eq!(all.stdout.lines().count(), 2, "{all:?}");
    let no = |line: &&str| line.starts_with('\u{2717}');
    assert_eq!(all.stderr.lines().filter(no).count(), 5, "{all:?}");
}

#[test]
fn a_start_forgives_what_parked_the_gateway() {
    let env = home(&["coder"]);
    env.behaviour("coder", "exit 1\n");
    let _tree = supervised(&env);
    not_done(&env.run(&["start", "-p", "coder"]), 1, "crash loop");
    env.behaviour("coder", "");
    done(&env.run(&["start", "-p", "coder"]), "is ready");
    // With the five deaths still counted, this one would park it again.
    env.gateways("coder")[0].kill("SEGV");
    await_event(&env, "coder", "start", 7);
    env.await_state("coder", "ready");
}

#[test]
fn a_restart_starts_what_is_down_or_parked() {
    let env = home(&["coder"]);
    let _tree = supervised(&env);
    done(&env.run(&["restart", "-p", "coder"]), "is ready (pid");
    assert_eq!(env.run(&["stop", "-p", "coder"]).code, 0);
    done(&env.run(&["restart", "-p", "coder"]), "is ready (pid");
    wants(&env, "coder", "running");
    assert_eq!(env.run(&["stop", "-p", "coder"]).code, 0);
    env.behaviour("coder", "exit 78\n");
    not_done(&env.run(&["restart", "-p", "coder"]), 1, "is parked");
    env.behaviour("coder", "");
    done(&env.run(&["restart", "-p", "coder"]), "is ready (pid");
}

#[test]
fn a_restart_ends_with_a_new_process_whatever_the_old_one_exits_with() {
    let env = home(&["coder"]);
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder"]);
    for code in ["0", "1", "69", "75", "78"] {
        env.behaviour("coder", &format!("term {code}\n"));
        settled(&env, "coder");
        let before = env.pid("coder");
        done(&env.run(&["restart", "-p", "coder"]), "is ready (pid");
        assert_ne!(env.pid("coder"), before, "term {code}");
    }
    assert_eq!(env.count("coder", "TERM"), 5);
}

#[test]
fn what_ignores_sigterm_is_killed_when_its_time_is_over() {
    let env = home(&["coder"]);
    env.behaviour("coder", "ignore-term 1\n");
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder"]);
    settled(&env, "coder");
    let before = env.pid("coder");
    let ran = env.run(&["restart", "-p", "coder", "--timeout", "1"]);
    not_done(&ran, 99, &format!("has not ended after 1 s (pid {before})"));
    let ran = env.run(&["restart", "-p", "coder"]);
    done(&ran, "its old process was killed, it had not ended)");
    assert_ne!(env.pid("coder"), before);
    // Not its time but the caller's is over: that is said, and the stop goes on.
    let ran = env.run(&["stop", "-p", "coder", "--timeout", "1"]);
    not_done(&ran, 99, "has not ended after 1 s (pid");
    let ran = env.run(&["stop", "-p", "coder"]);
    done(&ran, "is down, by SIGKILL (");
    assert_eq!(env.count("coder", "TERM"), 2, "one for each process");
    wants(&env, "coder", "stopped");
}

#[test]
fn a_gateway_that_saves_has_its_time() {
    let env = home(&["coder"]);
    env.behaviour("coder", "save 2\n");
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder"]);
    settled(&env, "coder");
    done(&env.run(&["restart", "-p", "coder"]), "is ready (pid");
    done(&env.run(&["stop", "-p", "coder"]), "is down (2.");
    assert_eq!(counts(&env, ["TERM", "saved"]), [2, 2]);
}

#[test]
fn two_restarts_at_once_are_one() {
    let env = home(&["coder"]);
    env.behaviour("coder", "save 1\nready-after 1\n");
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder"]);
    settled(&env, "coder");
    let first = background(&env, &["restart", "-p", "coder"]);
    let second = background(&env, &["restart", "-p", "coder"]);
    await_event(&env, "coder", "start", 2);
    // One more, while the new one gets ready.
    let third = background(&env, &["restart", "-p", "coder"]);
    for restart in [first, second, third] {
        done(&finished(restart), "is ready (pid");
    }
    assert_eq!(counts(&env, ["TERM", "start"]), [1, 2]);
    assert!(!env.slot("coder").join("down").exists());
    // One that comes when it is ready is another one.
    done(&env.run(&["restart", "-p", "coder"]), "is ready (pid");
    assert_eq!(counts(&env, ["TERM", "start"]), [2, 3]);
}

#[test]
fn a_gateway_that_does_not_get_ready_is_restarted_in_the_end() {
    let env = home(&["coder"]);
    env.behaviour("coder", "never-ready 1\n");
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder", "--no-wait"]);
    wait_for(
        "the gateway to have read how it is to behave",
        || state_file(&env, "coder").contains("starting"),
        || env.out(),
    );
    std::thread::sleep(Duration::from_millis(300));
    env.behaviour("coder", "");
    done(&env.run(&["restart", "-p", "coder"]), "is ready (pid");
    assert_eq!(counts(&env, ["TERM", "start"]), [1, 2]);
}

#[test]
fn a_stop_during_a_restart_is_served_and_sends_no_second_signal() {
    let env = home(&["coder"]);
    env.behaviour("coder", "save 1\n");
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder"]);
    settled(&env, "coder");
    let restart = background(&env, &["restart", "-p", "coder"]);
    await_event(&env, "coder", "TERM", 1);
    done(&env.run(&["stop", "-p", "coder"]), "is down (");
    not_done(&finished(restart), 1, "was stopped by another command");
    assert_eq!(env.state("coder"), "down");
    assert_eq!(counts(&env, ["TERM", "start"]), [1, 1]);
}

/// Kills or halts what runs in the background of a test.
fn signal(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    let status = std::process::Command::new("kill")
        .args([signal, &pid])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_stop_at_the_end_of_a_restart_gives_the_new_process_its_signal() {
    let env = home(&["coder"]);
    env.behaviour("coder", "save 1\n");
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder"]);
    settled(&env, "coder");
    let restart = background(&env, &["restart", "-p", "coder"]);
    await_event(&env, "coder", "TERM", 1);
    // It still has the lock when the new process is there.
    signal(&restart, "-STOP");
    await_event(&env, "coder", "start", 2);
    std::thread::sleep(Duration::from_millis(300));
    let stop = background(&env, &["stop", "-p", "coder"]);
    std::thread::sleep(Duration::from_millis(300));
    signal(&restart, "-CONT");
    done(&finished(stop), "gateway-coder is down (1.");
    finished(restart);
    assert_eq!(counts(&env, ["TERM", "saved"]), [2, 2]);
    assert_eq!(env.state("coder"), "down");
}

#[test]
fn a_restart_does_not_undo_a_shutdown() {
    let env = home(&["coder"]);
    env.behaviour("coder", "save 1\n");
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder"]);
    settled(&env, "coder");
    let restart = background(&env, &["restart", "-p", "coder"]);
    await_event(&env, "coder", "TERM", 1);
    done(&env.run(&["shutdown"]), "gateway-coder is down (");
    not_done(&finished(restart), 1, "was stopped by another command");
    assert_eq!(env.state("coder"), "down");
    assert_eq!(env.count("coder", "start"), 1);
    wants(&env, "coder", "running");
    done(&env.run(&["start", "-p", "coder"]), "is ready");
}

#[test]
fn what_runs_is_stopped_also_when_the_volume_cannot_be_read() {
    let env = home(&["coder", "viewer"]);
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder", "-p", "viewer"]);
    let hidden = env.place.join("hidden");
    fs::rename(&env.home, &hidden).unwrap();
    let ran = env.run(&["stop", "-p", "coder"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("gateway-coder is down"), "{ran:?}");
    assert!(ran.stderr.contains("the volume cannot be read"), "{ran:?}");
    let ran = env.run(&["stop"]);
    assert_eq!(ran.code, 100, "which one is meant is not known: {ran:?}");
    let ran = env.run(&["shutdown"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("gateway-viewer is down"), "{ran:?}");
    assert!(env.gateways("coder").is_empty() && env.gateways("viewer").is_empty());
    fs::rename(&hidden, &env.home).unwrap();
    wants(&env, "coder", "running");
}

#[test]
fn what_survives_its_s6_svscan_can_be_stopped() {
    let env = home(&["coder"]);
    let tree = supervised(&env);
    env.run(&["start", "-p", "coder"]);
    tree.kill();
    let ran = env.run(&["start", "-p", "coder"]);
    assert_eq!(ran.code, 102, "{ran:?}");
    done(
        &env.run(&["stop", "-p", "coder"]),
        "gateway-coder is down (",
    );
    assert_eq!(env.count("coder", "saved"), 1);
}

#[test]
fn a_slot_that_was_removed_by_hand_is_replaced_and_its_gateway_too() {
    let env = home(&["coder"]);
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder"]);
    fs::remove_dir_all(env.slot("coder")).unwrap();
    let ran = env.run(&["stop", "-p", "coder"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let orphan = "one without a supervisor still runs: kill ";
    assert!(ran.stderr.contains(orphan), "{ran:?}");
    done(&env.run(&["start", "-p", "coder"]), "is ready (pid");
    assert_eq!(env.gateways("coder").len(), 1);
    done(&env.run(&["stop", "-p", "coder"]), "is down (");
}

#[test]
fn a_start_during_a_stop_is_served_when_the_old_process_has_ended() {
    let env = home(&["coder"]);
    env.behaviour("coder", "save 1\n");
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder"]);
    // The stop looks once more at what it has written while the start does its work.
    for round in 1..=4 {
        let stop = background(&env, &["stop", "-p", "coder"]);
        await_event(&env, "coder", "TERM", round);
        done(&env.run(&["start", "-p", "coder"]), "is ready (pid");
        let stopped = finished(stop);
        assert!(
            stopped.stdout.contains("is down") || stopped.stderr.contains("started again"),
            "{stopped:?}"
        );
        wants(&env, "coder", "running");
        assert!(!env.slot("coder").join("down").exists());
        assert_eq!(env.gateways("coder").len(), 1);
    }
}

#[test]
fn a_start_that_is_killed_while_it_waits_for_an_end_is_made_good_by_reconcile() {
    let env = home(&["coder"]);
    env.behaviour("coder", "save 1\n");
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder"]);
    let stop = background(&env, &["stop", "-p", "coder"]);
    await_event(&env, "coder", "TERM", 1);
    let mut start = background(&env, &["start", "-p", "coder"]);
    wait_for(
        "the start to have written what it wants",
        || {
            fs::read_to_string(env.slot("coder").join("down"))
                .is_ok_and(|text| text.starts_with("To be started"))
        },
        || env.out(),
    );
    start.kill().unwrap();
    start.wait().unwrap();
    assert_eq!(finished(stop).code, 0);
    assert_eq!(env.state("coder"), "down");
    assert_eq!(env.run(&["status"]).code, 1);
    assert_eq!(env.run(&["reconcile"]).code, 0);
    env.await_state("coder", "ready");
}

#[test]
fn who_does_not_wait_is_told_so() {
    let env = home(&["coder"]);
    env.behaviour("coder", "ready-after 1\nsave 1\n");
    let _tree = supervised(&env);
    done(
        &env.run(&["start", "-p", "coder", "--no-wait"]),
        "gateway-coder is starting",
    );
    env.await_state("coder", "ready");
    done(
        &env.run(&["stop", "-p", "coder", "--no-wait"]),
        "gateway-coder is stopping",
    );
    env.await_state("coder", "down");
    wants(&env, "coder", "stopped");
}

#[test]
fn the_outcome_can_be_had_as_json() {
    let env = home(&["coder", "viewer"]);
    env.behaviour("viewer", "exit 78\n");
    let _tree = supervised(&env);
    let ran = env.run(&["start", "-p", "viewer", "-p", "coder", "--json"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["ok"], false);
    let results = json["results"].as_array().unwrap();
    assert_eq!(results.len(), 2, "{json}");
    assert_eq!(results[0]["profile"], "coder");
    assert_eq!(results[0]["outcome"], "ready");
    assert_eq!(results[0]["pid"], env.pid("coder"));
    assert_eq!(results[1]["ok"], false);
    assert_eq!(results[1]["state"], "parked");
}

#[test]
fn an_intent_keeps_everything_else_in_the_state_file() {
    let env = home(&[]);
    let content = r#"{"x":{"b": 1.10,"a":[]},"gateway_state":"stopped","served_profiles":["é"]}"#;
    env.profile("coder", content);
    let place = env.home_of("coder").join("gateway_state.json");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o640)).unwrap();
    let owner = fs::metadata(&place).unwrap().uid();
    let _tree = supervised(&env);
    assert_eq!(env.run(&["stop", "-p", "coder"]).code, 0);
    let written = state_file(&env, "coder");
    let kept = r#"{"x":{"b": 1.10,"a":[]},"gateway_state":"stopped","served_profiles":["é"],"desired_state":"stopped","updated_at":"#;
    assert!(written.starts_with(kept), "{written}");
    assert_eq!(mode(&place), 0o640);
    assert_eq!(fs::metadata(&place).unwrap().uid(), owner);
    let left: Vec<_> = fs::read_dir(env.home_of("coder"))
        .unwrap()
        .flatten()
        .collect();
    assert!(
        left.iter()
            .all(|entry| !entry.file_name().to_string_lossy().ends_with(".new")),
        "{left:?}"
    );
}

#[test]
fn an_intent_that_the_gateway_has_overwritten_is_written_again() {
    let env = home(&["coder"]);
    env.behaviour("coder", "forget 1\n");
    let _tree = supervised(&env);
    assert_eq!(env.run(&["start", "-p", "coder"]).code, 0);
    wants(&env, "coder", "running");
}

#[test]
fn a_damaged_state_file_is_put_aside() {
    let env = home(&[]);
    env.profile("coder", "[\"running\"]");
    let _tree = supervised(&env);
    done(&env.run(&["start", "-p", "coder"]), "is ready");
    wants(&env, "coder", "running");
    let aside = env.home_of("coder").join("gateway_state.json.damaged");
    assert_eq!(fs::read_to_string(aside).unwrap(), "[\"running\"]");
}

#[test]
fn an_intent_that_cannot_be_written_is_said_and_written_as_soon_as_it_can() {
    let env = home(&["coder"]);
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder"]);
    let place = env.home_of("coder").join("gateway_state.json");
    let before = fs::read_to_string("/etc/passwd").unwrap();
    let link = || {
        fs::remove_file(&place).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &place).unwrap();
    };
    // The gateway puts a file of its own there when it ends.
    link();
    done(&env.run(&["stop", "-p", "coder"]), "gateway-coder is down");
    wants(&env, "coder", "stopped");
    link();
    let ran = env.run(&["stop", "-p", "coder"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("gateway-coder is down"), "{ran:?}");
    assert!(ran.stderr.contains("is a symbolic link"), "{ran:?}");
    assert_eq!(fs::read_to_string("/etc/passwd").unwrap(), before);
}

#[test]
fn a_start_registers_a_profile_that_has_no_slot() {
    let env = home(&[]);
    let _tree = supervised(&env);
    env.profile("late", "");
    done(
        &env.run(&["start", "-p", "late"]),
        "gateway-late is ready (pid",
    );
    env.profile("later", "");
    done(
        &env.run(&["restart", "-p", "later"]),
        "gateway-later is ready (pid",
    );
    let ran = env.run(&["start", "-p", "nobody"]);
    assert_eq!(ran.code, 100, "{ran:?}");
    assert!(
        ran.stderr.contains("profile nobody does not exist"),
        "{ran:?}"
    );
}

#[test]
fn a_start_beside_a_gateway_that_serves_all_profiles_is_warned_of() {
    let env = home(&["coder"]);
    env.write(&env.home.join("config.yaml"), "multiplex_profiles: true\n");
    let _tree = supervised(&env);
    let ran = env.run(&["start", "-p", "coder"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("multiplex_profiles"), "{ran:?}");
    env.run(&["stop", "-p", "coder"]);
    let ran = env.run(&["start", "--all"]);
    assert!(
        ran.stdout.starts_with("\u{2713} gateway-default"),
        "{ran:?}"
    );
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    assert!(
        ran.stderr
            .contains("gateway-coder stays down here (multiplex)"),
        "{ran:?}"
    );
}

#[test]
fn a_new_slot_is_down_and_supervised_and_registering_twice_is_once() {
    let env = home(&[]);
    let _tree = supervised(&env);
    // Whatever it wants: registering is not starting.
    env.running("coder");
    done(
        &env.run(&["register", "-p", "coder"]),
        "gateway-coder is registered, and down",
    );
    let supervised = env
        .command("s6-svok")
        .arg(env.slot("coder"))
        .status()
        .unwrap();
    assert!(supervised.success());
    assert_eq!(env.count("coder", "start"), 0);
    done(
        &env.run(&["register", "-p", "coder"]),
        "gateway-coder is registered already",
    );
    done(&env.run(&["start", "-p", "coder"]), "is ready");
    done(
        &env.run(&["register", "-p", "coder"]),
        "gateway-coder is registered already",
    );
    assert_eq!(env.state("coder"), "ready");
}

#[test]
fn what_was_unregistered_has_left_nothing_behind() {
    let env = home(&["coder"]);
    let tree = supervised(&env);
    let descriptors = || {
        fs::read_dir(format!("/proc/{}/fd", tree.pid()))
            .unwrap()
            .count()
    };
    let mut first = None;
    for round in 1..=6 {
        assert_eq!(env.run(&["start", "-p", "coder"]).code, 0);
        done(
            &env.run(&["unregister", "-p", "coder"]),
            "gateway-coder is unregistered",
        );
        let names: Vec<_> = fs::read_dir(&env.scandir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name.to_string_lossy().contains("coder"))
            .collect();
        assert_eq!(names, [".hermes-s6-gone-coder"], "only when that was");
        assert!(env.gateways("coder").is_empty());
        // Those of the default profile and its logger are left.
        let supervisors = || env.processes_named("s6-supervise");
        assert_eq!(supervisors().len(), 2, "{:#?}", supervisors());
        // s6-svscan itself lets go of a slot in its own time.
        let expected = *first.get_or_insert_with(descriptors);
        wait_for(
            &format!("the {expected} descriptors of the first round in round {round}"),
            || descriptors() <= expected,
            || format!("there are {}", descriptors()),
        );
    }
    assert_eq!(
        env.count("coder", "planned"),
        6,
        "each was told that it is on purpose"
    );
    done(
        &env.run(&["unregister", "-p", "coder"]),
        "gateway-coder is not registered",
    );
}

#[test]
fn what_is_left_of_a_profile_that_is_gone_can_be_stopped_and_removed() {
    let env = home(&["coder"]);
    let _tree = supervised(&env);
    for (command, said) in [("stop", "is down ("), ("unregister", "is unregistered")] {
        env.running("coder").run(&["start", "-p", "coder"]);
        fs::remove_dir_all(env.home_of("coder")).unwrap();
        let ran = env.run(&[command, "-p", "coder"]);
        done(&ran, &format!("gateway-coder {said}"));
        assert!(!env.slot("coder").exists());
        assert!(!env.home_of("coder").exists(), "nothing is made for it");
    }
}

#[test]
fn what_was_changed_on_the_volume_from_outside_is_picked_up_by_the_next_command() {
    let env = home(&["coder", "viewer"]);
    let _tree = supervised(&env);
    env.run(&["start", "--all"]);
    let before = env.pid("default");
    fs::remove_dir_all(env.home_of("viewer")).unwrap();
    fs::rename(env.home_of("coder"), env.home_of("builder")).unwrap();
    env.profile("made", "");
    let ran = env.run(&["start"]);
    done(&ran, "gateway-default is ready already");
    for said in [
        // It is the one whose gateway ran as coder.
        "profile=builder prior_state=running action=started\n",
        "profile=coder prior_state=None action=removed reason=profile-gone\n",
        "gateway-made is registered, and down\n",
        "profile=viewer prior_state=None action=removed reason=profile-gone\n",
    ] {
        assert!(ran.stderr.contains(said), "{said} {ran:?}");
    }
    env.await_state("builder", "ready");
    assert_eq!(
        env.run(&["list"]).stdout,
        "default ready\nbuilder ready\nmade down\n"
    );
    assert_eq!(env.pid("default"), before);
    let again = env.run(&["start"]);
    assert_eq!(again.stderr, "", "there is nothing left to do");
    // Hermes does so before it removes the profile itself.
    env.run(&["unregister", "-p", "made"]);
    env.run(&["restart"]);
    assert_eq!(env.state("made"), "unregistered");
}

#[test]
fn a_profile_that_was_renamed_while_it_ran_is_known_by_its_new_name_at_once() {
    let env = home(&["coder", "viewer"]);
    let _tree = supervised(&env);
    for (round, command) in ["start", "restart", "stop"].into_iter().enumerate() {
        let (old, new) = (format!("name{round}"), format!("name{}", round + 1));
        if round == 0 {
            fs::rename(env.home_of("coder"), env.home_of(&old)).unwrap();
            env.run(&["start", "-p", &old]);
        }
        let before = env.pid(&old);
        fs::rename(env.home_of(&old), env.home_of(&new)).unwrap();
        let ran = env.run(&[command, "-p", &new]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(
            !env.slot(&old).exists() && env.gateways(&old).is_empty(),
            "{ran:?}"
        );
        let (state, wanted) = if command == "stop" {
            ("down", "stopped")
        } else {
            ("ready", "running")
        };
        assert_eq!(env.state(&new), state, "{ran:?}");
        wants(&env, &new, wanted);
        assert_ne!(env.pid(&new), before);
    }
}

#[test]
fn what_only_seems_to_have_come_or_gone_is_neither_started_nor_ended() {
    let env = home(&["coder", "viewer"]);
    let _tree = supervised(&env);
    env.run(&["start", "--all"]);
    let pids = || ["default", "coder", "viewer"].map(|profile| env.pid(profile));
    let before = pids();
    // As a copy that is not finished: its source was running.
    env.running("clone");
    let soul = env.home_of("coder").join("SOUL.md");
    fs::rename(&soul, env.place.join("edited")).unwrap();
    let ran = env.run(&["start", "-p", "viewer"]);
    assert!(
        ran.stderr.contains("gateway-clone is registered, and down"),
        "{ran:?}"
    );
    assert_eq!((env.state("clone"), pids()), ("down".into(), before));
    fs::rename(env.place.join("edited"), &soul).unwrap();
    // As a volume that is not there yet.
    let profiles = env.home.join("profiles");
    fs::rename(&profiles, env.place.join("away")).unwrap();
    fs::create_dir(&profiles).unwrap();
    env.own();
    assert_eq!(env.run(&["start"]).code, 0);
    assert_eq!(pids(), before);
    fs::remove_dir(&profiles).unwrap();
    fs::rename(env.place.join("away"), &profiles).unwrap();
    // And never the one that the command is run in.
    fs::rename(env.home_of("coder"), env.place.join("coder")).unwrap();
    let mut command = env.command(programs().join("hermes-s6"));
    command
        .args(["start", "-p", "viewer"])
        .env("_HERMES_GATEWAY", "1");
    command.env("HERMES_HOME", env.home_of("coder"));
    assert_eq!(Ran::from(command.output().unwrap()).code, 0);
    assert_eq!(pids(), before);
    env.run(&["start", "-p", "viewer"]);
    assert!(!env.slot("coder").exists(), "but by the next one it is");
}

#[test]
fn a_renamed_profile_takes_its_intent_along() {
    let env = home(&["coder", "viewer"]);
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder"]);
    let ran = env.run(&["rename", "coder", "builder"]);
    assert_eq!(ran.code, 100, "before it is renamed on the volume: {ran:?}");
    for (old, new, state) in [("coder", "builder", "ready"), ("viewer", "watcher", "down")] {
        fs::rename(env.home_of(old), env.home_of(new)).unwrap();
        let ran = env.run(&["rename", old, new]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(
            (env.state(old), env.state(new)),
            ("missing".into(), state.into())
        );
        assert!(!env.slot(old).exists());
    }
    wants(&env, "builder", "running");
}

#[test]
fn from_inside_a_gateway_nothing_is_stopped() {
    let env = home(&["coder"]);
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder"]);
    let before = (env.pid("coder"), state_file(&env, "coder"));
    let inside = |words: &[&str]| {
        let mut command = env.command(programs().join("hermes-s6"));
        command.args(words).env("_HERMES_GATEWAY", "1");
        Ran::from(command.output().unwrap())
    };
    for words in [
        &["stop", "-p", "coder"][..],
        &["stop", "--all"],
        &["restart", "-p", "coder"],
        &["unregister"],
        &["shutdown"],
        &["dispatch", "restart", "-p", "coder"],
    ] {
        let ran = inside(words);
        assert_eq!(ran.code, 1, "{words:?} {ran:?}");
        assert!(
            ran.stderr.contains("from inside the gateway process"),
            "{ran:?}"
        );
    }
    assert_eq!((env.pid("coder"), state_file(&env, "coder")), before);
    done(&inside(&["start", "-p", "coder"]), "is ready already");
    // Of another profile an agent may remove the slot, as it may remove the profile.
    let ran = inside(&["unregister", "-p", "coder"]);
    done(&ran, "gateway-coder is unregistered");
}

#[test]
fn dispatch_does_what_s6_does_and_hands_over_the_rest() {
    let env = home(&["coder"]);
    let says = ["--", "sh", "-c", "echo handed over; exit 7"];
    let dispatch = |words: &[&str], prog: &[&str]| env.run(&[&["dispatch"], words, prog].concat());
    let untouched = crate::support::fingerprint(&env.home);
    for words in [
        &["start"][..],
        &["stop", "--all"],
        &["restart", "-p", "coder"],
    ] {
        let ran = dispatch(words, &says);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (7, "handed over\n"),
            "{ran:?}"
        );
        let ran = dispatch(words, &[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
        assert!(ran.stderr.contains("nothing is done: "), "{ran:?}");
    }
    assert_eq!(crate::support::fingerprint(&env.home), untouched);
    let _tree = supervised(&env);
    done(
        &dispatch(&["start"], &says),
        "gateway-default is ready (pid",
    );
    done(
        &dispatch(&["start", "-p", "coder"], &says),
        "gateway-coder is ready (pid",
    );
    settled(&env, "coder");
    let pid = env.pid("coder");
    done(
        &dispatch(&["restart", "-p", "coder"], &says),
        "gateway-coder is ready (pid",
    );
    assert_ne!(env.pid("coder"), pid);
    done(
        &dispatch(&["stop", "-p", "coder"], &says),
        "gateway-coder is down (",
    );
    assert_eq!(env.state("default"), "ready");
    for (action, hint) in [
        ("install", "hermes profile create"),
        ("uninstall", "hermes profile delete"),
    ] {
        let ran = dispatch(&[action], &says);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.stdout.contains(hint), "{ran:?}");
    }
    let ran = dispatch(&["setup"], &says);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (7, "handed over\n"),
        "{ran:?}"
    );
    assert_eq!(dispatch(&["start", "-p", "nobody"], &says).code, 100);
    env.behaviour("coder", "exit 78\n");
    assert_eq!(dispatch(&["start", "-p", "coder"], &says).code, 1);
}

#[test]
fn where_nothing_is_supervised_every_command_says_so_and_changes_nothing() {
    let env = home(&["coder"]);
    let tree = supervised(&env);
    tree.stop();
    for words in [
        &["start", "-p", "coder"][..],
        &["stop", "--all"],
        &["restart"],
        &["register", "-p", "coder"],
        &["unregister", "-p", "coder"],
        &["shutdown"],
    ] {
        let ran = env.run(words);
        assert_eq!(ran.code, 102, "{words:?} {ran:?}");
        assert!(ran.stderr.contains("hermes-s6 supervise"), "{ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    }
    assert_eq!(state_file(&env, "coder"), "");
    assert!(env.slot("coder").exists());
}

#[test]
fn a_restart_of_all_leaves_down_what_its_operator_stopped() {
    let env = home(&["coder", "viewer"]);
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder", "-p", "viewer"]);
    env.run(&["stop", "-p", "viewer"]);
    settled(&env, "coder");
    let ran = env.run(&["restart", "--all"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    assert_eq!(
        (env.state("coder"), env.state("viewer")),
        ("ready".into(), "down".into())
    );
    wants(&env, "viewer", "stopped");
}

#[test]
fn a_start_unless_stopped_leaves_down_what_its_operator_stopped() {
    let env = home(&["coder", "writer"]);
    let _tree = supervised(&env);
    done(&env.run(&["stop", "-p", "coder"]), "is down");
    let ran = env.run(&["start", "-p", "coder", "-p", "writer", "--unless-stopped"]);
    done(&ran, "gateway-writer is ready");
    assert!(
        ran.stderr
            .contains("gateway-coder stays down here (it was stopped; start it with"),
        "{}",
        ran.stderr
    );
    assert_eq!(env.state("coder"), "down");
    wants(&env, "coder", "stopped");
}

#[test]
fn a_shutdown_stops_everything_within_its_budget_and_keeps_every_intent() {
    let env = home(&["slow", "stubborn"]);
    env.profile("legacy", r#"{"gateway_state":"running"}"#)
        .behaviour("slow", "save 1\n")
        .behaviour("stubborn", "ignore-term 1\n");
    let tree = supervised(&env);
    env.run(&["start", "-p", "slow", "-p", "stubborn"]);
    env.await_state("legacy", "ready");
    let ran = env.run(&["shutdown", "--timeout", "2"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 3, "{ran:?}");
    assert!(
        ran.stdout.contains("gateway-stubborn is down (killed"),
        "{ran:?}"
    );
    assert_eq!(env.count("slow", "saved"), 1);
    // Not a stop of its operator's: it would come back as stopped.
    assert_eq!(env.count("legacy", "planned"), 0);
    wants(&env, "slow", "running");
    assert_eq!(tree.stop(), 0);
    env.behaviour("stubborn", "");
    let _tree = supervised(&env);
    for profile in ["legacy", "slow", "stubborn"] {
        env.await_state(profile, "ready");
    }
}

#[test]
fn root_leaves_everything_to_the_owner_of_the_tree() {
    if !is_root() {
        return crate::support::skip("needs root");
    }
    let mut env = home(&["coder"]);
    env.set("HERMES_S6_USER", "nobody");
    let _tree = supervised(&env);
    let program = programs().join("hermes-s6");
    for words in [
        &["start", "-p", "coder"][..],
        &["restart", "-p", "coder"],
        &["stop", "-p", "coder"],
        &["unregister", "-p", "coder"],
        &["register", "-p", "coder"],
        &["start", "--all"],
    ] {
        let ran = Ran::from(env.root_command(&program).args(words).output().unwrap());
        assert_eq!(ran.code, 0, "{words:?} {ran:?}");
    }
    for directory in [&env.home, &env.scandir] {
        for entry in walkdir::WalkDir::new(directory) {
            let entry = entry.unwrap();
            let owner = entry.metadata().unwrap().uid();
            assert_eq!(owner, env.owner, "{}", entry.path().display());
        }
    }
}

fn no_process_had_two_signals(env: &TestEnv, profile: &str, why: &str) {
    let mut signals = 0;
    for event in env.events(profile) {
        match event.split(' ').next() {
            Some("start") => signals = 0,
            Some("TERM") => signals += 1,
            _ => {}
        }
        assert!(signals <= 1, "{profile}: {:?} {why}", env.events(profile));
    }
}

#[test]
fn fifty_commands_at_once_leave_every_profile_as_the_last_one_wanted_it() {
    let names: Vec<String> = (0..10).map(|number| format!("p{number}")).collect();
    let words: Vec<&str> = names.iter().map(String::as_str).collect();
    let env = home(&words);
    for profile in &words {
        env.behaviour(profile, "save 0.3\n");
    }
    let _tree = supervised(&env);
    env.run(&["start", "-p", "p0", "-p", "p1", "-p", "p2", "-p", "p3"]);
    let actions = [
        "start",
        "stop",
        "restart",
        "register",
        "unregister",
        "reconcile",
    ];
    let mut seed = std::process::id() as usize;
    let mut random = |below: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let commands: Vec<Vec<&str>> = (0..50)
        .map(|_| match actions[random(actions.len())] {
            "reconcile" => vec!["reconcile"],
            action => vec![action, "-p", words[random(words.len())]],
        })
        .collect();
    let running: Vec<Child> = commands
        .iter()
        .map(|words| background(&env, words))
        .collect();
    let mut said: Vec<String> = Vec::new();
    for (words, child) in commands.iter().zip(running) {
        let ran = finished(child);
        said.push(format!("{words:?} {ran:?}"));
        // Overruled by another, or too late for its slot: said as a no, never anything worse.
        assert!(ran.code == 0 || ran.code == 1, "{words:?} {ran:?}");
        assert!(!ran.stderr.contains("defect"), "{ran:?}");
    }
    // The order in which they were served is nobody's: what counts is that what runs and what is wanted
    // say the same, once, for every profile. Only a slot that went or came may be down all the same.
    for profile in &words {
        let wanted = state_file(&env, profile).contains("\"desired_state\":\"running\"");
        let state = env.state(profile);
        let is_up = ["ready", "starting"].contains(&state.as_str());
        let came_or_went = commands
            .iter()
            .any(|words| words[0].ends_with("register") && words.last() == Some(profile));
        assert!(
            is_up == wanted || (came_or_went && !is_up),
            "{profile} is {state}: {commands:?}\n{}",
            state_file(&env, profile)
        );
    }
    assert!(env.run(&["reconcile"]).code == 0);
    for profile in &words {
        wait_for(
            &format!("{profile} to be as wanted"),
            || {
                let wanted = state_file(&env, profile).contains("\"desired_state\":\"running\"");
                env.state(profile) == if wanted { "ready" } else { "down" }
            },
            || {
                format!(
                    "{commands:?}\n{}\n{}",
                    state_file(&env, profile),
                    env.run(&["status"]).stdout
                )
            },
        );
        // Those that are about all profiles, too.
        let name = format!("\"{profile}\"]");
        let mine = said
            .iter()
            .filter(|said| said.contains(&name) || said.contains("reconcile"));
        no_process_had_two_signals(&env, profile, &format!("{:#?}", mine.collect::<Vec<_>>()));
        let up = usize::from(env.state(profile) == "ready");
        assert_eq!(env.slot(profile).join("down").exists(), up == 0);
        assert_eq!(env.gateways(profile).len(), up, "{profile}");
        let slot = env.slot(profile);
        let supervisors = env
            .processes_named("s6-supervise")
            .into_iter()
            .filter(|process| {
                fs::read_link(format!("/proc/{}/cwd", process.pid)).is_ok_and(|cwd| cwd == slot)
            });
        assert_eq!(supervisors.count(), 1, "{profile}");
    }
    for place in [&env.home, &env.scandir] {
        for entry in walkdir::WalkDir::new(place) {
            let path = entry.unwrap().into_path();
            let name = path.file_name().unwrap().to_string_lossy();
            let left = path
                .extension()
                .is_some_and(|extension| extension == "tmp" || extension == "new")
                || name.starts_with(".hermes-s6-new-")
                || name.starts_with(".hermes-s6-old-");
            assert!(!left, "{}", path.display());
        }
    }
    assert!(!env.out().contains("unable to lock"), "{}", env.out());
}

#[test]
fn what_a_killed_supervisor_has_left_of_a_gateway_is_seen_and_stopped() {
    let env = home(&["coder"]);
    env.behaviour("coder", "save 1\n");
    let _tree = supervised(&env);
    env.run(&["start", "-p", "coder"]);
    // Down at the next start of a supervisor, as after a stop that was killed half way.
    env.write(&env.slot("coder").join("down"), "");
    let gateway = env.gateways("coder")[0].clone();
    let supervisor = crate::support::processes()
        .into_iter()
        .find(|process| process.pid == gateway.parent);
    supervisor.unwrap().kill("KILL");
    env.await_state("coder", "down");
    std::thread::sleep(Duration::from_millis(1100));
    let status = env.run(&["status"]).stdout;
    let said = format!("has lost its supervisor still runs, pid {}", gateway.pid);
    assert!(status.contains(&said), "{status}");
    done(&env.run(&["stop", "-p", "coder"]), "gateway-coder is down");
    assert!(env.gateways("coder").is_empty());
    assert_eq!(counts(&env, ["TERM", "saved"]), [1, 1]);
}

/// Goes through the commands with one gateway, and checks each against what s6 then has.
fn go_through(env: &TestEnv, profile: &str) {
    let limit = |arguments: &[&str], seconds: u64| {
        let start = std::time::Instant::now();
        let ran = env.run(&[arguments, &["-p", profile]].concat());
        let took = start.elapsed();
        // Its own bound, and what a busy machine takes besides.
        let bound = Duration::from_secs(seconds + 10);
        assert!(took < bound, "{arguments:?} took {took:?}: {ran:?}");
        let said = |text: &str| {
            let outcome = |line: &&str| line.starts_with(['\u{2713}', '\u{2717}']);
            text.lines().filter(outcome).count()
        };
        assert_eq!(said(&ran.stdout) + said(&ran.stderr), 1, "{ran:?}");
        let state = env.state(profile);
        let text = ran.stdout.clone() + &ran.stderr;
        let is_true = match ran.code {
            0 if arguments[0] == "stop" => state == "down" && text.contains("is down"),
            0 => state == "ready" && text.contains("is ready"),
            1 => state == "parked" && text.contains("is parked: "),
            // It may have by now.
            99 if text.contains("has not ended") => arguments[0] != "start",
            99 => {
                // And a crash loop goes on.
                text.contains("it is starting") && ["starting", "up", "parked"].contains(&&*state)
            }
            _ => false,
        };
        assert!(is_true, "{profile} is {state} after {arguments:?}: {ran:?}");
    };
    limit(&["start", "--timeout", "2"], 2);
    limit(&["restart", "--timeout", "2"], 2);
    limit(&["start", "--timeout", "6"], 6);
    limit(&["stop"], 12);
    limit(&["restart", "--timeout", "2"], 2);
    limit(&["stop"], 12);
    assert!(env.gateways(profile).is_empty());
    let removed = env.run(&["unregister", "-p", profile]);
    assert_eq!(removed.code, 0, "{removed:?}");
    assert!(!env.slot(profile).exists());
    no_process_had_two_signals(env, profile, "");
}

#[test]
fn every_command_ends_within_its_bound_with_the_truth_whatever_the_gateway_does() {
    let cases = [
        ("good", ""),
        ("exits0", "exit 0\n"),
        ("exits1", "exit 1\n"),
        ("exits75", "exit 75\n"),
        ("exits78", "exit 78\n"),
        ("ignores", "ignore-term 1\n"),
        ("saves", "save 2\n"),
        ("crashes", "crash SEGV\n"),
        ("never", "never-ready 1\n"),
        ("clean", "term 0\n"),
    ];
    let env = home(&cases.map(|(profile, _)| profile));
    for (profile, behaviour) in cases {
        env.behaviour(profile, behaviour);
    }
    let _tree = supervised(&env);
    let env = &env;
    std::thread::scope(|scope| {
        for (profile, _) in cases {
            scope.spawn(move || go_through(env, profile));
        }
    });
}
