//! What comes back with a container, and what it leaves behind.

use super::{Container, TREE};

/// The lines of the boot log for a profile, without their time.
fn boots(container: &Container, profile: &str) -> Vec<String> {
    let log = container.sh("cat /opt/data/logs/container-boot.log");
    let profile = format!("profile={profile} ");
    let lines = log.lines().filter_map(|line| line.split_once(&profile));
    lines.map(|(_, rest)| rest.to_owned()).collect()
}

#[test]
fn pid_1_is_s6_svscan_and_the_directory_by_which_hermes_knows_it_is_there() {
    volume!(volume);
    let container = volume.begin(&[], &[]);
    assert_eq!(container.sh("cat /proc/1/comm"), "s6-svscan\n");
    assert_eq!(container.sh("test -d /run/s6/basedir && echo yes"), "yes\n");
    let detected = container.hermes_s6("detect");
    assert!(detected.starts_with("s6: "), "{detected}");
}

#[test]
fn each_profile_is_as_its_state_file_says_at_every_start() {
    let profiles = "profile default stopped gateway_state
        profile active running gateway_state
        profile draining draining gateway_state
        profile failed startup_failed gateway_state
        profile halted stopped gateway_state
        profile none";
    let leftovers = "for home in /opt/data /opt/data/profiles/active /opt/data/profiles/halted; do
          echo 17 >$home/gateway.pid; echo '{}' >$home/processes.json
        done";
    volume!(volume, &format!("{profiles}\n{leftovers}"));
    let container = volume.start(&[], &[]);
    let down = ["default", "failed", "halted", "none"];
    for boot in 1..=3 {
        container.await_states("ready", &["active", "draining"]);
        container.await_states("down", &down);
        let slots = container.sh(&format!("cd {TREE} && ls -d */down"));
        let expected = down.map(|profile| format!("gateway-{profile}/down\n"));
        assert_eq!(slots, expected.concat());
        for (profile, line) in [
            ("default", "prior_state=stopped action=registered"),
            ("active", "prior_state=running action=started"),
            ("draining", "action=started"),
            ("failed", "prior_state=startup_failed action=registered"),
            ("halted", "prior_state=stopped action=registered"),
            ("none", "prior_state=None action=registered"),
        ] {
            let lines = boots(&container, profile);
            assert_eq!(lines.len(), boot, "{profile}: {lines:?}");
            assert!(lines[boot - 1].ends_with(line), "{profile}: {lines:?}");
        }
        let left = container.sh("find /opt/data -name gateway.pid -o -name processes.json");
        assert_eq!(left, "");
        container.sh(leftovers);
        container.restart();
    }
}

#[test]
fn profiles_made_and_removed_while_the_container_is_stopped_come_and_go() {
    volume!(volume, "profile active running; profile halted stopped");
    let container = volume.begin(&[], &["active"]);
    container.stop();
    volume.script(
        "10000:10000",
        "profile late running; rm -r /opt/data/profiles/halted",
    );
    container.start();
    container.await_states("ready", &["active", "late"]);
    let slots = container.sh(&format!("ls {TREE}"));
    assert_eq!(
        slots,
        "gateway-active\ngateway-default\ngateway-late\nhermes-s6-tender\n"
    );
    assert_eq!(
        boots(&container, "late"),
        ["prior_state=running action=started"]
    );
    assert!(!container.list().contains("halted"), "{}", container.list());
    // Its port is free again.
    let ports = container.sh("cat /opt/data/.hermes-s6-ports.json");
    assert!(!ports.contains("halted"), "{ports}");
}

#[test]
fn what_ran_when_the_container_was_killed_runs_when_it_starts_again() {
    volume!(volume, "profile active running; profile halted");
    let container = volume.start(&[], &[]);
    for round in 1..=3 {
        container.await_states("ready", &["active"]);
        container.await_states("down", &["halted", "default"]);
        assert_eq!(container.count("active", "start"), round);
        container.kill();
        container.start();
    }
    container.await_states("ready", &["active"]);
    assert_eq!(container.count("active", "TERM"), 0);
}

#[test]
fn twenty_restarts_leave_nothing_behind() {
    volume!(
        volume,
        "profile default running; profile active running; profile halted"
    );
    let container = volume.start(&[], &[]);
    // Names of files, log rotation aside, and of processes, without those that ask. s6-rc's live
    // directory has another name each time.
    let inventory = || {
        container.sh("find /run /opt/data ! -path '*/logs/gateways/*/@*' | sed 's/:s6-rc-init:[^/]*//' | sort
            cat /proc/[0-9]*/comm | grep -vx -e sh -e cat -e grep -e sort | sort")
    };
    let mut second = String::new();
    for restart in 1..=20 {
        container.restart();
        container.await_states("ready", &["default", "active"]);
        if restart == 2 {
            second = inventory();
        }
    }
    let last = inventory();
    let only_in = |one: &str, other: &str| -> Vec<String> {
        let lines = one
            .lines()
            .filter(|line| !other.lines().any(|it| it == *line));
        lines.map(str::to_owned).collect()
    };
    let (new, gone) = (only_in(&last, &second), only_in(&second, &last));
    assert_eq!(last, second, "new: {new:?} gone: {gone:?}");
    assert!(second.contains("\nhermes\nhermes\n"), "{second}");
}
