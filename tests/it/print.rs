//! What becomes of a run whose output cannot be printed: it says so, and a script sees it by the exit code.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::fs::{OFlags, fcntl_setfl};

use crate::support::{Ran, Run, TestEnv, chmod, closes, is_root, mode, names, programs, skip};

/// What every command says that cannot print its data on a full disk.
const FULL: &str = "hermes-s6: fatal: unable to write stdout: No space left on device\n";

/// Runs a command with this as its stdout.
fn printing_on(stdout: impl Into<Stdio>, command: &mut Command) -> Ran {
    let child = command.stdout(stdout).stderr(Stdio::piped()).spawn();
    child.unwrap().wait_with_output().unwrap().into()
}

/// Checks what commands do that cannot print.
#[track_caller]
fn fail_on_full(env: &TestEnv, lines: &[&str]) {
    for line in lines {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ran = printing_on(full, &mut env.hermes_s6(*line));
        assert_eq!(ran.code, 111, "{line}: {ran:?}");
        closes(&ran.stderr, FULL);
        assert_eq!(ran.stderr.matches("fatal").count(), 1, "{line}: {ran:?}");
    }
}

#[test]
fn what_cannot_be_printed_without_a_tree_is_told_and_111() {
    let env = TestEnv::new();
    env.running("coder");
    let out = format!("render -p coder --out {}", env.place.display());
    fail_on_full(
        &env,
        &[
            "--help",
            "-V",
            "--version",
            "status --help",
            "detect",
            "detect --json",
            "doctor",
            "doctor --json",
            "port",
            "port -p coder",
            "reconcile --dry-run",
            "reconcile --dry-run --json",
            "render -p coder",
            &out,
            "survey",
            "reconcile",
            "reconcile --json",
            "status",
            "list",
        ],
    );
    assert!(env.slot("coder").is_dir(), "what was to be done is done");
}

#[test]
fn what_cannot_be_printed_of_a_tree_is_told_and_111() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    fail_on_full(
        &env,
        &[
            "status",
            "status -p coder",
            "status --json",
            "status --format table",
            "status --format json",
            "status --format prometheus",
            "list",
            "list --json",
            "logs -p coder",
            "logs -p coder -f",
            "start -p coder",
            "start -p coder --json",
            "restart -p coder",
            "stop -p coder",
            "stop -p coder --json",
            "unregister -p coder",
            "register -p coder",
            "register -p coder",
            "dispatch start -p coder",
            "dispatch install",
            "hermes -p coder gateway status",
            "hermes -p coder gateway stop",
            "hermes gateway list",
            "hermes gateway install",
            "hermes gateway start --all",
            "shutdown",
            "shutdown --json",
        ],
    );
    assert_eq!(env.state("coder"), "down", "what was to be done is done");
}

#[test]
fn streams_that_are_closed_change_no_answer() {
    let env = TestEnv::new();
    env.running("coder");
    env.run("reconcile").ends(0);
    let program = programs().join("hermes-s6");
    for line in [
        "--help",
        "status",
        "status --json",
        "list",
        "doctor",
        "detect",
        "port",
        "reconcile",
        "logs -p coder",
        "render -p coder",
        "start -p coder",
        "stop",
        "no-such-command",
        "hermes gateway status",
    ] {
        let code = env.run(line).code;
        for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
            let script = format!("exec {} {line} {closed}", program.display());
            let ran = env.command("sh").args(["-c", &script]).ran();
            assert_eq!(ran.code, code, "{line} {closed} {ran:?}");
            assert!(
                !ran.stderr.contains("unable to write"),
                "{line} {closed} {ran:?}"
            );
        }
    }
}

#[test]
fn an_answer_of_no_that_cannot_be_printed_is_111_too() {
    let env = TestEnv::new();
    env.running("coder");
    env.run("reconcile").ends(0);
    env.run("status").ends(1);
    fail_on_full(&env, &["status", "status --json"]);
}

#[test]
fn a_stdout_that_is_only_for_reading_is_told() {
    let env = TestEnv::new();
    let ran = printing_on(File::open("/dev/null").unwrap(), &mut env.hermes_s6("port"));
    let message = "hermes-s6: fatal: unable to write stdout: Bad file descriptor\n";
    ran.is(111, "", message);
}

#[test]
fn a_reader_who_goes_away_changes_no_answer() {
    let env = TestEnv::new();
    env.running("coder");
    env.run("reconcile").ends(0);
    for (line, code) in [("--help", 0), ("status", 1), ("port", 0), ("doctor", 1)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        printing_on(writer, &mut env.hermes_s6(line)).is(code, "", "");
    }
}

#[test]
fn a_stdout_that_does_not_block_gets_all_of_it() {
    let env = TestEnv::new();
    env.profile("coder", "");
    fs::create_dir_all(env.log("coder")).unwrap();
    let lines: Vec<String> = (0..20_000)
        .map(|number| format!("line {number}\n"))
        .collect();
    let lines = lines.concat();
    env.write(&env.log("coder").join("current"), &lines);
    env.own();
    let (mut reader, writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    let mut command = env.command(programs().join("hermes-s6"));
    command.args(["logs", "-p", "coder", "-n", "20000"]);
    let mut child = command.stdout(writer).spawn().unwrap();
    // It still has the writing end of the pipe.
    drop(command);
    // Until the pipe is full, there is nothing to wait for.
    let pipe = 64 << 10;
    let mut read = vec![0; pipe];
    reader.read_exact(&mut read).unwrap();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(String::from_utf8(read).unwrap() == lines);
}

/// A home with slots and without an s6-svscan, so that its status does not change; and a directory for metrics.
fn with_metrics() -> (TestEnv, PathBuf) {
    let env = TestEnv::new();
    env.running("coder");
    env.run("reconcile").ends(0);
    let metrics = env.place.join("metrics");
    fs::create_dir(&metrics).unwrap();
    env.own();
    (env, metrics)
}

/// The status as metrics, written to this file.
fn out(file: &str) -> String {
    format!("status --format prometheus --out {file}")
}

#[test]
fn what_is_written_to_a_file_is_what_would_be_printed_and_so_is_the_exit_code() {
    let (env, metrics) = with_metrics();
    let file = metrics.join("hermes.prom");
    for line in [
        "status",
        "status -p coder",
        "status --json",
        "status --format prometheus",
    ] {
        let printed = env.run(line).ends(1);
        let written = env.run(&*format!("{line} --out {}", file.display()));
        written.is(1, "", "");
        assert_eq!(fs::read_to_string(&file).unwrap(), printed.stdout, "{line}");
        assert_eq!(names(&metrics), ["hermes.prom"], "{line}");
    }
    env.run(&*(out(file.to_str().unwrap()) + " -p default"))
        .is(0, "", "");
    // A table in a file has no colours, wherever the command is called from.
    let ran = env.on_terminal(&format!("status --out {}", file.display()));
    assert_eq!(ran.stdout, "", "{ran:?}");
    assert!(!fs::read_to_string(&file).unwrap().contains('\x1b'));
    // A name without a directory is one in the working directory.
    env.run("status --out here").is(1, "", "");
    assert!(env.place.join("here").is_file());
}

#[test]
fn everybody_may_read_the_file_whatever_the_umask() {
    let (env, metrics) = with_metrics();
    let program = programs().join("hermes-s6");
    let line = format!(
        "umask 077; exec {} {}",
        program.display(),
        out("metrics/hermes.prom")
    );
    env.command("sh").args(["-c", &line]).ran().ends(1);
    assert_eq!(mode(&metrics.join("hermes.prom")), 0o644);
}

#[test]
fn who_reads_the_file_never_gets_a_part_of_it() {
    let (env, metrics) = with_metrics();
    let file = metrics.join("hermes.prom");
    let line = out("metrics/hermes.prom");
    env.run(&*line).is(1, "", "");
    let whole = fs::read_to_string(&file).unwrap();
    let mut before = File::open(&file).unwrap();
    // Several at a time, as when one run takes longer than the time between two.
    for _ in 0..10 {
        let writers: Vec<_> = (0..4).map(|_| env.background(&*line)).collect();
        for mut writer in writers {
            while writer.runs() {
                assert!(fs::read_to_string(&file).unwrap() == whole);
            }
            assert_eq!(writer.end().code, 1);
        }
    }
    assert_eq!(names(&metrics), ["hermes.prom"]);
    before.rewind().unwrap();
    let mut read = String::new();
    before.read_to_string(&mut read).unwrap();
    assert_eq!(read, whole, "the file that was there is another one");
    let inode = before.metadata().unwrap().ino();
    assert_ne!(inode, fs::metadata(&file).unwrap().ino());
}

#[test]
fn a_file_that_cannot_be_written_is_told_and_nothing_is_left() {
    let (env, metrics) = with_metrics();
    fs::create_dir(metrics.join("directory")).unwrap();
    symlink("hermes.prom", metrics.join("link")).unwrap();
    env.root_command("mkfifo")
        .arg(metrics.join("fifo"))
        .ran()
        .ends(0);
    env.own();
    let file = metrics.join("hermes.prom");
    env.write(&file, "old");
    let before = names(&metrics);
    let regular = "name a regular file, or a new one";
    let missing = "No such file or directory: name a directory that exists";
    for (name, code, message) in [
        (
            "none/hermes.prom",
            111,
            format!("unable to open metrics/none: {missing}"),
        ),
        (
            "hermes.prom/x",
            111,
            "unable to open metrics/hermes.prom: Not a directory: name a directory that exists"
                .to_owned(),
        ),
        (
            "directory",
            100,
            format!("metrics/directory is a directory: {regular}"),
        ),
        (
            "directory/",
            100,
            "--out 'metrics/directory/' is not the name of a file: name a file in a directory"
                .to_owned(),
        ),
        (
            "directory/..",
            100,
            "--out 'metrics/directory/..' is not the name of a file: name a file in a directory"
                .to_owned(),
        ),
        (
            "link",
            100,
            format!("metrics/link is a symbolic link: {regular}"),
        ),
        (
            "fifo",
            100,
            format!("metrics/fifo is not a regular file: {regular}"),
        ),
    ] {
        let ran = env.run(&*out(&format!("metrics/{name}")));
        ran.is(code, "", format!("hermes-s6: fatal: {message}\n"));
        assert_eq!(names(&metrics), before, "{name}");
    }
    // In the middle of the file.
    let program = programs().join("hermes-s6");
    let line = format!(
        "trap '' XFSZ; ulimit -f 0; exec {} {}",
        program.display(),
        out("metrics/hermes.prom")
    );
    let ran = env.command("sh").args(["-c", &line]).ran();
    let message = "hermes-s6: fatal: unable to write metrics/hermes.prom: File too large\n";
    ran.is(111, "", message);
    assert_eq!(names(&metrics), before);
    // And where no file may be made.
    chmod(&metrics, 0o555);
    let message = "hermes-s6: fatal: unable to write metrics/hermes.prom: Permission denied\n";
    env.run(&*out("metrics/hermes.prom")).is(111, "", message);
    chmod(&metrics, 0o755);
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
}

#[test]
fn root_writes_the_file_with_the_rights_of_the_owner_of_the_tree() {
    if !is_root() {
        return skip("only root can become another user");
    }
    let (mut env, metrics) = with_metrics();
    env.set("HERMES_S6_USER", "nobody");
    let file = metrics.join("hermes.prom");
    env.run_as_root(&*out("metrics/hermes.prom")).ends(1);
    assert_eq!(fs::metadata(&file).unwrap().uid(), env.owner);
    chown(&metrics, Some(0), Some(0)).unwrap();
    let ran = env.run_as_root(&*out("metrics/other.prom")).ends(111);
    ran.warns("unable to write metrics/other.prom: Permission denied");
}

#[test]
fn in_the_direct_layout_root_writes_the_file_and_follows_no_link_to_it() {
    if !is_root() {
        return skip("only root has slots of its own");
    }
    let mut env = TestEnv::new();
    env.set("HERMES_S6_USER", "nobody");
    env.running("coder");
    chown(&env.place, Some(0), Some(0)).unwrap();
    fs::create_dir(&env.scandir).unwrap();
    env.run_as_root("reconcile").ends(0);
    let metrics = env.place.join("metrics");
    fs::create_dir(&metrics).unwrap();
    symlink(&metrics, env.home.join("metrics")).unwrap();
    let file = metrics.join("hermes.prom");
    let way = env.home.join("metrics/hermes.prom");
    let ran = env.run_as_root(&*out(way.to_str().unwrap())).ends(111);
    ran.warns("home/metrics: Not a directory: name a directory that exists; root follows no link");
    assert_eq!(names(&metrics), [""; 0]);
    for place in [file.to_str().unwrap(), "metrics/hermes.prom"] {
        env.run_as_root(&*out(place)).is(1, "", "");
        assert_eq!(fs::metadata(&file).unwrap().uid(), 0);
        fs::remove_file(&file).unwrap();
    }
}
