//! Two containers on one volume.

#[test]
fn a_dashboards_container_beside_the_main_one_starts_no_gateway() {
    // A program of that name in PATH stands for the dashboard, and is the container's command.
    let prepare = "profile default running; profile coder running
        mkdir /opt/data/bin
        printf '#!/bin/sh\\nexec sleep 3600\\n' >/opt/data/bin/dashboard
        chmod 755 /opt/data/bin/dashboard";
    volume!(volume, prepare);
    let main = volume.begin(&[], &["default", "coder"]);
    let path = "--env=PATH=/opt/data/bin:/command:/usr/local/bin:/usr/bin:/bin";
    let dashboard = volume.start(&[path], &["dashboard"]);
    dashboard.await_tree();
    dashboard.await_states("down", &["default", "coder"]);
    // Not missed: it is down on purpose. Nor is its log, which the other container has.
    dashboard.wait_for("a word about the logs", || {
        dashboard
            .said()
            .matches("another logger has its lock")
            .count()
            == 2
    });
    let status = dashboard.hermes_s6("status");
    assert!(status.contains("role=dashboard"), "{status}");
    dashboard.wait_for("the dashboard", || {
        dashboard
            .sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
            .contains("sleep 3600")
    });
    dashboard.restart();
    dashboard.await_tree();
    dashboard.await_states("down", &["default", "coder"]);
    assert_eq!(dashboard.stop(), 0);
    main.await_states("ready", &["default", "coder"]);
    for profile in ["default", "coder"] {
        let counts = ["start", "TERM"].map(|event| main.count(profile, event));
        assert_eq!(counts, [1, 0], "{profile}");
    }
}

#[test]
fn a_second_container_on_the_volume_parks_its_gateways_and_names_the_first() {
    volume!(volume, "profile default running; profile coder running");
    // A gateway elsewhere is waited for that long, and 5 s more.
    let wait = "--env=HERMES_S6_STOP_TIMEOUT=1";
    let first = volume.begin(&[wait, "--hostname=first"], &["default", "coder"]);
    let second = volume.start(&[wait, "--hostname=second"], &[]);
    second.await_states("parked", &["default", "coder"]);
    let status = second.exec_as("hermes", "hermes-s6 status").ends(1);
    for profile in ["default", "coder"] {
        let reason =
            format!("{profile} wants running, is parked: exit 69 (its lock is held by first pid ");
        status.says(reason);
        let counts = ["start", "TERM"].map(|event| first.count(profile, event));
        assert_eq!(counts, [1, 0], "{profile}");
    }
    // The second takes over when the first is gone.
    first.kill();
    second.exec_as("hermes", "hermes-s6 start --all").ends(0);
    second.await_states("ready", &["default", "coder"]);
}
