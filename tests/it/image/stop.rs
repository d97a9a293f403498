//! How gateways end, in order and otherwise.

use super::{TREE, Volume, docker_ok, init_is_ours};
use crate::support::skip;

#[test]
fn a_stop_gives_each_gateway_one_sigterm_and_the_time_that_it_needs_to_save() {
    let prepare = "profile default running; profile slow running; behaviour slow 'save 4'";
    let Some(volume) = Volume::with(prepare) else {
        return;
    };
    let container = volume.start(&[], &[]);
    container.await_states("ready", &["default", "slow"]);
    assert_eq!(container.stop(), 0, "{}", container.explain());
    for profile in ["default", "slow"] {
        let counts = ["start", "TERM", "saved"].map(|event| container.count(profile, event));
        assert_eq!(counts, [1, 1, 1], "{profile} {}", container.said());
    }
    // Whatever was still to be said has been.
    let said = container.logs().stdout;
    assert!(
        said.contains("slow: stand-in gateway of slow has saved\n"),
        "{said}"
    );
}

#[test]
fn a_stop_that_comes_before_s6_svscan_is_up_is_not_lost() {
    let Some(volume) = Volume::with("profile coder running") else {
        return;
    };
    if !init_is_ours() {
        skip("s6-overlay loses it");
        return;
    }
    // The first program that /init runs, made slow.
    let prepare = "/usr/libexec/hermes-s6/prepare";
    let here = env!("CARGO_MANIFEST_DIR");
    let real = format!("--volume={here}/rootfs/debian{prepare}:/real/prepare:ro");
    let slow = format!("--volume={here}/tests/stand-in/slow-prepare:{prepare}:ro");
    let container = volume.start(&[&real, &slow], &[]);
    container.wait_for("the slow start", || {
        container.exec(&["test", "-e", "/run/begun"]).code == 0
    });
    assert_eq!(container.stop(), 0, "{}", container.explain());
    assert_eq!(container.count("coder", "start"), 0);
}

#[test]
fn while_a_command_takes_its_time_to_end_no_gateway_is_started_again() {
    let Some(volume) = Volume::with("profile coder running") else {
        return;
    };
    // It ignores SIGTERM, and ends when it is killed.
    let command = "trap '' TERM; while :; do sleep 0.2; done";
    let container = volume.start(&[], &["sh", "-c", command]);
    container.await_states("ready", &["coder"]);
    docker_ok(&["stop", "--time", "30", &container.name]);
    let counts = ["start", "TERM", "saved"].map(|event| container.count("coder", event));
    assert_eq!(counts, [1, 1, 1], "{}", container.said());
    // s6-overlay kills what does not end after a while, and so do we: docker did not have to.
    let said = container.said();
    let out_of_memory_or_docker = 137;
    assert_ne!(container.exit_code(), out_of_memory_or_docker, "{said}");
}

#[test]
fn a_gateway_that_was_killed_is_back() {
    let Some(volume) = Volume::with("profile active running") else {
        return;
    };
    let container = volume.start(&[], &[]);
    container.await_states("ready", &["active"]);
    let pid = container.pid("active");
    container.sh(&format!("kill -KILL {pid}"));
    container.wait_for("another gateway", || {
        let now = container.pid("active");
        now != "-1" && now != pid
    });
    container.await_states("ready", &["active"]);
    assert_eq!(container.count("active", "start"), 2);
}

#[test]
fn a_gateway_that_took_all_memory_is_killed_by_the_kernel_and_is_back() {
    // Takes all there is, once.
    let prepare = r#"profile active running
        cat >/opt/data/hungry <<'END'
#!/bin/sh
if mkdir /opt/data/has-eaten 2>/dev/null; then
  exec python3 -c 'x = bytearray(1 << 30); print(len(x))'
fi
exec /stand-in/hermes "$@"
END
        chmod 755 /opt/data/hungry"#;
    let Some(volume) = Volume::with(prepare) else {
        return;
    };
    let container = volume.start(
        &[
            "--memory=128m",
            "--memory-swap=128m",
            "--env=HERMES_S6_HERMES=/opt/data/hungry",
        ],
        &[],
    );
    let limit = container.sh(
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true",
    );
    if limit != "134217728\n" {
        skip(&format!(
            "no cgroup here limits a container's memory: {limit:?}"
        ));
        return;
    }
    container.await_states("ready", &["active"]);
    let deaths = container.sh(&format!("s6-svdt {TREE}/gateway-active"));
    assert!(deaths.contains("signal SIGKILL"), "{deaths}");
    assert_eq!(container.count("active", "start"), 1);
    assert!(container.runs(), "the container itself has survived");
}
