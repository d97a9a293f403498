//! A look that fails is never an answer: what cannot be told is said, and nothing is done because of it.

use std::fs;

use crate::pid1::{Container, TREE, tree_service, volume};
use crate::support::{Ran, Run, TestEnv, chmod, has, is_root, programs, skip};

/// Runs hermes-s6 with so few descriptors, also as its hard limit.
fn with_descriptors(env: &TestEnv, limit: u32, line: &str) -> Ran {
    let program = programs().join("hermes-s6");
    let line = format!("ulimit -n {limit}; exec {} {line}", program.display());
    env.command("sh").args(["-c", &line]).ran()
}

#[test]
fn with_too_few_descriptors_a_command_says_so_and_never_that_nobody_is_there() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let pid = env.pid("coder");
    let lines = [
        "status",
        "list",
        "detect",
        "start -p coder",
        "reconcile",
        "stop -p coder --no-wait",
    ];
    let mut failed = 0;
    for line in lines {
        for limit in 4..16 {
            let ran = with_descriptors(&env, limit, line);
            let is_short = ran.stderr.contains("Too many open files");
            failed += u32::from(is_short);
            let done = ["ready", "s6: ", "is stopping", "nothing changed"];
            let is_true = ran.code == 0 && done.iter().any(|text| ran.stdout.contains(text));
            let is_unknown = ran.code == 1 && has_unknown(&ran);
            assert!(
                is_true || is_unknown || (is_short && [1, 111].contains(&ran.code)),
                "{line} with {limit}: {ran:?}"
            );
            if line.starts_with("stop") {
                env.run("start -p coder").ends(0);
            } else {
                assert_eq!(env.pid("coder"), pid, "{line} with {limit}");
            }
        }
    }
    assert!(failed > lines.len() as u32, "{failed}");
}

fn has_unknown(ran: &Ran) -> bool {
    ran.stdout.contains("unknown") && ran.stdout.contains("Too many open files")
}

#[test]
fn an_intent_that_cannot_be_read_is_not_one_that_is_not_there() {
    let env = TestEnv::new();
    env.running("coder").running("writer");
    let _tree = env.supervise();
    env.await_ready(&["coder", "writer"]);
    let state = env.home_of("coder").join("gateway_state.json");
    let why = "coder has an intent that is not known: gateway_state.json cannot be read: Permission denied: make it readable";
    for place in [&state, &env.home_of("writer")] {
        chmod(place, 0);
    }
    let status = env.run("status").ends(1);
    status.says(why);
    let home = format!(
        "writer has an intent that is not known: unable to open {}",
        env.home_of("writer").display()
    );
    status.says(home);
    let rows = status
        .stdout
        .lines()
        .filter(|line| line.contains(" ready "));
    assert_eq!(
        rows.filter(|row| row.contains(" unknown ")).count(),
        2,
        "{status:?}"
    );
    let json = env.run("status --json").ends(1);
    json.says("\"intent\":null,\"intent_problem\":\"gateway_state.json cannot be read");
    let metrics = env.run("status --format prometheus").ends(1).stdout;
    assert!(
        !metrics.contains("hermes_s6_wanted{profile=\"coder\"}"),
        "{metrics}"
    );
    chmod(env.home_of("writer"), 0o755);
    chmod(&state, 0o644);
    let json = env.run("status --json").ends(0);
    json.says("\"intent\":\"running\",\"intent_problem\":null");
    // With too few descriptors for the state files, too.
    for limit in 4..16 {
        let ran = with_descriptors(&env, limit, "status");
        let known = ran.stdout.matches("  running  ").count();
        assert!(ran.code != 0 || known == 2, "{limit}: {ran:?}");
    }
}

#[test]
fn forty_gateways_are_stopped_and_started_with_twenty_descriptors() {
    let env = TestEnv::new();
    let names: Vec<String> = (0..40).map(|number| format!("p{number:02}")).collect();
    for name in &names {
        env.running(name);
    }
    let _tree = env.supervise();
    for name in &names {
        env.await_state(name, "ready");
    }
    for (line, end) in [
        ("restart --all", "is ready"),
        ("stop --all", "is down ("),
        ("start --all", "is ready"),
    ] {
        let ran = with_descriptors(&env, 20, line).ends(0);
        assert!(ran.stdout.matches(end).count() >= 40, "{line}: {ran:?}");
    }
}

#[test]
fn whoever_may_not_look_is_told_so_and_advised_to_ask_somebody_who_may() {
    let Some(env) = volume() else { return };
    env.running("coder");
    let container = Container::start(&env, "web-1", &tree_service());
    container.await_state(TREE, "coder", "ready");
    let stranger = |line: &str| container.hermes_s6("stranger", TREE, line);
    let ran = stranger("status").ends(1);
    ran.says("coder    unknown")
        .says("Permission denied: ask as root or as the user of the gateways");
    assert!(!ran.stdout.contains("reconcile"), "{ran:?}");
    has(&stranger("list").ends(0).stdout, "coder unknown");
    let ran = stranger("stop -p coder").ends(1);
    ran.warns("gateway-coder could not be told what to do")
        .warns("the volume does not say that coder is wanted stopped");
    assert!(!ran.stderr.contains("kill "), "{ran:?}");
    assert_eq!(
        container.hermes_s6("hermes", TREE, "list").stdout,
        "default down\ncoder ready\n"
    );
}

#[test]
fn outside_a_container_too_it_is_said_that_the_tree_cannot_be_seen() {
    if !is_root() {
        return skip("a second user needs root");
    }
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    chmod(&env.place, 0o755);
    let program = programs().join("hermes-s6");
    for line in ["detect", "status", "stop -p coder"] {
        let mut command = env.root_command("setpriv");
        command.args(["--reuid", "1234", "--regid", "1234", "--clear-groups"]);
        command.arg(&program).args(line.split(' '));
        let ran = command.ran();
        assert_eq!(ran.code, 111, "{line}: {ran:?}");
        ran.warns("Permission denied");
    }
}

#[test]
fn a_status_that_s6_could_not_write_is_no_status() {
    let Some(env) = volume() else { return };
    env.running("coder");
    let prepare = format!("mount -o remount,size=1m /run; {}", tree_service());
    let container = Container::start(&env, "web-1", &prepare);
    container.await_state(TREE, "coder", "ready");
    container.run("root", &["sh", "-c", "cat /dev/zero >/run/fill"]);
    let gateway = env.gateways("coder").remove(0);
    gateway.kill("KILL");
    env.wait_for("another process", || {
        let gateways = env.gateways("coder");
        gateways.iter().any(|other| other.pid != gateway.pid)
    });
    let said = || container.hermes_s6("hermes", TREE, "status");
    let ran = said();
    assert_eq!(ran.code, 1, "{ran:?}");
    ran.says("coder    unknown")
        .says("supervise/status is out of date: ")
        .says(" is no process of its s6-supervise: if the file system");
    container
        .hermes_s6("hermes", TREE, "stop -p coder --timeout 2")
        .ends(111)
        .warns("was told to end, but cannot be looked at");
    // With room, s6 is told to write it anew: by a command, or within seconds.
    container.run("root", &["rm", "/run/fill"]).ends(0);
    container
        .hermes_s6("hermes", TREE, "start -p coder")
        .ends(0)
        .says("is ready");
    container.run("root", &["sh", "-c", "cat /dev/zero >/run/fill"]);
    env.gateways("coder").remove(0).kill("KILL");
    container.await_state(TREE, "coder", "unknown");
    container.run("root", &["rm", "/run/fill"]).ends(0);
    container.await_state(TREE, "coder", "ready");
}

#[test]
fn an_owner_file_that_cannot_be_read_is_not_that_of_an_empty_tree() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let owner = env.scandir.join(".hermes-s6");
    let content = fs::read(&owner).unwrap();
    fs::write(&owner, "{\"home\":").unwrap();
    for line in ["detect", "status", "stop -p coder", "reconcile"] {
        env.run(line).ends(111).warns(".hermes-s6 is no owner file");
    }
    fs::write(&owner, content).unwrap();
    assert_eq!(env.state("coder"), "ready");
}

/// Mounts a file system there whose server is gone at once: whoever looks at it is told "not connected".
const UNREACHABLE: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
server = os.open("/dev/fuse", os.O_RDWR)
options = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % server
if libc.mount(b"none", sys.argv[1].encode(), b"fuse", 0, options):
    sys.exit(os.strerror(ctypes.get_errno()))
"#;

#[test]
fn an_unreachable_home_is_not_one_that_was_deleted() {
    let Some(env) = volume() else { return };
    if !std::path::Path::new("/dev/fuse").exists() {
        return skip("there is no /dev/fuse");
    }
    env.running("coder").running("writer");
    let container = Container::start(&env, "web-1", &tree_service());
    let run = |line: &str| container.hermes_s6("hermes", TREE, line);
    container.await_state(TREE, "coder", "ready");
    container.await_state(TREE, "writer", "ready");
    let home = env.home_of("coder").display().to_string();
    container
        .run("root", &["python3", "-c", UNREACHABLE, &home])
        .ends(0);
    let pid = env.gateways("coder").remove(0).pid;
    let cause = "Transport endpoint is not connected";
    let ran = run("reconcile").ends(1);
    ran.says("profile=coder prior_state=None action=skipped reason=unreadable")
        .warns(cause);
    run("doctor").ends(1).says(cause);
    has(&run("list").stdout, "coder ready\n");
    assert_eq!(env.gateways("coder").remove(0).pid, pid);
    run("stop -p coder")
        .ends(1)
        .says("gateway-coder is down (")
        .warns("the volume does not say that coder is wanted stopped");
    run("stop --all").ends(1).says("gateway-writer is down (");
    assert!(env.gateways("writer").is_empty());
    run("start -p coder").ends(111).warns(cause);
    // It comes back as its operator left it.
    container.run("root", &["umount", &home]).ends(0);
    run("reconcile")
        .ends(0)
        .says("profile=coder prior_state=running action=started");
    container.await_state(TREE, "coder", "ready");
}

#[test]
fn a_stop_that_cannot_be_written_down_says_so_whatever_cannot_be_read() {
    let env = TestEnv::new();
    env.running("coder").running("writer");
    let _tree = env.supervise();
    let profiles = env.home.join("profiles");
    // The home itself, all profiles, and the names of all profiles.
    for (place, mode, is_written) in [
        (env.home_of("coder"), 0o000, false),
        (profiles.clone(), 0o000, false),
        (profiles, 0o311, true),
    ] {
        for line in ["stop -p coder", "stop --all"] {
            env.run("start -p coder -p writer").ends(0);
            chmod(&place, mode);
            let ran = env.run(line);
            chmod(&place, 0o755);
            ran.says("gateway-coder is down (");
            let said = "the volume does not say that coder is wanted stopped";
            let is_said = ran.stderr.contains(said);
            assert_eq!(is_said, !is_written, "{line}, {mode:o}: {ran:?}");
            assert!(is_written || ran.code == 1, "{line}, {mode:o}: {ran:?}");
            let stopped = env
                .state_file("coder")
                .contains(r#""desired_state":"stopped""#);
            assert_eq!(stopped, is_written, "{line}, {mode:o}");
        }
    }
}

#[test]
fn a_slot_whose_port_cannot_be_written_down_is_registered_and_said_to_be_incomplete() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.profile("new", "");
    env.profile("other", "");
    chmod(&env.home, 0o555);
    let ran = env.run("register -p new");
    let started = env.run("start -p other");
    chmod(&env.home, 0o755);
    ran.ends(1)
        .says("gateway-new is registered")
        .warns(".hermes-s6-ports.json: Permission denied");
    started
        .ends(1)
        .says("gateway-other is ready")
        .warns(".hermes-s6-ports.json: Permission denied");
}

#[test]
fn a_slot_that_cannot_be_looked_at_costs_no_other_one_anything() {
    let env = TestEnv::new();
    for name in ["a", "b", "c"] {
        env.running(name);
    }
    let tree = env.supervise();
    env.await_ready(&["a", "b", "c"]);
    chmod(env.slot("b").join("data"), 0o000);
    let list = env.run("list").ends(0).stdout;
    assert_eq!(list, "default down\na ready\nb unknown\nc ready\n");
    env.run("status")
        .ends(1)
        .says("b wants running, is unknown: unable to open ");
    env.run("reconcile")
        .ends(1)
        .says("profile=b prior_state=running action=skipped reason=unreadable");
    env.run("restart -p a").ends(0).says("gateway-a is ready");
    let ran = env.run("shutdown").ends(111);
    for name in ["a", "c"] {
        ran.says(format!("gateway-{name} is down ("));
        assert!(env.gateways(name).is_empty());
    }
    chmod(env.slot("b").join("data"), 0o755);
    assert_eq!(tree.stop(), 0);
}
