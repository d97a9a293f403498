//! Containers that may do less: read-only ones, without capabilities, never root, and what cannot work.

use super::{TREE, Volume, init_is_ours};

/// What root needs, and why: CHOWN to give hermes what is its own, FOWNER for the modes of what it has
/// given away, SETUID and SETGID to become hermes, KILL to tell the container's command to end.
/// DAC_OVERRIDE besides: root reads and removes what is hermes'.
const CAPABILITIES: [&str; 7] = [
    "--cap-drop=ALL",
    "--cap-add=CHOWN",
    "--cap-add=DAC_OVERRIDE",
    "--cap-add=FOWNER",
    "--cap-add=KILL",
    "--cap-add=SETGID",
    "--cap-add=SETUID",
];

/// Checks that a container does all it should: gateways up, down, saved, and back after a restart.
fn works(options: &[&str]) {
    let Some(volume) = Volume::with("profile default running; profile coder running; profile idle")
    else {
        return;
    };
    let container = volume.start(options, &[]);
    for round in 1..=2 {
        container.await_states("ready", &["default", "coder"]);
        container.await_states("down", &["idle"]);
        for user in ["root", "hermes"] {
            let ran = container.exec_as(user, &["hermes-s6", "status"]);
            assert_eq!(ran.code, 0, "{options:?} {user} {ran:?}");
        }
        if round == 1 {
            container.restart();
        }
    }
    assert_eq!(container.stop(), 0, "{options:?} {}", container.explain());
    for profile in ["default", "coder"] {
        let counts = ["start", "TERM", "saved"].map(|event| container.count(profile, event));
        assert_eq!(
            counts,
            [2, 2, 2],
            "{options:?} {profile} {}",
            container.said()
        );
    }
    let said = container.said();
    for word in ["denied", "not permitted", "Read-only", "fatal", "warning"] {
        assert!(!said.contains(word), "{options:?} {said}");
    }
}

#[test]
fn a_read_only_container_works_with_a_run_and_a_tmp_of_its_own() {
    works(&["--read-only", "--tmpfs=/run:exec", "--tmpfs=/tmp"]);
}

#[test]
fn root_needs_few_capabilities() {
    works(&CAPABILITIES);
}

#[test]
fn a_container_that_was_never_roots_needs_none() {
    works(&[
        "--user=10000:10000",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
    ]);
}

#[test]
fn a_container_that_was_never_roots_can_be_read_only() {
    works(&[
        "--user=10000:10000",
        "--cap-drop=ALL",
        "--read-only",
        "--tmpfs=/run:exec,uid=10000,gid=10000",
        "--tmpfs=/tmp",
    ]);
}

/// Checks that a container ends at once, says why in one line with the remedy, and gives its exit code.
fn refused(options: &[&str], words: &[&str]) -> Option<i32> {
    let volume = Volume::with("profile default running")?;
    let ran = volume.run(options, &["echo", "it runs"]);
    assert_eq!(ran.stdout, "", "{options:?} {ran:?}");
    assert_ne!(ran.code, 0, "{options:?} {ran:?}");
    let lines = |word: &str| {
        ran.stderr
            .lines()
            .filter(|line| line.contains(word))
            .count()
    };
    for word in words {
        assert_eq!(lines(word), 1, "{options:?} {word} {ran:?}");
    }
    // s6-overlay says in its own words what it cannot work with.
    if init_is_ours() {
        assert_eq!(
            lines("init: fatal: ") + lines("hermes-setup: fatal: "),
            1,
            "{options:?} {ran:?}"
        );
    }
    assert_eq!(
        volume.script("0", "ls /opt/data/events 2>/dev/null || true"),
        ""
    );
    Some(ran.code)
}

#[test]
fn another_user_than_root_and_hermes_is_refused_and_told_what_to_do() {
    // s6-overlay gets as far as our script only where its /run is writable by that user.
    let words: &[&str] = if init_is_ours() {
        &["PUID=4321", "--user 10000:10000"]
    } else {
        &[]
    };
    if let Some(code) = refused(&["--user=4321:4321"], words) {
        assert!(code == 1 || !init_is_ours(), "{code}");
    }
}

#[test]
fn a_run_that_programs_cannot_be_started_from_is_refused() {
    let words: &[&str] = if init_is_ours() {
        &["--tmpfs /run:exec"]
    } else {
        &[]
    };
    refused(&["--tmpfs=/run"], words);
}

#[test]
fn a_read_only_container_without_a_run_of_its_own_is_refused() {
    let words: &[&str] = if init_is_ours() {
        &["--tmpfs /run:exec"]
    } else {
        &[]
    };
    refused(&["--read-only"], words);
}

#[test]
fn another_init_in_front_is_refused() {
    let words: &[&str] = if init_is_ours() {
        &["without --init"]
    } else {
        &[]
    };
    refused(&["--init"], words);
}

#[test]
fn without_setuid_root_says_what_it_lacks() {
    let lacking: Vec<&str> = CAPABILITIES
        .into_iter()
        .filter(|word| *word != "--cap-add=SETUID")
        .collect();
    // s6-overlay needs it itself, before any script of ours.
    let words: &[&str] = if init_is_ours() { &["SETUID"] } else { &[] };
    refused(&lacking, words);
}

#[test]
fn the_tree_of_a_read_only_container_is_no_other() {
    let Some(volume) = Volume::with("profile coder running") else {
        return;
    };
    let container = volume.start(&["--read-only", "--tmpfs=/run:exec", "--tmpfs=/tmp"], &[]);
    container.await_states("ready", &["coder"]);
    assert_eq!(container.sh(&format!("stat -c %U {TREE}")), "hermes\n");
    let wrote = container.exec(&["touch", "/opt/hermes/written"]);
    assert_ne!(wrote.code, 0, "the container is read-only");
}
