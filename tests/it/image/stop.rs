//! How gateways end, in order and otherwise.

use super::{Container, TREE, Volume, docker_ok, only_ours};
use crate::support::{PATIENCE_SECONDS, skip};

#[test]
fn a_stop_gives_each_gateway_one_sigterm_and_the_time_that_it_needs_to_save() {
    let prepare = "profile default running; profile slow running; behaviour slow 'save 4'";
    volume!(volume, prepare);
    let container = volume.begin(&[], &["default", "slow"]);
    assert_eq!(container.stop(), 0, "{}", container.explain());
    for profile in ["default", "slow"] {
        let counts = container.life(profile);
        assert_eq!(counts, [1, 1, 1], "{profile} {}", container.said());
    }
    // Whatever was still to be said has been.
    let saved = "slow: stand-in gateway of slow has saved\n";
    container.logs().says(saved);
}

#[test]
fn a_stop_that_comes_before_s6_svscan_is_up_is_not_lost() {
    let Some(volume) = only_ours(Volume::with("profile coder running"), OWN_STOP) else {
        return;
    };
    // The first program that /init runs, held.
    let prepare = "/usr/libexec/hermes-s6/prepare";
    let here = env!("CARGO_MANIFEST_DIR");
    let real = format!("--volume={here}/rootfs/debian{prepare}:/real/prepare:ro");
    let held = format!("--volume={here}/tests/stand-in/held-prepare:{prepare}:ro");
    let container = volume.start(&[&real, &held], &[]);
    container.wait_for("the start", || {
        container.exec("test -e /run/begun").code == 0
    });
    docker_ok(&["kill", "--signal", "TERM", &container.name]);
    container.sh("touch /run/go");
    assert_eq!(container.exit_code(), 0, "{}", container.explain());
    assert_eq!(container.count("coder", "start"), 0);
}

#[test]
fn while_a_command_takes_its_time_to_end_no_gateway_is_started_again() {
    volume!(volume, "profile coder running");
    // It ignores SIGTERM, and ends when it is killed.
    let command = "trap '' TERM; while :; do sleep 0.2; done";
    let container = volume.start(&[], &["sh", "-c", command]);
    container.await_states("ready", &["coder"]);
    docker_ok(&["stop", "--time", PATIENCE_SECONDS, &container.name]);
    let counts = container.life("coder");
    assert_eq!(counts, [1, 1, 1], "{}", container.said());
    // s6-overlay kills what does not end after a while, and so do we: docker did not have to.
    let said = container.said();
    let out_of_memory_or_docker = 137;
    assert_ne!(container.exit_code(), out_of_memory_or_docker, "{said}");
}

#[test]
fn a_gateway_that_was_killed_is_back() {
    volume!(volume, "profile active running");
    let container = volume.begin(&[], &["active"]);
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
    volume!(volume, prepare);
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

/// Why what only our own init sees to is not tested with another one.
const OWN_STOP: &str = "s6-overlay has a stop of its own";

/// More time for a stop than docker gives: what waits for nothing is killed.
pub const LONG: &str = "--env=HERMES_S6_STOP_TIMEOUT=600";

/// Checks that a gateway that runs is told to end, once, and saves.
fn saves(container: &Container) {
    assert_eq!(container.stop(), 0, "{}", container.explain());
    let counts = container.life("default");
    assert_eq!(counts, [1, 1, 1], "{}", container.said());
}

#[test]
fn a_stop_is_in_order_also_when_run_is_full() {
    let Some(volume) = only_ours(Volume::with("profile default running"), OWN_STOP) else {
        return;
    };
    for (size, fill) in [
        (
            "nr_inodes=2000",
            "n=0; while : >.x$n; do n=$((n + 1)); done",
        ),
        ("size=2m", "cat /dev/zero >.x"),
    ] {
        volume.script("0", "rm -f /opt/data/events");
        let container = volume.begin(
            &[LONG, "--tmpfs", &format!("/run:exec,{size}")],
            &["default"],
        );
        let fill = format!("cd {TREE} && mkdir .full && cd .full && {fill}");
        container
            .exec_as("hermes", &["sh", "-c", &fill])
            .warns("No space left");
        saves(&container);
    }
}

#[test]
fn the_exit_code_of_the_command_is_kept_when_run_is_full() {
    let Some(volume) = only_ours(Volume::with(""), OWN_STOP) else {
        return;
    };
    let options = ["--tmpfs", "/run:exec,size=2m"];
    let command = "cat /dev/zero >/run/hermes-s6/service/.full; exit 7";
    let ran = volume.run(&options, &["sh", "-c", command]);
    ran.warns("No space left");
    assert_eq!(ran.code, 7, "{ran:?}");
}

#[test]
fn a_service_that_is_a_link_is_stopped_like_others() {
    let Some(volume) = only_ours(Volume::with(""), OWN_STOP) else {
        return;
    };
    let container = volume.begin(&[], &[]);
    container.sh("mkdir /srv/own
        printf '#!/bin/sh\\necho start >>/srv/said; exec sleep 3600\\n' >/srv/own/run
        chmod 755 /srv/own/run
        ln -s /srv/own /run/service/own
        s6-svscanctl -a /run/service");
    container.wait_for("the service", || {
        container.exec("test -s /srv/said").code == 0
    });
    assert_eq!(container.stop(), 0);
    let place = std::env::temp_dir().join(&container.name);
    let from = format!("{}:/srv/said", container.name);
    docker_ok(&["cp", &from, place.to_str().unwrap()]);
    let said = std::fs::read_to_string(&place).unwrap();
    std::fs::remove_file(&place).unwrap();
    assert_eq!(said, "start\n", "{}", container.said());
    assert!(!container.said().contains("mv: "), "{}", container.said());
}

#[test]
fn a_stop_is_in_order_also_after_the_supervisor_of_the_tree_was_killed() {
    let Some(volume) = only_ours(Volume::with("profile default running"), OWN_STOP) else {
        return;
    };
    let container = volume.begin(&[LONG], &["default"]);
    container.sh("for process in /proc/[0-9]*; do
        case $(tr '\\0' ' ' <\"$process/cmdline\") in
          's6-supervise hermes-s6 ') kill -KILL \"${process#/proc/}\" ;;
        esac
      done");
    container.wait_for("another supervisor to find the tree", || {
        container.logs().stderr.contains("is already watched")
    });
    saves(&container);
}

#[test]
fn times_are_decimal_whatever_zeros_they_begin_with() {
    let Some(volume) = only_ours(Volume::with("profile default running"), OWN_STOP) else {
        return;
    };
    let options = [
        "--env=HERMES_S6_STOP_TIMEOUT=08",
        "--env=S6_KILL_GRACETIME=0900",
    ];
    let container = volume.begin(&options, &["default"]);
    saves(&container);
}

#[test]
fn a_gateway_that_is_the_command_has_a_gateways_time() {
    let Some(volume) = only_ours(
        Volume::with("profile default; behaviour default 'save 5'"),
        OWN_STOP,
    ) else {
        return;
    };
    // By way of sh, so that it is none that hermes-s6 takes over.
    let command = ["sh", "/stand-in/hermes", "gateway", "run", "--replace"];
    let container = volume.start(&[LONG], &command);
    container.wait_for("the gateway", || {
        container.exec("test -e /opt/data/events").code == 0
    });
    saves(&container);
}
