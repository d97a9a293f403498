//! One gateway that serves all profiles: when it runs, and what happens where nobody can tell whether there is one.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::{Ran, Run, TestEnv, chmod, has};

/// Three profiles, of which `coder` runs.
fn home() -> TestEnv {
    let env = TestEnv::new();
    env.running("default")
        .running("coder")
        .profile("viewer", "");
    env
}

/// A home in which `default` serves all, and nobody has said anything of it.
fn served(state: &str) -> TestEnv {
    let env = TestEnv::new();
    env.running("coder").profile("viewer", "");
    if !state.is_empty() {
        env.profile("default", state);
    }
    env.write(&env.home.join(".env"), "GATEWAY_MULTIPLEX_PROFILES=true\n");
    env
}

fn reconcile(env: &TestEnv, code: i32) -> Ran {
    env.run("reconcile").ends(code)
}

#[test]
fn a_setting_that_cannot_be_read_is_told_and_leaves_what_runs_as_it_is() {
    let env = home();
    env.write(&env.home.join(".env"), "GATEWAY_MULTIPLEX_PROFILES=true\n");
    let _tree = env.supervise();
    env.await_ready(&["default"]);
    assert_eq!(env.state("coder"), "down", "default serves it");
    // By hand, as an operator may.
    env.run("start -p viewer").ends(0);
    let (default, viewer) = (env.pid("default"), env.pid("viewer"));

    chmod(env.home.join(".env"), 0o000);
    env.running("late");
    let ran = reconcile(&env, 1);
    let text = format!(
        "{}/.env cannot be read: Permission denied: make it readable for the user of the gateways",
        env.home.display()
    );
    ran.warns("profile default: whether this gateway serves all profiles is not known, and the gateways of the others stay as they are: ");
    ran.warns(&text);
    ran.says("profile=default prior_state=running action=unchanged reason=env-unreadable");
    ran.says("profile=late prior_state=running action=registered reason=multiplex-unknown");
    assert_eq!(
        env.state("coder"),
        "down",
        "it is not started a second time"
    );
    assert_eq!(env.state("late"), "down");
    assert_eq!((env.pid("default"), env.pid("viewer")), (default, viewer));
    has(&reconcile(&env, 1).stdout, "reconcile: nothing changed");

    // One line for both, as soon as both have been down for as many seconds.
    let told = format!("coder, late: each wants running, is down: {text}, ");
    env.wait_for(&told, || {
        let status = env.run("status").ends(1);
        status.says(": then hermes-s6 reconcile\n");
        status.stdout.contains(&told)
    });
    let doctor = env.run("doctor").ends(1);
    doctor.says("/.env cannot be read: Permission denied");
    let started = env.run("start --all").ends(1);
    started.warns("gateway-coder stays down here (multiplex-unknown)");
    started.warns(&text);
    assert_eq!(env.state("coder"), "down");
    let named = env.run("start -p coder").ends(0);
    named.warns("profile coder: whether the default profile's gateway serves it is not known: ");
    env.run("stop -p coder").ends(0);

    chmod(env.home.join(".env"), 0o644);
    env.run("status").ends(0);
    reconcile(&env, 0);
    assert_eq!(env.state("coder"), "down", "default serves it, as before");
    assert_eq!((env.pid("default"), env.pid("viewer")), (default, viewer));
}

#[test]
fn what_was_held_back_is_started_when_the_setting_can_be_read() {
    let env = home();
    env.write(&env.home.join("config.yaml"), "multiplex_profiles: false\n");
    chmod(env.home.join("config.yaml"), 0o000);
    let _tree = env.supervise();
    env.await_ready(&["default"]);
    assert_eq!(env.state("coder"), "down");
    chmod(env.home.join("config.yaml"), 0o644);
    let ran = reconcile(&env, 0);
    ran.says("profile=coder prior_state=running action=started\n");
    env.await_ready(&["coder"]);
}

#[test]
fn every_kind_of_file_that_is_no_answer_is_told_by_its_name() {
    let path = |env: &TestEnv, file: &str| env.home.join(file);
    for (file, word) in [
        (".env", "env"),
        ("config.yaml", "config"),
        ("active_profile", "active-profile"),
    ] {
        for kind in ["symlink", "not-a-file", "too-large", "unreadable"] {
            let env = home();
            match kind {
                "symlink" => symlink(file, path(&env, file)).unwrap(),
                "not-a-file" => fs::create_dir(path(&env, file)).unwrap(),
                "too-large" => env.write(&path(&env, file), &"# x\n".repeat(300_000)),
                _ => {
                    env.write(&path(&env, file), "");
                    chmod(path(&env, file), 0o000);
                }
            }
            env.own();
            let ran = reconcile(&env, 1);
            ran.says(format!(
                "profile=default prior_state=running action=started reason={word}-{kind}\n"
            ));
            ran.warns(format!("{}/{file} ", env.home.display()));
            let coder = if word == "active-profile" {
                "profile=coder prior_state=running action=started\n"
            } else {
                "profile=coder prior_state=running action=registered reason=multiplex-unknown\n"
            };
            ran.says(coder);
        }
    }
}

#[test]
fn a_setting_is_read_through_links_as_hermes_reads_it() {
    let secrets = "GATEWAY_MULTIPLEX_PROFILES=true\n";
    let served = "profile=coder prior_state=running action=registered reason=multiplex\n";
    let not_served = "profile=coder prior_state=running action=started\n";
    for (content, expected) in [(Some(secrets), served), (None, not_served)] {
        let env = home();
        let secret = env.place.join("run-secrets");
        fs::create_dir(&secret).unwrap();
        // As Kubernetes mounts a secret: by way of two links.
        symlink(".", secret.join("..data")).unwrap();
        if let Some(content) = content {
            env.write(&secret.join("env"), content);
        }
        symlink(secret.join("..data/env"), env.home.join(".env")).unwrap();
        env.own();
        reconcile(&env, 0).says(expected);
    }
}

#[test]
fn a_configuration_is_read_as_hermes_reads_it() {
    for (yaml, is_served) in [
        ("\u{feff}multiplex_profiles: true\n", true),
        ("\"gateway\": {\"multiplex_profiles\": on}\n", true),
        (
            "multiplex_profiles: false\nmultiplex_profiles: true\n",
            true,
        ),
        ("multiplex_profiles: &no off\n", false),
    ] {
        let env = home();
        env.write(&env.home.join("config.yaml"), yaml);
        let ran = reconcile(&env, 0);
        ran.says(if is_served {
            "profile=coder prior_state=running action=registered reason=multiplex\n"
        } else {
            "profile=coder prior_state=running action=started\n"
        });
    }
}

#[test]
fn a_configuration_that_hermes_cannot_load_counts_as_none_at_a_start_and_changes_nothing_later() {
    let env = home();
    env.write(
        &env.home.join("config.yaml"),
        "multiplex_profiles: true\nx: [\n",
    );
    let ran = env.run("reconcile --dry-run").ends(1);
    ran.says("profile=coder prior_state=running action=started\n");
    ran.warns("/config.yaml is not YAML that Hermes can load: correct it");

    env.write(&env.home.join("config.yaml"), "multiplex_profiles: true\n");
    let _tree = env.supervise();
    env.await_ready(&["default"]);
    env.write(
        &env.home.join("config.yaml"),
        "multiplex_profiles: true\nx: [\n",
    );
    let ran = reconcile(&env, 1);
    ran.warns("/config.yaml is not YAML that Hermes can load: correct it");
    assert_eq!(env.state("coder"), "down", "default has loaded it before");
}

#[test]
fn a_byte_order_mark_that_hides_a_setting_from_some_versions_is_told() {
    let env = home();
    let text = "\u{feff}GATEWAY_MULTIPLEX_PROFILES=true\n";
    env.write(&env.home.join(".env"), text);
    let ran = reconcile(&env, 1);
    ran.warns("/.env begins with a byte-order mark");
    ran.says("profile=coder prior_state=running action=registered reason=multiplex-unknown");
    env.write(
        &env.home.join(".env"),
        &text.replace('\u{feff}', "\u{feff}#\n"),
    );
    reconcile(&env, 0);
}

#[test]
fn a_port_that_cannot_be_read_changes_no_slot_and_is_not_guessed() {
    let env = home();
    env.write(&env.home_of("coder").join(".env"), "API_SERVER_PORT=9500\n");
    let _tree = env.supervise();
    env.await_ready(&["coder"]);
    env.run("port -p coder").is(0, "9500\n", "");
    let before = (
        fs::read_to_string(env.slot("coder").join("env/API_SERVER_PORT")).unwrap(),
        fs::read_to_string(env.home.join(".hermes-s6-ports.json")).unwrap(),
        env.pid("coder"),
    );
    chmod(env.home_of("coder").join(".env"), 0o000);
    let ran = reconcile(&env, 1);
    ran.says("profile=coder prior_state=running action=unchanged reason=env-unreadable\n");
    ran.warns("/profiles/coder/.env cannot be read: Permission denied: make it readable");
    let after = (
        fs::read_to_string(env.slot("coder").join("env/API_SERVER_PORT")).unwrap(),
        fs::read_to_string(env.home.join(".hermes-s6-ports.json")).unwrap(),
        env.pid("coder"),
    );
    assert_eq!(before, after);
    let port = env.run("port -p coder").ends(111);
    port.warns("/profiles/coder/.env cannot be read");
    env.run("status --json").ends(0).says("\"port\":null");
    env.run("doctor")
        .ends(1)
        .says("/profiles/coder/.env cannot be read");
}

#[test]
fn without_a_name_nothing_is_done_if_the_chosen_profile_cannot_be_read() {
    let env = home();
    let _tree = env.supervise();
    env.await_ready(&["default", "coder"]);
    env.write(&env.home.join("active_profile"), "viewer\n");
    chmod(env.home.join("active_profile"), 0o000);
    let pids = (env.pid("default"), env.pid("coder"));
    let intent = env.state_file("default");
    for line in ["stop", "restart", "start", "unregister", "port", "logs"] {
        let ran = env.run(line).ends(111);
        ran.warns("/active_profile cannot be read: Permission denied: make it readable");
        ran.warns("or name the profile with -p");
    }
    assert_eq!((env.pid("default"), env.pid("coder")), pids);
    assert_eq!(env.state_file("default"), intent, "no intent was written");
    env.run("restart -p viewer").ends(0);
    env.run("stop --all").ends(0);
}

#[test]
fn the_gateway_that_serves_all_runs_for_the_one_that_is_to_run() {
    let env = served("");
    let _tree = env.supervise();
    env.await_ready(&["default"]);
    let log = fs::read_to_string(env.home.join("logs/container-boot.log")).unwrap();
    has(
        &log,
        "profile=default prior_state=None action=started reason=serves=coder",
    );
    has(
        &log,
        "profile=coder prior_state=running action=registered reason=multiplex",
    );
    env.run("status").ends(0).says("coder is down: multiplex\n");
    // It counts as missing when it does not run.
    let down = env
        .command("s6-svc")
        .arg("-d")
        .arg(env.slot("default"))
        .ran();
    down.ends(0);
    env.await_state("default", "down");
    env.run("status")
        .ends(1)
        .says("default wants running, is down: it was told to go down");

    // An explicit stop counts, and costs the others.
    env.run("stop -p default").ends(0);
    reconcile(&env, 0);
    assert_eq!(env.state("default"), "down");
    let status = env.run("status").ends(1);
    status
        .says("coder wants running, is down: one gateway serves all profiles, and it was stopped");
    status.says("hermes-s6 start -p default\n");
    let alone = env.run("start -p viewer").ends(0);
    alone.warns("profile viewer: the default profile's gateway, which is to serve it (multiplex_profiles), does not run: its own gateway runs on its own");
    env.run("stop -p viewer").ends(0);
    env.run("start -p default").ends(0);
    env.run("status").ends(0);
}

#[test]
fn a_stop_of_the_gateway_that_serves_all_outlives_a_start_of_the_tree() {
    let env = served(r#"{"desired_state":"stopped"}"#);
    let ran = reconcile(&env, 0);
    ran.says("profile=default prior_state=stopped action=registered\n");
    let env = served(r#"{"gateway_state":"stopped"}"#);
    let ran = reconcile(&env, 0);
    ran.says("profile=default prior_state=stopped action=started reason=serves=coder\n");
}
