//! Gateways that run and do not serve, and gateways that end again and again.

use std::fs;

use crate::support::{Process, TestEnv, has, kill};

#[test]
fn a_gateway_whose_heartbeat_has_stopped_is_unresponsive_and_is_left_alone() {
    let env = TestEnv::new();
    env.running("coder").behaviour("coder", "beat 500\n");
    env.running("writer").behaviour("writer", "beat 5\n");
    let _tree = env.supervise();
    env.await_event("coder", "beaten", 1);
    env.await_state("coder", "unresponsive");
    env.await_state("writer", "ready");
    let pid = env.pid("coder");
    env.run("status")
        .ends(1)
        .says("coder wants running, is unresponsive: its last heartbeat is 50")
        .says(": hermes-s6 restart -p coder\n");
    env.run("start -p coder")
        .ends(1)
        .warns("is unresponsive: its last heartbeat is 50");
    env.run("doctor")
        .ends(1)
        .says("unresponsive: its last heartbeat");
    assert_eq!(env.pid("coder"), pid);
    env.behaviour("coder", "");
    env.run("restart -p coder").ends(0).says("is ready (pid ");
}

#[test]
fn a_gateway_that_says_that_it_has_failed_to_start_is_not_ready() {
    let env = TestEnv::new();
    env.running("coder").behaviour("coder", "fail 1\n");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.write(&env.home_of("coder").join("fail-now"), "");
    env.await_state("coder", "unresponsive");
    env.run("status")
        .ends(1)
        .says("is unresponsive: its state file says startup_failed");
}

#[test]
fn a_gateway_that_asks_for_a_restart_each_time_is_held_back_and_said_to_be_restarting() {
    let env = TestEnv::new();
    env.running("coder").behaviour("coder", "exit 75\n");
    let tree = env.supervise();
    env.await_event("coder", "exit", 4);
    env.await_state("coder", "restarting");
    env.run("status")
        .ends(0)
        .says(" deaths in a row, the last by exit 75");
    env.await_event("coder", "exit", 6);
    let log = env.log("coder").join("current");
    let waits = || fs::read_to_string(&log).is_ok_and(|text| text.contains("waiting for 4 s"));
    env.wait_for("a start that is held back", waits);
    // The wait does not hold up a stop.
    env.run("stop -p coder --timeout 3")
        .ends(0)
        .says("gateway-coder is down");
    env.behaviour("coder", "");
    env.run("start -p coder").ends(0).says("is ready");
    assert_eq!(tree.stop(), 0);
}

#[test]
fn a_home_that_cannot_be_read_for_a_time_parks_nothing_for_good() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let (home, hidden) = (env.home_of("coder"), env.place.join("hidden"));
    fs::rename(&home, &hidden).unwrap();
    env.gateways("coder")[0].kill("KILL");
    let log = env.log("coder").join("current");
    let failed =
        || fs::read_to_string(&log).is_ok_and(|text| text.matches("unable to open").count() >= 5);
    env.wait_for("five starts that fail", failed);
    fs::rename(&hidden, &home).unwrap();
    env.await_state("coder", "ready");
    has(
        &env.run("status -p coder --json").stdout,
        r#""state":"ready""#,
    );
}

#[test]
fn an_unresponsive_gateway_is_restarted_where_the_operator_asks_for_that() {
    let mut env = TestEnv::new();
    env.set("HERMES_S6_WATCHDOG", "restart");
    env.running("coder").behaviour("coder", "beat 500\n");
    let _tree = env.supervise();
    env.await_event("coder", "beaten", 1);
    env.behaviour("coder", "");
    env.await_event("coder", "saved", 1);
    env.await_state("coder", "ready");
    assert_eq!(env.count("coder", "start"), 2);
    has(
        &env.out(),
        "hermes-s6: warning: gateway-coder is unresponsive (its last heartbeat is 5",
    );
}

#[test]
fn a_gateway_whose_log_is_about_to_start_is_no_fault() {
    let env = TestEnv::new();
    let tree = env.supervise();
    env.running("coder");
    env.run("start -p coder").ends(0);
    // Of a new slot, s6-svscan starts two supervisors, one after the other. Here, that of the log is still to come.
    kill(tree.pid(), "STOP");
    let of_log = |process: &Process| process.cmdline.contains("gateway-coder/log");
    let supervisors = env.processes_named("s6-supervise");
    supervisors
        .iter()
        .find(|one| of_log(one))
        .unwrap()
        .kill("KILL");
    let has_supervisor = || env.processes_named("s6-supervise").iter().any(of_log);
    env.wait_for("its end", || !has_supervisor());
    env.run("restart -p coder").ends(0).says("is ready");
    env.run("status -p coder").ends(0);
    env.run("status").ends(0);
    env.run("status --ready").ends(0);
    assert!(!has_supervisor());
    kill(tree.pid(), "CONT");
    env.wait_for("the supervisor of the log", has_supervisor);
}

#[test]
fn the_question_whether_all_is_ready_has_no_for_an_answer_until_it_is() {
    let env = TestEnv::new();
    env.running("coder").profile("viewer", "");
    env.run("status --ready").ends(102);
    env.hold("coder", "ready");
    let tree = env.supervise();
    env.await_state("coder", "starting");
    env.run("status").ends(0);
    env.run("status --ready").ends(1).says("coder");
    env.run("status --ready -p viewer").ends(0);
    env.let_go("coder", "ready");
    env.await_state("coder", "ready");
    env.run("status --ready").ends(0);
    env.run("stop -p coder").ends(0);
    env.run("status --ready").ends(0);
    tree.kill();
    env.run("status --ready").ends(1).says("Manager: none");
}
