//! Trees of an ordinary user on real s6, with a stand-in for the gateway.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::support::{TestEnv, fingerprint, is_root, mode, programs, skip, wait_for};

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
    let size = fs::metadata(env.slot("coder").join("supervise/status"))
        .unwrap()
        .len();
    let options = ["-C", "-c"].map(|option| {
        let mut probe = env.command("s6-svscan");
        let status = probe
            .args([option, "9", "--", "/dev/null/none"])
            .stderr(Stdio::null())
            .status();
        status.unwrap().code() != Some(100)
    });
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
    env.await_state("coder", "ready");
    env.await_state("drained", "ready");
    assert_eq!(env.state("viewer"), "down");
    assert_eq!(env.state("default"), "down");
    assert!(env.gateways("viewer").is_empty());
    let svwait = env
        .command("s6-svwait")
        .args(["-U", "-t", "5000"])
        .arg(env.slot("coder"))
        .status();
    assert!(
        svwait.unwrap().success(),
        "s6 itself knows that it is ready"
    );
    let status = env.run(&["status"]);
    assert_eq!(status.code, 0, "{status:?}");
    assert!(
        status
            .stdout
            .starts_with("Manager: s6 (container supervisor)\n\n"),
        "{status:?}"
    );
    assert_eq!(tree.stop(), 0);
    assert_eq!(env.run(&["status"]).code, 1, "what is wanted does not run");
}

#[test]
fn a_gateway_that_never_serves_is_up_and_not_ready() {
    let env = TestEnv::new();
    env.running("coder").behaviour("coder", "never-ready 1\n");
    let _tree = env.supervise();
    env.await_state("coder", "starting");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(env.state("coder"), "starting");
    env.behaviour("coder", "");
}

#[test]
fn a_state_file_of_an_earlier_process_makes_nobody_ready() {
    let env = TestEnv::new();
    env.profile(
        "coder",
        r#"{"desired_state":"running","gateway_state":"running","pid":1}"#,
    )
    .behaviour("coder", "never-ready 1\n");
    let _tree = env.supervise();
    env.await_state("coder", "starting");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(env.state("coder"), "starting");
}

#[test]
fn a_state_file_of_an_earlier_process_of_the_same_pid_makes_nobody_ready() {
    let env = TestEnv::new();
    env.running("coder").behaviour("coder", "never-ready 1\n");
    let _tree = env.supervise();
    env.await_state("coder", "starting");
    wait_for(
        "the gateway",
        || env.count("coder", "start") == 1,
        || env.out(),
    );
    let state = env.home_of("coder").join("gateway_state.json");
    let write = |start: u64| {
        env.write(&state, &format!(r#"{{"desired_state":"running","gateway_state":"running","pid":{},"start_time":{start}}}"#, env.pid("coder")));
    };
    write(1);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(env.state("coder"), "starting");
    let stat = fs::read_to_string(format!("/proc/{}/stat", env.pid("coder"))).unwrap();
    write(
        stat.rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .nth(19)
            .unwrap()
            .parse()
            .unwrap(),
    );
    env.await_state("coder", "ready");
}

#[test]
fn five_requests_of_hermes_for_a_restart_park_nothing() {
    let env = TestEnv::new();
    env.running("coder").behaviour("coder", "exit 75\n");
    let _tree = env.supervise();
    wait_for(
        "six starts",
        || env.count("coder", "start") == 6,
        || env.out(),
    );
    env.behaviour("coder", "");
    env.await_state("coder", "ready");
}

#[test]
fn no_process_of_ours_stays_beside_those_of_s6() {
    let env = three();
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.await_state("drained", "ready");
    let ours = env.processes_named("hermes-s6");
    assert!(ours.is_empty(), "{ours:?}");
}

#[test]
fn when_the_tree_stops_each_gateway_gets_one_sigterm_and_saves() {
    let env = three();
    env.behaviour("coder", "save 1\n")
        .behaviour("drained", "save 1\n");
    let tree = env.supervise();
    env.await_state("coder", "ready");
    env.await_state("drained", "ready");
    assert_eq!(tree.stop(), 0);
    for profile in ["coder", "drained"] {
        assert_eq!(
            (env.count(profile, "TERM"), env.count(profile, "saved")),
            (1, 1),
            "{profile}"
        );
    }
    let log = fs::read_to_string(env.home.join("logs/gateways/coder/current")).unwrap();
    assert!(log.contains("has saved"), "the last line is logged: {log}");
    assert!(env.processes().is_empty(), "{:?}", env.processes());
}

#[test]
fn after_the_whole_tree_was_killed_the_same_gateways_are_back() {
    let env = three();
    let tree = env.supervise();
    env.await_state("coder", "ready");
    env.await_state("drained", "ready");
    env.kill_all();
    tree.wait();
    assert_eq!(env.state("coder"), "unsupervised");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.await_state("drained", "ready");
    assert_eq!(env.state("viewer"), "down");
    assert_eq!(
        (env.gateways("coder").len(), env.count("coder", "start")),
        (1, 2)
    );
    let log = fs::read_to_string(env.home.join("logs/container-boot.log")).unwrap();
    assert_eq!(
        log.matches("profile=coder prior_state=running action=started")
            .count(),
        2,
        "{log}"
    );
}

#[test]
fn after_s6_svscan_was_killed_every_gateway_is_supervised_once_again() {
    let env = three();
    let tree = env.supervise();
    env.await_state("coder", "ready");
    env.await_state("drained", "ready");
    tree.kill();
    assert_eq!(env.gateways("coder").len(), 1, "it lives on");
    let _tree = env.supervise();
    wait_for(
        "new gateways",
        || {
            env.count("coder", "start") == 2
                && env.state("coder") == "ready"
                && env.state("drained") == "ready"
        },
        || env.out(),
    );
    for profile in ["coder", "drained"] {
        assert_eq!(env.gateways(profile).len(), 1, "{profile}");
        assert_eq!(
            env.count(profile, "TERM"),
            1,
            "{profile} was told to end once"
        );
    }
    // Four profiles, a gateway and a logger each.
    assert_eq!(env.processes_named("s6-supervise").len(), 8);
    assert!(!env.out().contains("another instance"), "{}", env.out());
}

/// Waits for a second gateway of `coder`, and checks that the first got its signal and is gone.
fn one_new_gateway(env: &TestEnv) {
    wait_for(
        "a new gateway",
        || env.count("coder", "start") == 2,
        || env.out(),
    );
    env.await_state("coder", "ready");
    assert_eq!(
        (env.gateways("coder").len(), env.count("coder", "TERM")),
        (1, 1)
    );
}

#[test]
fn an_orphan_of_a_killed_supervisor_is_ended_and_replaced() {
    let env = TestEnv::new();
    env.running("coder").behaviour("coder", "save 1\n");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let orphan = env.pid("coder");
    let parent = env.gateways("coder")[0].parent;
    env.processes()
        .iter()
        .find(|process| process.pid == parent)
        .unwrap()
        .kill("KILL");
    wait_for(
        "a new gateway",
        || env.count("coder", "start") == 2,
        || env.out(),
    );
    env.await_state("coder", "ready");
    assert_ne!(env.pid("coder"), orphan);
    assert_eq!(
        (env.gateways("coder").len(), env.count("coder", "saved")),
        (1, 1)
    );
}

#[test]
fn after_all_supervisors_were_killed_the_log_goes_on_where_it_was() {
    let env = TestEnv::new();
    env.running("coder").behaviour("coder", "save 1\n");
    let tree = env.supervise();
    env.await_state("coder", "ready");
    for process in env.processes_named("s6-supervise") {
        process.kill("KILL");
    }
    tree.kill();
    assert_eq!(env.gateways("coder").len(), 1, "it lives on");
    let _tree = env.supervise();
    one_new_gateway(&env);
    let line = format!("stand-in gateway of coder, pid {}", env.pid("coder"));
    let log =
        || fs::read_to_string(env.home.join("logs/gateways/coder/current")).unwrap_or_default();
    wait_for("the line in the log", || log().contains(&line), log);
    assert!(log().contains("has saved"), "{}", log());
}

#[test]
fn an_orphan_that_ignores_sigterm_is_killed_in_time() {
    let mut env = TestEnv::new();
    env.set("HERMES_S6_STOP_TIMEOUT", "1");
    env.running("coder").behaviour("coder", "ignore-term 1\n");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let parent = env.gateways("coder")[0].parent;
    env.processes()
        .iter()
        .find(|process| process.pid == parent)
        .unwrap()
        .kill("KILL");
    one_new_gateway(&env);
}

/// Holds the lock of `coder` from a pid namespace of its own, for so many seconds.
pub fn elsewhere(env: &TestEnv, seconds: &str) -> Child {
    let lock = env.home_of("coder").join(".hermes-s6.lock");
    env.write(&lock, "another-host pid 7 since then\n");
    let mut other = env.root_command("unshare");
    other
        .args(["-pf", "--kill-child", "s6-setlock"])
        .arg(&lock)
        .args(["sleep", seconds]);
    let other = other.spawn().unwrap();
    // Gateways sleep too, for another time.
    let words = format!("sleep\0{seconds}\0");
    wait_for(
        "the lock",
        || {
            env.processes_named("sleep")
                .iter()
                .any(|process| process.cmdline == words)
        },
        String::new,
    );
    other
}

#[test]
fn a_profile_that_another_pid_namespace_runs_is_parked_and_its_holder_named() {
    if !is_root() {
        return skip("a second pid namespace needs root");
    }
    let mut env = TestEnv::new();
    env.set("HERMES_S6_STOP_TIMEOUT", "1");
    env.running("coder");
    let mut other = elsewhere(&env, "60");
    let _tree = env.supervise();
    env.await_state("coder", "parked");
    let status = env.run(&["status"]);
    assert!(
        status
            .stdout
            .contains("its lock is held by another-host pid 7 since then"),
        "{status:?}"
    );
    assert_eq!(status.code, 1);
    assert_eq!(env.count("coder", "start"), 0);
    assert_eq!(
        env.processes_named("sleep").len(),
        1,
        "the other one is left alone"
    );
    other.kill().unwrap();
    other.wait().unwrap();
    let free = |status: &str| {
        status.contains("its lock was held by another-host pid 7 since then, and is free now")
    };
    wait_for(
        "the lock to be free",
        || free(&env.run(&["status"]).stdout),
        String::new,
    );
}

#[test]
fn a_gateway_elsewhere_that_is_about_to_end_is_waited_for() {
    if !is_root() {
        return skip("a second pid namespace needs root");
    }
    let env = TestEnv::new();
    env.running("coder");
    let mut other = elsewhere(&env, "5");
    let _tree = env.supervise();
    env.await_state("coder", "waiting-for-lock");
    assert!(other.wait().unwrap().success());
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
    // The same home in a second tree.
    let mut second = env.command(programs().join("hermes-s6"));
    second
        .arg("supervise")
        .env("HERMES_S6_SCANDIR", env.place.join("second"));
    let _second = env.start(second);
    let scandir = env.place.join("second").to_str().unwrap().to_owned();
    wait_for(
        "the second to be parked",
        || {
            env.run(&["list", "--scandir", &scandir])
                .stdout
                .contains("coder parked")
        },
        || env.out(),
    );
    assert_eq!((env.pid("coder"), env.count("coder", "TERM")), (first, 0));
}

#[test]
fn a_second_reconcile_of_a_live_tree_touches_nothing() {
    let env = three();
    env.profile("broken", "[");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.await_state("drained", "ready");
    let before = (
        fingerprint(&env.scandir),
        fingerprint(&env.home.join("logs")),
        fingerprint(&env.home_of("viewer")),
    );
    let again = env.run(&["reconcile"]);
    assert!(
        again.stdout.ends_with("reconcile: nothing changed\n"),
        "{again:?}"
    );
    let after = (
        fingerprint(&env.scandir),
        fingerprint(&env.home.join("logs")),
        fingerprint(&env.home_of("viewer")),
    );
    assert_eq!(before, after);
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
    fs::set_permissions(slot.join("run"), fs::Permissions::from_mode(0o644)).unwrap();
    let ran = env.run(&["reconcile"]);
    assert!(
        ran.stdout
            .contains("profile=coder prior_state=running action=updated"),
        "{ran:?}"
    );
    assert_eq!(
        fs::read_to_string(slot.join("timeout-kill")).unwrap(),
        "25000\n"
    );
    assert_eq!(
        (mode(&slot.join("finish")), mode(&slot.join("run"))),
        (0o755, 0o755)
    );
    assert_eq!(
        (env.pid("coder"), fs::metadata(&slot).unwrap().ino()),
        (pid, inode)
    );
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
    let ran = env.run(&["reconcile"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout
            .contains("profile=coder prior_state=None action=removed reason=profile-gone"),
        "{ran:?}"
    );
    for number in 0..10 {
        env.await_state(&format!("new{number}"), "ready");
    }
    assert!(env.gateways("coder").is_empty());
    let supervisors = env.processes_named("s6-supervise");
    assert!(
        !supervisors
            .iter()
            .any(|process| process.cmdline.contains("coder")),
        "{supervisors:?}"
    );
    let names = fs::read_dir(&env.scandir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let odd: Vec<_> = names
        .filter(|name| name.contains("coder") || name.starts_with(".hermes-s6-"))
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
    // Nothing leaked in s6-svscan either: as many supervisors as services.
    assert_eq!(supervisors.len(), 2 * 13);
}

#[test]
fn what_a_killed_run_left_behind_is_swept_away_with_its_processes() {
    let env = three();
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    // As if killed between the two phases: a removed slot that still runs, and one half built.
    fs::rename(
        env.slot("coder"),
        env.scandir.join(".hermes-s6-old-gateway-coder"),
    )
    .unwrap();
    let half = env.scandir.join(".hermes-s6-new-gateway-other");
    fs::create_dir(&half).unwrap();
    env.write(&half.join("run"), "#!/bin/sh\n");
    env.own();
    env.running("other");
    let ran = env.run(&["reconcile"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    env.await_state("coder", "ready");
    env.await_state("other", "ready");
    assert_eq!(
        (
            env.gateways("coder").len(),
            env.count("coder", "start"),
            env.count("coder", "TERM")
        ),
        (1, 2, 1)
    );
    assert!(!half.exists() && !env.scandir.join(".hermes-s6-old-gateway-coder").exists());
}

#[test]
fn a_slot_that_s6_svscan_has_missed_is_published_anew() {
    let env = three();
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    // Put there behind the back of s6-svscan, as a scan that was given up leaves it.
    let rendered = env.place.join("rendered");
    fs::create_dir(&rendered).unwrap();
    env.running("late");
    env.own();
    assert_eq!(
        env.run(&["render", "-p", "late", "--out", rendered.to_str().unwrap()])
            .code,
        0
    );
    fs::rename(rendered.join("gateway-late"), env.slot("late")).unwrap();
    let ran = env.run(&["reconcile"]);
    assert!(
        ran.stdout
            .contains("profile=late prior_state=running action=started reason=unsupervised"),
        "{ran:?}"
    );
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
    let ran = env.run(&["reconcile"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stdout
            .contains("profile=coder prior_state=running action=skipped reason=foreign-slot"),
        "{ran:?}"
    );
    assert!(
        ran.stdout
            .contains("profile=drained prior_state=draining action=started"),
        "{ran:?}"
    );
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
    let ran = env.run(&["reconcile"]);
    assert!(
        ran.stdout
            .contains("profile=viewer prior_state=running action=started"),
        "{ran:?}"
    );
    assert!(
        ran.stdout
            .contains("profile=coder prior_state=stopped action=stopped"),
        "{ran:?}"
    );
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
    let ran = env.run(&["reconcile"]);
    assert_eq!(ran.stdout, "reconcile: nothing changed\n", "{ran:?}");
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
        wait_for(
            "a restart",
            || env.count("killed", "start") == starts + 1,
            || env.out(),
        );
        env.await_state("killed", "ready");
    }
    env.await_state("crash", "parked");
    env.await_state("segv", "parked");
    assert_eq!(
        (
            env.count("config", "start"),
            env.count("clean", "start"),
            env.count("crash", "start")
        ),
        (1, 1, 5)
    );
    let status = env.run(&["status"]);
    for line in [
        "config wants running, is parked: exit 78 (configuration), ",
        "clean wants running, is parked: exit 0 (it ended by itself), ",
        "crash wants running, is parked: crash loop (5 deaths in two minutes), ",
        "segv wants running, is parked: crash loop (5 deaths in two minutes), ",
    ] {
        assert!(status.stdout.contains(line), "{line}\n{}", status.stdout);
    }
    assert_eq!(status.code, 1);
    // What is parked stays so: only its operator starts it again.
    let ran = env.run(&["reconcile"]);
    assert_eq!(ran.stdout, "reconcile: nothing changed\n", "{ran:?}");
}

#[test]
fn a_named_profile_gets_its_port_and_not_the_tokens_of_the_container() {
    let mut env = TestEnv::new();
    env.set("TELEGRAM_BOT_TOKEN", "secret")
        .set("API_SERVER_PORT", "1");
    env.running("coder").running("default");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.await_state("default", "ready");
    let port = env.run(&["port", "-p", "coder"]).stdout.trim().to_owned();
    let place = env.home.display();
    assert!(
        env.events("coder")[0].ends_with(&format!(" port={port} token= home={place} cwd={place}")),
        "{:?}",
        env.events("coder")
    );
    assert!(
        env.events("default")[0].contains(" port=1 token=secret "),
        "{:?}",
        env.events("default")
    );
}

#[test]
fn with_inherit_env_a_named_profile_gets_the_containers_tokens() {
    let mut env = TestEnv::new();
    env.set("TELEGRAM_BOT_TOKEN", "secret")
        .set("HERMES_S6_INHERIT_ENV", "1");
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    assert!(
        env.events("coder")[0].contains(" token=secret "),
        "{:?}",
        env.events("coder")
    );
}

#[test]
fn lines_go_to_stdout_with_the_profiles_name_and_to_the_log_with_a_time() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let line = format!("stand-in gateway of coder, pid {}", env.pid("coder"));
    wait_for(
        "the line on stdout",
        || env.out().lines().any(|out| out == format!("coder: {line}")),
        || env.out(),
    );
    let log = fs::read_to_string(env.home.join("logs/gateways/coder/current")).unwrap();
    let (time, text) = log.lines().next().unwrap().split_once("  ").unwrap();
    assert_eq!(
        (time.len(), text),
        ("2026-01-01 00:00:00.000000000".len(), line.as_str()),
        "{log}"
    );
}

/// Has another process hold a lock.
fn lock(env: &TestEnv, file: &Path) -> Child {
    let mut holder = env.command("s6-setlock");
    let holder = holder.arg(file).args(["sleep", "60"]).spawn().unwrap();
    wait_for(
        "the lock",
        || env.processes_named("sleep").len() == 1,
        String::new,
    );
    holder
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
    fs::set_permissions(logs.join("reader"), fs::Permissions::from_mode(0o555)).unwrap();
    let mut other = lock(&env, &logs.join("writer/lock"));
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.await_state("reader", "ready");
    env.await_state("writer", "ready");
    wait_for(
        "lines on stdout",
        || {
            ["coder", "reader", "writer"].iter().all(|name| {
                env.out()
                    .contains(&format!("{name}: stand-in gateway of {name}"))
            })
        },
        || env.out(),
    );
    wait_for(
        "a logger for each",
        || env.processes_named("s6-log").len() == 4,
        || env.out(),
    );
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_logger_that_waits_for_anothers_log_ends_with_its_tree_and_keeps_no_line_back() {
    let mut env = TestEnv::new();
    // It would wait that long.
    env.set("HERMES_S6_STOP_TIMEOUT", "120");
    env.running("coder");
    let log = env.home.join("logs/gateways/coder");
    fs::create_dir_all(&log).unwrap();
    env.own();
    let mut other = lock(&env, &log.join("lock"));
    let tree = env.supervise();
    env.await_state("coder", "ready");
    wait_for(
        "a logger that waits",
        || env.processes_named("hermes-s6").len() == 1,
        || env.out(),
    );
    assert_eq!(tree.stop(), 0);
    assert!(other.try_wait().unwrap().is_none(), "the log is free");
    let saved = "coder: stand-in gateway of coder has saved\n";
    assert!(env.out().ends_with(saved), "{}", env.out());
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_second_supervise_is_refused_and_disturbs_nobody() {
    let env = three();
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let pid = env.pid("coder");
    let ran = env.run(&["supervise"]);
    assert_eq!(ran.code, 100, "{ran:?}");
    assert!(
        ran.stderr.contains("is already watched by s6-svscan (pid "),
        "{ran:?}"
    );
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
    let runs: Vec<_> = (0..8)
        .map(|_| {
            let mut command = env.command(programs().join("hermes-s6"));
            command
                .arg("reconcile")
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let outputs: Vec<_> = runs
        .into_iter()
        .map(|run| run.wait_with_output().unwrap())
        .collect();
    assert!(
        outputs.iter().all(|output| output.status.success()),
        "{outputs:?}"
    );
    let changed = outputs
        .iter()
        .filter(|output| output.stdout.ends_with(b"20 changed\n"))
        .count();
    let unchanged = outputs
        .iter()
        .filter(|output| output.stdout == b"reconcile: nothing changed\n")
        .count();
    assert_eq!((changed, unchanged), (1, 7), "{outputs:?}");
    assert_eq!(env.processes_named("s6-supervise").len(), 2 * 24);
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
        let mut command = env.command(programs().join("hermes-s6"));
        let mut run = command
            .arg("reconcile")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(500 + round * 1500));
        run.kill().unwrap();
        run.wait().unwrap();
    }
    let ran = env.run(&["reconcile"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.lines().last().is_some(), "{ran:?}");
    assert_eq!(
        env.run(&["reconcile"]).stdout,
        "reconcile: nothing changed\n"
    );
    let list = env.run(&["list"]).stdout;
    let wanted: usize = 4 + 30;
    assert_eq!(list.lines().count(), wanted, "{list}");
    assert!(!list.contains("unsupervised"), "{list}");
    assert_eq!(env.processes_named("s6-supervise").len(), 2 * wanted);
    assert_eq!(env.processes_named("s6-log").len(), wanted);
    let left: Vec<_> = fs::read_dir(&env.scandir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".hermes-s6-new-") || name.starts_with(".hermes-s6-old-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn beyond_the_room_of_s6_svscan_a_fixed_set_stays_and_the_rest_is_told() {
    let env = TestEnv::new();
    for name in ["a", "b", "c", "d", "e"] {
        env.running(name);
    }
    fs::create_dir_all(&env.scandir).unwrap();
    env.own();
    // Room for three services with loggers, in whichever option this s6-svscan knows.
    let mut probe = env.command("s6-svscan");
    let probe = probe
        .args(["-C", "6", "--", "/dev/null/none"])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let limit = if probe.code() == Some(100) {
        ["-c", "3"]
    } else {
        ["-C", "6"]
    };
    let mut svscan = env.command("s6-svscan");
    svscan.args(limit).arg("--").arg(&env.scandir);
    let _tree = env.start(svscan);
    wait_for(
        "s6-svscan",
        || env.scandir.join(".s6-svscan/control").exists(),
        || env.out(),
    );
    let ran = env.run(&["reconcile"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    // Those that are to run come first, then the names in order.
    for (profile, end) in [
        ("default", "prior_state=None action=skipped reason=capacity"),
        ("a", "prior_state=running action=started"),
        ("b", "prior_state=running action=started"),
        ("c", "prior_state=running action=started"),
        ("d", "prior_state=running action=skipped reason=capacity"),
        ("e", "prior_state=running action=skipped reason=capacity"),
    ] {
        assert!(
            ran.stdout.contains(&format!("profile={profile} {end}\n")),
            "{profile}: {ran:?}"
        );
    }
    env.await_state("b", "ready");
    fs::remove_dir_all(env.home_of("a")).unwrap();
    let ran = env.run(&["reconcile"]);
    assert!(
        ran.stdout
            .contains("profile=a prior_state=None action=removed"),
        "{ran:?}"
    );
    assert!(
        ran.stdout
            .contains("profile=d prior_state=running action=started"),
        "{ran:?}"
    );
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
    wait_for(
        "all to be registered",
        || {
            let list = env.run(&["list"]).stdout;
            list.lines().filter(|line| line.ends_with(" down")).count() == 301
        },
        || env.out(),
    );
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
    assert_eq!(limit, 2 * 2 * 301);
}

#[test]
fn every_file_of_a_slot_belongs_to_the_user_who_runs_the_tree() {
    let env = three();
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let owner = fs::metadata(&env.home).unwrap().uid();
    for entry in walkdir::WalkDir::new(&env.scandir) {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().uid(),
            owner,
            "{}",
            entry.path().display()
        );
    }
    assert!(
        env.processes().iter().all(|process| process.uid == owner),
        "{:?}",
        env.processes()
    );
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
    assert!(
        Path::new(&env.home)
            .join("logs/gateways/coder/current")
            .is_file()
    );
}
