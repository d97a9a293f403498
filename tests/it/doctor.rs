//! `hermes-s6 doctor`: each thing that goes wrong is made to go wrong, and is found with its remedy.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::pid1::{self, Container, TREE, tree_service};
use crate::s6::elsewhere;
use crate::support::{
    NOBODY, Ran, Run, TestEnv, begins, chmod, closes, fingerprint, is_root, programs, skip,
};

/// What `doctor --json` has found.
struct Found {
    ran: Ran,
    findings: Vec<Value>,
}

impl Found {
    fn of(ran: Ran) -> Self {
        let json: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
        let found = Self {
            findings: json["findings"].as_array().cloned().unwrap_or_default(),
            ran,
        };
        assert_eq!(json["version"], 1, "{:?}", found.ran);
        let bad = found
            .findings
            .iter()
            .any(|finding| ["warning", "problem"].contains(&finding["level"].as_str().unwrap()));
        assert_eq!(json["ok"], !bad, "{:?}", found.ran);
        assert_eq!(found.ran.code, i32::from(bad), "{:?}", found.ran);
        found
    }

    /// How many findings there are at a level.
    fn count(&self, level: &str) -> usize {
        let found = self.findings.iter();
        found.filter(|finding| finding["level"] == level).count()
    }

    /// The texts of what a check has found at a level.
    fn texts(&self, check: &str, level: &str) -> Vec<&str> {
        let found = self.findings.iter();
        let found = found.filter(|finding| finding["check"] == check && finding["level"] == level);
        found
            .map(|finding| finding["text"].as_str().unwrap())
            .collect()
    }

    /// The remedy of a finding: `line` is its check, its level, its profile if it has one, and what is in
    /// its text, as in "lock warning coder: another container".
    fn remedy(&self, line: &str) -> &str {
        let (head, text) = line.split_once(": ").unwrap();
        let head: Vec<&str> = head.split(' ').collect();
        let found = self.findings.iter().find(|finding| {
            finding["check"] == head[0]
                && finding["level"] == head[1]
                && finding["profile"].as_str() == head.get(2).copied()
                && finding["text"].as_str().unwrap().contains(text)
        });
        let Some(finding) = found else {
            panic!("no finding is {line:?}: {:#?}", self.ran);
        };
        finding["remedy"].as_str().unwrap_or_default()
    }

    /// Checks the remedy of a finding.
    #[track_caller]
    fn is(&self, line: &str, remedy: &str) {
        assert_eq!(self.remedy(line), remedy);
    }
}

fn doctor(env: &TestEnv) -> Found {
    Found::of(env.run("doctor --json"))
}

/// The same with one more variable in the environment.
fn doctor_with(env: &TestEnv, name: &str, value: &str) -> Found {
    Found::of(env.hermes_s6("doctor --json").env(name, value).ran())
}

/// The s6 programs and execlineb in a directory of the test's own, where they can go wrong.
fn own_s6(env: &mut TestEnv) -> PathBuf {
    let bin = env.place.join("bin");
    fs::create_dir(&bin).unwrap();
    for entry in fs::read_dir("/usr/bin").unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap_or_default();
        if name.starts_with("s6-") || name == "execlineb" {
            fs::copy(entry.path(), bin.join(name)).unwrap();
        }
    }
    env.set("HERMES_S6_BINDIR", bin.to_str().unwrap());
    env.own();
    bin
}

#[test]
fn where_all_is_well_every_check_says_so_and_nothing_is_touched() {
    let env = TestEnv::new();
    env.running("coder").profile("viewer", "");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let before = (fingerprint(&env.home), fingerprint(&env.scandir));
    let found = doctor(&env);
    assert_eq!(found.ran.code, 0, "{:?}", found.ran);
    let checks: Vec<&str> = found
        .findings
        .iter()
        .map(|finding| finding["check"].as_str().unwrap())
        .collect();
    assert_eq!(
        checks,
        [
            "pid1",
            "tree",
            "scandir",
            "tools",
            "s6",
            "volume",
            "lock",
            "credentials",
            "stop",
            "ports",
            "capacity",
            "logs",
            "profiles"
        ]
    );
    // The s6-svscan, and an s6-supervise for each of three gateways.
    assert!(found.texts("s6", "ok")[0].starts_with("4 processes are of the s6 in /"));
    assert!(found.texts("stop", "ok")[0].ends_with("docker stop --time 40"));
    let ran = env.run("doctor");
    assert_eq!(ran.stdout.lines().count(), checks.len() + 1, "{ran:?}");
    assert!(ran.stdout.starts_with("ok   pid1: PID 1 is "), "{ran:?}");
    closes(&ran.stdout, "\nproblems: 0, warnings: 0, unknown: 0\n");
    assert_eq!(before, (fingerprint(&env.home), fingerprint(&env.scandir)));
}

#[test]
fn without_anything_it_says_what_is_missing_and_does_not_fail() {
    let mut env = TestEnv::new();
    fs::create_dir(env.place.join("empty")).unwrap();
    let empty = env.place.join("empty").to_str().unwrap().to_owned();
    env.set("HERMES_S6_BINDIR", &empty)
        .set("HERMES_S6_STOP_TIMEOUT", "soon");
    fs::remove_dir_all(&env.home).unwrap();
    let found = doctor(&env);
    found.is(
        "tree problem: there is no scan directory",
        "hermes-s6 supervise",
    );
    found.remedy("tools problem: unable to find s6-svscan");
    assert!(
        found
            .remedy("volume problem: unable to open")
            .contains("--home or HERMES_HOME")
    );
    found.is(
        "settings warning: HERMES_S6_STOP_TIMEOUT='soon' is ignored",
        "it takes 1 to 86400 seconds",
    );
}

#[test]
fn root_without_a_user_to_serve_opens_nothing_and_says_so() {
    if !is_root() {
        return skip("only root serves another user");
    }
    let mut env = TestEnv::new();
    env.set("HERMES_S6_USER", "nobody-of-that-name");
    env.running("coder");
    let found = Found::of(env.run_as_root("doctor --json"));
    let remedy = found.remedy("rights problem: unable to find user");
    assert!(remedy.contains("HERMES_S6_USER"), "{remedy}");
    found.remedy("volume unknown: not looked at");
    found.remedy("pid1 ok: PID 1 is ");
}

#[test]
fn a_tree_that_is_dead_is_one_finding() {
    let env = TestEnv::new();
    env.running("coder").running("writer");
    let tree = env.supervise();
    env.await_state("coder", "ready");
    env.kill_all();
    drop(tree);
    let found = doctor(&env);
    found.is("tree problem: no s6-svscan watches", "hermes-s6 supervise");
    assert_eq!(found.count("problem"), 1);
}

#[test]
fn a_wanted_profile_without_slot_or_supervisor_is_found() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.running("new").running("late").slip_in("late");
    let found = doctor(&env);
    for (profile, state) in [("new", "unregistered"), ("late", "unsupervised")] {
        let remedy = found.remedy(&format!("profiles problem {profile}: {state}"));
        assert_eq!(remedy, "hermes-s6 reconcile");
    }
    env.run("reconcile").ends(0);
    env.await_ready(&["new", "late"]);
    doctor(&env).ran.ends(0);
}

#[test]
fn another_s6_than_the_one_that_runs_is_found() {
    let mut env = TestEnv::new();
    let bin = own_s6(&mut env);
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    assert_eq!(doctor(&env).texts("s6", "problem"), [""; 0]);
    // The same program in a new file is no other s6.
    let replace = |name: &str, by: &str| {
        fs::copy(bin.join(by), bin.join("new")).unwrap();
        fs::rename(bin.join("new"), bin.join(name)).unwrap();
    };
    replace("s6-svscan", "s6-svscan");
    assert_eq!(doctor(&env).texts("s6", "problem"), [""; 0]);
    replace("s6-supervise", "s6-svc");
    let found = doctor(&env);
    let remedy = found.remedy("s6 problem: s6-supervise (pid ");
    assert!(remedy.contains("restart the container"), "{remedy}");
    assert!(!found.texts("s6", "problem")[0].contains("s6-svscan"));
    // A client of another version, from a directory that this environment names.
    let other = env.place.join("other");
    fs::create_dir(&other).unwrap();
    for name in ["s6-svscan", "s6-svwait", "execlineb"] {
        fs::copy(bin.join(name), other.join(name)).unwrap();
    }
    fs::rename(other.join("s6-svwait"), other.join("s6-svc")).unwrap();
    let found = doctor_with(&env, "HERMES_S6_BINDIR", other.to_str().unwrap());
    let remedy = found.remedy("tools warning: and here is another in");
    begins(&remedy, format!("call {}/s6-svc", bin.display()));
}

#[test]
fn programs_that_are_missing_are_named() {
    let mut env = TestEnv::new();
    let bin = own_s6(&mut env);
    env.set("HERMES_S6_HERMES", "/nowhere/hermes");
    fs::remove_file(bin.join("s6-permafailon")).unwrap();
    chmod(bin.join("s6-log"), 0o644);
    let found = doctor(&env);
    let bin = bin.display();
    let missing = format!("missing: {bin}/s6-log, {bin}/s6-permafailon");
    assert!(
        found.texts("tools", "problem").contains(&missing.as_str()),
        "{:?}",
        found.ran
    );
    found.is(
        "tools problem: /nowhere/hermes",
        "install Hermes Agent, or name it with HERMES_S6_HERMES",
    );
}

/// Runs doctor as the ordinary user where a shell command, as root, has mounted something.
fn mounted(env: &TestEnv, mount: &str) -> Found {
    let script = format!(
        "{mount} && exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {} doctor --json",
        programs().join("hermes-s6").display()
    );
    let mut command = env.root_command("unshare");
    command
        .args(["-m", "sh", "-c", &script])
        .stderr(Stdio::inherit());
    Found::of(command.ran())
}

#[test]
fn a_scan_directory_where_no_script_can_run_is_found() {
    if !is_root() {
        return skip("mounts need root");
    }
    let env = TestEnv::new();
    // As a container's /run: what is to be made in it is not there yet.
    let mount = format!("mount -t tmpfs -o noexec tmpfs {}", env.home.display());
    let mut inside = TestEnv::new();
    inside.scandir = env.home.join("hermes-s6/service");
    let found = mounted(&inside, &mount);
    let remedy = found.remedy("scandir problem: mounted noexec");
    assert!(remedy.contains("--tmpfs /run:exec"), "{remedy}");
    let found = mounted(&inside, &mount.replace("noexec", "exec"));
    assert_eq!(found.texts("scandir", "problem"), [""; 0]);
}

#[test]
fn a_volume_that_is_full_or_cannot_be_written_is_found() {
    if !is_root() {
        return skip("mounts need root");
    }
    let env = TestEnv::new();
    let home = env.home.display();
    let mount =
        format!("mount -t tmpfs -o size=4m,uid={NOBODY},gid={NOBODY},mode=755 tmpfs {home}");
    let found = mounted(&env, &mount);
    assert_eq!(found.texts("volume", "problem"), [""; 0]);
    let full = format!("{mount} && head -c 3500k /dev/zero >{home}/big");
    let found = mounted(&env, &full);
    found.remedy("volume problem: less than 1 MiB is free: ");
    let inodes = format!(
        "{} && : >{home}/x",
        mount.replace("size=4m", "size=4m,nr_inodes=2")
    );
    let found = mounted(&env, &inodes);
    found.remedy("volume problem: no more files can be made: ");
    let found = mounted(
        &env,
        &format!("{mount} && mkdir {home}/logs && mount -o remount,ro {home}"),
    );
    let remedy = found.remedy("volume problem: read-only file system: ");
    assert_eq!(remedy, "mount it writable");
    assert_eq!(
        found.texts("volume", "problem").len(),
        1,
        "that is all: {:?}",
        found.ran
    );
}

#[test]
fn files_that_the_gateways_cannot_use_are_found_and_the_remedy_helps() {
    if !is_root() {
        return skip("files of another user need root");
    }
    let mut env = TestEnv::new();
    env.home = env.place.join("it's a\nhome");
    fs::create_dir_all(env.home.join("profiles")).unwrap();
    env.own();
    env.running("coder");
    let home = env.home_of("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    // Not before: at boot the leftovers of a gateway are removed.
    for name in ["auth.json", "state.db", "gateway.lock", "processes.json"] {
        env.write(&home.join(name), "");
    }
    assert_eq!(doctor(&env).texts("volume", "problem"), [""; 0]);
    // As docker exec leaves them.
    for name in ["auth.json", "state.db", "gateway.lock", "processes.json"] {
        chown(home.join(name), Some(0), Some(0)).unwrap();
    }
    chown(env.home.join("logs/gateways"), Some(0), Some(0)).unwrap();
    chmod(home.join("SOUL.md"), 0o000);
    env.write(&home.join("config.yaml"), "");
    chown(home.join("config.yaml"), Some(0), Some(0)).unwrap();
    env.write(&home.join(".env"), "");
    chmod(home.join(".env"), 0o666);
    // Whose a link is and what it leads to is not for the doctor.
    symlink("/etc/shadow", home.join("active_profile")).unwrap();
    let found = doctor(&env);
    let remedies = [
        found.remedy("volume problem coder: not owned by 65534, and not usable: "),
        found.remedy("volume problem: logs/gateways"),
        found.remedy("volume problem coder: not usable for 65534, the owner: "),
        found.remedy("volume warning coder: not owned by 65534: "),
        found.remedy("volume warning coder: writable for everybody: "),
    ];
    let four = found.texts("volume", "problem");
    assert!(
        four.iter().any(|text| text.ends_with(" and 1 more")),
        "{four:?}"
    );
    for remedy in remedies {
        assert!(!remedy.contains('\n'), "{remedy}");
        let mut shell = env.root_command("bash");
        assert!(
            shell.args(["-c", remedy]).status().unwrap().success(),
            "{remedy}"
        );
    }
    let found = doctor(&env);
    assert_eq!(found.ran.code, 0, "{:?}", found.ran);
}

#[test]
fn what_root_has_left_in_a_home_is_found_whatever_its_name_is() {
    if !is_root() {
        return skip("only root makes files of root");
    }
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let home = env.home_of("coder");
    fs::create_dir_all(home.join("memories/deep")).unwrap();
    chmod(home.join("memories"), 0o700);
    fs::write(home.join("notes.md"), "").unwrap();
    symlink("/etc/shadow", home.join("link")).unwrap();
    // As mkfs makes it.
    fs::create_dir(env.home.join("lost+found")).unwrap();
    chmod(env.home.join("lost+found"), 0o700);
    let found = doctor(&env);
    assert_eq!(found.texts("volume", "problem"), [""; 0]);
    let place = home.display();
    assert_eq!(
        (
            found.remedy("volume warning coder: not owned by 65534, and not usable: "),
            found.remedy("volume warning coder: not owned by 65534: "),
        ),
        (
            format!("chown -h 65534 {place}/memories").as_str(),
            format!("chown -h 65534 {place}/notes.md").as_str(),
        )
    );
}

#[test]
fn a_home_that_is_closed_to_the_gateways_is_found() {
    let env = TestEnv::new();
    env.running("coder");
    chmod(env.home_of("coder"), 0o000);
    let found = doctor(&env);
    let remedy = found.remedy("volume problem coder: /profiles/coder");
    assert_eq!(
        remedy,
        format!("chmod u+rwX {}", env.home_of("coder").display())
    );
    found.remedy("profiles warning coder: unable to open");
}

#[test]
fn what_two_profiles_share_is_named_and_never_shown() {
    let env = TestEnv::new();
    env.profile("coder", "")
        .profile("writer", "")
        .profile("viewer", "");
    let port = "API_SERVER_PORT=9000\nAPI_SERVER_KEY=sesame-1\n";
    env.write(
        &env.home.join(".env"),
        &format!("{port}TELEGRAM_BOT_TOKEN=sesame-2\nOPENAI_API_KEY=sesame-3\n"),
    );
    env.write(
        &env.home_of("coder").join(".env"),
        &format!("{port}export TELEGRAM_BOT_TOKEN=\"sesame-2\"\nOPENAI_API_KEY=sesame-3\nSLACK_APP_TOKEN=\n"),
    );
    env.write(
        &env.home_of("writer").join(".env"),
        "TELEGRAM_BOT_TOKEN=sesame-4\nSLACK_APP_TOKEN=\n",
    );
    let found = doctor(&env);
    let remedy = found.remedy("ports problem coder: its port 9000 is also that of default");
    let expected = "set another API_SERVER_PORT in the .env of one of them";
    assert_eq!(remedy, expected);
    assert_eq!(
        found.texts("credentials", "warning"),
        ["TELEGRAM_BOT_TOKEN in its .env is also that of default"]
    );
    found.remedy("credentials warning coder: ");
    for ran in [&found.ran, &env.run("doctor")] {
        assert!(!format!("{ran:?}").contains("sesame"), "{ran:?}");
    }
}

#[test]
fn another_container_that_runs_a_profile_is_named_unless_that_is_meant() {
    if !is_root() {
        return skip("a second pid namespace needs root");
    }
    let env = TestEnv::new();
    env.profile("coder", "").running("writer");
    let _tree = env.supervise();
    env.await_state("writer", "ready");
    // The lock of our own gateway is no other container's.
    assert_eq!(doctor(&env).texts("lock", "warning"), [""; 0]);
    let _other = elsewhere(&env);
    let found = doctor(&env);
    let remedy = found.remedy("lock warning coder: another-host pid 7 since then");
    assert!(remedy.contains("HERMES_S6_AUTOSTART=never"), "{remedy}");
    let found = doctor_with(&env, "HERMES_S6_AUTOSTART", "never");
    found.remedy("lock ok coder: another-host pid 7 since then");
    assert_eq!(found.texts("lock", "warning"), [""; 0]);
}

#[test]
fn times_to_stop_that_do_not_fit_are_found() {
    let env = TestEnv::new();
    env.running("coder").profile("viewer", "");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let drain = |seconds: &str| format!("agent:\n  restart_drain_timeout: {seconds}\n");
    env.write(&env.home_of("coder").join("config.yaml"), &drain("60"));
    env.write(&env.home_of("viewer").join("config.yaml"), &drain("24"));
    env.write(&env.slot("viewer").join("timeout-kill"), "7\n");
    let found = doctor(&env);
    let remedy = found.remedy("stop warning coder: drain for 60 s, and after 25 s it is killed");
    begins(&remedy, "set HERMES_S6_STOP_TIMEOUT=90, ");
    assert!(remedy.ends_with("docker stop --time 105"), "{remedy}");
    found.is(
        "stop warning viewer: timeout-kill of its slot is '7'",
        "hermes-s6 reconcile",
    );
    assert_eq!(found.texts("stop", "warning").len(), 2, "{:?}", found.ran);
    env.run("reconcile").ends(0);
    let found = doctor_with(&env, "HERMES_S6_STOP_TIMEOUT", "90");
    found.remedy("stop warning: HERMES_S6_STOP_TIMEOUT is 90, and the tree has 25");
    assert_eq!(found.texts("stop", "warning").len(), 2, "{:?}", found.ran);
}

#[test]
fn more_profiles_than_s6_svscan_takes_are_found() {
    let env = TestEnv::new();
    for name in ["a", "b", "c"] {
        env.profile(name, "");
    }
    let _tree = env.svscan(4);
    doctor(&env).is(
        "tree problem: it was never reconciled",
        "hermes-s6 reconcile",
    );
    env.run("reconcile").ends(0);
    let found = doctor(&env);
    assert_eq!(found.texts("capacity", "ok"), ["4 profiles have room"]);
    env.profile("d", "");
    let found = doctor(&env);
    let remedy = found.remedy("capacity warning: 5 profiles, and s6-svscan has room for 4");
    assert!(remedy.contains("hermes-s6 supervise"), "{remedy}");
}

#[test]
fn what_is_parked_or_skipped_is_told_with_its_remedy() {
    let env = TestEnv::new();
    env.running("coder").behaviour("coder", "exit 78\n");
    env.profile("Foo", "").profile("bad", "[]");
    let _tree = env.supervise();
    env.await_state("coder", "parked");
    let found = doctor(&env);
    found.is(
        "profiles problem coder: parked: exit 78",
        "hermes-s6 start -p coder",
    );
    found.is(
        "profiles warning Foo: 'Foo' is not a profile name",
        "use 1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit",
    );
    found.is(
        "profiles warning bad: does not say what is wanted",
        "start or stop the profile once, or remove the file",
    );
}

#[test]
fn in_the_direct_layout_root_sees_all_and_hermes_says_what_he_cannot_see() {
    let Some(env) = pid1::volume() else { return };
    env.running("coder");
    let container = Container::start(&env, "web-1", "");
    let run = |user: &str, line: &str| container.hermes_s6(user, pid1::DIRECT, line);
    run("root", "reconcile").ends(0);
    container.await_state(pid1::DIRECT, "coder", "ready");
    let found = Found::of(run("root", "doctor --json"));
    assert_eq!(found.ran.code, 0, "{:?}", found.ran);
    assert_eq!(
        found.texts("volume", "ok"),
        ["everything is owned by hermes, and usable"]
    );
    found.remedy("pid1 ok: PID 1 is s6-svscan");
    let found = Found::of(run("hermes", "doctor --json"));
    assert_eq!(found.ran.code, 0, "{:?}", found.ran);
    for check in ["s6", "capacity"] {
        assert_eq!(found.texts(check, "ok"), [""; 0], "{:?}", found.ran);
        found.is(
            &format!("{check} unknown: "),
            "run hermes-s6 doctor as root",
        );
    }
    // What root cannot open by itself it has the volume's owner look at.
    let home = env.home_of("coder");
    env.write(&home.join("auth.json"), "");
    chown(home.join("auth.json"), Some(0), Some(0)).unwrap();
    let found = Found::of(run("root", "doctor --json"));
    let remedy = found.remedy("volume problem coder: not owned by hermes, and not usable");
    assert_eq!(
        remedy,
        format!("chown -h hermes {}/auth.json", home.display())
    );
}

#[test]
fn in_the_tree_layout_root_and_hermes_find_the_same_and_so_does_a_second_container() {
    let Some(env) = pid1::volume() else { return };
    env.running("coder");
    let container = Container::start(&env, "web-1", &pid1::tree_service());
    container.await_state(pid1::TREE, "coder", "ready");
    let [root, hermes] = ["root", "hermes"].map(|user| {
        let found = container
            .hermes_s6(user, pid1::TREE, "doctor --json")
            .ends(0);
        Found::of(found)
    });
    assert_eq!(root.ran.stdout, hermes.ran.stdout);
    assert_eq!(root.count("ok"), 13);
    // And one beside it, which sees no process of the first.
    let second = Container::start(&env, "web-2", "");
    let found = Found::of(second.hermes_s6("hermes", pid1::TREE, "doctor --json"));
    found.remedy("lock warning coder: another container runs it: web-1 pid ");
}

#[test]
fn a_path_in_which_others_come_before_root_is_found() {
    let Some(env) = pid1::volume() else { return };
    env.running("coder");
    let own = env.home.join(".local/bin");
    let path = |value: &str| {
        let prepare = format!(
            "{}; printf '%s\\n' '{value}' >/run/s6/container_environment/PATH",
            tree_service()
        );
        let container = Container::start(&env, "web-1", &prepare);
        container.await_state(TREE, "coder", "ready");
        container.hermes_s6("root", TREE, "doctor")
    };
    let own = own.display();
    let ran = path(&format!("/usr/sbin:{own}:/usr/bin:/bin")).ends(1);
    ran.says(format!(
        "FAIL path: in the PATH of the container, {own} comes before /usr/bin, and "
    ))
    .says(format!(
        ": what others put there is run by root's scripts: put {own} at the end, with ENV PATH in the image or --env PATH\n"
    ));
    path(&format!("/usr/bin:/bin:{own}"))
        .says("ok   path: root's scripts find programs of root's first\n");
}

#[test]
fn a_link_in_the_place_of_a_directory_is_found() {
    let env = TestEnv::new();
    env.running("coder");
    let elsewhere = env.place.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let logs = env.home.join("logs");
    symlink(&elsewhere, &logs).unwrap();
    env.own();
    let text = format!(
        "FAIL volume: not a directory, and no link is followed there: {0}: mount what it leads to in its place, or make a \
        directory there: rm {0}\n",
        logs.display()
    );
    env.run("doctor").ends(1).says(text);
    fs::remove_file(&logs).unwrap();
    env.run("reconcile").ends(0);
    let ran = env.run("doctor");
    assert!(!ran.stdout.contains("not a directory"), "{ran:?}");
}
