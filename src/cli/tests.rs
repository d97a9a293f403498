//! What is read, and what is refused.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use clap::CommandFactory;

use super::*;

/// What is typed, and beneath it what is read.
const READ: &str = r#"
render -p coder --out /look
    Render { profile: ProfileOption { profile: Some(ProfileName("coder")) }, out: Some("/look") }
reconcile --dry-run
    Reconcile { dry_run: true, json: false }
supervise
    Supervise { notification_fd: None }
supervise -d3
    Supervise { notification_fd: Some(3) }
supervise --notification-fd 3
    Supervise { notification_fd: Some(3) }
detect --json
    Detect { json: true }
start --unless-stopped
    Start { target: Target { selection: Selection { profile: [], all: false }, dashboard: false }, unless_stopped: true, waiting: Waiting { no_wait: false, timeout: None, json: false } }
stop --all --no-wait
    Stop { target: Target { selection: Selection { profile: [], all: true }, dashboard: false }, waiting: Waiting { no_wait: true, timeout: None, json: false } }
restart -p coder --profile viewer --timeout 86400 --json
    Restart { target: Target { selection: Selection { profile: [ProfileName("coder"), ProfileName("viewer")], all: false }, dashboard: false }, waiting: Waiting { no_wait: false, timeout: Some(86400), json: true } }
restart --dashboard --no-wait
    Restart { target: Target { selection: Selection { profile: [], all: false }, dashboard: true }, waiting: Waiting { no_wait: true, timeout: None, json: false } }
shutdown --timeout=1
    Shutdown { timeout: Some(1), json: false }
register --all
    Register { selection: Selection { profile: [], all: true } }
unregister -pcoder
    Unregister { selection: Selection { profile: [ProfileName("coder")], all: false } }
rename coder builder
    Rename { old: ProfileName("coder"), new: ProfileName("builder") }
dispatch start
    Dispatch { action: "start", profile: [], all: false, prog: [] }
dispatch stop --all -- hermes -p x -- y
    Dispatch { action: "stop", profile: [], all: true, prog: ["hermes", "-p", "x", "--", "y"] }
status
    Status { profile: [], json: false, format: Table, ready: false, out: None }
status -p coder --json
    Status { profile: [ProfileName("coder")], json: true, format: Table, ready: false, out: None }
status --format prometheus
    Status { profile: [], json: false, format: Prometheus, ready: false, out: None }
status --ready
    Status { profile: [], json: false, format: Table, ready: true, out: None }
status --json --out hermes.json
    Status { profile: [], json: true, format: Table, ready: false, out: Some("hermes.json") }
logs
    Logs { target: Target { selection: Selection { profile: [], all: false }, dashboard: false }, lines: 50, follow: false }
logs -fn 9
    Logs { target: Target { selection: Selection { profile: [], all: false }, dashboard: false }, lines: 9, follow: true }
doctor
    Doctor { json: false }
list
    List { json: false }
port
    Port { profile: ProfileOption { profile: None } }
own-env hermes --home /x -- y
    OwnEnv { prog: ["hermes", "--home", "/x", "--", "y"] }
own-env -- hermes -h
    OwnEnv { prog: ["hermes", "-h"] }
with-parent hermes-s6 status
    WithParent { parent: None, prog: ["hermes-s6", "status"] }
with-parent --parent=7 hermes-s6 status
    WithParent { parent: Some(7), prog: ["hermes-s6", "status"] }
own-session s6-setuidgid -- hermes
    OwnSession { prog: ["s6-setuidgid", "--", "hermes"] }
back-off s6-envdir env
    BackOff { prog: ["s6-envdir", "env"] }
own-env --frob
    OwnEnv { prog: ["--frob"] }
hold-lock -t 9 /home hermes -t 8
    HoldLock { timeout: 9, variable: None, directory: "/home", prog: ["hermes", "-t", "8"] }
hold-lock -t 9 -e A=b=c /home hermes
    HoldLock { timeout: 9, variable: Some(("A", "b=c")), directory: "/home", prog: ["hermes"] }
choose-log /log s6-log -p 1
    ChooseLog { directory: "/log", words: ["s6-log", "-p", "1"] }
tend --end
    Tend { end: true, prog: [] }
tend /bin/sleep 5
    Tend { end: false, prog: ["/bin/sleep", "5"] }
check-ready /home
    CheckReady { directory: "/home" }
check-listens
    CheckListens
survey -p coder
    Survey { profile: [ProfileName("coder")] }
read-logs -n 9 -f -p coder
    ReadLogs { profile: [ProfileName("coder")], dashboard: false, lines: 9, follow: true }
reach
    Reach
names
    Names
end-orphan -p coder -t 25000
    EndOrphan { profile: ProfileName("coder"), timeout: 25000 }
examine
    Examine
settle
    Settle
"#;

/// What is typed, and beneath it what is said of it.
const REFUSED: &str = "
--home /x
    'hermes-s6' requires a subcommand but one was not provided
help
    unrecognized subcommand 'help'
--json status
    unexpected argument '--json' found
status --jso
    unexpected argument '--jso' found
status --json --format json
    the argument '--json' cannot be used with '--format <FORMAT>'
status --format xml
    invalid value 'xml' for '--format <FORMAT>'
stop --all -p coder
    the argument '--all' cannot be used with '--profile <NAME>'
stop --no-wait --timeout 9
    the argument '--no-wait' cannot be used with '--timeout <S>'
stop --timeout 0
    invalid value '0' for '--timeout <S>': 0 is not in 1..=86400
shutdown --timeout 86401
    invalid value '86401' for '--timeout <S>': 86401 is not in 1..=86400
shutdown --timeout soon
    invalid value 'soon' for '--timeout <S>': invalid digit found in string
logs -p
    a value is required for '--profile <NAME>' but none was supplied
port -p coder -p viewer
    the argument '--profile <NAME>' cannot be used multiple times
rename coder
    the following required arguments were not provided:
dispatch start hermes
    unexpected argument 'hermes' found
own-env
    the following required arguments were not provided:
hold-lock /home hermes
    the following required arguments were not provided:
";

fn rows(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut lines = text.lines().skip(1).map(str::trim);
    std::iter::from_fn(move || lines.next().zip(lines.next()))
}

fn read(line: &str) -> Result<Cli, clap::Error> {
    read_words(line.split(' ').map(OsStr::new))
}

fn read_words<'a>(words: impl Iterator<Item = &'a OsStr>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from([OsStr::new("hermes-s6")].into_iter().chain(words))
}

#[test]
fn clap_finds_nothing_wrong_with_what_can_be_typed() {
    Cli::command().debug_assert();
}

#[test]
fn a_line_is_read_as_what_it_says() {
    for (line, meant) in rows(READ) {
        let read = read(line).map(|cli| format!("{:?}", cli.command));
        assert_eq!(read.ok().as_deref(), Some(meant), "{line}");
    }
}

#[test]
fn a_line_that_makes_no_sense_is_refused_with_what_is_wrong() {
    for (line, wrong) in rows(REFUSED) {
        let said = read(line).err().map(|error| error.to_string());
        let said = said.as_deref().and_then(|text| text.lines().next());
        assert_eq!(said, Some(format!("error: {wrong}").as_str()), "{line}");
    }
}

#[test]
fn each_command_has_a_line_that_is_read() {
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let typed = |(line, _): (&str, &str)| line.split(' ').next() == Some(name);
        assert!(rows(READ).any(typed), "{name}");
    }
}

#[test]
fn a_command_is_the_same_in_its_own_help_as_in_the_list() {
    let abouts = |program: &clap::Command| -> Vec<String> {
        let commands = program.get_subcommands();
        commands
            .map(|command| format!("{:?}", command.get_about()))
            .collect()
    };
    let mut program = Cli::command();
    let listed = abouts(&program);
    program.build();
    assert_eq!(abouts(&program), listed);
}

#[test]
fn the_options_of_every_command_stand_before_it_or_behind_it() {
    for line in [
        "--home /data --scandir /run/scan list",
        "--scandir=/run/scan list --home=/data",
        "list --home /data --scandir /run/scan",
    ] {
        let common = read(line).map(|cli| (cli.common.home, cli.common.scandir));
        let meant = (Some("/data".into()), Some("/run/scan".into()));
        assert_eq!(common.ok(), Some(meant), "{line}");
    }
}

#[test]
fn what_is_not_utf_8_reaches_prog_as_it_is() {
    let words = ["own-env".as_ref(), OsStr::from_bytes(b"\xff")];
    let read = read_words(words.into_iter()).map(|cli| format!("{:?}", cli.command));
    assert_eq!(read.ok().as_deref(), Some(r#"OwnEnv { prog: ["\xFF"] }"#));
}
