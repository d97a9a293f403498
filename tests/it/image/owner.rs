//! Whose the files on the volume and the processes are: hermes', whoever that is here, and nobody else's.

use std::collections::BTreeSet;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixListener;

use super::{Container, Volume, never_root};
use crate::support::has;

/// What on the volume is not a user's, as `uid:gid`.
fn strangers(container: &Container, owner: &str) -> String {
    let (uid, gid) = owner.split_once(':').unwrap();
    container.sh(&format!(
        "find /opt/data ! \\( -user {uid} -group {gid} \\) -printf '%p %U:%G\\n'"
    ))
}

/// Owner of the process of a gateway, and of its supervisor.
fn owners(container: &Container, profile: &str) -> String {
    let pid = container.pid(profile);
    container.sh(&format!(
        "stat -c %u:%g /proc/{pid} /proc/$(cut -d ' ' -f 4 /proc/{pid}/stat)"
    ))
}

#[test]
fn root_and_hermes_can_do_everything_and_all_of_it_stays_hermes() {
    volume!(volume, "profile default running; profile coder");
    let container = volume.begin(&[], &["default"]);
    for user in ["root", "hermes"] {
        for line in [
            "status",
            "start -p coder",
            "status",
            "stop -p coder",
            "start --all",
            "restart -p coder",
            "reconcile",
            "logs -p coder",
            "stop -p coder",
        ] {
            let ran = container.exec_as(user, &*format!("hermes-s6 {line}"));
            assert_eq!(ran.code, 0, "{user} {line} {ran:?}");
        }
        let svstat = "s6-svstat /run/hermes-s6/service/gateway-default";
        let ran = container.exec_as(user, svstat);
        assert!(ran.stdout.starts_with("up (pid "), "{user} {ran:?}");
        assert_eq!(strangers(&container, "10000:10000"), "", "{user}");
        assert_eq!(owners(&container, "default"), "10000:10000\n10000:10000\n");
    }
}

#[test]
fn what_belongs_to_another_id_becomes_hermes_when_that_is_asked_for() {
    // Made as root, as 10000, and deep in a directory.
    let prepare = "profile default running; profile coder running; profile roots running
        mkdir -p /opt/data/profiles/coder/sessions/deep /opt/data/cron /opt/data/logs/gateways/coder
        touch /opt/data/profiles/coder/sessions/deep/er /opt/data/cron/jobs.json /opt/data/.env
        touch '/opt/data/cron/two words'
        chown -R 10000:10000 /opt/data
        chown -R 0:0 /opt/data/profiles/roots /opt/data/.env";
    volume!(volume);
    volume.script("0", prepare);
    let container = volume.begin(
        &["--env=PUID=1234", "--env=PGID=2345"],
        &["default", "coder", "roots"],
    );
    for profile in ["default", "coder", "roots"] {
        assert_eq!(owners(&container, profile), "1234:2345\n1234:2345\n");
    }
    assert_eq!(strangers(&container, "1234:2345"), "");
    let expected = "uid=1234(hermes) gid=2345(hermes) groups=2345(hermes)\n";
    assert_eq!(container.sh("id hermes"), expected);
    let said = container.logs().stderr;
    has(&said, "hermes-setup: hermes is 1234:2345\n");
    has(&said, "giving /opt/data to hermes (1234:2345)");
    // Once: a container keeps its /etc/passwd.
    container.restart();
    container.await_states("ready", &["default", "coder", "roots"]);
    assert_eq!(strangers(&container, "1234:2345"), "");
    let said = container.logs().stderr;
    assert_eq!(
        said.matches("giving /opt/data to hermes").count(),
        1,
        "{said}"
    );
    assert_eq!(container.stop(), 0);
}

#[test]
fn an_id_that_makes_no_sense_is_named_and_hermes_stays_what_it_is() {
    volume!(volume, "profile coder running");
    for values in [
        ["HERMES_UID=0", "HERMES_GID=abc"],
        ["PUID=70000", "PGID=0"],
        ["PUID=-1", "PGID=010"],
        ["HERMES_UID=1 2", "PGID=99999999999999999999"],
    ] {
        let options = values.map(|value| format!("--env={value}"));
        let container = volume.start(&options.each_ref().map(String::as_str), &[]);
        container.await_states("ready", &["coder"]);
        let said = container.logs().stderr;
        for value in values {
            let warning = format!("hermes-setup: warning: {value} is ignored: ");
            assert_eq!(said.matches(&warning).count(), 1, "{said}");
        }
        assert_eq!(owners(&container, "coder"), "10000:10000\n10000:10000\n");
        assert_eq!(container.sh("id -u hermes"), "10000\n");
        container.stop();
    }
}

#[test]
fn hermes_uid_wins_over_puid() {
    volume!(volume, "profile coder running");
    let container = volume.start(
        &[
            "--env=HERMES_UID=1234",
            "--env=PUID=4321",
            "--env=PGID=2345",
        ],
        &[],
    );
    container.await_states("ready", &["coder"]);
    assert_eq!(owners(&container, "coder"), "1234:2345\n1234:2345\n");
    assert_eq!(strangers(&container, "1234:2345"), "");
}

#[test]
fn a_container_that_was_never_roots_runs_its_gateways_and_ends_in_order() {
    volume!(volume, "profile coder running; profile halted");
    let container = volume.begin(never_root(), &["coder"]);
    assert_eq!(owners(&container, "coder"), "10000:10000\n10000:10000\n");
    let of_root =
        container.sh("find /proc -maxdepth 1 -name '[0-9]*' -user root ! -path \"/proc/$$\"");
    let ours = |line: &&str| !container.exec(&["test", "-e", line]).stderr.is_empty();
    assert_eq!(of_root.lines().filter(ours).count(), 0, "{of_root}");
    // Here /run still has the slots of before.
    container.stop();
    volume.script(
        "10000:10000",
        "profile late running; rm -r /opt/data/profiles/halted",
    );
    container.start();
    container.await_states("ready", &["coder", "late"]);
    let slots = container.sh("ls /run/hermes-s6/service");
    assert_eq!(
        slots,
        "gateway-coder\ngateway-default\ngateway-late\nhermes-s6-tender\n"
    );
    assert_eq!(container.stop(), 0, "{}", container.explain());
    let counts = container.life("coder");
    assert_eq!(counts, [2, 2, 2], "{}", container.said());
}

/// Everything of the image, with owner and mode; docker mounts some files, and tests their stand-in.
const IMAGE_OWNERS: &str = "find / -xdev \\( -path /proc -o -path /run -o -path /tmp -o -path /dev \
    -o -path /sys -o -path /opt/data -o -path /stand-in -o -path /.dockerenv \
    -o -path /etc/hosts -o -path /etc/hostname -o -path /etc/resolv.conf -o -path /etc/mtab \\) -prune \
    -o -printf '%p %U:%G %m\\n' | sort";

#[test]
fn links_on_the_volume_give_nothing_of_roots_away() {
    let prepare = "profile default running; profile coder running
        mkdir /opt/data/cron
        ln -s /etc /opt/data/profiles/evil
        ln -s /etc/shadow /opt/data/.env
        ln -s /etc/passwd /opt/data/profiles/coder/.env
        ln -s /etc /opt/data/profiles/coder/logs
        ln -s /usr/local/bin/hermes-s6 /opt/data/cron/jobs.json
        ln -s /etc /opt/data/sessions
        ln -s / '/opt/data/home'
        chown -hR 4321:4321 /opt/data";
    for logs in [
        "ln -s /etc /opt/data/logs",
        "mkdir /opt/data/logs; ln -s /etc /opt/data/logs/gateways",
    ] {
        volume!(volume);
        volume.script(
            "0",
            &format!("{prepare}\n{logs}\nchown -hR 4321:4321 /opt/data/logs"),
        );
        let before = volume.script("0", IMAGE_OWNERS);
        let container = volume.begin(&[], &["default"]);
        // The .env of the data root may say that default serves coder too.
        container.await_states("down", &["coder"]);
        let after = container.sh(IMAGE_OWNERS);
        let before: BTreeSet<&str> = before.lines().collect();
        let changed: Vec<&str> = after
            .lines()
            .filter(|line| !before.contains(line))
            .collect();
        assert!(changed.is_empty(), "{logs} {changed:#?}");
        assert_eq!(
            container.sh(
                "find / -xdev -user hermes ! -path '/run/*' ! -path '/proc/*' ! -path /opt/data"
            ),
            "",
            "{logs}"
        );
        let given = container.sh("stat -c %u /opt/data /opt/data/profiles/coder/SOUL.md");
        assert_eq!(given, "10000\n10000\n", "{logs}");
        assert!(!container.list().contains("evil"), "{}", container.list());
        container.stop();
    }
}

#[test]
fn a_second_name_of_a_file_is_nobodys_to_give_away() {
    volume!(volume);
    // What a user on the volume's host could have linked to.
    let prepare = "profile default running
        mkdir /opt/data/elsewhere
        echo secret >/opt/data/elsewhere/secret
        ln /opt/data/elsewhere/secret /opt/data/.env
        chown -R 10000:10000 /opt/data
        chown -R 0:0 /opt/data/elsewhere; touch /opt/data/logs.txt";
    volume.script("0", prepare);
    let container = volume.begin(&[], &["default"]);
    let owners =
        container.sh("cd /opt/data; stat -c '%n %u' .env elsewhere elsewhere/secret logs.txt");
    let expected = ".env 0\nelsewhere 0\nelsewhere/secret 0\nlogs.txt 10000\n";
    assert_eq!(owners, expected);
}

#[test]
fn what_has_a_name_unknown_to_hermes_and_another_owner_than_the_data_root_keeps_it() {
    volume!(volume);
    volume.script(
        "0",
        "profile default running; profile coder; cd /opt/data
        for place in workspace/deep my-project/src plugin-of-old/deep; do
          mkdir -p $place; touch $place/file
        done
        touch profiles/coder/.env
        chown -R 4321:4321 .
        chown -R 5555:5555 my-project",
    );
    let container = volume.begin(&[], &["default"]);
    for (places, owner) in [
        ("SOUL.md profiles profiles/coder/.env", "10000"),
        ("workspace workspace/deep workspace/deep/file", "10000"),
        (
            "plugin-of-old plugin-of-old/deep plugin-of-old/deep/file",
            "10000",
        ),
        ("my-project my-project/src my-project/src/file", "5555"),
    ] {
        let owners = container.sh(&format!("cd /opt/data; stat -c %u {places}"));
        assert_eq!(owners, format!("{owner}\n").repeat(3), "{places}");
    }
}

#[test]
fn what_is_mounted_on_the_volume_keeps_its_owner() {
    volume!(volume);
    volume.script(
        "0",
        "profile default running; profile coder running; mkdir -p /opt/data/workspace/own /opt/data/cron
        touch /opt/data/workspace/own/file
        chown -R 4321:4321 /opt/data",
    );
    // Of the same file system, as all volumes of docker are.
    let places = [
        "/opt/data/skills",
        "/opt/data/workspace/project",
        "/opt/data/workspace/two words",
        "/opt/data/profiles/coder/sessions",
        "/opt/data/profiles/coder/home/deep",
    ];
    let mut mounts = Vec::new();
    for place in places {
        volume!(other);
        other.script(
            "0",
            "cd /opt/data; mkdir dir; touch dir/file; chown -R 4321:4321 .",
        );
        mounts.push((format!("--volume={}:{place}", other.name), other));
    }
    let options: Vec<&str> = mounts.iter().map(|(option, _)| option.as_str()).collect();
    let container = volume.begin(&options, &["default", "coder"]);
    for place in places {
        let owners = container.sh(&format!("cd '{place}' && stat -c %u . dir dir/file"));
        assert_eq!(owners, "4321\n4321\n4321\n", "{place}");
    }
    let own =
        container.sh("cd /opt/data; stat -c %u workspace workspace/own workspace/own/file cron");
    assert_eq!(own, "10000\n10000\n10000\n10000\n");
}

#[test]
fn where_all_is_hermes_nothing_is_touched() {
    let prepare = "profile default running; profile coder running
        mkdir -p /opt/data/cron /opt/data/profiles/coder/sessions /opt/data/workspace/deep
        touch /opt/data/cron/jobs.json /opt/data/.env /opt/data/profiles/coder/sessions/1 \
          /opt/data/workspace/deep/file";
    volume!(volume, prepare);
    // chown changes this time also where it changes no owner.
    let times = "cd /opt/data; find cron .env SOUL.md profiles/coder/SOUL.md profiles/coder/sessions workspace \
        -printf '%p %C@\\n' | sort";
    let before = volume.script("0", times);
    let container = volume.begin(&[], &["default", "coder"]);
    assert_eq!(container.sh(times), before);
    assert!(
        !container.said().contains("hermes-setup: "),
        "{}",
        container.said()
    );
}

#[test]
fn a_new_volume_becomes_hermes_without_what_its_file_system_keeps_there() {
    for (options, script) in [
        (&[][..], "mkdir /opt/data/lost+found"),
        (&[], "touch /opt/data/.env"),
        (&["--env=HERMES_HOME=//opt/data/"], "touch /opt/data/.env"),
    ] {
        volume!(volume);
        volume.script("0", &format!("{script}; chown -R 0:0 /opt/data"));
        let container = volume.start(options, &["gateway", "run"]);
        container.await_states("ready", &["default"]);
        let owners = container.sh("stat -c '%n %U' /opt/data /opt/data/* /opt/data/.env || true");
        for line in owners.lines() {
            let owner = if line.contains("lost+found") {
                "root"
            } else {
                "hermes"
            };
            assert!(line.ends_with(owner), "{script} {owners}");
        }
    }
}

#[test]
fn a_link_with_the_name_of_a_file_of_hermes_is_a_sign_of_a_data_root_too() {
    volume!(volume);
    volume.script(
        "0",
        "ln -s ../away/auth.json /opt/data/auth.json; chown 0:0 /opt/data",
    );
    let container = volume.start(&[], &["gateway", "run"]);
    container.await_states("ready", &["default"]);
    let owners = container.sh("cd /opt/data && stat -c %U . auth.json; ls -d ../away || true");
    assert_eq!(owners, "hermes\nroot\n");
}

#[test]
fn a_data_root_that_is_not_there_yet_is_made() {
    for home in ["/srv/hermes", "/opt/data/.hermes"] {
        volume!(volume, "");
        let container = volume.start(&[&format!("--env=HERMES_HOME={home}")], &["gateway", "run"]);
        container.await_states("ready", &["default"]);
        assert_eq!(container.sh(&format!("stat -c %U {home}")), "hermes\n");
        assert_eq!(container.stop(), 0);
    }
}

#[test]
fn somebodys_home_is_no_data_root() {
    volume!(volume);
    volume.script("0", "mkdir /opt/data/Documents /opt/data/.ssh");
    for owner in ["0", "4321"] {
        volume.script("0", &format!("chown -R {owner}:{owner} /opt/data"));
        let ran = volume.run(&[], &["true"]);
        assert_ne!(ran.code, 0, "{ran:?}");
        let line = "hermes-setup: fatal: /opt/data cannot be written by hermes: ";
        assert_eq!(ran.stderr.matches(line).count(), 1, "{ran:?}");
        let others = format!("find /opt/data ! -user {owner}");
        assert_eq!(volume.script("0", &others), "");
    }
    // Whoever says that it is.
    volume
        .run(&["--env=PUID=4321", "--env=PGID=4321"], &["true"])
        .ends(0);
    assert_eq!(volume.script("0", "find /opt/data ! -user 4321"), "");
}

#[test]
fn what_hermes_can_write_is_not_mounted_on_the_volume_without_a_warning() {
    let (Some(volume), Some(other)) = (Volume::with(""), Volume::with("")) else {
        return;
    };
    let warning = "hermes-setup: warning: /opt/data/home/work is mounted inside the data root";
    for (mode, count) in [("rw", 1), ("ro", 0)] {
        let mount = format!("--volume={}:/opt/data/home/work:{mode}", other.name);
        let ran = volume.run(&[&mount], &["true"]);
        assert_eq!(ran.stderr.matches(warning).count(), count, "{ran:?}");
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

#[test]
fn hermes_is_in_the_group_of_a_gpu_unless_that_is_roots() {
    volume!(volume, "profile default running");
    // A stand-in of the group tty, and one of root's.
    let place = std::env::temp_dir().join(format!("hermes-s6-gpu-{}", std::process::id()));
    let mut mknod = std::process::Command::new("mknod");
    assert!(
        mknod
            .arg(&place)
            .args(["c", "1", "3"])
            .status()
            .unwrap()
            .success()
    );
    chown(&place, Some(0), Some(5)).unwrap();
    let options = [
        &*format!("--device={}:/dev/dri/renderD128", place.display()),
        "--device=/dev/null:/dev/dri/card0",
    ];
    let container = volume.begin(&options, &["default"]);
    std::fs::remove_file(&place).unwrap();
    let pid = container.pid("default");
    let groups = container.sh(&format!("grep ^Groups: /proc/{pid}/status"));
    has(&groups, "Groups:\t5 10000");
    let said = container.said();
    has(
        &said,
        "hermes-setup: hermes is in the group 5 of /dev/dri/renderD128",
    );
    has(
        &said,
        "hermes-setup: warning: /dev/dri/card0 is for the group root, which hermes does not join",
    );
}

#[test]
fn hermes_is_in_the_group_of_a_docker_socket_that_the_operator_has_mounted() {
    volume!(volume, "profile default running");
    let place = std::env::temp_dir().join(format!("hermes-s6-socket-{}", std::process::id()));
    let _listener = UnixListener::bind(&place).unwrap();
    chown(&place, Some(0), Some(4242)).unwrap();
    let option = format!("--volume={}:/var/run/docker.sock", place.display());
    let container = volume.begin(&[&option], &["default"]);
    let pid = container.pid("default");
    let groups = container.sh(&format!("grep ^Groups: /proc/{pid}/status"));
    has(&groups, "4242");
    container.restart();
    container.await_states("ready", &["default"]);
    let lines = container.sh("grep -c :4242: /etc/group");
    assert_eq!(lines, "1\n", "it is there once");
    // A group of root's would be more than Docker's.
    chown(&place, Some(0), Some(0)).unwrap();
    let container = volume.start(&[&option], &[]);
    container.await_tree();
    has(
        &container.said(),
        "hermes-setup: warning: /var/run/docker.sock is for the group root, which hermes does not join",
    );
    assert_eq!(container.sh("s6-setuidgid hermes id -G"), "10000\n");
    std::fs::remove_file(&place).unwrap();
}
