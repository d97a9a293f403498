//! What `status` and `list` say of real trees, to people and to programs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::{PATIENCE, PATIENCE_SECONDS, Run, TestEnv};

const STOPPED: &str = r#"{"desired_state":"stopped"}"#;

/// The row of a profile in the JSON.
fn row(env: &TestEnv, profile: &str) -> Value {
    let ran = env.run(&["status", "--json", "-p", profile]);
    let status: Value = serde_json::from_str(&ran.stdout).unwrap();
    status["profiles"][0].clone()
}

/// The cells of the line of a profile in the table, which stands below the head.
fn cells(env: &TestEnv, profile: &str) -> Vec<String> {
    let table = env.run("status").stdout;
    let lines: Vec<&str> = table.lines().skip(2).collect();
    let titles = "PROFILE STATE PID UPTIME LAST RESTARTS INTENT PORT".split(' ');
    let starts: Vec<usize> = titles.map(|title| lines[0].find(title).unwrap()).collect();
    let mut found = lines.iter();
    let line = found.find(|line| line.split(' ').next() == Some(profile));
    let line = line.unwrap();
    let ends = starts[1..].iter().copied().chain([line.len()]);
    let cells = starts.iter().zip(ends);
    let cells = cells.map(|(start, end)| line[*start..end].trim_end().to_owned());
    cells.collect()
}

fn svc(env: &TestEnv, option: &str, profile: &str) {
    let mut svc = env.command("s6-svc");
    svc.arg(option).arg(env.slot(profile)).ran().ends(0);
}

/// Writes the log of a profile, as an s6-log would have left it.
fn log(env: &TestEnv, profile: &str, file: &str, content: &str) -> PathBuf {
    let directory = env.log(profile);
    fs::create_dir_all(&directory).unwrap();
    env.write(&directory.join(file), content);
    env.own();
    directory.join(file)
}

/// The lines of the log in the view of one profile.
fn shown_log(env: &TestEnv, profile: &str) -> Vec<String> {
    let shown = env.run(&["status", "-p", profile]).stdout;
    let log = shown.split_once("\nLast lines of its log:\n");
    log.map_or("", |(_, lines)| lines)
        .lines()
        .map_while(|line| line.strip_prefix("  "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_table_has_a_line_for_each_profile_beneath_its_head() {
    let env = TestEnv::new();
    env.running("coder")
        .profile("a-profile-with-a-long-name", STOPPED);
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let ran = env.run("status").ends(0);
    assert_eq!(ran.stderr, "");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let head = ["Manager: s6 (container supervisor)", ""];
    assert_eq!(lines[..2], head, "{ran:?}");
    assert_eq!(lines.len(), 2 + 4, "{ran:?}");
    let words: Vec<&str> = lines[2].split_whitespace().collect();
    let titles = "PROFILE STATE PID UPTIME LAST EXIT RESTARTS INTENT PORT";
    assert_eq!(words.join(" "), titles);
    let port = |profile| env.run(&["port", "-p", profile]).stdout.trim().to_owned();
    let coder = cells(&env, "coder");
    assert!(coder[3].ends_with('s'), "{coder:?}");
    let pid = env.pid("coder").to_string();
    let state = ["coder", "ready", &pid, &coder[3], "-", "0"];
    assert_eq!(coder[..6], state);
    assert_eq!(coder[6..], ["running", &port("coder")]);
    let name = "a-profile-with-a-long-name";
    let expected = [name, "down", "-", "-", "-", "0", "stopped", &port(name)];
    assert_eq!(cells(&env, name), expected);
}

#[test]
fn states_are_coloured_on_a_terminal_only() {
    let mut env = TestEnv::new();
    env.running("coder");
    env.run("reconcile").ends(0);
    env.set("TERM", "xterm");
    let coloured = env.on_terminal("status");
    coloured.says("  \x1b[31munsupervised\x1b[0m  ");
    env.set("NO_COLOR", "1");
    for plain in [env.on_terminal("status"), env.run("status")] {
        assert!(!plain.stdout.contains('\x1b'), "{plain:?}");
    }
}

#[test]
fn without_s6_svscan_the_first_line_says_why_and_what_is_wanted_is_missed() {
    let env = TestEnv::new();
    env.running("coder").profile("viewer", STOPPED);
    env.run("reconcile").ends(0);
    env.running("late");
    let ran = env.run("status").ends(1);
    let place = env.scandir.display();
    let start = format!("Manager: none: no s6-svscan watches {place}, and PID 1 is ");
    assert!(ran.stdout.starts_with(&start), "{ran:?}");
    let (_, notes) = ran.stdout.rsplit_once("\n\n").unwrap();
    assert_eq!(
        notes,
        format!(
            "coder wants running, is unsupervised: no s6-svscan watches {place}: hermes-s6 supervise
late wants running, is unregistered: hermes-s6 supervise
"
        )
    );
    env.run("status -p viewer").ends(0);
    let unsupervised = row(&env, "viewer");
    for field in ["reason", "warning", "remedy", "pid", "seconds", "restarts"] {
        assert_eq!(unsupervised[field], Value::Null, "{field}");
    }
}

/// How long ago something was, as people are told.
fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s ago"),
        _ => format!("{} min ago", seconds / 60),
    }
}

#[test]
fn what_is_not_as_its_operator_wants_it_is_told_with_the_command_that_helps() {
    let mut env = TestEnv::new();
    // A gateway that is held has no end of its time.
    env.set("HERMES_S6_STOP_TIMEOUT", "86400");
    for profile in ["config", "clean", "told", "ending", "fine"] {
        env.running(profile);
    }
    env.behaviour("config", "exit 78\n")
        .behaviour("clean", "exit 0\n")
        .hold("ending", "save");
    for profile in ["newly", "busy", "quiet"] {
        env.profile(profile, STOPPED);
    }
    let _tree = env.supervise();
    env.await_state("config", "parked");
    env.await_state("clean", "parked");
    env.await_ready(&["told", "ending", "fine"]);
    svc(&env, "-d", "told");
    svc(&env, "-d", "ending");
    svc(&env, "-u", "busy");
    env.running("newly").running("late").running("unseen");
    env.slip_in("unseen");
    env.await_state("told", "down");
    env.await_state("ending", "stopping");
    env.await_state("busy", "ready");
    let registered = "its slot is registered down, T: ";
    for (profile, state, reason, remedy) in [
        (
            "config",
            "parked",
            "exit 78 (configuration), T: fix it, then ",
            "start",
        ),
        (
            "clean",
            "parked",
            "exit 0 (it ended by itself), T: ",
            "start",
        ),
        ("told", "down", "it was told to go down, T: ", "start"),
        ("newly", "down", registered, "start"),
        ("ending", "stopping", "", "start"),
        ("late", "unregistered", "", "start"),
        (
            "unseen",
            "unsupervised",
            "s6-svscan has not taken it up: ",
            "reconcile",
        ),
        ("busy", "ready", "", "stop"),
    ] {
        let row = row(&env, profile);
        let wants = match profile {
            "busy" => "stopped",
            _ => "running",
        };
        let remedy = match remedy {
            "reconcile" => "hermes-s6 reconcile".to_owned(),
            verb => format!("hermes-s6 {verb} -p {profile}"),
        };
        let age = ago(row["seconds"].as_u64().unwrap_or_default());
        let start = format!("{profile} wants {wants}, is {state}");
        let warning = format!("{start}: {}{remedy}", reason.replace('T', &age));
        assert_eq!(row["state"], state, "{row}");
        assert_eq!(row["warning"], warning, "{row}");
        assert_eq!(row["remedy"], remedy, "{row}");
        env.run("status").says(format!("\n{start}"));
        let code = i32::from(profile != "busy");
        assert_eq!(env.run(&["status", "-p", profile]).code, code, "{profile}");
    }
    for profile in ["fine", "quiet"] {
        let row = row(&env, profile);
        assert_eq!(row["warning"], Value::Null);
        assert_eq!(row["remedy"], Value::Null);
    }
    let table = env.run("status").ends(1);
    assert_eq!(table.stdout.matches(" wants ").count(), 8, "{table:?}");
}

#[test]
fn what_is_held_down_is_told_and_not_missed() {
    let mut env = TestEnv::new();
    env.set("HERMES_S6_AUTOSTART", "never");
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "down");
    let ran = env.run("status").ends(0);
    let end = "\n\ncoder is down: autostart=never\n";
    assert!(ran.stdout.ends_with(end), "{ran:?}");
    let row = row(&env, "coder");
    assert_eq!(row["reason"], "autostart=never");
    assert_eq!(row["warning"], Value::Null);
    assert_eq!(row["wanted"], false);
}

#[test]
fn a_gateway_that_waits_for_the_lock_of_another_tree_names_its_holder() {
    let mut env = TestEnv::new();
    env.set("HERMES_S6_STOP_TIMEOUT", PATIENCE_SECONDS);
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let holder = env.pid("coder");
    let (_second, scandir) = env.second_tree();
    let second = |line: &str| env.run(&*format!("{line} --scandir {scandir}"));
    let state = "coder waiting-for-lock\n";
    env.wait_for(state, || second("list").stdout.contains(state));
    let ran = second("status --json -p coder").ends(1);
    let status: Value = serde_json::from_str(&ran.stdout).unwrap();
    let row = &status["profiles"][0];
    assert_eq!(row["state"], "waiting_for_lock");
    assert_eq!(row["remedy"], Value::Null);
    assert!(row["pid"].is_u64(), "{row}");
    let signature = fs::read_to_string(env.home_of("coder").join(".hermes-s6.lock")).unwrap();
    let reason = format!("its lock is held by {}", signature.trim_end());
    let pid = format!(" pid {holder} since ");
    assert!(reason.contains(&pid), "{reason}");
    assert_eq!(row["reason"], reason);
    let warning = format!(
        "coder wants running, is waiting for lock: {reason}: stop it there, and it starts here"
    );
    assert_eq!(row["warning"], warning);
    let table = second("status");
    table.says("\ncoder    waiting for lock  ");
    let end = format!("\n{warning}\n");
    assert!(table.stdout.ends_with(&end), "{table:?}");
    // Whoever has the lock waits for nobody.
    assert_eq!(env.state("coder"), "ready");
}

#[test]
fn a_gateway_that_has_its_lock_and_is_not_ready_waits_for_nobody() {
    let env = TestEnv::new();
    env.running("coder").hold("coder", "ready");
    let _tree = env.supervise();
    let up = || row(&env, "coder")["seconds"].as_u64() >= Some(2);
    env.wait_for("two seconds", || env.pid("coder") > 0 && up());
    assert_eq!(env.state("coder"), "starting");
    env.run("status").ends(0);
}

#[test]
fn deaths_of_the_last_two_minutes_are_counted_and_the_last_one_is_named() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let seen = |count: u64, json: &str, text: &str| {
        let row = row(&env, "coder");
        assert_eq!(row["restarts"], count);
        assert_eq!(row["last_exit"].to_string(), json);
        let cells = cells(&env, "coder");
        assert_eq!(cells[4..6], [text, &count.to_string()]);
    };
    seen(0, "null", "-");
    for count in 1..=2 {
        env.gateways("coder")[0].kill("KILL");
        env.await_event("coder", "start", count + 1);
        env.await_state("coder", "ready");
    }
    seen(2, r#"{"signal":9}"#, "SIGKILL");
    // As of s6 with other times: 119 s and 121 s ago, and an exit code.
    let tally = env.slot("coder").join("supervise/death_tally");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = now.as_secs();
    let record = |age: u64, code: u8| {
        let label = (1_u64 << 62) + 37 + now - age;
        [&label.to_be_bytes()[..], &[0; 4], &[code, 0]].concat()
    };
    let records = [record(125, 3), record(100, 4), record(3, 5)];
    fs::write(&tally, records.concat()).unwrap();
    seen(2, r#"{"exit":5}"#, "exit 5");
    // Without a tally the wait status of the last one is left.
    fs::write(&tally, "").unwrap();
    seen(0, r#"{"signal":9}"#, "SIGKILL");
}

#[test]
fn one_profile_is_shown_with_its_places_its_log_and_its_remedy() {
    let env = TestEnv::new();
    env.running("coder").profile("viewer", STOPPED);
    let lines: Vec<String> = (1..=12).map(|number| format!("line {number}\n")).collect();
    let content = [&*lines.concat(), "\x1b[2J\t\\ é\n"].concat();
    log(&env, "coder", "current", &content);
    env.run("reconcile").ends(0);
    let all = env.run("status").stdout;
    let reason = all.lines().next().unwrap().replace("Manager: none: ", "");
    let ran = env.run("status -p coder").ends(1);
    let (_, details) = ran.stdout.split_once("hermes-s6 supervise\n").unwrap();
    assert_eq!(
        details,
        format!(
            "
Home: {home}/profiles/coder
Slot: {slot}
Log: {home}/logs/gateways/coder
Supervision: {reason}

Last lines of its log:
  {lines}  \\u{{1b}}[2J\t\\ é

Remedy: hermes-s6 supervise
",
            home = env.home.display(),
            slot = env.slot("coder").display(),
            lines = lines[3..].join("  "),
        )
    );
    // Nothing is to be done about what is as wanted, and two profiles are a table.
    assert!(!env.run("status -p viewer").stdout.contains("Remedy"));
    let two = env.run("status -p viewer -p coder").stdout;
    let is_table = !two.contains("Home: ") && two.contains("\nviewer ");
    assert!(is_table, "{two}");
}

#[test]
fn the_end_of_a_log_is_read_whatever_is_there() {
    let env = TestEnv::new();
    env.running("coder");
    env.run("reconcile").ends(0);
    let current = log(&env, "coder", "current", "");
    assert_eq!(shown_log(&env, "coder"), ["nothing yet"]);
    // When s6-log has just begun anew.
    log(&env, "coder", "@4000000060000000aaaaaaaa.s", "older\n");
    log(&env, "coder", "@4000000070000000aaaaaaaa.s", "newer\n");
    assert_eq!(shown_log(&env, "coder"), ["older", "newer"]);
    log(&env, "coder", "current", &"0123456789\n".repeat(100_000));
    assert_eq!(shown_log(&env, "coder"), ["0123456789"; 10]);
    // Whatever somebody has put there instead of a file.
    fs::remove_file(&current).unwrap();
    let secret = env.place.join("secret");
    env.write(&secret, "secret\n");
    symlink(&secret, &current).unwrap();
    let refused = format!("unable to open {}: ", current.display());
    assert!(shown_log(&env, "coder")[0].starts_with(&refused));
    fs::remove_dir_all(env.home.join("logs")).unwrap();
    assert_eq!(shown_log(&env, "coder"), ["nothing yet"]);
}

#[test]
fn the_json_has_the_documented_fields_and_no_others() {
    let mut env = TestEnv::new();
    env.set("HERMES_DASHBOARD", "1").running("coder");
    // It is not there for its page: whether it runs does not matter.
    env.write(&env.home.join("dashboard"), "78");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let ran = env.run("status --json");
    let mut status: Value = serde_json::from_str(&ran.stdout).unwrap();
    let coder = status["profiles"].as_array_mut().unwrap().remove(1);
    status["profiles"][0] = coder;
    let mut fields = BTreeSet::new();
    let mut collect = |prefix: &str, object: &Value| {
        for name in object.as_object().unwrap().keys() {
            fields.insert(format!("{prefix}{name}"));
        }
    };
    collect("", &status);
    collect("profiles[].", &status["profiles"][0]);
    collect("profiles[].log.", &status["profiles"][0]["log"]);
    collect("profiles[].paths.", &status["profiles"][0]["paths"]);
    // Beside these, it has the fields of a profile.
    let mut dashboard = status["dashboard"].clone();
    let of_profiles = status["profiles"][0].as_object().unwrap().keys();
    let of_its_own = dashboard.as_object_mut().unwrap();
    of_profiles.for_each(|name| assert!(of_its_own.remove(name).is_some(), "{name}"));
    collect("dashboard.", &dashboard);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/status.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, schema) = page.split_once("### JSON, version 1").unwrap();
    let (schema, _) = schema.split_once("\n#").unwrap();
    let documented: BTreeSet<String> = schema
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(field, _)| field.to_owned())
        .collect();
    assert_eq!(fields, documented);
    let paths = &status["profiles"][0]["paths"];
    assert_eq!(paths["home"], env.home_of("coder").to_str().unwrap());
    assert_eq!(paths["slot"], env.slot("coder").to_str().unwrap());
    assert_eq!(paths["log"], env.log("coder").to_str().unwrap());
}

#[test]
fn json_is_the_format_json_and_an_unknown_format_is_refused() {
    let env = TestEnv::new();
    env.running("coder");
    env.run("reconcile").ends(0);
    let json = env.run("status --json");
    assert_eq!(env.run("status --format json").stdout, json.stdout);
    assert_eq!(env.run("list --json").stdout, json.stdout);
    let table = env.run("status").stdout;
    assert_eq!(env.run("status --format table").stdout, table);
    env.run("status --format yaml").ends(100);
    env.run("status --json --format table").ends(100);
}

/// A sample of a metric: its name, the profile of its label, its value.
type Sample = (String, Option<String>, u64);

/// Reads the text exposition format as strictly as it is written: every metric has its help, then its
/// type, then its samples, once and together, and every line ends.
fn parse(text: &str) -> Vec<Sample> {
    let mut samples: Vec<Sample> = Vec::new();
    let mut metrics: Vec<String> = Vec::new();
    assert!(text.ends_with('\n'));
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line
            .strip_prefix("# HELP ")
            .unwrap()
            .split_once(' ')
            .unwrap();
        assert!(!help.is_empty() && !help.contains('\\'), "{line}");
        let legal = |byte: u8| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte);
        assert!(
            name.starts_with("hermes_s6_") && name.bytes().all(legal),
            "{line}"
        );
        assert_eq!(lines.next().unwrap(), format!("# TYPE {name} gauge"));
        assert!(!metrics.contains(&name.to_owned()), "{name} comes twice");
        metrics.push(name.to_owned());
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let profile = series.strip_prefix(name).unwrap();
            let profile = (!profile.is_empty()).then(|| {
                let label = profile.strip_prefix("{profile=\"").unwrap();
                let label = label.strip_suffix("\"}").unwrap();
                assert!(!label.contains(['"', '\\', '\n']), "{line}");
                label.to_owned()
            });
            let sample = (name.to_owned(), profile, value.parse().unwrap());
            let same = |other: &Sample| (&other.0, &other.1) == (&sample.0, &sample.1);
            assert!(!samples.iter().any(same), "{line} comes twice");
            samples.push(sample);
        }
    }
    samples
}

#[test]
fn prometheus_reads_the_same_as_a_person() {
    let env = TestEnv::new();
    env.running("coder")
        .running("config")
        .profile("viewer", STOPPED)
        .behaviour("config", "exit 78\n");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    env.await_state("config", "parked");
    env.running("late");
    // As in every format.
    let ran = env.run("status --format prometheus").ends(1);
    assert_eq!(ran.stderr, "");
    let samples = parse(&ran.stdout);
    let value = |name: &str, profile: Option<&str>| {
        let mut found = samples.iter().filter(|(metric, of, _)| {
            metric.strip_prefix("hermes_s6_") == Some(name) && of.as_deref() == profile
        });
        found.next().map(|(_, _, value)| *value)
    };
    assert_eq!(value("manager", None), Some(1));
    for (profile, expected) in [
        ("coder", [1, 1, 1, 0].map(Some)),
        ("config", [0, 0, 1, 1].map(Some)),
        ("viewer", [0, 0, 0, 0].map(Some)),
        ("late", [0, 0, 1, 0].map(Some)),
    ] {
        let names = ["up", "ready", "wanted", "parked"];
        let seen = names.map(|name| value(name, Some(profile)));
        assert_eq!(seen, expected, "{profile}: {}", ran.stdout);
    }
    assert_eq!(value("restarts", Some("coder")), Some(0));
    assert_eq!(value("restarts", Some("config")), Some(1));
    assert_eq!(value("restarts", Some("late")), None);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let changed = value("last_change_timestamp_seconds", Some("coder")).unwrap();
    let age = now.checked_sub(Duration::from_secs(changed)).unwrap();
    assert!(age < 2 * PATIENCE, "{changed}");
    assert_eq!(value("last_change_timestamp_seconds", Some("late")), None);
    assert_eq!(value("log_written", Some("coder")), Some(1));
    assert_eq!(value("log_losses", Some("coder")), Some(0));
    assert_eq!(value("log_written", Some("config")), None);
    assert_eq!(value("volume", None), Some(1));
    // 1 for the manager and 1 for the volume, 4 metrics of 5 profiles, 2 of the 4 that are supervised, 2 of the one
    // that runs.
    assert_eq!(samples.len(), 2 + 4 * 5 + 2 * 4 + 2, "{}", ran.stdout);
    let one = env.run("status --format prometheus -p coder").ends(0);
    assert_eq!(parse(&one.stdout).len(), 10);
}

#[test]
fn prometheus_is_told_that_nobody_supervises() {
    let env = TestEnv::new();
    env.run("reconcile").ends(0);
    let ran = env.run("status --format prometheus");
    let samples = parse(&ran.stdout);
    let none = ("hermes_s6_manager".to_owned(), None, 0);
    assert!(samples.contains(&none), "{ran:?}");
}
