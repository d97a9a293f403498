//! Rendered trees, compared with `tests/golden/<case>/expected` file by file, modes and owners included.
//!
//! A case is a directory: `input/` stands for "/" (with `opt/data` as the volume), `environment` has a
//! variable a line, `expected/` what is there afterwards besides the input, its `MODES` a line for each
//! entry, its `stdout` what was printed. `HERMES_S6_UPDATE_GOLDEN=1` writes them anew, to be read
//! before they are committed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::support::{NOBODY, Run, TestEnv, copy_tree, is_root, programs, skip};

/// Programs that are called, or looked for, beneath the root of a case.
const TOOLS: [&str; 5] = [
    "s6-svscan",
    "s6-svscanctl",
    "s6-setuidgid",
    "execlineb",
    "fdclose",
];

fn case(name: &str, as_root: bool) {
    let case = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    let mut env = TestEnv::new();
    let root = env.place.join("root");
    copy_tree(&case.join("input"), &root);
    for directory in ["command", "usr/bin", "run", "opt/hermes/.venv/bin"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for tool in TOOLS {
        let places = ["/usr/lib/execline/bin", "/usr/bin", "/command"]
            .map(|place| Path::new(place).join(tool));
        symlink(
            places.iter().find(|place| place.exists()).unwrap(),
            root.join("command").join(tool),
        )
        .unwrap();
    }
    fs::copy(programs().join("hermes-s6"), root.join("usr/bin/hermes-s6")).unwrap();
    fs::copy(
        programs().join("hermes"),
        root.join("opt/hermes/.venv/bin/hermes"),
    )
    .unwrap();
    env.own();
    if as_root {
        // Only root can change what its s6-svscan runs.
        chown(&env.place, Some(0), Some(0)).unwrap();
        for place in ["", "run", "command", "usr", "usr/bin", "usr/bin/hermes-s6"] {
            chown(root.join(place), Some(0), Some(0)).unwrap();
        }
    }
    let text = fs::read_to_string(case.join("environment")).unwrap_or_default();
    for (variable, value) in text.lines().filter_map(|line| line.split_once('=')) {
        env.set(variable, value);
    }
    let before = entries(&root);
    let program = root.join("usr/bin/hermes-s6");
    let mut command = if as_root {
        env.root_command(program)
    } else {
        env.command(program)
    };
    for variable in ["HERMES_HOME", "HERMES_S6_SCANDIR", "HERMES_S6_HERMES"] {
        if !env.variables.iter().any(|(name, _)| name == variable) {
            command.env_remove(variable);
        }
    }
    let ran = command.env("HERMES_S6_ROOT", &root).arg("reconcile").ran();
    let mut after = entries(&root);
    after.retain(|path, content| before.get(path) != Some(content));
    let modes: String = after
        .keys()
        .map(|path| describe(&root.join(path), path))
        .collect();
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    files.insert("MODES".into(), modes);
    files.insert(
        "stdout".into(),
        format!("{}{}exit code {}\n", ran.stdout, ran.stderr, ran.code),
    );
    files.extend(
        after
            .into_iter()
            .filter_map(|(path, content)| Some((path, timeless(&content?)))),
    );
    compare(&case.join("expected"), &files);
}

/// All entries beneath a directory: files with their content, everything else without.
fn entries(root: &Path) -> BTreeMap<PathBuf, Option<String>> {
    let walk = walkdir::WalkDir::new(root)
        .min_depth(1)
        .into_iter()
        .map(Result::unwrap);
    walk.map(|entry| {
        let path = entry.path().strip_prefix(root).unwrap().to_owned();
        let content = entry
            .file_type()
            .is_file()
            .then(|| fs::read(entry.path()).unwrap());
        (
            path,
            content.map(|content| String::from_utf8_lossy(&content).into_owned()),
        )
    })
    .collect()
}

fn describe(place: &Path, path: &Path) -> String {
    let meta = fs::symlink_metadata(place).unwrap();
    let kind = match meta.file_type() {
        kind if kind.is_dir() => "directory",
        kind if kind.is_fifo() => "fifo",
        _ => "file",
    };
    let owner = |id: u32| {
        if id == NOBODY || !is_root() {
            "user"
        } else {
            "root"
        }
    };
    let mut line = String::new();
    let mode = meta.permissions().mode() & 0o7777;
    writeln!(
        line,
        "{mode:04o} {}:{} {kind} {}",
        owner(meta.uid()),
        owner(meta.gid()),
        path.display()
    )
    .unwrap();
    line
}

/// Puts words in the place of times.
fn timeless(content: &str) -> String {
    let mut text = String::new();
    for line in content.lines() {
        let line = match line.split_once(' ') {
            Some((time, rest)) if time.len() == 24 && time.ends_with("+0000") => {
                format!("TIME {rest}")
            }
            _ => line.to_owned(),
        };
        let mut line = line;
        for key in ["\"timestamp\":", "\"updated_at\":"] {
            if let Some((start, rest)) = line.split_once(key) {
                let rest = rest.trim_start_matches(|character: char| character.is_ascii_digit());
                line = format!("{start}{key}TIME{rest}");
            }
        }
        writeln!(text, "{line}").unwrap();
    }
    text
}

fn compare(expected: &Path, files: &BTreeMap<PathBuf, String>) {
    if std::env::var_os("HERMES_S6_UPDATE_GOLDEN").is_some() {
        let _old = fs::remove_dir_all(expected);
        for (path, content) in files {
            fs::create_dir_all(expected.join(path).parent().unwrap()).unwrap();
            fs::write(expected.join(path), content).unwrap();
        }
    }
    let wanted: BTreeMap<PathBuf, String> = entries(expected)
        .into_iter()
        .filter_map(|(path, content)| Some((path, content?)))
        .collect();
    for (path, content) in files {
        assert_eq!(
            Some(content),
            wanted.get(path),
            "{} in {}",
            path.display(),
            expected.display()
        );
    }
    let missing: Vec<_> = wanted
        .keys()
        .filter(|path| !files.contains_key(*path))
        .collect();
    assert!(missing.is_empty(), "{missing:?} in {}", expected.display());
}

#[test]
fn the_tree_of_an_ordinary_user_is_rendered_so() {
    case("tree", false);
}

#[test]
fn the_direct_layout_of_root_is_rendered_so() {
    if !is_root() {
        return skip("the direct layout is root's");
    }
    case("direct", true);
}

#[test]
fn a_dashboard_container_registers_everything_down() {
    case("dashboard", false);
}

#[test]
fn autostart_always_overrides_the_role_and_never_the_intents() {
    case("autostart-always", false);
    case("autostart-never", false);
}

#[test]
fn a_container_whose_command_is_gateway_run_wants_the_default_profile() {
    case("gateway-run", false);
    case("no-supervise", false);
}

#[test]
fn a_bootstrap_state_is_for_a_volume_without_one() {
    case("bootstrap", false);
    case("bootstrap-again", false);
}

#[test]
fn one_gateway_for_all_holds_the_named_ones_down() {
    case("multiplex-config", false);
    case("multiplex-environment", false);
}
