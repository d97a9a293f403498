//! What root runs: nothing that somebody else could replace. And what is said where that cannot be known.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use crate::support::{Ran, Run, TestEnv, chmod, is_root, programs, skip};

/// A user who is neither root nor the user of the gateways.
const OTHER: u32 = 1000;

/// What root names if it trusts the directory of s6.
const USR_BIN: &str = "/usr/bin/s6-notifyoncheck -d";

/// What is done to a program, which gets a program of somebody else too.
type Change = fn(&Path, &Path);

/// A place of root's with a volume of nobody's, for whom root works there.
fn place() -> Option<TestEnv> {
    if !is_root() {
        skip("what root trusts needs root");
        return None;
    }
    let mut env = TestEnv::new();
    env.set("HERMES_S6_USER", "nobody").running("coder");
    chown(&env.place, Some(0), Some(0)).unwrap();
    Some(env)
}

fn make(env: &TestEnv, name: &str, owner: u32, mode: u32) -> PathBuf {
    let directory = env.place.join(name);
    fs::create_dir_all(&directory).unwrap();
    chmod(&directory, mode);
    chown(&directory, Some(owner), Some(owner)).unwrap();
    directory
}

fn link(target: impl AsRef<Path>, link: &Path, owner: u32) {
    symlink(target, link).unwrap();
    lchown(link, Some(owner), Some(owner)).unwrap();
}

/// Has root look for the programs, and show the scripts that name them.
fn render(env: &TestEnv, path: &str) -> Ran {
    let mut command = env.root_command(programs().join("hermes-s6"));
    command
        .args(["render", "-p", "coder"])
        .env("PATH", path)
        .ran()
}

#[test]
fn root_follows_no_link_to_programs_that_others_could_turn_elsewhere() {
    let Some(env) = place() else { return };
    let theirs = make(&env, "theirs", OTHER, 0o755).join("bin");
    link("/usr/bin", &theirs, 0);
    let via = env.place.join("via");
    link(&theirs, &via, 0);
    let sticky = make(&env, "sticky", 0, 0o1777).join("bin");
    link("/usr/bin", &sticky, OTHER);
    let owner = theirs.parent().unwrap();
    for (path, culprit) in [(&theirs, owner), (&via, owner), (&sticky, &*sticky)] {
        // At this moment, the link leads to a directory of root's.
        let text = format!(
            "others could replace {}, so root does not use it: {} belongs to uid {OTHER}",
            path.display(),
            culprit.display()
        );
        render(&env, path.to_str().unwrap()).ends(100).warns(text);
        let both = format!("{}:/usr/bin", path.display());
        render(&env, &both).ends(0).says(USR_BIN);
    }
    // What only root can turn elsewhere is used, by the way that was looked at.
    let roots = env.place.join("roots");
    link("/usr/bin", &roots, 0);
    let of_roots = env.place.join("sticky/of-roots");
    link(&roots, &of_roots, 0);
    for path in [roots, of_roots] {
        let ran = render(&env, path.to_str().unwrap()).ends(0);
        ran.says(USR_BIN);
        assert!(!ran.stdout.contains(path.to_str().unwrap()), "{ran:?}");
    }
}

#[test]
fn root_runs_no_program_of_others_in_a_directory_of_its_own() {
    let Some(env) = place() else { return };
    let theirs = make(&env, "theirs", OTHER, 0o755).join("s6-svc");
    fs::copy("/usr/bin/s6-svc", &theirs).unwrap();
    let changes: [(Change, &Path); 3] = [
        (
            |program, _| chown(program, Some(OTHER), None).unwrap(),
            Path::new("bin/s6-svc"),
        ),
        (|program, _| chmod(program, 0o775), Path::new("bin/s6-svc")),
        (
            |program, theirs| {
                fs::remove_file(program).unwrap();
                link(theirs, program, 0);
            },
            Path::new("theirs"),
        ),
    ];
    for (change, culprit) in changes {
        let bin = env.place.join("bin");
        let _earlier = fs::remove_dir_all(&bin);
        fs::create_dir(&bin).unwrap();
        for entry in fs::read_dir("/usr/bin").unwrap().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("s6-") || name == "execlineb" {
                fs::copy(entry.path(), bin.join(name)).unwrap();
            }
        }
        let path = bin.to_str().unwrap();
        render(&env, path)
            .ends(0)
            .says(format!("{path}/s6-notifyoncheck -d"));
        change(&bin.join("s6-svc"), &theirs);
        let ran = render(&env, path).ends(100);
        ran.warns(format!(
            "others could replace {path}/s6-svc, so root does not use it: "
        ));
        ran.warns(env.place.join(culprit).display());
    }
}

#[test]
fn roots_slots_name_no_hermes_s6_that_others_could_replace() {
    let Some(env) = place() else { return };
    let copy = make(&env, "theirs", OTHER, 0o755).join("hermes-s6");
    fs::copy(programs().join("hermes-s6"), &copy).unwrap();
    let ran = env.root_command(&copy).arg("reconcile").ran().ends(100);
    ran.warns(format!(
        "others could replace {}, so root does not use it",
        copy.display()
    ));
    assert!(!env.slot("coder").exists());
}

#[test]
fn a_scan_directory_of_roots_is_one_that_nobody_else_changes_by_whatever_path() {
    let Some(mut env) = place() else { return };
    let sticky = make(&env, "sticky", 0, 0o1777);
    let by_link = env.place.join("by-link");
    link(&sticky, &by_link, 0);
    let roots = make(&env, "roots", 0, 0o755);
    let in_theirs = make(&env, "theirs", OTHER, 0o755).join("link");
    link(&roots, &in_theirs, 0);
    let changeable = format!(
        "{} can be changed by others than root (mode 1777)",
        sticky.display()
    );
    let theirs = format!(
        "{} belongs to uid {OTHER}",
        in_theirs.parent().unwrap().display()
    );
    for user in ["nobody", "root"] {
        env.set("HERMES_S6_USER", user);
        for (scandir, culprit) in [
            (by_link.clone(), &changeable),
            (by_link.join("new"), &changeable),
            (in_theirs.clone(), &theirs),
            (in_theirs.join("new"), &theirs),
        ] {
            env.scandir = scandir;
            let ran = env.run_as_root("reconcile").ends(100);
            ran.warns(format!("root would run what others put there: {culprit}"));
            assert!(!env.slot("coder").exists());
        }
    }
    assert!(!roots.join("new").exists());
    env.scandir = env.place.join("to-roots");
    link(&roots, &env.scandir, 0);
    env.run_as_root("reconcile").ends(0);
    assert!(roots.join("gateway-coder").exists());
}

#[test]
fn a_tree_of_roots_gateways_is_roots_alone_while_it_runs() {
    let Some(mut env) = place() else { return };
    env.set("HERMES_S6_USER", "root").running("other");
    let mut supervise = env.root_command(programs().join("hermes-s6"));
    supervise.arg("supervise");
    let tree = env.start(supervise);
    let state = || env.run_as_root("list").stdout;
    env.wait_for("the gateway", || state().contains("coder ready"));
    let again = env.run_as_root("reconcile").ends(0);
    again.says("nothing changed");
    env.run_as_root("restart -p coder").ends(0);
    let slot = env.slot("coder");
    // What somebody has done to a file that root runs, or reads or writes there.
    let theirs: fn(&Path) = |place| chown(place, Some(OTHER), None).unwrap();
    let made: fn(&Path) = |place| {
        fs::write(place, "").unwrap();
        chown(place, Some(OTHER), None).unwrap();
    };
    let linked: fn(&Path) = |place| link("/etc/hostname", place, OTHER);
    let open: fn(&Path) = |place| chmod(place, 0o777);
    for (name, change) in [
        ("run", open),
        ("finish", theirs),
        ("log/finish", made),
        ("env/LD_PRELOAD", made),
        ("event/ftrig1:x", linked),
        ("supervise/lock", theirs),
        ("data", theirs),
        ("log/event", theirs),
        ("", theirs),
    ] {
        let place = if name.is_empty() {
            slot.clone()
        } else {
            slot.join(name)
        };
        let before = fs::symlink_metadata(&place).ok();
        change(&place);
        let culprit = format!("{} is not root's alone", place.display());
        for line in [
            "reconcile",
            "reconcile --dry-run",
            "stop -p coder",
            "start -p coder",
            "unregister -p coder",
        ] {
            env.run_as_root(line).ends(100).warns(&culprit);
        }
        // Only the gateways of those slots are left alone.
        let stop = env.run_as_root("stop --all").ends(100);
        stop.warns(&culprit).says("gateway-other is down");
        let listed = env.run_as_root("list");
        listed.says("coder ready").says("other down");
        env.run_as_root("start -p other").ends(0);
        match before {
            Some(meta) => {
                chown(&place, Some(0), None).unwrap();
                chmod(&place, meta.mode() & 0o7777);
            }
            None => fs::remove_file(&place).unwrap(),
        }
    }
    env.run_as_root("stop -p coder").ends(0);
    let tender = env.scandir.join("hermes-s6-tender/run");
    chown(&tender, Some(OTHER), None).unwrap();
    let culprit = format!("{} is not root's alone", tender.display());
    env.run_as_root("reconcile").ends(100).warns(culprit);
    chown(&tender, Some(0), None).unwrap();
    env.run_as_root("reconcile").ends(0);
    chmod(env.scandir.join(".hermes-s6"), 0o666);
    let start = env.run_as_root("start -p other").ends(100);
    start.warns(".hermes-s6 is not root's alone");
    tree.kill();
}

#[test]
fn root_takes_no_environment_that_others_could_write() {
    let Some(env) = place() else { return };
    let is_read = |ran: &Ran| ran.stdout.contains("/run/s6/container_environment");
    let dump = "mkdir -p /run/s6/container_environment";
    let ours = |mode: &str, script: &str| {
        let script = script.replace("DUMP", dump);
        let program = programs().join("hermes-s6");
        let script = format!(
            "set -e
            mount -t tmpfs -o mode={mode} tmpfs /run
            {script}
            {program} render -p coder
            {program} reconcile --dry-run >&2",
            program = program.display()
        );
        let mut command = env.root_command("unshare");
        command.args(["-m", "sh", "-c", &script]).ran().ends(0)
    };
    assert!(is_read(&ours("755", "DUMP")), "root's");
    assert!(
        is_read(&ours("1777", "DUMP")),
        "root's, in docker's --tmpfs /run"
    );
    assert!(
        is_read(&ours("755", "")),
        "not there: only root can make it"
    );
    assert!(!is_read(&ours("1777", "")), "not there: others can make it");
    let theirs = ours("755", &format!("DUMP; chown {OTHER} /run/s6"));
    assert!(!is_read(&theirs), "others'");
    theirs.warns(format!(
        "root ignores /run/s6/container_environment, since /run/s6 belongs to uid {OTHER}: let only root change it"
    ));
}

#[test]
fn root_of_a_namespace_with_one_id_is_told_why_no_program_can_be_trusted() {
    let mut env = TestEnv::new();
    env.set("HERMES_S6_USER", "root").running("coder");
    let unshare = |option: &str, words: &[&str]| {
        let mut command = env.command("unshare");
        let command = command.arg(option).arg(programs().join("hermes-s6"));
        command.args(words).ran()
    };
    if unshare("-Ur", &["--version"]).code != 0 {
        return skip("user namespaces cannot be made here");
    }
    let told = [
        "others could replace /usr/bin, so root does not use it",
        "belongs to uid 65534 (nobody), which here stands for ids that this user namespace does not know",
        "or be another user than root in it (unshare --map-current-user)",
    ];
    for line in ["reconcile", "supervise", "render -p coder"] {
        let words: Vec<&str> = line.split(' ').collect();
        let ran = unshare("-Ur", &words).ends(100);
        for told in told {
            ran.warns(told);
        }
    }
    let doctor = unshare("-Ur", &["doctor"]).ends(1);
    doctor.says(told[0]).says(told[1]);
    // That remedy.
    unshare("--map-current-user", &["render", "-p", "coder"])
        .ends(0)
        .says(USR_BIN);
    unshare("--map-current-user", &["reconcile"])
        .ends(0)
        .says("profile=coder");
}

#[test]
fn a_directory_that_cannot_be_looked_into_is_not_one_without_the_programs() {
    let env = TestEnv::new();
    let closed = env.place.join("closed");
    fs::create_dir(&closed).unwrap();
    chmod(&closed, 0);
    if is_root() {
        chown(&closed, Some(0), Some(0)).unwrap();
    }
    env.running("coder");
    let render = |path: &str| {
        let mut command = env.hermes_s6("render -p coder");
        command.env("PATH", path).ran()
    };
    let closed = closed.to_str().unwrap();
    let failed = format!("unable to look at {closed}/s6-svscan: Permission denied");
    render(closed).ends(111).warns(failed);
    render(&format!("{closed}:/usr/bin")).ends(0).says(USR_BIN);
    let mut hermes = env.command(programs().join("hermes-s6"));
    let ran = hermes
        .args(["hermes", "version"])
        .env("PATH", closed)
        .env_remove("HERMES_S6_HERMES")
        .ran();
    let failed = format!(
        "unable to look at {closed}/hermes: Permission denied: name the real Hermes with HERMES_S6_HERMES"
    );
    if !Path::new("/opt/hermes/.venv/bin/hermes").exists() {
        ran.ends(111).warns(failed);
    }
}
