//! Trees of an ordinary user on real s6, with a stand-in for the gateway.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::support::{
    Background, PATIENCE_SECONDS, Run, TestEnv, all_is_of, begins, chmod, fingerprint, is_root,
    mode, names, skip,
};

const UNCHANGED: &str = "reconcile: nothing changed\n";

/// A home with one profile that is wanted, one that is not, and one that was killed while draining.
fn three() -> TestEnv {
    let env = TestEnv::new();
    env.running("coder")
        .profile("viewer", r#"{"desired_state":"stopped"}"#)
        .profile("drained", r#"{"gateway_state":"draining"}"#);
    env
}

#[test]
fn the_s6_under_test_is_the_version_asked_for() {
    let Ok(version) = std::env::var("HERMES_S6_TEST_VERSION") else {
        return skip("HERMES_S6_TEST_VERSION does not say which s6 is to be tested");
    };
    let env = three();
    let tree = env.supervise();
    env.await_state("coder", "ready");
    // s6 does not tell its version. These differ: the size of the status file, and the options.
    let status = fs::metadata(env.slot("coder").join("supervise/status"));
    let size = status.unwrap().len();
    let options = ["-C", "-c"].map(|option| env.svscan_knows(option));
    let seen = match (size, options) {
        (35, [false, true]) => "2.11",
        (43, [true, true]) => "2.13",
        (35, [true, false]) => "2.15",
        _ => "another",
    };
    assert_eq!(
        seen, version,
        "status of {size} bytes, -C and -c: {options:?}"
    );
    drop(tree);
}

#[test]
fn wanted_gateways_get_ready_and_the_others_stay_down() {
    let env = three();
    let tree = env.supervise();
    env.await_ready(&["coder", "drained"]);
    assert_eq!(env.state("viewer"), "down");
    assert_eq!(env.state("default"), "down");
    assert!(env.gateways("viewer").is_empty());
    // s6 itself knows that it is ready.
    let mut svstat = env.command("s6-svstat");
    let svstat = svstat.args(["-o", "ready"]).arg(env.slot("coder"));
    svstat.ran().is(0, "true\n", "");
    let status = env.run("status").ends(0);
    begins(&status.stdout, "Manager: s6 (container supervisor)\n\n");
    assert_eq!(tree.stop(), 0);
    assert_eq!(env.run("status").code, 1, "what is wanted does not run");
}

/// Waits until s6 has asked anew whether a gateway is ready, and has its answer.
fn await_check(env: &TestEnv) {
    let checks = || {
        let ours = env.processes_named("hermes-s6");
        let checks = ours.into_iter();
        let checks = checks.filter(|process| process.cmdline.contains("check-ready"));
        checks.map(|process| process.pid).collect::<Vec<_>>()
    };
    let before = checks();
    let mut new = None;
    env.wait_for("another check", || {
        new = checks().into_iter().find(|pid| !before.contains(pid));
        new.is_some()
    });
    env.wait_for("its end", || !checks().contains(&new.unwrap()));
}

#[test]
fn a_gateway_is_up_and_not_ready_until_it_serves() {
    let env = TestEnv::new();
    env.running("coder").hold("coder", "ready");
    let _tree = env.supervise();
    env.await_event("coder", "start", 1);
    await_check(&env);
    assert_eq!(env.state("coder"), "starting");
    env.let_go("coder", "ready");
    env.await_state("coder", "ready");
}

#[test]
fn a_state_file_of_an_earlier_process_makes_nobody_ready() {
    let env = TestEnv::new();
    let state = |pid: i32, start: &str| {
        format!(r#"{{"desired_state":"running","gateway_state":"running","pid":{pid}{start}}}"#)
    };
    env.profile("coder", &state(1, "")).hold("coder", "ready");
    let _tree = env.supervise();
    // Held, it has written its state, and writes no other.
    let own = || env.state_file("coder").contains("starting");
    env.wait_for("the gateway", own);
    let pid = env.pid("coder");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start = stat.rsplit(')').next().unwrap().split_whitespace().nth(19);
    let place = env.home_of("coder").join("gateway_state.json");
    // Of another pid, and of the same pid with another start.
    for stale in [state(1, ""), state(pid, r#","start_time":1"#)] {
        env.write(&place, &stale);
        await_check(&env);
        assert_eq!(env.state("coder"), "starting");
    }
    let start = format!(r#","start_time":{}"#, start.unwrap());
    env.write(&place, &state(pid, &start));
    env.await_state("coder", "ready");
}

#[test]
fn five_requests_of_hermes_for_a_restart_park_nothing() {
    let env = TestEnv::new();
    env.running("coder").behaviour("coder", "exit 75\n");
    let _tree = env.supervise();
    env.await_event("coder", "start", 6);
    env.behaviour("coder", "");
    env.await_state("coder", "ready");
}

#[test]
fn no_process_of_ours_stays_beside_those_of_s6() {
    let env = three();
    let _tree = env.supervise();
    env.await_ready(&["coder", "drained"]);
    let ours = || env.processes_named("hermes-s6");
    env.wait_for("ours to be gone", || ours().is_empty());
}

#[test]
fn when_the_tree_stops_each_gateway_gets_one_sigterm_and_saves() {
    let env = three();
    env.behaviour("coder", "save 1\n")
        .behaviour("drained", "save 1\n");
    let tree = env.supervise();
    env.await_ready(&["coder", "drained"]);
    assert_eq!(tree.stop(), 0);
    for profile in ["coder", "drained"] {
        let life = ["TERM", "saved"].map(|event| env.count(profile, event));
        assert_eq!(life, [1, 1], "{profile}");
    }
    let log = fs::read_to_string(env.log("coder").join("current")).unwrap();
    assert!(log.contains("has saved"), "the last line is logged: {log}");
    assert!(env.processes().is_empty(), "{:?}", env.processes());
}

#[test]
fn after_the_whole_tree_was_killed_the_same_gateways_are_back() {
    let env = three();
    let tree = env.supervise();
    env.await_ready(&["coder", "drained"]);
    env.kill_all();
    tree.wait();
    assert_eq!(env.state("coder"), "unsupervised");
    let _tree = env.supervise();
    env.await_ready(&["coder", "drained"]);
    assert_eq!(env.state("viewer"), "down");
    assert_eq!(
        (env.gateways("coder").len(), env.count("coder", "start")),
        (1, 2)
    );
    let log = fs::read_to_string(env.home.join("logs/container-boot.log")).unwrap();
    let started = "profile=coder prior_state=running action=started";
    assert_eq!(log.matches(started).count(), 2, "{log}");
}

#[test]
fn after_s6_svscan_was_killed_every_gateway_is_supervised_once_again() {
    let env = three();
    let tree = env.supervise();
    env.await_ready(&["coder", "drained"]);
    tree.kill();
    assert_eq!(env.gateways("coder").len(), 1, "it lives on");
    let _tree = env.supervise();
    for profile in ["coder", "drained"] {
        one_new_gateway(&env, profile);
    }
    // Four profiles, a gateway and a logger each.
    await_supervisors(&env, 2 * 4);
    assert!(!env.out().contains("another instance"), "{}", env.out());
}

/// Waits until there are so many, and no process that is about to become another program.
fn await_supervisors(env: &TestEnv, count: usize) {
    // One more is that of the tender.
    let supervisors = || env.processes_named("s6-supervise").len();
    env.wait_for(&format!("{count} supervisors"), || {
        supervisors() == count + 1
    });
}

/// Waits for a second gateway, and checks that the first got one signal and is gone.
fn one_new_gateway(env: &TestEnv, profile: &str) {
    env.await_event(profile, "start", 2);
    env.await_state(profile, "ready");
    assert_eq!(env.gateways(profile).len(), 1, "{profile}");
    assert_eq!(env.count(profile, "TERM"), 1, "{profile}");
}

#[test]
fn an_orphan_of_a_killed_supervisor_is_ended_and_replaced() {
    let env = TestEnv::new();
    env.running("coder").behaviour("coder", "save 1\n");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let orphan = env.pid("coder");
    env.supervisor("coder").kill("KILL");
    one_new_gateway(&env, "coder");
    assert_ne!(env.pid("coder"), orphan);
    assert_eq!(env.count("coder", "saved"), 1);
}

#[test]
fn after_all_supervisors_were_killed_the_log_goes_on_where_it_was() {
    let env = TestEnv::new();
    env.running("coder").behaviour("coder", "save 1\n");
    let tree = env.supervise();
    env.await_state("coder", "ready");
    // It would start them again.
    tree.kill();
    for process in env.processes_named("s6-supervise") {
        process.kill("KILL");
    }
    assert_eq!(env.gateways("coder").len(), 1, "it lives on");
    let _tree = env.supervise();
    one_new_gateway(&env, "coder");
    let line = format!("stand-in gateway of coder, pid {}", env.pid("coder"));
    let log = || fs::read_to_string(env.log("coder").join("current")).unwrap_or_default();
    env.wait_for("the line in the log", || log().contains(&line));
    assert!(log().contains("has saved"), "{}", log());
}

#[test]
fn an_orphan_that_ignores_sigterm_is_killed_in_time() {
    let mut env = TestEnv::new();
    env.set("HERMES_S6_STOP_TIMEOUT", "1");
    env.running("coder").behaviour("coder", "ignore-term 1\n");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.supervisor("coder").kill("KILL");
    one_new_gateway(&env, "coder");
}

/// Holds the lock of `coder` from a pid namespace of its own.
pub fn elsewhere(env: &TestEnv) -> Background<'_> {
    let lock = env.home_of("coder").join(".hermes-s6.lock");
    env.write(&lock, "another-host pid 7 since then\n");
    let mut other = env.root_command("unshare");
    other.args(["-pf", "--kill-child", "s6-setlock"]).arg(&lock);
    env.hold_lock(other)
}

#[test]
fn a_profile_that_another_pid_namespace_runs_is_parked_and_its_holder_named() {
    if !is_root() {
        return skip("a second pid namespace needs root");
    }
    let mut env = TestEnv::new();
    env.set("HERMES_S6_STOP_TIMEOUT", "1");
    env.running("coder");
    let mut other = elsewhere(&env);
    let _tree = env.supervise();
    env.await_state("coder", "parked");
    let status = env.run("status");
    status.says("its lock is held by another-host pid 7 since then");
    assert_eq!(status.code, 1);
    assert_eq!(env.count("coder", "start"), 0);
    assert!(other.runs(), "the other one is left alone");
    drop(other);
    let free = |status: &str| {
        status.contains("its lock was held by another-host pid 7 since then, and is free now")
    };
    env.wait_for("the lock to be free", || free(&env.run("status").stdout));
}

#[test]
fn a_gateway_elsewhere_that_is_about_to_end_is_waited_for() {
    if !is_root() {
        return skip("a second pid namespace needs root");
    }
    let mut env = TestEnv::new();
    env.set("HERMES_S6_STOP_TIMEOUT", PATIENCE_SECONDS);
    env.running("coder");
    let other = elsewhere(&env);
    let _tree = env.supervise();
    env.await_state("coder", "waiting-for-lock");
    drop(other);
    env.await_state("coder", "ready");
}

#[test]
fn a_gateway_under_another_supervisor_is_left_alone() {
    let mut env = TestEnv::new();
    env.set("HERMES_S6_STOP_TIMEOUT", "1");
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let first = env.pid("coder");
    let (_second, scandir) = env.second_tree();
    env.wait_for("the second to be parked", || {
        let list = env.run(&["list", "--scandir", &scandir]);
        list.stdout.contains("coder parked")
    });
    assert_eq!((env.pid("coder"), env.count("coder", "TERM")), (first, 0));
}

#[test]
fn a_second_reconcile_of_a_live_tree_touches_nothing() {
    let env = three();
    env.profile("broken", "[");
    let _tree = env.supervise();
    env.await_ready(&["coder", "drained"]);
    let places = [
        env.scandir.clone(),
        env.home.join("logs"),
        env.home_of("viewer"),
    ];
    let state = || places.each_ref().map(|place| fingerprint(place));
    let before = state();
    let again = env.run("reconcile");
    let unchanged = again.stdout.ends_with(UNCHANGED);
    assert!(unchanged, "{again:?}");
    assert_eq!(before, state());
}

#[test]
fn a_file_that_somebody_changed_in_a_live_slot_is_put_right() {
    let env = three();
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let slot = env.slot("coder");
    let (pid, inode) = (env.pid("coder"), fs::metadata(&slot).unwrap().ino());
    fs::write(slot.join("timeout-kill"), "1\n").unwrap();
    fs::remove_file(slot.join("finish")).unwrap();
    chmod(slot.join("run"), 0o644);
    env.run("reconcile")
        .says("profile=coder prior_state=running action=updated");
    let timeout = fs::read_to_string(slot.join("timeout-kill"));
    assert_eq!(timeout.unwrap(), "25000\n");
    for script in ["finish", "run"] {
        assert_eq!(mode(&slot.join(script)), 0o755, "{script}");
    }
    assert_eq!(env.pid("coder"), pid);
    assert_eq!(fs::metadata(&slot).unwrap().ino(), inode);
}

#[test]
fn new_profiles_appear_and_gone_ones_leave_no_trace() {
    let env = three();
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    for number in 0..10 {
        env.running(&format!("new{number}"));
    }
    fs::remove_dir_all(env.home_of("coder")).unwrap();
    env.run("reconcile")
        .ends(0)
        .says("profile=coder prior_state=None action=removed reason=profile-gone");
    for number in 0..10 {
        env.await_state(&format!("new{number}"), "ready");
    }
    assert!(env.gateways("coder").is_empty());
    // Nothing leaked in s6-svscan either: as many supervisors as services.
    await_supervisors(&env, 2 * 13);
    let mut supervisors = env.processes_named("s6-supervise");
    supervisors.retain(|process| process.cmdline.contains("coder"));
    assert!(supervisors.is_empty(), "{supervisors:?}");
    let mut odd = names(&env.scandir);
    odd.retain(|name| name.contains("coder") || name.starts_with(".hermes-s6-"));
    assert_eq!(odd, [""; 0]);
}

#[test]
fn what_a_killed_run_left_behind_is_swept_away_with_its_processes() {
    let env = three();
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    // As if killed between the two phases: a removed slot that still runs, and one half built.
    let removed = env.scandir.join(".hermes-s6-old-gateway-coder");
    fs::rename(env.slot("coder"), &removed).unwrap();
    let half = env.scandir.join(".hermes-s6-new-gateway-other");
    fs::create_dir(&half).unwrap();
    env.write(&half.join("run"), "#!/bin/sh\n");
    env.own();
    env.running("other");
    env.run("reconcile").ends(0);
    one_new_gateway(&env, "coder");
    env.await_state("other", "ready");
    assert!(!half.exists() && !removed.exists());
}

#[test]
fn a_slot_that_s6_svscan_has_missed_is_published_anew() {
    let env = three();
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.running("late").slip_in("late");
    env.run("reconcile")
        .says("profile=late prior_state=running action=started reason=unsupervised");
    env.await_state("late", "ready");
}

#[test]
fn a_directory_that_is_not_ours_is_neither_used_nor_removed() {
    let env = three();
    let foreign = env.slot("coder");
    fs::create_dir_all(&foreign).unwrap();
    env.write(&foreign.join("run"), "#!/bin/sh\nexec sleep 100\n");
    let stranger = env.slot("stranger");
    fs::create_dir_all(&stranger).unwrap();
    env.own();
    let before = fingerprint(&env.scandir);
    env.run("reconcile")
        .ends(1)
        .says("profile=coder prior_state=running action=skipped reason=foreign-slot")
        .says("profile=drained prior_state=draining action=started");
    let after = fingerprint(&env.scandir);
    for line in before.lines().filter(|line| line.starts_with("gateway-")) {
        assert!(after.contains(line), "{line}");
    }
}

#[test]
fn an_operators_intent_moves_a_live_slot() {
    let env = three();
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let state = |profile: &str, text: &str| {
        env.write(&env.home_of(profile).join("gateway_state.json"), text);
    };
    state("viewer", r#"{"desired_state":"running"}"#);
    state("coder", r#"{"desired_state":"stopped"}"#);
    env.run("reconcile")
        .says("profile=viewer prior_state=running action=started")
        .says("profile=coder prior_state=stopped action=stopped");
    env.await_state("viewer", "ready");
    env.await_state("coder", "down");
    assert!(env.slot("coder").join("down").exists() && !env.slot("viewer").join("down").exists());
}

#[test]
fn what_a_gateway_writes_about_itself_moves_nothing_while_it_is_supervised() {
    let env = three();
    let _tree = env.supervise();
    env.await_state("drained", "ready");
    env.write(
        &env.home_of("drained").join("gateway_state.json"),
        r#"{"gateway_state":"starting"}"#,
    );
    let ran = env.run("reconcile");
    assert_eq!(ran.stdout, UNCHANGED, "{ran:?}");
    assert_eq!(env.gateways("drained").len(), 1);
}

#[test]
fn gateways_that_end_for_good_are_parked_and_others_are_not() {
    let env = TestEnv::new();
    for (profile, behaviour) in [
        ("config", "exit 78\n"),
        ("clean", "exit 0\n"),
        ("crash", "exit 3\n"),
        ("segv", "crash SEGV\n"),
    ] {
        env.running(profile).behaviour(profile, behaviour);
    }
    env.running("killed");
    let _tree = env.supervise();
    env.await_state("config", "parked");
    env.await_state("clean", "parked");
    env.await_state("killed", "ready");
    for _ in 0..6 {
        let starts = env.count("killed", "start");
        env.gateways("killed")[0].kill("KILL");
        env.await_event("killed", "start", starts + 1);
        env.await_state("killed", "ready");
    }
    env.await_state("crash", "parked");
    env.await_state("segv", "parked");
    let starts = ["config", "clean", "crash"].map(|profile| env.count(profile, "start"));
    assert_eq!(starts, [1, 1, 5]);
    let status = env.run("status").ends(1);
    for line in [
        "config wants running, is parked: exit 78 (configuration), ",
        "clean wants running, is parked: exit 0 (it ended by itself), ",
        "crash wants running, is parked: crash loop (5 deaths in two minutes), ",
        "segv wants running, is parked: crash loop (5 deaths in two minutes), ",
    ] {
        status.says(line);
    }
    // What is parked stays so: only its operator starts it again.
    let ran = env.run("reconcile");
    assert_eq!(ran.stdout, UNCHANGED, "{ran:?}");
}

#[test]
fn a_named_profile_gets_its_port_and_not_the_tokens_of_the_container() {
    let mut env = TestEnv::new();
    env.set("TELEGRAM_BOT_TOKEN", "secret")
        .set("API_SERVER_PORT", "1");
    env.running("coder").running("default");
    let _tree = env.supervise();
    env.await_ready(&["coder", "default"]);
    let port = env.run("port -p coder").stdout.trim().to_owned();
    let place = env.home.display();
    let [coder, default] = ["coder", "default"].map(|profile| env.events(profile).remove(0));
    let end = format!(" port={port} token= home={place} cwd={place}");
    assert!(coder.ends_with(&end), "{coder}");
    assert!(default.contains(" port=1 token=secret "), "{default}");
}

#[test]
fn with_inherit_env_a_named_profile_gets_the_containers_tokens() {
    let mut env = TestEnv::new();
    env.set("TELEGRAM_BOT_TOKEN", "secret")
        .set("HERMES_S6_INHERIT_ENV", "1");
    env.running("coder");
    let _tree = env.supervise();
    env.await_event("coder", "start", 1);
    let start = env.events("coder").remove(0);
    assert!(start.contains(" token=secret "), "{start}");
}

#[test]
fn lines_go_to_stdout_with_the_profiles_name_and_to_the_log_with_a_time() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let line = format!("stand-in gateway of coder, pid {}", env.pid("coder"));
    let on_stdout = format!("coder: {line}\n");
    env.wait_for("the line on stdout", || env.out().contains(&on_stdout));
    let log = || fs::read_to_string(env.log("coder").join("current")).unwrap_or_default();
    env.wait_for("the line in the log", || log().ends_with('\n'));
    let log = log();
    let (time, text) = log.lines().next().unwrap().split_once("  ").unwrap();
    assert_eq!(time.len(), "2026-01-01 00:00:00.000000000".len(), "{log}");
    assert_eq!(text, line, "{log}");
}

/// Has another process hold a lock of s6's.
fn lock<'a>(env: &'a TestEnv, file: &Path) -> Background<'a> {
    let mut setlock = env.command("s6-setlock");
    setlock.arg(file);
    env.hold_lock(setlock)
}

#[test]
fn a_gateway_runs_although_its_log_cannot_be_written_or_is_anothers() {
    let mut env = TestEnv::new();
    // Its logger waits that long, and 5 s more, for the one that has the directory.
    env.set("HERMES_S6_STOP_TIMEOUT", "1");
    env.running("coder").running("reader").running("writer");
    let logs = env.home.join("logs/gateways");
    fs::create_dir_all(&logs).unwrap();
    // A file where the directory should be, a directory that cannot be written, and a log that another
    // process has locked.
    env.write(&logs.join("coder"), "");
    fs::create_dir(logs.join("reader")).unwrap();
    fs::create_dir(logs.join("writer")).unwrap();
    env.own();
    chmod(logs.join("reader"), 0o555);
    let _other = lock(&env, &logs.join("writer/lock"));
    let _tree = env.supervise();
    env.await_ready(&["coder", "reader", "writer"]);
    for name in ["coder", "reader", "writer"] {
        let line = format!("{name}: stand-in gateway of {name}");
        env.wait_for(&line, || env.out().contains(&line));
    }
    let loggers = || env.processes_named("s6-log").len();
    env.wait_for("a logger for each", || loggers() == 4);
}

#[test]
fn a_logger_whose_log_another_one_has_writes_to_stdout_until_it_is_free() {
    let env = TestEnv::new();
    env.running("coder");
    let log = env.log("coder");
    fs::create_dir_all(&log).unwrap();
    env.own();
    let other = lock(&env, &log.join("lock"));
    let tree = env.supervise();
    env.await_state("coder", "ready");
    let line = "coder: stand-in gateway of coder, pid ";
    env.wait_for(line, || env.out().contains(line));
    // s6 learns only then that the logger has started.
    let why = "coder log: not written, its file was removed";
    env.wait_for(why, || env.run("status").stdout.contains(why));
    env.run("status").ends(1).says(why);
    drop(other);
    env.wait_for("the log", || log.join("current").exists());
    assert_eq!(tree.stop(), 0);
    let saved = "coder: stand-in gateway of coder has saved\n";
    assert!(env.out().ends_with(saved), "{}", env.out());
    let current = fs::read_to_string(log.join("current")).unwrap();
    assert!(current.ends_with("stand-in gateway of coder has saved\n"));
}

#[test]
fn a_second_supervise_is_refused_and_disturbs_nobody() {
    let env = three();
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let pid = env.pid("coder");
    env.run("supervise")
        .ends(100)
        .warns("is already watched by s6-svscan (pid ");
    assert_eq!(env.pid("coder"), pid);
}

#[test]
fn reconciles_at_the_same_time_are_one_after_the_other() {
    let env = three();
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    for number in 0..20 {
        env.running(&format!("new{number:02}"));
    }
    let runs: Vec<_> = (0..8).map(|_| env.background("reconcile")).collect();
    let ran: Vec<_> = runs.into_iter().map(|run| run.end().ends(0)).collect();
    let said = |end: &str| ran.iter().filter(|ran| ran.stdout.ends_with(end)).count();
    assert_eq!((said("20 changed\n"), said(UNCHANGED)), (1, 7), "{ran:?}");
    await_supervisors(&env, 2 * 24);
}

#[test]
fn a_killed_reconcile_is_made_good_by_the_next() {
    let env = three();
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    for round in 0..12_u64 {
        for number in 0..30 {
            let name = format!("r{round:02}n{number:02}");
            env.profile(&name, "");
            if round > 0 {
                let old = env.home_of(&format!("r{:02}n{number:02}", round - 1));
                drop(fs::remove_dir_all(old));
            }
        }
        // Wherever it is then.
        let _killed = env.background("reconcile");
        std::thread::sleep(Duration::from_micros(500 + round * 1500));
    }
    let ran = env.run("reconcile").ends(0);
    assert!(ran.stdout.lines().last().is_some(), "{ran:?}");
    assert_eq!(env.run("reconcile").stdout, UNCHANGED);
    let list = env.run("list").stdout;
    let wanted: usize = 4 + 30;
    assert_eq!(list.lines().count(), wanted, "{list}");
    assert!(!list.contains("unsupervised"), "{list}");
    await_supervisors(&env, 2 * wanted);
    let loggers = || env.processes_named("s6-log").len();
    env.wait_for("a logger for each", || loggers() == wanted);
    let mut left = names(&env.scandir);
    left.retain(|name| name.starts_with(".hermes-s6-new-") || name.starts_with(".hermes-s6-old-"));
    assert_eq!(left, [""; 0]);
}

#[test]
fn beyond_the_room_of_s6_svscan_a_fixed_set_stays_and_the_rest_is_told() {
    let env = TestEnv::new();
    for name in ["a", "b", "c", "d", "e"] {
        env.running(name);
    }
    let _tree = env.svscan(3);
    let ran = env.run("reconcile").ends(1);
    // Those that are to run come first, then the names in order.
    for (profile, end) in [
        ("default", "prior_state=None action=skipped reason=capacity"),
        ("a", "prior_state=running action=started"),
        ("b", "prior_state=running action=started"),
        ("c", "prior_state=running action=started"),
        ("d", "prior_state=running action=skipped reason=capacity"),
        ("e", "prior_state=running action=skipped reason=capacity"),
    ] {
        ran.says(format!("profile={profile} {end}\n"));
    }
    // What is starting still writes.
    env.await_ready(&["a", "b"]);
    fs::remove_dir_all(env.home_of("a")).unwrap();
    env.run("reconcile")
        .says("profile=a prior_state=None action=removed")
        .says("profile=d prior_state=running action=started");
    env.await_state("d", "ready");
    assert!(!env.out().contains("too many services"), "{}", env.out());
}

#[test]
fn supervise_has_room_for_twice_what_exists() {
    let env = TestEnv::new();
    for number in 0..300 {
        env.profile(&format!("p{number:03}"), "");
    }
    let tree = env.supervise();
    env.wait_for("all to be registered", || {
        let list = env.run("list").stdout;
        list.lines().filter(|line| line.ends_with(" down")).count() == 301
    });
    let cmdline = fs::read(format!("/proc/{}/cmdline", tree.pid())).unwrap();
    let words: Vec<_> = cmdline
        .split(|&byte| byte == 0)
        .map(String::from_utf8_lossy)
        .collect();
    let limit = match words.iter().position(|word| word == "-c") {
        Some(place) => words[place + 1].parse::<u32>().unwrap() * 2,
        None => words[words.iter().position(|word| word == "-C").unwrap() + 1]
            .parse()
            .unwrap(),
    };
    // One more, in whichever unit: the tender.
    assert_eq!(limit, 2 * (2 * 301 + 1));
}

#[test]
fn every_file_of_a_slot_belongs_to_the_user_who_runs_the_tree() {
    let env = three();
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let owner = fs::metadata(&env.home).unwrap().uid();
    all_is_of(owner, &env.scandir);
    let mut strangers = env.processes();
    strangers.retain(|process| process.uid != owner);
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn a_profile_with_a_hostile_home_is_served_all_the_same() {
    let mut env = TestEnv::new();
    let home = env.place.join("h o\"me\\${HOME}$1 {}#\n\t'é");
    fs::create_dir_all(home.join("profiles")).unwrap();
    env.home = home;
    env.own();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let end = env.events("coder").join("\n");
    let place = env.home.to_str().unwrap();
    assert!(end.ends_with(&format!("home={place} cwd={place}")), "{end}");
    assert!(env.log("coder").join("current").is_file());
}
