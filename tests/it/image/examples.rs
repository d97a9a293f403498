//! The examples of docs/image.md: each is run as it is written there, and prints what is shown there.

use std::path::PathBuf;
use std::process::Command;

use super::{docker, image, init_is_ours, name};
use crate::support::{Ran, Run, skip, wait_for, wait_some};

const PAGE: &str = include_str!("../../../docs/image.md");

/// The sections with examples, and what each takes for granted.
const SECTIONS: [(&str, &[&str]); 8] = [
    (
        "Stop",
        &["docker run --detach --name hermes --env HERMES_S6_STOP_TIMEOUT=60 hermes-s6:debian"],
    ),
    ("Commands", &[]),
    ("A dashboard", &[]),
    (
        "Owners",
        &["docker run --rm --volume hermes:/opt/data hermes-s6:debian true"],
    ),
    (
        "Two containers on one volume",
        &[
            "docker run --detach --name hermes --volume hermes:/opt/data hermes-s6:debian gateway run",
            "docker exec hermes hermes-s6 start",
            "docker run --detach --name second --volume hermes:/opt/data hermes-s6:debian",
        ],
    ),
    ("Behind another init", &[]),
    (
        "Backup",
        &[
            "docker run --detach --name hermes --volume hermes:/opt/data hermes-s6:debian",
            "docker exec hermes hermes profile create coder --no-alias --no-skills",
            "docker exec hermes hermes-s6 start -p coder",
            "docker run --detach --name new hermes-s6:debian",
        ],
    ),
    (
        "Looking inside",
        &[
            "docker run --detach --name hermes hermes-s6:debian",
            "docker exec hermes hermes profile create coder --no-alias --no-skills",
        ],
    ),
];

/// The names that containers and volumes have in the examples.
const NAMES: [&str; 3] = ["hermes", "second", "new"];

/// A command of the page, and the lines that are shown below it.
struct Example {
    command: String,
    shown: Vec<&'static str>,
}

/// Reads the examples of each section that has some.
fn examples() -> Vec<(&'static str, Vec<Example>)> {
    let mut sections: Vec<(&str, Vec<Example>)> = Vec::new();
    let mut section = "";
    let mut block: Option<bool> = None;
    for line in PAGE.lines() {
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
                    examples.last_mut().unwrap().shown.push(line);
                }
            }
        }
    }
    sections
}

/// The containers and volumes of one section, under names of their own.
pub(super) struct World {
    prefix: String,
    /// The working directory.
    place: PathBuf,
}

impl World {
    pub(super) fn new() -> Self {
        let prefix = name();
        let place = std::env::temp_dir().join(&prefix);
        std::fs::create_dir(&place).unwrap();
        Self { prefix, place }
    }

    /// Puts the names of this world, and the image, in the place of those of the page.
    fn own(&self, command: &str) -> String {
        let words: Vec<&str> = command.split(' ').collect();
        let before = |index: usize, back: usize| {
            let index = index.checked_sub(back);
            index.map_or("", |index| words[index])
        };
        let own = words.iter().enumerate().map(|(index, word)| {
            let (start, end) = word.split_once(':').unwrap_or((word, ""));
            let is_container = ["exec", "logs", "--name"].contains(&before(index, 1))
                || ["-u", "--format"].contains(&before(index, 2));
            let is_place = end.starts_with('/');
            match NAMES.contains(&start) {
                true if is_place => format!("{}-{word}", self.prefix),
                true if is_container && end.is_empty() => format!("{}-{word}", self.prefix),
                _ if *word == "hermes-s6:debian" => image().unwrap().to_owned(),
                _ => (*word).to_owned(),
            }
        });
        own.collect::<Vec<_>>().join(" ")
    }

    /// Runs a command line, with both outputs in one, as a person sees them.
    pub(super) fn run(&self, command: &str) -> Ran {
        let line = format!("exec 2>&1; {}", self.own(command));
        let mut shell = Command::new("timeout");
        shell.args(["120", "sh", "-c", &line]);
        shell.current_dir(&self.place).ran()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in NAMES {
            let name = format!("{}-{name}", self.prefix);
            docker(&["rm", "--force", "--volumes", &name]);
            docker(&["volume", "rm", "--force", &name]);
        }
        let _gone = std::fs::remove_dir_all(&self.place);
    }
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
    words.collect::<Vec<_>>().join(" ")
}

/// Tells whether something was printed as it is shown, where `…` stands for any lines.
fn is_as_shown(printed: &str, shown: &[&str]) -> bool {
    let printed: Vec<String> = printed.lines().map(alike).collect();
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
}

#[test]
fn the_examples_of_the_documentation_print_what_is_shown() {
    let examples = examples();
    let sections: Vec<&str> = examples.iter().map(|(section, _)| *section).collect();
    assert_eq!(sections, SECTIONS.map(|(section, _)| section));
    if image().is_none() || !init_is_ours() {
        skip("HERMES_S6_TEST_IMAGE names no image with INIT=debian");
        return;
    }
    for ((section, examples), (_, prepare)) in examples.into_iter().zip(SECTIONS) {
        let world = World::new();
        for command in prepare {
            // The tree of a container takes a moment to start.
            let what = format!("{section}: {command}");
            let ran = wait_some(
                &what,
                || Some(world.run(command)).filter(|ran| ran.code != 102),
                String::new,
            );
            assert_eq!(ran.code, 0, "{what}: {ran:?}");
        }
        // The name of a backup has the time in it.
        let mut backup: Option<String> = None;
        for Example { command, shown } in examples {
            let shown_name = "hermes-backup-2026-11-23-133730.zip";
            let command = match &backup {
                Some(name) => command.replace(shown_name, name),
                None => command,
            };
            let mut printed = String::new();
            let only_looks = ["logs", "status", "doctor", "svstat"];
            if only_looks.iter().any(|word| command.contains(word)) {
                let what = format!("{section}: {command}");
                let seen = std::cell::RefCell::default();
                let is_so = || {
                    let ran = world.run(&command);
                    let is_so = is_as_shown(&ran.stdout, &shown);
                    seen.replace(ran.stdout);
                    is_so
                };
                wait_for(&what, is_so, || seen.borrow().clone());
            } else {
                printed = world.run(&command).stdout;
                let is_silent = command.contains("--detach") || command.starts_with("docker cp ");
                let is_so = is_silent || is_as_shown(&printed, &shown);
                assert!(is_so, "{section}: {command}:\n{printed}");
            }
            if let Some(line) = printed.lines().find(|line| line.contains("hermes import ")) {
                backup = line.split_whitespace().last().map(str::to_owned);
            }
        }
    }
}
