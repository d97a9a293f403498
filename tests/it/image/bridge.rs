//! Hermes' own code, in its own process: what it asks of its service manager, hermes-s6 does.

use std::fmt::Write as _;

use super::{Container, docker_ok, init_is_ours};
use crate::support::{Ran, Words as _, begins, closes, has};

pub(super) const PYTHON: &str = "/opt/hermes/.venv/bin/python";

/// Hermes, as a module of its Python.
const MODULE: &str = "/opt/hermes/.venv/bin/python -m hermes_cli.main";

/// What code that runs in Hermes' Python has at hand.
const NAMES: &str = r#"
from pathlib import Path
from hermes_cli import profiles, service_manager as sm

def of(call, *words, **options):
    """What a call comes to, as one line."""
    try:
        print(call(*words, **options))
    except Exception as error:
        print(type(error).__name__ + ":", " ".join(str(error).split()))
"#;

/// Runs code in Hermes' Python, as hermes.
fn python(container: &Container, code: &str) -> Ran {
    container.exec_as("hermes", &[PYTHON, "-c", code])
}

/// Runs code with [`NAMES`], which must end well, and gives what it printed.
pub(super) fn hermes(container: &Container, code: &str) -> String {
    let ran = python(container, &format!("{NAMES}\n{code}"));
    let explain = || container.explain();
    assert_eq!(ran.code, 0, "{code}: {ran:?}\n{}", explain());
    assert_eq!(ran.stderr, "", "{code}\n{}", explain());
    ran.stdout
}

/// The processes of a container whose command line has a word in it.
pub(super) fn processes(container: &Container, word: &str) -> Vec<String> {
    let all = docker_ok(&["top", &container.name, "-eo", "pid,args"]);
    let found = all.lines().filter(|line| line.contains(word));
    found.map(str::to_owned).collect()
}

/// The slots that are there, and whatever else has their name.
pub(super) fn slots(container: &Container) -> String {
    container.sh("ls -A /run/hermes-s6/service | grep gateway || true")
}

#[test]
fn the_service_manager_of_hermes_asks_hermes_s6() {
    volume!(volume, "profile default; profile coder");
    let container = volume.start(&[], &[]);
    container.await_states("down", &["default", "coder"]);
    let said = hermes(
        &container,
        r#"
manager = sm.get_service_manager()
print(sm.detect_service_manager(), type(manager).__module__)
print(manager.kind, manager.scandir, manager.supports_runtime_registration())
print(isinstance(manager, sm.S6ServiceManager), isinstance(manager, sm.ServiceManager))
print(isinstance(manager.scandir, Path), "gateway run" in manager._render_run_script("coder", {}))
print(sorted(manager.list_profile_gateways()), manager.is_running("gateway-coder"))
for call in manager.start, manager.restart:
    of(call, "gateway-coder")
    print(manager.is_running("gateway-coder"))
of(manager.stop, "gateway-coder")
print(manager.is_running("gateway-coder"), manager.is_running("gateway-default"))
"#,
    );
    assert_eq!(
        said,
        "s6 hermes_s6_bridge
s6 /run/hermes-s6/service True
True True
True True
['coder', 'default'] False
None
True
None
True
None
False False
"
    );
    assert_eq!(container.life("coder"), [2, 2, 2]);
    assert_eq!(container.count("coder", "planned"), 1);
    let state = volume.script("0", "cat /opt/data/profiles/coder/gateway_state.json");
    assert!(state.contains(r#""desired_state":"stopped""#), "{state}");
}

#[test]
fn what_cannot_be_done_raises_what_hermes_raises() {
    let prepare = "profile default; profile broken; behaviour broken 'exit 78'";
    volume!(volume, prepare);
    let container = volume.start(&[], &[]);
    container.await_states("down", &["default", "broken"]);
    let said = hermes(
        &container,
        r#"
import os
manager = sm.get_service_manager()
for call in manager.start, manager.stop, manager.restart:
    of(call, "gateway-absent")
for call in manager.start, manager.is_running, manager.register_profile_gateway:
    of(call, "gateway-Bad")
of(manager.start, "gateway-tmp")
of(manager.start, "dashboard")
of(manager.register_profile_gateway, "default")
of(manager.unregister_profile_gateway, "absent")
for name in "gateway-absent", "gateway-tmp", "main-hermes", "dashboard", "hermes-s6":
    print(name, manager.is_running(name))
try:
    manager.start("gateway-broken")
except sm.S6CommandError as error:
    print(error.service, error.action, error.returncode, isinstance(error, RuntimeError))
    print(error.stderr)
os.environ["_HERMES_GATEWAY"] = "1"
of(manager.stop, "gateway-default")
"#,
    );
    let absent = "GatewayNotRegisteredError: no such gateway 'absent': register it with `hermes profile create absent` \
        first, or pass an existing profile name via `-p <name>`\n";
    let start = "ValueError: profile name must match [a-z0-9][a-z0-9_-]*, got 'Bad'\nFalse\n\
        ValueError: profile name must match [a-z0-9][a-z0-9_-]*, got 'gateway-Bad'\nValueError: hermes-s6: fatal: ";
    let (first, rest) = said.split_at(3 * absent.len());
    assert_eq!(first, absent.repeat(3));
    assert!(rest.starts_with(start), "{rest}");
    let rest: Vec<&str> = rest.lines().skip(4).collect();
    let [other, taken, none, running @ .., failed, why, inside] = &rest[..] else {
        panic!("{rest:?}");
    };
    assert!(other.starts_with("GatewayNotRegisteredError: "), "{other}");
    let expected = "ValueError: profile gateway 'default' already registered at /run/hermes-s6/service/gateway-default";
    assert_eq!(*taken, expected);
    assert_eq!(*none, "None");
    // The last one is what keeps the tree where the init is ours.
    assert_eq!(running.len(), 5, "{running:?}");
    assert!(running[..4].iter().all(|line| line.ends_with(" False")));
    assert_eq!(*failed, "gateway-broken start 1 True");
    assert!(why.contains("gateway-broken is parked: exit 78"), "{why}");
    begins(
        &inside,
        "S6CommandError: s6-svc stop on 'gateway-default' failed (rc=1): hermes-s6: fatal: refusing",
    );
}

#[test]
fn a_slot_is_registered_with_an_environment_of_its_own() {
    volume!(volume, "profile default; profile coder");
    let container = volume.start(&[], &[]);
    container.await_states("down", &["default", "coder"]);
    let said = hermes(
        &container,
        r#"
manager = sm.get_service_manager()
def register(**options):
    of(manager.register_profile_gateway, "coder", **options)
    print(manager.list_profile_gateways())
of(manager.unregister_profile_gateway, "coder")
for name in "A=B", "../run", "", "1":
    register(extra_env={name: "x"})
register(extra_env={"API_SERVER_PORT": "1"})
register(extra_env={"TELEGRAM_BOT_TOKEN": "one"}, start_now=False)
print(manager.is_running("gateway-coder"))
of(manager.unregister_profile_gateway, "coder")
register(extra_env={"TELEGRAM_BOT_TOKEN": "two"})
print(manager.is_running("gateway-coder"))
"#,
    );
    let bad = "ValueError: not a variable of the environment: ";
    let mut expected = "None\n".to_owned();
    for name in ["A=B", "../run", "", "1"] {
        writeln!(expected, "{bad}'{name}'\n['default']").unwrap();
    }
    assert!(said.starts_with(&expected), "{said}");
    let rest: Vec<&str> = said[expected.len()..].lines().collect();
    assert!(rest[0].starts_with("S6Error: unable to write"), "{rest:?}");
    assert_eq!(rest[1], "['default']");
    assert_eq!(rest[2], "None");
    assert!(rest[3].contains("'coder'"), "{rest:?}");
    assert_eq!(&rest[4..6], ["False", "None"]);
    assert_eq!(rest[6], "None");
    assert_eq!(rest[8], "True");
    let events = volume.script("0", "cat /opt/data/profiles/coder/events");
    assert!(events.contains("token=two"), "{events}");
    let file =
        container.sh("stat -c '%a %U' /run/hermes-s6/service/gateway-coder/env/TELEGRAM_BOT_TOKEN");
    assert_eq!(file, "600 hermes\n");
}

#[test]
fn a_new_profile_gets_its_slot_and_a_deleted_one_leaves_nothing() {
    volume!(volume, "profile default running");
    let container = volume.begin(&[], &["default"]);
    let said = hermes(
        &container,
        "print(profiles.create_profile('coder', no_alias=True, no_skills=True))",
    );
    assert_eq!(said, "/opt/data/profiles/coder\n");
    container.await_states("down", &["coder"]);
    container.sh("test -f /run/hermes-s6/service/gateway-coder/down");
    container.hermes_s6("start -p coder");
    assert_eq!(processes(&container, "-p coder").len(), 1);
    let said = hermes(&container, "profiles.delete_profile('coder', yes=True)");
    assert!(said.contains("Profile 'coder' deleted."), "{said}");
    assert!(!said.contains("Could not"), "{said}");
    for left in ["gateway-coder", "-p coder", "gateways/coder"] {
        assert_eq!(processes(&container, left), [""; 0], "{left}");
    }
    assert_eq!(slots(&container), "gateway-default\n");
    assert_eq!(container.list(), "default ready\n");
    // The same name again is a new profile, with a slot that works.
    hermes(
        &container,
        "profiles.create_profile('coder', no_alias=True, no_skills=True)",
    );
    container.hermes_s6("start -p coder");
    assert_eq!(container.life("coder")[0], 1);
}

#[test]
fn in_a_container_that_was_never_roots_a_new_profile_has_one_slot() {
    volume!(volume, "profile default");
    // Hermes itself could write into /run/service there.
    let mut options = vec!["--user=10000:10000"];
    if !init_is_ours() {
        options.extend(["--cap-drop=ALL", "--security-opt=no-new-privileges"]);
        options.push("--tmpfs=/run:exec,uid=10000,gid=10000");
    }
    let container = volume.start(&options, &[]);
    container.await_states("down", &["default"]);
    hermes(
        &container,
        "profiles.create_profile('coder', no_alias=True, no_skills=True)",
    );
    container.await_states("down", &["coder"]);
    let ran = container.exec(&["sh", "-c", "ls -A /run/service"]);
    assert!(!ran.stdout.contains("gateway"), "{ran:?}");
}

#[test]
fn a_renamed_profile_keeps_its_gateway() {
    let prepare = "profile default; profile ran running; profile stopped stopped; profile guess running gateway_state";
    volume!(volume, prepare);
    let container = volume.begin(&[], &["ran", "guess"]);
    container.await_states("down", &["stopped"]);
    for name in ["ran", "stopped", "guess"] {
        let said = hermes(
            &container,
            &format!("print(profiles.rename_profile('{name}', 'new-{name}'))"),
        );
        closes(&said, format!("/opt/data/profiles/new-{name}\n"));
        assert!(!said.contains("Could not"), "{said}");
    }
    let expected = "default down\nnew-guess ready\nnew-ran ready\nnew-stopped down\n";
    assert_eq!(container.list(), expected);
    assert_eq!(container.life("new-ran"), [2, 1, 1]);
    assert_eq!(container.life("new-guess"), [2, 1, 1]);
    assert_eq!(container.life("new-stopped"), [0, 0, 0]);
    assert_eq!(processes(&container, "gateway-ran"), [""; 0]);
    let stopped = volume.script("0", "cat /opt/data/profiles/new-stopped/gateway_state.json");
    assert!(stopped.contains("stopped"), "{stopped}");
    container.restart();
    container.await_states("ready", &["new-ran", "new-guess"]);
    container.await_states("down", &["new-stopped"]);
}

#[test]
fn a_rename_that_fails_leaves_the_gateway_as_it_was() {
    volume!(
        volume,
        "profile default; profile ran running; profile other"
    );
    let container = volume.begin(&[], &["ran"]);
    // What is refused does not even stop it.
    let said = hermes(
        &container,
        "for names in ('ran', 'other'), ('ran', 'default'), ('ran', 'B!'), ('default', 'x'), ('absent', 'x'):
    of(profiles.rename_profile, *names)",
    );
    let kinds: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(
        kinds,
        [
            "FileExistsError",
            "ValueError",
            "ValueError",
            "ValueError",
            "FileNotFoundError"
        ]
    );
    assert_eq!(container.life("ran"), [1, 0, 0]);
    // What fails on the way does, and starts it again.
    let said = hermes(
        &container,
        "def rename(*names):
    raise OSError('no space')
Path.rename = rename
of(profiles.rename_profile, 'ran', 'new')",
    );
    assert_eq!(said, "OSError: no space\n");
    container.await_states("ready", &["ran"]);
    assert_eq!(container.life("ran"), [2, 1, 1]);
    let expected = "gateway-default\ngateway-other\ngateway-ran\n";
    assert_eq!(slots(&container), expected);
}

#[test]
fn a_real_gateway_is_told_once_when_its_profile_is_renamed() {
    volume!(volume, "profile default; profile coder running");
    let real = [
        "--env=HERMES_S6_HERMES=/opt/hermes/.venv/bin/hermes",
        "--env=HERMES_GATEWAY_MAX_STARTS=0",
    ];
    let container = volume.begin(&real, &["coder"]);
    // It has told the world of itself before it can be told anything.
    container.wait_for("its pid file", || {
        !volume
            .script("0", "ls /opt/data/profiles/coder/gateway.pid || true")
            .is_empty()
    });
    hermes(&container, "profiles.rename_profile('coder', 'builder')");
    container.await_states("ready", &["builder"]);
    let log = volume.script("0", "cat /opt/data/profiles/builder/logs/gateway.log");
    let count = |what| log.matches(what).count();
    assert_eq!(count("Shutdown context: signal=SIGTERM"), 1, "{log}");
    assert_eq!(count("Starting Hermes Gateway"), 2, "{log}");
    assert_eq!(slots(&container), "gateway-builder\ngateway-default\n");
    // The name in PATH lets slots follow as well: the two of them do not get into each other's way.
    let rename = ["hermes", "profile", "rename", "builder", "third"];
    let ran = container.exec_as("hermes", &rename).ends(0);
    assert!(!(ran.stdout + &ran.stderr).contains("Could not"));
    container.await_states("ready", &["third"]);
    let log = volume.script("0", "cat /opt/data/profiles/third/logs/gateway.log");
    let count = |what| log.matches(what).count();
    assert_eq!(count("Shutdown context: signal=SIGTERM"), 2, "{log}");
    assert_eq!(count("Starting Hermes Gateway"), 3, "{log}");
    assert_eq!(slots(&container), "gateway-default\ngateway-third\n");
}

#[test]
fn an_imported_and_an_installed_profile_get_slots() {
    volume!(volume, "profile default");
    let container = volume.start(&[], &[]);
    container.await_states("down", &["default"]);
    container.sh(
        "mkdir -p /tmp/from/archive /tmp/package
        touch /tmp/from/archive/SOUL.md /tmp/package/SOUL.md
        tar -C /tmp/from -czf /tmp/archive.tgz archive
        printf 'name: package\\nversion: 1.0.0\\ndescription: x\\n' >/tmp/package/distribution.yaml",
    );
    let said = hermes(
        &container,
        "from hermes_cli.profile_distribution import install_distribution
print(profiles.import_profile('/tmp/archive.tgz'))
print(profiles.import_profile('/tmp/archive.tgz', name='second'))
print(install_distribution('/tmp/package').target_dir)
print(install_distribution('/tmp/package', name='third', create_alias=False).manifest.name)
print(install_distribution('/tmp/package', force=True).existing)",
    );
    let expected = "/opt/data/profiles/archive\n/opt/data/profiles/second\n/opt/data/profiles/package\nthird\nTrue\n";
    assert_eq!(said, expected);
    let expected = "default down\narchive down\npackage down\nsecond down\nthird down\n";
    assert_eq!(container.list(), expected);
}

#[test]
fn inside_a_gateway_its_own_profile_is_neither_renamed_nor_deleted() {
    volume!(
        volume,
        "profile default; profile coder running; profile other"
    );
    let container = volume.begin(&[], &["coder"]);
    let before = container.pid("coder");
    let gateway = "env _HERMES_GATEWAY=1 HERMES_HOME=/opt/data/profiles/coder";
    let code = "from hermes_cli import profiles
for change in (lambda: profiles.rename_profile('coder', 'builder'), lambda: profiles.delete_profile('Coder', yes=True)):
    try:
        change()
    except ValueError as error:
        print(error)
profiles.delete_profile('other', yes=True)";
    let words = [&*gateway.words(), &[PYTHON, "-c", code]].concat();
    let said = container.exec_as("hermes", &words).stdout;
    let refused = "Refusing to rename or delete 'coder' from inside its own gateway process.\n";
    assert!(said.starts_with(&[refused, refused].concat()), "{said}");
    assert!(!said.contains('⚠'), "{said}");
    assert_eq!(container.pid("coder"), before);
    container.sh("test -d /opt/data/profiles/coder; test ! -e /opt/data/profiles/other");
    // By its command line, too, whichever profile that is about.
    for door in ["hermes", MODULE] {
        for profile in ["", " -p default"] {
            let line = format!("{gateway} {door}{profile} profile delete coder -y");
            let ran = container.exec_as("hermes", &*line).ends(1);
            ran.says("Refusing to ");
        }
    }
    assert_eq!(container.pid("coder"), before);
}

#[test]
fn hermes_says_that_s6_supervises() {
    volume!(volume, "profile default; profile coder running");
    let container = volume.begin(&[], &["coder"]);
    let said = hermes(
        &container,
        "import os, hermes_constants
from hermes_cli import doctor, gateway
def show():
    found = gateway.get_gateway_runtime_snapshot()
    print(found.manager, found.service_installed, found.service_running, found.service_scope)
for container in hermes_constants.is_container(), False:
    hermes_constants.is_container = lambda: container
    for home in '/opt/data/profiles/coder', '/opt/data':
        os.environ['HERMES_HOME'] = home
        show()
doctor._check_s6_supervision([])",
    );
    let up = "s6 (container supervisor) True True s6\n";
    let down = "s6 (container supervisor) True False s6\n";
    let expected = format!("{up}{down}{up}{down}");
    assert!(said.starts_with(&expected), "{said}");
    assert!(said.contains("s6 Supervision"), "{said}");
    has(
        &said,
        "Per-profile gateways: 1/2 supervised up (coder, default)",
    );
}

#[test]
fn hermes_as_a_module_says_what_hermes_in_path_says() {
    volume!(volume, "profile default; profile coder; profile writer");
    let container = volume.start(&[], &[]);
    container.await_states("down", &["default", "coder", "writer"]);
    volume.script("10000:10000", "echo writer >/opt/data/active_profile");
    // Another profile than the active one: the child must not work that out anew.
    let module = |line: &str| container.exec_as("hermes", &*format!("{MODULE} {line}"));
    let path = |line: &str| container.exec_as("hermes", &*format!("hermes {line}"));
    for line in [
        "-p coder gateway start",
        "-p default gateway start",
        "gateway start",
    ] {
        module(line).ends(0);
    }
    let all = "default ready\ncoder ready\nwriter ready\n";
    assert_eq!(container.list(), all);
    for line in [
        "-p coder gateway start",
        "gateway list",
        "-p coder gateway status",
        "gateway install",
        "gateway uninstall",
    ] {
        let (module, path) = (module(line), path(line));
        assert_eq!(module.code, path.code, "{line} {module:?} {path:?}");
        // Below its first line, the status tells times.
        let lines = if line.ends_with("status") { 1 } else { 99 };
        let [said, wanted] = [&module, &path].map(|ran| ran.stdout.lines().take(lines));
        assert!(said.eq(wanted), "{line} {module:?} {path:?}");
        assert_ne!(module.stdout, "", "{line}");
        assert_eq!(module.stderr, path.stderr, "{line}");
    }
    module("gateway stop --all").ends(0);
    assert_eq!(container.list(), "default down\ncoder down\nwriter down\n");
}

#[test]
fn gateway_run_as_a_module_starts_the_supervised_gateway() {
    volume!(volume, "profile default; profile coder");
    let container = volume.start(&[], &[]);
    container.await_states("down", &["default", "coder"]);
    let exec = format!("exec --detach --user hermes {}", container.name);
    docker_ok(&*format!("{exec} {MODULE} -p coder gateway run"));
    container.await_states("ready", &["coder"]);
    assert_eq!(container.life("coder"), [1, 0, 0]);
}

/// Checks that Hermes is what it was without the bridge, and gives what it said about that.
fn is_out(container: &Container) -> String {
    others_are_out(container, "set()")
}

/// Checks that Hermes is what it was without the bridge, but for a service manager from these modules.
fn others_are_out(container: &Container, but: &str) -> String {
    let code = format!(
        "{NAMES}
from hermes_cli import gateway, profile_distribution
ours = [sm.S6ServiceManager, sm._s6_running, gateway.gateway_command, gateway.get_gateway_runtime_snapshot,
    profiles.rename_profile, profiles.import_profile, profile_distribution.install_distribution]
print({{getattr(each, '__wrapped__', each).__module__ for each in ours if hasattr(each, '__wrapped__')
    or not each.__module__.startswith('hermes_cli.')}})"
    );
    let ran = python(container, &code);
    let expected = format!("{but}\n");
    assert_eq!((ran.code, &ran.stdout[..]), (0, &expected[..]), "{ran:?}");
    ran.stderr
}

const BRIDGE: &str = "/usr/share/hermes-s6/python/hermes_s6_bridge.py";
const HERMES: &str = "/opt/hermes/.venv/lib/python3*/site-packages/hermes_cli";

#[test]
fn what_it_does_not_know_stays_as_it_is() {
    volume!(volume, "profile default");
    let container = volume.begin(&[], &[]);
    let warning = "Hermes does not use hermes-s6: ";
    container.sh(&format!(
        "sed -i.old 's/0\\.19\\.0/0.19.99/' {HERMES}/__init__.py"
    ));
    let said = others_are_out(&container, "{'hermes_s6_bridge'}");
    assert_eq!(
        said,
        "hermes-s6 knows Hermes 0.19.0, and this is 0.19.99: only its service manager is replaced\n"
    );
    container.sh(&format!("cd {HERMES} && mv __init__.py.old __init__.py"));
    // A name that is missing in one of them concerns those that were changed before.
    container.sh(&format!(
        "cd {HERMES} && cp profile_distribution.py old
        printf 'install = install_distribution\\ndel install_distribution\\n' >>profile_distribution.py"
    ));
    let code = format!(
        "{NAMES}
from hermes_cli import gateway, profile_distribution
print(sm.S6ServiceManager.__module__, profiles.rename_profile.__module__, hasattr(gateway.gateway_command, '__wrapped__'))"
    );
    let ran = python(&container, &code);
    assert_eq!(
        (ran.code, &ran.stdout[..]),
        (0, "hermes_cli.service_manager hermes_cli.profiles False\n"),
        "{ran:?}"
    );
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert!(ran.stderr.starts_with(warning), "{ran:?}");
    ran.warns("install_distribution");
    container.sh(&format!("cd {HERMES} && mv old profile_distribution.py"));
    hermes(
        &container,
        "assert type(sm.get_service_manager()).__module__ == 'hermes_s6_bridge'",
    );
}

/// A stand-in for a Hermes whose service manager is in the package `gateway`, as far as the bridge sees it.
const NEW_LAYOUT: &str = "mkdir -p /tmp/new/hermes_cli /tmp/new/gateway && cd /tmp/new
echo '__version__ = \"0.99.0\"' >hermes_cli/__init__.py
echo 'def rename_profile(old, new): return old' >hermes_cli/profiles.py
touch gateway/__init__.py
cat >gateway/service_manager.py <<'END'
def _s6_running():
    return False
def get_service_manager():
    from gateway.s6_manager import S6ServiceManager
    assert _s6_running()
    return S6ServiceManager()
END
cat >gateway/s6_manager.py <<'END'
from pathlib import Path
S6_SERVICE_PREFIX = 'gateway-'
class S6Error(RuntimeError):
    pass
class GatewayNotRegisteredError(S6Error):
    pass
class S6CommandError(S6Error):
    def __init__(self, *, service, action, returncode, stderr):
        super().__init__(f'{action} {service}: {stderr}')
def validate_profile_name(name):
    pass
class S6ServiceManager:
    kind = 's6'
    def __init__(self, scandir=Path('/run/service')):
        self.scandir = scandir
    def _service_dir(self, profile):
        return self.scandir / f'gateway-{profile}'
END
";

#[test]
fn the_service_manager_is_found_in_either_place() {
    volume!(volume, "profile default; profile coder");
    let container = volume.begin(&[], &[]);
    container.sh(NEW_LAYOUT);
    let code = "
from gateway import service_manager
from hermes_cli import profiles
manager = service_manager.get_service_manager()
print(type(manager).__module__, manager.scandir, profiles.rename_profile.__module__)
manager.start('gateway-coder')
print(manager.is_running('gateway-coder'))
manager.stop('gateway-coder')
try:
    manager.start('gateway-absent')
except Exception as error:
    print(type(error).__name__)
";
    let run = || {
        let env = ["env", "PYTHONPATH=/tmp/new", PYTHON, "-c", code];
        container.exec_as("hermes", &env)
    };
    let known =
        "hermes-s6 knows Hermes 0.19.0, and this is 0.99.0: only its service manager is replaced\n";
    run().is(
        0,
        "hermes_s6_bridge /run/hermes-s6/service hermes_cli.profiles\nTrue\nGatewayNotRegisteredError\n",
        known,
    );
    // What is missing there is said, once, and nothing is replaced.
    container.sh("sed -i 's/class S6ServiceManager/class Manager/' /tmp/new/gateway/s6_manager.py");
    let ran = run();
    assert_ne!(ran.code, 0, "{ran:?}");
    let said = "Hermes does not use hermes-s6: gateway.s6_manager has no S6ServiceManager\n";
    assert_eq!(ran.stderr.matches(said).count(), 1, "{ran:?}");
}

#[test]
fn a_bridge_that_cannot_work_breaks_no_python() {
    volume!(volume, "profile default");
    let container = volume.begin(&[], &[]);
    let quiet = |why: &str| {
        let ran = python(
            &container,
            "import sys; print('hermes_s6_bridge' in sys.modules)",
        );
        assert_eq!(
            (ran.code, &ran.stdout[..], &ran.stderr[..]),
            (0, "False\n", ""),
            "{why}"
        );
    };
    quiet("as it is");
    container.sh(&format!(
        "cp {BRIDGE} /tmp/bridge && echo 'def (' >{BRIDGE}"
    ));
    quiet("broken");
    let said = is_out(&container);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("hermes-s6.pth: "), "{said}");
    container.sh(&format!("rm {BRIDGE}"));
    quiet("missing");
    let said = is_out(&container);
    assert_eq!(said, "hermes-s6.pth: No module named 'hermes_s6_bridge'\n");
    container.sh("mv /usr/share/hermes-s6/python /usr/share/hermes-s6/away");
    quiet("all of it missing");
    assert_eq!(is_out(&container), "");
    container.sh(&format!(
        "mv /usr/share/hermes-s6/away /usr/share/hermes-s6/python && cp /tmp/bridge {BRIDGE}
        mv /usr/local/bin/hermes-s6 /usr/local/bin/away"
    ));
    quiet("without the program");
    assert_eq!(is_out(&container), "");
    container.sh("mv /usr/local/bin/away /usr/local/bin/hermes-s6");
}

#[test]
fn a_program_that_goes_away_is_an_error_that_hermes_knows() {
    volume!(volume, "profile default");
    let container = volume.start(&[], &[]);
    container.await_states("down", &["default"]);
    container.sh("printf '#!/bin/sh\\nexec sleep 60\\n' >/usr/local/bin/hangs; chmod 755 /usr/local/bin/hangs");
    let said = hermes(
        &container,
        "import hermes_s6_bridge as bridge
manager = sm.get_service_manager()
bridge.BINARY = '/absent'
of(manager.start, 'gateway-default')
of(manager.is_running, 'gateway-default')
of(sm._s6_running)
bridge.BINARY, bridge.TIMEOUT = '/usr/local/bin/hangs', 1
of(manager.stop, 'gateway-default')",
    );
    assert_eq!(
        said,
        "S6CommandError: s6-svc start on 'gateway-default' failed (rc=127): unable to run /absent: No such file or directory
False
False
S6CommandError: s6-svc stop on 'gateway-default' failed (rc=99): /usr/local/bin/hangs has not ended after 1 s
"
    );
}

#[test]
fn another_finder_of_modules_does_not_set_two_of_ours_on_each_other() {
    volume!(volume, "profile default");
    let container = volume.begin(&[], &[]);
    let other = "import sys; sys.meta_path.insert(0, type('Z', (), {'find_spec': staticmethod(lambda *a: None)}))";
    container.sh(&format!(
        "cd /opt/hermes/.venv/lib/python3*/site-packages; echo \"{other}\" >zzz.pth"
    ));
    let ran = python(
        &container,
        "import hermes_cli.service_manager as m; print(m.S6ServiceManager().scandir)",
    );
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "/run/hermes-s6/service\n"),
        "{ran:?}"
    );
}

#[test]
fn doctor_says_that_hermes_does_not_load_the_bridge() {
    volume!(volume, "profile default");
    let real = "--env=HERMES_S6_HERMES=/opt/hermes/.venv/bin/hermes";
    let container = volume.start(&[real], &[]);
    container.await_tree();
    let doctor = || container.exec_as("hermes", "hermes-s6 doctor").stdout;
    let said = doctor();
    closes(&said, "problems: 0, warnings: 0, unknown: 0\n");
    container.sh("rm /opt/hermes/.venv/lib/python3*/site-packages/hermes-s6.pth");
    let said = doctor();
    has(&said, "tools: Hermes' own code does not use hermes-s6: ");
    has(&said, "link or copy /usr/share/hermes-s6/python/");
}
