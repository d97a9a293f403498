//! The real Hermes Agent that is in the image.

use super::Container;

/// Asks the API server of a gateway in a container how it is.
fn health(container: &Container, port: &str) -> String {
    let ask = format!(
        "import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}/health', timeout=5).read().decode())"
    );
    container.exec_as("hermes", &["python3", "-c", &ask]).stdout
}

#[test]
fn what_hermes_does_for_root_is_hermes() {
    volume!(volume, "profile default");
    let container = volume.begin(&[], &[]);
    let create = "hermes profile create made --no-alias --no-skills";
    container.exec(create).ends(0);
    assert_eq!(container.sh("find /opt/data ! -user hermes"), "");
    container.sh("test -d /opt/data/profiles/made");
}

#[test]
fn the_dashboard_serves_and_starts_no_gateway() {
    volume!(volume, "profile default running; profile coder running");
    let container = volume.start(&[], &["dashboard", "--no-open"]);
    container.wait_for("the dashboard", || {
        container.said().contains("HERMES_DASHBOARD_READY")
    });
    container.await_tree();
    container.await_states("down", &["default", "coder"]);
    let status = container.hermes_s6("status");
    assert!(status.contains("role=dashboard"), "{status}");
    assert_eq!(container.stop(), 0);
    assert_eq!(
        container.count("default", "start") + container.count("coder", "start"),
        0
    );
}

#[test]
fn two_real_gateways_answer_on_their_ports_before_and_after_a_restart() {
    let prepare = "for name in default coder; do
          profile $name running
          printf 'API_SERVER_ENABLED=true\\nAPI_SERVER_KEY=0123456789abcdef0123456789abcdef\\n' \\
            >\"$(home $name)/.env\"
        done";
    volume!(volume, prepare);
    // Hermes slows a sixth start within two minutes down; here nothing shall wait.
    let real = [
        "--env=HERMES_S6_HERMES=/opt/hermes/.venv/bin/hermes",
        "--env=HERMES_GATEWAY_MAX_STARTS=0",
    ];
    let container = volume.start(&real, &[]);
    for round in 1..=2 {
        container.await_states("ready", &["default", "coder"]);
        let ports = ["default", "coder"].map(|profile| {
            let port = container.hermes_s6(&format!("port -p {profile}"));
            port.trim().to_owned()
        });
        assert_ne!(ports[0], ports[1]);
        for port in &ports {
            let answer = health(&container, port);
            assert!(
                answer.contains(r#""status": "ok""#),
                "{round} {port} {answer}\n{}",
                container.explain()
            );
        }
        container.hermes_s6("status");
        if round == 1 {
            container.restart();
        }
    }
    assert_eq!(container.stop(), 0);
    let strangers = volume.script("0", "find /opt/data ! -user 10000");
    assert_eq!(strangers, "");
}
