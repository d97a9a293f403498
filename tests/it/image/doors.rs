//! The commands of the real Hermes 0.19.0, through both of its doors: its name in PATH, and a module of its
//! Python, as whatever runs beside its own code calls it. Each scenario is the same for both.
//!
//! What Hermes 0.19.0 does wrong under s6 by itself, and which test shows that it does not here:
//!
//! | defect | test |
//! |---|---|
//! | 1. a renamed profile: the old slot crash-loops, and the new name has none | `a_renamed_profile_takes_its_gateway_along_and_leaves_nothing` |
//! | 2. a deleted profile leaves its supervisors | `a_deleted_profile_leaves_no_process_and_no_slot` |
//! | 3. a restart of a stopped gateway does nothing, and says nothing of it | `a_restart_runs_a_gateway_whatever_it_did` |
//! | 4. `stop --all` announces the stop in one home only, so that the others fail | `stop_all_announces_itself_in_each_home` |
//! | 5. `start --all` kills all gateways, and starts none | `start_all_starts_what_is_down_and_touches_nothing_else` |
//! | 6. one bad directory or state file costs all profiles their slots | `volume::a_name_that_no_profile_can_have_costs_only_itself`, `volume::a_state_file_that_says_nothing_costs_only_its_own_intent` |
//! | 7. `multiplex_profiles` in config.yaml: named gateways crash-loop | `golden::one_gateway_for_all_holds_the_named_ones_down` |
//! | 8. who starts first has the port | `real::two_real_gateways_answer_on_their_ports_before_and_after_a_restart` |
//! | 9. what root creates, gateways cannot read | `what_root_does_to_profiles_is_hermes` |
//! | 10. the status knows no s6, and nothing is confirmed | `the_status_is_that_of_s6`, `a_start_is_waited_for_and_confirmed` |

use std::fmt;

use super::bridge::{PYTHON, hermes as python, processes, slots};
use super::{Container, FUNCTIONS, TREE, docker_ok, docker_with_input, never_root};
use crate::support::Ran;

/// A way to run Hermes in a container.
struct Door {
    /// For the names of its own profiles.
    tag: &'static str,
    user: &'static str,
    words: &'static [&'static str],
}

const NAME: Door = Door {
    tag: "name",
    user: "hermes",
    words: &["hermes"],
};

const MODULE: Door = Door {
    tag: "module",
    user: "hermes",
    words: &[PYTHON, "-m", "hermes_cli.main"],
};

/// The user of `docker exec`, unless it is told otherwise.
const AS_ROOT: Door = Door {
    tag: "asroot",
    user: "root",
    words: &["hermes"],
};

const DOORS: [Door; 2] = [NAME, MODULE];

const ALL_DOORS: [Door; 3] = [NAME, MODULE, AS_ROOT];

impl fmt::Display for Door {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} as {}", self.words.join(" "), self.user)
    }
}

impl Door {
    /// Runs a command line with options of `docker exec`, and gives all that it came to.
    fn run(&self, container: &Container, options: &[&str], words: &[&str], input: &str) -> Ran {
        let exec = ["exec", "--interactive", "--user", self.user];
        let place = [container.name.as_str()];
        let words = [&exec[..], options, &place, self.words, words].concat();
        let ran = docker_with_input(&words, Some(input));
        // What no line shall ever come to.
        for bad in ["Traceback", "Could not", "manually", "stale gateway"] {
            let fine = !ran.stdout.contains(bad) && !ran.stderr.contains(bad);
            assert!(fine, "{self}: {words:?}: {ran:?}\n{}", container.explain());
        }
        ran
    }

    /// Runs a command line, split at blanks, that must have an exit code, and gives what it printed.
    fn ends_with(&self, container: &Container, options: &[&str], line: &str, code: i32) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let ran = self.run(container, options, &words, "");
        let explain = || container.explain();
        assert_eq!(ran.code, code, "{self}: {line}: {ran:?}\n{}", explain());
        ran.stdout + &ran.stderr
    }

    /// Runs a command line, which must succeed and say something.
    fn says(&self, container: &Container, line: &str, what: &str) -> String {
        let said = self.ends_with(container, &[], line, 0);
        assert!(said.contains(what), "{self}: {line}: {said}");
        said
    }

    /// Runs a command line that must be refused with an exit code and a message.
    fn refuses(&self, container: &Container, line: &str, code: i32, why: &str) {
        let said = self.ends_with(container, &[], line, code);
        assert!(said.contains(why), "{self}: {line}: {said}");
    }

    fn start(&self, container: &Container, profile: &str) {
        let line = format!("-p {profile} gateway start");
        self.says(container, &line, &ready(profile));
    }

    fn create(&self, container: &Container, profile: &str) {
        let line = format!("profile create {profile} --no-alias --no-skills");
        let done = format!("Profile '{profile}' created at /opt/data/profiles/{profile}\n");
        self.says(container, &line, &done);
    }
}

/// What is said of a gateway that was started, up to its pid.
fn ready(profile: &str) -> String {
    format!("✓ gateway-{profile} is ready (pid ")
}

/// Gateways of the real Hermes, which slows a sixth start within two minutes down unless it is told not to.
const REAL: [&str; 2] = [
    "--env=HERMES_S6_HERMES=/opt/hermes/.venv/bin/hermes",
    "--env=HERMES_GATEWAY_MAX_STARTS=0",
];

/// How often a stand-in gateway has started, has been told to end, has saved, and knew that it was planned.
fn life(container: &Container, profile: &str) -> [usize; 4] {
    let events = container.sh(&format!(
        "cat \"$(home {profile})/events\" 2>/dev/null || true"
    ));
    ["start", "TERM", "saved", "planned"].map(|event| {
        let words = events.lines().filter_map(|line| line.split(' ').next());
        words.filter(|word| *word == event).count()
    })
}

/// What the operator last asked for.
fn intent(container: &Container, profile: &str) -> String {
    let read = r#"sed -n 's/.*"desired_state": *"\([a-z]*\)".*/\1/p' "#;
    let text = container.sh(&format!("{read} \"$(home {profile})/gateway_state.json\""));
    text.trim_end().to_owned()
}

/// A gateway that serves, as [`supervised`] tells it.
const UP: &str = "true true";

/// One that does not run.
const DOWN: &str = "false false";

/// What s6 knows of a slot: whether it is up, and whether it is ready.
fn supervised(container: &Container, profile: &str) -> String {
    svstat(container, "up,ready", profile)
}

/// Asks s6 about a slot.
fn svstat(container: &Container, fields: &str, profile: &str) -> String {
    let text = container.sh(&format!("s6-svstat -o {fields} {TREE}/gateway-{profile}"));
    text.trim_end().to_owned()
}

/// All that a command can change: profiles, slots, processes and intents.
fn everything(container: &Container) -> String {
    container.sh(&format!(
        "cd /opt/data; ls -A profiles
        for slot in {TREE}/gateway-*; do
          echo \"${{slot##*/}} $(s6-svstat -o wantedup,pid \"$slot\")\"
        done
        grep -so '\"desired_state\": *\"[a-z]*\"' gateway_state.json profiles/*/gateway_state.json || true"
    ))
}

/// Checks that nothing of a profile is left in the container: no slot, and no process that knows its name.
fn is_gone(container: &Container, profile: &str) {
    let slot = format!("gateway-{profile}");
    assert!(!slots(container).lines().any(|line| line == slot), "{slot}");
    let log = format!("gateways/{profile}");
    let named = format!("-p {profile} ");
    let all = processes(container, "");
    for word in [slot, log, named] {
        let left: Vec<&String> = all.iter().filter(|line| line.contains(&word)).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_created_profile_has_its_slot_down() {
    volume!(volume, "profile default running");
    let container = volume.begin(&[], &["default"]);
    for door in ALL_DOORS {
        door.create(&container, door.tag);
        container.sh(&format!("test -f {TREE}/gateway-{}/down", door.tag));
    }
    let states = "default ready\nasroot down\nmodule down\nname down\n";
    assert_eq!(container.list(), states);
    let strangers = format!("find /opt/data {TREE}/gateway-* ! -user hermes");
    assert_eq!(container.sh(&strangers), "");
    assert_eq!(life(&container, "default"), [1, 0, 0, 0]);
}

#[test]
fn what_root_does_to_profiles_is_hermes() {
    volume!(volume, "profile default");
    let container = volume.begin(&[], &[]);
    let strangers = format!("find /opt/data {TREE}/gateway-* ! -user hermes");
    AS_ROOT.create(&container, "coder");
    AS_ROOT.start(&container, "coder");
    AS_ROOT.says(&container, "profile rename coder writer", "coder → writer");
    assert_eq!(container.sh(&strangers), "");
    container.await_states("ready", &["writer"]);
    // So that hermes can use and delete it.
    for door in DOORS {
        door.says(&container, "-p writer gateway restart", &ready("writer"));
        assert_eq!(container.sh(&strangers), "", "{door}");
    }
    let done = "Profile 'writer' deleted.";
    MODULE.says(&container, "profile delete writer -y", done);
    is_gone(&container, "writer");
    // And the other way round.
    MODULE.create(&container, "viewer");
    AS_ROOT.start(&container, "viewer");
    let done = "Profile 'viewer' deleted.";
    AS_ROOT.says(&container, "profile delete viewer -y", done);
    is_gone(&container, "viewer");
    assert_eq!(container.sh(&strangers), "");
}

#[test]
fn a_start_is_waited_for_and_confirmed() {
    let prepare = "profile default; for name in name module asroot; do
          profile $name; behaviour $name 'ready-after 1'
        done; profile broken; behaviour broken 'exit 78'";
    volume!(volume, prepare);
    let container = volume.begin(&[], &[]);
    for Door { tag, .. } in ALL_DOORS {
        assert_eq!(supervised(&container, tag), DOWN);
    }
    for door in ALL_DOORS {
        let tag = door.tag;
        let line = format!("-p {tag} gateway start");
        let said = door.ends_with(&container, &[], &line, 0);
        assert_eq!(supervised(&container, tag), UP, "{door}");
        let pid = container.pid(tag);
        let done = format!("✓ gateway-{tag} is ready (pid {pid}, ");
        assert!(said.contains(&done), "{door}: {said}");
        assert_eq!(intent(&container, tag), "running");
        let done = format!("✓ gateway-{tag} is ready already (pid {pid})\n");
        door.says(&container, &line, &done);
        assert_eq!(life(&container, tag), [1, 0, 0, 0], "{door}");
        let why = "gateway-broken is parked: exit 78 (configuration)";
        door.refuses(&container, "-p broken gateway start", 1, why);
    }
    assert_eq!(life(&container, "default"), [0; 4]);
}

#[test]
fn the_status_is_that_of_s6() {
    let prepare =
        "profile default running; profile coder; profile viewer stopped; profile broken running
        behaviour broken 'exit 78'";
    volume!(volume, prepare);
    let container = volume.begin(&[], &["default"]);
    container.await_states("parked", &["broken"]);
    let manager = "Manager: s6 (container supervisor)\n";
    for door in ALL_DOORS {
        let running = format!(
            "✓ Gateway is running (PID: {})\n{manager}",
            container.pid("default")
        );
        let said = door.says(&container, "gateway status", &running);
        for line in [
            "\nOther profiles:\n",
            "  ✗ broken                   — not running (parked)\n",
            "  ✗ coder                    — not running (down)\n",
        ] {
            assert!(said.contains(line), "{door}: {said}");
        }
        let is_not = format!("✗ Gateway is not running\n{manager}");
        door.says(&container, "-p coder gateway status", &is_not);
        door.says(&container, "-p viewer gateway status --deep -l", &is_not);
        let said = door.ends_with(&container, &[], "-p broken gateway status", 1);
        for part in [
            &is_not,
            "broken wants running, is parked: exit 78 (configuration), ",
            "\nRemedy: hermes-s6 start -p broken\n",
        ] {
            assert!(said.contains(part), "{door}: {said}");
        }
    }
}

#[test]
fn the_summary_of_hermes_names_s6() {
    volume!(volume, "profile default; profile coder running");
    let container = volume.begin(&[], &["coder"]);
    // Else Hermes tries for a long time to install what its summary could use.
    let options = ["--env=HERMES_DISABLE_LAZY_INSTALLS=1"];
    for door in DOORS {
        for (line, state) in [("status", "✗ stopped"), ("-p coder status", "✓ running")] {
            let said = door.ends_with(&container, &options, line, 0);
            let service = said.split("Gateway Service\n").nth(1).unwrap_or(&said);
            let expected = [
                format!("  Status:       {state}"),
                "  Manager:      s6 (container supervisor)".to_owned(),
            ];
            let lines: Vec<&str> = service.lines().take(2).collect();
            assert_eq!(lines, expected, "{door}: {said}");
        }
    }
}

#[test]
fn a_restart_runs_a_gateway_whatever_it_did() {
    let prepare = "profile default
        for name in name module asroot; do profile $name stopped; done";
    volume!(volume, prepare);
    let container = volume.begin(&[], &[]);
    for door in ALL_DOORS {
        let tag = door.tag;
        let line = format!("-p {tag} gateway restart");
        door.says(&container, &line, &ready(tag));
        assert_eq!(supervised(&container, tag), UP, "{door}");
        assert_eq!(intent(&container, tag), "running");
        assert_eq!(life(&container, tag), [1, 0, 0, 0], "{door}");
        let before = container.pid(tag);
        door.says(&container, &line, &ready(tag));
        assert_ne!(container.pid(tag), before, "{door}");
        assert_eq!(supervised(&container, tag), UP, "{door}");
        assert_eq!(life(&container, tag), [2, 1, 1, 0], "{door}");
    }
}

#[test]
fn a_stopped_gateway_has_ended_well_and_stays_down_with_its_container() {
    let prepare = "for name in default name module asroot; do profile $name running; done";
    volume!(volume, prepare);
    let tags = ALL_DOORS.map(|door| door.tag);
    let container = volume.begin(&[], &["default"]);
    container.await_states("ready", &tags);
    for door in ALL_DOORS {
        let tag = door.tag;
        let line = format!("-p {tag} gateway stop");
        door.says(&container, &line, &format!("✓ gateway-{tag} is down ("));
        let ended = svstat(&container, "up,exitcode", tag);
        assert_eq!(ended, "false 0", "{door}");
        assert_eq!(intent(&container, tag), "stopped");
        assert_eq!(life(&container, tag), [1, 1, 1, 1], "{door}");
        let done = format!("✓ gateway-{tag} is down already\n");
        door.says(&container, &line, &done);
    }
    container.restart();
    container.await_states("ready", &["default"]);
    container.await_states("down", &tags);
    for tag in tags {
        assert_eq!(life(&container, tag), [1, 1, 1, 1]);
    }
}

#[test]
fn stop_all_announces_itself_in_each_home() {
    let all = ["default", "coder", "writer"];
    let prepare = "for name in default coder writer; do profile $name running; done";
    volume!(volume, prepare);
    let container = volume.begin(&[], &all);
    let lines = ["gateway stop --all", "-p coder gateway stop --all"];
    let mut round = 0;
    for (door, line) in ALL_DOORS.iter().zip(lines.into_iter().cycle()) {
        round += 1;
        let done = "✓ Stopped 3 profile gateway(s) under s6\n";
        let said = door.says(&container, line, done);
        for profile in all {
            let done = format!("✓ gateway-{profile} is down (");
            assert!(said.contains(&done), "{door}: {said}");
            let ended = svstat(&container, "up,exitcode", profile);
            assert_eq!(ended, "false 0", "{door}");
            assert_eq!(intent(&container, profile), "stopped");
            assert_eq!(life(&container, profile), [round; 4], "{door}");
        }
        container.hermes_s6("start --all");
    }
}

#[test]
fn start_all_starts_what_is_down_and_touches_nothing_else() {
    let prepare = "profile default running; profile coder stopped; profile writer";
    volume!(volume, prepare);
    let container = volume.begin(&[], &["default"]);
    let pid = container.pid("default");
    for (round, door) in (1..).zip(ALL_DOORS) {
        let done = "✓ Started 3 profile gateway(s) under s6\n";
        let said = door.says(&container, "gateway start --all", done);
        let done = format!("✓ gateway-default is ready already (pid {pid})\n");
        assert!(said.contains(&done), "{door}: {said}");
        for profile in ["coder", "writer"] {
            assert!(said.contains(&ready(profile)), "{door}: {said}");
            assert_eq!(supervised(&container, profile), UP, "{door}");
            let before = round - 1;
            let wanted = [round, before, before, before];
            assert_eq!(life(&container, profile), wanted, "{door}");
        }
        assert_eq!(container.pid("default"), pid, "{door}");
        container.hermes_s6("stop -p coder -p writer");
    }
    assert_eq!(life(&container, "default"), [1, 0, 0, 0]);
}

#[test]
fn restart_all_restarts_what_runs_and_leaves_down_what_was_stopped() {
    let prepare = "profile default running; profile coder running; profile writer stopped";
    volume!(volume, prepare);
    let container = volume.begin(&[], &["default", "coder"]);
    for (round, door) in (1..).zip(DOORS) {
        let done = "✓ Restarted 2 profile gateway(s) under s6\n";
        door.says(&container, "gateway restart --all", done);
        for profile in ["default", "coder"] {
            assert_eq!(supervised(&container, profile), UP, "{door}");
            let life = life(&container, profile);
            assert_eq!(life, [round + 1, round, round, 0], "{door}");
        }
    }
    assert_eq!(supervised(&container, "writer"), DOWN);
    assert_eq!(intent(&container, "writer"), "stopped");
    container.hermes_s6("stop --all");
    let before = everything(&container);
    for door in DOORS {
        let done = "✗ No profile gateways to restart under s6\n";
        door.says(&container, "gateway restart --all", done);
        assert_eq!(everything(&container), before, "{door}");
    }
}

#[test]
fn a_renamed_profile_takes_its_gateway_along_and_leaves_nothing() {
    let prepare = "profile default running; for name in name module asroot; do
          profile $name-ran running; profile $name-held stopped
        done";
    volume!(volume, prepare);
    let container = volume.begin(&[], &["default", "name-ran", "module-ran", "asroot-ran"]);
    for door in ALL_DOORS {
        let tag = door.tag;
        for what in ["ran", "held"] {
            let [old, new] = [format!("{tag}-{what}"), format!("new-{what}-{tag}")];
            let line = format!("profile rename {old} {new}");
            let done = format!("Profile renamed: {old} → {new}\n");
            door.says(&container, &line, &done);
            is_gone(&container, &old);
        }
        let why = format!("Error: Profile '{tag}-ran' does not exist.");
        door.refuses(&container, &format!("-p {tag}-ran gateway stop"), 1, &why);
        let [ran, held] = [format!("new-ran-{tag}"), format!("new-held-{tag}")];
        assert_eq!(supervised(&container, &ran), UP, "{door}");
        assert_eq!(intent(&container, &ran), "running");
        let [starts, signals, saved, _] = life(&container, &ran);
        assert_eq!([starts, signals, saved], [2, 1, 1], "{door}");
        assert_eq!(supervised(&container, &held), DOWN, "{door}");
        assert_eq!(intent(&container, &held), "stopped");
        assert_eq!(life(&container, &held), [0; 4], "{door}");
        // The new name works.
        door.says(&container, &format!("-p {ran} gateway stop"), "is down (");
    }
    assert_eq!(life(&container, "default"), [1, 0, 0, 0]);
}

#[test]
fn a_deleted_profile_leaves_no_process_and_no_slot() {
    let prepare = "for name in default name module asroot; do profile $name running; done";
    volume!(volume, prepare);
    let container = volume.begin(&[], &["default"]);
    container.await_states("ready", &ALL_DOORS.map(|door| door.tag));
    for door in ALL_DOORS {
        let tag = door.tag;
        assert_eq!(processes(&container, &format!("-p {tag} ")).len(), 1);
        let line = format!("profile delete {tag} -y");
        let done = format!("Profile '{tag}' deleted.\n");
        door.says(&container, &line, &done);
        is_gone(&container, tag);
        container.sh(&format!("test ! -e /opt/data/profiles/{tag}"));
        // The same name again is a new profile, with a slot that works.
        door.create(&container, tag);
        door.start(&container, tag);
        assert_eq!(life(&container, tag), [1, 0, 0, 0], "{door}");
    }
    assert_eq!(life(&container, "default"), [1, 0, 0, 0]);
    let warning = "unable to write status file";
    assert!(!container.said().contains(warning), "{}", container.said());
}

#[test]
fn an_imported_and_an_installed_profile_have_their_slots_down() {
    volume!(volume, "profile default; profile coder running");
    let container = volume.begin(&[], &["coder"]);
    container.sh("mkdir /tmp/package; touch /tmp/package/SOUL.md
        echo 'name: package' >/tmp/package/distribution.yaml");
    for door in ALL_DOORS {
        let tag = door.tag;
        let archive = format!("/tmp/{tag}.tar.gz");
        let line = format!("profile export coder -o {archive}");
        door.says(
            &container,
            &line,
            &format!("✓ Exported 'coder' to {archive}\n"),
        );
        let [imported, installed] = [format!("{tag}-imported"), format!("{tag}-installed")];
        let line = format!("profile import {archive} --name {imported}");
        door.says(&container, &line, &imported);
        let line = format!("profile install /tmp/package --name {installed} -y");
        door.says(&container, &line, &format!("✓ Installed '{installed}'"));
        // Whatever the archive says of the gateway that it was made of.
        assert_eq!(supervised(&container, &imported), DOWN, "{door}");
        assert_eq!(supervised(&container, &installed), DOWN, "{door}");
        door.start(&container, &imported);
    }
    let strangers = format!("find /opt/data {TREE}/gateway-* ! -user hermes");
    assert_eq!(container.sh(&strangers), "");
    assert_eq!(life(&container, "coder"), [1, 0, 0, 0]);
}

#[test]
fn what_hermes_refuses_changes_nothing() {
    let prepare = "profile default running; profile coder running; profile writer";
    volume!(volume, prepare);
    let container = volume.begin(&[], &["default", "coder"]);
    let before = everything(&container);
    let long = "a".repeat(65);
    let lines = [
        (
            &["profile", "create", "Foo Bar"][..],
            "Error: Invalid profile name 'foo bar'.",
        ),
        (
            &["profile", "create", "root"],
            "Error: Profile name 'root' is reserved",
        ),
        (
            &["profile", "create", &long],
            "Error: Invalid profile name 'aaaaa",
        ),
        (
            &["profile", "delete", "default", "-y"],
            "Error: Cannot delete the default profile",
        ),
        (
            &["profile", "delete", "ghost", "-y"],
            "Error: Profile 'ghost' does not exist.",
        ),
        (
            &["profile", "rename", "coder", "writer"],
            "Error: Profile 'writer' already exists.",
        ),
        (
            &["-p", "ghost", "gateway", "start"],
            "Error: Profile 'ghost' does not exist.",
        ),
    ];
    for door in DOORS {
        for (words, why) in lines {
            let ran = door.run(&container, &[], words, "");
            assert_eq!(ran.code, 1, "{door}: {words:?}: {ran:?}");
            let said = ran.stdout + &ran.stderr;
            assert!(said.contains(why), "{door}: {words:?}: {said}");
        }
        let why = "the following arguments are required: profile_name";
        door.refuses(&container, "profile create", 2, why);
        assert_eq!(everything(&container), before, "{door}");
    }
    assert_eq!(life(&container, "coder"), [1, 0, 0, 0]);
}

#[test]
fn a_delete_that_is_not_confirmed_changes_nothing() {
    volume!(volume, "profile default; profile coder running");
    let container = volume.begin(&[], &["coder"]);
    let before = everything(&container);
    let words = ["profile", "delete", "coder"];
    for door in ALL_DOORS {
        for answer in ["", "no\n"] {
            let ran = door.run(&container, &[], &words, answer);
            assert_eq!((ran.code, &ran.stderr[..]), (0, ""), "{door}: {ran:?}");
            ran.says("Type 'coder' to confirm: ");
            assert!(ran.stdout.ends_with("Cancelled.\n"), "{door}: {ran:?}");
            assert_eq!(everything(&container), before, "{door}: {answer:?}");
        }
    }
    assert_eq!(life(&container, "coder"), [1, 0, 0, 0]);
    // The right one.
    MODULE.run(&container, &[], &words, "coder\n").ends(0);
    is_gone(&container, "coder");
}

#[test]
fn a_missing_slot_is_registered_on_the_spot_and_a_missing_profile_is_named() {
    let prepare = "profile default; for name in name module asroot; do profile $name; done";
    volume!(volume, prepare);
    let container = volume.begin(&[], &[]);
    for door in ALL_DOORS {
        container.hermes_s6(&format!("unregister -p {}", door.tag));
        container.await_states("unregistered", &[door.tag]);
        door.start(&container, door.tag);
        assert_eq!(life(&container, door.tag), [1, 0, 0, 0], "{door}");
    }
    let before = slots(&container);
    for door in DOORS {
        let ghost = ["--env=HERMES_HOME=/opt/data/profiles/ghost"];
        for verb in ["start", "stop", "restart"] {
            let said = door.ends_with(&container, &ghost, &format!("gateway {verb}"), 1);
            let why =
                "✗ no such gateway 'ghost': register it with `hermes profile create ghost` first";
            assert!(said.starts_with(why), "{door}: {said}");
        }
        assert_eq!(slots(&container), before, "{door}");
    }
}

#[test]
fn the_active_profile_is_meant_where_none_is_named() {
    volume!(volume, "profile default running; profile coder running");
    let container = volume.begin(&[], &["default", "coder"]);
    let [default, coder] = ["gateway-default", "gateway-coder"];
    for door in DOORS {
        let done = "Switched to: coder\n";
        door.says(&container, "profile use coder", done);
        door.says(&container, "gateway stop", &format!("✓ {coder} is down ("));
        container.await_states("ready", &["default"]);
        let line = "-p default gateway stop";
        door.says(&container, line, &format!("✓ {default} is down ("));
        door.says(&container, "gateway start", &ready("coder"));
        container.await_states("down", &["default"]);
        let done = "Switched to: default";
        door.says(&container, "profile use default", done);
        door.says(&container, "gateway start", &ready("default"));
    }
    assert_eq!(life(&container, "default"), [3, 2, 2, 2]);
    assert_eq!(life(&container, "coder"), [3, 2, 2, 2]);
}

#[test]
fn a_profile_can_be_named_wherever_hermes_takes_it() {
    volume!(volume, "profile default; profile coder running");
    let container = volume.begin(&[], &["coder"]);
    let running = format!("✓ Gateway is running (PID: {})\n", container.pid("coder"));
    for door in DOORS {
        for line in [
            "-p coder gateway status",
            "gateway -p coder status",
            "gateway status -p coder",
            "gateway status --profile coder",
            "--profile=coder gateway status",
            "gateway --profile=Coder status",
        ] {
            door.says(&container, line, &running);
        }
    }
}

#[test]
fn a_profile_that_is_named_otherwise_is_refused() {
    let prepare = "for name in default coder writer; do profile $name running; done";
    volume!(volume, prepare);
    let container = volume.begin(&[], &["default", "coder", "writer"]);
    let before = everything(&container);
    for door in DOORS {
        for line in [
            "-p BAD gateway stop",
            "--profile Coder gateway stop",
            "-p=coder gateway stop",
            "-pcoder gateway stop",
            "--prof coder gateway stop",
            "-p coder gateway -p writer stop",
        ] {
            door.refuses(&container, line, 2, "usage: hermes ");
        }
        assert_eq!(everything(&container), before, "{door}");
    }
}

#[test]
fn inside_a_gateway_nothing_that_would_end_it_is_done() {
    let prepare = "profile default running; profile coder running
        for name in name module; do profile $name; profile $name-other running; done";
    volume!(volume, prepare);
    let others = ["name-other", "module-other"];
    let container = volume.begin(&[], &["default", "coder"]);
    container.await_states("ready", &others);
    let inside = [
        "--env=_HERMES_GATEWAY=1",
        "--env=HERMES_HOME=/opt/data/profiles/coder",
    ];
    for door in DOORS {
        let before = everything(&container);
        for (line, verb) in [
            ("gateway stop", "stop"),
            ("gateway restart", "restart"),
            ("-p default gateway stop", "stop"),
            ("gateway stop --all", "stop"),
        ] {
            let said = door.ends_with(&container, &inside, line, 1);
            let why = format!("✗ Refusing to {verb} the gateway from inside the gateway process");
            assert!(said.starts_with(&why), "{door}: {line}: {said}");
        }
        assert_eq!(everything(&container), before, "{door}");
        let tag = door.tag;
        let line = format!("-p {tag} gateway start");
        let said = door.ends_with(&container, &inside, &line, 0);
        assert!(said.contains(&ready(tag)), "{door}: {said}");
        // Its own is another one.
        let line = format!("profile delete {tag}-other -y");
        door.ends_with(&container, &inside, &line, 0);
        is_gone(&container, &format!("{tag}-other"));
    }
    for profile in ["default", "coder"] {
        assert_eq!(life(&container, profile), [1, 0, 0, 0]);
    }
}

#[test]
fn gateway_run_at_docker_exec_starts_the_supervised_gateway_and_blocks() {
    let prepare = "profile default; for name in name module asroot; do profile $name; done";
    volume!(volume, prepare);
    let container = volume.begin(&[], &[]);
    let before = container.said();
    for door in ALL_DOORS {
        let tag = door.tag;
        // Nothing between here and there makes another process.
        let script = format!(
            "echo $$ >/tmp/{tag}.pid; exec {} -p {tag} gateway run >/tmp/{tag} 2>&1",
            door.words.join(" ")
        );
        let exec = ["exec", "--detach", "--user", door.user, &container.name];
        docker_ok(&[&exec[..], &["sh", "-c", &script]].concat());
        container.await_states("ready", &[tag]);
        // Root's own process passes on to root's file what is printed.
        let blocks = if door.user == "root" {
            "hermes\n"
        } else {
            "sleep\n"
        };
        container.wait_for("what blocks", || {
            let sleeps = container.sh("pgrep -fc '^[a-z/]*sleep infinity$' || true");
            container.sh(&format!("cat /proc/$(cat /tmp/{tag}.pid)/comm")) == blocks
                && sleeps == "2\n"
        });
        let said = container.sh(&format!("cat /tmp/{tag}"));
        assert!(said.contains("--no-supervise"), "{door}: {said}");
        // What ends it does not end the gateway.
        container.sh(&format!("kill -KILL $(cat /tmp/{tag}.pid)"));
        container.wait_for("nothing to be left of it", || {
            container.sh("pgrep -fc '^[a-z/]*sleep infinity$'") == "1\n"
        });
        assert_eq!(supervised(&container, tag), UP, "{door}");
        assert_eq!(life(&container, tag), [1, 0, 0, 0], "{door}");
    }
    let said = container.said();
    let said = &said[before.len()..];
    assert!(!said.contains("--no-supervise"), "{said}");
}

#[test]
fn gateway_run_unsupervised_at_docker_exec_is_the_real_one() {
    let prepare = "profile default; for name in name module; do profile $name; done";
    volume!(volume, prepare);
    let container = volume.begin(&[], &[]);
    let before = slots(&container);
    for door in DOORS {
        let tag = door.tag;
        for (option, variable) in [
            ("--no-supervise", "X=1"),
            ("", "HERMES_GATEWAY_NO_SUPERVISE=1"),
        ] {
            let script = format!(
                "exec {} -p {tag} gateway run {option}",
                door.words.join(" ")
            );
            let state = format!("/opt/data/profiles/{tag}/gateway_state.json");
            container.sh(&format!("rm -f {state}"));
            let exec = ["exec", "--detach", "--user", door.user, "--env", variable];
            docker_ok(&[&exec[..], &[&container.name, "sh", "-c", &script]].concat());
            // Of itself it tells only when it serves.
            let ask = format!(
                "sed -n 's/.*\"pid\": *\\([0-9]*\\).*\"gateway_state\": *\"running\".*/\\1/p' {state} || true"
            );
            let mut pid = String::new();
            container.wait_for("the real gateway", || {
                pid = container.sh(&ask).trim().to_owned();
                !pid.is_empty()
            });
            let line = container.sh(&format!("tr '\\0' ' ' </proc/{pid}/cmdline"));
            assert!(
                line.contains(&format!("gateway run {option}")),
                "{door}: {line}"
            );
            assert_eq!(supervised(&container, tag), DOWN, "{door}");
            container.sh(&format!("kill -INT {pid}"));
            let there = format!("test -e /proc/{pid}");
            container.wait_for("its end", || container.exec(&*there).code != 0);
        }
        assert_eq!(life(&container, tag), [0; 4]);
    }
    assert_eq!(slots(&container), before);
}

#[test]
fn profiles_that_others_change_on_the_volume_are_seen_by_the_next_command() {
    volume!(volume, "profile default; profile coder running");
    let container = volume.begin(&[], &["coder"]);
    let pid = container.pid("coder");
    for door in DOORS {
        let tag = door.tag;
        let [new, quiet, moved] = ["new", "quiet", "moved"].map(|what| format!("{tag}-{what}"));
        let as_hermes = |script: &str| {
            let ran = container.exec_as("hermes", &["sh", "-c", &format!("{FUNCTIONS}{script}")]);
            assert_eq!(ran.code, 0, "{script}: {ran:?}");
        };
        as_hermes(&format!("profile {new}; profile {quiet}"));
        // Registered on the spot; and the other one with it.
        door.start(&container, &new);
        container.await_states("down", &[&quiet]);
        as_hermes(&format!(
            "mv /opt/data/profiles/{new} /opt/data/profiles/{moved}"
        ));
        door.says(&container, "-p coder gateway start", "is ready already");
        container.await_states("ready", &[&moved]);
        is_gone(&container, &new);
        // The old process had nowhere left to tell how it ended.
        assert_eq!(life(&container, &moved)[0], 2, "{door}");
        as_hermes(&format!(
            "rm -r /opt/data/profiles/{moved} /opt/data/profiles/{quiet}"
        ));
        door.says(&container, "-p coder gateway start", "is ready already");
        is_gone(&container, &moved);
        is_gone(&container, &quiet);
    }
    assert_eq!(container.pid("coder"), pid);
    assert_eq!(slots(&container), "gateway-coder\ngateway-default\n");
}

#[test]
fn one_process_of_hermes_takes_a_profile_through_its_whole_life() {
    volume!(volume, "profile default running");
    let container = volume.begin(&[], &["default"]);
    // As the dashboard does, in one process that goes on.
    let said = python(
        &container,
        "manager = sm.get_service_manager()
def show(name):
    print(manager.is_running('gateway-' + name), sorted(manager.list_profile_gateways()))
profiles.create_profile('coder', no_alias=True, no_skills=True)
show('coder')
manager.start('gateway-coder')
show('coder')
profiles.rename_profile('coder', 'writer')
show('writer')
manager.stop('gateway-writer')
show('writer')
manager.restart('gateway-writer')
show('writer')
profiles.delete_profile('writer', yes=True)
show('writer')
of(manager.start, 'gateway-writer')",
    );
    let said: Vec<&str> = said
        .lines()
        .filter(|line| {
            ["True", "False", "Gateway"]
                .iter()
                .any(|word| line.starts_with(word))
        })
        .collect();
    assert_eq!(
        said[..6],
        [
            "False ['coder', 'default']",
            "True ['coder', 'default']",
            "True ['default', 'writer']",
            "False ['default', 'writer']",
            "True ['default', 'writer']",
            "False ['default']",
        ]
    );
    assert!(said[6].starts_with("GatewayNotRegisteredError: no such gateway 'writer'"));
    is_gone(&container, "coder");
    is_gone(&container, "writer");
    assert_eq!(life(&container, "default"), [1, 0, 0, 0]);
}

/// What a real gateway has logged, counted: that it started, that it was told to end, and that it was planned.
fn real_life(container: &Container, profile: &str) -> [usize; 3] {
    let log = container.sh(&format!("cat \"$(home {profile})/logs/gateway.log\""));
    [
        "Starting Hermes Gateway",
        "Shutdown context: signal=SIGTERM",
        "as a planned gateway stop",
    ]
    .map(|what| log.matches(what).count())
}

/// Waits until a real gateway handles signals, which is a while after it has told that it runs.
fn await_serving(container: &Container, profile: &str, starts: usize) {
    container.wait_for("the gateway to serve", || {
        let log = container.sh(&format!(
            "cat \"$(home {profile})/logs/gateway.log\" || true"
        ));
        log.matches("Gateway housekeeping started").count() == starts
    });
}

#[test]
fn a_real_gateway_starts_restarts_and_stops() {
    let prepare = "profile default; profile name; profile module";
    volume!(volume, prepare);
    let container = volume.begin(&REAL, &[]);
    for door in DOORS {
        let tag = door.tag;
        door.start(&container, tag);
        await_serving(&container, tag, 1);
        let pid = container.pid(tag);
        let running = format!("✓ Gateway is running (PID: {pid})\n");
        door.says(&container, &format!("-p {tag} gateway status"), &running);
        door.says(
            &container,
            &format!("-p {tag} gateway restart"),
            &ready(tag),
        );
        await_serving(&container, tag, 2);
        assert_ne!(container.pid(tag), pid, "{door}");
        assert_eq!(real_life(&container, tag), [2, 1, 0], "{door}");
        let done = format!("✓ gateway-{tag} is down (");
        door.says(&container, &format!("-p {tag} gateway stop"), &done);
        assert_eq!(real_life(&container, tag), [2, 2, 1], "{door}");
        assert_eq!(intent(&container, tag), "stopped");
        assert_eq!(supervised(&container, tag), DOWN, "{door}");
    }
}

#[test]
fn all_real_gateways_are_told_that_their_stop_is_planned() {
    volume!(volume, "profile default running; profile coder running");
    let all = ["default", "coder"];
    let container = volume.begin(&REAL, &all);
    for (round, door) in (1..).zip(DOORS) {
        for profile in all {
            await_serving(&container, profile, round);
        }
        let done = "✓ Stopped 2 profile gateway(s) under s6\n";
        door.says(&container, "gateway stop --all", done);
        for profile in all {
            assert_eq!(real_life(&container, profile), [round; 3], "{door}");
            assert_eq!(intent(&container, profile), "stopped");
        }
        if round == 1 {
            let done = "✓ Started 2 profile gateway(s) under s6\n";
            door.says(&container, "gateway start --all", done);
        }
    }
}

#[test]
fn a_real_gateway_follows_its_profile_when_it_is_renamed_and_ends_when_it_is_deleted() {
    volume!(
        volume,
        "profile default; profile name running; profile module running"
    );
    let container = volume.begin(&REAL, &["name", "module"]);
    for door in DOORS {
        let tag = door.tag;
        let new = format!("new-{tag}");
        await_serving(&container, tag, 1);
        let line = format!("profile rename {tag} {new}");
        door.says(&container, &line, &format!("{tag} → {new}"));
        is_gone(&container, tag);
        container.await_states("ready", &[&new]);
        await_serving(&container, &new, 2);
        let [starts, signals, _] = real_life(&container, &new);
        assert_eq!([starts, signals], [2, 1], "{door}");
        let done = format!("Profile '{new}' deleted.\n");
        door.says(&container, &format!("profile delete {new} -y"), &done);
        is_gone(&container, &new);
        container.sh(&format!("test ! -e /opt/data/profiles/{new}"));
    }
    assert_eq!(slots(&container), "gateway-default\n");
}

#[test]
fn root_runs_nothing_that_hermes_could_name_and_nothing_without_dropping() {
    volume!(volume, "profile default");
    let container = volume.start(never_root(), &["tail", "-f", "/dev/null"]);
    container.await_tree();
    // In such a container, its environment belongs to hermes.
    let evil = "printf '#!/bin/sh\\necho evil $(id -u)\\n' >/opt/data/evil; chmod +x /opt/data/evil
        cd /run/s6/container_environment
        printf root >HERMES_S6_USER; printf /opt/data/evil >HERMES_S6_HERMES";
    container.exec_as("hermes", &["sh", "-c", evil]).ends(0);
    for words in [&["hermes", "version"][..], &["hermes", "gateway", "list"]] {
        let ran = container.exec(words);
        assert!(ran.code == 0 && !ran.stdout.contains("evil"), "{ran:?}");
    }
    // A user who is not there is no reason to stay root.
    let words = ["env", "HERMES_S6_USER=hermez", "hermes", "version"];
    container
        .exec(&words)
        .ends(100)
        .warns("unable to find user 'hermez'");
}
