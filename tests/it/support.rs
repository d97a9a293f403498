//! A directory of its own for each test, and the processes in it, gone when the test is over.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The user whom tests run things as when they are run by root.
pub const NOBODY: u32 = 65534;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn is_root() -> bool {
    rustix_uid() == 0
}

fn rustix_uid() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

/// Says that a test cannot run here, and why.
pub fn skip(reason: &str) {
    // Not through eprintln, which the test harness would keep to itself.
    writeln!(std::io::stderr(), "skipped: {reason}").unwrap();
}

/// The programs under test, where an ordinary user can run them: the source may lie beneath /root.
pub fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let place = std::env::temp_dir().join(format!("hermes-s6-programs-{}", std::process::id()));
        // Nothing runs when a test program ends: the next one removes what the ended ones have left.
        for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            let pid = name.strip_prefix("hermes-s6-programs-");
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _others = fs::remove_dir_all(entry.path());
            }
        }
        let _old = fs::remove_dir_all(&place);
        fs::create_dir(&place).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_hermes-s6"), place.join("hermes-s6")).unwrap();
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-in/hermes");
        fs::copy(stand_in, place.join("hermes")).unwrap();
        place
    })
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

    /// Tells the stand-in gateway of a profile how to behave.
    pub fn behaviour(&self, profile: &str, text: &str) -> &Self {
        self.write(&self.home_of(profile).join("behaviour"), text);
        self
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

    /// Prepares a command as the ordinary user, with the environment of the test and no other.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.root_command(program);
        if is_root() {
            command.uid(self.owner).gid(self.owner);
        }
        command
    }

    /// Prepares a command as whoever runs the tests.
    pub fn root_command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
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

    /// Runs hermes-s6 as the ordinary user.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command(programs().join("hermes-s6"));
        Ran::from(command.args(arguments).output().unwrap())
    }

    /// Starts a tree with `hermes-s6 supervise`, in a session of its own.
    pub fn supervise(&self) -> Tree<'_> {
        let mut command = self.command(programs().join("hermes-s6"));
        command.arg("supervise");
        self.start(command)
    }

    /// Starts a tree with the given command; its output goes to the file `out`.
    pub fn start(&self, mut command: Command) -> Tree<'_> {
        let out = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.place.join("out"))
            .unwrap();
        let child = command
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .process_group(0)
            .spawn()
            .unwrap();
        Tree { env: self, child }
    }

    pub fn out(&self) -> String {
        fs::read_to_string(self.place.join("out")).unwrap_or_default()
    }

    /// The state that `hermes-s6 list` gives for a profile.
    pub fn state(&self, profile: &str) -> String {
        let list = self.run(&["list"]).stdout;
        let line = list
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{profile} ")));
        line.unwrap_or("missing").to_owned()
    }

    pub fn await_state(&self, profile: &str, state: &str) {
        wait_for(
            &format!("{profile} to be {state}"),
            || self.state(profile) == state,
            || format!("{}\n{}", self.run(&["status"]).stdout, self.out()),
        );
    }

    /// The pid of a gateway, as s6-svstat tells it.
    pub fn pid(&self, profile: &str) -> i32 {
        let output = self
            .command("s6-svstat")
            .arg("-o")
            .arg("pid")
            .arg(self.slot(profile))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .unwrap_or(-1)
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

    pub fn kill_all(&self) {
        let mut rounds = 0;
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for process in &left {
                process.kill("KILL");
            }
            rounds += 1;
            assert!(
                rounds < 100 || std::thread::panicking(),
                "cannot kill {left:?}"
            );
            if rounds > 100 {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        self.kill_all();
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

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
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

    pub fn await_watched(&self) {
        wait_for(
            "the tree to be watched",
            || self.env.run(&["detect"]).code == 0,
            || self.env.out(),
        );
    }

    /// Stops the tree as s6 does, and gives the exit code of s6-svscan.
    pub fn stop(mut self) -> i32 {
        let asked = self
            .env
            .command("s6-svscanctl")
            .arg("-t")
            .arg(&self.env.scandir)
            .status()
            .unwrap();
        assert!(asked.success());
        let mut code = None;
        wait_for(
            "the tree to stop",
            || {
                code = self.child.try_wait().unwrap();
                code.is_some()
            },
            || format!("{:#?}", self.env.processes()),
        );
        code.and_then(|code| code.code()).unwrap_or(-1)
    }

    /// Kills only the s6-svscan.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for a process that ends by itself.
    pub fn wait(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
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
        let _gone = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(self.pid.to_string())
            .stderr(Stdio::null())
            .status();
    }
}

pub fn processes() -> Vec<Process> {
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::read).collect()
}

/// Waits for something that must come; `explain` says what there was instead.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool, explain: impl Fn() -> String) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < PATIENCE,
            "waited in vain for {what}\n{}",
            explain()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
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

pub fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}
