//! The container's command: its user, environment, streams and end, and `gateway run`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{Container, TREE, Volume, name, only_ours};
use crate::support::{Ran, skip, wait_for};

/// A PATH with nothing in it, and a stand-in that does not depend on it.
const NO_PATH: [&str; 2] = [
    "--env=PATH=/nonexistent",
    "--env=HERMES_S6_HERMES=/opt/data/gateway",
];
const WITHOUT_PATH: &str = r#"
    printf '#!/bin/sh\nPATH=/usr/bin:/bin exec /stand-in/hermes "$@"\n' >/opt/data/gateway
    chmod 755 /opt/data/gateway"#;

#[test]
fn orphans_are_reaped() {
    volume!(volume);
    let container = volume.begin(&[], &[]);
    let orphan = container.sh("sleep 3600 >/dev/null 2>&1 & echo $!");
    let orphan = orphan.trim();
    let stat = format!("cat /proc/{orphan}/stat");
    let stat = || container.exec(&*stat).stdout;
    container.wait_for("PID 1 to adopt it", || stat().contains("(sleep) S 1 "));
    container.sh(&format!("kill {orphan}"));
    container.wait_for("the orphan to be reaped", || stat().is_empty());
}

#[test]
fn a_command_has_the_containers_streams_and_its_exit_code_is_the_containers() {
    volume!(volume);
    for (script, code) in [
        ("echo hi; exit 7", 7),
        ("echo hi", 0),
        ("echo hi; kill -KILL $$", 137),
    ] {
        let ran = volume.run(&[], &["sh", "-c", script]);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, "hi\n"), "{ran:?}");
        ran.warns("profile=default prior_state=None");
    }
    let ran = volume.run(&[], &["sh", "-c", "echo hi; echo oh >&2"]);
    assert_eq!(ran.stdout, "hi\n");
    ran.warns("\noh\n");
    // Programs that are there can be named by path, and those that cannot run are said to be so.
    let ran = volume.run(&[], &["/bin/echo", "hi"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "hi\n"), "{ran:?}");
    let piped = ["--interactive"];
    let ran = volume.run_with_input(Some("from outside\n"), &piped, &["cat"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "from outside\n"),
        "{ran:?}"
    );
}

#[test]
fn what_is_no_program_is_a_subcommand_of_hermes() {
    volume!(volume);
    for words in [&["version"][..], &["hermes", "version"]] {
        let ran = volume.run(&[], words).ends(0);
        assert!(ran.stdout.starts_with("Hermes Agent v"), "{ran:?}");
    }
    let ran = volume.run(&[], &["no-such-thing"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    ran.warns("invalid choice: 'no-such-thing'");
    // A path is no subcommand.
    let ran = volume.run(&[], &["/no/such/program"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (127, ""), "{ran:?}");
}

#[test]
fn a_command_runs_as_hermes_with_hermes_home_where_docker_put_it() {
    volume!(volume);
    let ask = "pwd; id -un; id -Gn; echo $HOME; umask";
    let ran = volume.run(&["--workdir=/tmp"], &["sh", "-c", ask]);
    let expected = "/tmp\nhermes\nhermes\n/opt/data\n0022\n";
    assert_eq!(ran.stdout, expected, "{ran:?}");
    // Where it did not, that is the data root, but not for root: it would run what hermes puts there.
    // A shell would set PWD anew.
    let ask = "import os; print(os.getcwd(), os.environ['PWD'])";
    let ran = volume.run(&[], &["python3", "-c", ask]);
    assert_eq!(ran.stdout, "/opt/data /opt/data\n", "{ran:?}");
    let ran = volume.run(&["--workdir=/tmp"], &["python3", "-c", ask]);
    assert_eq!(ran.stdout, "/tmp /tmp\n", "{ran:?}");
    let container = volume.start(&[], &[]);
    assert_eq!(container.exec("pwd").stdout, "/\n");
}

/// Tells whether script(1) is there, which makes terminals.
fn has_terminals() -> bool {
    let there = Command::new("script").arg("--version").output().is_ok();
    if !there {
        skip("there is no script(1), which makes terminals");
    }
    there
}

#[test]
fn what_root_starts_on_a_terminal_of_hermes_has_another_one() {
    volume!(volume);
    if !has_terminals() {
        return;
    }
    let here = env!("CARGO_MANIFEST_DIR");
    let option = format!("--volume={here}/tests/stand-in/tty:/opt/hermes/.venv/bin/hermes:ro");
    let container = volume.start(&[&option], &[]);
    container.await_tree();
    let ask = |user: &str, how: &str| {
        let line = format!(
            "docker exec -it -u {user} {} sh -c 'tty; hermes 7 {how}; echo $?'",
            container.name
        );
        let mut command = Command::new("script");
        command
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::null());
        let said = command.output().unwrap().stdout;
        let said = String::from_utf8(said).unwrap();
        // script(1) has told the terminal that there is no more input.
        let said = said.replace("^@", "");
        let lines = said.lines().map(|line| line.trim_end().to_owned());
        lines.collect::<Vec<_>>()
    };
    let said = ask("hermes", "");
    assert_eq!(said, [&said[0], &said[0], "a terminal", "hermes", "7"]);
    let said = ask("root", "");
    assert_eq!(said[2..], ["a terminal", "hermes", "7"], "{said:?}");
    assert_ne!(said[0], said[1]);
    assert!(said[1].starts_with("/dev/pts/"), "{said:?}");
    // With another stdin, it has none. What it prints into a file is as it prints it.
    let said = ask("root", "</dev/null");
    assert_eq!(
        said[1..],
        ["not a tty", "no terminal", "hermes", "7"],
        "{said:?}"
    );
    let said = ask("root", ">/tmp/said 2>/tmp/wrong");
    assert_eq!(said[1..], ["7"], "{said:?}");
    let said = container.sh("cat /tmp/said /tmp/wrong");
    assert!(said.ends_with("\na terminal\nhermes\n"), "{said:?}");
}

#[test]
fn the_environment_of_the_container_reaches_programs_as_it_is() {
    volume!(volume);
    let values = [
        ("SPACES", "  two  words "),
        ("QUOTES", r#"it's "quoted" \n $HOME `id` #"#),
        ("LINES", "one\ntwo\n\nfour"),
        ("EMPTY", ""),
        ("UNICODE", "Grüße ✓"),
        ("EQUALS", "a=b=c"),
    ];
    let options: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("--env={name}={value}"))
        .collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
    let names = names.join(" ");
    let ask = "import os, sys; print(*[os.environ[name] for name in sys.argv[1].split()], sep='\\0', end='')";
    let expected: Vec<&str> = values.iter().map(|(_, value)| *value).collect();
    let expected = expected.join("\0");
    let ran = volume.run(&options, &["python3", "-c", ask, &names]);
    assert_eq!(ran.stdout, expected, "{ran:?}");
    let container = volume.start(&options, &[]);
    container.await_tree();
    let anew = [
        "env",
        "-i",
        "/command/with-contenv",
        "python3",
        "-c",
        ask,
        &names,
    ];
    let ran = container.exec_as("hermes", &anew);
    assert_eq!(ran.stdout, expected, "{ran:?}");
}

#[test]
fn root_takes_no_environment_that_hermes_could_have_written() {
    let reason = "the with-contenv of s6-overlay takes it, as docs/image.md says";
    let Some(volume) = only_ours(Volume::new(), reason) else {
        return;
    };
    let with = ["/command/with-contenv", "sh", "-c", "echo $EVIL"];
    let container = volume.start(&["--user=10000:10000"], &[]);
    container.await_tree();
    let write = "echo ran >/run/s6/container_environment/EVIL";
    container.exec_as("hermes", &["sh", "-c", write]).ends(0);
    let ran = container.exec_as("root", &with);
    let refusal = "with-contenv: fatal: others than root can write to /run/s6, so root takes no environment from there: \
        run this as hermes (docker exec -u hermes)\n";
    ran.is(100, "", refusal);
    container.exec_as("hermes", &with).is(0, "ran\n", "");
    let container = volume.start(&["--env=EVIL=not"], &[]);
    container.await_tree();
    container.exec_as("root", &with).is(0, "not\n", "");
}

#[test]
fn without_a_command_and_a_terminal_the_gateways_are_all_and_their_lines_are_named() {
    volume!(volume, "profile default running; profile coder running");
    let container = volume.begin(&[], &["default", "coder"]);
    let said = container.logs();
    for profile in ["default", "coder"] {
        let pid = container.pid(profile);
        let line = format!("{profile}: stand-in gateway of {profile}, pid {pid}\n");
        said.says(line);
    }
    assert!(container.runs());
    assert_eq!(container.stop(), 0);
}

#[test]
fn gateway_run_starts_the_default_gateway_and_stays_until_it_is_told_to_end() {
    volume!(volume, WITHOUT_PATH);
    for words in [
        &["gateway", "run"][..],
        &["hermes", "gateway", "run", "--replace", "--quiet", "-vv"],
        &["/opt/hermes/.venv/bin/hermes", "gateway"],
    ] {
        let container = volume.start(&NO_PATH, words);
        container.await_states("ready", &["default"]);
        container.wait_for("a word about it", || {
            let said = container.logs().stderr;
            said.contains("✓ gateway-default is ready")
                && said.contains("This gateway is supervised by s6")
        });
        container.sh("for process in /proc/[0-9]*; do
            case $(tr '\\0' ' ' <\"$process/cmdline\") in
              *sleep' infinity ') kill -TERM \"${process#/proc/}\" ;;
            esac
          done");
        assert_eq!(container.exit_code(), 143, "{}", container.explain());
    }
    assert_eq!(volume.script("0", "grep -c saved /opt/data/events"), "3\n");
}

#[test]
fn after_a_stop_gateway_run_leaves_the_default_gateway_down_and_says_so() {
    volume!(volume);
    let container = volume.start(&[], &["gateway", "run"]);
    container.await_states("ready", &["default"]);
    container.hermes_s6("stop -p default");
    container.restart();
    container.await_states("down", &["default"]);
    container.wait_for("a word about it", || {
        let said = container.logs().stderr;
        said.matches("This gateway is supervised by s6").count() == 2
    });
    let said = container.logs().stderr;
    let last = said.rsplit("reconcile:").next().unwrap();
    assert!(
        last.contains("default") && last.contains("stopped") && last.contains("hermes-s6 start"),
        "{last}"
    );
    container.await_states("down", &["default"]);
    assert!(container.runs());
}

#[test]
fn gateway_run_of_a_named_profile_starts_that_one() {
    volume!(volume, "profile coder");
    let container = volume.start(&[], &["-p", "coder", "gateway", "run"]);
    container.await_states("ready", &["coder"]);
    container.await_states("down", &["default"]);
    assert!(container.runs());
}

#[test]
fn gateway_run_unsupervised_is_hermes_itself() {
    volume!(volume);
    let container = volume.start(&[], &["gateway", "run", "--no-supervise"]);
    container.wait_for("Hermes", || {
        container
            .sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
            .contains("/opt/hermes/.venv/bin/hermes gateway run --no-supervise")
    });
    container.wait_for("its state", || {
        container
            .exec(&[
                "grep",
                "-q",
                "\"gateway_state\"",
                "/opt/data/gateway_state.json",
            ])
            .code
            == 0
    });
    container.await_states("down", &["default"]);
    let up = container.sh(&format!("s6-svstat -o wantedup,up {TREE}/gateway-default"));
    assert_eq!(up, "false false\n");
    // By now the state file says that a gateway has run.
    container.restart();
    container.wait_for("Hermes to serve again", || {
        let ask = "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p' /opt/data/gateway_state.json)
            tr '\\0' ' ' </proc/$pid/cmdline; cat /opt/data/gateway_state.json";
        let said = container.exec(&["sh", "-c", ask]).stdout;
        said.contains(" gateway run --no-supervise ") && said.contains("\"running\"")
    });
    container.await_states("down", &["default"]);
    assert!(
        container.said().contains("reason=command=gateway-run"),
        "{}",
        container.said()
    );
    container.stop();
}

#[test]
fn gateway_run_of_a_profile_that_is_not_there_is_hermes_to_refuse() {
    volume!(volume);
    let ran = volume.run(&[], &["-p", "nobody", "gateway", "run"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
    ran.warns("Profile 'nobody' does not exist");
}

#[test]
fn on_a_terminal_ctrl_c_is_for_the_command() {
    volume!(volume);
    if !has_terminals() {
        return;
    }
    // Says that it was interrupted, and goes on; so a container that ends was told to by somebody else.
    let command = "trap 'echo interrupted' INT; echo begun
        until [ -e /tmp/go ]; do sleep 0.1; done; echo ended; exit 7";
    let name = name();
    let words = volume.run_words(&name, &["--interactive", "--tty"], &["sh", "-c", command]);
    let quoted: Vec<String> = words
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', "'\\''")))
        .collect();
    let container = Container {
        volume: &volume,
        name,
    };
    let mut script = Command::new("script")
        .args([
            "-qec",
            &format!("docker run {}", quoted.join(" ")),
            "/dev/null",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let await_said = |what: &str| {
        let said = || container.logs().stdout.contains(what);
        wait_for(what, said, || container.explain());
    };
    await_said("begun");
    let mut terminal = script.stdin.take().unwrap();
    terminal.write_all(b"\x03").unwrap();
    await_said("interrupted");
    container.sh("touch /tmp/go");
    let ran = Ran::from(script.wait_with_output().unwrap()).ends(7);
    drop(terminal);
    ran.says("interrupted").says("ended");
}
