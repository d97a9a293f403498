//! A log never stops its gateway, with the real Hermes: each thing that keeps a log from being written, in a container.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::stop::LONG;
use super::{Container, Volume, docker, name};
use crate::support::{Ran, has, skip, wait_for};

/// A real gateway that answers requests, and says as many bytes about each as the request has.
const PREPARE: &str = r#"profile default running
    printf 'API_SERVER_ENABLED=true\nAPI_SERVER_KEY=0123456789abcdef0123456789abcdef\n' >/opt/data/.env
    printf '#!/bin/sh\nexec /opt/hermes/.venv/bin/hermes "$@" -v\n' >/opt/data/loud
    chmod 755 /opt/data/loud"#;

/// So that what waits for its time to be over waits longer than docker does.
const OPTIONS: [&str; 2] = [LONG, "--env=HERMES_S6_HERMES=/opt/data/loud"];

/// The seconds that docker stop needs, as docs/image.md has it.
const STOP_SECONDS: &str = "40";

/// What the real Hermes says once for each SIGTERM.
const TOLD: &str = "Received SIGTERM";

/// As many requests as fill a pipe ten times; and as many as fill all that docker has between, and the memory of a
/// logger, but not all files of a log.
const SOME: usize = 100;
const MANY: usize = 800;

const LOG: &str = "/opt/data/logs/gateways/default";

/// Sends requests to the gateway, one after the other, and sees to it that each is answered.
#[track_caller]
fn ask(container: &Container, count: usize) {
    let script = format!(
        "import urllib.request as r
words = {{'Authorization': 'Bearer 0123456789abcdef0123456789abcdef', 'User-Agent': 'x' * 7000}}
for _ in range({count}):
    r.urlopen(r.Request('http://127.0.0.1:8642/v1/models', headers=words), timeout=60).read()
print('answered')"
    );
    let ran = container.exec_as("hermes", &["python3", "-c", &script]);
    assert_eq!(ran.stdout, "answered\n", "{ran:?}");
}

/// How many requests a text tells of.
fn told_of(text: &str) -> usize {
    text.matches("INFO aiohttp.access: ").count()
}

fn status(container: &Container) -> Ran {
    container.exec_as("hermes", "hermes-s6 status")
}

/// Tells how long something took, to whoever runs the tests with `--nocapture`.
fn took(what: &str, start: Instant) {
    let time = start.elapsed();
    let test = std::thread::current();
    let what = format!("{}: {what}", test.name().unwrap_or_default());
    std::io::stderr()
        .write_all(format!("{what}: {time:.1?}\n").as_bytes())
        .unwrap();
}

/// Waits until the logger has these words, as a pattern of the shell.
fn await_logger(container: &Container, words: &str) {
    let words = words.replace(' ', "\\ ");
    let find = format!(
        "for place in /proc/[0-9]*/cmdline; do
          case $(tr '\\0' ' ' <$place; echo .) in
            /command/s6-log\\ -p\\ -d3\\ --\\ {words}.) echo $place ;;
          esac
        done 2>/dev/null"
    );
    container.wait_for("another logger", || !container.sh(&find).is_empty());
}

/// Stops a container in its documented time, and tells how long it took to whoever wants to see it.
#[track_caller]
fn stop(container: &Container) {
    let start = Instant::now();
    docker(&["stop", "--time", STOP_SECONDS, &container.name]).ends(0);
    took("docker stop", start);
    assert_eq!(container.exit_code(), 0, "{}", container.explain());
}

/// All that is in the log directory.
fn logged(volume: &Volume) -> String {
    volume.script(
        "0",
        &format!("cat {LOG}/@* {LOG}/current 2>/dev/null || true"),
    )
}

#[test]
fn a_log_that_is_written_is_what_the_others_are_compared_with() {
    volume!(volume, PREPARE);
    let container = volume.begin(&OPTIONS, &["default"]);
    ask(&container, MANY);
    status(&container).ends(0);
    stop(&container);
    for text in [container.said(), logged(&volume)] {
        assert_eq!((told_of(&text), text.matches(TOLD).count()), (MANY, 1));
    }
}

#[test]
fn a_removed_file_or_directory_of_a_log_stops_no_gateway() {
    volume!(volume, PREPARE);
    let container = volume.begin(&OPTIONS, &["default"]);
    for place in [&format!("{LOG}/current"), LOG, "/opt/data/logs"] {
        container.wait_for("the log", || status(&container).code == 0);
        // In one step: the log goes on by itself.
        let line = format!("until rm -rf {place}; do :; done; exec hermes-s6 status");
        let ran = container.exec_as("hermes", &["sh", "-c", &line]);
        ran.ends(1).says("default log: not written, its ");
        ask(&container, SOME);
    }
    container.wait_for("the log", || status(&container).code == 0);
    container.sh(&format!("rm {LOG}/current"));
    stop(&container);
    let said = container.said();
    assert_eq!((told_of(&said), said.matches(TOLD).count()), (3 * SOME, 1));
    has(
        &said,
        "lines are missing in /opt/data/logs/gateways/default",
    );
}

#[test]
fn a_full_volume_stops_no_gateway() {
    let size = [
        "--opt=type=tmpfs",
        "--opt=device=tmpfs",
        "--opt=o=size=64m,uid=10000,gid=10000",
    ];
    let Some(volume) = Volume::made(&size) else {
        return;
    };
    // Without a container, such a volume loses what is on it.
    let _holder = volume.start(&["--entrypoint=sleep"], &["infinity"]);
    volume.script("10000:10000", PREPARE);
    let container = volume.begin(&OPTIONS, &["default"]);
    ask(&container, SOME);
    container
        .exec_as("hermes", &["sh", "-c", "cat /dev/zero >/opt/data/fill"])
        .warns("No space left");
    ask(&container, MANY);
    status(&container)
        .ends(1)
        .says("default log: not written since 20")
        .says("No space left on device");
    stop(&container);
    let said = container.said();
    let counts = (told_of(&said), said.matches(TOLD).count());
    assert_eq!(counts, (SOME + MANY, 1), "{}", container.explain());
}

#[test]
fn a_log_directory_that_cannot_be_written_stops_no_gateway() {
    volume!(volume, PREPARE);
    let container = volume.begin(&OPTIONS, &["default"]);
    ask(&container, SOME);
    container.sh(&format!("chown root {LOG}; chmod 555 {LOG}"));
    // A file that is open goes on until it is full.
    ask(&container, MANY);
    container.wait_for("a word about it", || status(&container).code == 1);
    status(&container)
        .says("default log: not written")
        .says("Permission denied");
    stop(&container);
    let said = container.said();
    let counts = (told_of(&said), said.matches(TOLD).count());
    assert_eq!(counts, (SOME + MANY, 1), "{}", container.explain());
}

/// A client of docker whose container writes to it, and which does not read any more.
struct Unread(Child);

impl Drop for Unread {
    fn drop(&mut self) {
        // What is stopped can be killed. docker itself waits for it when the container has ended.
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Checks a container whose output goes to a client that does not read it.
fn unread(options: &[&str]) {
    volume!(volume, PREPARE);
    let name = name();
    let words = volume.run_words(&name, &[&OPTIONS, options].concat(), &["gateway", "run"]);
    let client = Command::new("docker")
        .arg("run")
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let container = Container {
        volume: &volume,
        name,
    };
    let client = Unread(client);
    let is_there = || docker(&["inspect", &container.name]).code == 0;
    wait_for("the container", is_there, String::new);
    container.await_states("ready", &["default"]);
    let host_pid = container.inspect("{{.State.Pid}}");
    let process = Path::new("/proc").join(&host_pid);
    if !process.exists() {
        skip("the containers' processes cannot be seen here");
        return;
    }
    assert!(crate::support::kill(client.0.id(), "STOP"));
    ask(&container, MANY);
    await_logger(&container, "n10 *");
    ask(&container, SOME);
    status(&container).ends(0);
    // docker's own part comes back only when the client reads or is gone.
    let start = Instant::now();
    let mut stop = Command::new("docker")
        .args(["stop", "--time", STOP_SECONDS, &container.name])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the end of PID 1", || !process.exists(), String::new);
    took("the end of the container", start);
    drop(client);
    assert!(stop.wait().unwrap().success());
    let text = logged(&volume);
    assert_eq!(container.exit_code(), 0, "{text}");
    has(&text, "hermes-s6: nobody reads the container's stdout");
    assert_eq!(
        (told_of(&text), text.matches(TOLD).count()),
        (MANY + SOME, 1)
    );
}

#[test]
fn a_stdout_or_a_terminal_that_nobody_reads_stops_no_gateway() {
    // One after the other: docker waits for such a client.
    unread(&["--log-driver=none"]);
    unread(&["--log-driver=none", "--tty"]);
}

#[test]
fn a_process_that_a_gateway_has_left_with_its_output_delays_no_stop() {
    volume!(
        volume,
        "profile default running; behaviour default 'leave 600'"
    );
    let container = volume.begin(&[LONG], &["default"]);
    container.wait_for("the process", || {
        let all = container.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
        all.contains("sleep 600 ")
    });
    stop(&container);
    let counts = container.life("default");
    assert_eq!(counts, [1, 1, 1], "{}", container.said());
}
