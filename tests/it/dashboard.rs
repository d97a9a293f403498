//! The dashboard as a service of the tree: a stand-in for what fails, and the real Hermes.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::path::Path;

use crate::support::{
    NOBODY, PATIENCE, PATIENCE_SECONDS, Ran, Run, TestEnv, has, is_root, names, programs, skip,
};

const SERVICE: &str = "hermes-s6-dashboard";

/// A home whose container asks for a dashboard on a port that is free.
fn asked() -> (TestEnv, String) {
    let mut env = TestEnv::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    env.set("HERMES_DASHBOARD", "yes")
        .set("HERMES_DASHBOARD_PORT", &port);
    (env, port)
}

/// The field of the dashboard in the status.
fn field(env: &TestEnv, name: &str) -> serde_json::Value {
    let ran = env.run("status --json");
    let status: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    status["dashboard"][name].clone()
}

fn await_state(env: &TestEnv, state: &str) {
    env.wait_for(&format!("a dashboard that is {state}"), || {
        field(env, "state") == state
    });
}

fn starts(env: &TestEnv) -> usize {
    env.count("default", "dashboard")
}

/// What its log has.
fn log(env: &TestEnv) -> String {
    fs::read_to_string(env.home.join("logs/dashboard/current")).unwrap_or_default()
}

/// Runs a command that waits for the dashboard, also on a machine that is slow.
fn patiently(env: &TestEnv, verb: &str) -> Ran {
    env.run(&[verb, "--dashboard", "--timeout", PATIENCE_SECONDS])
}

#[test]
fn a_dashboard_is_supervised_beside_the_gateways_and_ends_with_the_tree() {
    let (env, port) = asked();
    env.running("coder");
    let tree = env.supervise();
    await_state(&env, "ready");
    env.await_ready(&["coder"]);
    let url = format!("http://127.0.0.1:{port}");
    let pid = field(&env, "pid");
    env.run("status")
        .ends(0)
        .says(format!("\nDashboard: ready, pid {pid}, "))
        .says(format!(", {url}\n"));
    env.run("status --ready").ends(0);
    // It is no profile, and has nothing to do with one.
    let ran = env.run("status -p coder").ends(0);
    assert!(!ran.stdout.contains("Dashboard"), "{ran:?}");
    assert_eq!(env.run("list").stdout, "default down\ncoder ready\n");
    env.run("status --format prometheus")
        .ends(0)
        .says("\nhermes_s6_dashboard_up 1\n")
        .says("\nhermes_s6_dashboard_ready 1\n")
        .says("\nhermes_s6_dashboard_parked 0\n");
    env.run("doctor")
        .says(format!("dashboard: the dashboard is ready: {url}"));
    env.run("logs --dashboard")
        .ends(0)
        .says(format!("HERMES_DASHBOARD_READY port={port}"));
    has(
        &env.out(),
        format!("dashboard: HERMES_DASHBOARD_READY port={port}"),
    );
    assert_eq!(field(&env, "log")["written"], true);
    // A reconcile finds nothing to do.
    env.run("reconcile").ends(0);
    assert_eq!(field(&env, "pid"), pid);
    assert_eq!(tree.stop(), 0);
    env.wait_for("all to end", || env.processes().is_empty());
}

#[test]
fn a_dashboard_is_started_stopped_and_restarted_by_name() {
    let (env, port) = asked();
    let _tree = env.supervise();
    await_state(&env, "ready");
    let first = field(&env, "pid");
    patiently(&env, "start")
        .ends(0)
        .says(format!("dashboard is ready (pid {first}): "));
    patiently(&env, "restart")
        .ends(0)
        .says("dashboard is ready");
    assert_ne!(field(&env, "pid"), first);
    patiently(&env, "stop").ends(0).says("dashboard is down");
    env.run("status")
        .ends(1)
        .says("dashboard wants running, is down: it was told to go down")
        .says(": hermes-s6 start --dashboard\n");
    env.run("status --ready").ends(1);
    // A reconcile does not undo that.
    env.run("reconcile").ends(0);
    assert_eq!(field(&env, "state"), "down");
    let ran = env.run(&[
        "start",
        "--dashboard",
        "--json",
        "--timeout",
        PATIENCE_SECONDS,
    ]);
    let answer: serde_json::Value = serde_json::from_str(&ran.ends(0).stdout).unwrap();
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["dashboard"]["state"], "ready");
    assert_eq!(
        answer["dashboard"]["url"],
        format!("http://127.0.0.1:{port}")
    );
    env.run("start --dashboard -p coder").ends(100);
}

#[test]
fn a_shutdown_ends_the_dashboard_too() {
    let (env, _port) = asked();
    let _tree = env.supervise();
    await_state(&env, "ready");
    env.run("shutdown").ends(0);
    assert_eq!(field(&env, "state"), "down");
    assert!(env.processes_named("python3").is_empty());
}

#[test]
fn a_dashboard_that_refuses_is_parked_after_three_tries_with_what_it_has_said() {
    let (env, _port) = asked();
    env.write(&env.home.join("dashboard"), "1");
    let _tree = env.supervise();
    await_state(&env, "parked");
    assert_eq!(starts(&env), 3);
    let why =
        "crash loop (3 deaths in two minutes): Refusing to bind dashboard to 127.0.0.1: no login";
    env.run("status")
        .ends(1)
        .says(format!("dashboard wants running, is parked: {why}, "))
        .says(": fix it, then hermes-s6 start --dashboard\n");
    env.run("doctor").ends(1).says(why);
    env.run("status --format prometheus")
        .ends(1)
        .says("\nhermes_s6_dashboard_parked 1\n");
    // It has three tries again.
    patiently(&env, "start").ends(1).warns(why);
    assert_eq!(starts(&env), 6);
    fs::remove_file(env.home.join("dashboard")).unwrap();
    patiently(&env, "start").ends(0).says("dashboard is ready");
    env.run("status").ends(0);
}

#[test]
fn a_dashboard_that_cannot_be_configured_is_parked_at_once() {
    let (env, _port) = asked();
    env.write(&env.home.join("dashboard"), "78");
    let _tree = env.supervise();
    await_state(&env, "parked");
    assert_eq!(starts(&env), 1);
    has(
        &field(&env, "reason").to_string(),
        "exit 78 (configuration)",
    );
}

#[test]
fn a_dashboard_that_has_lost_its_supervisor_is_replaced() {
    let (env, _port) = asked();
    let _tree = env.supervise();
    await_state(&env, "ready");
    let first = field(&env, "pid");
    let mut orphan = env.processes_named("python3");
    let orphan = orphan.remove(0);
    assert_eq!(first, orphan.pid);
    env.command("kill")
        .args(["-s", "KILL", &orphan.parent.to_string()])
        .ran()
        .ends(0);
    env.wait_for("another dashboard", || {
        field(&env, "state") == "ready" && field(&env, "pid") != first
    });
    let left = env.processes_named("python3");
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_tree_has_a_dashboard_only_if_one_was_asked_for_when_it_was_started() {
    let (mut env, _port) = asked();
    let tree = env.supervise();
    await_state(&env, "ready");
    assert_eq!(tree.stop(), 0);
    env.variables.clear();
    let tree = env.supervise();
    env.wait_for("the service to go", || {
        !names(&env.scandir).contains(&SERVICE.to_owned())
    });
    assert!(field(&env, "state").is_null());
    let ran = env.run("start --dashboard").ends(1);
    ran.warns("there is no dashboard in this tree: start the container with HERMES_DASHBOARD=1");
    // A single command with the variable does not add one either.
    let asking = |line: &str| env.hermes_s6(line).env("HERMES_DASHBOARD", "1").ran();
    asking("reconcile").ends(0);
    assert!(field(&env, "state").is_null());
    asking("doctor")
        .says("HERMES_DASHBOARD is set, and the tree was started without: start the tree anew");
    assert_eq!(tree.stop(), 0);
}

#[test]
fn what_is_not_understood_is_ignored_with_a_sentence() {
    let (mut env, _port) = asked();
    env.set("HERMES_DASHBOARD_PORT", "all");
    env.run("reconcile")
        .warns("HERMES_DASHBOARD_PORT='all' is ignored: it takes a port, 1 to 65535");
    let run = env.scandir.join(SERVICE).join("run");
    has(&fs::read_to_string(&run).unwrap(), " --port 9119 ");
    env.set("HERMES_DASHBOARD", "perhaps");
    env.run("reconcile")
        .warns("HERMES_DASHBOARD='perhaps' is ignored: it takes 1, true or yes");
    assert!(!run.exists());
    for no in ["0", "false", "no"] {
        env.set("HERMES_DASHBOARD", no);
        env.run("reconcile").ends(0);
        assert!(!run.exists(), "{no}");
    }
}

#[test]
fn the_dashboard_in_roots_tree_runs_as_the_user_of_the_gateways() {
    if !is_root() {
        return skip("only root has a tree of its own for the gateways of another user");
    }
    let (mut env, port) = asked();
    env.set("HERMES_S6_USER", "nobody").profile("default", "");
    chown(&env.place, Some(0), Some(0)).unwrap();
    let mut supervise = env.root_command(programs().join("hermes-s6"));
    supervise.arg("supervise");
    let _tree = env.start(supervise);
    let status = || env.run_as_root("status").stdout;
    env.wait_for("a dashboard", || status().contains("Dashboard: ready"));
    let server = env.processes_named("python3").remove(0);
    assert_eq!(server.uid, NOBODY);
    // That user may control it.
    env.run(&["restart", "--dashboard", "--timeout", PATIENCE_SECONDS])
        .ends(0)
        .says(format!("http://127.0.0.1:{port}"));
    let run = env.scandir.join(SERVICE).join("run");
    chown(&run, Some(NOBODY), None).unwrap();
    let culprit = format!("{} is not root's alone", run.display());
    env.run_as_root("reconcile").ends(100).warns(&culprit);
    env.run_as_root("stop --dashboard")
        .ends(100)
        .warns(&culprit);
}

#[test]
fn a_login_without_an_address_is_found_by_the_start_and_by_doctor() {
    let (mut env, _port) = asked();
    let found = "HERMES_DASHBOARD_HOST is not set, so the dashboard is for this container alone, without a login";
    env.set("HERMES_DASHBOARD_BASIC_AUTH_USERNAME", "admin");
    let ran = env.run("reconcile").ends(0);
    assert_eq!(ran.stderr.matches(found).count(), 1, "{ran:?}");
    let ran = env.run("reconcile").ends(0);
    assert!(!ran.stderr.contains(found), "{ran:?}");
    let _tree = env.supervise();
    await_state(&env, "ready");
    env.run("doctor").ends(1).says(found);
    // Somebody who names the address means it.
    let mut doctor = env.hermes_s6("doctor");
    let ran = doctor.env("HERMES_DASHBOARD_HOST", "127.0.0.1").ran();
    assert!(!ran.stdout.contains(found), "{ran:?}");
}

/// Asks the real dashboard something, and gives the answer.
fn ask(port: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn real() -> Option<(TestEnv, String)> {
    let Ok(hermes) = std::env::var("HERMES_S6_TEST_HERMES") else {
        skip("HERMES_S6_TEST_HERMES does not name the real Hermes");
        return None;
    };
    assert!(Path::new(&hermes).exists(), "{hermes}");
    let (mut env, port) = asked();
    env.set("HERMES_S6_HERMES", &hermes).profile("default", "");
    Some((env, port))
}

#[test]
fn the_real_dashboard_is_ready_when_it_says_so_and_serves() {
    let Some((env, port)) = real() else { return };
    // With this file, Hermes would take the home of that profile for its own.
    env.profile("coder", "");
    env.write(&env.home.join("active_profile"), "coder\n");
    let _tree = env.supervise();
    await_state(&env, "ready");
    env.wait_for("what it says", || {
        log(&env).contains(&format!("HERMES_DASHBOARD_READY port={port}"))
    });
    has(&ask(&port, "/api/status").unwrap(), "\"version\":\"0.19");
    has(&ask(&port, "/").unwrap(), "<html");
    assert!(!log(&env).contains("Routing to"), "{}", log(&env));
    patiently(&env, "stop").ends(0);
    assert!(TcpStream::connect(format!("127.0.0.1:{port}")).is_err());
}

#[test]
fn the_real_dashboard_is_parked_where_others_reach_it_without_a_login() {
    let Some((mut env, _port)) = real() else {
        return;
    };
    env.set("HERMES_DASHBOARD_HOST", "0.0.0.0");
    let _tree = env.supervise();
    await_state(&env, "parked");
    assert_eq!(log(&env).matches("Refusing to bind").count(), 3);
    env.run("status").ends(1).says(
        "is parked: crash loop (3 deaths in two minutes): Refusing to bind dashboard to 0.0.0.0",
    );
}

#[test]
fn the_real_dashboard_has_the_login_of_the_containers_environment() {
    let Some((mut env, port)) = real() else {
        return;
    };
    let secret = env.place.join("secret");
    env.write(&secret, "a good long password\n");
    env.set("HERMES_DASHBOARD_HOST", "0.0.0.0")
        .set("HERMES_DASHBOARD_BASIC_AUTH_USERNAME", "admin")
        .set(
            "HERMES_DASHBOARD_BASIC_AUTH_PASSWORD_FILE",
            secret.to_str().unwrap(),
        );
    let _tree = env.supervise();
    await_state(&env, "ready");
    has(
        &ask(&port, "/api/status").unwrap(),
        "\"auth_required\":true",
    );
}
