//! The order of `src/`: floors, imports only downwards, no circles, no long files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The floors from top to bottom, by the folder or file in `src/`, as in the crate doc.
const FLOORS: [&[&str]; 12] = [
    &["main", "lib"],
    &["command"],
    &["view"],
    &["tree"],
    &["volume"],
    &["rights"],
    &["s6"],
    &["settings"],
    &["cli"],
    &["hermes"],
    &["system"],
    &["report", "error"],
];

/// More than this nobody reads at one sitting.
const LINES_MAX: usize = 520;

/// The sources, by their path in `src/`.
type Sources = BTreeMap<String, String>;

/// The files that each file imports from.
type Imports = BTreeMap<String, BTreeSet<String>>;

fn sources() -> Sources {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = walkdir::WalkDir::new(&src).into_iter().map(Result::unwrap);
    let files = files.filter(|entry| entry.path().extension().is_some_and(|end| end == "rs"));
    let source = |entry: walkdir::DirEntry| {
        let path = entry.path().strip_prefix(&src).unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        (path.to_str().unwrap().to_owned(), text)
    };
    files.map(source).collect()
}

/// The module of a file: `tree::plan` for `tree/plan.rs`, `view` for `view/mod.rs`, nothing for `lib.rs`.
fn module_of(file: &str) -> String {
    let path = file.trim_end_matches(".rs").replace('/', "::");
    let path = path.strip_suffix("::mod").unwrap_or(&path);
    if path == "lib" { "" } else { path }.to_owned()
}

fn floor_of(file: &str) -> Option<usize> {
    let first = file.split('/').next().unwrap().trim_end_matches(".rs");
    FLOORS.iter().position(|floor| floor.contains(&first))
}

/// The code of a file, without its comments and its unit tests.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let without_comment = |line: &str| line.split("//").next().unwrap().to_owned();
    code.lines()
        .map(without_comment)
        .collect::<Vec<_>>()
        .join("\n")
}

/// All paths that a code names behind a keyword such as `crate::`, with groups in braces spelled out.
fn paths_behind(keyword: &str, code: &str) -> Vec<String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut paths = Vec::new();
    for (at, _) in code.match_indices(keyword) {
        if at > 0 && is_word(code.as_bytes()[at - 1]) {
            continue;
        }
        expand(&code[at + keyword.len()..], "", &mut paths);
    }
    paths
}

/// Reads one path, which may end with a group, and gives what follows it.
fn expand<'c>(code: &'c str, before: &str, paths: &mut Vec<String>) -> &'c str {
    let code = code.trim_start();
    if let Some(mut group) = code.strip_prefix('{') {
        loop {
            group = expand(group, before, paths).trim_start();
            match group.chars().next() {
                Some(',') => group = group[1..].trim_start(),
                Some('}') => return &group[1..],
                _ => return group,
            }
            if let Some(rest) = group.strip_prefix('}') {
                return rest;
            }
        }
    }
    let end = code.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    let (name, rest) = code.split_at(end.unwrap_or(code.len()));
    let path = if before.is_empty() {
        name.to_owned()
    } else {
        format!("{before}::{name}")
    };
    match rest.strip_prefix("::") {
        Some(rest) if !rest.starts_with('<') => expand(rest, &path, paths),
        _ => {
            paths.push(path);
            rest
        }
    }
}

/// Finds the files that each file imports from: by `crate::`, `super::` and `self::`, wherever they stand.
fn imports(sources: &Sources) -> Imports {
    let modules: BTreeMap<String, &String> =
        sources.keys().map(|file| (module_of(file), file)).collect();
    let file_of = |path: &str| {
        // What is imported is a module, or an item in it.
        let mut path = Some(path);
        while let Some(module) = path {
            if let Some(file) = modules.get(module) {
                return Some((*file).clone());
            }
            path = module.rsplit_once("::").map(|(module, _)| module);
        }
        modules.get("").map(|file| (*file).clone())
    };
    let mut imports = Imports::new();
    for (file, text) in sources {
        if file == "main.rs" || file.ends_with("/tests.rs") || file.contains("/tests/") {
            continue;
        }
        let module = module_of(file);
        let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
        let code = code_of(text);
        let mut found = BTreeSet::new();
        for (keyword, base) in [("crate::", ""), ("super::", parent), ("self::", &module)] {
            for path in paths_behind(keyword, &code) {
                let path = [base, &path].join("::");
                found.extend(file_of(path.trim_start_matches("::")));
            }
        }
        found.remove(file);
        imports.insert(file.clone(), found);
    }
    imports
}

/// Finds what is wrong: an import that goes up, or one that is part of a circle.
fn faults(sources: &Sources) -> Vec<String> {
    let imports = imports(sources);
    let mut faults = Vec::new();
    for file in sources.keys().filter(|file| floor_of(file).is_none()) {
        faults.push(format!("src/{file} is on no floor"));
    }
    for (file, imported) in &imports {
        for target in imported {
            if floor_of(target) < floor_of(file) {
                faults.push(format!("src/{file} imports upwards from src/{target}"));
            } else if reaches(&imports, target, file) {
                faults.push(format!("src/{file} imports in a circle from src/{target}"));
            }
        }
    }
    faults
}

fn reaches(imports: &Imports, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut left = vec![from];
    while let Some(file) = left.pop() {
        if file == to {
            return true;
        }
        if seen.insert(file) {
            left.extend(imports.get(file).into_iter().flatten().map(String::as_str));
        }
    }
    false
}

#[test]
fn every_file_imports_only_from_its_own_floor_and_from_those_beneath_it() {
    let sources = sources();
    assert!(imports(&sources).values().map(BTreeSet::len).sum::<usize>() > 150);
    assert_eq!(faults(&sources), [""; 0]);
}

#[test]
fn an_import_that_goes_up_or_round_is_told_with_both_files() {
    let check = |files: &[(&str, &str)]| {
        let sources = files
            .iter()
            .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()));
        faults(&sources.collect())
    };
    for (files, expected, sentence) in [
        (
            &[
                ("tree/plan.rs", "use crate::volume::port::Ports;"),
                ("volume/port.rs", ""),
            ][..],
            &[][..],
            "down is right",
        ),
        (
            &[
                ("volume/port.rs", "use crate::tree::plan::Plan;"),
                ("tree/plan.rs", ""),
            ],
            &["src/volume/port.rs imports upwards from src/tree/plan.rs"],
            "up is wrong",
        ),
        (
            &[
                ("volume/port.rs", "fn f() { crate::tree::plan::plan() }"),
                ("tree/plan.rs", ""),
            ],
            &["src/volume/port.rs imports upwards from src/tree/plan.rs"],
            "also in the middle of the code",
        ),
        (
            &[
                (
                    "volume/port.rs",
                    "use crate::{error::Error, tree::{slot, plan::Plan}};",
                ),
                ("tree/plan.rs", ""),
                ("error.rs", ""),
            ],
            &["src/volume/port.rs imports upwards from src/tree/plan.rs"],
            "and in a group",
        ),
        (
            &[
                ("tree/mod.rs", "pub mod slot;"),
                ("tree/slot.rs", "use super::plan::Plan;"),
                ("tree/plan.rs", "use crate::tree::slot::Files;"),
            ],
            &[
                "src/tree/plan.rs imports in a circle from src/tree/slot.rs",
                "src/tree/slot.rs imports in a circle from src/tree/plan.rs",
            ],
            "round is wrong on one floor, too",
        ),
        (
            &[
                (
                    "tree/plan.rs",
                    "// not use crate::view::row::Row;\n#[cfg(test)]\nmod tests { use crate::view::row::Row; }",
                ),
                ("view/row.rs", ""),
            ],
            &[],
            "comments and tests do not count",
        ),
        (
            &[("utils.rs", "")],
            &["src/utils.rs is on no floor"],
            "a file has to have a floor",
        ),
    ] {
        assert_eq!(check(files), expected, "{sentence}");
    }
}

#[test]
fn no_source_file_is_too_long_to_be_read_at_one_sitting() {
    let long = |(file, text): (String, String)| {
        let lines = text.lines().count();
        (lines > LINES_MAX).then(|| format!("src/{file} has {lines} lines"))
    };
    let long: Vec<String> = sources().into_iter().filter_map(long).collect();
    assert_eq!(long, [""; 0]);
}

#[test]
fn the_crate_doc_has_the_floors_from_top_to_bottom() {
    let text = &sources()["lib.rs"];
    let doc: String = text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    let place = |name: &&str| doc.find(&format!("[`{name}`]"));
    let names: Vec<&str> = FLOORS[1..].concat();
    let places: Vec<Option<usize>> = names.iter().map(place).collect();
    assert!(places.iter().all(Option::is_some), "{names:?} {places:?}");
    assert!(places.is_sorted(), "{names:?} {places:?}");
}

/// What is between backticks in a text.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_promise_names_tests_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    for place in ["src", "tests/it"] {
        for entry in walkdir::WalkDir::new(root.join(place)) {
            let path = entry.unwrap().into_path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &fs::read_to_string(path).unwrap();
            }
        }
    }
    let page = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| ") && *line != "| promise | test |");
    let mut promises = 0;
    for row in rows {
        let tests = row.rsplit(" | ").next().unwrap();
        assert!(quoted(tests).count() > 0, "a promise without a test: {row}");
        for test in quoted(tests) {
            let name = test.rsplit("::").next().unwrap();
            assert!(
                sources.contains(&format!("fn {name}(")),
                "there is no {test}"
            );
        }
        promises += 1;
    }
    assert!(promises > 30);
}
