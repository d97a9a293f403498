//! The real Hermes Agent, whose program `HERMES_S6_TEST_HERMES` names.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::support::{TestEnv, skip, wait_for};

/// Asks a gateway's API server how it is, and gives the answer with its headers.
fn health(port: &str) -> Option<String> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn log(env: &TestEnv, profile: &str) -> String {
    fs::read_to_string(env.home.join(format!("logs/gateways/{profile}/current")))
        .unwrap_or_default()
}

/// How often a gateway has said in its own log that it was told to end.
fn stops(env: &TestEnv, profile: &str) -> usize {
    let log = fs::read_to_string(env.home_of(profile).join("logs/gateway.log")).unwrap_or_default();
    log.lines()
        .filter(|line| line.contains("SIGTERM") && line.contains("initiating shutdown"))
        .count()
}

#[test]
fn two_real_gateways_answer_on_their_ports_before_and_after_a_stop_of_the_tree() {
    let Ok(hermes) = std::env::var("HERMES_S6_TEST_HERMES") else {
        return skip("HERMES_S6_TEST_HERMES does not name the real Hermes");
    };
    assert!(Path::new(&hermes).exists(), "{hermes}");
    let mut env = TestEnv::new();
    // Hermes slows a sixth start within two minutes down; here nothing shall wait.
    env.set("HERMES_S6_HERMES", &hermes)
        .set("HERMES_GATEWAY_MAX_STARTS", "0");
    // Names whose ports nobody else on this machine uses.
    let free = |name: &String| {
        env.profile(name, "");
        let port = env.run(&["port", "-p", name]).stdout;
        std::fs::remove_dir_all(env.home_of(name)).unwrap();
        TcpListener::bind(format!("127.0.0.1:{}", port.trim())).is_ok()
    };
    let mut names = (0..)
        .map(|number| format!("t{}-{number}", std::process::id()))
        .filter(free);
    let profiles = [names.next().unwrap(), names.next().unwrap()];
    for profile in &profiles {
        let created = env
            .command(&hermes)
            .args(["profile", "create", profile, "--no-alias", "--no-skills"])
            .output()
            .unwrap();
        assert!(created.status.success(), "{created:?}");
        let key = "0123456789abcdef0123456789abcdef";
        env.write(
            &env.home_of(profile).join(".env"),
            &format!("API_SERVER_ENABLED=true\nAPI_SERVER_KEY={key}\n"),
        );
        env.write(
            &env.home_of(profile).join("gateway_state.json"),
            r#"{"desired_state":"running"}"#,
        );
    }
    let ports = profiles
        .each_ref()
        .map(|profile| env.run(&["port", "-p", profile]).stdout.trim().to_owned());
    assert_ne!(ports[0], ports[1]);
    for round in 1..=2 {
        let tree = env.supervise();
        tree.await_watched();
        for (profile, port) in profiles.iter().zip(&ports) {
            wait_for(
                "the slot",
                || env.slot(profile).join("supervise/status").exists(),
                || env.out(),
            );
            let ready = env
                .command("s6-svwait")
                .args(["-U", "-t", "30000"])
                .arg(env.slot(profile))
                .status()
                .unwrap();
            assert!(ready.success(), "{}\n{}", log(&env, profile), env.out());
            assert_eq!(env.state(profile), "ready");
            let answer = health(port).unwrap_or_default();
            assert!(
                answer.starts_with("HTTP/1.") && answer.contains(r#""status": "ok""#),
                "{answer}\n{}",
                log(&env, profile)
            );
        }
        assert_eq!(env.run(&["status"]).code, 0);
        assert_eq!(tree.stop(), 0);
        for profile in &profiles {
            let own = fs::read_to_string(env.home_of(profile).join("logs/gateway.log"))
                .unwrap_or_default();
            assert_eq!(stops(&env, profile), round, "{own}");
            // What the operator wants is on the volume as before.
            let state =
                fs::read_to_string(env.home_of(profile).join("gateway_state.json")).unwrap();
            assert!(state.contains(r#""desired_state":"running""#), "{state}");
        }
        assert!(env.processes().is_empty(), "{:#?}", env.processes());
    }
    let boot = fs::read_to_string(env.home.join("logs/container-boot.log")).unwrap();
    assert_eq!(
        boot.matches(&format!(
            "profile={} prior_state=running action=started",
            profiles[0]
        ))
        .count(),
        2,
        "{boot}"
    );
}
