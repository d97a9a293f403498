//! A directory of its own for each test, and the processes in it, gone when the test is over.

use std::ffi::OsStr;
use std::fmt::{Display, Write as _};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT};

/// The user whom tests run things as when they are run by root.
pub const NOBODY: u32 = 65534;

/// Longer than anything here takes, also beside a load of twenty on two processors.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The same in seconds, for programs that are told how long to wait.
pub const PATIENCE_SECONDS: &str = "120";

/// Waits for something that must come, and gives it; `explain` says what there was instead.
#[track_caller]
pub fn wait_some<T>(
    what: &str,
    mut find: impl FnMut() -> Option<T>,
    explain: impl Fn() -> String,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "waited in vain for {what}\n{}",
            explain()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for a condition that must come.
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool, explain: impl Fn() -> String) {
    wait_some(what, || condition().then_some(()), explain);
}

/// Waits for a process that must end.
#[track_caller]
pub fn wait_end(child: &mut Child, explain: impl Fn() -> String) -> ExitStatus {
    let what = format!("process {} to end", child.id());
    wait_some(&what, || child.try_wait().unwrap(), explain)
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Says that a test cannot run here, and why.
pub fn skip(reason: &str) {
    say(&format!("skipped: {reason}"));
}

/// Prints a line.
pub fn say(line: &str) {
    // Not through eprintln, which the test harness would keep to itself.
    writeln!(std::io::stderr(), "{line}").unwrap();
}

/// Tells which signals a process ignores, as its `status` in /proc says: one bit each, from 1 on.
pub fn ignored(status: &str) -> u64 {
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

/// Lets programs begin with the usual signals, also where the tests run in the background, with SIGINT and
/// SIGQUIT ignored, or under nohup, with SIGHUP: what is ignored stays so in another program, and what is
/// handled does not. For the tests themselves, the signals mean nothing, as before.
fn handle_what_is_ignored() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let ignored = ignored(&fs::read_to_string("/proc/self/status").unwrap());
        for signal in [SIGHUP, SIGINT, SIGQUIT] {
            if ignored >> (signal - 1) & 1 == 1 {
                signal_hook::flag::register(signal, Arc::default()).unwrap();
            }
        }
    });
}

/// The programs under test, where an ordinary user can run them: the source may lie beneath /root.
///
/// All processes of the same build share one copy, on which each has a lock. Nothing runs when one ends:
/// the next one removes the copies that nobody uses any more.
pub fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<(PathBuf, File)> = OnceLock::new();
    let (place, _used) = PROGRAMS.get_or_init(|| {
        let program = Path::new(env!("CARGO_BIN_EXE_hermes-s6"));
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-in/hermes");
        // One process at a time.
        let guard = File::open(program.parent().unwrap()).unwrap();
        guard.lock().unwrap();
        let mut build = DefaultHasher::new();
        for file in [program, &stand_in] {
            let meta = fs::metadata(file).unwrap();
            (meta.ino(), meta.mtime(), meta.mtime_nsec()).hash(&mut build);
        }
        let mut checkout = DefaultHasher::new();
        program.hash(&mut checkout);
        let prefix = format!("hermes-s6-build-{:016x}-", checkout.finish());
        let place = std::env::temp_dir().join(format!("{prefix}{:016x}", build.finish()));
        for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
            let is_one = entry.file_name().to_string_lossy().starts_with(&prefix);
            if is_one && entry.path() != place {
                let unused = File::open(entry.path()).is_ok_and(|copy| copy.try_lock().is_ok());
                let _others = unused.then(|| fs::remove_dir_all(entry.path()));
            }
        }
        if !place.exists() {
            let new = place.with_extension("new");
            let _half = fs::remove_dir_all(&new);
            fs::create_dir(&new).unwrap();
            fs::copy(program, new.join("hermes-s6")).unwrap();
            fs::copy(stand_in, new.join("hermes")).unwrap();
            fs::rename(new, &place).unwrap();
        }
        let used = File::open(&place).unwrap();
        used.lock_shared().unwrap();
        drop(guard);
        (place, used)
    });
    place
}

/// A directory with a home for Hermes and a scan directory, owned by an ordinary user.
pub struct TestEnv {
    pub place: PathBuf,
    pub home: PathBuf,
    pub scandir: PathBuf,
    pub variables: Vec<(String, String)>,
    /// The user to whom everything belongs when the tests are run by root.
    pub owner: u32,
}

impl TestEnv {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        handle_what_is_ignored();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hermes-s6-test-{}-{number}", std::process::id());
        let place = std::env::temp_dir().join(name);
        let _old = fs::remove_dir_all(&place);
        let (home, scandir) = (place.join("home"), place.join("service"));
        fs::create_dir_all(home.join("profiles")).unwrap();
        let env = Self {
            place,
            home,
            scandir,
            variables: Vec::new(),
            owner: NOBODY,
        };
        env.own();
        env
    }

    /// Gives everything in the directory to the ordinary user.
    pub fn own(&self) {
        if is_root() {
            for entry in walkdir::WalkDir::new(&self.place) {
                std::os::unix::fs::lchown(
                    entry.unwrap().path(),
                    Some(self.owner),
                    Some(self.owner),
                )
                .unwrap();
            }
        }
    }

    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn home_of(&self, profile: &str) -> PathBuf {
        match profile {
            "default" => self.home.clone(),
            name => self.home.join("profiles").join(name),
        }
    }

    pub fn slot(&self, profile: &str) -> PathBuf {
        self.scandir.join(format!("gateway-{profile}"))
    }

    /// Makes a profile; `state` is the content of its state file, none if empty.
    pub fn profile(&self, name: &str, state: &str) -> &Self {
        let home = self.home_of(name);
        fs::create_dir_all(&home).unwrap();
        self.write(&home.join("SOUL.md"), "");
        if !state.is_empty() {
            self.write(&home.join("gateway_state.json"), state);
        }
        if is_root() {
            chown(&home, Some(self.owner), Some(self.owner)).unwrap();
        }
        self
    }

    /// Makes a profile whose operator wants it to run.
    pub fn running(&self, name: &str) -> &Self {
        self.profile(name, r#"{"desired_state":"running"}"#)
    }

    /// Tells the stand-in gateway of a profile how to behave, as it says itself.
    pub fn behaviour(&self, profile: &str, text: &str) -> &Self {
        self.write(&self.home_of(profile).join("behaviour"), text);
        self
    }

    /// Holds the stand-in gateway of a profile before it is `ready`, or has its state to `save`.
    pub fn hold(&self, profile: &str, what: &str) -> &Self {
        self.write(&self.home_of(profile).join(format!("hold-{what}")), "");
        self
    }

    pub fn let_go(&self, profile: &str, what: &str) {
        fs::remove_file(self.home_of(profile).join(format!("hold-{what}"))).unwrap();
    }

    /// What the state file of a profile says.
    pub fn state_file(&self, profile: &str) -> String {
        fs::read_to_string(self.home_of(profile).join("gateway_state.json")).unwrap_or_default()
    }

    /// Where the log of a profile is.
    pub fn log(&self, profile: &str) -> PathBuf {
        self.home.join("logs/gateways").join(profile)
    }

    pub fn write(&self, path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        if is_root() {
            chown(path, Some(self.owner), Some(self.owner)).unwrap();
        }
    }

    /// What the stand-in gateway of a profile has gone through, a word a line.
    pub fn events(&self, profile: &str) -> Vec<String> {
        let text = fs::read_to_string(self.home_of(profile).join("events")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub fn count(&self, profile: &str, event: &str) -> usize {
        self.events(profile)
            .iter()
            .filter(|line| line.split(' ').next() == Some(event))
            .count()
    }

    pub fn await_event(&self, profile: &str, event: &str, count: usize) {
        let what = format!("{count} times {event} of {profile}");
        self.wait_for(&what, || self.count(profile, event) == count);
    }

    /// Prepares a command as the ordinary user, with the environment of the test and no other.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.root_command(program);
        if is_root() {
            command.uid(self.owner).gid(self.owner);
        }
        command
    }

    /// Prepares a command as whoever runs the tests.
    pub fn root_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &self.place)
            .env("HERMES_HOME", &self.home)
            .env("HERMES_S6_SCANDIR", &self.scandir)
            .env("HERMES_S6_HERMES", programs().join("hermes"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.place)
            .stdin(Stdio::null());
        command
    }

    /// Prepares hermes-s6 as the ordinary user.
    pub fn hermes_s6(&self, words: &(impl Words + ?Sized)) -> Command {
        let mut command = self.command(programs().join("hermes-s6"));
        command.args(words.words());
        command
    }

    /// Runs hermes-s6 as the ordinary user.
    pub fn run(&self, words: &(impl Words + ?Sized)) -> Ran {
        self.hermes_s6(words).ran()
    }

    /// Runs hermes-s6 as whoever runs the tests.
    pub fn run_as_root(&self, words: &(impl Words + ?Sized)) -> Ran {
        let mut command = self.root_command(programs().join("hermes-s6"));
        command.args(words.words()).ran()
    }

    /// Runs hermes-s6 with a terminal for its output; `line` is what a shell reads behind its name.
    pub fn on_terminal(&self, line: &str) -> Ran {
        let line = format!("'{}' {line}", programs().join("hermes-s6").display());
        let mut command = self.command("script");
        command.args(["-qec", &line, "/dev/null"]).ran()
    }

    /// Starts hermes-s6 as the ordinary user.
    pub fn background(&self, words: &(impl Words + ?Sized)) -> Background<'_> {
        self.spawn(self.hermes_s6(words))
    }

    /// Starts a program, with its output in files.
    pub fn spawn(&self, mut command: Command) -> Background<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let files = ["stdout", "stderr"].map(|name| self.place.join(format!("{name}-{number}")));
        let [stdout, stderr] = files.each_ref().map(|file| File::create(file).unwrap());
        let child = command.stdout(stdout).stderr(stderr).spawn().unwrap();
        Background {
            env: self,
            child,
            files,
        }
    }

    /// Has another process hold a lock: `command` takes it, and executes the words behind it.
    pub fn hold_lock(&self, mut command: Command) -> Background<'_> {
        // Gateways sleep too, for another time.
        let words = ["sleep", "86400"];
        command.args(words);
        let other = self.spawn(command);
        let has_it =
            |process: &Process| process.cmdline == words.map(|word| format!("{word}\0")).concat();
        self.wait_for("the lock", || self.processes().iter().any(has_it));
        other
    }

    /// Starts a tree with `hermes-s6 supervise`, and waits until it is watched.
    pub fn supervise(&self) -> Tree<'_> {
        let tree = self.start(self.hermes_s6("supervise"));
        self.wait_for("the tree to be watched", || self.run("detect").code == 0);
        tree
    }

    /// Starts a second tree on the same volume, and gives its scan directory too.
    pub fn second_tree(&self) -> (Tree<'_>, String) {
        let scandir = self.place.join("second").to_str().unwrap().to_owned();
        let mut command = self.hermes_s6("supervise");
        command.env("HERMES_S6_SCANDIR", &scandir);
        (self.start(command), scandir)
    }

    /// Starts an s6-svscan that has room for the tender and so many services with loggers, in whichever option it
    /// knows.
    pub fn svscan(&self, room: u32) -> Tree<'_> {
        fs::create_dir_all(&self.scandir).unwrap();
        self.own();
        let limit = if self.svscan_knows("-C") {
            ["-C".to_owned(), (2 * room + 1).to_string()]
        } else {
            ["-c".to_owned(), (room + 1).to_string()]
        };
        let mut svscan = self.command("s6-svscan");
        svscan.args(limit).arg("--").arg(&self.scandir);
        let tree = self.start(svscan);
        let control = self.scandir.join(".s6-svscan/control");
        self.wait_for("s6-svscan", || control.exists());
        tree
    }

    pub fn svscan_knows(&self, option: &str) -> bool {
        let mut probe = self.command("s6-svscan");
        let ran = probe.args([option, "8", "--", "/dev/null/none"]).ran();
        ran.code != 100
    }

    /// Puts the slot of a profile there behind the back of s6-svscan, as a scan that was given up leaves it.
    pub fn slip_in(&self, profile: &str) {
        let rendered = self.place.join("rendered");
        fs::create_dir(&rendered).unwrap();
        self.own();
        let out = rendered.to_str().unwrap();
        self.run(&["render", "-p", profile, "--out", out]).ends(0);
        let slot = self.slot(profile);
        fs::rename(rendered.join(slot.file_name().unwrap()), slot).unwrap();
    }

    /// Starts a tree with the given command, in a process group of its own; its output goes to the file
    /// `out`.
    pub fn start(&self, mut command: Command) -> Tree<'_> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(self.place.join("out"))
            .unwrap();
        command.stdout(out.try_clone().unwrap()).stderr(out);
        let child = command.process_group(0).spawn().unwrap();
        Tree { env: self, child }
    }

    pub fn out(&self) -> String {
        fs::read_to_string(self.place.join("out")).unwrap_or_default()
    }

    /// The state that `hermes-s6 list` gives for a profile.
    pub fn state(&self, profile: &str) -> String {
        let list = self.run("list").stdout;
        let line = list
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{profile} ")));
        line.unwrap_or("missing").to_owned()
    }

    #[track_caller]
    pub fn await_state(&self, profile: &str, state: &str) {
        let what = format!("{profile} to be {state}");
        self.wait_for(&what, || self.state(profile) == state);
    }

    #[track_caller]
    pub fn await_ready(&self, profiles: &[&str]) {
        for profile in profiles {
            self.await_state(profile, "ready");
        }
    }

    /// Waits for something that must come in the trees of this test.
    #[track_caller]
    pub fn wait_for(&self, what: &str, condition: impl FnMut() -> bool) {
        let explain = || format!("{}\n{}", self.run("status").stdout, self.told());
        wait_for(what, condition, explain);
    }

    /// The pid of a gateway, as s6-svstat tells it.
    pub fn pid(&self, profile: &str) -> i32 {
        let mut svstat = self.command("s6-svstat");
        let ran = svstat.args(["-o", "pid"]).arg(self.slot(profile)).ran();
        ran.stdout.trim().parse().unwrap_or(-1)
    }

    /// All processes that have this test's directory in their environment or command line.
    pub fn processes(&self) -> Vec<Process> {
        // With the slash, or test 1 would take the processes of test 10 for its own.
        let mark = format!("{}/", self.place.display());
        processes()
            .into_iter()
            .filter(|process| process.mentions(&mark))
            .collect()
    }

    /// Those of them that are called so.
    pub fn processes_named(&self, name: &str) -> Vec<Process> {
        self.processes()
            .into_iter()
            .filter(|process| process.comm == name)
            .collect()
    }

    /// The gateways of a profile that run, supervised or not.
    pub fn gateways(&self, profile: &str) -> Vec<Process> {
        let words = match profile {
            "default" => "hermes\0gateway\0run".to_owned(),
            name => format!("hermes\0-p\0{name}\0gateway\0run"),
        };
        let mut found = self.processes();
        found.retain(|process| process.cmdline.contains(&words) && process.comm == "hermes");
        // A shell that has forked and not yet executed looks like its parent.
        let pids: Vec<i32> = found.iter().map(|process| process.pid).collect();
        found.retain(|process| !pids.contains(&process.parent));
        found
    }

    /// The s6-supervise of a profile whose gateway runs.
    pub fn supervisor(&self, profile: &str) -> Process {
        let gateway = self.gateways(profile).remove(0);
        Process::read(gateway.parent).unwrap()
    }

    /// Kills all processes of this test, as far as it takes: what was killed may have been started again.
    pub fn kill_all(&self) {
        let killed = || {
            let left = self.processes();
            let pids = left.iter().map(|process| process.pid.to_string());
            let mut kill = Command::new("kill");
            let kill = kill.args(["-s", "KILL"]).args(pids);
            left.is_empty() || kill.stderr(Stdio::null()).status().is_err()
        };
        wait_for("all to be killed", killed, || self.told());
    }

    /// What there is to say of a test that fails: its processes, and what the trees have said.
    fn told(&self) -> String {
        let mut text = self.out();
        for Process {
            pid,
            parent,
            cmdline,
            ..
        } in self.processes()
        {
            let words = cmdline.replace('\0', " ");
            writeln!(text, "pid {pid}, child of {parent}: {words}").unwrap();
        }
        text
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        // What a test has failed for is not to be hidden.
        let _killed = catch_unwind(AssertUnwindSafe(|| self.kill_all()));
        let _gone = fs::remove_dir_all(&self.place);
    }
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Checks how it ended.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Checks what is in its output.
    #[track_caller]
    pub fn says(&self, what: impl Display) -> &Self {
        assert!(self.stdout.contains(&what.to_string()), "{what}: {self:?}");
        self
    }

    /// Checks what is in its messages.
    #[track_caller]
    pub fn warns(&self, what: impl Display) -> &Self {
        assert!(self.stderr.contains(&what.to_string()), "{what}: {self:?}");
        self
    }

    /// Checks how it ended and all that it printed.
    #[track_caller]
    pub fn is(&self, code: i32, stdout: impl Display, stderr: impl Display) {
        let seen = (self.code, &*self.stdout, &*self.stderr);
        assert_eq!(seen, (code, &*stdout.to_string(), &*stderr.to_string()));
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Checks what is in a text.
#[track_caller]
pub fn has(text: &impl AsRef<str>, part: impl Display) {
    let (text, part) = (text.as_ref(), part.to_string());
    assert!(text.contains(&part), "{part:?} is not in {text:?}");
}

/// Checks how a text begins.
#[track_caller]
pub fn begins(text: &impl AsRef<str>, start: impl Display) {
    let (text, start) = (text.as_ref(), start.to_string());
    assert!(
        text.starts_with(&start),
        "{start:?} does not begin {text:?}"
    );
}

/// Checks how a text ends.
#[track_caller]
pub fn closes(text: &impl AsRef<str>, end: impl Display) {
    let (text, end) = (text.as_ref(), end.to_string());
    assert!(text.ends_with(&end), "{end:?} does not end {text:?}");
}

/// The arguments of a program: a line, to be split at blanks, or words.
pub trait Words {
    fn words(&self) -> Vec<&str>;
}

impl Words for str {
    fn words(&self) -> Vec<&str> {
        self.split(' ').collect()
    }
}

impl Words for [&str] {
    fn words(&self) -> Vec<&str> {
        self.to_vec()
    }
}

impl<const N: usize> Words for [&str; N] {
    fn words(&self) -> Vec<&str> {
        self.to_vec()
    }
}

impl Words for Vec<&str> {
    fn words(&self) -> Vec<&str> {
        self.clone()
    }
}

/// Commands that are run to their end.
pub trait Run {
    fn ran(&mut self) -> Ran;
}

impl Run for Command {
    fn ran(&mut self) -> Ran {
        Ran::from(self.output().unwrap())
    }
}

/// A program that runs beside the test, and is killed when nobody needs it any more.
pub struct Background<'a> {
    env: &'a TestEnv,
    child: Child,
    files: [PathBuf; 2],
}

impl Background<'_> {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.files[0]).unwrap()
    }

    /// The messages that it has printed.
    pub fn noted(&self) -> String {
        fs::read_to_string(&self.files[1]).unwrap()
    }

    /// Waits for a message.
    #[track_caller]
    pub fn await_note(&self, what: &str) {
        let noted = || self.noted().contains(what);
        self.env.wait_for(what, noted);
    }

    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: &str) {
        assert!(kill(self.pid(), signal));
    }

    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let files = &self.files;
        wait_end(&mut self.child, || {
            files
                .each_ref()
                .map(|file| fs::read_to_string(file).unwrap())
                .concat()
        })
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ran {
        Ran {
            code: self.wait().code().unwrap_or(-1),
            stdout: self.said(),
            stderr: self.noted(),
        }
    }
}

impl Drop for Background<'_> {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A tree that runs.
pub struct Tree<'a> {
    env: &'a TestEnv,
    child: Child,
}

impl Tree<'_> {
    /// The process that became s6-svscan.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops the tree as s6 does, and gives the exit code of s6-svscan.
    #[track_caller]
    pub fn stop(self) -> i32 {
        let mut svscanctl = self.env.command("s6-svscanctl");
        svscanctl.arg("-t").arg(&self.env.scandir).ran().ends(0);
        self.wait()
    }

    /// Kills only the s6-svscan.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for a process that ends by itself.
    #[track_caller]
    pub fn wait(mut self) -> i32 {
        let env = self.env;
        let status = wait_end(&mut self.child, || env.told());
        status.code().unwrap_or(-1)
    }
}

impl Drop for Tree<'_> {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A process, as /proc shows it.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub uid: u32,
    pub comm: String,
    pub cmdline: String,
    environment: String,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let place = PathBuf::from(format!("/proc/{pid}"));
        let text = |name: &str| {
            Some(String::from_utf8_lossy(&fs::read(place.join(name)).ok()?).into_owned())
        };
        let stat = text("stat")?;
        let mut fields = stat.rsplit(')').next()?.split_whitespace();
        // A zombie is no process any more, only an entry that nobody has read yet.
        if fields.next()? == "Z" {
            return None;
        }
        Some(Self {
            pid,
            parent: fields.next()?.parse().ok()?,
            uid: fs::metadata(&place).ok()?.uid(),
            comm: text("comm")?.trim_end().to_owned(),
            cmdline: text("cmdline")?,
            environment: text("environ").unwrap_or_default(),
        })
    }

    fn mentions(&self, mark: &str) -> bool {
        self.pid != i32::try_from(std::process::id()).unwrap()
            && (self.environment.contains(mark) || self.cmdline.contains(mark))
    }

    pub fn kill(&self, signal: &str) {
        kill(self.pid, signal);
    }
}

/// Sends a signal, and tells whether there was somebody to get it.
pub fn kill(pid: impl Display, signal: &str) -> bool {
    let mut kill = Command::new("kill");
    let kill = kill.args(["-s", signal, &pid.to_string()]);
    kill.stderr(Stdio::null()).status().unwrap().success()
}

pub fn processes() -> Vec<Process> {
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::read).collect()
}

/// Lists everything beneath a directory with type, mode and, for files, a time and an inode: equal
/// lists mean that nothing was touched. What s6 keeps for itself is left out.
pub fn fingerprint(directory: &Path) -> String {
    let mut text = String::new();
    let ours = |entry: &walkdir::DirEntry| {
        !["supervise", "event", ".s6-svscan"].contains(&entry.file_name().to_str().unwrap())
    };
    for entry in walkdir::WalkDir::new(directory)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(ours)
    {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let path = entry.path().strip_prefix(directory).unwrap();
        writeln!(
            text,
            "{} {:o} {} {}.{:09}",
            path.display(),
            meta.mode(),
            meta.ino(),
            meta.mtime(),
            meta.mtime_nsec()
        )
        .unwrap();
    }
    text
}

/// Copies a tree of files, directories and links.
pub fn copy_tree(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target).unwrap();
        } else if entry.file_type().is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), &target).unwrap();
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Checks that everything beneath a directory belongs to a user.
#[track_caller]
pub fn all_is_of(user: u32, directory: impl AsRef<Path>) {
    for entry in walkdir::WalkDir::new(directory) {
        let entry = entry.unwrap();
        let owner = entry.metadata().unwrap().uid();
        assert_eq!(owner, user, "{}", entry.path().display());
    }
}

/// The names in a directory, in order.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub fn chmod(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}
