//! The name `hermes`: what is done by its own program, what is left to the real one, and how unchanged.
//!
//! The real program is a script here that says how it was called; real command lines are compared in `argv`,
//! and the real Hermes runs in `image`.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, Read as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::support::{Process, Ran, TestEnv, Tree, processes, programs, wait_for};

/// Says how it was called, and does to profiles what `hermes profile` does to their directories.
const REAL: &str = r#"#!/bin/sh
profiles=$HERMES_HOME/profiles
case "$1 ${2:-}" in
  "profile create") mkdir "$profiles/$3"; : >"$profiles/$3/SOUL.md" ;;
  "profile delete") rm -r "$profiles/$3" ;;
  "profile rename") mv "$profiles/$3" "$profiles/$4" ;;
  "profile import") [ "$3" != wait ] || { echo begun; sleep 1; mkdir "$profiles/late"; : >"$profiles/late/SOUL.md"; } ;;
esac
printf '%s\0' "$@"
exit "${REAL_CODE:-0}"
"#;

/// A home with profiles, and the script in the place of the real program.
fn home(profiles: &[&str]) -> TestEnv {
    let mut env = TestEnv::new();
    env.set("HERMES_S6_STOP_TIMEOUT", "3");
    for profile in profiles {
        env.profile(profile, "");
    }
    let real = env.place.join("real");
    env.write(&real, REAL);
    fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).unwrap();
    env
}

fn supervised(env: &TestEnv) -> Tree<'_> {
    let tree = env.supervise();
    tree.await_watched();
    tree
}

/// Prepares a call by the name.
fn call(env: &TestEnv, words: &[impl AsRef<OsStr>]) -> Command {
    let mut command = env.command(programs().join("hermes-s6"));
    let real = env.place.join("real");
    command.arg0("/somewhere/hermes").args(words);
    command.env("HERMES_S6_HERMES", real);
    command
}

fn hermes(env: &TestEnv, line: &str) -> Ran {
    let words: Vec<&str> = line.split(' ').collect();
    Ran::from(call(env, &words).output().unwrap())
}

/// What the script says when it was called with these words.
fn handed_over(line: &str) -> String {
    line.replace(' ', "\0") + "\0"
}

#[test]
fn what_is_not_certain_is_executed_unchanged() {
    let env = home(&["coder"]);
    let _tree = supervised(&env);
    for line in [
        "--version",
        "gateway stop --all extra",
        "gateway setup",
        "gateway run --no-supervise",
        "-p BAD gateway stop",
        "-p nobody gateway stop",
        "--profile=hermes gateway start",
        "profile use coder",
        "chat -- gateway stop",
    ] {
        assert_eq!(hermes(&env, line).stdout, handed_over(line));
    }
    let odd: [&OsStr; 4] = [
        OsStr::from_bytes(b"\xff"),
        OsStr::new(""),
        OsStr::new("gateway"),
        OsStr::new(" a\n\"$x "),
    ];
    let output = call(&env, &odd).env("REAL_CODE", "7").output().unwrap();
    assert_eq!(output.stdout, b"\xff\0\0gateway\0 a\n\"$x \0");
    assert_eq!(output.status.code(), Some(7), "its exit code");
    // By whatever name it is linked.
    let mut command = call(&env, &["chat"]);
    let ran = Ran::from(command.arg0("assistant").output().unwrap());
    assert_eq!(ran.stdout, "chat\0");
    // As a first word, in place of the name.
    let mut command = env.command(programs().join("hermes-s6"));
    command.env("HERMES_S6_HERMES", env.place.join("real"));
    let ran = Ran::from(command.args(["hermes", "hermes", "-V"]).output().unwrap());
    assert_eq!(ran.stdout, "hermes\0-V\0");
}

#[test]
fn the_real_program_has_the_same_environment_and_descriptors() {
    let env = home(&[]);
    let real = env.place.join("real");
    env.write(
        &real,
        "#!/bin/sh\nenv | sort; ls /proc/self/fd; readlink /proc/self/fd/0; pwd\n",
    );
    fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).unwrap();
    let through = call(&env, &["chat"]).output().unwrap();
    let direct = env
        .command(&real)
        .env("HERMES_S6_HERMES", &real)
        .output()
        .unwrap();
    let text = |output: &[u8]| String::from_utf8(output.to_vec()).unwrap();
    assert!(text(&through.stdout).contains("HERMES_HOME="));
    assert_eq!(text(&through.stdout), text(&direct.stdout));
    assert_eq!(text(&through.stderr), "");
}

#[test]
fn without_a_tree_everything_is_the_real_programs() {
    let env = home(&["coder"]);
    for line in [
        "gateway start",
        "-p coder gateway stop",
        "gateway status",
        "gateway run",
        "gateway install",
    ] {
        let ran = hermes(&env, line);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
        assert_eq!(ran.stdout, handed_over(line));
    }
    assert!(!env.scandir.exists());
    let mut command = call(&env, &["gateway", "stop"]);
    command.env("HERMES_HOME", "not/absolute");
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.stdout, handed_over("gateway stop"), "{ran:?}");
    let mut command = call(&env, &["chat"]);
    command.env("HERMES_S6_HERMES", env.place.join("missing"));
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.code, 127, "{ran:?}");
    assert!(ran.stderr.contains("HERMES_S6_HERMES"), "{ran:?}");
}

#[test]
fn gateways_are_started_stopped_and_restarted_with_what_came_of_it() {
    let env = home(&["coder"]);
    let _tree = supervised(&env);
    for (line, said) in [
        (
            "-p coder gateway start",
            "\u{2713} gateway-coder is ready (pid ",
        ),
        (
            "gateway restart -p coder --platform x",
            "\u{2713} gateway-coder is ready (pid ",
        ),
        (
            "gateway --profile=Coder stop --system",
            "\u{2713} gateway-coder is down (",
        ),
        (
            "-p coder gateway restart",
            "\u{2713} gateway-coder is ready (pid ",
        ),
        (
            "gateway start --a",
            "\u{2713} Started 2 profile gateway(s) under s6\n",
        ),
        (
            "gateway restart --all",
            "\u{2713} Restarted 2 profile gateway(s) under s6\n",
        ),
        (
            "gateway stop --all",
            "\u{2713} Stopped 2 profile gateway(s) under s6\n",
        ),
        (
            "gateway restart --all",
            "\u{2717} No profile gateways to restart under s6\n",
        ),
    ] {
        let ran = hermes(&env, line);
        assert_eq!(ran.code, 0, "{line} {ran:?}");
        assert!(ran.stdout.contains(said), "{line} {ran:?}");
    }
    let mut command = call(&env, &["gateway", "start"]);
    let ran = Ran::from(command.env("HERMES_S6_NO_WAIT", "1").output().unwrap());
    assert_eq!(
        ran.stdout, "\u{2713} gateway-default is starting\n",
        "{ran:?}"
    );
}

#[test]
fn what_fails_has_an_exit_code_and_the_words_of_hermes() {
    let env = home(&["coder"]);
    env.behaviour("coder", "exit 78\n");
    let _tree = supervised(&env);
    let ran = hermes(&env, "-p coder gateway start");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("gateway-coder is parked: exit 78"),
        "{ran:?}"
    );
    let ran = hermes(&env, "gateway start --all");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stdout
            .contains("\u{2717} Could not start gateway-coder: is parked"),
        "{ran:?}"
    );
    assert!(
        ran.stdout
            .contains("\u{2713} Started 1 profile gateway(s) under s6\n"),
        "{ran:?}"
    );
    fs::create_dir(env.home_of("empty")).unwrap();
    env.own();
    for line in ["-p empty gateway start", "gateway stop --profile=empty"] {
        let ran = hermes(&env, line);
        let said = "\u{2717} no such gateway 'empty': register it with `hermes profile create empty` first, or pass an existing profile name via `-p <name>`\n";
        assert_eq!((ran.code, ran.stdout.as_str()), (1, said), "{ran:?}");
        assert!(
            ran.stderr.contains("is no profile: it has no SOUL.md"),
            "{ran:?}"
        );
    }
    let ran = env.run(&["register", "-p", "empty"]);
    assert_eq!(ran.code, 100, "{ran:?}");
    assert!(
        ran.stderr.contains("profile empty has no SOUL.md: create"),
        "{ran:?}"
    );
    for (line, verb) in [
        ("gateway stop --all", "stop"),
        ("gateway restart", "restart"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let ran = call(&env, &words).env("_HERMES_GATEWAY", "1").output();
        let ran = Ran::from(ran.unwrap());
        let said =
            format!("\u{2717} Refusing to {verb} the gateway from inside the gateway process");
        assert!(ran.code == 1 && ran.stdout.starts_with(&said), "{ran:?}");
    }
}

#[test]
fn the_profile_is_that_of_the_line_of_the_home_or_the_active_one() {
    let env = home(&["coder", "viewer"]);
    let _tree = supervised(&env);
    env.write(&env.home.join("active_profile"), "Viewer\n");
    let stop = |home: Option<&str>, variable: &str, line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = call(&env, &words);
        if let Some(profile) = home {
            command.env("HERMES_HOME", env.home_of(profile));
        }
        Ran::from(command.env(variable, "1").output().unwrap()).stdout
    };
    for (home, variable, line, slot) in [
        (None, "X", "gateway stop", "gateway-viewer"),
        (None, "X", "-p default gateway stop", "gateway-default"),
        (
            None,
            "HERMES_S6_SUPERVISED_CHILD",
            "gateway stop",
            "gateway-default",
        ),
        (Some("coder"), "X", "gateway stop", "gateway-coder"),
        (
            Some("coder"),
            "X",
            "gateway stop -p viewer",
            "gateway-viewer",
        ),
    ] {
        let said = stop(home, variable, line);
        assert_eq!(said, format!("\u{2713} {slot} is down already\n"), "{line}");
    }
    env.write(&env.home.join("active_profile"), "gone\n");
    assert_eq!(stop(None, "X", "gateway stop"), handed_over("gateway stop"));
    let said = stop(Some("gone"), "X", "gateway stop");
    assert!(said.contains("no such gateway 'gone'"), "{said}");
}

#[test]
fn status_and_list_say_what_s6_knows() {
    let env = home(&["coder", "viewer"]);
    env.behaviour("viewer", "exit 78\n").running("viewer");
    let _tree = supervised(&env);
    hermes(&env, "-p coder gateway start");
    env.await_state("viewer", "parked");
    let pid = env.pid("coder");
    let ran = hermes(&env, "-p coder gateway status --deep -l");
    assert_eq!(ran.code, 0, "{ran:?}");
    for part in [
        format!("\u{2713} Gateway is running (PID: {pid})\nManager: s6 (container supervisor)\n"),
        "coder    ready".to_owned(),
        "\nOther profiles:\n  \u{2717} default                  \u{2014} not running (down)\n"
            .to_owned(),
    ] {
        assert!(ran.stdout.contains(&part), "{part}: {}", ran.stdout);
    }
    let ran = hermes(&env, "gateway status -p viewer");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stdout.starts_with("\u{2717} Gateway is not running\n"),
        "{ran:?}"
    );
    assert!(ran.stdout.contains("exit 78"), "{ran:?}");
    assert_eq!(
        hermes(&env, "gateway status").code,
        0,
        "it was not asked for"
    );
    let list = hermes(&env, "gateway list -p coder");
    assert_eq!(
        list.stdout,
        format!(
            "Gateways:\n  \u{2717} default                  \u{2014} not running (down)\n  \
             \u{2713} coder (current)          \u{2014} PID {pid} (ready)\n  \
             \u{2717} viewer                   \u{2014} not running (parked)\n"
        )
    );
}

#[test]
fn gateway_run_is_supervised_and_blocks_in_its_place() {
    let env = home(&["coder"]);
    let _tree = supervised(&env);
    let blocked = |command: &mut Command| {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let child = child.unwrap();
        let pid = child.id();
        let name = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        wait_for("sleep in its place", || name() == "sleep\n", || env.out());
        child
    };
    let mut child = blocked(&mut call(&env, &["gateway", "run", "-p", "coder", "-vv"]));
    assert_eq!(env.state("coder"), "ready");
    child.kill().unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("gateway-coder is ready"), "{ran:?}");
    assert!(ran.stderr.contains("--no-supervise"), "{ran:?}");
    // The ways out of it.
    for variable in ["HERMES_GATEWAY_NO_SUPERVISE", "HERMES_S6_SUPERVISED_CHILD"] {
        let ran = call(&env, &["gateway"]).env(variable, "1").output();
        assert_eq!(Ran::from(ran.unwrap()).stdout, "gateway\0");
    }
    // As a container's command it leaves down what was stopped, and lives on all the same.
    hermes(&env, "-p coder gateway stop");
    let mut command = call(&env, &["-p", "coder", "gateway"]);
    let mut child = blocked(command.env("HERMES_S6_CONTAINER_COMMAND", "1"));
    assert_eq!(env.state("coder"), "down");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn slots_follow_profiles_by_what_is_there_afterwards() {
    let env = home(&["coder"]);
    let _tree = supervised(&env);
    hermes(&env, "-p coder gateway start");
    let ran = hermes(&env, "profile create made");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout.starts_with(&handed_over("profile create made")),
        "{ran:?}"
    );
    assert_eq!(env.state("made"), "down");
    // Whatever its exit code is.
    let ran = call(&env, &["profile", "create", "half"])
        .env("REAL_CODE", "3")
        .output();
    assert_eq!(Ran::from(ran.unwrap()).code, 3);
    assert_eq!(env.state("half"), "down");
    let ran = hermes(&env, "profile rename coder builder");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        (env.state("coder"), env.state("builder")),
        ("missing".into(), "ready".into())
    );
    assert!(env.gateways("coder").is_empty());
    let ran = hermes(&env, "profile rename made kept");
    assert_eq!((ran.code, env.state("kept")), (0, "down".into()), "{ran:?}");
    let before = env.pid("builder");
    let ran = hermes(&env, "profile delete nobody");
    assert_eq!((ran.code, env.pid("builder")), (0, before), "{ran:?}");
    let ran = hermes(&env, "profile delete builder");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!env.slot("builder").exists() && env.gateways("builder").is_empty());
    assert_eq!(
        env.run(&["list"]).stdout,
        "default down\nhalf down\nkept down\n"
    );
}

#[test]
fn a_volume_that_tells_nothing_keeps_nobody_from_changing_profiles() {
    let env = home(&["coder"]);
    let _tree = supervised(&env);
    let profiles = env.home.join("profiles");
    fs::rename(&profiles, env.home.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", &profiles).unwrap();
    let ran = hermes(&env, "profile create made");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout, handed_over("profile create made"));
    assert_eq!(env.state("coder"), "down", "its slot stays");
}

#[test]
fn a_ctrl_c_while_hermes_changes_profiles_costs_no_slot() {
    let env = home(&[]);
    let _tree = supervised(&env);
    let mut child = call(&env, &["profile", "import", "wait"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut begun = [0; 6];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut begun)
        .unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let ours = |process: &Process| process.pid == pid;
    processes().into_iter().find(ours).unwrap().kill("INT");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(env.state("late"), "down");
}

#[test]
fn what_is_waited_for_has_the_signals_of_who_waits() {
    let env = home(&[]);
    let _tree = supervised(&env);
    let real = env.place.join("real");
    env.write(
        &real,
        "#!/bin/sh\ngrep SigIgn /proc/self/status\n[ $3 != wait ] || { echo $$; exec sleep 60; }\n",
    );
    fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).unwrap();
    // SIGINT and SIGQUIT, of all that it ignores.
    let ignored = |said: &str| {
        let mask = said.split_whitespace().nth(1).unwrap();
        u64::from_str_radix(mask, 16).unwrap() & 0b110
    };
    let plain = call(&env, &["profile", "import", "x"]).output().unwrap();
    assert_eq!(ignored(&Ran::from(plain).stdout), 0);
    let mut shell = env.command("/bin/sh");
    shell.args(["-c", "trap '' INT QUIT; exec \"$@\"", "sh"]);
    shell
        .arg(programs().join("hermes-s6"))
        .args(["hermes", "profile", "import", "x"]);
    let ran = Ran::from(shell.env("HERMES_S6_HERMES", &real).output().unwrap());
    assert_eq!(ignored(&ran.stdout), 0b110, "what is ignored stays so");
    // Who ends the one means the other.
    let mut child = call(&env, &["profile", "import", "wait"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    while said.lines().count() < 2 {
        out.read_line(&mut said).unwrap();
    }
    let pid: i32 = said.lines().nth(1).unwrap().parse().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let runs = || processes().iter().any(|process| process.pid == pid);
    wait_for("the real program to end", || !runs(), || env.out());
}

#[test]
fn a_tree_of_another_data_root_is_none() {
    let env = home(&["coder"]);
    let _tree = supervised(&env);
    let other = env.place.join("other");
    fs::create_dir_all(other.join("profiles")).unwrap();
    env.own();
    for line in ["gateway stop", "profile create made", "gateway run"] {
        let words: Vec<&str> = line.split(' ').collect();
        let ran = call(&env, &words).env("HERMES_HOME", &other).output();
        let ran = Ran::from(ran.unwrap());
        assert_eq!((ran.code, ran.stdout), (0, handed_over(line)));
    }
}

#[test]
fn a_stop_reaches_supervisors_that_have_outlived_their_s6_svscan() {
    let env = home(&["coder"]);
    let tree = supervised(&env);
    hermes(&env, "-p coder gateway start");
    tree.kill();
    let ran = hermes(&env, "-p coder gateway stop");
    assert!(ran.stdout.contains("gateway-coder is down ("), "{ran:?}");
    assert_eq!(
        hermes(&env, "gateway list").stdout,
        handed_over("gateway list")
    );
}

#[test]
fn the_program_under_the_name_is_never_taken_for_the_real_one() {
    let env = home(&[]);
    let bin = env.place.join("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(programs().join("hermes-s6"), bin.join("hermes")).unwrap();
    let mut command = call(&env, &["chat"]);
    command.env_remove("HERMES_S6_HERMES");
    command.env(
        "PATH",
        format!("{}:{}:/usr/bin:/bin", bin.display(), env.place.display()),
    );
    fs::rename(env.place.join("real"), env.place.join("hermes")).unwrap();
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.stdout, "chat\0", "{ran:?}");
    // Not even where it is named.
    let mut command = call(&env, &["chat"]);
    command.env("HERMES_S6_HERMES", bin.join("hermes"));
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.code, 100, "{ran:?}");
    assert!(
        ran.stderr.contains("hermes is hermes-s6 itself: name"),
        "{ran:?}"
    );
    let mut command = call(&env, &["chat"]);
    command.env_remove("HERMES_S6_HERMES").env("PATH", &bin);
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.code, 127, "{ran:?}");
}
