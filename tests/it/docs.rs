//! The tables of README.md, docs/image.md and docs/dashboard.md: what they name is there, and is as they say.
//!
//! What takes a container to see is in `image`; here is what can be seen without one.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{NOBODY, Ran, Run as _, TestEnv, Words as _, has, is_root, programs};

/// README.md.
pub const README: &str = include_str!("../../README.md");

/// docs/image.md.
pub const IMAGE: &str = include_str!("../../docs/image.md");

/// docs/dashboard.md.
pub const DASHBOARD: &str = include_str!("../../docs/dashboard.md");

/// Splits a row of a table into its cells; what is between backticks is of one cell.
fn cells(row: &str) -> Vec<&str> {
    let row = row.trim().trim_start_matches('|').trim_end_matches('|');
    let mut is_quoted = false;
    let at_cell = move |character: char| {
        is_quoted ^= character == '`';
        character == '|' && !is_quoted
    };
    row.split(at_cell).map(str::trim).collect()
}

/// Gives the tables of a page: the line with the heads of the columns, and the cells of each row.
pub fn tables(page: &str) -> Vec<(&str, Vec<Vec<&str>>)> {
    let lines: Vec<&str> = page.lines().collect();
    let mut tables = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if line.starts_with("|--") {
            let rows = lines[index + 1..].iter();
            let rows = rows.take_while(|row| row.starts_with('|'));
            tables.push((lines[index - 1], rows.map(|row| cells(row)).collect()));
        }
    }
    tables
}

/// Gives the rows of the table with these heads.
#[track_caller]
pub fn table<'p>(page: &'p str, head: &str) -> Vec<Vec<&'p str>> {
    let mut found = tables(page).into_iter().filter(|(line, _)| *line == head);
    let (_, rows) = found.next().unwrap_or_else(|| panic!("no table {head}"));
    assert!(found.next().is_none() && !rows.is_empty(), "{head}");
    rows
}

/// Gives what is between backticks.
pub fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// A file of the repository.
fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

/// The text of all files beneath a directory of the repository; that of Rust without its tests.
fn all_of(directory: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut text = String::new();
    for entry in walkdir::WalkDir::new(root) {
        let path = entry.unwrap().into_path();
        let place = path.to_str().unwrap();
        let is_test = place.ends_with("/tests.rs") || place.contains("/tests/");
        if path.is_file() && !is_test && !place.contains("/lock/") {
            let content = fs::read_to_string(&path).unwrap();
            text += content.split("#[cfg(test)]").next().unwrap();
        }
    }
    text
}

/// The names of environment variables in a text, that begin so.
fn variables<'t>(text: &'t str, start: &str) -> BTreeSet<&'t str> {
    let is_of_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c| !is_of_name(c));
    words
        .filter(|word| word.starts_with(start) && word.len() > start.len())
        .collect()
}

/// Tables of numbers that were measured. To measure them is no test.
const MEASURED: [&str; 2] = ["| | `debian` | `base` |", "| | time |"];

/// The tables of docs/image.md and docs/dashboard.md that a test reads: here, or in `image::tables` and `image::limits`.
const READ: [&str; 15] = [
    "| `INIT=` | tests | of these, in `.ci/run` |",
    "| `INIT=` | s6 and `/init` | your own services | messages at start |",
    "| command | effect | the container ends |",
    "| `docker run` | effect |",
    "| `docker run` | message |",
    "| variable or mount | effect |",
    "| warning | when |",
    "| line | remedy |",
    "| line | meaning |",
    "| whose | PATH |",
    "| `TOOLS=` | packages | size of the image |",
    "| variable | default | meaning |",
    "| command | does |",
    "| file | content |",
    "| code | meaning |",
];

#[test]
fn every_table_of_the_image_and_of_the_dashboard_is_read_by_a_test() {
    for (head, _) in [tables(IMAGE), tables(DASHBOARD)].concat() {
        let is_known = READ.contains(&head) || MEASURED.contains(&head);
        assert!(is_known, "no test reads {head}");
    }
    let row = "| `a | b` | | c |";
    assert_eq!(cells(row), ["`a | b`", "", "c"]);
}

/// The program without any setting, in a directory that stands for `/`.
fn bare(env: &TestEnv, words: &str) -> Ran {
    let mut command = Command::new(programs().join("hermes-s6"));
    command
        .env_clear()
        .env("PATH", "/nothing")
        .env("HOME", "/home/ada")
        .env("HERMES_S6_ROOT", env.place.join("root"))
        .args(words.words())
        .stdin(Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.ran()
}

/// Checks what stands for a variable that says where something is; tells whether the variable is one.
fn is_place(variable: &str, default: &str) -> bool {
    let env = TestEnv::new();
    let root = env.place.join("root");
    fs::create_dir_all(root.join("run")).unwrap();
    env.own();
    match variable {
        "HERMES_HOME" => {
            let [in_images, own] = quoted(default)[..] else {
                panic!("{default}");
            };
            let own = own.replace('~', "/home/ada");
            bare(&env, "port")
                .ends(111)
                .warns(format!("{}{own}: ", root.display()));
            fs::create_dir_all(root.join(&in_images[1..])).unwrap();
            bare(&env, "port").ends(0);
        }
        "HERMES_S6_SCANDIR" => {
            let [place] = quoted(default)[..] else {
                panic!("{default}");
            };
            bare(&env, "status")
                .ends(102)
                .warns(format!("there is no {place}: "));
        }
        "HERMES_S6_USER" => {
            fs::create_dir_all(root.join("etc")).unwrap();
            env.write(&root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n");
            let [user] = quoted(default)[..] else {
                panic!("{default}");
            };
            if is_root() {
                let mut command = env.root_command(programs().join("hermes-s6"));
                let ran = command.env("HERMES_S6_ROOT", &root).arg("status").ran();
                ran.ends(100).warns(format!("unable to find user '{user}'"));
            }
        }
        "HERMES_S6_BINDIR" => {
            assert_eq!(default, "`/command`, then `PATH`");
            fs::create_dir_all(root.join("opt/data")).unwrap();
            bare(&env, "reconcile")
                .ends(127)
                .warns("unable to find s6-svscan in /command or PATH");
        }
        "HERMES_S6_HERMES" => {
            let [in_images, _path] = quoted(default)[..] else {
                panic!("{default}");
            };
            let ran = bare(&env, "hermes tools").ends(127);
            ran.warns(format!("neither {in_images} nor in PATH"));
        }
        _ => return false,
    }
    true
}

/// Checks the default and the values of a variable that changes what is done; tells whether the variable is one.
fn is_setting(variable: &str, default: &str, meaning: &str) -> bool {
    let mut env = TestEnv::new();
    match variable {
        "HERMES_S6_STOP_TIMEOUT" => {
            let seconds = quoted(default)[0];
            let rendered = env.run("render -p default").ends(0);
            rendered.says(format!("/timeout-kill (0644) <==\n{seconds}000\n"));
            env.set(variable, "x");
            let ran = env.run("reconcile --dry-run");
            ran.warns(format!(
                "{variable}='x' is ignored: it takes 1 to 86400 seconds"
            ));
            has(&meaning, "1 to 86400");
        }
        "HERMES_DASHBOARD" => {
            env.set(variable, quoted(meaning)[0])
                .run("reconcile")
                .ends(0);
            let ran = env.run("status --json");
            for name in ["HERMES_DASHBOARD_HOST", "HERMES_DASHBOARD_PORT"] {
                let row = table(DASHBOARD, "| variable | default | meaning |");
                let row = row
                    .iter()
                    .find(|row| row[0] == format!("`{name}`"))
                    .unwrap();
                let default = quoted(row[1])[0];
                ran.says(default);
                has(&meaning, format!("`{name}` ({default})"));
            }
            ran.says(r#""url":"http://127.0.0.1:9119""#);
        }
        "HERMES_S6_WATCHDOG" | "HERMES_S6_AUTOSTART" | "HERMES_GATEWAY_BOOTSTRAP_STATE" => {
            let ran = env.set(variable, "x").run("reconcile --dry-run");
            let (_, takes) = ran.stderr.split_once(" it takes ").unwrap();
            let takes: Vec<&str> = takes.trim_end().split(" or ").collect();
            let mut said = quoted(meaning);
            said.sort_unstable();
            assert_eq!(said, takes, "{variable}");
        }
        "HERMES_S6_PORTS" => {
            let ran = env.set(variable, "x").run("reconcile --dry-run");
            let [ports, within] = [quoted(default)[0], quoted(meaning)[0]];
            ran.warns(format!(
                "it takes a range of ports such as {ports}, within {within}\n"
            ));
            env.variables.clear();
            env.running("coder");
            let (first, last) = ports.split_once('-').unwrap();
            let port: u16 = env.run("port -p coder").stdout.trim().parse().unwrap();
            assert!((first.parse().unwrap()..=last.parse().unwrap()).contains(&port));
        }
        "API_SERVER_PORT" => {
            env.run("port")
                .is(0, format!("{}\n", quoted(default)[0]), "");
        }
        _ => return false,
    }
    true
}

/// Checks that a variable means what its row in README.md says, as far as the row names a default or its values.
fn check_variable(variable: &str, default: &str, meaning: &str) {
    let dockerfile = file("Dockerfile");
    match variable {
        "PUID" | "PGID" | "HERMES_UID" | "HERMES_GID" => {
            let id = quoted(default)[0];
            has(&dockerfile, format!("--gid {id} hermes"));
            has(&dockerfile, format!("--uid {id} "));
        }
        "S6_KILL_GRACETIME" => {
            let setting = format!("setting {variable} {}", quoted(default)[0]);
            has(&all_of("rootfs/debian"), setting);
        }
        "S6_BEHAVIOUR_IF_STAGE2_FAILS" => {
            has(&dockerfile, format!("{variable}={}", quoted(default)[0]));
        }
        "HERMES_S6_ROOT" => assert_eq!(default, "`/`"),
        _ if ["", "no"].contains(&default) && !meaning.contains('`') => {}
        _ if is_place(variable, default) || is_setting(variable, default, meaning) => {}
        // What they stand for otherwise is nothing that could be compared.
        _ => {
            let without = ["", "no", "`config.yaml`, else no"];
            assert!(
                without.contains(&default),
                "nobody knows how to see {variable}: {default}"
            );
        }
    }
}

#[test]
fn every_variable_of_the_readme_is_read_and_has_the_default_that_is_said_there() {
    let (code, scripts) = (all_of("src"), all_of("rootfs"));
    let [code, scripts] = [&code, &scripts].map(|text| variables(text, ""));
    let mut checked = 0;
    for row in table(README, "| variable | default | meaning |") {
        let [names, default, meaning] = row[..] else {
            panic!("{row:?}");
        };
        if names.starts_with("path ") {
            continue;
        }
        for name in quoted(names) {
            let reader = if meaning.starts_with("image:") {
                &scripts
            } else {
                &code
            };
            assert!(reader.contains(name), "nobody reads {name}");
            check_variable(name, default, meaning);
            checked += 1;
        }
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn every_variable_that_is_read_is_in_the_documentation() {
    // By which our own programs know each other.
    let own = ["HERMES_S6_CONTAINER_COMMAND", "HERMES_S6_CONTENV"];
    let pages = README.to_owned() + &all_of("docs");
    let known = variables(&pages, "");
    let code = all_of("src") + &all_of("rootfs");
    let read: Vec<&str> = variables(&code, "HERMES_S6_").into_iter().collect();
    assert!(read.len() > 12, "{read:?}");
    for name in read {
        assert_ne!(known.contains(name), own.contains(&name), "{name}");
    }
    // By any name: what the code asks the environment for.
    let asks = ["text(", "value(", "path(", "var(", "var_os("];
    let mut asked = 0;
    for rest in asks.iter().flat_map(|ask| code.split(ask).skip(1)) {
        let name = rest
            .trim_start()
            .strip_prefix('"')
            .and_then(|rest| rest.split('"').next());
        let is_variable = |name: &&str| variables(name, "").first() == Some(name);
        // The pages have those of secrets in files as a pattern.
        let is_one = |name: &&str| is_variable(name) && !name.ends_with("_FILE");
        if let Some(name) = name.filter(is_one) {
            assert!(known.contains(name), "{name} is in no page");
            asked += 1;
        }
    }
    assert!(asked > 15, "{asked}");
}

#[test]
fn the_commands_of_the_readme_are_those_of_the_help() {
    let env = TestEnv::new();
    let help = env.run("--help").stdout;
    let (_, list) = help.split_once("\nCommands:\n").unwrap();
    let list = list.split("\n\n").next().unwrap();
    let listed: BTreeSet<&str> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let mut named = BTreeSet::new();
    for row in table(README, "| command | does |") {
        for code in quoted(row[0]) {
            named.insert(code);
            has(&row[0], format!("(docs/{code}.md)"));
            file(&format!("docs/{code}.md"));
            env.run(&[code, "--help"]);
        }
    }
    // The one of scripts that call us by the name of Hermes.
    assert!(named.remove("hermes"));
    assert_eq!(named, listed);
}

#[test]
fn the_exit_codes_of_the_readme_are_those_of_the_program() {
    let code = file("src/error.rs");
    let (_, list) = code.split_once("pub enum Code {").unwrap();
    let list = list.split('}').next().unwrap();
    let numbers: Vec<&str> = list
        .lines()
        .filter_map(|line| line.split_once(" = ")?.1.strip_suffix(','))
        .collect();
    let rows = table(README, "| code | meaning |");
    let named: Vec<&str> = rows.iter().flat_map(|row| row[0].split(", ")).collect();
    assert_eq!(named, numbers);
}

#[test]
fn the_files_of_a_slot_are_those_of_the_readme() {
    let env = TestEnv::new();
    env.profile("coder", "");
    let [plain, down] = ["default", "coder"].map(|profile| {
        env.run("reconcile").ends(0);
        let slot = env.slot(profile);
        let files = walkdir::WalkDir::new(&slot).into_iter().map(Result::unwrap);
        let files = files.filter(|entry| entry.file_type().is_file());
        let name = |entry: walkdir::DirEntry| {
            let path = entry.path().strip_prefix(&slot).unwrap();
            path.to_str()
                .unwrap()
                .replace("env/API_SERVER_PORT", "env/")
        };
        files.map(name).collect::<BTreeSet<String>>()
    });
    let mut named = BTreeSet::new();
    for row in table(README, "| file | holds | why |") {
        for name in quoted(row[0]) {
            named.insert(name.to_owned());
            let content = quoted(row[1]);
            let of_one_line = [
                "-fd",
                "timeout-kill",
                "max-death-tally",
                "down-signal",
                "type",
            ];
            if of_one_line.iter().any(|end| name.ends_with(end)) {
                let content = content[0];
                let place = env.slot("coder").join(name);
                assert_eq!(
                    fs::read_to_string(place).unwrap().trim_end(),
                    content,
                    "{name}"
                );
            }
        }
    }
    assert_eq!(down, named);
    named.remove("env/");
    assert_eq!(plain, named);
}

#[test]
fn what_make_does_by_the_readme_is_in_the_makefile() {
    let makefile = file("Makefile");
    for row in table(README, "| command | does | installs, if missing |") {
        let [target] = quoted(row[0])[..] else {
            panic!("{row:?}");
        };
        let (_, target) = target.split_once("make ").unwrap();
        let (target, variable) = target.split_once(' ').unwrap_or((target, ""));
        has(&makefile, format!("\n{target}:"));
        if let Some((variable, _)) = variable.split_once('=') {
            has(&makefile, format!("$({variable})"));
        }
    }
    let script = file("tests/setup/image") + &file("tests/setup/base-image") + &makefile;
    for row in table(README, "| | is | unless given |") {
        let variable = quoted(row[0])[0];
        assert!(variables(&script, "").contains(variable), "{variable}");
        let default = quoted(row[2]);
        match variable {
            "INIT" | "TOOLS" => {
                has(&makefile, format!("\n{variable} = {}\n", default[0]));
                has(
                    &file("Dockerfile"),
                    format!("\nARG {variable}={}\n", default[0]),
                );
            }
            "BASE_IMAGE" => {
                has(
                    &file("Dockerfile"),
                    format!("\nARG {variable}={}\n", default[0]),
                );
                has(&script, default[0]);
            }
            "TAG" => has(&makefile, "\nTAG = hermes-s6:$(INIT)\n"),
            "WHEELS" | "CA_BUNDLE" => has(&script, default[0]),
            "DOCKER_BUILDKIT" => {}
            _ => panic!("nobody knows how to see {row:?}"),
        }
    }
    for value in quoted(table(README, "| | is | unless given |")[0][1]) {
        // The last one is a path of ours.
        if !value.starts_with('/') {
            has(&script, value);
        }
    }
}

#[test]
fn the_inits_and_the_tools_of_the_documentation_are_those_of_the_dockerfile() {
    let dockerfile = file("Dockerfile");
    let inits = table(
        IMAGE,
        "| `INIT=` | s6 and `/init` | your own services | messages at start |",
    );
    let names: Vec<&str> = inits.iter().map(|row| quoted(row[0])[0]).collect();
    has(
        &file("tests/setup/image"),
        format!("\n  {} | add)", names.join(" | ")),
    );
    let version = inits[1][1].split([' ', ',']).nth(1).unwrap();
    has(&dockerfile, format!("\nARG S6_OVERLAY_VERSION={version}\n"));
    let code = dockerfile
        .replace("\\\n", "")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let tools = table(IMAGE, "| `TOOLS=` | packages | size of the image |");
    for row in &tools {
        let packages = row[1].trim_start_matches("those, and ");
        let test = match quoted(row[0])[0] {
            "minimal" => {
                assert_eq!(packages, "none");
                continue;
            }
            "standard" => "[ \"$TOOLS\" = minimal ] ||",
            "full" => "[ \"$TOOLS\" != full ] ||",
            _ => panic!("{row:?}"),
        };
        has(
            &code,
            format!("{test} set -- \"$@\" {};", packages.replace(',', "")),
        );
    }
    let standard = table(README, "| command | does | installs, if missing |");
    let standard = standard
        .iter()
        .find(|row| row[0] == "`make image`")
        .unwrap();
    has(&standard[1], format!("({})", tools[1][2]));
}

#[test]
fn the_inits_whose_tests_are_said_to_run_by_themselves_are_those_of_ci() {
    let ci = file(".ci/run");
    for row in table(IMAGE, "| `INIT=` | tests | of these, in `.ci/run` |") {
        let line = match quoted(row[0])[0] {
            "debian" => "make test-image\n".to_owned(),
            init => format!("make test-image INIT={init}"),
        };
        let is_run = !row[2].starts_with("none");
        assert_eq!(ci.contains(&line), is_run, "{}", row[0]);
    }
}

#[test]
fn the_lines_of_the_documentation_with_which_a_build_ends_are_those_of_the_script() {
    let script = file("rootfs/s6-overlay/usr/libexec/hermes-s6/add");
    let mut fatal = 0;
    for (head, level) in [
        ("| line | remedy |", "fatal"),
        ("| line | meaning |", "say \"warning:"),
    ] {
        for row in table(IMAGE, head) {
            let line = quoted(row[0])[0]
                .trim_end_matches('\u{2026}')
                .trim_end_matches([',', ' ']);
            // What is a variable in the script has its usual value here.
            let line = line.replace("/etc/s6-overlay/s6-rc.d/user", "$bundle");
            let line = line.replace("/opt/data", "$data");
            has(
                &script,
                format!(
                    "{level}{}{line}",
                    if level == "fatal" { " \"" } else { " " }
                ),
            );
            fatal += usize::from(level == "fatal");
        }
    }
    assert_eq!(
        script.matches("fatal \"").count(),
        fatal,
        "and there is no other"
    );
}

#[test]
fn what_is_said_of_the_dashboard_is_there() {
    let code = all_of("src");
    for row in table(DASHBOARD, "| variable | default | meaning |") {
        // Those of Hermes are not read, except for advice.
        let name = quoted(row[0])[0];
        let is_ours = row[2] != "reach Hermes as they are";
        assert!(!is_ours || variables(&code, "").contains(name), "{name}");
    }
    let mut env = TestEnv::new();
    env.set("HERMES_DASHBOARD", "1").run("reconcile").ends(0);
    for row in table(DASHBOARD, "| command | does |") {
        let words = quoted(row[0])[0].strip_prefix("hermes-s6 ").unwrap();
        // It is a command, and there is no tree yet.
        let ran = env.run(words);
        assert_ne!(ran.code, 100, "{words} {ran:?}");
    }
    let service = env.scandir.join("hermes-s6-dashboard");
    for row in table(DASHBOARD, "| file | content |") {
        for name in quoted(row[0]) {
            let content = fs::read_to_string(service.join(name)).unwrap();
            if name == "timeout-kill" {
                assert_eq!(content.trim_end(), quoted(row[1])[0]);
            }
        }
    }
}
