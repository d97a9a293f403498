//! The real Hermes Agent, whose program `HERMES_S6_TEST_HERMES` names.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{PATIENCE, PATIENCE_SECONDS, Run, TestEnv, skip};

/// Asks a gateway's API server how it is, and gives the answer with its headers.
fn health(port: &str) -> Option<String> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// What a gateway has said in its own log.
fn log(env: &TestEnv, profile: &str) -> String {
    fs::read_to_string(env.home_of(profile).join("logs/gateway.log")).unwrap_or_default()
}

/// How often it was told to end.
fn stops(env: &TestEnv, profile: &str) -> usize {
    let log = log(env, profile);
    let lines = log.lines().filter(|line| line.contains("SIGTERM"));
    let stops = lines.filter(|line| line.contains("initiating shutdown"));
    stops.count()
}

/// Waits until a gateway handles signals, which is a while after it has told that it runs.
fn await_serving(env: &TestEnv, profile: &str, starts: usize) {
    let serves = "Gateway housekeeping started";
    env.wait_for("the gateway to serve", || {
        log(env, profile).matches(serves).count() == starts
    });
}

/// A home with two profiles that the real Hermes has made, with API servers on free ports.
struct Real {
    env: TestEnv,
    profiles: [String; 2],
    ports: [String; 2],
    /// What keeps other tests, in whichever process, from taking the same ports.
    _claims: [UnixListener; 2],
}

fn real() -> Option<Real> {
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
        .set("HERMES_GATEWAY_MAX_STARTS", "0")
        .set("HERMES_S6_STOP_TIMEOUT", PATIENCE_SECONDS);
    let test = TESTS.fetch_add(1, Ordering::Relaxed);
    // Names whose ports nobody else on this machine uses.
    let free = |number: u32| {
        let name = format!("t{}-{test}-{number}", std::process::id());
        env.profile(&name, "");
        let port = env.run(&["port", "-p", &name]).stdout.trim().to_owned();
        fs::remove_dir_all(env.home_of(&name)).unwrap();
        let claim = SocketAddr::from_abstract_name(format!("hermes-s6-test-port-{port}")).unwrap();
        let claim = UnixListener::bind_addr(&claim).ok()?;
        TcpListener::bind(format!("127.0.0.1:{port}")).ok()?;
        Some((name, port, claim))
    };
    let mut free = (0..).filter_map(free);
    let [one, two] = [free.next().unwrap(), free.next().unwrap()];
    drop(free);
    let profiles = [one.0, two.0];
    for profile in &profiles {
        let mut create = env.command(&hermes);
        create.args(["profile", "create", profile, "--no-alias", "--no-skills"]);
        create.ran().ends(0);
        let key = "0123456789abcdef0123456789abcdef";
        env.write(
            &env.home_of(profile).join(".env"),
            &format!("API_SERVER_ENABLED=true\nAPI_SERVER_KEY={key}\n"),
        );
    }
    Some(Real {
        env,
        profiles,
        ports: [one.1, two.1],
        _claims: [one.2, two.2],
    })
}

#[test]
fn two_real_gateways_answer_on_their_ports_before_and_after_a_stop_of_the_tree() {
    let Some(real) = real() else { return };
    let (env, profiles) = (&real.env, &real.profiles);
    for profile in profiles {
        env.write(
            &env.home_of(profile).join("gateway_state.json"),
            r#"{"desired_state":"running"}"#,
        );
    }
    for round in 1..=2 {
        let tree = env.supervise();
        for (profile, port) in profiles.iter().zip(&real.ports) {
            env.await_state(profile, "ready");
            // s6 itself knows that it is ready.
            let mut svstat = env.command("s6-svstat");
            let svstat = svstat.args(["-o", "ready"]).arg(env.slot(profile));
            svstat.ran().is(0, "true\n", "");
            let answer = health(port).unwrap_or_default();
            assert!(
                answer.starts_with("HTTP/1.") && answer.contains(r#""status": "ok""#),
                "{answer}\n{}",
                log(env, profile)
            );
            await_serving(env, profile, round);
        }
        env.run("status").ends(0);
        assert_eq!(tree.stop(), 0);
        for profile in profiles {
            assert_eq!(stops(env, profile), round, "{}", log(env, profile));
            // What the operator wants is on the volume as before.
            let state = env.state_file(profile);
            assert!(state.contains(r#""desired_state":"running""#), "{state}");
        }
        assert!(env.processes().is_empty(), "{:#?}", env.processes());
    }
    let boot = fs::read_to_string(env.home.join("logs/container-boot.log")).unwrap();
    let started = format!("profile={} prior_state=running action=started", profiles[0]);
    assert_eq!(boot.matches(&started).count(), 2, "{boot}");
}

#[test]
fn a_real_gateway_is_started_restarted_and_stopped_and_told_why() {
    let Some(real) = real() else { return };
    let (env, coder, port) = (&real.env, &real.profiles[0], &real.ports[0]);
    let _tree = env.supervise();
    let run = |line: &str, said: &str| {
        let ran = env.run(&*format!("{line} -p {coder}"));
        assert_eq!(ran.code, 0, "{line} {ran:?}\n{}", log(env, coder));
        ran.says(said);
    };
    let start = format!("start --timeout {PATIENCE_SECONDS}");
    let restart = format!("re{start}");
    run(&start, "is ready (pid");
    assert!(health(port).unwrap_or_default().contains("ok"));
    await_serving(env, coder, 1);
    let before = env.pid(coder);
    run(&restart, "is ready (pid");
    assert_ne!(env.pid(coder), before);
    assert!(health(port).unwrap_or_default().contains("ok"));
    assert_eq!(stops(env, coder), 1);
    await_serving(env, coder, 2);
    // What Hermes has written into its state file is still there beside what we have.
    let state = || serde_json::from_str::<serde_json::Value>(&env.state_file(coder)).unwrap();
    assert_eq!(state()["pid"], env.pid(coder));
    assert_eq!(state()["desired_state"], "running");
    run("stop", "is down (");
    assert_eq!(state()["desired_state"], "stopped");
    assert_eq!(state()["kind"], "hermes-gateway");
    let announcement = env.home_of(coder).join(".gateway-planned-stop.json");
    assert!(!announcement.exists());
    let own = log(env, coder);
    assert!(
        own.contains("planned"),
        "it was told that this is on purpose: {own}"
    );
    run(&restart, "is ready (pid");
    run("unregister", "is unregistered");
    assert!(health(port).is_none());
}
