//! Images that hermes-s6 is added to by the lines of README.md: `make test-image INIT=add`.
//!
//! They look like the original's: its services, entry point, PATH and user. Their s6-overlay is its release, of both
//! layouts that it has had, where that can be fetched; else a stand-in with Debian's s6.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;

use super::{Volume, docker};
use crate::support::{Ran, has, skip};

/// What s6-overlay starts in each of these images, but for its own services.
const SERVICES: [&str; 3] = ["dashboard", "earlier-service", "main-hermes"];

/// An image, and what became of it.
#[derive(Clone)]
struct Target {
    before: String,
    added: String,
}

/// Makes the images of a kind that `tests/target/Dockerfile` knows; none, if there is nothing to add.
fn target(kind: &'static str) -> Option<Target> {
    static MADE: Mutex<BTreeMap<&str, Target>> = Mutex::new(BTreeMap::new());
    let Ok(addition) = std::env::var("HERMES_S6_TEST_ADDITION") else {
        skip("nothing to add: make test-image INIT=add");
        return None;
    };
    let mut made = MADE.lock().unwrap();
    if let Some(target) = made.get(kind) {
        return Some(target.clone());
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/setup/target-image");
    let output = Command::new(script).args([kind, &addition]).output();
    let ran = Ran::from(output.unwrap()).ends(0);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let [before, added, overlay] = lines[..] else {
        panic!("{ran:?}")
    };
    if overlay == "stand-in" {
        skip("the release of s6-overlay is not here: a stand-in with Debian's s6 takes its place");
    }
    let (before, added) = (before.to_owned(), added.to_owned());
    made.insert(kind, Target { before, added });
    made.get(kind).cloned()
}

/// Checks which of the services are up when an image has started.
fn starts(image: &str, options: &[&str], services: &[&str]) {
    let volume = Volume::of(image, &[]);
    volume.script("10000:10000", "profile default running; profile coder");
    let container = volume.start(options, &[]);
    let up = "for service in /run/service/*; do
        [ \"$(s6-svstat -o up \"$service\")\" != true ] || echo \"${service##*/}\"
      done";
    let mut seen = Vec::new();
    container.wait_for(&format!("{services:?}"), || {
        let ran = container.exec(&["sh", "-c", &format!("PATH=/command:$PATH; {up}")]);
        let names = ran.stdout.lines();
        // Its own, and that of s6-rc.
        let own = |name: &&str| name.starts_with("s6rc-") || name.starts_with("s6-linux-init-");
        seen = names.filter(|name| !own(name)).map(str::to_owned).collect();
        seen == services
    });
    if services.contains(&"hermes-s6") {
        container.await_states("ready", &["default"]);
        container.await_states("down", &["coder"]);
        has(&container.hermes_s6("detect"), "s6");
    }
    assert_eq!(container.stop(), 0, "{image} {}", container.said());
}

#[test]
fn all_services_of_an_image_are_up_before_and_after_and_so_is_the_tree() {
    let read_only = [
        "--read-only",
        "--tmpfs=/run:exec",
        "--env=S6_READ_ONLY_ROOT=1",
    ];
    let mut with_ours = SERVICES.to_vec();
    with_ours.insert(2, "hermes-s6");
    for kind in ["earlier", "later", "moving"] {
        let Some(target) = target(kind) else { return };
        starts(&target.before, &[], &SERVICES);
        starts(&target.added, &[], &with_ours);
        // s6-overlay itself writes to its old bundle since 3.2.3.2.
        if kind != "moving" {
            starts(&target.before, &read_only, &SERVICES);
            starts(&target.added, &read_only, &with_ours);
        }
    }
}

/// Runs a script in an image, as root.
fn script(image: &str, script: &str) -> Ran {
    docker(&["run", "--rm", "--entrypoint", "sh", image, "-c", script])
}

#[test]
fn what_is_started_has_one_place_and_the_other_stays_as_it_was() {
    let places = "cd /etc/s6-overlay; find . -name hermes-s6 -path '*contents.d*'; ls -d s6-rc.d/user user-bundles.d/user";
    for (kind, expected) in [
        (
            "earlier",
            "./s6-rc.d/user/contents.d/hermes-s6\ns6-rc.d/user\n",
        ),
        (
            "later",
            "./user-bundles.d/user/contents.d/hermes-s6\nuser-bundles.d/user\n",
        ),
        (
            "moving",
            "./s6-rc.d/user/contents.d/hermes-s6\ns6-rc.d/user\nuser-bundles.d/user\n",
        ),
    ] {
        let Some(target) = target(kind) else { return };
        assert_eq!(script(&target.added, places).stdout, expected, "{kind}");
    }
}

#[test]
fn adding_again_or_to_a_bundle_of_another_form_loses_nothing() {
    let Some(target) = target("later") else {
        return;
    };
    let ran = script(
        &target.added,
        "set -e
        cd /etc/s6-overlay/user-bundles.d/user
        /usr/libexec/hermes-s6/add
        ls contents.d
        rm -r contents.d
        printf 'main-hermes\\ndashboard' >contents
        /usr/libexec/hermes-s6/add
        /usr/libexec/hermes-s6/add
        cat contents
        S6_RUNTIME_BUNDLEDIR=/etc/other /usr/libexec/hermes-s6/add
        find /etc/other -type f | sort; cat /etc/other/user/type",
    );
    let expected = "dashboard\nhermes-s6\nmain-hermes\nmain-hermes\ndashboard\nhermes-s6\n\
        /etc/other/user/contents.d/hermes-s6\n/etc/other/user/type\nbundle\n";
    assert_eq!((ran.code, &*ran.stdout), (0, expected), "{ran:?}");
}

#[test]
fn an_image_that_it_does_not_fit_is_refused_when_it_is_built() {
    let Some(target) = target("later") else {
        return;
    };
    let add = "/usr/libexec/hermes-s6/add";
    for (change, remedy) in [
        ("rm -r /package/admin/s6-overlay", "s6-overlay 3"),
        ("rm /command/with-contenv", "s6-overlay 3"),
        ("userdel hermes", "no user hermes"),
        ("rm -r /opt/hermes/.venv", "no Hermes Agent"),
        ("export S6_RUNTIME_PROFILE=other", "S6_RUNTIME_PROFILE"),
    ] {
        let line = format!("{change} && {add} && echo added");
        let ran = script(&target.added, &line);
        assert_eq!((ran.code, &*ran.stdout), (100, ""), "{change}: {ran:?}");
        ran.warns("hermes-s6: add: fatal: ").warns(remedy);
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    }
    let as_hermes = ["run", "--rm", "--user=hermes", "--entrypoint", add];
    let ran = docker(&[&as_hermes[..], &[&target.added]].concat());
    assert_eq!((ran.code, &*ran.stdout), (100, ""), "{ran:?}");
    ran.warns("USER root");
}

#[test]
fn the_bridge_is_there_for_whichever_python_hermes_has() {
    let Some(target) = target("earlier") else {
        return;
    };
    let ask = "/opt/hermes/.venv/bin/python -c '
import sys
print(*[finder.__name__ for finder in sys.meta_path if finder.__name__ == \"HermesS6\"])'";
    assert_eq!(script(&target.before, ask).stdout, "\n");
    assert_eq!(script(&target.added, ask).stdout, "HermesS6\n");
}

#[test]
fn behind_another_init_the_command_runs_as_it_did_before_and_is_said_to_run_alone() {
    for kind in ["earlier", "later"] {
        let Some(target) = target(kind) else { return };
        let command = ["sh", "-c", "id -un; pwd; echo $PWD $WORD; exit 7"];
        for image in [&target.before, &target.added] {
            let volume = Volume::of(image, &[]);
            let ran = volume.run(&["--init", "--env=WORD=said"], &command).ends(7);
            assert_eq!(ran.stdout, "hermes\n/opt/hermes\n/opt/hermes said\n");
            ran.warns("[stage2] Setup complete");
            let warned = ran.stderr.matches("no gateway is supervised here").count();
            assert_eq!(warned, usize::from(*image == target.added), "{ran:?}");
        }
        // The word of Hermes, and the environment that s6-overlay keeps.
        let volume = Volume::of(&target.added, &[]);
        let ran = volume.run(&["--env=WORD=said"], &command).ends(7);
        assert_eq!(ran.stdout, "hermes\n/opt/hermes\n/opt/hermes said\n");
        assert!(!ran.stderr.contains("no gateway is supervised"), "{ran:?}");
    }
}

#[test]
fn the_path_that_is_advised_keeps_the_programs_of_hermes_from_root() {
    let Some(target) = target("later") else {
        return;
    };
    let ran = script(&target.added, "/usr/libexec/hermes-s6/add").ends(0);
    ran.warns("PATH has a directory in /opt/data")
        .warns("leave it out, ENV PATH=/opt/hermes/bin:");
    let advised = ran.stderr.trim_end().rsplit("ENV ").next().unwrap();
    let option = format!("--env={advised}");
    let run = |options: &[&str]| {
        let volume = Volume::of(&target.added, &[]);
        let planted = "mkdir -p /opt/data/.local/bin; cd /opt/data/.local/bin
            printf '#!/bin/sh\\n/usr/bin/id -un >>/opt/data/ran\\n' >chown; chmod 755 chown";
        volume.script("10000:10000", planted);
        volume.run(options, &["true"]).ends(0);
        volume.script("0", "cat /opt/data/ran 2>/dev/null || true")
    };
    assert_eq!(run(&[]), "root\n");
    assert_eq!(run(&[&option]), "");
}
