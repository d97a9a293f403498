//! The examples of docs/image.md, docs/dashboard.md and README.md that take a container: each is run as it is written
//! there, and prints what is shown there.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{docker, image, init_is_ours, name};
use crate::docs::{DASHBOARD, IMAGE, README};
use crate::examples::{Example, examples, is_as_shown, is_wait};
use crate::support::{PATIENCE, Ran, Run, chmod, has, skip, wait_for, wait_some};

/// The sections with examples, and what each takes for granted.
const OF_IMAGE: [(&str, &[&str]); 8] = [
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

/// The same of docs/dashboard.md.
const OF_DASHBOARD: [(&str, &[&str]); 1] = [("Who reaches it", &[])];

/// The same of README.md; `None` where no container is needed.
const OF_README: [(&str, Option<&[&str]>); 3] = [
    ("An example", None),
    ("In a container", Some(&[])),
    ("Starting and stopping", None),
];

/// The names that containers and volumes have in the examples.
const NAMES: [&str; 4] = ["hermes", "second", "new", "open"];

/// The exit code of a command that has waited long enough for a gateway; on a busy machine, it takes another one.
const TOO_SLOW: i32 = 99;

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
            let is_container = ["exec", "logs", "--name", "stop", "start"]
                .contains(&before(index, 1))
                || ["-u", "--format"].contains(&before(index, 2));
            let is_place = end.starts_with('/');
            match NAMES.contains(&start) {
                true if is_place => format!("{}-{word}", self.prefix),
                true if is_container && end.is_empty() => format!("{}-{word}", self.prefix),
                // Any port of the machine: another container may have this one.
                _ if *word == "127.0.0.1:9119:9119" => "127.0.0.1::9119".to_owned(),
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

/// Checks that the sections of a page are those that are known, and tells whether there is an image to try them with.
fn is_tried(page: &'static str, known: &[&str]) -> bool {
    let sections: Vec<&str> = examples(page).iter().map(|(section, _)| *section).collect();
    assert_eq!(sections, known);
    let is_there = image().is_some() && init_is_ours();
    if !is_there {
        skip("HERMES_S6_TEST_IMAGE names no image with INIT=debian");
    }
    is_there
}

/// Runs the examples of a section, after what it takes for granted.
fn check(page: &'static str, section: &str, prepare: &[&str]) {
    let mut sections = examples(page).into_iter();
    let (_, examples) = sections.find(|(name, _)| *name == section).unwrap();
    let world = World::new();
    for command in prepare {
        // The tree of a container takes a moment to start.
        let what = format!("{section}: {command}");
        let ran = wait_some(
            &what,
            || Some(world.run(command)).filter(|ran| ![TOO_SLOW, 102].contains(&ran.code)),
            String::new,
        );
        assert_eq!(ran.code, 0, "{what}: {ran:?}");
    }
    // The name of a backup has the time in it.
    let mut backup: Option<String> = None;
    for Example { command, shown } in examples {
        // That has made the image, where README.md begins.
        if command == "make image" {
            continue;
        }
        let shown_name = "hermes-backup-2026-11-23-133730.zip";
        let command = match &backup {
            Some(name) => command.replace(shown_name, name),
            None => command,
        };
        let what = format!("{section}: {command}");
        let mut printed = String::new();
        let only_looks = ["logs", "status", "doctor", "svstat", "gateway list"];
        // These print an id, a name, or nothing, which is not shown.
        let silent = ["docker cp ", "docker stop ", "docker start "];
        if only_looks.iter().any(|word| command.contains(word)) {
            let seen = std::cell::RefCell::<String>::default();
            let is_so = || {
                let ran = world.run(&command);
                let is_so = is_as_shown(&ran.stdout, &shown);
                seen.replace(ran.stdout);
                is_so
            };
            // Such as a dashboard that is parked after three tries: each of them is a start of the real Hermes.
            let limit = Instant::now() + 3 * PATIENCE;
            while !is_so() {
                assert!(Instant::now() < limit, "{what}:\n{}", seen.borrow());
                std::thread::sleep(Duration::from_millis(100));
            }
        } else if command.contains("--detach")
            || silent.iter().any(|start| command.starts_with(start))
        {
            let ran = world.run(&command);
            assert_eq!((ran.code, &*shown), (0, &[][..]), "{what}: {ran:?}");
            if let Some((_, name)) = command.split_once("--name ") {
                let name = name.split(' ').next().unwrap();
                let detect = format!("docker exec {name} hermes-s6 detect");
                wait_for("the tree", || world.run(&detect).code == 0, String::new);
            }
        } else {
            let mut ran = world.run(&command);
            let mut shown = shown;
            if ran.code == TOO_SLOW {
                // The next one may have nothing to wait for.
                shown.retain(|line| !is_wait(line));
                let again = || Some(world.run(&command)).filter(|ran| ran.code != TOO_SLOW);
                ran = wait_some(&what, again, String::new);
            }
            printed = ran.stdout;
            assert!(is_as_shown(&printed, &shown), "{what}:\n{printed}");
        }
        if let Some(line) = printed.lines().find(|line| line.contains("hermes import ")) {
            backup = line.split_whitespace().last().map(str::to_owned);
        }
    }
}

#[test]
fn the_examples_of_the_documentation_print_what_is_shown() {
    if is_tried(IMAGE, &OF_IMAGE.map(|(section, _)| section)) {
        for (section, prepare) in OF_IMAGE {
            check(IMAGE, section, prepare);
        }
    }
}

#[test]
fn the_examples_of_the_readme_print_what_is_shown() {
    if is_tried(README, &OF_README.map(|(section, _)| section)) {
        for (section, prepare) in OF_README {
            if let Some(prepare) = prepare {
                check(README, section, prepare);
            }
        }
    }
}

#[test]
fn the_examples_of_the_dashboard_print_what_is_shown() {
    if is_tried(DASHBOARD, &OF_DASHBOARD.map(|(section, _)| section)) {
        for (section, prepare) in OF_DASHBOARD {
            check(DASHBOARD, section, prepare);
        }
    }
}

/// The blocks without a prompt below a heading of docs/image.md, in order.
fn blocks(heading: &str) -> Vec<&'static str> {
    let heading = format!("\n{heading}\n");
    let (_, section) = IMAGE.split_once(&heading).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("\n```").skip(1).step_by(2);
    let blocks = blocks.map(|block| block.split_once('\n').unwrap().1);
    blocks.filter(|block| !block.starts_with("$ ")).collect()
}

#[test]
fn the_scripts_and_services_of_the_documentation_do_what_is_shown() {
    volume!(volume);
    if !init_is_ours() {
        return;
    }
    let world = World::new();
    // A script, and the option that puts it into a container.
    let put = |content: &str, place: &str| {
        let file = world.place.join(place.replace('/', "-"));
        std::fs::write(&file, content.to_owned() + "\n").unwrap();
        chmod(&file, 0o755);
        format!("--volume={}:{place}:ro", file.display())
    };
    let own = blocks("## Own scripts and services");
    let [hello, said, tick, _dockerfile, add] = own[..] else {
        panic!("{own:?}");
    };
    let options = [
        put(hello, "/etc/cont-init.d/50-hello"),
        put(tick, "/etc/tick/run"),
        put(add, "/etc/cont-init.d/50-tick"),
        "--env=TZ=Europe/Berlin".to_owned(),
    ];
    let container = volume.start(&options.each_ref().map(String::as_str), &[]);
    let ticks = || container.said().contains("tick in Europe/Berlin\n");
    container.wait_for("a tick", ticks);
    // On two streams.
    for line in said.lines() {
        has(&container.said(), format!("{line}\n"));
    }
    assert_eq!(container.stop(), 0);

    let failed = blocks("## Start");
    let script = put("#!/bin/sh\nexit 3", "/etc/cont-init.d/99-fail");
    let ran = volume.run(&[&script], &["true"]).ends(1);
    ran.warns(format!("\n{}\n", failed[0]));
}

#[test]
fn gateway_run_says_what_is_shown() {
    volume!(volume, "touch /opt/data/hold-ready");
    let shown = blocks("### gateway run");
    let container = volume.start(&[], &["gateway", "run"]);
    let (wait, text) = shown[0].split_once('\n').unwrap();
    container.wait_for("a word about the wait", || container.said().contains(wait));
    container.sh("rm /opt/data/hold-ready");
    let is_said = |shown: &str, after: &str| {
        let said = container.said();
        let (_, said) = said.split_once(after)?;
        let said: Vec<&str> = said
            .lines()
            .filter(|line| !line.starts_with("default: "))
            .collect();
        let shown: Vec<&str> = shown.lines().collect();
        let said = said.get(..shown.len())?.join("\n");
        is_as_shown(&said, &shown).then_some(())
    };
    let after = format!("{wait}\n");
    container.wait_for("what is shown", || is_said(text, &after).is_some());
    container.hermes_s6("stop");
    container.restart();
    container.wait_for("what is shown", || container.said().contains(shown[1]));
}
