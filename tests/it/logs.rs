//! What gateways have said, as the real s6-log keeps it, and what becomes of it while it is read.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use signal_hook::consts::SIGINT;

use crate::support::{Background, Run, TestEnv, begins, chmod, is_root, programs, skip, wait_for};

/// A line of a log, said at that second.
fn at(second: u32, text: &str) -> String {
    format!("2026-11-23 07:03:{second:02}.123456789  {text}\n")
}

/// Makes a profile and its log.
fn logged(env: &TestEnv, profile: &str, current: &str) {
    env.profile(profile, "");
    fs::create_dir_all(env.log(profile)).unwrap();
    env.write(&env.log(profile).join("current"), current);
    env.own();
}

/// The real s6-log of a profile, with files of 4 KB.
struct Logger {
    place: PathBuf,
    process: Child,
}

impl Logger {
    fn start(env: &TestEnv, profile: &str) -> Self {
        let place = env.log(profile);
        fs::create_dir_all(env.home.join("logs/gateways")).unwrap();
        env.own();
        let mut command = env.command("s6-log");
        command.args(["-b", "n10", "s4096", "T"]).arg(&place);
        let process = command.stdin(Stdio::piped()).spawn().unwrap();
        Self { place, process }
    }

    /// Has it log a line for each number, and start a new file after every [`FILE`] of them.
    fn say(&mut self, numbers: Range<u32>) {
        for first in numbers.clone().step_by(FILE as usize) {
            let numbers = first..numbers.end.min(first + FILE);
            let last = format!("  line {}\n", numbers.end - 1);
            let mut lines = Vec::new();
            for number in numbers {
                writeln!(lines, "line {number}").unwrap();
            }
            let stdin = self.process.stdin.as_mut().unwrap();
            stdin.write_all(&lines).unwrap();
            wait_for(&last, || self.files().contains(&last), || self.files());
        }
    }

    /// What is in all its files.
    fn files(&self) -> String {
        let files = fs::read_dir(&self.place).into_iter().flatten();
        files
            .map(|file| fs::read_to_string(file.unwrap().path()).unwrap_or_default())
            .collect()
    }

    fn end(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}

/// Lines after which a file is full: less than 4096 bytes, by the 2000 that s6-log tolerates.
const FILE: u32 = 60;

/// The numbers of the lines that a logger was told.
fn numbers(text: &str) -> Vec<u32> {
    let number = |line: &str| line.rsplit_once("  line ").unwrap().1.parse().unwrap();
    text.lines().map(number).collect()
}

/// Checks that a text is these lines of a logger.
#[track_caller]
fn are_lines(text: &str, expected: Range<u32>) {
    assert_eq!(numbers(text), expected.collect::<Vec<_>>());
}

/// Starts a `hermes-s6 logs` that goes on.
fn follow<'a>(env: &'a TestEnv, line: &str) -> Background<'a> {
    env.background(&*format!("logs -f {line}"))
}

#[track_caller]
fn await_said(follower: &Background, text: &str) {
    let explain = || format!("{}\n{}", follower.said(), follower.noted());
    wait_for(text, || follower.said().ends_with(text), explain);
}

/// Waits until a follower, which sleeps between two looks, has looked at everything again.
fn await_look(follower: &Background) {
    let sleeps = || {
        let status = fs::read_to_string(format!("/proc/{}/status", follower.pid())).unwrap();
        let mut lines = status.lines();
        let sleeps = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sleeps.unwrap().trim().parse::<u32>().unwrap()
    };
    let before = sleeps();
    wait_for("two looks", || sleeps() >= before + 2, String::new);
}

#[test]
fn the_last_lines_are_found_across_rotations_of_the_real_s6_log() {
    let env = TestEnv::new();
    env.profile("coder", "");
    let mut logger = Logger::start(&env, "coder");
    logger.say(0..400);
    let files = fs::read_dir(env.log("coder")).unwrap().count();
    assert!(files > 7, "it has rotated: {files}");
    for wanted in [0, 1, 39, 40, 41, 100, 101, 399, 400, 100_000] {
        let ran = env.run(&*format!("logs -p coder -n {wanted}")).ends(0);
        assert_eq!(ran.stderr, "");
        are_lines(&ran.stdout, 400_u32.saturating_sub(wanted)..400);
    }
    are_lines(&env.run("logs -p coder").stdout, 350..400);
    // More than it keeps.
    logger.say(400..1000);
    let all = numbers(&env.run("logs -p coder -n 1000").stdout);
    assert!(all.len() >= 600 && all.len() < 1000, "{}", all.len());
    assert!(all.iter().copied().eq(all[0]..1000), "{all:?}");
    logger.end();
}

#[test]
fn a_gateway_of_a_tree_is_read_as_it_speaks() {
    let env = TestEnv::new();
    env.running("coder").behaviour("coder", "save 1\n");
    let tree = env.supervise();
    env.await_state("coder", "ready");
    let follower = follow(&env, "-p coder");
    assert_eq!(tree.stop(), 0);
    await_said(&follower, " has saved\n");
}

#[test]
fn every_line_comes_once_while_the_real_s6_log_rotates() {
    let env = TestEnv::new();
    env.profile("coder", "");
    let mut logger = Logger::start(&env, "coder");
    logger.say(0..100);
    let follower = follow(&env, "-p coder -n 100000");
    for burst in 1..8 {
        let end = 100 + burst * 500;
        // Several files at a time, and a logger that starts anew.
        follower.signal(if burst % 2 == 0 { "STOP" } else { "CONT" });
        logger.say(end - 500..end - 10);
        if burst % 4 == 0 {
            logger.end();
            logger = Logger::start(&env, "coder");
        }
        logger.say(end - 10..end);
        follower.signal("CONT");
        await_said(&follower, &format!("  line {}\n", end - 1));
    }
    are_lines(&follower.said(), 0..3600);
}

#[test]
fn of_what_s6_log_has_removed_before_it_was_read_the_rest_comes() {
    let env = TestEnv::new();
    env.profile("coder", "");
    let mut logger = Logger::start(&env, "coder");
    logger.say(0..10);
    let follower = follow(&env, "-p coder");
    await_said(&follower, "  line 9\n");
    follower.signal("STOP");
    logger.say(10..1000);
    follower.signal("CONT");
    await_said(&follower, "  line 999\n");
    let said = numbers(&follower.said());
    let gap = said.windows(2).filter(|pair| pair[1] != pair[0] + 1);
    assert_eq!(gap.count(), 1, "{said:?}");
    assert!(said.len() > 600, "{said:?}");
}

#[test]
fn a_killed_logger_costs_no_line_that_it_has_written() {
    let env = TestEnv::new();
    env.profile("coder", "");
    let mut logger = Logger::start(&env, "coder");
    logger.say(0..10);
    let follower = follow(&env, "-p coder");
    await_said(&follower, "  line 9\n");
    logger.process.kill().unwrap();
    logger.process.wait().unwrap();
    let mut logger = Logger::start(&env, "coder");
    logger.say(10..20);
    await_said(&follower, "  line 19\n");
    are_lines(&follower.said(), 0..20);
    let all = env.run("logs -p coder");
    assert_eq!(
        all.stdout,
        follower.said(),
        "read from {:?}",
        env.log("coder")
    );
}

#[test]
fn lines_of_several_profiles_are_merged_by_time_behind_their_names() {
    let env = TestEnv::new();
    logged(
        &env,
        "coder",
        &[at(1, "a"), "  trace\n".into(), at(4, "d")].concat(),
    );
    logged(
        &env,
        "qa",
        &[at(0, "before"), at(2, "b"), at(3, "c")].concat(),
    );
    let ran = env.run("logs -p coder -p qa -p coder -n 3");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let expected = [
        format!("qa    | {}", at(0, "before")),
        format!("coder | {}", at(1, "a")),
        "coder |   trace\n".into(),
        format!("qa    | {}", at(2, "b")),
        format!("qa    | {}", at(3, "c")),
        format!("coder | {}", at(4, "d")),
    ];
    assert_eq!(ran.stdout, expected.concat());
    let all = env.run("logs --all -n 1");
    assert_eq!(
        all.stdout,
        format!("qa      | {}coder   | {}", at(3, "c"), at(4, "d"))
    );
    assert_eq!(
        all.stderr,
        "hermes-s6: info: gateway-default has not said anything yet\n"
    );
}

#[test]
fn without_a_name_it_is_the_profile_that_other_commands_take() {
    let env = TestEnv::new();
    logged(&env, "coder", "of coder\n");
    logged(&env, "default", "of default\n");
    assert_eq!(env.run("logs").stdout, "of default\n");
    env.write(&env.home.join("active_profile"), "coder\n");
    assert_eq!(env.run("logs").stdout, "of coder\n");
    let home = env.home_of("coder");
    let by_home = env.run(&["logs", "--home", home.to_str().unwrap()]);
    assert_eq!(by_home.stdout, "of coder\n");
}

#[test]
fn a_log_outlives_its_profile_and_a_name_without_either_is_wrong() {
    let env = TestEnv::new();
    logged(&env, "gone", "last words\n");
    fs::remove_dir_all(env.home_of("gone")).unwrap();
    env.run("logs -p gone").is(0, "last words\n", "");
    let said = "hermes-s6: fatal: profile nobody-knows does not exist: create it with hermes profile create nobody-knows\n";
    env.run("logs -p nobody-knows").is(100, "", said);
}

#[test]
fn a_log_that_does_not_exist_yet_is_waited_for() {
    let env = TestEnv::new();
    env.profile("coder", "");
    let note = "hermes-s6: info: gateway-coder has not said anything yet\n";
    env.run("logs -p coder").is(0, "", note);
    let follower = follow(&env, "-p coder");
    env.wait_for("the note", || follower.noted() == note);
    let mut logger = Logger::start(&env, "coder");
    logger.say(0..200);
    await_said(&follower, "  line 199\n");
    are_lines(&follower.said(), 0..200);
}

#[test]
fn a_log_that_is_emptied_or_removed_is_read_when_it_comes_back() {
    let env = TestEnv::new();
    logged(&env, "coder", "one\ntwo\n");
    let current = env.log("coder").join("current");
    let follower = follow(&env, "-p coder");
    await_said(&follower, "two\n");
    // Of an inode that stays, only a smaller size tells.
    env.write(&current, "3\n");
    await_said(&follower, "two\n3\n");
    fs::remove_dir_all(env.home.join("logs")).unwrap();
    await_look(&follower);
    logged(&env, "coder", "four\nfi");
    await_said(&follower, "3\nfour\n");
    let mut file = fs::OpenOptions::new().append(true).open(&current).unwrap();
    file.write_all(b"ve\n").unwrap();
    await_said(&follower, "four\nfive\n");
    assert_eq!(follower.said(), "one\ntwo\n3\nfour\nfive\n");
    assert_eq!(follower.noted(), "");
}

#[test]
fn it_ends_when_its_reader_has_gone() {
    let env = TestEnv::new();
    logged(&env, "coder", "one\ntwo\n");
    // More than a pipe holds, so that writing it fails; the first is gone while it waits.
    logged(&env, "writer", &"one\n".repeat(100_000));
    for arguments in [
        "-p coder -f",
        "-p writer -f -n 100000",
        "-p writer -n 100000",
    ] {
        let line = format!(
            "set -o pipefail; '{}' logs {arguments} | head -n 1",
            programs().join("hermes-s6").display()
        );
        let mut bash = env.command("bash");
        bash.args(["-c", &line]).ran().is(0, "one\n", "");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let env = TestEnv::new();
    logged(&env, "coder", "one\n");
    let line = format!(
        "'{}' logs -p coder >/dev/full",
        programs().join("hermes-s6").display()
    );
    let said = "hermes-s6: fatal: unable to write stdout: No space left on device\n";
    let mut shell = env.command("sh");
    shell.args(["-c", &line]).ran().is(111, "", said);
}

#[test]
fn following_ends_by_sigint_as_a_process_does() {
    let env = TestEnv::new();
    logged(&env, "coder", "one\n");
    let mut follower = follow(&env, "-p coder");
    await_said(&follower, "one\n");
    follower.signal("INT");
    assert_eq!(follower.wait().signal(), Some(SIGINT));
}

#[test]
fn a_terminal_gets_colours_and_no_control_characters_of_a_gateway() {
    let mut env = TestEnv::new();
    let hostile = "a\tb \x1b[2J\r\u{7f}\u{9b}31m\\ é";
    logged(&env, "coder", &at(1, hostile));
    logged(&env, "qa", &at(2, "b"));
    let plain = env.run("logs -p coder");
    assert_eq!(plain.stdout, at(1, hostile), "bytes as they are");
    let escaped = at(1, "a\tb \\u{1b}[2J\\r\\u{7f}\\u{9b}31m\\ é").replace('\n', "\r\n");
    env.on_terminal("logs -p coder").is(0, &escaped, "");
    let coloured = format!("\x1b[36mcoder |\x1b[0m {escaped}\x1b[33mqa    |\x1b[0m ");
    let plain = format!("coder | {escaped}qa    | ");
    begins(&env.on_terminal("logs -p coder -p qa").stdout, &plain);
    for (variable, value, expected) in [
        ("TERM", "xterm", &coloured),
        ("TERM", "dumb", &plain),
        ("TERM", "", &plain),
        ("TERM", "linux", &coloured),
        ("NO_COLOR", "1", &plain),
    ] {
        env.set(variable, value);
        let both = env.on_terminal("logs -p coder -p qa").stdout;
        assert!(both.starts_with(expected), "{variable}={value} {both:?}");
    }
}

#[test]
fn a_log_that_cannot_be_read_is_named_and_costs_only_itself() {
    let env = TestEnv::new();
    logged(&env, "coder", "of coder\n");
    logged(&env, "linked", "");
    logged(&env, "closed", "of closed\n");
    logged(&env, "pipe", "");
    let place = |profile: &str| env.log(profile).join("current");
    fs::remove_file(place("linked")).unwrap();
    symlink(place("coder"), place("linked")).unwrap();
    fs::remove_file(place("pipe")).unwrap();
    env.command("mkfifo").arg(place("pipe")).ran().ends(0);
    chmod(env.log("closed"), 0o000);
    let logs = env.log("").display().to_string();
    for (profile, verb, cause) in [
        (
            "linked",
            "open",
            "linked/current: Too many levels of symbolic links",
        ),
        ("closed", "open", "closed: Permission denied"),
        ("pipe", "read", "pipe/current: it is not a regular file"),
    ] {
        let cause = format!("unable to {verb} {logs}{cause}\n");
        let ran = env.run(&["logs", "-p", profile, "-f"]);
        ran.is(111, "", format!("hermes-s6: fatal: {cause}"));
        let ran = env.run(&["logs", "-p", profile, "-p", "coder"]).ends(111);
        let warning = format!("hermes-s6: warning: profile {profile}: {cause}");
        assert_eq!(ran.stderr, warning);
        assert!(ran.stdout.ends_with(" | of coder\n"), "{ran:?}");
    }
    chmod(env.log("closed"), 0o755);
    fs::rename(env.home.join("logs"), env.home.join("elsewhere")).unwrap();
    symlink("elsewhere", env.home.join("logs")).unwrap();
    let ran = env.run("logs -p coder").ends(111);
    assert_eq!(ran.stdout, "", "{ran:?}");
}

#[test]
fn root_reads_with_the_rights_of_the_owner_in_every_layout() {
    if !is_root() {
        return skip("only root can become another user");
    }
    let mut env = TestEnv::new();
    logged(&env, "coder", "of coder\n");
    env.set("HERMES_S6_USER", "nobody");
    // Root's slots, those of the owner, and no scan directory at all: there, nothing is supervised yet.
    for owner in [Some(0), Some(env.owner), None] {
        let _last = fs::remove_dir(&env.scandir);
        if let Some(owner) = owner {
            fs::create_dir(&env.scandir).unwrap();
            chown(&env.scandir, Some(owner), Some(owner)).unwrap();
            chown(&env.place, Some(0), Some(0)).unwrap();
            assert_eq!(fs::metadata(&env.scandir).unwrap().uid(), owner);
        }
        chmod(env.log("coder"), 0o700);
        let ran = env.run_as_root("logs -p coder").ends(0);
        assert_eq!(ran.stdout, "of coder\n", "{ran:?}");
        // What root itself could read.
        chmod(env.log("coder"), 0o000);
        let ran = env.run_as_root("logs -p coder").ends(111);
        assert_eq!(ran.stdout, "", "{ran:?}");
        ran.warns("/coder: Permission denied\n");
    }
}
