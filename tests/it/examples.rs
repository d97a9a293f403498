//! Console examples of the documentation: how they are read and compared, and those of README.md that take no
//! container. `image::examples` runs the others.

use std::fs;
use std::process::{Command, Stdio};

use crate::docs::README;
use crate::support::{Ran, Run, TestEnv, Tree, programs, skip, wait_for};

/// A command of a page, and the lines that are shown below it.
pub struct Example {
    pub command: String,
    pub shown: Vec<&'static str>,
}

/// Reads the examples of each section that has some.
pub fn examples(page: &'static str) -> Vec<(&'static str, Vec<Example>)> {
    let mut sections: Vec<(&str, Vec<Example>)> = Vec::new();
    let mut section = "";
    let mut block: Option<bool> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), block) {
            (Some(_), None) => block = Some(false),
            (Some(_), Some(_)) => block = None,
            (None, None) => section = line.strip_prefix("## ").unwrap_or(section),
            (None, Some(is_console)) => {
                if let Some(command) = line.strip_prefix("$ ") {
                    if sections.last().is_none_or(|(last, _)| *last != section) {
                        sections.push((section, Vec::new()));
                    }
                    block = Some(true);
                    let command = command.to_owned();
                    let shown = Vec::new();
                    let (_, examples) = sections.last_mut().unwrap();
                    examples.push(Example { command, shown });
                } else if is_console {
                    let (_, examples) = sections.last_mut().unwrap();
                    let last = examples.last_mut().unwrap();
                    match last.command.strip_suffix('\\') {
                        Some(command) => last.command = command.to_owned() + line.trim_start(),
                        None => last.shown.push(line),
                    }
                }
            }
        }
    }
    sections
}

/// A line without what differs from run to run: numbers, the host name of a container, and the width of columns.
fn alike(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        let is_host = word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_host {
            return "HOST".to_owned();
        }
        let mut text = String::new();
        for character in word.chars() {
            match character {
                '0'..='9' if text.ends_with('N') => {}
                '0'..='9' => text.push('N'),
                other => text.push(other),
            }
        }
        text
    });
    let line = words.collect::<Vec<_>>().join(" ");
    // A duration has another unit where it is short, and two where it is long.
    line.replace("N ms)", "N.N s)").replace("NmNs", "Ns")
}

/// Tells whether a line says that a command waits, as it does on a slow machine.
pub fn is_wait(line: &str) -> bool {
    line.starts_with("hermes-s6: info: waiting for ")
}

/// Tells whether something was printed as it is shown, where `…` stands for any lines.
///
/// What takes long on a slow machine may be printed with a line about the wait.
pub fn is_as_shown(printed: &str, shown: &[&str]) -> bool {
    let is_shown = shown.iter().any(|line| is_wait(line));
    let printed = printed.lines().filter(|line| is_shown || !is_wait(line));
    let printed: Vec<String> = printed.map(alike).collect();
    let mut rest = &printed[..];
    let mut may_skip = false;
    for line in shown {
        if *line == "…" {
            may_skip = true;
            continue;
        }
        let line = alike(line);
        let found = rest.iter().position(|one| *one == line);
        match found {
            Some(0) => rest = &rest[1..],
            Some(index) if may_skip => rest = &rest[index + 1..],
            _ => return false,
        }
        may_skip = false;
    }
    may_skip || rest.is_empty()
}

#[test]
fn what_is_shown_is_compared_line_by_line() {
    let shown = ["a 12", "…", "b", "c"];
    assert!(is_as_shown("a 7\nx\nb\nc\n", &shown));
    assert!(is_as_shown("a  7\nb\nc\n", &shown));
    for printed in [
        "a 7\nb\nx\nc\n",
        "x\na 7\nb\nc\n",
        "a 7\nb\nc\nd\n",
        "a 7\n",
        "",
    ] {
        assert!(!is_as_shown(printed, &shown), "{printed:?}");
    }
    assert!(is_as_shown("anything", &["…"]));
    assert!(is_as_shown("up 3m07s", &["up 10s"]));
    let wait = "hermes-s6: info: waiting for x\n";
    assert!(is_as_shown(&format!("{wait}a (92 ms)\n"), &["a (0.1 s)"]));
    assert!(!is_as_shown("a\n", &[wait.trim_end(), "a"]));
}

/// A shell of a user called ada, in whose home the examples of README.md are run.
struct Shell<'a> {
    env: &'a TestEnv,
    exports: String,
    /// The exit code of the last command.
    code: i32,
    tree: Option<Tree<'a>>,
    /// How much the trees have said before the last one.
    said: usize,
}

impl<'a> Shell<'a> {
    fn new(env: &'a TestEnv) -> Self {
        Self {
            env,
            exports: String::new(),
            code: 0,
            tree: None,
            said: 0,
        }
    }

    fn prepare(&self, line: &str) -> Command {
        let mut command = self.env.command("bash");
        // As README.md takes it for granted: nothing is set, and both programs are found.
        let path = format!("{}:/usr/bin:/bin", programs().display());
        command
            .env_remove("HERMES_HOME")
            .env_remove("HERMES_S6_SCANDIR")
            .env("PATH", path)
            .env("COLUMNS", "1000")
            .args(["-c", &format!("{}{line}", self.exports)]);
        command
    }

    fn run(&mut self, line: &str) -> String {
        let line = format!("exec 2>&1; (exit {}); {line}", self.code);
        let Ran { code, stdout, .. } = self.prepare(&line).ran();
        self.code = code;
        self.as_of_ada(&stdout)
    }

    /// What was printed, with the paths that it has in README.md, and the name that PID 1 has there.
    fn as_of_ada(&self, text: &str) -> String {
        let init = fs::read_to_string("/proc/1/comm").unwrap();
        let programs = programs().display();
        text.replace(&format!("{programs}/hermes-s6"), "/usr/local/bin/hermes-s6")
            .replace(
                &format!("{programs}/hermes"),
                "/opt/hermes/.venv/bin/hermes",
            )
            .replace(self.env.place.to_str().unwrap(), "/home/ada")
            .replace(&format!("PID 1 is {}", init.trim_end()), "PID 1 is sh")
    }

    /// Runs a command as it is written, and compares what it prints.
    fn check(&mut self, command: &str, shown: &[&str]) {
        if command.starts_with("export ") {
            self.exports.extend([command, "; "]);
        } else if let Some(line) = command.strip_suffix(" &") {
            self.said = self.env.out().len();
            let line = self.prepare(&format!("exec {line}"));
            self.tree = Some(self.env.start(line));
            self.compare(command, shown, true, |shell| {
                shell.as_of_ada(&shell.env.out()[shell.said..])
            });
        } else if command.starts_with("pstree ") {
            if Command::new("pstree")
                .arg("-V")
                .stderr(Stdio::null())
                .status()
                .is_err()
            {
                return skip("there is no pstree");
            }
            let (words, _pid) = command.rsplit_once(' ').unwrap();
            let pid = self.tree.as_ref().unwrap().pid();
            self.compare(command, shown, true, |shell| {
                shell.run(&format!("{words} {pid}"))
            });
        } else if let Some(pids) = command.strip_prefix("kill -9 ") {
            // All that the tree above has.
            assert_eq!(pids.split(' ').count(), self.env.processes().len());
            self.env.kill_all();
            self.tree = None;
        } else if command.starts_with("hermes-s6 status") {
            self.compare(command, shown, false, |shell| shell.run(command));
        } else {
            let printed = self.run(command);
            assert!(is_as_shown(&printed, shown), "{command}:\n{printed}");
        }
    }

    /// Waits until something prints what is shown, in any order if it is `unordered`.
    fn compare(
        &mut self,
        command: &str,
        shown: &[&str],
        unordered: bool,
        mut print: impl FnMut(&mut Self) -> String,
    ) {
        let sorted = |lines: Vec<&str>| {
            // The branches of a tree are drawn after the order of its processes.
            let mut lines: Vec<String> = lines
                .iter()
                .map(|line| line.trim_start_matches([' ', '|', '-', '`']).to_owned())
                .collect();
            lines.sort_by_key(|line| alike(line));
            lines
        };
        let seen = std::cell::RefCell::new(String::new());
        let is_so = || {
            let printed = print(self);
            let is_so = if unordered {
                let shown = sorted(shown.to_vec());
                let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
                is_as_shown(&sorted(printed.lines().collect()).join("\n"), &shown)
            } else {
                is_as_shown(&printed, shown)
            };
            seen.replace(printed);
            is_so
        };
        wait_for(command, is_so, || seen.borrow().clone());
    }
}

/// The examples of README.md below a heading.
fn of_readme(heading: &str) -> Vec<Example> {
    let mut sections = examples(README).into_iter();
    let found = sections.find(|(section, _)| *section == heading);
    found.unwrap().1
}

/// A home of a user, where README.md has it.
fn ada() -> TestEnv {
    let mut env = TestEnv::new();
    env.home = env.place.join(".hermes");
    env.scandir = env.place.join("service");
    env
}

#[test]
fn the_example_of_the_readme_prints_what_is_shown() {
    let env = ada();
    let mut shell = Shell::new(&env);
    let examples = of_readme("An example");
    assert!(examples.len() > 9);
    for Example { command, shown } in examples {
        shell.check(&command, &shown);
    }
}

#[test]
fn what_starting_and_stopping_prints_is_what_the_readme_shows() {
    let env = ada();
    for profile in ["coder", "writer"] {
        env.profile(profile, "");
    }
    env.behaviour("coder", "save 1\n")
        .behaviour("writer", "exit 78\n");
    env.own();
    let mut shell = Shell::new(&env);
    shell.check("export HERMES_S6_SCANDIR=~/service", &[]);
    let reconciled = ["…"];
    shell.check("hermes-s6 supervise &", &reconciled);
    env.wait_for("the tree to be watched", || env.run("detect").code == 0);
    let examples = of_readme("Starting and stopping");
    assert!(examples.len() > 5);
    for Example { command, shown } in examples {
        shell.check(&command, &shown);
    }
}
