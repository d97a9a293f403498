//! The table of docs/migration.md: each command that checks a row does so.

use std::cell::RefCell;

use super::examples::World;
use super::{image, init_is_ours};
use crate::support::{skip, wait_for};

const PAGE: &str = include_str!("../../../docs/migration.md");

/// An old volume, and the container that all commands ask.
const PREPARE: [&str; 4] = [
    "docker run --rm --volume hermes:/opt/data --entrypoint sh hermes-s6:debian \
        -c 'cd /opt/data && echo _config_version: 12 >config.yaml'",
    "docker run --detach --name hermes --volume hermes:/opt/data --env UMASK=027 --env API_SERVER_ENABLED=true \
        --env HERMES_DASHBOARD=1 --env HERMES_DASHBOARD_BASIC_AUTH_USERNAME=admin \
        --env HERMES_AUTH_JSON_BOOTSTRAP={} hermes-s6:debian gateway run",
    "docker exec hermes hermes-s6 detect",
    "docker exec hermes hermes profile create coder --no-skills",
];

/// The commands of the page, whether each succeeds, and what it prints.
const ANSWERS: [(&str, bool, &str); 35] = [
    ("docker exec hermes ls -A /opt/data", true, "config.yaml"),
    ("docker exec hermes hermes skills list", true, "dogfood"),
    (
        "docker exec hermes grep ^API_SERVER_KEY= /opt/data/.env",
        true,
        "API_SERVER_KEY=",
    ),
    ("docker logs hermes", true, "supervised by s6"),
    ("docker exec hermes hermes auth list", true, ""),
    (
        "docker exec hermes sh -c 'ls /opt/data/config.yaml.bak-*'",
        true,
        "config.yaml.bak-",
    ),
    (
        "docker exec hermes hermes update",
        false,
        "doesn't apply inside the Docker container",
    ),
    (
        "docker exec hermes python3 -c 'import hermes_cli'",
        true,
        "",
    ),
    (
        "docker exec hermes sh -c 'command -v hermes'",
        true,
        "/usr/local/bin/hermes\n",
    ),
    (
        "docker exec -u hermes hermes bash -lc 'coder --version'",
        true,
        "Hermes Agent v",
    ),
    (
        "docker exec -u hermes hermes test -w /opt/hermes/.venv",
        false,
        "",
    ),
    ("docker exec hermes git --version", true, "git version"),
    ("docker exec hermes gcc --version", false, "gcc"),
    ("docker exec hermes uvx --version", false, "uvx"),
    (
        "docker exec hermes printenv AGENT_BROWSER_EXECUTABLE_PATH",
        false,
        "",
    ),
    ("docker exec hermes ls /command", true, "s6-svc\n"),
    ("docker exec hermes python3 -c 'import telegram'", true, ""),
    (
        "docker exec hermes python3 -c 'import mautrix'",
        false,
        "ModuleNotFoundError",
    ),
    ("docker exec hermes ls -A /opt/hermes", true, "LICENSE\n"),
    ("docker exec hermes hermes dump", true, "(unknown)"),
    (
        "docker exec hermes hermes-s6 status",
        true,
        "\nDashboard: ready",
    ),
    (
        "docker exec hermes hermes-s6 doctor",
        false,
        "WARN dashboard: HERMES_DASHBOARD_HOST is not set",
    ),
    ("docker run --rm hermes-s6:debian pwd", true, "/opt/data\n"),
    (
        "docker run --rm --user 1234 hermes-s6:debian true",
        false,
        "PUID=1234",
    ),
    (
        "docker exec hermes stat -c '%U %n' /opt/data",
        true,
        "hermes /opt/data\n",
    ),
    ("docker exec hermes hermes-s6 logs", true, "default"),
    (
        "docker exec -u hermes hermes sh -c 'grep Umask /proc/[0-9]*/status'",
        true,
        "0027\n",
    ),
    (
        "docker exec hermes printenv HERMES_WRITE_SAFE_ROOT",
        true,
        "/opt/data\n",
    ),
    (
        "docker inspect --format '{{.State.Health.Status}}' hermes",
        true,
        "",
    ),
    (
        "docker exec hermes tail /opt/data/logs/container-boot.log",
        true,
        " slot=coder ",
    ),
    (
        "docker exec -u hermes hermes s6-svstat /run/hermes-s6/service/gateway-default",
        true,
        "up (pid",
    ),
    (
        "docker exec -u hermes hermes python3 -c 'from hermes_cli.service_manager import *; \
                S6ServiceManager().register_profile_gateway(\"nobody\")'",
        false,
        "profile nobody does not exist",
    ),
    (
        "docker exec hermes python3 -c 'import sqlite3; print(sqlite3.sqlite_version)'",
        true,
        "3.",
    ),
    (
        "docker run --rm --entrypoint /usr/bin/tini hermes-s6:debian -g -- true",
        true,
        "tini: s6 is PID 1",
    ),
    (
        "docker inspect --format '{{.Config.Entrypoint}}' hermes",
        true,
        "/init",
    ),
];

/// Gives the commands in the last column of the table, each once, without those that need a terminal.
fn commands() -> Vec<&'static str> {
    let mut commands = Vec::new();
    let rows = PAGE.lines().skip_while(|line| !line.starts_with('|'));
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_end_matches(" |").split(" | ").collect();
        let spans = cells.last().unwrap().split('`').skip(1).step_by(2);
        for span in spans.filter(|span| span.starts_with("docker ") && !span.contains(" -it ")) {
            if !commands.contains(&span) {
                commands.push(span);
            }
        }
    }
    commands
}

#[test]
fn what_checks_a_row_of_the_migration_page_gives_the_answer_that_the_row_speaks_of() {
    assert_eq!(commands(), ANSWERS.map(|(command, ..)| command));
    if image().is_none() || !init_is_ours() {
        skip("HERMES_S6_TEST_IMAGE names no image with INIT=debian");
        return;
    }
    let world = World::new();
    for command in PREPARE {
        // The tree of a container takes a moment to start.
        let succeeds = || world.run(command).code == 0;
        wait_for(command, succeeds, || world.run("docker logs hermes").stdout);
    }
    let has_compilers = std::env::var("TOOLS").is_ok_and(|tools| tools == "full");
    for (command, succeeds, says) in ANSWERS {
        let succeeds = succeeds || has_compilers && command.contains(" gcc ");
        let seen = RefCell::new(String::new());
        let is_so = || {
            let ran = world.run(command);
            let is_so = (ran.code == 0) == succeeds && ran.stdout.contains(says);
            seen.replace(format!("{ran:?}"));
            is_so
        };
        wait_for(command, is_so, || seen.borrow().clone());
    }
    let said = world.run("docker logs hermes").stdout;
    assert!(said.contains("migrated, what was there is in"), "{said}");
}
