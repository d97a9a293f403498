//! A log never stops its gateway, whatever happens to the places that it is written to, and goes on by itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::pid1::{Container, TREE, tree_service, volume};
use crate::support::{Process, Run, TestEnv, Tree, chmod, is_root, kill, names, programs, skip};

/// How long s6's programs may wait, in milliseconds.
const PATIENCE_MILLISECONDS: &str = "120000";

/// As many lines as fill a pipe fifty times. In memory for both places, where an s6-log comes to write neither before
/// it has read everything (2.13), they are still below the limit of a logger.
const LINES: usize = 25_000;

/// The numbers of the lines that a gateway has said, in a text.
fn lines(text: &str) -> Vec<usize> {
    let number = |line: &str| line.split_once("line ")?.1.split_once(',')?.0.parse().ok();
    text.lines().filter_map(number).collect()
}

/// What is in all files of a log directory, the oldest first.
fn logged(directory: &Path) -> String {
    let mut files = names(directory);
    // `@` comes before the letters, and the times in the names are in their order.
    files.retain(|name| name.starts_with('@') || name == "previous" || name == "current");
    files.sort_by_key(|name| (name == "current", name == "previous", name.clone()));
    let read = |name: &String| fs::read_to_string(directory.join(name)).unwrap_or_default();
    files.iter().map(read).collect()
}

fn all() -> Vec<usize> {
    (1..=LINES).collect()
}

/// Checks that all lines of coder are in its files, once and in their order.
#[track_caller]
fn has_all_lines(env: &TestEnv) {
    let directory = env.log("coder");
    let text = logged(&directory);
    let others: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("line "))
        .collect();
    let numbers = lines(&text);
    let expected = all();
    let first = numbers.iter().zip(&expected).take_while(|(a, b)| a == b);
    let (first, found) = (first.count(), numbers.len());
    let files = names(&directory);
    assert!(
        numbers == expected,
        "{found} lines, the first {first} in order, with {others:#?} in {files:?}"
    );
}

fn talkative(env: &TestEnv) {
    env.running("coder");
    env.behaviour("coder", &format!("talk {LINES}\n"));
}

fn loggers(env: &TestEnv) -> Vec<Process> {
    let mut found = env.processes_named("s6-log");
    found.retain(|process| {
        process.cmdline.contains("logs/gateways/coder") || process.cmdline.contains("pcoder:")
    });
    found
}

/// Waits until another logger of coder than this one runs, and it alone.
#[track_caller]
fn await_another(env: &TestEnv, logger: &Process) {
    env.wait_for("another logger", || {
        let loggers = loggers(env);
        loggers.len() == 1 && loggers[0].pid != logger.pid
    });
}

/// Tells to how many places the logger of coder writes.
fn places(env: &TestEnv) -> Vec<&'static str> {
    let loggers = loggers(env);
    assert!(loggers.len() < 2, "{loggers:?}");
    let words = loggers.first().map_or("", |logger| &logger.cmdline);
    let mut places = Vec::new();
    places.extend(words.contains("\x001\0").then_some("stdout"));
    places.extend(words.contains("logs/gateways/coder").then_some("file"));
    places
}

/// Makes a volume with a talkative gateway, whose tree ends soon also where a logger cannot write.
fn talkative_volume() -> TestEnv {
    let mut env = TestEnv::new();
    env.set("HERMES_S6_STOP_TIMEOUT", "5");
    talkative(&env);
    chmod(&env.place, 0o777);
    env
}

/// Starts a tree whose stdout is a pipe that nobody reads.
fn unread(env: &TestEnv) -> Tree<'_> {
    unread_with(env, "")
}

/// The same, with more words for the shell.
fn unread_with<'e>(env: &'e TestEnv, words: &str) -> Tree<'e> {
    let pipe = env.place.join("pipe");
    let program = programs().join("hermes-s6");
    let line = format!(
        "mkfifo {0}; exec 9<>{0}; exec {1} supervise >{0} {words}",
        pipe.display(),
        program.display()
    );
    let mut shell = env.command("sh");
    shell.args(["-c", &line]);
    let tree = env.start(shell);
    env.wait_for("the tree to be watched", || env.run("detect").code == 0);
    tree
}

#[test]
fn a_stdout_that_nobody_reads_costs_nothing_in_the_file() {
    let env = talkative_volume();
    let tree = unread(&env);
    env.await_event("coder", "talked", 1);
    let log = env.log("coder");
    let is_written = || logged(&log).contains(&format!("line {LINES},"));
    env.wait_for("the last line", is_written);
    has_all_lines(&env);
    env.wait_for("a logger for the file alone", || places(&env) == ["file"]);
    assert!(logged(&log).contains("hermes-s6: nobody reads the container's stdout"));
    // None is lost by the change.
    has_all_lines(&env);
    env.run("status").ends(0).says("coder    ready");
    // Somebody reads again.
    let mut cat = env.command("sh");
    let line = format!(
        "exec cat {} >{}",
        env.place.join("pipe").display(),
        env.place.join("read").display()
    );
    let _reader = env.spawn({
        cat.args(["-c", &line]);
        cat
    });
    env.wait_for("a logger for both", || places(&env) == ["stdout", "file"]);
    env.run("restart -p coder --no-wait");
    let read = || fs::read_to_string(env.place.join("read")).unwrap_or_default();
    env.wait_for("a new process on stdout", || {
        read()
            .matches("coder: stand-in gateway of coder, pid")
            .count()
            >= 2
    });
    assert_eq!(tree.stop(), 0);
}

#[test]
fn a_tree_whose_stdout_nobody_reads_ends_in_its_time() {
    let env = talkative_volume();
    let tree = unread(&env);
    env.await_event("coder", "talked", 1);
    assert_eq!(tree.stop(), 0);
    assert_eq!(env.count("coder", "saved"), 1);
    assert!(logged(&env.log("coder")).ends_with("stand-in gateway of coder has saved\n"));
}

#[test]
fn an_output_that_nobody_reads_keeps_nothing_waiting_that_would_say_something() {
    let env = talkative_volume();
    env.hold("coder", "ready");
    // As on a terminal: what is said about the loggers goes where nobody reads.
    let tree = unread_with(&env, "2>&1");
    let line = format!(
        "dd if=/dev/zero of={} oflag=nonblock bs=1 count=1000000 2>&1 || true",
        env.place.join("pipe").display()
    );
    env.wait_for("a full pipe", || {
        let filled = env.command("sh").args(["-c", &line]).output().unwrap();
        String::from_utf8_lossy(&filled.stdout).contains("\n0+0 records out")
    });
    env.let_go("coder", "ready");
    env.await_event("coder", "talked", 1);
    env.wait_for("a logger for the file alone", || places(&env) == ["file"]);
    has_all_lines(&env);
    env.run("status").ends(0);
    assert_eq!(tree.stop(), 0);
    assert_eq!(env.count("coder", "saved"), 1);
}

#[test]
fn a_full_volume_costs_nothing_on_stdout_and_the_log_goes_on_when_there_is_room() {
    let Some(env) = volume() else { return };
    talkative(&env);
    let logs = env.home.join("logs");
    let prepare = format!(
        "mkdir -p {0}; mount -t tmpfs -o size=512k,uid=10000,gid=10000,mode=755 tmpfs {0}; head -c 300k /dev/zero >{0}/other; {1}",
        logs.display(),
        tree_service()
    );
    let container = Container::start(&env, "web-1", &prepare);
    let run = |line: &str| container.hermes_s6("hermes", TREE, line);
    env.await_event("coder", "talked", 1);
    let last = format!("coder: line {LINES},");
    env.wait_for("the last line", || env.out().contains(&last));
    env.wait_for("a logger for stdout alone", || places(&env) == ["stdout"]);
    assert_eq!(lines(&env.out()), all(), "none is lost on stdout");
    run("status")
        .ends(1)
        .says("coder log: not written since 20")
        .says("No space left on device");
    run("doctor")
        .ends(1)
        .says("remove what is not needed there");
    let json = run("status -p coder --json").ends(1).stdout;
    assert!(
        json.contains(r#""log":{"written":false,"reason":"No space left on device","since":"#),
        "{json}"
    );
    let other = logs.join("other").display().to_string();
    container.run("root", &["rm", &other]).ends(0);
    env.wait_for("a logger for both", || places(&env) == ["stdout", "file"]);
    run("status").ends(0);
    let ran = container.run(
        "root",
        &["cat", &format!("{}/gateways/coder/current", logs.display())],
    );
    ran.says("hermes-s6: lines of the time since 20")
        .says("are missing in ");
}

#[test]
fn a_log_whose_file_or_directory_is_removed_goes_on_by_itself() {
    let env = TestEnv::new();
    env.running("coder");
    let tree = env.supervise();
    env.await_state("coder", "ready");
    let log = env.log("coder");
    let pid = env.pid("coder");
    env.wait_for("the log", || log.join("current").exists());
    // Its logger may make a file there meanwhile.
    let remove = |directory: &Path| {
        env.wait_for("its end", || fs::remove_dir_all(directory).is_ok());
    };
    let remove_file = || {
        let current = log.join("current");
        env.wait_for("its end", || fs::remove_file(&current).is_ok());
    };
    let remove_directory = || remove(&log);
    let remove_all = || remove(&env.home.join("logs"));
    let removals: [&dyn Fn(); 3] = [&remove_file, &remove_directory, &remove_all];
    for remove in removals {
        let mut ran = None;
        env.wait_for("a look before it is mended", || {
            remove();
            ran = Some(env.run("status -p coder"));
            ran.as_ref().is_some_and(|ran| ran.code == 1)
        });
        let ran = ran.unwrap();
        ran.says("coder log: not written, its ");
        env.wait_for("the log again", || {
            fs::read_to_string(log.join("current"))
                .is_ok_and(|text| text.contains("lines are missing in"))
        });
        env.run("status").ends(0);
    }
    assert_eq!(env.pid("coder"), pid, "the gateway was left alone");
    assert_eq!(tree.stop(), 0);
    assert!(logged(&log).ends_with("stand-in gateway of coder has saved\n"));
}

#[test]
fn a_log_directory_that_cannot_be_written_is_said_until_it_can() {
    let env = TestEnv::new();
    env.running("coder");
    let logs = env.home.join("logs/gateways");
    fs::create_dir_all(&logs).unwrap();
    env.own();
    chmod(&logs, 0o555);
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.wait_for("a logger for stdout alone", || places(&env) == ["stdout"]);
    env.run("status -p coder")
        .ends(1)
        .says("coder log: not written, ")
        .says("its directory was removed");
    let said =
        || env.out().contains("coder: hermes-s6: ") && env.out().contains(" is not written: ");
    env.wait_for("a line about it", said);
    chmod(&logs, 0o755);
    env.wait_for("a logger for both", || places(&env) == ["stdout", "file"]);
    env.run("status").ends(0);
}

#[test]
fn a_log_that_another_container_has_is_no_fault_of_a_gateway_that_does_not_run_here() {
    let env = TestEnv::new();
    env.profile("coder", "");
    let log = env.log("coder");
    fs::create_dir_all(&log).unwrap();
    env.own();
    let mut setlock = env.command("s6-setlock");
    setlock.arg(log.join("lock"));
    let _other = env.hold_lock(setlock);
    let _tree = env.supervise();
    env.wait_for("a logger for stdout alone", || places(&env) == ["stdout"]);
    env.wait_for("it to be ready", || {
        let svstat = env.slot("coder").join("log").display().to_string();
        let ran = env
            .command("s6-svstat")
            .args(["-o", "ready", &svstat])
            .output()
            .unwrap();
        ran.stdout == b"true\n"
    });
    env.run("status").ends(0);
}

#[test]
fn a_process_that_a_gateway_has_left_keeps_neither_a_stop_nor_an_unregister_waiting() {
    let env = TestEnv::new();
    for name in ["coder", "writer"] {
        env.running(name).behaviour(name, "leave 3000\n");
    }
    let tree = env.supervise();
    for name in ["coder", "writer"] {
        env.await_state(name, "ready");
    }
    let left = || {
        let mut sleeps = env.processes_named("sleep");
        sleeps.retain(|process| process.cmdline == "sleep\x003000\0");
        sleeps.len()
    };
    env.wait_for("processes that they leave", || left() == 2);
    env.run("unregister -p writer").ends(0);
    assert!(!env.slot("writer").exists());
    assert_eq!(tree.stop(), 0);
    assert_eq!(left(), 2, "nobody has ended them");
    for name in ["coder", "writer"] {
        assert!(logged(&env.log(name)).ends_with("has saved\n"), "{name}");
    }
}

#[test]
fn a_killed_supervisor_of_a_logger_leads_to_one_logger() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.wait_for("a logger for both", || places(&env) == ["stdout", "file"]);
    let logger = loggers(&env).remove(0);
    let supervisors = env.processes_named("s6-supervise");
    let supervisor = supervisors
        .iter()
        .find(|process| process.pid == logger.parent);
    supervisor.unwrap().kill("KILL");
    await_another(&env, &logger);
    env.behaviour("coder", &format!("talk {LINES}\n"));
    env.run("restart -p coder").ends(0);
    env.await_event("coder", "talked", 1);
    let log = env.log("coder");
    let is_written = || logged(&log).contains(&format!("line {LINES},"));
    env.wait_for("the last line", is_written);
    has_all_lines(&env);
    assert_eq!(lines(&env.out()), all());
}

#[test]
fn a_logger_is_bounded_in_its_memory() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.wait_for("a logger", || places(&env).len() == 2);
    let limits = fs::read_to_string(format!("/proc/{}/limits", loggers(&env)[0].pid)).unwrap();
    let data = limits
        .lines()
        .find(|line| line.starts_with("Max data size"))
        .unwrap();
    assert_eq!(data.split_whitespace().nth(3), Some("16000000"));
    if !is_root() {
        return skip("the owner of a process's files tells nothing here");
    }
    assert_ne!(fs::metadata(env.log("coder")).unwrap().uid(), 0);
}

#[test]
fn python_holds_no_output_back_unless_the_environment_says_so() {
    for (set, expected) in [
        (None, "PYTHONUNBUFFERED=1\0"),
        (Some(""), "PYTHONUNBUFFERED=\0"),
    ] {
        let mut env = TestEnv::new();
        if let Some(value) = set {
            env.set("PYTHONUNBUFFERED", value);
        }
        env.running("coder");
        let _tree = env.supervise();
        env.await_state("coder", "ready");
        let place = format!("/proc/{}/environ", env.pid("coder"));
        let environment = fs::read_to_string(place).unwrap();
        assert!(environment.contains(expected), "{environment}");
    }
}

#[test]
fn a_logger_starts_also_where_its_service_directory_cannot_be_looked_at() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.wait_for("a logger for both", || places(&env) == ["stdout", "file"]);
    let logger = loggers(&env).remove(0);
    chmod(env.slot("coder").join("log/supervise/death_tally"), 0o000);
    logger.kill("HUP");
    await_another(&env, &logger);
    env.wait_for("a logger for both", || places(&env) == ["stdout", "file"]);
}

#[test]
fn a_tender_that_is_missing_or_down_is_found_and_brought_back() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let service = env.scandir.join("hermes-s6-tender");
    let said = "hermes-s6-tender, which looks after the logs, does not run";
    env.run("doctor")
        .says("hermes-s6-tender looks after the logs");
    let mut svc = env.command("s6-svc");
    svc.args(["-wD", "-T", PATIENCE_MILLISECONDS, "-d"])
        .arg(&service)
        .ran()
        .ends(0);
    env.run("doctor").ends(1).says(said);
    env.run("reconcile").ends(0);
    env.run("doctor")
        .says("hermes-s6-tender looks after the logs");
    fs::rename(&service, env.place.join("elsewhere")).unwrap();
    env.run("doctor").ends(1).says(said);
    env.run("reconcile").ends(0);
    env.wait_for("a tender", || {
        env.run("doctor")
            .stdout
            .contains("hermes-s6-tender looks after the logs")
    });
}

#[test]
fn a_killed_supervisor_of_the_tender_leads_to_one_tender() {
    let env = TestEnv::new();
    let _tree = env.supervise();
    let tenders = || env.processes_named("loopwhilex");
    env.wait_for("a tender", || tenders().len() == 1);
    let before = tenders().remove(0);
    kill(before.parent, "KILL");
    env.wait_for(
        "another tender, alone",
        || matches!(&tenders()[..], [tender] if tender.pid != before.pid),
    );
}
