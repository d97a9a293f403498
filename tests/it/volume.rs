//! What is on the volume: bad input costs only itself, and nothing changes without a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{
    Background, NOBODY, Run, TestEnv, begins, chmod, closes, fingerprint, has, is_root, names,
    programs, skip,
};

/// Reconciles, and checks the code and that these lines are among those for the profiles.
fn reconcile(env: &TestEnv, code: i32, lines: &[&str]) -> String {
    let ran = env.run("reconcile").ends(code);
    for line in lines {
        ran.says(format!("reconcile: profile={line}\n"));
    }
    ran.stderr
}

#[test]
fn a_name_that_no_profile_can_have_costs_only_itself() {
    let env = TestEnv::new();
    let strange = OsStr::from_bytes(b"caf\xe9");
    for name in ["Foo", "mmm.bak", "_template", "root", "default"]
        .map(OsStr::new)
        .iter()
        .chain([&strange])
    {
        let home = env.home.join("profiles").join(name);
        fs::create_dir(&home).unwrap();
        fs::write(home.join("SOUL.md"), "").unwrap();
    }
    fs::create_dir(env.home.join("profiles/no-soul")).unwrap();
    fs::create_dir(env.home.join("profiles/.git")).unwrap();
    fs::write(env.home.join("profiles/README"), "").unwrap();
    env.own();
    env.running("zz-last");
    let warnings = reconcile(
        &env,
        1,
        &[
            "Foo prior_state=None action=skipped reason=invalid-name",
            "mmm.bak prior_state=None action=skipped reason=invalid-name",
            "_template prior_state=None action=skipped reason=invalid-name",
            "root prior_state=None action=skipped reason=reserved-name",
            "default prior_state=None action=skipped reason=reserved-name",
            "\"caf\\xe9\" prior_state=None action=skipped reason=invalid-name",
            "zz-last prior_state=running action=started",
            "default prior_state=None action=registered",
        ],
    );
    has(&warnings, "warning: profiles Foo, _template, mmm.bak: ");
    assert_eq!(
        warnings.lines().count(),
        4,
        "one line for each problem: {warnings}"
    );
    let slots = names(&env.scandir).into_iter();
    let slots = slots.filter(|name| name.starts_with("gateway-"));
    assert_eq!(slots.count(), 2);
}

#[test]
fn a_state_file_that_says_nothing_costs_only_its_own_intent() {
    let env = TestEnv::new();
    for name in [
        "list", "fifo", "dir", "large", "dangling", "outward", "mixed", "latin", "empty", "scalar",
        "deep",
    ] {
        env.profile(name, "");
    }
    let state = |name: &str| env.home_of(name).join("gateway_state.json");
    fs::write(state("list"), "[\"running\"]").unwrap();
    env.root_command("mkfifo").arg(state("fifo")).ran().ends(0);
    fs::create_dir(state("dir")).unwrap();
    fs::File::create(state("large"))
        .unwrap()
        .set_len(100 << 20)
        .unwrap();
    symlink("nowhere", state("dangling")).unwrap();
    let secret = env.place.join("outside.json");
    fs::write(&secret, r#"{"desired_state":"running"}"#).unwrap();
    symlink(&secret, state("outward")).unwrap();
    fs::write(
        state("mixed"),
        r#"{"desired_state":[],"gateway_state":"running"}"#,
    )
    .unwrap();
    fs::write(state("latin"), b"{\"desired_state\":\"\xe9\"}").unwrap();
    fs::write(state("empty"), "").unwrap();
    fs::write(state("scalar"), "1").unwrap();
    fs::write(state("deep"), format!("{{\"x\":{}", "[".repeat(100_000))).unwrap();
    env.own();
    env.running("zz-last");
    let lines = [
        "list prior_state=None action=registered reason=state-not-an-object",
        "fifo prior_state=None action=registered reason=state-not-a-file",
        "dir prior_state=None action=registered reason=state-not-a-file",
        "large prior_state=None action=registered reason=state-too-large",
        "dangling prior_state=None action=registered reason=state-symlink",
        "outward prior_state=None action=registered reason=state-symlink",
        "mixed prior_state=None action=registered reason=state-not-text",
        "latin prior_state=None action=registered reason=state-not-json",
        "empty prior_state=None action=registered reason=state-not-json",
        "scalar prior_state=None action=registered reason=state-not-an-object",
        "deep prior_state=None action=registered reason=state-not-json",
        "zz-last prior_state=running action=started",
    ];
    let warnings = reconcile(&env, 1, &lines);
    has(&warnings, "warning: profiles deep, empty, latin: ");
    assert_eq!(
        warnings.lines().count(),
        6,
        "one line for each problem: {warnings}"
    );
    // Reported again, and nothing changed.
    let again = env.run("reconcile").ends(1);
    again.says("profile=list prior_state=None action=unchanged reason=state-not-an-object\n");
    closes(&again.stdout, "reconcile: nothing changed\n");
}

#[test]
fn a_profile_that_is_a_link_or_cannot_be_read_keeps_what_it_has() {
    let env = TestEnv::new();
    env.running("linked").running("closed").running("open");
    reconcile(&env, 0, &["linked prior_state=running action=started"]);
    let (home, moved) = (env.home_of("linked"), env.place.join("moved"));
    fs::rename(&home, &moved).unwrap();
    symlink(&moved, &home).unwrap();
    chmod(env.home_of("closed"), 0o000);
    let ran = env.run("reconcile").ends(1);
    for line in [
        "linked prior_state=None action=skipped reason=symlink",
        "closed prior_state=None action=skipped reason=unreadable",
    ] {
        ran.says(line);
    }
    assert!(env.slot("linked").is_dir() && env.slot("closed").is_dir());
    chmod(env.home_of("closed"), 0o755);
}

#[test]
fn when_the_list_of_profiles_cannot_be_read_no_slot_goes() {
    let env = TestEnv::new();
    env.running("coder");
    reconcile(&env, 0, &[]);
    let profiles = env.home.join("profiles");
    for make_bad in [
        (|path: &std::path::Path| {
            chmod(path, 0o000);
        }) as fn(&std::path::Path),
        |path| {
            chmod(path, 0o755);
            fs::rename(path, path.with_file_name("elsewhere")).unwrap();
            symlink("elsewhere", path).unwrap();
        },
    ] {
        make_bad(&profiles);
        env.run("reconcile")
            .ends(1)
            .says("profile=\"profiles/\" prior_state=None action=skipped reason=unreadable");
        assert!(env.slot("coder").is_dir());
    }
}

#[test]
fn a_thousand_profiles_take_one_pass_and_the_second_touches_nothing() {
    let mut env = TestEnv::new();
    env.set("HERMES_S6_PORTS", "9200-10199");
    for number in 0..999 {
        env.profile(&format!("p{number:03}"), r#"{"gateway_state":"running"}"#);
    }
    let first = env.run("reconcile");
    assert_eq!(first.code, 0, "{}", first.stderr);
    let lines: Vec<_> = first.stdout.lines().collect();
    assert_eq!(
        (lines.len(), lines[1001]),
        (1002, "reconcile: 1000 changed")
    );
    begins(
        &lines[1000],
        "reconcile: desired_state=running for p000, p001, p002, ",
    );
    assert!(
        lines[1..1000]
            .iter()
            .all(|line| line.ends_with(" prior_state=running action=started")),
        "{}",
        lines[1]
    );
    let before = (fingerprint(&env.scandir), fingerprint(&env.home));
    env.run("reconcile")
        .is(0, "reconcile: nothing changed\n", "");
    assert!(
        before == (fingerprint(&env.scandir), fingerprint(&env.home)),
        "something was touched"
    );
}

#[test]
fn leftovers_of_a_killed_gateway_go_at_boot_and_only_then() {
    let env = TestEnv::new();
    env.running("coder").running("used");
    for profile in ["coder", "used", "default"] {
        for file in ["gateway.pid", "processes.json"] {
            env.write(&env.home_of(profile).join(file), "{}");
        }
    }
    // Somebody runs this one by hand, with the lock that Hermes itself takes.
    env.write(&env.home_of("used").join("gateway.lock"), "{}");
    let mut flock = env.command("flock");
    flock.arg("--no-fork");
    flock.arg(env.home_of("used").join("gateway.lock"));
    let by_hand = env.hold_lock(flock);
    let left = |profile: &str| {
        ["gateway.pid", "processes.json"].map(|file| env.home_of(profile).join(file).exists())
    };
    reconcile(&env, 0, &[]);
    assert_eq!(
        (left("coder"), left("default"), left("used")),
        ([false; 2], [false; 2], [true; 2])
    );
    drop(by_hand);
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.write(&env.home_of("coder").join("gateway.pid"), "{}");
    env.profile("new", "");
    env.write(&env.home_of("new").join("gateway.pid"), "{}");
    env.run("reconcile").ends(0);
    assert!(
        env.home_of("coder").join("gateway.pid").exists()
            && env.home_of("new").join("gateway.pid").exists()
    );
}

#[test]
fn a_port_never_moves_when_other_profiles_come_and_go() {
    let env = TestEnv::new();
    // p0004 and p0017 and so on: as many names as make collisions certain.
    let names: Vec<String> = (0..300).map(|number| format!("p{number:04}")).collect();
    for name in names.iter().rev().take(150) {
        env.profile(name, "");
    }
    reconcile(&env, 0, &[]);
    let ports = |count: usize| -> Vec<String> {
        let taken = names.iter().rev().take(count);
        taken
            .map(|name| fs::read_to_string(env.slot(name).join("env/API_SERVER_PORT")).unwrap())
            .collect()
    };
    let before = ports(150);
    for name in names.iter().take(150) {
        env.profile(name, "");
    }
    reconcile(&env, 0, &[]);
    assert_eq!(ports(150), before);
    let mut all = ports(300);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 300, "each has its own");
    for name in names.iter().take(150) {
        fs::remove_dir_all(env.home_of(name)).unwrap();
    }
    reconcile(&env, 0, &[]);
    assert_eq!(ports(150), before);
}

/// The ports of profiles, as they are recorded on the volume.
fn recorded(env: &TestEnv) -> BTreeMap<String, u16> {
    let record = fs::read(env.home.join(".hermes-s6-ports.json")).unwrap();
    serde_json::from_slice(&record).unwrap()
}

#[test]
fn profiles_without_a_port_are_named_until_the_range_is_wider() {
    let mut env = TestEnv::new();
    for number in 0..605 {
        env.profile(&format!("p{number:03}"), "");
    }
    let ran = env.run("reconcile --json").ends(1);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let changes = json["changes"].as_array().unwrap().iter();
    let without = changes.filter(|change| change["reason"] == "no-port");
    let without: Vec<&str> = without
        .map(|change| change["profile"].as_str().unwrap())
        .collect();
    assert_eq!(without.len(), 5, "{without:?}");
    let text = "it has no port: all of 9200 to 9799 are given";
    let remedy = "set API_SERVER_PORT in its .env, or a wider range with HERMES_S6_PORTS";
    for name in &without {
        env.run(&["port", "-p", name]).is(
            1,
            "",
            format!("hermes-s6: fatal: profile {name}{}: {remedy}\n", &text[2..]),
        );
    }
    let again = env.run("reconcile").ends(1);
    again.says("reconcile: nothing changed\n").warns(without[0]);
    again.warns(format!("{text}: {remedy}\n"));
    let doctor = || -> Vec<Value> {
        let json: Value = serde_json::from_str(&env.run("doctor --json").stdout).unwrap();
        let mut findings = json["findings"].as_array().unwrap().clone();
        findings.retain(|finding| finding["check"] == "ports");
        findings
    };
    let found = doctor();
    let named = found.iter().map(|finding| &finding["profile"]);
    assert!(named.eq(&without), "{found:?}");
    for finding in found {
        let is = (&finding["level"], &finding["text"], &finding["remedy"]);
        assert_eq!(is, (&json!("problem"), &json!(text), &json!(remedy)));
    }
    let before = recorded(&env);
    assert_eq!(before.len(), 600);
    env.set("HERMES_S6_PORTS", "9200-10199");
    env.run("reconcile").ends(0);
    let after = recorded(&env);
    assert_eq!(after.values().collect::<BTreeSet<_>>().len(), 605);
    assert!(before.iter().all(|(name, port)| after[name] == *port));
    for name in without {
        let port = after[name];
        assert!((9800..=10199).contains(&port), "{name}: {port}");
        env.run(&["port", "-p", name])
            .is(0, format!("{port}\n"), "");
    }
    let json: Value = serde_json::from_str(&env.run("doctor --json").stdout).unwrap();
    assert!(
        json.to_string()
            .contains("every profile has a port of its own")
    );
    // A shell without the variable, such as root's in cron.
    env.variables.clear();
    env.run("reconcile")
        .is(0, "reconcile: nothing changed\n", "");
}

#[test]
fn another_range_is_for_new_profiles_and_moves_no_port() {
    let mut env = TestEnv::new();
    env.profile("coder", "");
    reconcile(&env, 0, &[]);
    env.set("HERMES_S6_PORTS", "20000-20009");
    env.profile("viewer", "");
    reconcile(&env, 0, &["viewer prior_state=None action=registered"]);
    let ports = recorded(&env);
    assert_eq!(ports["coder"], 9570);
    assert!((20000..=20009).contains(&ports["viewer"]), "{ports:?}");
    env.run("reconcile")
        .is(0, "reconcile: nothing changed\n", "");
    env.variables.clear();
    env.run("reconcile")
        .is(0, "reconcile: nothing changed\n", "");
    // The default profile has a port too, which nobody else is given.
    env.set("HERMES_S6_PORTS", "8642-8643");
    env.profile("writer", "");
    reconcile(&env, 0, &[]);
    env.run("port -p writer").is(0, "8643\n", "");
    assert_eq!(recorded(&env).len(), 3);
}

#[test]
fn the_range_is_the_same_for_root_in_every_layout() {
    if !is_root() {
        return skip("only root can become another user");
    }
    let mut env = TestEnv::new();
    env.set("HERMES_S6_USER", "nobody")
        .set("HERMES_S6_PORTS", "20000-29999");
    env.profile("coder", "");
    chown(&env.place, Some(0), Some(0)).unwrap();
    for owner in [env.owner, 0] {
        fs::create_dir(&env.scandir).unwrap();
        chown(&env.scandir, Some(owner), Some(owner)).unwrap();
        env.run_as_root("port -p coder").is(0, "23370\n", "");
        env.run_as_root("reconcile").ends(0);
        let port = fs::read_to_string(env.slot("coder").join("env/API_SERVER_PORT")).unwrap();
        assert_eq!(port.trim(), "23370");
        let record = env.home.join(".hermes-s6-ports.json");
        assert_eq!(fs::metadata(&record).unwrap().uid(), env.owner);
        assert_eq!(recorded(&env)["coder"], 23370);
        fs::remove_file(record).unwrap();
        fs::remove_dir_all(&env.scandir).unwrap();
    }
}

#[test]
fn a_port_that_a_profile_sets_itself_wins_and_is_given_to_nobody() {
    let env = TestEnv::new();
    env.profile("coder", "").profile("owner", "");
    let natural = env.run("port -p coder").stdout;
    env.write(
        &env.home_of("owner").join(".env"),
        &format!("API_SERVER_PORT={natural}"),
    );
    assert_eq!(env.run("port -p owner").stdout, natural);
    assert_ne!(env.run("port -p coder").stdout, natural);
}

#[test]
fn on_a_volume_that_cannot_be_written_the_slots_come_all_the_same() {
    let env = TestEnv::new();
    env.running("coder");
    chmod(&env.home, 0o555);
    let warnings = reconcile(&env, 1, &["coder prior_state=running action=started"]);
    has(&warnings, "/home/logs: Permission denied");
    chmod(&env.home, 0o755);
    env.own();
    assert!(env.slot("coder").is_dir());
}

#[test]
fn nothing_is_written_through_a_link_on_the_volume() {
    let env = TestEnv::new();
    env.running("coder");
    let outside = env.place.join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, env.home.join("logs")).unwrap();
    let ports = env.place.join("ports");
    fs::write(&ports, "{}").unwrap();
    let link = env.home.join(".hermes-s6-ports.json");
    symlink(&ports, &link).unwrap();
    env.own();
    env.run("reconcile")
        .ends(1)
        .warns(".hermes-s6-ports.json is a symbolic link");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(&ports).unwrap(), "{}");
    assert!(link.is_symlink(), "neither followed nor replaced");
}

#[test]
fn what_is_changed_after_a_boot_is_not_taken_for_a_boot() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_ready(&["coder"]);
    env.profile("late", "");
    env.run("register -p late").ends(0);
    env.run("unregister -p late").ends(0);
    env.run("reconcile").ends(0);
    let log = fs::read_to_string(env.home.join("logs/container-boot.log")).unwrap();
    let later = [
        "slot=late prior_state=None action=registered",
        "slot=late prior_state=None action=removed reason=unregistered",
        "slot=late prior_state=None action=registered",
    ];
    let said = log.lines().filter_map(|line| line.split_once(' '));
    let (boot, changes): (Vec<_>, Vec<_>) = said
        .map(|(_, line)| line)
        .partition(|line| !line.starts_with("slot="));
    assert_eq!(changes, later, "{log}");
    assert!(boot[0].starts_with("boot profiles="), "{log}");
    has(&log, "profile=coder prior_state=running action=started");
    assert!(!log.contains("profile=late"), "{log}");
}

#[test]
fn the_boot_log_is_put_aside_when_it_is_full() {
    let env = TestEnv::new();
    fs::create_dir(env.home.join("logs")).unwrap();
    env.write(
        &env.home.join("logs/container-boot.log"),
        &"x".repeat(256 * 1024),
    );
    env.own();
    reconcile(&env, 0, &[]);
    let log = fs::read_to_string(env.home.join("logs/container-boot.log")).unwrap();
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(env.home.join("logs/container-boot.log.1").exists());
}

#[test]
fn what_a_killed_run_has_left_half_written_in_a_slot_is_swept_away() {
    let env = TestEnv::new();
    env.running("coder");
    env.run("reconcile").ends(0);
    let slot = env.slot("coder");
    let debris = ["data/.check", ".down", "log/.run", ".run"]
        .map(|file| format!("{file}.hermes-s6-0123456789abcdef"));
    let debris = debris.each_ref();
    for file in debris {
        env.write(&slot.join(file), "#!/half");
    }
    let mine = slot.join(".mine.hermes-s6-0123456789abcdef");
    env.write(&mine, "of somebody else");
    let line = "reconcile: profile=coder prior_state=running action=updated";
    env.run("reconcile")
        .is(0, format!("{line}\nreconcile: 1 changed\n"), "");
    for file in debris {
        assert!(!slot.join(file).exists(), "{file}");
    }
    assert!(mine.exists());
    env.run("reconcile")
        .is(0, "reconcile: nothing changed\n", "");
}

/// The `desired_state` that the state file of a profile has.
fn desired(env: &TestEnv, profile: &str) -> serde_json::Value {
    let file: serde_json::Value = serde_json::from_str(&env.state_file(profile)).unwrap();
    file["desired_state"].clone()
}

#[test]
fn a_gateway_that_ran_runs_again_whatever_it_writes_when_its_tree_was_killed() {
    let env = TestEnv::new();
    for name in ["coder", "writer"] {
        env.profile(name, r#"{"gateway_state":"running"}"#);
    }
    env.behaviour("coder", "ends-as stopped\n");
    // It loses what is written down, as often as it writes.
    env.behaviour("writer", "ends-as stopped\nforget 1\n");
    let mut tree = env.supervise();
    env.await_ready(&["coder", "writer"]);
    assert_eq!(desired(&env, "coder"), "running");
    for start in 2..4 {
        tree.kill();
        tree = env.supervise();
        env.await_event("coder", "start", start);
        env.await_event("writer", "start", start);
        env.await_ready(&["coder", "writer"]);
        assert_eq!(env.count("coder", "TERM"), start - 1, "it was told to end");
    }
    drop(tree);
    env.kill_all();
    // Another container, after this one was stopped: its gateways have said so.
    fs::remove_dir_all(&env.scandir).unwrap();
    let said = r#"{"gateway_state":"stopped","desired_state":"running"}"#;
    env.write(&env.home_of("coder").join("gateway_state.json"), said);
    let _tree = env.supervise();
    env.await_state("coder", "ready");
}

#[test]
fn an_intent_is_written_down_before_a_gateway_is_told_to_end() {
    let env = TestEnv::new();
    env.running("coder").behaviour("coder", "ends-as stopped\n");
    let tree = env.supervise();
    env.await_ready(&["coder"]);
    // As a version has left it that did not write it down.
    let state = env.home_of("coder").join("gateway_state.json");
    env.write(&state, r#"{"gateway_state":"running"}"#);
    env.hold("coder", "save");
    tree.kill();
    // This one is killed while it waits for the gateway to save.
    let next = env.start(env.hermes_s6("supervise"));
    env.await_event("coder", "TERM", 1);
    assert_eq!(desired(&env, "coder"), "running");
    next.kill();
    env.let_go("coder", "save");
    env.await_event("coder", "saved", 1);
    let _tree = env.supervise();
    env.await_event("coder", "start", 2);
    env.await_state("coder", "ready");
}

#[test]
fn an_intent_that_the_gateway_told_itself_is_written_once_and_a_dry_run_only_says_so() {
    let env = TestEnv::new();
    let state = r#"{"gateway_state":"running","x":[1.0]}"#;
    env.profile("coder", state);
    env.profile("failed", r#"{"gateway_state":"startup_failed"}"#);
    let line = "reconcile: desired_state=running for coder\n";
    env.run("reconcile --dry-run").ends(0).says(line);
    assert_eq!(env.state_file("coder"), state);
    let dry = env.run("reconcile --dry-run --json").ends(0).stdout;
    let dry: serde_json::Value = serde_json::from_str(&dry).unwrap();
    assert_eq!(dry["adopted"], serde_json::json!(["coder"]));
    env.run("reconcile").ends(0).says(line);
    begins(
        &env.state_file("coder"),
        r#"{"gateway_state":"running","x":[1.0],"desired_state":"running","updated_at":"#,
    );
    assert_eq!(
        env.state_file("failed"),
        r#"{"gateway_state":"startup_failed"}"#,
        "no operator has stopped it"
    );
    env.run("reconcile")
        .is(0, "reconcile: nothing changed\n", "");
}

#[test]
fn an_intent_that_cannot_be_written_down_is_said_and_the_gateway_runs() {
    let env = TestEnv::new();
    env.profile("coder", r#"{"gateway_state":"running"}"#);
    let home = env.home_of("coder");
    chmod(&home, 0o555);
    for lines in [&["coder prior_state=running action=started"][..], &[]] {
        let warnings = reconcile(&env, 1, lines);
        has(
            &warnings,
            "gateway_state.json: Permission denied: the volume does not say that coder is wanted running",
        );
        assert!(!env.slot("coder").join("down").exists());
    }
    chmod(&home, 0o755);
    reconcile(&env, 0, &[]);
    assert_eq!(desired(&env, "coder"), "running");
}

/// Runs a script as root, with mounts that nobody else sees; `false` if mounts cannot be made here.
fn with_mounts(env: &TestEnv, script: &str) -> bool {
    let can_mount = "PATH=$PATH:/sbin:/usr/sbin; mount -t tmpfs tmpfs /mnt";
    let mut probe = env.root_command("unshare");
    if !is_root() || probe.args(["-m", "sh", "-c", can_mount]).ran().code != 0 {
        skip("only root mounts file systems, and not everywhere");
        return false;
    }
    let program = programs().join("hermes-s6");
    let as_user = format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups");
    let mut command = env.root_command("unshare");
    let script = format!("PATH=$PATH:/usr/sbin:/sbin\n{script}");
    command.args(["-m", "sh", "-euc", &script]);
    command.env("AS_USER", as_user).env("HERMES_S6", program);
    command.ran().ends(0);
    true
}

#[test]
fn a_full_disk_under_a_damaged_state_file_loses_nothing() {
    let env = TestEnv::new();
    let changes = r#"{"seed":null,"remove":[],"log_directories":[],"ports":null,"boot_log":[],"adopted":[],"intents":[["default","stopped"]],"planned_stops":[]}"#;
    fs::write(env.place.join("changes"), changes).unwrap();
    let script = "
        mount -t tmpfs -o size=64k,mode=777 tmpfs $HERMES_HOME
        echo '[damaged' >$HERMES_HOME/gateway_state.json
        chmod 666 $HERMES_HOME/gateway_state.json
        head -c 1000k /dev/zero >$HERMES_HOME/big || true
        $AS_USER $HERMES_S6 settle <changes >said
        cp $HERMES_HOME/gateway_state.json after
        ls -A $HERMES_HOME >names
        rm $HERMES_HOME/big
        $AS_USER $HERMES_S6 settle <changes >said-again
        cp $HERMES_HOME/gateway_state.json written
        cp $HERMES_HOME/gateway_state.json.damaged damaged";
    if !with_mounts(&env, script) {
        return;
    }
    let read = |name: &str| fs::read_to_string(env.place.join(name)).unwrap();
    has(&read("said"), "No space left on device");
    assert_eq!(read("after"), "[damaged\n");
    assert_eq!(read("names"), "big\ngateway_state.json\n");
    has(&read("said-again"), r#""failures":[]"#);
    has(&read("written"), r#""desired_state":"stopped""#);
    assert_eq!(read("damaged"), "[damaged\n");
}

#[test]
fn two_containers_that_start_at_once_on_one_volume_agree() {
    let env = TestEnv::new();
    let natural = env.profile("coder", "").run("port -p coder").stdout;
    for name in ["qa", "writer"] {
        env.profile(name, r#"{"gateway_state":"running"}"#);
    }
    let record = env.home.join(".hermes-s6-ports.json");
    for round in 0..20 {
        let scandirs = [0, 1].map(|number| env.place.join(format!("{round}-{number}")));
        let containers = [0, 1].map(|number| {
            let mut command = env.hermes_s6("reconcile");
            command.env("HERMES_S6_SCANDIR", &scandirs[number]);
            if number == 1 {
                // In this one, the default profile has the port that is the natural one of another.
                command.env("API_SERVER_PORT", natural.trim());
            }
            env.spawn(command)
        });
        let [first, second] = containers.map(Background::end);
        assert_eq!((first.code, &*first.stderr), (0, ""), "round {round}");
        // It may have come too late to give that profile another port.
        let conflict = "also that of default";
        for line in second.stderr.lines() {
            assert!(line.contains(conflict), "round {round}: {line}");
        }
        let recorded: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&record).unwrap()).unwrap();
        for (scandir, name) in scandirs
            .iter()
            .flat_map(|scandir| ["coder", "qa", "writer"].map(|name| (scandir, name)))
        {
            let slot = scandir.join(format!("gateway-{name}"));
            let port = fs::read_to_string(slot.join("env/API_SERVER_PORT")).unwrap();
            assert_eq!(
                port.trim(),
                recorded[name].to_string(),
                "round {round}: {name}"
            );
        }
        let mut left = names(&env.home);
        left.retain(|name| name.contains(".hermes-s6-") && name != ".hermes-s6-ports.json");
        assert_eq!(left, [""; 0], "round {round}");
        fs::remove_file(&record).unwrap();
        for name in ["qa", "writer"] {
            env.profile(name, r#"{"gateway_state":"running"}"#);
        }
    }
}

#[test]
fn ports_are_recorded_by_one_container_at_a_time() {
    let env = TestEnv::new();
    env.profile("coder", "");
    let mut flock = env.command("flock");
    flock.arg("--no-fork").arg(&env.home);
    let other = env.hold_lock(flock);
    let record = env.home.join(".hermes-s6-ports.json");
    let reconcile = env.background("reconcile");
    reconcile.await_note("waiting for another hermes-s6 to record ports");
    // What the other one writes in the meantime counts.
    env.write(&record, r#"{"coder":9201}"#);
    drop(other);
    let ran = reconcile.end().ends(0);
    ran.says("profile=coder prior_state=None action=registered");
    let port = fs::read_to_string(env.slot("coder").join("env/API_SERVER_PORT")).unwrap();
    assert_eq!(port, "9201\n");
    assert_eq!(fs::read_to_string(&record).unwrap(), r#"{"coder":9201}"#);
}

#[test]
fn a_record_of_ports_that_cannot_be_used_stays_and_so_do_the_ports() {
    let env = TestEnv::new();
    env.profile("coder", "").profile("writer", "");
    let record = env.home.join(".hermes-s6-ports.json");
    let content = r#"{"coder":9201,"writer":9202,"elsewhere":9203}"#;
    env.write(&record, content);
    env.profile("elsewhere", "");
    env.run("reconcile").ends(0);
    let port = |name: &str| {
        let port = fs::read_to_string(env.slot(name).join("env/API_SERVER_PORT")).unwrap();
        (
            port.trim().to_owned(),
            env.run(&format!("port -p {name}")[..]).stdout,
        )
    };
    let has_port = |name: &str, number: &str| {
        assert_eq!(port(name), (number.to_owned(), format!("{number}\n")));
    };
    has_port("coder", "9201");
    let damaged = r#"{"coder":9201,"#;
    for (damage, remedy) in [
        (
            (|record| chmod(record, 0o000)) as fn(&Path),
            "Permission denied",
        ),
        (
            |record| fs::write(record, r#"{"coder":9201,"#).unwrap(),
            "is no record of ports",
        ),
        (
            |record| fs::write(record, "").unwrap(),
            "is no record of ports",
        ),
    ] {
        env.write(&record, content);
        damage(&record);
        let before = fingerprint(&env.home);
        for words in ["reconcile --dry-run", "reconcile"] {
            env.run(words)
                .ends(1)
                .warns(remedy)
                .warns("or remove it")
                .says("reconcile: nothing changed");
        }
        let ran = env.run("doctor");
        ran.says(remedy).says("or remove it");
        has_port("coder", "9201");
        has_port("writer", "9202");
        assert!(before == fingerprint(&env.home), "something was written");
        chmod(&record, 0o644);
    }
    env.write(&record, damaged);
    // A new profile has its slot all the same, with a port that nobody else has.
    env.profile("new", "");
    env.run("reconcile").ends(1);
    assert_eq!(fs::read_to_string(&record).unwrap(), damaged);
    let new = port("new").0;
    assert!(!["9201", "9202", "9203"].contains(&&*new), "{new}");
    // The remedy: the ports of the slots are recorded.
    fs::remove_file(&record).unwrap();
    env.run("reconcile").ends(0);
    has_port("coder", "9201");
    has(
        &fs::read_to_string(&record).unwrap(),
        format!(r#""new":{new},"#),
    );
}
