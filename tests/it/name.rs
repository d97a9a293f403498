//! The name `hermes`: what is done by its own program, what is left to the real one, and how unchanged.
//!
//! The real program is a script here that says how it was called; real command lines are compared in `argv`,
//! and the real Hermes runs in `image`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::{Ran, Run, TestEnv, Words, chmod, ignored, processes, programs, wait_some};

/// Says how it was called, and does to profiles what `hermes profile` does to their directories.
const REAL: &str = r#"#!/bin/sh
profiles=$HERMES_HOME/profiles
case "$1 ${2:-}" in
  "profile create") mkdir "$profiles/$3"; : >"$profiles/$3/SOUL.md" ;;
  "profile delete") rm -r "$profiles/$3" ;;
  "profile rename") mv "$profiles/$3" "$profiles/$4" ;;
  "profile import") [ "$3" != wait ] || {
    echo begun
    while [ ! -e "$HERMES_HOME/go" ]; do sleep 0.05; done
    mkdir "$profiles/late"
    : >"$profiles/late/SOUL.md"
  } ;;
esac
printf '%s\0' "$@"
exit "${REAL_CODE:-0}"
"#;

/// A home with profiles, and the script in the place of the real program.
fn home(profiles: &[&str]) -> TestEnv {
    let env = TestEnv::new();
    for profile in profiles {
        env.profile(profile, "");
    }
    real(&env, REAL);
    env
}

/// Puts a script in the place of the real program.
fn real(env: &TestEnv, script: &str) {
    let place = env.place.join("real");
    env.write(&place, script);
    chmod(place, 0o755);
}

/// Prepares a call by the name.
fn call(env: &TestEnv, words: &(impl Words + ?Sized)) -> Command {
    let mut command = env.hermes_s6(words);
    command.arg0("/somewhere/hermes");
    command.env("HERMES_S6_HERMES", env.place.join("real"));
    command
}

fn hermes(env: &TestEnv, line: &str) -> Ran {
    call(env, line).ran()
}

/// What the script says when it was called with these words.
fn handed_over(line: &str) -> String {
    line.replace(' ', "\0") + "\0"
}

#[test]
fn what_is_not_certain_is_executed_unchanged() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
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
    let mut command = call(&env, &[]);
    let output = command.args(odd).env("REAL_CODE", "7").output().unwrap();
    assert_eq!(output.stdout, b"\xff\0\0gateway\0 a\n\"$x \0");
    assert_eq!(output.status.code(), Some(7), "its exit code");
    // By whatever name it is linked.
    let ran = call(&env, "chat").arg0("assistant").ran();
    assert_eq!(ran.stdout, "chat\0");
    // As a first word, in place of the name.
    let ran = call(&env, "hermes hermes -V").arg0("hermes-s6").ran();
    assert_eq!(ran.stdout, "hermes\0-V\0");
}

#[test]
fn the_real_program_has_the_same_environment_and_descriptors() {
    let env = home(&[]);
    real(
        &env,
        "#!/bin/sh\nenv | sort; ls /proc/self/fd; readlink /proc/self/fd/0; pwd\n",
    );
    let place = env.place.join("real");
    let through = call(&env, "chat").ran();
    let mut direct = env.command(&place);
    let direct = direct.env("HERMES_S6_HERMES", &place).ran();
    through.says("HERMES_HOME=");
    // But for the programs that Hermes has made for itself.
    let own = format!(":{}/.local/bin\n", env.home.display());
    assert_eq!(through.stdout.replacen(&own, "\n", 1), direct.stdout);
    assert_ne!(through.stdout, direct.stdout);
    assert_eq!(through.stderr, "");
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
        hermes(&env, line).is(0, handed_over(line), "");
    }
    assert!(!env.scandir.exists());
    let mut command = call(&env, "gateway stop");
    command.env("HERMES_HOME", "not/absolute");
    let ran = command.ran();
    assert_eq!(ran.stdout, handed_over("gateway stop"), "{ran:?}");
    let mut command = call(&env, "chat");
    command.env("HERMES_S6_HERMES", env.place.join("missing"));
    command.ran().ends(127).warns("HERMES_S6_HERMES");
}

#[test]
fn gateways_are_started_stopped_and_restarted_with_what_came_of_it() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    for (line, said) in [
        ("-p coder gateway start", "gateway-coder is ready (pid "),
        (
            "gateway restart -p coder --platform x",
            "gateway-coder is ready (pid ",
        ),
        (
            "gateway --profile=Coder stop --system",
            "gateway-coder is down (",
        ),
        ("-p coder gateway restart", "gateway-coder is ready (pid "),
        (
            "gateway start --a",
            "Started 2 profile gateway(s) under s6\n",
        ),
        (
            "gateway restart --all",
            "Restarted 2 profile gateway(s) under s6\n",
        ),
        (
            "gateway stop --all",
            "Stopped 2 profile gateway(s) under s6\n",
        ),
    ] {
        hermes(&env, line).ends(0).says(format!("✓ {said}"));
    }
    let none = "✗ No profile gateways to restart under s6\n";
    hermes(&env, "gateway restart --all").ends(0).says(none);
    let mut command = call(&env, "gateway start");
    let ran = command.env("HERMES_S6_NO_WAIT", "1").ran();
    assert_eq!(ran.stdout, "✓ gateway-default is starting\n", "{ran:?}");
}

#[test]
fn what_fails_has_an_exit_code_and_the_words_of_hermes() {
    let env = home(&["coder"]);
    env.behaviour("coder", "exit 78\n");
    let _tree = env.supervise();
    hermes(&env, "-p coder gateway start")
        .ends(1)
        .warns("gateway-coder is parked: exit 78");
    let ran = hermes(&env, "gateway start --all").ends(1);
    ran.says("✗ Could not start gateway-coder: is parked");
    ran.says("✓ Started 1 profile gateway(s) under s6\n");
    fs::create_dir(env.home_of("empty")).unwrap();
    env.own();
    for line in ["-p empty gateway start", "gateway stop --profile=empty"] {
        let said = "✗ no such gateway 'empty': register it with `hermes profile create empty` first, or pass an existing profile name via `-p <name>`\n";
        let ran = hermes(&env, line).ends(1);
        assert_eq!(ran.stdout, said, "{ran:?}");
        ran.warns("is no profile: it has no SOUL.md");
    }
    let why = "profile empty has no SOUL.md: create";
    env.run("register -p empty").ends(100).warns(why);
    for (line, verb) in [
        ("gateway stop --all", "stop"),
        ("gateway restart", "restart"),
    ] {
        let ran = call(&env, line).env("_HERMES_GATEWAY", "1").ran().ends(1);
        let said = format!("✗ Refusing to {verb} the gateway from inside the gateway process");
        assert!(ran.stdout.starts_with(&said), "{ran:?}");
    }
}

#[test]
fn the_profile_is_that_of_the_line_of_the_home_or_the_active_one() {
    let env = home(&["coder", "viewer"]);
    let _tree = env.supervise();
    env.write(&env.home.join("active_profile"), "Viewer\n");
    let stop = |home: Option<&str>, variable: &str, line: &str| {
        let mut command = call(&env, line);
        if let Some(profile) = home {
            command.env("HERMES_HOME", env.home_of(profile));
        }
        command.env(variable, "1").ran().stdout
    };
    let child = "HERMES_S6_SUPERVISED_CHILD";
    let coder = Some("coder");
    for (home, variable, line, profile) in [
        (None, "X", "gateway stop", "viewer"),
        (None, "X", "-p default gateway stop", "default"),
        (None, child, "gateway stop", "default"),
        (coder, "X", "gateway stop", "coder"),
        (coder, "X", "gateway stop -p viewer", "viewer"),
    ] {
        let said = stop(home, variable, line);
        let expected = format!("✓ gateway-{profile} is down already\n");
        assert_eq!(said, expected, "{line}");
    }
    env.write(&env.home.join("active_profile"), "gone\n");
    assert_eq!(stop(None, "X", "gateway stop"), handed_over("gateway stop"));
    let said = stop(Some("gone"), "X", "gateway stop");
    assert!(said.contains("no such gateway 'gone'"), "{said}");
}

#[test]
fn a_chosen_profile_that_cannot_be_read_is_not_taken_for_default() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    env.write(&env.home.join("active_profile"), "coder\n");
    chmod(env.home.join("active_profile"), 0o000);
    for line in ["gateway stop", "gateway start", "gateway run"] {
        let ran = hermes(&env, line).ends(111);
        ran.warns("/active_profile cannot be read: Permission denied");
        ran.warns("or name the profile with -p");
    }
    assert_eq!(env.state("default"), "down");
    hermes(&env, "-p coder gateway stop").ends(0);
    hermes(&env, "gateway stop --all").ends(0);
    // As the command of a container it stays, so that the others stay too.
    let mut command = call(&env, "gateway run");
    command.env("HERMES_S6_CONTAINER_COMMAND", "1");
    let mut run = env.spawn(command);
    run.await_note("/active_profile cannot be read");
    let comm = format!("/proc/{}/comm", run.pid());
    env.wait_for("it sleeps", || {
        fs::read_to_string(&comm).is_ok_and(|comm| comm == "sleep\n")
    });
    run.signal("TERM");
    run.wait();
}

#[test]
fn a_home_that_cannot_be_looked_at_is_not_taken_for_none() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    env.profile("late", "");
    let profiles = env.home.join("profiles");
    chmod(&profiles, 0o000);
    let ran = hermes(&env, "-p late gateway stop");
    chmod(&profiles, 0o755);
    ran.ends(111).warns("/profiles/late: Permission denied");
}

#[test]
fn status_and_list_say_what_s6_knows() {
    let env = home(&["coder", "viewer"]);
    env.behaviour("viewer", "exit 78\n").running("viewer");
    let _tree = env.supervise();
    hermes(&env, "-p coder gateway start");
    env.await_state("viewer", "parked");
    let pid = env.pid("coder");
    let ran = hermes(&env, "-p coder gateway status --deep -l").ends(0);
    let manager = "Manager: s6 (container supervisor)\n";
    ran.says(format!("✓ Gateway is running (PID: {pid})\n{manager}"));
    ran.says("coder    ready");
    ran.says("\nOther profiles:\n  ✗ default                  — not running (down)\n");
    let ran = hermes(&env, "gateway status -p viewer").ends(1);
    let start = "✗ Gateway is not running\n";
    assert!(ran.stdout.starts_with(start), "{ran:?}");
    ran.says("exit 78");
    // It was not asked for.
    hermes(&env, "gateway status").ends(0);
    let list = hermes(&env, "gateway list -p coder");
    assert_eq!(
        list.stdout,
        format!(
            "Gateways:\n  ✗ default                  — not running (down)\n  \
             ✓ coder (current)          — PID {pid} (ready)\n  \
             ✗ viewer                   — not running (parked)\n"
        )
    );
}

#[test]
fn gateway_run_is_supervised_and_blocks_in_its_place() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    let blocked = |command: Command| {
        let command = env.spawn(command);
        let comm = format!("/proc/{}/comm", command.pid());
        let name = || fs::read_to_string(&comm).unwrap_or_default();
        env.wait_for("sleep in its place", || name() == "sleep\n");
        command
    };
    let run = blocked(call(&env, "gateway run -p coder -vv"));
    assert_eq!(env.state("coder"), "ready");
    run.signal("KILL");
    let ran = run.end();
    assert_eq!(ran.stdout, "");
    ran.warns("gateway-coder is ready").warns("--no-supervise");
    // The ways out of it.
    for variable in ["HERMES_GATEWAY_NO_SUPERVISE", "HERMES_S6_SUPERVISED_CHILD"] {
        let ran = call(&env, "gateway").env(variable, "1").ran();
        assert_eq!(ran.stdout, "gateway\0");
    }
    // As a container's command it leaves down what was stopped, and lives on all the same.
    hermes(&env, "-p coder gateway stop");
    let mut command = call(&env, "-p coder gateway");
    command.env("HERMES_S6_CONTAINER_COMMAND", "1");
    let _run = blocked(command);
    assert_eq!(env.state("coder"), "down");
}

#[test]
fn slots_follow_profiles_by_what_is_there_afterwards() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    hermes(&env, "-p coder gateway start");
    let ran = hermes(&env, "profile create made").ends(0);
    let called = handed_over("profile create made");
    assert!(ran.stdout.starts_with(&called), "{ran:?}");
    assert_eq!(env.state("made"), "down");
    // Whatever its exit code is.
    let mut command = call(&env, "profile create half");
    command.env("REAL_CODE", "3").ran().ends(3);
    assert_eq!(env.state("half"), "down");
    hermes(&env, "profile rename coder builder").ends(0);
    assert_eq!(env.state("coder"), "missing");
    assert_eq!(env.state("builder"), "ready");
    assert!(env.gateways("coder").is_empty());
    hermes(&env, "profile rename made kept").ends(0);
    assert_eq!(env.state("kept"), "down");
    let before = env.pid("builder");
    hermes(&env, "profile delete nobody").ends(0);
    assert_eq!(env.pid("builder"), before);
    hermes(&env, "profile delete builder").ends(0);
    assert!(!env.slot("builder").exists() && env.gateways("builder").is_empty());
    let left = "default down\nhalf down\nkept down\n";
    assert_eq!(env.run("list").stdout, left);
}

#[test]
fn a_volume_that_tells_nothing_keeps_nobody_from_changing_profiles() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    let profiles = env.home.join("profiles");
    fs::rename(&profiles, env.home.join("elsewhere")).unwrap();
    symlink("elsewhere", &profiles).unwrap();
    let ran = hermes(&env, "profile create made").ends(0);
    assert_eq!(ran.stdout, handed_over("profile create made"));
    assert_eq!(env.state("coder"), "down", "its slot stays");
}

#[test]
fn a_ctrl_c_while_hermes_changes_profiles_costs_no_slot() {
    let env = home(&[]);
    let _tree = env.supervise();
    let import = env.spawn(call(&env, "profile import wait"));
    env.wait_for("the real program", || import.said() == "begun\n");
    import.signal("INT");
    env.write(&env.home.join("go"), "");
    import.end().ends(0);
    assert_eq!(env.state("late"), "down");
}

#[test]
fn what_is_waited_for_has_the_signals_of_who_waits() {
    let env = home(&[]);
    let _tree = env.supervise();
    real(
        &env,
        "#!/bin/sh\ngrep SigIgn /proc/self/status\n[ $3 != wait ] || { echo $$; exec sleep 86400; }\n",
    );
    // SIGINT and SIGQUIT.
    let of_a_terminal = |ran: &Ran| ignored(&ran.stdout) & 0b110;
    let plain = hermes(&env, "profile import x");
    assert_eq!(of_a_terminal(&plain), 0);
    let mut shell = env.command("/bin/sh");
    shell.args(["-c", "trap '' INT QUIT; exec \"$@\"", "sh"]);
    shell.arg(programs().join("hermes-s6"));
    shell.args("hermes profile import x".words());
    let ran = shell.env("HERMES_S6_HERMES", env.place.join("real")).ran();
    assert_eq!(of_a_terminal(&ran), 0b110, "what is ignored stays so");
    // Who ends the one means the other.
    let import = env.spawn(call(&env, "profile import wait"));
    let pid = || import.said().lines().nth(1)?.parse::<i32>().ok();
    let pid = wait_some("the real program", pid, || import.noted());
    drop(import);
    let runs = || processes().iter().any(|process| process.pid == pid);
    env.wait_for("the real program to end", || !runs());
}

#[test]
fn a_tree_of_another_data_root_is_none() {
    let env = home(&["coder"]);
    let _tree = env.supervise();
    let other = env.place.join("other");
    fs::create_dir_all(other.join("profiles")).unwrap();
    env.own();
    for line in ["gateway stop", "profile create made", "gateway run"] {
        let ran = call(&env, line).env("HERMES_HOME", &other).ran().ends(0);
        assert_eq!(ran.stdout, handed_over(line));
    }
}

#[test]
fn a_stop_reaches_supervisors_that_have_outlived_their_s6_svscan() {
    let env = home(&["coder"]);
    let tree = env.supervise();
    hermes(&env, "-p coder gateway start");
    tree.kill();
    hermes(&env, "-p coder gateway stop").says("gateway-coder is down (");
    let list = hermes(&env, "gateway list");
    assert_eq!(list.stdout, handed_over("gateway list"));
}

#[test]
fn the_program_under_the_name_is_never_taken_for_the_real_one() {
    let env = home(&[]);
    let bin = env.place.join("bin");
    fs::create_dir(&bin).unwrap();
    symlink(programs().join("hermes-s6"), bin.join("hermes")).unwrap();
    let path = format!("{}:{}:/usr/bin:/bin", bin.display(), env.place.display());
    let mut command = call(&env, "chat");
    command.env_remove("HERMES_S6_HERMES").env("PATH", path);
    fs::rename(env.place.join("real"), env.place.join("hermes")).unwrap();
    let ran = command.ran();
    assert_eq!(ran.stdout, "chat\0", "{ran:?}");
    // Not even where it is named.
    let mut command = call(&env, "chat");
    command.env("HERMES_S6_HERMES", bin.join("hermes"));
    command
        .ran()
        .ends(100)
        .warns("hermes is hermes-s6 itself: name");
    let mut command = call(&env, "chat");
    command.env_remove("HERMES_S6_HERMES").env("PATH", &bin);
    command.ran().ends(127);
}
