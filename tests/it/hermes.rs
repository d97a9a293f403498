//! The real Hermes Agent, whose program `HERMES_S6_TEST_HERMES` names.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
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

/// A home with two profiles that the real Hermes has made, with API servers on free ports.
fn real() -> Option<(TestEnv, [String; 2])> {
    // No two tests take the same names.
    static TESTS: AtomicU32 = AtomicU32::new(0);
    let Ok(hermes) = std::env::var("HERMES_S6_TEST_HERMES") else {
        skip("HERMES_S6_TEST_HERMES does not name the real Hermes");
        return None;
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
    let test = TESTS.fetch_add(1, Ordering::Relaxed);
    let mut names = (0..)
        .map(|number| format!("t{}-{test}-{number}", std::process::id()))
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
    }
    Some((env, profiles))
}

#[test]
fn two_real_gateways_answer_on_their_ports_before_and_after_a_stop_of_the_tree() {
    let Some((env, profiles)) = real() else {
        return;
    };
    for profile in &profiles {
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

#[test]
fn a_real_gateway_is_started_restarted_and_stopped_and_told_why() {
    let Some((env, [coder, _])) = real() else {
        return;
    };
    let tree = env.supervise();
    tree.await_watched();
    let run = |words: &[&str]| {
        let ran = env.run(&[words, &["-p", &coder]].concat());
        assert_eq!(ran.code, 0, "{words:?} {ran:?}\n{}", log(&env, &coder));
        ran.stdout
    };
    let port = run(&["port"]).trim().to_owned();
    assert!(run(&["start"]).contains("is ready (pid"));
    assert!(health(&port).unwrap_or_default().contains("ok"));
    let before = env.pid(&coder);
    std::thread::sleep(Duration::from_millis(1100));
    assert!(run(&["restart"]).contains("is ready (pid"));
    assert_ne!(env.pid(&coder), before);
    assert!(health(&port).unwrap_or_default().contains("ok"));
    assert_eq!(stops(&env, &coder), 1);
    // What Hermes has written into its state file is still there beside what we have.
    let state = || {
        let text = fs::read(env.home_of(&coder).join("gateway_state.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()
    };
    assert_eq!(state()["pid"], env.pid(&coder));
    assert_eq!(state()["desired_state"], "running");
    assert!(run(&["stop"]).contains("is down ("));
    assert_eq!(state()["desired_state"], "stopped");
    assert_eq!(state()["kind"], "hermes-gateway");
    assert!(
        !env.home_of(&coder)
            .join(".gateway-planned-stop.json")
            .exists()
    );
    let own = fs::read_to_string(env.home_of(&coder).join("logs/gateway.log")).unwrap();
    assert!(
        own.contains("planned"),
        "it was told that this is on purpose: {own}"
    );
    assert!(run(&["restart"]).contains("is ready (pid"));
    assert!(run(&["unregister"]).contains("is unregistered"));
    assert!(health(&port).is_none());
}
