//! The dashboard beside the gateways of a container: the real Hermes Agent, with what its page asks of it.

use super::bridge::{PYTHON, processes};
use super::{Container, docker_ok};
use crate::support::{has, wait_for};

/// Real gateways, and a token with which the page talks to its server.
const REAL: [&str; 4] = [
    "--env=HERMES_DASHBOARD=1",
    "--env=HERMES_S6_HERMES=/opt/hermes/.venv/bin/hermes",
    "--env=HERMES_GATEWAY_MAX_STARTS=0",
    "--env=HERMES_DASHBOARD_SESSION_TOKEN=of-the-test",
];

/// Asks the dashboard, and gives its answer.
fn ask(container: &Container, method: &str, path: &str) -> serde_json::Value {
    let code = format!(
        "import urllib.request as r
to = r.Request('http://127.0.0.1:9119{path}', method='{method}', headers={{'X-Hermes-Session-Token': 'of-the-test'}})
print(r.urlopen(to, timeout=60).read().decode())"
    );
    let ran = container.exec_as("hermes", &[PYTHON, "-c", &code]);
    assert_eq!(ran.code, 0, "{path}: {ran:?}\n{}", container.explain());
    serde_json::from_str(&ran.stdout).unwrap()
}

fn await_dashboard(container: &Container) {
    container.wait_for("the dashboard", || {
        let status = container.exec_as("hermes", "hermes-s6 status").stdout;
        status.contains("\nDashboard: ready, ")
    });
}

#[test]
fn the_dashboard_runs_as_hermes_beside_the_gateways_and_ends_with_the_container() {
    volume!(volume, "profile default; profile coder running");
    let container = volume.start(&REAL, &["gateway", "run"]);
    container.await_states("ready", &["default", "coder"]);
    await_dashboard(&container);
    let said = container.said();
    has(&said, "dashboard: HERMES_DASHBOARD_READY port=9119");
    container.hermes_s6("doctor");
    // As it is looked for in the original image, by people and by Hermes itself.
    let server = processes(&container, "hermes dashboard ").remove(0);
    let pid = server.split_whitespace().next().unwrap();
    let ran = container.exec_as("hermes", "hermes dashboard --status");
    ran.ends(0).says("1 hermes dashboard process(es) running:");
    let owner = docker_ok(&["top", &container.name, "-o", "pid,uid", "-p", pid]);
    has(&owner, " 10000\n");
    assert_eq!(container.stop(), 0);
    let log = volume.script("0", "cat /opt/data/logs/dashboard/current");
    has(&log, "HERMES_DASHBOARD_READY port=9119");
    assert_eq!(volume.script("0", "find /opt/data ! -user 10000"), "");
}

#[test]
fn a_container_whose_command_is_a_dashboard_has_no_other_one() {
    volume!(volume, "profile default");
    let container = volume.start(&REAL, &["dashboard", "--no-open"]);
    container.wait_for("the dashboard", || {
        container.said().contains("HERMES_DASHBOARD_READY")
    });
    container.await_tree();
    let said = container.said();
    let left_out = "HERMES_DASHBOARD is left out, since the container's command is dashboard";
    assert_eq!(said.matches(left_out).count(), 1, "{said}");
    let ran = container.exec_as("hermes", "hermes-s6 doctor");
    ran.says(format!("dashboard: {left_out}"));
    assert_eq!(
        container.sh("ls /run/hermes-s6/service | grep -c dash || true"),
        "0\n"
    );
}

#[test]
fn what_the_page_shows_and_does_is_of_the_profile_that_it_is_about() {
    volume!(
        volume,
        "profile default; profile coder running; profile viewer; echo viewer >/opt/data/active_profile"
    );
    let container = volume.start(&REAL, &[]);
    container.await_states("ready", &["coder"]);
    await_dashboard(&container);
    let runs = |query: &str| {
        ask(&container, "GET", &format!("/api/status{query}"))["gateway_running"].clone()
    };
    // Its pid file comes when it has told that it runs.
    wait_for(
        "coder to be seen",
        || runs("?profile=coder") == true,
        || container.explain(),
    );
    for (query, expected) in [
        ("", false),
        ("?profile=default", false),
        ("?profile=coder", true),
        ("?profile=viewer", false),
    ] {
        assert_eq!(runs(query), expected, "{query}");
    }
    // The switcher on default, and on the dashboard's own profile: not the active one, which is viewer.
    ask(&container, "POST", "/api/gateway/start?profile=default");
    container.await_states("ready", &["default"]);
    container.await_states("down", &["viewer"]);
    ask(&container, "POST", "/api/gateway/stop");
    container.await_states("down", &["default", "viewer"]);
    container.await_states("ready", &["coder"]);
    ask(&container, "POST", "/api/gateway/stop?profile=coder");
    container.await_states("down", &["coder"]);
    let state = volume.script("0", "cat /opt/data/profiles/coder/gateway_state.json");
    has(&state, r#""desired_state":"stopped""#);
    ask(&container, "POST", "/api/gateway/restart?profile=viewer");
    container.await_states("ready", &["viewer"]);
    container.await_states("down", &["default", "coder"]);
}

#[test]
fn a_backup_brings_profiles_and_intents_to_a_new_volume() {
    volume!(
        old,
        "profile default; profile coder running; profile writer running gateway_state
        profile viewer stopped; touch /opt/data/config.yaml
        for name in coder writer viewer; do touch \"$(home $name)/config.yaml\"; done"
    );
    let container = old.start(&REAL[1..], &[]);
    container.await_states("ready", &["coder", "writer"]);
    container
        .exec("hermes backup --output /opt/data/backup.zip")
        .ends(0);
    let copy = format!("/tmp/{}.zip", container.name);
    docker_ok(&[
        "cp",
        &format!("{}:/opt/data/backup.zip", container.name),
        &copy,
    ]);
    volume!(new, "profile default");
    let container = new.start(&REAL[1..], &[]);
    container.await_states("down", &["default"]);
    docker_ok(&["cp", &copy, &format!("{}:/tmp/backup.zip", container.name)]);
    std::fs::remove_file(copy).unwrap();
    let ran = container
        .exec("hermes import --force /tmp/backup.zip")
        .ends(0);
    ran.says("Gateways, as hermes-s6 list shows them:\n  default down\n  coder ");
    container.await_states("ready", &["coder", "writer"]);
    container.await_states("down", &["default", "viewer"]);
    let status = container.hermes_s6("status --json");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let rows = status["profiles"].as_array().unwrap().iter();
    let intents: Vec<String> = rows
        .map(|row| format!("{} {}", row["profile"], row["intent"]))
        .collect();
    assert_eq!(
        intents,
        [
            "\"default\" null",
            "\"coder\" \"running\"",
            "\"viewer\" \"stopped\"",
            "\"writer\" \"running\""
        ]
    );
    // What an operator has said here counts more than a backup.
    container.hermes_s6("stop -p coder");
    container
        .exec("hermes import --force /tmp/backup.zip")
        .ends(0);
    container.await_states("down", &["coder"]);
}
