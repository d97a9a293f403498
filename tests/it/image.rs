//! Real containers of the image that `HERMES_S6_TEST_IMAGE` names: `make test-image`.
//!
//! The gateways are the stand-in of the other tests, unless a test says otherwise. Modules: `add` images that
//! hermes-s6 is added to, with what `HERMES_S6_TEST_ADDITION` names; `boot` what
//! comes back with a container, `bridge` Hermes' own code in its own process, `stop` how it ends, `owner`
//! whose the files and processes are, `limits` containers that may do less, `command` the container's
//! command, `pair` two containers on a volume, `content` what is in the image, `real` the real Hermes Agent,
//! `log` what keeps its logs from being written, `doors` its own commands, by its name and as a module, `seed` what a
//! volume begins with, `dashboard` the dashboard beside the gateways, `page` its page in a real browser, `examples` those
//! of the documentation, `tables` what its tables say, `migration` what it says of the image of the Hermes project.

/// Makes a volume of a name, as a script leaves it; without an image, the test ends here.
macro_rules! volume {
    ($name:ident) => {
        let Some($name) = crate::image::Volume::new() else {
            return;
        };
    };
    ($name:ident, $script:expr) => {
        let Some($name) = crate::image::Volume::with($script) else {
            return;
        };
    };
}

mod add;
mod boot;
mod bridge;
mod command;
mod content;
mod dashboard;
mod doors;
mod examples;
mod limits;
mod log;
mod migration;
mod owner;
mod page;
mod pair;
mod real;
mod seed;
mod stop;
mod tables;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{PATIENCE_SECONDS, Ran, Words, skip, wait_for};

/// The scan directory of the gateways.
const TREE: &str = "/run/hermes-s6/service";

/// What scripts that prepare a volume have at hand.
const FUNCTIONS: &str = r#"set -eu
home() { case $1 in default) echo /opt/data ;; *) echo "/opt/data/profiles/$1" ;; esac; }
# profile NAME [STATE [FIELD]]: STATE stands in FIELD of its state file.
profile() {
  mkdir -p "$(home "$1")"
  touch "$(home "$1")/SOUL.md"
  [ -z "${2:-}" ] || printf '{"%s":"%s"}' "${3:-desired_state}" "$2" >"$(home "$1")/gateway_state.json"
}
# behaviour NAME LINE: as the stand-in knows it.
behaviour() { echo "$2" >>"$(home "$1")/behaviour"; }
"#;

fn image() -> Option<&'static str> {
    static IMAGE: OnceLock<Option<String>> = OnceLock::new();
    IMAGE
        .get_or_init(|| std::env::var("HERMES_S6_TEST_IMAGE").ok())
        .as_deref()
}

/// Who starts and ends the containers of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Init {
    /// Debian's s6-svscan with the scripts of `rootfs/debian`.
    Ours,
    /// s6-overlay.
    Overlay,
    /// What `tests/overlay` puts in its place where its release cannot be fetched.
    StandIn,
}

/// Asks the image.
fn init() -> Init {
    static INIT: OnceLock<Init> = OnceLock::new();
    *INIT.get_or_init(|| {
        let has = |program: &str| {
            let test = format!("run --rm --entrypoint test {}", image().unwrap());
            docker(&*format!("{test} -x {program}")).code == 0
        };
        match (has("/usr/libexec/hermes-s6/boot"), has("/command/s6-rc")) {
            (true, _) => Init::Ours,
            (false, true) => Init::Overlay,
            (false, false) => Init::StandIn,
        }
    })
}

fn init_is_ours() -> bool {
    init() == Init::Ours
}

/// Gives a volume on if the init of the image is our own; else the test is skipped, for a reason.
fn only_ours(volume: Option<Volume>, reason: &str) -> Option<Volume> {
    let volume = volume?;
    if init_is_ours() {
        return Some(volume);
    }
    skip(reason);
    None
}

/// Options of containers that were never root's. s6-overlay can give them `/run`, its stand-in cannot.
fn never_root() -> &'static [&'static str] {
    match init() {
        Init::Ours | Init::Overlay => &["--user=10000:10000"],
        Init::StandIn => &[
            "--user=10000:10000",
            "--tmpfs=/run:exec,uid=10000,gid=10000",
        ],
    }
}

/// A name that no other container or volume has.
fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("hermes-s6-test-{}-{number}", std::process::id())
}

/// Runs docker, for a limited time.
fn docker(words: &(impl Words + ?Sized)) -> Ran {
    docker_with_input(words, None)
}

fn docker_with_input(words: &(impl Words + ?Sized), input: Option<&str>) -> Ran {
    let mut child = Command::new("timeout")
        .args(["600", "docker"])
        .args(words.words())
        .stdin(input.map_or_else(Stdio::null, |_| Stdio::piped()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(input) = input {
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
    }
    Ran::from(child.wait_with_output().unwrap())
}

/// Runs docker, which must succeed, and gives what it printed.
#[track_caller]
fn docker_ok(words: &(impl Words + ?Sized)) -> String {
    docker(words).ends(0).stdout
}

/// A data root of its own for each test, gone when the test is over.
struct Volume {
    name: String,
    /// The image of its containers.
    image: String,
}

impl Volume {
    /// Makes one; none, if there is no image to test.
    fn new() -> Option<Self> {
        Self::made(&[])
    }

    /// Makes one with options of `docker volume create`.
    fn made(options: &[&str]) -> Option<Self> {
        let Some(image) = image() else {
            skip("no image: make test-image");
            return None;
        };
        Some(Self::of(image, options))
    }

    /// Makes one for containers of another image than the one to test.
    fn of(image: &str, options: &[&str]) -> Self {
        let name = name();
        docker_ok(&[&["volume", "create"], options, &[&*name]].concat());
        let image = image.to_owned();
        Self { name, image }
    }

    /// Makes one as a script leaves it, which runs as the user hermes of the image.
    fn with(script: &str) -> Option<Self> {
        let volume = Self::new()?;
        volume.script("10000:10000", script);
        Some(volume)
    }

    /// Runs a script on the volume, in a container without an init, and gives what it printed.
    fn script(&self, user: &str, script: &str) -> String {
        let script = format!("{FUNCTIONS}{script}");
        let data = format!("{}:/opt/data", self.name);
        let what = ["run", "--rm", "--user", user, "--volume", &data];
        let how = ["--entrypoint", "sh", &self.image, "-c", &script];
        docker_ok(&[&what[..], &how].concat())
    }

    /// The words of `docker run` that all containers on this volume have in common.
    fn run_words(&self, name: &str, options: &[&str], command: &[&str]) -> Vec<String> {
        // Whatever the working directory is: docker takes a relative path for a volume's name.
        let stand_in = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stand-in:/stand-in:ro");
        let data = format!("{}:/opt/data", self.name);
        let ours = ["--name", name, "--volume", &data, "--volume", stand_in];
        let gateway = ["--env", "HERMES_S6_HERMES=/stand-in/hermes"];
        let all = [&ours[..], &gateway, options, &[&self.image], command].concat();
        all.into_iter().map(str::to_owned).collect()
    }

    /// Starts a container.
    fn start(&self, options: &[&str], command: &[&str]) -> Container<'_> {
        let name = name();
        let words = self.run_words(&name, options, command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let container = Container { volume: self, name };
        docker_ok(&[&["run", "--detach"], &words[..]].concat());
        container
    }

    /// Starts a container without a command, and waits until its tree is up and these gateways are ready.
    fn begin(&self, options: &[&str], gateways: &[&str]) -> Container<'_> {
        let container = self.start(options, &[]);
        container.await_tree();
        container.await_states("ready", gateways);
        container
    }

    /// Runs a container until it ends.
    fn run(&self, options: &[&str], command: &[&str]) -> Ran {
        self.run_with_input(None, options, command)
    }

    fn run_with_input(&self, input: Option<&str>, options: &[&str], command: &[&str]) -> Ran {
        let name = name();
        let words = self.run_words(&name, options, command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let _removed = Container { volume: self, name };
        docker_with_input(&[&["run"], &words[..]].concat(), input)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        docker(&["volume", "rm", "--force", &self.name]);
    }
}

/// A container, gone when the test is over.
struct Container<'a> {
    volume: &'a Volume,
    name: String,
}

impl Container<'_> {
    /// Runs a program in the container, with the working directory and environment of `docker exec`.
    fn exec_as(&self, user: &str, words: &(impl Words + ?Sized)) -> Ran {
        docker(&[&["exec", "--user", user, &self.name], &*words.words()].concat())
    }

    fn exec(&self, words: &(impl Words + ?Sized)) -> Ran {
        self.exec_as("root", words)
    }

    /// Runs a script as root, which must succeed, and gives what it printed.
    fn sh(&self, script: &str) -> String {
        let script = format!("PATH=/command:/usr/sbin:/usr/bin:/sbin:/bin\n{FUNCTIONS}{script}");
        let ran = self.exec(&["/bin/sh", "-c", &script]);
        assert_eq!(ran.code, 0, "{script}: {ran:?}\n{}", self.explain());
        ran.stdout
    }

    /// Runs hermes-s6, which must succeed, and gives what it printed.
    fn hermes_s6(&self, line: &str) -> String {
        let ran = self.exec_as("hermes", &*format!("hermes-s6 {line}"));
        assert_eq!(ran.code, 0, "{line}: {ran:?}\n{}", self.explain());
        ran.stdout
    }

    fn logs(&self) -> Ran {
        docker(&["logs", &self.name])
    }

    /// Both streams of its output.
    fn said(&self) -> String {
        let logs = self.logs();
        logs.stdout + &logs.stderr
    }

    fn inspect(&self, format: &str) -> String {
        let text = docker_ok(&["inspect", "--format", format, &self.name]);
        text.trim_end().to_owned()
    }

    fn runs(&self) -> bool {
        self.inspect("{{.State.Running}}") == "true"
    }

    /// Waits until it has ended, and gives its exit code.
    fn exit_code(&self) -> i32 {
        wait_for("its end", || !self.runs(), || self.explain());
        self.inspect("{{.State.ExitCode}}").parse().unwrap()
    }

    /// Stops it in order, and gives its exit code.
    fn stop(&self) -> i32 {
        docker_ok(&["stop", "--time", PATIENCE_SECONDS, &self.name]);
        self.exit_code()
    }

    fn kill(&self) {
        docker_ok(&["kill", "--signal", "KILL", &self.name]);
        self.exit_code();
    }

    fn start(&self) {
        docker_ok(&["start", &self.name]);
    }

    fn restart(&self) {
        docker_ok(&["restart", "--time", PATIENCE_SECONDS, &self.name]);
    }

    /// What there is to say about it when a test fails.
    fn explain(&self) -> String {
        let mut text = String::new();
        let state = docker(&["inspect", "--format", "{{json .State}}", &self.name]);
        let status = self.exec_as("hermes", &["/usr/local/bin/hermes-s6", "status"]);
        write!(
            text,
            "state: {}status: {status:?}\nlogs:\n{}",
            state.stdout,
            self.said()
        )
        .unwrap();
        text
    }

    /// Waits for something that must come while the container runs.
    fn wait_for(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let mut polls = 0;
        let condition = || {
            polls += 1;
            let runs = polls % 20 != 0 || self.runs();
            assert!(runs, "no {what}: it has ended\n{}", self.explain());
            condition()
        };
        wait_for(what, condition, || self.explain());
    }

    /// What `hermes-s6 list` says: a line for each profile, name and state.
    fn list(&self) -> String {
        let list = ["/usr/local/bin/hermes-s6", "list"];
        self.exec_as("hermes", &list).stdout
    }

    /// Waits until profiles have a state.
    fn await_states(&self, state: &str, profiles: &[&str]) {
        self.wait_for(&format!("{profiles:?} to be {state}"), || {
            let list = self.list();
            let is_so = |profile: &&str| {
                let expected = format!("{profile} {state}");
                list.lines().any(|line| line == expected)
            };
            profiles.iter().all(is_so)
        });
    }

    /// Waits until an s6-svscan watches the slots; those of before a restart may still be there.
    fn await_tree(&self) {
        let detect = ["/usr/local/bin/hermes-s6", "detect"];
        self.wait_for("the tree", || {
            let detected = self.exec_as("hermes", &detect);
            detected.code == 0 && detected.stdout.contains(" watches ")
        });
    }

    /// The pid of a gateway in the container.
    fn pid(&self, profile: &str) -> String {
        let pid = self.sh(&format!("s6-svstat -o pid {TREE}/gateway-{profile}"));
        pid.trim().to_owned()
    }

    /// How often a stand-in gateway of a profile has gone through something.
    fn count(&self, profile: &str, event: &str) -> usize {
        // From the volume, since the container may not run.
        let events = self
            .volume
            .script("0", &format!("cat \"$(home {profile})/events\" || true"));
        let lines = events.lines();
        lines
            .filter(|line| line.split(' ').next() == Some(event))
            .count()
    }

    /// How often a stand-in gateway has started, has been told to end, and has saved.
    fn life(&self, profile: &str) -> [usize; 3] {
        ["start", "TERM", "saved"].map(|event| self.count(profile, event))
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.name]);
    }
}
