//! Exit codes and messages, word for word.

use std::fs;
use std::process::Stdio;

use crate::support::{TestEnv, begins, chmod, has, programs};

/// Runs a command and checks how it ends and what it says on stderr.
fn expect(env: &TestEnv, arguments: &[&str], code: i32, stderr: &str) {
    let ran = env.run(arguments);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (code, stderr),
        "{arguments:?}"
    );
}

#[test]
fn usage_errors_are_one_line_and_100() {
    let env = TestEnv::new();
    for (arguments, message) in [
        (&[][..], "no command is given"),
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (&["status", "--frob"], "unexpected argument '--frob' found"),
        (
            &["supervise", "-d", "x"],
            "invalid value 'x' for '--notification-fd <FD>': invalid digit found in string",
        ),
        (
            &["port", "-p", "Foo"],
            "invalid value 'Foo' for '--profile <NAME>': 'Foo' is not a profile name: use 1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit",
        ),
        (
            &["port", "-p", "root"],
            "invalid value 'root' for '--profile <NAME>': the name 'root' is reserved by Hermes: choose another name",
        ),
    ] {
        expect(
            &env,
            arguments,
            100,
            &format!("hermes-s6: fatal: {message}: see hermes-s6 --help\n"),
        );
    }
}

#[test]
fn a_profile_without_its_option_is_told_the_option() {
    let env = TestEnv::new();
    for (arguments, remedy) in [
        (&["start", "coder"][..], "name a profile with -p coder"),
        (
            &["status", "--json", "coder"],
            "name a profile with -p coder",
        ),
        (
            &["logs", "-n", "5", "start"],
            "name a profile with -p start",
        ),
        // With -p, it would be wrong all the same.
        (&["start", "Coder"], "see hermes-s6 --help"),
        (&["start", "--all", "coder"], "see hermes-s6 --help"),
        (&["reconcile", "coder"], "see hermes-s6 --help"),
        (&["stop", "coder", "viewer"], "see hermes-s6 --help"),
    ] {
        let ran = env.run(arguments).ends(100);
        let end = format!("' found: {remedy}\n");
        assert!(ran.stderr.ends_with(&end), "{arguments:?} {ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    }
}

#[test]
fn help_and_version_go_to_stdout_and_0() {
    let env = TestEnv::new();
    for arguments in [&["--help"][..], &["reconcile", "--help"], &["-V"]] {
        let ran = env.run(arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(!ran.stdout.is_empty(), "{arguments:?}");
    }
    for command in [
        "render",
        "reconcile",
        "supervise",
        "detect",
        "status",
        "list",
        "port",
    ] {
        let ran = env.run(&[command, "--help"]);
        assert!(
            ran.stdout.contains("\nExample"),
            "{command}: {}",
            ran.stdout
        );
    }
}

#[test]
fn a_path_must_be_absolute() {
    let env = TestEnv::new();
    let remedy = "give a path that begins with / and has no .. in it, in UTF-8";
    for (option, path) in [("--home", "data"), ("--scandir", "/run/../etc")] {
        let message =
            format!("hermes-s6: fatal: {option} '{path}' is not a plain absolute path: {remedy}\n");
        expect(&env, &["reconcile", option, path], 100, &message);
    }
}

#[test]
fn without_s6_it_says_what_to_install_and_127() {
    let mut env = TestEnv::new();
    let empty = env.place.to_str().unwrap().to_owned();
    env.set("PATH", &empty);
    let remedy = "install s6 and execline, or name their directory with HERMES_S6_BINDIR";
    let message =
        format!("hermes-s6: fatal: unable to find s6-svscan in /command or PATH: {remedy}\n");
    expect(&env, &["reconcile"], 127, &message);
    env.set("HERMES_S6_BINDIR", &empty);
    expect(
        &env,
        &["supervise"],
        127,
        &message.replace("/command or PATH", &empty),
    );
    // What only looks needs no s6.
    env.run("detect").ends(1);
    env.run("status").ends(102);
}

#[test]
fn without_a_home_it_names_the_variable_and_111() {
    let mut env = TestEnv::new();
    env.home = env.place.join("nowhere");
    let place = env.home.display();
    let message = format!(
        "hermes-s6: fatal: unable to open {place}: No such file or directory: name the data directory of Hermes with --home or HERMES_HOME\n"
    );
    expect(&env, &["reconcile"], 111, &message);
    expect(&env, &["supervise"], 111, &message);
}

#[test]
fn without_a_tree_status_and_list_say_so_and_102() {
    let env = TestEnv::new();
    let place = env.scandir.display();
    let message = format!(
        "hermes-s6: fatal: nothing is supervised here: there is no {place}: start the tree with hermes-s6 supervise, or name its directory with --scandir\n"
    );
    expect(&env, &["status"], 102, &message);
    expect(&env, &["list"], 102, &message);
    let detected = env.run("detect");
    assert_eq!(
        (detected.code, detected.stdout),
        (1, format!("none: there is no scan directory {place}\n"))
    );
}

#[test]
fn a_scan_directory_that_cannot_be_made_has_a_remedy_and_111() {
    let env = TestEnv::new();
    for command in ["reconcile", "supervise"] {
        let message = "hermes-s6: fatal: unable to create /proc/x/service: No such file or directory: choose a directory of yours with --scandir or HERMES_S6_SCANDIR\n";
        expect(
            &env,
            &[command, "--scandir", "/proc/x/service"],
            111,
            message,
        );
    }
}

#[test]
fn a_scan_directory_at_a_place_that_cannot_be_used_has_a_remedy_and_111() {
    let env = TestEnv::new();
    let file = env.place.join("file");
    env.write(&file, "");
    let closed = env.place.join("closed");
    fs::create_dir(&closed).unwrap();
    env.own();
    chmod(&closed, 0);
    let within = closed.join("service");
    let remedy = "choose a directory of yours with --scandir or HERMES_S6_SCANDIR";
    for (place, cause, commands) in [
        (
            &file,
            "Not a directory",
            &["reconcile", "supervise", "status", "list", "start"][..],
        ),
        (
            &within,
            "Permission denied",
            &["reconcile", "status", "stop", "doctor"],
        ),
    ] {
        let place = place.to_str().unwrap();
        for command in commands {
            let ran = env.run(&[command, "--scandir", place]);
            let (code, said) = match *command {
                "doctor" => (1, ran.stdout),
                _ => (111, ran.stderr),
            };
            assert_eq!(ran.code, code, "{command} {said}");
            has(&said, format!(" {place}: {cause}: {remedy}\n"));
        }
    }
}

#[test]
fn a_path_with_a_line_break_is_said_in_one_line() {
    let mut env = TestEnv::new();
    env.home = env.place.join("ho\nme");
    env.scandir = env.place.join("scan\ndir");
    fs::create_dir(&env.home).unwrap();
    env.running("default").run("detect").ends(1);
    let place = env.place.display();
    env.run("reconcile").is(
        0,
        "reconcile: profile=default prior_state=running action=started\nreconcile: 1 changed\n",
        "",
    );
    let reason = format!("none: no s6-svscan watches {place}/scan\\ndir, and PID 1 is ");
    let detected = env.run("detect").ends(1);
    begins(&detected.stdout, &reason);
    assert_eq!(detected.stdout.lines().count(), 1, "{detected:?}");
    let shown = env.run("status").ends(1);
    begins(&shown.stdout, format!("Manager: {reason}"));
    shown.says(format!(
        "no s6-svscan watches {place}/scan\\ndir: hermes-s6 supervise\n"
    ));
    assert_eq!(shown.stdout.lines().count(), 6, "{shown:?}");
    let _tree = env.supervise();
    env.await_state("default", "ready");
    env.run("status").ends(0);
    env.run("doctor")
        .says(format!("watches {place}/scan\\ndir\n"));
}

#[test]
fn a_home_that_may_not_be_read_is_told_with_a_remedy() {
    let env = TestEnv::new();
    env.running("coder").run("reconcile").ends(0);
    let home = env.home_of("coder");
    chmod(&home, 0);
    let text = format!(
        "unable to open {}: Permission denied: make it readable for the user of the gateways\n",
        home.display()
    );
    env.run("reconcile")
        .ends(1)
        .warns(format!("profile coder: {text}"));
    env.run("port -p coder").ends(111).warns(&text);
    env.run("status").ends(1).says(&text);
    env.run("doctor").ends(1).says(&text);
}

#[test]
fn a_scan_directory_of_another_home_is_left_alone_and_100() {
    let env = TestEnv::new();
    env.running("coder");
    env.run("reconcile").ends(0);
    let other = env.place.join("other");
    fs::create_dir(&other).unwrap();
    env.own();
    let message = format!(
        "hermes-s6: fatal: {} has the gateways of {}, not of {}: name that data directory with --home, or another scan directory with --scandir\n",
        env.scandir.display(),
        env.home.display(),
        other.display()
    );
    for command in [
        &["reconcile"][..],
        &["reconcile", "--dry-run"],
        &["supervise"],
    ] {
        let arguments = [command, &["--home", other.to_str().unwrap()]].concat();
        expect(&env, &arguments, 100, &message);
    }
    assert!(env.slot("coder").is_dir());
}

#[test]
fn a_profile_that_does_not_exist_is_100() {
    let env = TestEnv::new();
    let message = "hermes-s6: fatal: profile coder does not exist: create it with hermes profile create coder\n";
    expect(&env, &["render", "-p", "coder"], 100, message);
    expect(&env, &["port", "-p", "coder"], 100, message);
    env.run("reconcile").ends(0);
    expect(&env, &["status", "-p", "coder"], 100, message);
}

#[test]
fn without_a_name_the_profile_is_that_of_hermes_home_then_the_active_one_then_default() {
    let mut env = TestEnv::new();
    env.running("coder").running("viewer");
    let port = |env: &TestEnv, arguments: &[&str]| env.run(arguments).stdout;
    assert_eq!(port(&env, &["port"]), "8642\n");
    env.write(&env.home.join("active_profile"), "viewer\n");
    assert_eq!(port(&env, &["port"]), port(&env, &["port", "-p", "viewer"]));
    let supervised = env.variables.clone();
    env.set("HERMES_S6_SUPERVISED_CHILD", "1");
    assert_eq!(port(&env, &["port"]), "8642\n");
    env.variables = supervised;
    env.home = env.home.join("profiles/coder");
    assert_eq!(port(&env, &["port"]), port(&env, &["port", "-p", "coder"]));
}

#[test]
fn values_that_are_not_understood_are_told_and_ignored() {
    let mut env = TestEnv::new();
    env.set("HERMES_S6_STOP_TIMEOUT", "soon")
        .set("HERMES_S6_AUTOSTART", "perhaps")
        .set("HERMES_GATEWAY_BOOTSTRAP_STATE", "x")
        .set("HERMES_S6_PORTS", "9799-9200");
    let ran = env.run("reconcile --dry-run");
    let expected =
        "hermes-s6: warning: HERMES_S6_STOP_TIMEOUT='soon' is ignored: it takes 1 to 86400 seconds
hermes-s6: warning: HERMES_S6_AUTOSTART='perhaps' is ignored: it takes always or never
hermes-s6: warning: HERMES_GATEWAY_BOOTSTRAP_STATE='x' is ignored: it takes running
hermes-s6: warning: HERMES_S6_PORTS='9799-9200' is ignored: it takes a range of ports such as 9200-9799, within 1024-65535
";
    assert_eq!((ran.code, ran.stderr.as_str()), (0, expected));
}

#[test]
fn render_shows_every_file_and_writes_none_unless_told() {
    let env = TestEnv::new();
    env.running("coder");
    let shown = env.run("render -p coder").ends(0);
    for file in [
        "run (0755)",
        "finish (0755)",
        "log/run (0755)",
        "data/check (0755)",
        "timeout-kill (0644)",
        "type (0644)",
    ] {
        assert!(
            shown
                .stdout
                .contains(&format!("==> gateway-coder/{file} <==\n")),
            "{file}"
        );
    }
    assert!(!env.scandir.exists());
    let out = env.place.to_str().unwrap();
    let written = env.run(&["render", "-p", "coder", "--out", out]);
    assert_eq!(
        (written.code, written.stdout),
        (0, format!("{out}/gateway-coder\n"))
    );
    let message = format!(
        "hermes-s6: fatal: {out}/gateway-coder is already there: remove it, or name another directory with --out\n"
    );
    expect(
        &env,
        &["render", "-p", "coder", "--out", out],
        100,
        &message,
    );
}

#[test]
fn a_dry_run_says_what_the_run_does_and_does_nothing() {
    let env = TestEnv::new();
    env.running("coder").profile("viewer", "");
    let dry = env.run("reconcile --dry-run");
    assert!(!env.scandir.exists() && !env.home.join("logs").exists());
    let real = env.run("reconcile");
    assert_eq!(dry.stdout.replace("would change", "changed"), real.stdout);
    assert_eq!(
        real.stdout,
        "reconcile: profile=default prior_state=None action=registered
reconcile: profile=coder prior_state=running action=started
reconcile: profile=viewer prior_state=None action=registered
reconcile: 3 changed
"
    );
}

#[test]
fn json_is_one_object_with_a_version() {
    let env = TestEnv::new();
    env.running("coder");
    let ran = env.run("reconcile --json");
    assert_eq!(
        ran.stdout,
        r#"{"version":1,"dry_run":false,"changed":true,"changes":[{"profile":"default","prior_state":null,"action":"registered","reason":null,"warning":null},{"profile":"coder","prior_state":"running","action":"started","reason":null,"warning":null}],"adopted":[],"failures":[]}
"#
    );
    let status: serde_json::Value = serde_json::from_str(&env.run("status --json").stdout).unwrap();
    assert_eq!(
        (status["version"].as_u64(), status["manager"].as_str()),
        (Some(1), Some("none"))
    );
    assert_eq!(status["profiles"][1]["profile"], "coder");
    assert_eq!(status["profiles"][1]["state"], "unsupervised");
}

#[test]
fn nobody_to_read_the_messages_stops_no_tree() {
    let env = TestEnv::new();
    env.running("coder");
    let supervise = format!(
        "exec {} supervise 2> >(exec true)",
        programs().join("hermes-s6").display()
    );
    let mut command = env.command("bash");
    command.args(["-c", &supervise]);
    let _tree = env.start(command);
    env.await_state("coder", "ready");
}

#[test]
fn a_reader_who_goes_away_is_no_error() {
    let env = TestEnv::new();
    let mut command = env.command(programs().join("hermes-s6"));
    let mut child = command
        .arg("--help")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
