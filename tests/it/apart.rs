//! What root starts as hermes has nothing of root's: whoever traces it gets neither a terminal nor a file.

use std::fs::{self, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::pid1::{Container, DIRECT, TREE, tree_service, volume};
use crate::support::{Process, Ran, TestEnv, chmod, kill, programs, skip};

/// Commands that root gives, which drop root's rights in one layout or the other.
const COMMANDS: [&str; 9] = [
    "status",
    "restart -p coder",
    "list --json",
    "logs -p coder -n 3",
    "doctor",
    "detect",
    "stop -p coder",
    "start -p coder",
    "reconcile",
];

/// The major number of the terminals that programs make.
const PSEUDOTERMINAL: u64 = 136;

/// A process of hermes' in a container that traces every other one of hermes' as soon as it can.
struct Tracer<'a> {
    env: &'a TestEnv,
    container: &'a Container<'a>,
}

impl<'a> Tracer<'a> {
    fn start(env: &'a TestEnv, container: &'a Container<'a>) -> Self {
        let tracer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tracer.py");
        let place = env.place.display();
        let line = format!(
            "python3 {tracer} {place}/roots >{place}/traced 2>&1 & echo $! >{place}/tracer"
        );
        container
            .run("root", &["chown", "10000", &place.to_string()])
            .ends(0);
        container.run("hermes", &["sh", "-c", &line]).ends(0);
        let tracer = Self { env, container };
        env.wait_for("the tracer", || tracer.said().contains("ready\n"));
        tracer
    }

    fn said(&self) -> String {
        fs::read_to_string(self.env.place.join("traced")).unwrap_or_default()
    }

    /// Ends it, and gives how many processes it has traced, and what it has found.
    fn end(self) -> (usize, Vec<String>) {
        let pid = fs::read_to_string(self.env.place.join("tracer")).unwrap();
        self.container.run("hermes", &["kill", pid.trim()]).ends(0);
        self.env
            .wait_for("its end", || self.said().contains("traced "));
        let said = self.said();
        let mut lines: Vec<String> = said.lines().skip(1).map(str::to_owned).collect();
        let count = lines.pop().unwrap();
        (count.rsplit_once(' ').unwrap().1.parse().unwrap(), lines)
    }
}

/// Tells whether a process has a terminal of root's as one of its streams.
fn has_roots_terminal(process: &Process) -> bool {
    let streams = (0..3).map(|stream| fs::metadata(format!("/proc/{}/fd/{stream}", process.pid)));
    let is_roots = |file: Metadata| file.uid() == 0 && file.rdev() >> 8 == PSEUDOTERMINAL;
    streams.flatten().any(is_roots)
}

fn has_terminals() -> bool {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let are_there = there("script") && there("bash") && there("python3");
    if !are_there {
        skip("there is no script(1), which makes terminals, no bash or no python3");
    }
    are_there
}

/// Makes a directory with files that are root's alone, in which root's shell works.
fn roots(env: &TestEnv) -> PathBuf {
    let roots = env.place.join("roots");
    fs::create_dir(&roots).unwrap();
    fs::write(roots.join("file"), "").unwrap();
    chmod(&roots, 0o700);
    roots
}

/// Has root's shell run a script on a terminal in a container; it has a file of root's open.
fn on_roots_terminal(env: &TestEnv, container: &Container, script: &str) -> Ran {
    let place = env.place.display();
    let file = env.place.join("script");
    let script = format!("cd {place}/roots && exec 7<>file\n{script}");
    fs::write(&file, script).unwrap();
    let line = format!("bash {}", file.display());
    let ran = container.run("root", &["script", "-qec", &line, "/dev/null"]);
    Ran {
        stdout: ran.stdout.replace('\r', ""),
        ..ran
    }
}

fn traced_in(scandir: &str, prepare: &str) {
    let Some(env) = volume() else { return };
    if !has_terminals() {
        return;
    }
    env.running("coder").running("qa");
    let roots = roots(&env);
    let container = Container::start(&env, "web-1", prepare);
    container.await_state(scandir, "coder", "ready");
    let tracer = Tracer::start(&env, &container);
    let program = programs().join("hermes-s6");
    let mut script = String::new();
    for command in COMMANDS {
        let line = format!("{} {command} --scandir {scandir}", program.display());
        for _ in 0..3 {
            // On the terminal, and with files of root's.
            script += &[&line, "\n", &line, " >>said 2>&1 <file\n"].concat();
        }
    }
    // script(1) has typed that there is no more input, which ends a read.
    script +=
        "for _ in 1 2 3; do IFS= read -r -t 1 typed && echo \"read: $typed\"; done\necho end\n";
    let ran = on_roots_terminal(&env, &container, &script);
    ran.says("end\n");
    let (count, found) = tracer.end();
    // Commands take a moment, and the tracer as well: it does not have to get all of them.
    assert!(count >= COMMANDS.len(), "{count} traced");
    assert!(!ran.stdout.contains("read: "), "{}\n{found:#?}", ran.stdout);
    assert!(found.is_empty(), "{found:#?}");
    // What they said came where it was meant to come.
    let file = fs::read_to_string(roots.join("said")).unwrap();
    for said in [&ran.stdout, &file] {
        assert_eq!(said.matches("gateway-coder is ").count(), 9, "{said}");
    }
}

#[test]
fn in_the_tree_a_tracer_of_hermes_gets_nothing_of_roots() {
    traced_in(TREE, &tree_service());
}

#[test]
fn in_the_direct_layout_a_tracer_of_hermes_gets_nothing_of_roots() {
    let direct = format!(
        "{} reconcile --scandir {DIRECT}",
        programs().join("hermes-s6").display()
    );
    traced_in(DIRECT, &direct);
}

#[test]
fn a_command_of_roots_on_a_terminal_ends_as_it_ends_without() {
    let Some(env) = volume() else { return };
    if !has_terminals() {
        return;
    }
    env.running("coder");
    roots(&env);
    let container = Container::start(&env, "web-1", &tree_service());
    container.await_state(TREE, "coder", "ready");
    let program = programs().join("hermes-s6").display().to_string();
    let ran = on_roots_terminal(
        &env,
        &container,
        &format!("{program} status -p nobody; echo $?; TERM=dumb {program} list; echo $?"),
    );
    ran.says("profile nobody does not exist")
        .says("\n100\ndefault down\ncoder ready\n")
        .says("\n0\n");
    // Ctrl-C reaches it, and the shell sees that it did.
    let line = format!("{program} logs -f -p coder; echo ended with $?");
    let file = env.place.join("follow");
    env.write(&file, &line);
    let line = format!("bash {}", file.display());
    let mut script = container.command("root", &["script", "-qec", &line, "/dev/null"]);
    let mut script = script
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    let mut part = [0; 512];
    let mut terminal = script.stdout.take().unwrap();
    while !String::from_utf8_lossy(&said).contains("stand-in gateway") {
        let length = terminal.read(&mut part).unwrap();
        assert!(length > 0, "{said:?}");
        said.extend_from_slice(&part[..length]);
    }
    script.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    terminal.read_to_end(&mut said).unwrap();
    script.wait().unwrap();
    let said = String::from_utf8_lossy(&said);
    // bash ends a script whose program has ended by SIGINT.
    assert!(!said.contains("ended with"), "{said}");
    env.wait_for("its end", || {
        !env.processes()
            .iter()
            .any(|process| process.cmdline.contains("logs\0-f"))
    });
}

#[test]
fn a_tree_that_root_starts_on_a_terminal_has_no_part_of_it_and_ends_with_its_signal() {
    let Some(env) = volume() else { return };
    if !has_terminals() {
        return;
    }
    env.running("coder");
    let container = Container::start(&env, "web-1", "");
    let program = programs().join("hermes-s6").display().to_string();
    let file = env.place.join("tree");
    env.write(&file, &format!("exec {program} supervise"));
    let line = format!("sh {}", file.display());
    let script = container.command("root", &["script", "-qec", &line, "/dev/null"]);
    let script = env.spawn(script);
    container.await_state(TREE, "coder", "ready");
    for process in env.processes() {
        assert!(
            process.uid == 0 || !has_roots_terminal(&process),
            "{process:?}"
        );
    }
    env.wait_for("the lines of the gateway on root's terminal", || {
        script.said().contains("coder: stand-in gateway of coder")
    });
    let is_roots = |process: &&Process| {
        process.uid == 0 && process.cmdline == format!("{program}\0supervise\0")
    };
    let relay = env.processes().iter().find(is_roots).unwrap().pid;
    kill(relay, "TERM");
    assert_eq!(script.end().code, 0);
    assert_eq!(env.count("coder", "saved"), 1);
}

#[test]
fn what_root_cannot_write_of_it_is_told() {
    let Some(env) = volume() else { return };
    env.running("coder");
    let container = Container::start(&env, "web-1", &tree_service());
    container.await_state(TREE, "coder", "ready");
    let program = programs().join("hermes-s6").display().to_string();
    for command in ["status", "reconcile --dry-run", "list --json"] {
        let line = format!("{program} {command} >/dev/full");
        let ran = container.run("root", &["sh", "-c", &line]);
        ran.is(
            111,
            "",
            "hermes-s6: fatal: unable to write the output: No space left on device\n",
        );
    }
    // A reader that goes away is no fault.
    let line = format!("{program} status | true; {program} status >/dev/null; echo $?");
    container.run("root", &["sh", "-c", &line]).is(0, "0\n", "");
}
