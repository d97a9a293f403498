//! Start, stop, restart, and the coming and going of slots, on real s6 with a stand-in for the gateway.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use crate::random::Random;
use crate::support::{
    Background, PATIENCE, PATIENCE_SECONDS, Ran, Run, TestEnv, all_is_of, begins, chmod,
    fingerprint, is_root, mode, names, skip,
};

/// How long a gateway has to end where it is to be killed, in seconds: longer than what happens before.
const BUDGET: &str = "8";

fn home(profiles: &[&str]) -> TestEnv {
    let env = TestEnv::new();
    for profile in profiles {
        env.profile(profile, "");
    }
    env
}

fn wants(env: &TestEnv, profile: &str, wanted: &str) {
    let text = env.state_file(profile);
    assert!(
        text.contains(&format!("\"desired_state\":\"{wanted}\"")),
        "{profile} wants {wanted}: {text}"
    );
}

/// Checks that a command did its work, and said so in one line that matches.
#[track_caller]
fn done(ran: &Ran, said: &str) {
    assert_eq!(ran.code, 0, "{ran:?}");
    one_line(&ran.stdout, "\u{2713} ", said);
}

/// Checks that a command did not, with this code, and said why in one line that matches.
#[track_caller]
fn not_done(ran: &Ran, code: i32, said: &str) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert_eq!(ran.stdout, "", "{ran:?}");
    let lines = ran.stderr.lines();
    let lines: Vec<&str> = lines.filter(|line| !line.contains(WAITS)).collect();
    one_line(&lines.join("\n"), "\u{2717} ", said);
}

#[track_caller]
fn one_line(text: &str, mark: &str, said: &str) {
    let line = text.trim_end();
    assert!(
        line.starts_with(mark) && !line.contains('\n') && line.contains(said),
        "expected '{mark}… {said} …': {text:?}"
    );
}

/// Runs a command, which does its work.
#[track_caller]
fn does(env: &TestEnv, line: &str, said: &str) {
    done(&env.run(line), said);
}

/// What a command says when it has waited for a second.
const WAITS: &str = ": info: waiting for ";

/// Starts a command that has to wait, and waits until it does.
#[track_caller]
fn waits<'a>(env: &'a TestEnv, line: &str) -> Background<'a> {
    let command = env.background(line);
    command.await_note(WAITS);
    command
}

/// Starts a command, and waits until the gateway of `coder` has its signal.
#[track_caller]
fn signals<'a>(env: &'a TestEnv, line: &str) -> Background<'a> {
    let before = env.count("coder", "TERM");
    let command = env.background(line);
    env.await_event("coder", "TERM", before + 1);
    command
}

/// Waits until the `down` file of a gateway begins so: a command has said what it wants.
#[track_caller]
fn await_down_file(env: &TestEnv, profile: &str, text: &str) {
    let down = env.slot(profile).join("down");
    let begins = || fs::read_to_string(&down).is_ok_and(|content| content.starts_with(text));
    env.wait_for(&format!("a down file that begins '{text}'"), begins);
}

/// Counts events of the gateway of `coder`.
fn counts<const N: usize>(env: &TestEnv, events: [&str; N]) -> [usize; N] {
    events.map(|event| env.count("coder", event))
}

#[test]
fn start_stop_and_restart_wait_and_say_what_came_of_it() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    let started = env.run("start -p coder");
    let pid = env.pid("coder");
    done(&started, &format!("gateway-coder is ready (pid {pid}, "));
    assert_eq!(env.state("coder"), "ready");
    wants(&env, "coder", "running");
    assert!(!env.slot("coder").join("down").exists());
    let already = format!("gateway-coder is ready already (pid {pid})");
    does(&env, "start -p coder", &already);
    let restarted = env.run("restart -p coder");
    let new = env.pid("coder");
    assert_ne!(new, pid);
    done(&restarted, &format!("gateway-coder is ready (pid {new}, "));
    does(&env, "stop -p coder", "gateway-coder is down (");
    assert_eq!(env.state("coder"), "down");
    assert!(env.gateways("coder").is_empty());
    wants(&env, "coder", "stopped");
    assert!(env.slot("coder").join("down").exists());
    does(&env, "stop -p coder", "gateway-coder is down already");
    let events = env.events("coder");
    let words: Vec<&str> = events
        .iter()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let expected = "start TERM saved start TERM saved planned";
    assert_eq!(words.join(" "), expected);
}

#[test]
fn what_was_started_or_stopped_is_so_again_after_the_tree_was_killed() {
    let env = home(&["coder", "viewer"]);
    let tree = env.supervise();
    env.run("start --all").ends(0);
    env.run("stop -p viewer").ends(0);
    env.kill_all();
    tree.wait();
    let _tree = env.supervise();
    env.await_ready(&["coder", "default"]);
    assert_eq!(env.state("viewer"), "down");
}

#[test]
fn a_stop_is_announced_to_the_gateway_before_its_signal() {
    let mut env = home(&["coder"]);
    env.set("HERMES_S6_STOP_TIMEOUT", BUDGET);
    let _tree = env.supervise();
    // One that does not read the announcement leaves it there to look at.
    env.behaviour("coder", "ignore-term 1\n");
    env.run("start -p coder");
    let pid = env.pid("coder");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start = stat.rsplit(')').next().unwrap().split_whitespace().nth(19);
    let stopping = signals(&env, "stop -p coder");
    let place = env.home_of("coder").join(".gateway-planned-stop.json");
    let marker = fs::read_to_string(&place).unwrap();
    let expected = format!(
        "{{\"target_pid\":{pid},\"target_start_time\":{},\"stopper_pid\":{},\"written_at\":\"20",
        start.unwrap(),
        stopping.pid()
    );
    assert!(marker.starts_with(&expected), "{marker}");
    assert!(marker.ends_with("+00:00\"}"), "{marker}");
    done(&stopping.end(), "gateway-coder is down (killed");
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
        .hold("quiet", "ready");
    let _tree = env.supervise();
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
        let said = format!("gateway-{profile} is {said}, see hermes-s6 logs -p {profile}");
        not_done(&env.run(&words), code, &said);
        wants(&env, profile, "running");
    }
    // Together: each has its line, and no failure is lost among the others.
    env.behaviour("again", "").let_go("quiet", "ready");
    let all = env.run("start --all").ends(1);
    assert_eq!(all.stdout.lines().count(), 3, "{all:?}");
    let no = |line: &&str| line.starts_with('\u{2717}');
    assert_eq!(all.stderr.lines().filter(no).count(), 4, "{all:?}");
}

#[test]
fn a_start_forgives_what_parked_the_gateway() {
    let env = home(&["coder"]);
    env.behaviour("coder", "exit 1\n");
    let _tree = env.supervise();
    not_done(&env.run("start -p coder"), 1, "crash loop");
    env.behaviour("coder", "");
    does(&env, "start -p coder", "is ready");
    // With the five deaths still counted, this one would park it again.
    env.gateways("coder")[0].kill("SEGV");
    env.await_event("coder", "start", 7);
    env.await_state("coder", "ready");
}

#[test]
fn a_restart_starts_what_is_down_or_parked() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    does(&env, "restart -p coder", "is ready (pid");
    env.run("stop -p coder").ends(0);
    does(&env, "restart -p coder", "is ready (pid");
    wants(&env, "coder", "running");
    env.run("stop -p coder").ends(0);
    env.behaviour("coder", "exit 78\n");
    not_done(&env.run("restart -p coder"), 1, "is parked");
    env.behaviour("coder", "");
    does(&env, "restart -p coder", "is ready (pid");
}

#[test]
fn a_restart_ends_with_a_new_process_whatever_the_old_one_exits_with() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    env.run("start -p coder");
    for code in ["0", "1", "69", "75", "78"] {
        env.behaviour("coder", &format!("term {code}\n"));
        let before = env.pid("coder");
        does(&env, "restart -p coder", "is ready (pid");
        assert_ne!(env.pid("coder"), before, "term {code}");
    }
    assert_eq!(env.count("coder", "TERM"), 5);
}

#[test]
fn what_ignores_sigterm_is_killed_when_its_time_is_over() {
    let mut env = home(&["coder"]);
    env.set("HERMES_S6_STOP_TIMEOUT", BUDGET);
    env.behaviour("coder", "ignore-term 1\n");
    let _tree = env.supervise();
    env.run("start -p coder");
    let before = env.pid("coder");
    let ran = env.run("restart -p coder --timeout 1");
    not_done(&ran, 99, &format!("has not ended after 1 s (pid {before})"));
    let killed = "its old process was killed, it had not ended)";
    does(&env, "restart -p coder", killed);
    assert_ne!(env.pid("coder"), before);
    // Not its time but the caller's is over: that is said, and the stop goes on.
    let ran = env.run("stop -p coder --timeout 1");
    not_done(&ran, 99, "has not ended after 1 s (pid");
    does(&env, "stop -p coder", "is down, by SIGKILL (");
    assert_eq!(env.count("coder", "TERM"), 2, "one for each process");
    wants(&env, "coder", "stopped");
}

#[test]
fn a_gateway_that_saves_has_its_time() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    env.run("start -p coder");
    for (line, said) in [
        ("restart -p coder", "is ready (pid"),
        ("stop -p coder", "is down ("),
    ] {
        env.hold("coder", "save");
        let command = waits(&env, line);
        env.let_go("coder", "save");
        done(&command.end(), said);
    }
    assert_eq!(counts(&env, ["TERM", "saved"]), [2, 2]);
}

#[test]
fn two_restarts_at_once_are_one() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    env.run("start -p coder");
    env.hold("coder", "save").hold("coder", "ready");
    let restart = || waits(&env, "restart -p coder");
    let (first, second) = (restart(), restart());
    env.let_go("coder", "save");
    env.await_event("coder", "start", 2);
    // One more, while the new one gets ready.
    let third = restart();
    env.let_go("coder", "ready");
    for restart in [first, second, third] {
        done(&restart.end(), "is ready (pid");
    }
    assert_eq!(counts(&env, ["TERM", "start"]), [1, 2]);
    assert!(!env.slot("coder").join("down").exists());
    // One that comes when it is ready is another one.
    does(&env, "restart -p coder", "is ready (pid");
    assert_eq!(counts(&env, ["TERM", "start"]), [2, 3]);
}

#[test]
fn a_gateway_that_does_not_get_ready_is_restarted_in_the_end() {
    let env = home(&["coder"]);
    env.behaviour("coder", "never-ready 1\n");
    let _tree = env.supervise();
    env.run("start -p coder --no-wait");
    env.await_event("coder", "start", 1);
    env.behaviour("coder", "");
    does(&env, "restart -p coder", "is ready (pid");
    assert_eq!(counts(&env, ["TERM", "start"]), [1, 2]);
}

#[test]
fn a_stop_during_a_restart_is_served_and_sends_no_second_signal() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    env.run("start -p coder");
    env.hold("coder", "save");
    let restart = signals(&env, "restart -p coder");
    let stop = waits(&env, "stop -p coder");
    env.let_go("coder", "save");
    done(&stop.end(), "is down (");
    not_done(&restart.end(), 1, "was stopped by another command");
    assert_eq!(env.state("coder"), "down");
    assert_eq!(counts(&env, ["TERM", "start"]), [1, 1]);
}

#[test]
fn a_stop_at_the_end_of_a_restart_gives_the_new_process_its_signal() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    env.run("start -p coder");
    env.hold("coder", "save");
    let restart = signals(&env, "restart -p coder");
    // The stop needs the scan directory. The slot stays locked until the restart sees the new process.
    let lock = env.scandir.join(".hermes-s6.lock");
    let is_free = || fs::File::open(&lock).is_ok_and(|lock| lock.try_lock().is_ok());
    env.wait_for("the lock of the scan directory", is_free);
    restart.signal("STOP");
    env.let_go("coder", "save");
    env.await_event("coder", "start", 2);
    env.hold("coder", "save");
    let stop = signals(&env, "stop -p coder");
    restart.signal("CONT");
    env.let_go("coder", "save");
    done(&stop.end(), "gateway-coder is down (");
    restart.end();
    assert_eq!(counts(&env, ["TERM", "saved"]), [2, 2]);
    assert_eq!(env.state("coder"), "down");
}

#[test]
fn a_restart_does_not_undo_a_shutdown() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    env.run("start -p coder");
    env.hold("coder", "save");
    let restart = signals(&env, "restart -p coder");
    let shutdown = waits(&env, "shutdown");
    env.let_go("coder", "save");
    done(&shutdown.end(), "gateway-coder is down (");
    not_done(&restart.end(), 1, "was stopped by another command");
    assert_eq!(env.state("coder"), "down");
    assert_eq!(env.count("coder", "start"), 1);
    wants(&env, "coder", "running");
    does(&env, "start -p coder", "is ready");
}

#[test]
fn what_runs_is_stopped_also_when_the_volume_cannot_be_read() {
    let env = home(&["coder", "viewer"]);
    let _tree = env.supervise();
    env.run("start -p coder -p viewer");
    let hidden = env.place.join("hidden");
    fs::rename(&env.home, &hidden).unwrap();
    env.run("stop -p coder")
        .ends(1)
        .says("gateway-coder is down")
        .warns("nothing that is on the volume has been changed");
    let ran = env.run("stop");
    assert_eq!(ran.code, 100, "which one is meant is not known: {ran:?}");
    env.run("shutdown").ends(0).says("gateway-viewer is down");
    assert!(env.gateways("coder").is_empty() && env.gateways("viewer").is_empty());
    fs::rename(&hidden, &env.home).unwrap();
    wants(&env, "coder", "running");
}

#[test]
fn what_survives_its_s6_svscan_can_be_stopped() {
    let env = home(&["coder"]);
    let tree = env.supervise();
    env.run("start -p coder");
    tree.kill();
    env.run("start -p coder").ends(102);
    does(&env, "stop -p coder", "gateway-coder is down (");
    assert_eq!(env.count("coder", "saved"), 1);
}

#[test]
fn a_slot_that_was_removed_by_hand_is_replaced_and_its_gateway_too() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    env.run("start -p coder");
    fs::remove_dir_all(env.slot("coder")).unwrap();
    let orphan = "one without a supervisor still runs: kill ";
    env.run("stop -p coder").ends(1).warns(orphan);
    does(&env, "start -p coder", "is ready (pid");
    assert_eq!(env.gateways("coder").len(), 1);
    does(&env, "stop -p coder", "is down (");
}

#[test]
fn a_start_during_a_stop_is_served_when_the_old_process_has_ended() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    env.run("start -p coder");
    // The stop looks once more at what it has written while the start does its work.
    for _ in 0..4 {
        env.hold("coder", "save");
        let stop = signals(&env, "stop -p coder");
        let start = env.background("start -p coder");
        await_down_file(&env, "coder", "To be started");
        env.let_go("coder", "save");
        done(&start.end(), "is ready (pid");
        let stopped = stop.end();
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
    let _tree = env.supervise();
    env.run("start -p coder");
    env.hold("coder", "save");
    let stop = signals(&env, "stop -p coder");
    let start = env.background("start -p coder");
    await_down_file(&env, "coder", "To be started");
    drop(start);
    env.let_go("coder", "save");
    stop.end().ends(0);
    assert_eq!(env.state("coder"), "down");
    env.run("status").ends(1);
    env.run("reconcile").ends(0);
    env.await_state("coder", "ready");
}

#[test]
fn who_does_not_wait_is_told_so() {
    let env = home(&["coder"]);
    env.hold("coder", "ready").hold("coder", "save");
    let _tree = env.supervise();
    let starting = "gateway-coder is starting";
    does(&env, "start -p coder --no-wait", starting);
    env.let_go("coder", "ready");
    env.await_state("coder", "ready");
    let stopping = "gateway-coder is stopping";
    does(&env, "stop -p coder --no-wait", stopping);
    env.let_go("coder", "save");
    env.await_state("coder", "down");
    wants(&env, "coder", "stopped");
}

#[test]
fn the_outcome_can_be_had_as_json() {
    let env = home(&["coder", "viewer"]);
    env.behaviour("viewer", "exit 78\n");
    let _tree = env.supervise();
    let ran = env.run("start -p viewer -p coder --json").ends(1);
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
    chmod(&place, 0o640);
    let owner = fs::metadata(&place).unwrap().uid();
    let _tree = env.supervise();
    env.run("stop -p coder").ends(0);
    let written = env.state_file("coder");
    let kept = r#"{"x":{"b": 1.10,"a":[]},"gateway_state":"stopped","served_profiles":["é"],"desired_state":"stopped","updated_at":"#;
    assert!(written.starts_with(kept), "{written}");
    assert_eq!(mode(&place), 0o640);
    assert_eq!(fs::metadata(&place).unwrap().uid(), owner);
    let mut left = names(&env.home_of("coder"));
    left.retain(|name| name.contains(".hermes-s6-"));
    assert_eq!(left, [""; 0]);
}

#[test]
fn an_intent_that_the_gateway_has_overwritten_is_written_again() {
    let env = home(&["coder"]);
    env.behaviour("coder", "forget 1\n");
    let _tree = env.supervise();
    env.run("start -p coder").ends(0);
    wants(&env, "coder", "running");
}

#[test]
fn a_damaged_state_file_is_put_aside() {
    let env = home(&[]);
    env.profile("coder", "[\"running\"]");
    let _tree = env.supervise();
    does(&env, "start -p coder", "is ready");
    wants(&env, "coder", "running");
    let aside = env.home_of("coder").join("gateway_state.json.damaged");
    assert_eq!(fs::read_to_string(aside).unwrap(), "[\"running\"]");
}

#[test]
fn an_intent_that_cannot_be_written_is_said_and_written_as_soon_as_it_can() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    env.run("start -p coder");
    let place = env.home_of("coder").join("gateway_state.json");
    let before = fs::read_to_string("/etc/passwd").unwrap();
    let link = || {
        fs::remove_file(&place).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &place).unwrap();
    };
    // The gateway puts a file of its own there when it ends.
    link();
    does(&env, "stop -p coder", "gateway-coder is down");
    wants(&env, "coder", "stopped");
    link();
    env.run("stop -p coder")
        .ends(1)
        .says("gateway-coder is down")
        .warns("is a symbolic link");
    assert_eq!(fs::read_to_string("/etc/passwd").unwrap(), before);
}

#[test]
fn a_start_registers_a_profile_that_has_no_slot() {
    let env = home(&[]);
    let _tree = env.supervise();
    env.profile("late", "");
    does(&env, "start -p late", "gateway-late is ready (pid");
    env.profile("later", "");
    does(&env, "restart -p later", "gateway-later is ready (pid");
    env.run("start -p nobody")
        .ends(100)
        .warns("profile nobody does not exist");
}

#[test]
fn a_start_beside_a_gateway_that_serves_all_profiles_is_warned_of() {
    let env = home(&["coder"]);
    env.write(&env.home.join("config.yaml"), "multiplex_profiles: true\n");
    let _tree = env.supervise();
    env.run("start -p coder")
        .ends(0)
        .warns("multiplex_profiles");
    env.run("stop -p coder");
    let ran = env.run("start --all");
    begins(&ran.stdout, "\u{2713} gateway-default");
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    ran.warns("gateway-coder stays down here (multiplex)");
}

#[test]
fn a_new_slot_is_down_and_supervised_and_registering_twice_is_once() {
    let env = home(&[]);
    let _tree = env.supervise();
    // Whatever it wants: registering is not starting.
    env.running("coder");
    does(
        &env,
        "register -p coder",
        "gateway-coder is registered, and down",
    );
    env.command("s6-svok").arg(env.slot("coder")).ran().ends(0);
    assert_eq!(env.count("coder", "start"), 0);
    does(
        &env,
        "register -p coder",
        "gateway-coder is registered already",
    );
    does(&env, "start -p coder", "is ready");
    does(
        &env,
        "register -p coder",
        "gateway-coder is registered already",
    );
    assert_eq!(env.state("coder"), "ready");
}

#[test]
fn what_was_unregistered_has_left_nothing_behind() {
    let env = home(&["coder"]);
    let tree = env.supervise();
    let descriptors = || {
        fs::read_dir(format!("/proc/{}/fd", tree.pid()))
            .unwrap()
            .count()
    };
    let mut first = None;
    for round in 1..=6 {
        env.run("start -p coder").ends(0);
        does(&env, "unregister -p coder", "gateway-coder is unregistered");
        let mut left = names(&env.scandir);
        left.retain(|name| name.contains("coder"));
        assert_eq!(left, [".hermes-s6-gone-coder"], "only when that was");
        assert!(env.gateways("coder").is_empty());
        // Those of the default profile, of its logger and of the tender are left.
        let supervisors = || env.processes_named("s6-supervise");
        assert_eq!(supervisors().len(), 3, "{:#?}", supervisors());
        // s6-svscan itself lets go of a slot in its own time.
        let expected = *first.get_or_insert_with(descriptors);
        let what = format!("the {expected} descriptors of the first round in round {round}");
        env.wait_for(&what, || descriptors() <= expected);
    }
    assert_eq!(
        env.count("coder", "planned"),
        6,
        "each was told that it is on purpose"
    );
    does(
        &env,
        "unregister -p coder",
        "gateway-coder is not registered",
    );
}

#[test]
fn what_is_left_of_a_profile_that_is_gone_can_be_stopped_and_removed() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    for (command, said) in [("stop", "is down ("), ("unregister", "is unregistered")] {
        env.running("coder").run("start -p coder");
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
    let _tree = env.supervise();
    env.run("start --all");
    let before = env.pid("default");
    fs::remove_dir_all(env.home_of("viewer")).unwrap();
    fs::rename(env.home_of("coder"), env.home_of("builder")).unwrap();
    env.profile("made", "");
    let ran = env.run("start");
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
    let expected = "default ready\nbuilder ready\nmade down\n";
    assert_eq!(env.run("list").stdout, expected);
    assert_eq!(env.pid("default"), before);
    let again = env.run("start");
    assert_eq!(again.stderr, "", "there is nothing left to do");
    // Hermes does so before it removes the profile itself.
    env.run("unregister -p made");
    env.run("restart");
    assert_eq!(env.state("made"), "unregistered");
}

#[test]
fn what_is_being_unregistered_is_not_taken_for_new() {
    let env = home(&["coder", "viewer"]);
    // Its logger is waited for, in the middle of the removal.
    env.behaviour("coder", "leave 3000\n");
    let _tree = env.supervise();
    env.run("start -p coder").ends(0);
    let unregister = waits(&env, "unregister -p coder");
    env.wait_for("the slot to go", || !env.slot("coder").exists());
    let mark = ".hermes-s6-gone-coder".to_owned();
    assert!(names(&env.scandir).contains(&mark), "by what others see it");
    env.run("start -p viewer").ends(0);
    unregister.end().ends(0);
    assert_eq!(env.state("coder"), "unregistered");
}

#[test]
fn what_was_unregistered_stays_so_while_its_home_or_the_volume_cannot_be_seen() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    env.run("unregister -p coder").ends(0);
    chmod(env.home_of("coder"), 0);
    env.run("start -p default").ends(0);
    chmod(env.home_of("coder"), 0o755);
    let (profiles, away) = (env.home.join("profiles"), env.home.join("away"));
    fs::rename(&profiles, &away).unwrap();
    env.run("restart -p default").ends(0);
    fs::rename(&away, &profiles).unwrap();
    env.run("start -p default").ends(0);
    assert_eq!(env.state("coder"), "unregistered");
    fs::remove_dir_all(env.home_of("coder")).unwrap();
    env.run("start -p default").ends(0);
    env.profile("coder", "");
    let ran = env.run("start -p default").ends(0);
    ran.warns("gateway-coder is registered, and down");
}

#[test]
fn a_profile_that_was_renamed_while_it_ran_is_known_by_its_new_name_at_once() {
    let env = home(&["coder", "viewer"]);
    let _tree = env.supervise();
    for (round, command) in ["start", "restart", "stop"].into_iter().enumerate() {
        let (old, new) = (format!("name{round}"), format!("name{}", round + 1));
        if round == 0 {
            fs::rename(env.home_of("coder"), env.home_of(&old)).unwrap();
            env.run(&["start", "-p", &old]);
        }
        let before = env.pid(&old);
        fs::rename(env.home_of(&old), env.home_of(&new)).unwrap();
        let ran = env.run(&[command, "-p", &new]).ends(0);
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
    let _tree = env.supervise();
    env.run("start --all");
    let pids = || ["default", "coder", "viewer"].map(|profile| env.pid(profile));
    let before = pids();
    // As a copy that is not finished: its source was running.
    env.running("clone");
    let soul = env.home_of("coder").join("SOUL.md");
    fs::rename(&soul, env.place.join("edited")).unwrap();
    let registered = "gateway-clone is registered, and down";
    env.run("start -p viewer").warns(registered);
    assert_eq!((env.state("clone"), pids()), ("down".into(), before));
    fs::rename(env.place.join("edited"), &soul).unwrap();
    // As a volume that is not there yet.
    let profiles = env.home.join("profiles");
    fs::rename(&profiles, env.place.join("away")).unwrap();
    fs::create_dir(&profiles).unwrap();
    env.own();
    env.run("start").ends(0);
    assert_eq!(pids(), before);
    fs::remove_dir(&profiles).unwrap();
    fs::rename(env.place.join("away"), &profiles).unwrap();
    // And never the one that the command is run in.
    fs::rename(env.home_of("coder"), env.place.join("coder")).unwrap();
    let mut command = env.hermes_s6("start -p viewer");
    command.env("_HERMES_GATEWAY", "1");
    command.env("HERMES_HOME", env.home_of("coder"));
    command.ran().ends(0);
    assert_eq!(pids(), before);
    env.run("start -p viewer");
    assert!(!env.slot("coder").exists(), "but by the next one it is");
}

#[test]
fn a_renamed_profile_takes_its_intent_along() {
    let env = home(&["coder", "viewer"]);
    let _tree = env.supervise();
    env.run("start -p coder");
    let ran = env.run("rename coder builder");
    assert_eq!(ran.code, 100, "before it is renamed on the volume: {ran:?}");
    for (old, new, state) in [("coder", "builder", "ready"), ("viewer", "watcher", "down")] {
        fs::rename(env.home_of(old), env.home_of(new)).unwrap();
        env.run(&["rename", old, new]).ends(0);
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
    let _tree = env.supervise();
    env.run("start -p coder");
    let before = (env.pid("coder"), env.state_file("coder"));
    let inside = |line: &str| env.hermes_s6(line).env("_HERMES_GATEWAY", "1").ran();
    for line in [
        "stop -p coder",
        "stop --all",
        "restart -p coder",
        "unregister",
        "shutdown",
        "dispatch restart -p coder",
    ] {
        let ran = inside(line);
        assert_eq!(ran.code, 1, "{line} {ran:?}");
        ran.warns("from inside the gateway process");
    }
    assert_eq!((env.pid("coder"), env.state_file("coder")), before);
    done(&inside("start -p coder"), "is ready already");
    // Of another profile an agent may remove the slot, as it may remove the profile.
    let ran = inside("unregister -p coder");
    done(&ran, "gateway-coder is unregistered");
}

#[test]
fn dispatch_does_what_s6_does_and_hands_over_the_rest() {
    let env = home(&["coder"]);
    let says = ["--", "sh", "-c", "echo handed over; exit 7"];
    let dispatch = |line: &str, prog: &[&str]| {
        let words: Vec<&str> = line.split(' ').collect();
        env.run(&[&["dispatch"], &*words, prog].concat())
    };
    let handed_over = |ran: Ran| {
        let seen = (ran.code, ran.stdout.as_str());
        assert_eq!(seen, (7, "handed over\n"), "{ran:?}");
    };
    let untouched = fingerprint(&env.home);
    for line in ["start", "stop --all", "restart -p coder"] {
        handed_over(dispatch(line, &says));
        let ran = dispatch(line, &[]).ends(1);
        assert_eq!(ran.stdout, "", "{ran:?}");
        ran.warns("nothing is done: ");
    }
    assert_eq!(fingerprint(&env.home), untouched);
    let _tree = env.supervise();
    let does = |line: &str, said: &str| done(&dispatch(line, &says), said);
    does("start", "gateway-default is ready (pid");
    does("start -p coder", "gateway-coder is ready (pid");
    let pid = env.pid("coder");
    does("restart -p coder", "gateway-coder is ready (pid");
    assert_ne!(env.pid("coder"), pid);
    does("stop -p coder", "gateway-coder is down (");
    assert_eq!(env.state("default"), "ready");
    for (action, hint) in [
        ("install", "hermes profile create"),
        ("uninstall", "hermes profile delete"),
    ] {
        dispatch(action, &says).ends(0).says(hint);
    }
    handed_over(dispatch("setup", &says));
    dispatch("start -p nobody", &says).ends(100);
    env.behaviour("coder", "exit 78\n");
    dispatch("start -p coder", &says).ends(1);
}

#[test]
fn where_nothing_is_supervised_every_command_says_so_and_changes_nothing() {
    let env = home(&["coder"]);
    let tree = env.supervise();
    tree.stop();
    for line in [
        "start -p coder",
        "stop --all",
        "restart",
        "register -p coder",
        "unregister -p coder",
        "shutdown",
    ] {
        let ran = env.run(line);
        assert_eq!(ran.code, 102, "{line} {ran:?}");
        ran.warns("hermes-s6 supervise");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    }
    assert_eq!(env.state_file("coder"), "");
    assert!(env.slot("coder").exists());
}

#[test]
fn a_restart_of_all_leaves_down_what_its_operator_stopped() {
    let env = home(&["coder", "viewer"]);
    let _tree = env.supervise();
    env.run("start -p coder -p viewer");
    env.run("stop -p viewer");
    let ran = env.run("restart --all").ends(0);
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
    let _tree = env.supervise();
    does(&env, "stop -p coder", "is down");
    let ran = env.run("start -p coder -p writer --unless-stopped");
    done(&ran, "gateway-writer is ready");
    ran.warns("gateway-coder stays down here (it was stopped; start it with");
    assert_eq!(env.state("coder"), "down");
    wants(&env, "coder", "stopped");
}

#[test]
fn a_shutdown_stops_everything_within_its_budget_and_keeps_every_intent() {
    let env = home(&["slow", "stubborn"]);
    env.profile("legacy", r#"{"gateway_state":"running"}"#)
        .behaviour("stubborn", "ignore-term 1\n");
    let all = ["legacy", "slow", "stubborn"];
    let tree = env.supervise();
    env.run("start -p slow -p stubborn").ends(0);
    env.await_state("legacy", "ready");
    let ran = env.run("shutdown --timeout 1").ends(0);
    assert_eq!(ran.stdout.lines().count(), 3, "{ran:?}");
    ran.says("gateway-stubborn is down (killed");
    assert_eq!(tree.stop(), 0);
    // Those that save have all of it.
    env.behaviour("stubborn", "").hold("slow", "save");
    let tree = env.supervise();
    env.await_ready(&all);
    let before = all.map(|profile| env.count(profile, "saved"));
    let shutdown = waits(&env, &format!("shutdown --timeout {PATIENCE_SECONDS}"));
    env.let_go("slow", "save");
    let ran = shutdown.end().ends(0);
    assert_eq!(ran.stdout.lines().count(), 3, "{ran:?}");
    let saved = all.map(|profile| env.count(profile, "saved"));
    assert_eq!(saved, before.map(|count| count + 1));
    // Not a stop of its operator's: it would come back as stopped.
    assert_eq!(env.count("legacy", "planned"), 0);
    wants(&env, "slow", "running");
    assert_eq!(tree.stop(), 0);
    let _tree = env.supervise();
    env.await_ready(&all);
}

#[test]
fn root_leaves_everything_to_the_owner_of_the_tree() {
    if !is_root() {
        return skip("needs root");
    }
    let mut env = home(&["coder"]);
    env.set("HERMES_S6_USER", "nobody");
    let _tree = env.supervise();
    for line in [
        "start -p coder",
        "restart -p coder",
        "stop -p coder",
        "unregister -p coder",
        "register -p coder",
        "start --all",
    ] {
        env.run_as_root(line).ends(0);
    }
    for directory in [&env.home, &env.scandir] {
        all_is_of(env.owner, directory);
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
    let _tree = env.supervise();
    env.run("start -p p0 -p p1 -p p2 -p p3");
    let actions = [
        "start",
        "stop",
        "restart",
        "register",
        "unregister",
        "reconcile",
    ];
    let mut random = Random::new(std::process::id().into());
    let commands: Vec<Vec<&str>> = (0..50)
        .map(|_| match *random.pick(&actions) {
            "reconcile" => vec!["reconcile"],
            action => vec![action, "-p", *random.pick(&words)],
        })
        .collect();
    let running = commands.iter().map(|words| env.background(words));
    let running: Vec<Background> = running.collect();
    let mut said: Vec<String> = Vec::new();
    for (words, child) in commands.iter().zip(running) {
        let ran = child.end();
        said.push(format!("{words:?} {ran:?}"));
        // Overruled by another, or too late for its slot: said as a no, never anything worse.
        assert!(ran.code == 0 || ran.code == 1, "{words:?} {ran:?}");
        assert!(!ran.stderr.contains("defect"), "{ran:?}");
    }
    let wanted = |profile: &str| {
        let text = env.state_file(profile);
        text.contains("\"desired_state\":\"running\"")
    };
    // The order in which they were served is nobody's: what counts is that what runs and what is wanted
    // say the same, once, for every profile. Only a slot that went or came may be down all the same.
    for profile in &words {
        let wanted = wanted(profile);
        let state = env.state(profile);
        let is_up = ["ready", "starting"].contains(&state.as_str());
        let came_or_went = commands
            .iter()
            .any(|words| words[0].ends_with("register") && words.last() == Some(profile));
        assert!(
            is_up == wanted || (came_or_went && !is_up),
            "{profile} is {state}: {commands:?}\n{}",
            env.state_file(profile)
        );
    }
    env.run("reconcile").ends(0);
    for profile in &words {
        env.wait_for(&format!("{profile} to be as wanted: {commands:?}"), || {
            env.state(profile) == if wanted(profile) { "ready" } else { "down" }
        });
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
    let _tree = env.supervise();
    env.run("start -p coder");
    // Down at the next start of a supervisor, as after a stop that was killed half way.
    env.write(&env.slot("coder").join("down"), "");
    let pid = env.gateways("coder")[0].pid;
    env.supervisor("coder").kill("KILL");
    env.await_state("coder", "down");
    let said = format!("has lost its supervisor still runs, pid {pid}");
    env.wait_for(&said, || env.run("status").stdout.contains(&said));
    does(&env, "stop -p coder", "gateway-coder is down");
    assert!(env.gateways("coder").is_empty());
    assert_eq!(counts(&env, ["TERM", "saved"]), [1, 1]);
}

/// Goes through the commands with one gateway, and checks each against what s6 then has.
fn go_through(env: &TestEnv, profile: &str) {
    let limit = |line: &str, seconds: u64| {
        let start = Instant::now();
        let ran = env.run(&format!("{line} -p {profile}")[..]);
        let took = start.elapsed();
        // Its own bound, and what a busy machine takes besides.
        let bound = Duration::from_secs(seconds) + PATIENCE;
        assert!(took < bound, "{line} took {took:?}: {ran:?}");
        let text = ran.stdout.clone() + &ran.stderr;
        // Of commands that wait for each other, one may not even have begun.
        let busy = "fatal: another hermes-s6 has been changing ";
        let outcome =
            |line: &&str| line.starts_with(['\u{2713}', '\u{2717}']) || line.contains(busy);
        assert_eq!(text.lines().filter(outcome).count(), 1, "{ran:?}");
        let state = env.state(profile);
        let is_true = match ran.code {
            0 if line == "stop" => state == "down" && text.contains("is down"),
            0 => state == "ready" && text.contains("is ready"),
            1 => state == "parked" && text.contains("is parked: "),
            99 if text.contains(busy) => true,
            99 if text.contains("has got ready only after") => state == "ready",
            // It may have by now. Where nothing has run yet, nothing has to end.
            99 if text.contains("has not ended") => line != "start --timeout 2",
            99 => {
                // The same, and a crash loop goes on.
                let later = ["starting", "restarting", "up", "ready", "parked"];
                let now = ["it is starting", "it is restarting"];
                now.iter().any(|now| text.contains(now)) && later.contains(&&*state)
            }
            _ => false,
        };
        assert!(is_true, "{profile} is {state} after {line}: {ran:?}");
    };
    limit("start --timeout 2", 2);
    limit("restart --timeout 2", 2);
    limit("start --timeout 6", 6);
    limit("stop", 12);
    limit("restart --timeout 2", 2);
    limit("stop", 12);
    assert!(env.gateways(profile).is_empty());
    env.run(&["unregister", "-p", profile]).ends(0);
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
    let mut env = home(&cases.map(|(profile, _)| profile));
    env.set("HERMES_S6_STOP_TIMEOUT", "3");
    for (profile, behaviour) in cases {
        env.behaviour(profile, behaviour);
    }
    let _tree = env.supervise();
    let env = &env;
    std::thread::scope(|scope| {
        for (profile, _) in cases {
            scope.spawn(move || go_through(env, profile));
        }
    });
}

#[test]
fn a_timeout_is_for_all_that_a_command_does() {
    let env = home(&["coder"]);
    env.hold("coder", "ready");
    let _tree = env.supervise();
    // Another command has the scan directory for most of the time.
    let held = std::fs::File::open(env.scandir.join(".hermes-s6.lock")).unwrap();
    held.lock().unwrap();
    let start = waits_for_lock(&env, "start -p coder --timeout 30");
    std::thread::sleep(Duration::from_secs(3));
    drop(held);
    start.await_note("waiting for gateway-coder to get ready (at most ");
    let left = start.noted();
    let left = left.rsplit_once("(at most ").unwrap().1;
    let left: u64 = left.split(' ').next().unwrap().parse().unwrap();
    assert!(left <= 27, "{left} s are left of 30");
    env.let_go("coder", "ready");
    done(&start.end(), "gateway-coder is ready");
}

/// Starts a command, and waits until it waits for the scan directory.
fn waits_for_lock<'a>(env: &'a TestEnv, line: &str) -> crate::support::Background<'a> {
    let command = env.background(line);
    command.await_note("waiting for another hermes-s6 to finish");
    command
}
