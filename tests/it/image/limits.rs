//! Containers that may do less: read-only ones, without capabilities, never root, and what cannot work.

use super::{TREE, Volume, init_is_ours, only_ours};
use crate::support::{Ran, begins, has};

/// What root needs, and why: CHOWN to make the scan directory hermes', SETUID and SETGID to become
/// hermes, KILL to tell the container's command, which is hermes', to end.
const CAPABILITIES: [&str; 5] = [
    "--cap-drop=ALL",
    "--cap-add=CHOWN",
    "--cap-add=KILL",
    "--cap-add=SETGID",
    "--cap-add=SETUID",
];

/// A volume as Hermes makes it, which nobody else may look into.
const PREPARE: &str = "profile default running; profile coder running; profile idle
    touch /opt/data/.env
    chmod 600 /opt/data/.env
    chmod 700 /opt/data /opt/data/profiles /opt/data/profiles/*";

/// Checks that a container does all it should: gateways up, down, saved, and back after a restart.
fn works(volume: &Volume, options: &[&str]) -> String {
    let container = volume.start(options, &[]);
    // Where root never was in a container, it cannot become anybody.
    let users: &[&str] = if options.contains(&"--user=10000:10000") {
        &["hermes"]
    } else {
        &["hermes", "root"]
    };
    for round in 1..=2 {
        container.await_states("ready", &["default", "coder"]);
        container.await_states("down", &["idle"]);
        for user in users {
            for words in [["hermes-s6", "status"], ["hermes-s6", "reconcile"]] {
                let ran = container.exec_as(user, &words);
                assert_eq!(ran.code, 0, "{options:?} {user} {ran:?}");
            }
        }
        if round == 1 {
            container.restart();
        }
    }
    assert_eq!(container.stop(), 0, "{options:?} {}", container.explain());
    for profile in ["default", "coder"] {
        let counts = container.life(profile);
        assert_eq!(
            counts,
            [2, 2, 2],
            "{options:?} {profile} {}",
            container.said()
        );
    }
    let said = container.said();
    for word in [
        "denied",
        "not permitted",
        "Read-only",
        "can't",
        "hermes-setup: warning",
        "hermes-s6: fatal",
    ] {
        assert!(!said.contains(word), "{options:?} {word} {said}");
    }
    said
}

#[test]
fn a_read_only_container_works_with_a_run_and_a_tmp_of_its_own() {
    volume!(volume, PREPARE);
    works(
        &volume,
        &["--read-only", "--tmpfs=/run:exec", "--tmpfs=/tmp"],
    );
}

#[test]
fn root_needs_four_capabilities() {
    volume!(volume, PREPARE);
    works(&volume, &CAPABILITIES);
}

#[test]
fn root_needs_a_fifth_where_the_volume_is_not_hermes() {
    volume!(volume, PREPARE);
    volume.script("0", "chown -R 4321:4321 /opt/data");
    // Nobody but its owner, and who may override that, can look into it.
    let said = works(
        &volume,
        &[&CAPABILITIES[..], &["--cap-add=DAC_OVERRIDE"]].concat(),
    );
    has(&said, "hermes-setup: giving /opt/data to hermes");
    assert_eq!(volume.script("0", "find /opt/data ! -user 10000"), "");
}

#[test]
fn a_container_that_was_never_roots_needs_none() {
    volume!(volume, PREPARE);
    let mut options = vec![
        "--user=10000:10000",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
    ];
    // The image has no /run for that user but with our own /init.
    if !init_is_ours() {
        options.push("--tmpfs=/run:exec,uid=10000,gid=10000");
    }
    works(&volume, &options);
}

#[test]
fn a_container_that_was_never_roots_can_be_read_only() {
    volume!(volume, PREPARE);
    let options = [
        "--user=10000:10000",
        "--cap-drop=ALL",
        // Or else s6-overlay would try to become root, in vain.
        "--security-opt=no-new-privileges",
        "--read-only",
        "--tmpfs=/run:exec,uid=10000,gid=10000",
        "--tmpfs=/tmp",
    ];
    works(&volume, &options);
}

/// Checks that a container ends at once, starts nothing, and says why in one line with the remedy.
///
/// What s6-overlay cannot work with either, it refuses in its own words, before any script of ours.
fn refused(code: i32, options: &[&str], words: &[&str]) {
    volume!(volume, "profile default running");
    let ran = volume.run(options, &["echo", "it runs"]);
    assert_eq!(ran.stdout, "", "{options:?} {ran:?}");
    if init_is_ours() {
        assert_eq!(ran.code, code, "{options:?} {ran:?}");
        let lines: Vec<&str> = ran.stderr.lines().collect();
        let fatal = |line: &&&str| {
            line.starts_with("init: fatal: ") || line.starts_with("hermes-setup: fatal: ")
        };
        assert_eq!(lines.iter().filter(fatal).count(), 1, "{options:?} {ran:?}");
        let line = lines.iter().find(fatal).unwrap();
        for word in words {
            assert!(line.contains(word), "{options:?} {word} {ran:?}");
        }
    } else {
        assert_ne!(ran.code, 0, "{options:?} {ran:?}");
    }
    let events = volume.script("0", "ls /opt/data/events 2>/dev/null || true");
    assert_eq!(events, "");
}

#[test]
fn another_user_than_root_and_hermes_is_refused_and_told_what_to_do() {
    let words = ["PUID=4321", "--user 10000:10000"];
    refused(100, &["--user=4321:4321"], &words);
}

#[test]
fn a_run_that_programs_cannot_be_started_from_is_refused() {
    refused(100, &["--tmpfs=/run"], &["--tmpfs /run:exec"]);
}

#[test]
fn a_read_only_container_without_a_run_of_its_own_is_refused() {
    refused(100, &["--read-only"], &["--tmpfs /run:exec"]);
}

/// Runs the image behind another init; with s6-overlay, checks that it refuses this, and nothing is there to see.
fn behind_another_init(volume: &Volume, options: &[&str], command: &[&str]) -> Option<Ran> {
    let ran = volume.run(&[&["--init"], options].concat(), command);
    if init_is_ours() {
        return Some(ran);
    }
    ran.ends(100).warns("can only run as pid 1");
    None
}

#[test]
fn behind_another_init_the_command_runs_on_a_volume_that_is_hermes_and_nothing_is_supervised() {
    volume!(volume, "profile default running; profile coder running");
    volume.script("0", "chown root:root /opt/data");
    let script =
        "id -un; pwd; printenv PWD WORD; touch written; hermes-s6 status >/tmp/status; echo $?
        grep Manager /tmp/status; exit 7";
    let command = ["sh", "-c", script];
    // Whatever somebody left where s6 keeps the environment, it is not that of this container.
    let left = "--tmpfs=/run/s6/container_environment:exec,mode=777";
    let options = ["--env=WORD=said", left];
    let Some(ran) = behind_another_init(&volume, &options, &command) else {
        return;
    };
    let expected = "hermes\n/opt/data\n/opt/data\nsaid\n1\nManager: none";
    assert_eq!(ran.code, 7, "{ran:?}");
    begins(&ran.stdout, expected);
    ran.warns("hermes-setup: giving /opt/data to hermes");
    ran.warns("main-wrapper: warning: PID 1 is docker-init, not s6: no gateway is supervised here");
    let events = volume.script("0", "ls /opt/data/events 2>/dev/null || true");
    assert_eq!(events, "");
    // And so where root never was.
    let never_root = ["--user=10000:10000", "--cap-drop=ALL"];
    let ran = behind_another_init(&volume, &never_root, &["id", "-un"]).unwrap();
    assert_eq!((ran.code, &*ran.stdout), (0, "hermes\n"), "{ran:?}");
}

#[test]
fn behind_another_init_a_gateway_as_the_command_ends_with_the_container_in_its_own_way() {
    let Some(volume) = only_ours(Volume::new(), "s6-overlay refuses another init") else {
        return;
    };
    let container = volume.start(&["--init"], &["gateway", "run"]);
    let state = || volume.script("0", "cat /opt/data/gateway_state.json || true");
    container.wait_for("Hermes to serve", || {
        state().contains("\"gateway_state\":\"running\"")
    });
    // Of Hermes, which was told to end by nobody that it knows; 137 would be docker's.
    assert_eq!(container.stop(), 1, "{}", container.said());
    has(&state(), "\"gateway_state\":\"running\"");
}

#[test]
fn behind_another_init_without_a_command_there_is_nothing_to_run() {
    volume!(volume, "profile default running");
    let Some(ran) = behind_another_init(&volume, &[], &[]) else {
        return;
    };
    assert_eq!((ran.code, &*ran.stdout), (100, ""), "{ran:?}");
    ran.warns("main-wrapper: fatal: PID 1 is docker-init, not s6");
    ran.warns("without --init");
    let Some(ran) = behind_another_init(&volume, &["--read-only"], &["true"]) else {
        return;
    };
    assert_eq!((ran.code, &*ran.stdout), (100, ""), "{ran:?}");
    ran.warns(
        "init: fatal: unable to prepare /run: in a read-only container, add --tmpfs /run:exec\n",
    );
}

#[test]
fn what_is_missing_is_said_as_the_documentation_has_it() {
    if only_ours(Volume::new(), "s6-overlay has messages of its own").is_none() {
        return;
    }
    let page = include_str!("../../../docs/image.md");
    let (_, table) = page
        .split_once("These messages say what is missing")
        .unwrap();
    let rows = table.lines().filter_map(|line| {
        let row = line.strip_prefix("| `")?.strip_suffix("` |")?;
        row.split_once("` | `")
    });
    let rows: Vec<(&str, &str)> = rows
        .take_while(|(options, _)| options.starts_with("--"))
        .collect();
    assert!(rows.len() > 5, "{rows:?}");
    for (options, message) in rows {
        volume!(volume, "profile default running");
        let options: Vec<&str> = options.split(' ').collect();
        let ran = volume.run(&options, &["true"]);
        let is_there = ran.stderr.lines().any(|line| line == message);
        assert!(is_there, "{options:?}: {message}: {ran:?}");
    }
}

#[test]
fn the_init_leaves_a_container_alone_in_which_it_runs_already() {
    volume!(volume, "profile default running");
    let container = volume.begin(&[], &["default"]);
    let pid = container.pid("default");
    for user in ["root", "hermes"] {
        let ran = container.exec_as(user, &["/init", "echo", "it runs"]);
        assert_eq!((ran.code, &*ran.stdout), (100, ""), "{user} {ran:?}");
    }
    container.await_states("ready", &["default"]);
    assert_eq!(container.pid("default"), pid);
}

/// Gives the first column of the rows below a line of the documentation, without its quotes.
fn rows_below(head: &str) -> Vec<&'static str> {
    let page = include_str!("../../../docs/image.md");
    let (_, table) = page.split_once(head).unwrap();
    let rows = table.lines().skip_while(|line| !line.starts_with("|--"));
    let rows = rows.skip(1).take_while(|line| line.starts_with("| `"));
    rows.map(|row| row[3..].split_once('`').unwrap().0)
        .collect()
}

#[test]
fn the_setup_warns_in_the_words_of_the_documentation() {
    let causes: [&[&str]; 5] = [
        &["--env=PUID=0"],
        &["--user=10000:10000", "--env=PUID=1500"],
        &["--env=PUID=1500", "--read-only", "--tmpfs=/run:exec"],
        &["--tmpfs=/opt/data/profiles:mode=755"],
        &["--env=HERMES_HOME=/opt/data/x"],
    ];
    if only_ours(Volume::new(), "s6-overlay has messages of its own").is_none() {
        return;
    }
    let warnings = rows_below("| warning | when |");
    assert_eq!(warnings.len(), causes.len(), "{warnings:?}");
    for (warning, options) in warnings.into_iter().zip(causes) {
        volume!(volume, "profile default");
        let ran = volume.run(options, &["true"]);
        let wanted = format!("hermes-setup: warning: {warning}");
        let is_it = |line: &str| match wanted.strip_suffix('\u{2026}') {
            Some(start) => line.starts_with(start),
            None => line == wanted,
        };
        assert!(
            ran.stderr.lines().any(is_it),
            "{options:?}: {wanted}: {ran:?}"
        );
    }
    volume!(volume);
    let ran = volume.run(&["--env=HERMES_HOME=/usr"], &["true"]);
    let (_, block) = include_str!("../../../docs/image.md")
        .split_once("a mounted home directory is given away:\n\n```\n")
        .unwrap();
    let (block, _) = block.split_once("```").unwrap();
    has(&ran.stderr, block);
}

#[test]
fn without_setuid_root_says_what_it_lacks() {
    let lacking: Vec<&str> = CAPABILITIES
        .into_iter()
        .filter(|word| *word != "--cap-add=SETUID")
        .collect();
    refused(1, &lacking, &["SETUID"]);
}

#[test]
fn without_kill_root_says_what_it_lacks() {
    let lacking: Vec<&str> = CAPABILITIES
        .into_iter()
        .filter(|word| *word != "--cap-add=KILL")
        .collect();
    refused(1, &lacking, &["KILL"]);
}

#[test]
fn a_data_root_that_is_none_is_refused() {
    for home in [
        "/",
        "data",
        "/opt/./data",
        "/opt/data/..",
        "/opt/data/../../etc",
    ] {
        refused(1, &[&format!("--env=HERMES_HOME={home}")], &["HERMES_HOME"]);
    }
}

#[test]
fn another_scan_directory_is_refused() {
    let option = "--env=HERMES_S6_SCANDIR=/run/service";
    refused(1, &[option], &["HERMES_S6_SCANDIR"]);
}

#[test]
fn the_tree_of_a_read_only_container_is_no_other() {
    volume!(volume, "profile coder running");
    let container = volume.begin(
        &["--read-only", "--tmpfs=/run:exec", "--tmpfs=/tmp"],
        &["coder"],
    );
    assert_eq!(container.sh(&format!("stat -c %U {TREE}")), "hermes\n");
    let wrote = container.exec("touch /opt/hermes/written");
    assert_ne!(wrote.code, 0, "the container is read-only");
}
