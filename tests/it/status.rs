//! What `status` and `list` say of real trees, to people and to programs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::{Ran, TestEnv, Tree, programs, skip, wait_for};

const STOPPED: &str = r#"{"desired_state":"stopped"}"#;

/// The row of a profile in the JSON.
fn row(env: &TestEnv, profile: &str) -> Value {
    let ran = env.run(&["status", "--json", "-p", profile]);
    let status: Value = serde_json::from_str(&ran.stdout).unwrap();
    status["profiles"][0].clone()
}

/// The cells of the line of a profile in the table, which stands below the head.
fn cells(env: &TestEnv, profile: &str) -> Vec<String> {
    let table = env.run(&["status"]).stdout;
    let lines: Vec<&str> = table.lines().skip(2).collect();
    let starts: Vec<usize> = [
        "PROFILE", "STATE", "PID", "UPTIME", "LAST", "RESTARTS", "INTENT", "PORT",
    ]
    .iter()
    .map(|title| lines[0].find(title).unwrap())
    .collect();
    let line = lines
        .iter()
        .find(|line| line.split(' ').next() == Some(profile))
        .unwrap();
    let ends = starts[1..].iter().copied().chain([line.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| line[*start..end].trim_end().to_owned())
        .collect()
}

fn svc(env: &TestEnv, option: &str, profile: &str) {
    let mut command = env.command("s6-svc");
    let status = command.arg(option).arg(env.slot(profile)).status().unwrap();
    assert!(status.success());
}

/// Writes the log of a profile, as an s6-log would have left it.
fn log(env: &TestEnv, profile: &str, file: &str, content: &str) -> PathBuf {
    let directory = env.home.join("logs/gateways").join(profile);
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

/// A second tree on the same volume.
fn second_tree(env: &TestEnv) -> (Tree<'_>, String) {
    let scandir = env.place.join("second").to_str().unwrap().to_owned();
    let mut command = env.command(programs().join("hermes-s6"));
    command.arg("supervise").env("HERMES_S6_SCANDIR", &scandir);
    (env.start(command), scandir)
}

#[test]
fn the_table_has_a_line_for_each_profile_beneath_its_head() {
    let env = TestEnv::new();
    env.running("coder")
        .profile("a-profile-with-a-long-name", STOPPED);
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let ran = env.run(&["status"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        lines[..2],
        ["Manager: s6 (container supervisor)", ""],
        "{ran:?}"
    );
    assert_eq!(lines.len(), 2 + 4, "{ran:?}");
    let words: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!(
        words.join(" "),
        "PROFILE STATE PID UPTIME LAST EXIT RESTARTS INTENT PORT"
    );
    let port = |profile| env.run(&["port", "-p", profile]).stdout.trim().to_owned();
    let coder = cells(&env, "coder");
    assert!(coder[3].ends_with('s'), "{coder:?}");
    let pid = env.pid("coder").to_string();
    let expected = [
        "coder",
        "ready",
        &pid,
        &coder[3],
        "-",
        "0",
        "running",
        &port("coder"),
    ];
    assert_eq!(coder, expected);
    let name = "a-profile-with-a-long-name";
    let expected = [name, "down", "-", "-", "-", "0", "stopped", &port(name)];
    assert_eq!(cells(&env, name), expected);
}

#[test]
fn states_are_coloured_on_a_terminal_only() {
    let env = TestEnv::new();
    env.running("coder");
    assert_eq!(env.run(&["reconcile"]).code, 0);
    let program = programs().join("hermes-s6");
    let on_a_terminal = |no_colour: &str| {
        let mut command = env.command("script");
        command
            .args(["-qec", &format!("{no_colour} {} status", program.display())])
            .arg("/dev/null");
        command.output().map(Ran::from)
    };
    let Ok(coloured) = on_a_terminal("") else {
        return skip("a terminal needs the program script");
    };
    assert!(
        coloured.stdout.contains("  \x1b[31munsupervised\x1b[0m  "),
        "{coloured:?}"
    );
    assert!(!on_a_terminal("NO_COLOR=1").unwrap().stdout.contains('\x1b'));
    assert!(!env.run(&["status"]).stdout.contains('\x1b'));
}

#[test]
fn without_s6_svscan_the_first_line_says_why_and_what_is_wanted_is_missed() {
    let env = TestEnv::new();
    env.running("coder").profile("viewer", STOPPED);
    assert_eq!(env.run(&["reconcile"]).code, 0);
    env.running("late");
    let ran = env.run(&["status"]);
    let place = env.scandir.display();
    assert!(
        ran.stdout.starts_with(&format!(
            "Manager: none: no s6-svscan watches {place}, and PID 1 is "
        )),
        "{ran:?}"
    );
    let (_, notes) = ran.stdout.rsplit_once("\n\n").unwrap();
    assert_eq!(
        notes,
        format!(
            "coder wants running, is unsupervised: no s6-svscan watches {place}: hermes-s6 supervise
late wants running, is unregistered: hermes-s6 supervise
"
        )
    );
    assert_eq!(ran.code, 1);
    assert_eq!(env.run(&["status", "-p", "viewer"]).code, 0);
    let unsupervised = row(&env, "viewer");
    for field in ["reason", "warning", "remedy", "pid", "seconds", "restarts"] {
        assert_eq!(unsupervised[field], Value::Null, "{field}");
    }
}

#[test]
fn what_is_not_as_its_operator_wants_it_is_told_with_the_command_that_helps() {
    let env = TestEnv::new();
    for profile in ["config", "clean", "told", "ending", "fine"] {
        env.running(profile);
    }
    env.behaviour("config", "exit 78\n")
        .behaviour("clean", "exit 0\n")
        .behaviour("ending", "save 60\n");
    for profile in ["newly", "busy", "quiet"] {
        env.profile(profile, STOPPED);
    }
    let _tree = env.supervise();
    env.await_state("config", "parked");
    env.await_state("clean", "parked");
    for profile in ["told", "ending", "fine"] {
        env.await_state(profile, "ready");
    }
    svc(&env, "-d", "told");
    svc(&env, "-d", "ending");
    svc(&env, "-u", "busy");
    env.running("newly").running("late").running("unseen");
    // Put there behind the back of s6-svscan, as a scan that was given up leaves it.
    let rendered = env.place.join("rendered");
    fs::create_dir(&rendered).unwrap();
    env.own();
    let out = rendered.to_str().unwrap();
    assert_eq!(env.run(&["render", "-p", "unseen", "--out", out]).code, 0);
    fs::rename(rendered.join("gateway-unseen"), env.slot("unseen")).unwrap();
    env.await_state("told", "down");
    env.await_state("ending", "stopping");
    env.await_state("busy", "ready");
    for (profile, state, warning, remedy) in [
        (
            "config",
            "parked",
            ": exit 78 (configuration), T: fix it, then ",
            "start -p config",
        ),
        (
            "clean",
            "parked",
            ": exit 0 (it ended by itself), T: ",
            "start -p clean",
        ),
        (
            "told",
            "down",
            ": it was told to go down, T: ",
            "start -p told",
        ),
        (
            "newly",
            "down",
            ": its slot is registered down, T: ",
            "start -p newly",
        ),
        ("ending", "stopping", ": ", "start -p ending"),
        ("late", "unregistered", ": ", "start -p late"),
        (
            "unseen",
            "unsupervised",
            ": s6-svscan has not taken it up: ",
            "reconcile",
        ),
        ("busy", "ready", ": ", "stop -p busy"),
    ] {
        let row = row(&env, profile);
        let wants = if profile == "busy" {
            "stopped"
        } else {
            "running"
        };
        let age = format!("{} s ago", row["seconds"]);
        let start = format!("{profile} wants {wants}, is {state}");
        let expected = [&start, &*warning.replace('T', &age), "hermes-s6 ", remedy].concat();
        assert_eq!(row["state"], state, "{row}");
        assert_eq!(row["warning"], expected, "{row}");
        assert_eq!(row["remedy"], format!("hermes-s6 {remedy}"), "{row}");
        let table = env.run(&["status"]);
        assert!(table.stdout.contains(&format!("\n{start}")), "{table:?}");
        let code = i32::from(profile != "busy");
        assert_eq!(env.run(&["status", "-p", profile]).code, code, "{profile}");
    }
    for profile in ["fine", "quiet"] {
        let row = row(&env, profile);
        assert_eq!(
            (&row["warning"], &row["remedy"]),
            (&Value::Null, &Value::Null)
        );
    }
    let table = env.run(&["status"]);
    assert_eq!(
        (table.code, table.stdout.matches(" wants ").count()),
        (1, 8),
        "{table:?}"
    );
}

#[test]
fn what_is_held_down_is_told_and_not_missed() {
    let mut env = TestEnv::new();
    env.set("HERMES_S6_AUTOSTART", "never");
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "down");
    let ran = env.run(&["status"]);
    assert!(
        ran.stdout.ends_with("\n\ncoder is down: autostart=never\n"),
        "{ran:?}"
    );
    assert_eq!(ran.code, 0);
    let row = row(&env, "coder");
    assert_eq!(
        (&row["reason"], &row["warning"], &row["wanted"]),
        (&"autostart=never".into(), &Value::Null, &false.into())
    );
}

#[test]
fn a_gateway_that_waits_for_the_lock_of_another_tree_names_its_holder() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let holder = env.pid("coder");
    let (_second, scandir) = second_tree(&env);
    let second = |words: &[&str]| env.run(&[words, &["--scandir", &scandir]].concat());
    wait_for(
        "the second to wait",
        || {
            second(&["list"])
                .stdout
                .contains("coder waiting-for-lock\n")
        },
        || second(&["status"]).stdout,
    );
    let ran = second(&["status", "--json", "-p", "coder"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let status: Value = serde_json::from_str(&ran.stdout).unwrap();
    let row = &status["profiles"][0];
    assert_eq!(row["state"], "waiting_for_lock");
    assert_eq!((&row["remedy"], row["pid"].is_u64()), (&Value::Null, true));
    let signature = fs::read_to_string(env.home_of("coder").join(".hermes-s6.lock")).unwrap();
    let reason = format!("its lock is held by {}", signature.trim_end());
    assert!(
        reason.contains(&format!(" pid {holder} since ")),
        "{reason}"
    );
    assert_eq!(row["reason"], reason);
    let warning = format!(
        "coder wants running, is waiting for lock: {reason}: stop it there, and it starts here"
    );
    assert_eq!(row["warning"], warning);
    let table = second(&["status"]);
    assert!(
        table.stdout.contains("\ncoder    waiting for lock  "),
        "{table:?}"
    );
    assert!(
        table.stdout.ends_with(&format!("\n{warning}\n")),
        "{table:?}"
    );
    // Whoever has the lock waits for nobody.
    assert_eq!(env.state("coder"), "ready");
}

#[test]
fn a_gateway_that_has_its_lock_and_is_not_ready_waits_for_nobody() {
    let env = TestEnv::new();
    env.running("coder").behaviour("coder", "never-ready 1\n");
    let _tree = env.supervise();
    let up = || row(&env, "coder")["seconds"].as_u64() >= Some(2);
    wait_for("two seconds", || env.pid("coder") > 0 && up(), || env.out());
    assert_eq!(env.state("coder"), "starting");
    assert_eq!(env.run(&["status"]).code, 0);
}

#[test]
fn deaths_of_the_last_two_minutes_are_counted_and_the_last_one_is_named() {
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let seen = || {
        let row = row(&env, "coder");
        let cells = cells(&env, "coder");
        (
            row["restarts"].as_u64(),
            row["last_exit"].to_string(),
            cells[4].clone(),
            cells[5].clone(),
        )
    };
    let expected = |count: u64, json: &str, text: &str| {
        (
            Some(count),
            json.to_owned(),
            text.to_owned(),
            count.to_string(),
        )
    };
    assert_eq!(seen(), expected(0, "null", "-"));
    for count in 1..=2 {
        env.gateways("coder")[0].kill("KILL");
        wait_for(
            "a restart",
            || env.count("coder", "start") == count + 1,
            || env.out(),
        );
        env.await_state("coder", "ready");
    }
    assert_eq!(seen(), expected(2, r#"{"signal":9}"#, "SIGKILL"));
    // As of s6 with other times: 119 s and 121 s ago, and an exit code.
    let tally = env.slot("coder").join("supervise/death_tally");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let record = |age: u64, code: u8| {
        let label = (1_u64 << 62) + 37 + now - age;
        [&label.to_be_bytes()[..], &[0; 4], &[code, 0]].concat()
    };
    fs::write(
        &tally,
        [record(125, 3), record(100, 4), record(3, 5)].concat(),
    )
    .unwrap();
    assert_eq!(seen(), expected(2, r#"{"exit":5}"#, "exit 5"));
    // Without a tally the wait status of the last one is left.
    fs::write(&tally, "").unwrap();
    assert_eq!(seen(), expected(0, r#"{"signal":9}"#, "SIGKILL"));
}

#[test]
fn one_profile_is_shown_with_its_places_its_log_and_its_remedy() {
    let env = TestEnv::new();
    env.running("coder").profile("viewer", STOPPED);
    let line = |number: usize| {
        format!(
            "line {number}
"
        )
    };
    let lines: Vec<String> = (1..=12).map(line).collect();
    let content = [&*lines.concat(), "\x1b[2J\t\\ é\n"].concat();
    log(&env, "coder", "current", &content);
    assert_eq!(env.run(&["reconcile"]).code, 0);
    let all = env.run(&["status"]).stdout;
    let reason = all.lines().next().unwrap().replace("Manager: none: ", "");
    let ran = env.run(&["status", "-p", "coder"]);
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
    assert_eq!(ran.code, 1);
    // Nothing is to be done about what is as wanted, and two profiles are a table.
    assert!(
        !env.run(&["status", "-p", "viewer"])
            .stdout
            .contains("Remedy")
    );
    let two = env.run(&["status", "-p", "viewer", "-p", "coder"]).stdout;
    assert!(
        !two.contains("Home: ") && two.contains("\nviewer "),
        "{two}"
    );
}

#[test]
fn the_end_of_a_log_is_read_whatever_is_there() {
    let env = TestEnv::new();
    env.running("coder");
    assert_eq!(env.run(&["reconcile"]).code, 0);
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
    let env = TestEnv::new();
    env.running("coder");
    let _tree = env.supervise();
    env.await_state("coder", "ready");
    let ran = env.run(&["status", "--json", "-p", "coder"]);
    let status: Value = serde_json::from_str(&ran.stdout).unwrap();
    let mut fields = BTreeSet::new();
    let mut collect = |prefix: &str, object: &Value| {
        for name in object.as_object().unwrap().keys() {
            fields.insert(format!("{prefix}{name}"));
        }
    };
    collect("", &status);
    collect("profiles[].", &status["profiles"][0]);
    collect("profiles[].paths.", &status["profiles"][0]["paths"]);
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
    let log = env.home.join("logs/gateways/coder");
    assert_eq!(paths["log"], log.to_str().unwrap());
}

#[test]
fn json_is_the_format_json_and_an_unknown_format_is_refused() {
    let env = TestEnv::new();
    env.running("coder");
    assert_eq!(env.run(&["reconcile"]).code, 0);
    let json = env.run(&["status", "--json"]);
    assert_eq!(env.run(&["status", "--format", "json"]).stdout, json.stdout);
    assert_eq!(env.run(&["list", "--json"]).stdout, json.stdout);
    let table = env.run(&["status"]).stdout;
    assert_eq!(env.run(&["status", "--format", "table"]).stdout, table);
    for arguments in [
        &["status", "--format", "yaml"][..],
        &["status", "--json", "--format", "table"],
    ] {
        assert_eq!(env.run(arguments).code, 100, "{arguments:?}");
    }
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
    let ran = env.run(&["status", "--format", "prometheus"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (1, ""),
        "as in every format"
    );
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
    assert!(age < Duration::from_secs(60), "{changed}");
    assert_eq!(value("last_change_timestamp_seconds", Some("late")), None);
    // 1 for the manager, 4 metrics of 5 profiles, 2 of the 4 that are supervised.
    assert_eq!(samples.len(), 1 + 4 * 5 + 2 * 4, "{}", ran.stdout);
    let one = env.run(&["status", "--format", "prometheus", "-p", "coder"]);
    assert_eq!((one.code, parse(&one.stdout).len()), (0, 7));
}

#[test]
fn prometheus_is_told_that_nobody_supervises() {
    let env = TestEnv::new();
    assert_eq!(env.run(&["reconcile"]).code, 0);
    let ran = env.run(&["status", "--format", "prometheus"]);
    let samples = parse(&ran.stdout);
    assert!(
        samples.contains(&("hermes_s6_manager".to_owned(), None, 0)),
        "{ran:?}"
    );
}
