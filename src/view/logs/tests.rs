//! Lines of logs: where they begin, in which order they come, and how much of them is shown.

use std::io::Write;

use rustix::fs::{MemfdFlags, memfd_create};

use super::*;

fn file(text: &[u8]) -> File {
    let mut file = File::from(memfd_create("log", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(text).unwrap();
    file.rewind().unwrap();
    file
}

fn log(name: &str, files: &[&[u8]]) -> Log {
    let mut log = Log::new(name.parse().unwrap(), format!("{name}: "));
    log.rest = files.iter().rev().map(|text| file(text)).collect();
    log.file = log.rest.pop().map(BufReader::new);
    log
}

fn merged(logs: &mut [Log], last: bool) -> Vec<String> {
    let mut lines = Vec::new();
    merge(logs, last, &mut |label, line| {
        lines.push(format!("{label}{}", String::from_utf8_lossy(line)));
        Ok(())
    })
    .unwrap();
    lines
}

#[test]
fn the_last_lines_begin_after_the_line_before_them() {
    let long = "x".repeat(20_000);
    for (text, wanted, left, rest) in [
        ("", 2, 2, ""),
        ("a\nb\nc\n", 0, 0, ""),
        ("a\nb\nc\n", 1, 0, "c\n"),
        ("a\nb\nc", 2, 0, "b\nc"),
        ("a\nb\nc\n", 3, 0, "a\nb\nc\n"),
        ("a\nb\nc\n", 5, 2, "a\nb\nc\n"),
        ("\n\n\n", 2, 0, "\n\n"),
        (&format!("a\n{long}\n"), 1, 0, &format!("{long}\n")),
        (&format!("{long}\nb\n"), 2, 0, &format!("{long}\nb\n")),
    ] {
        let (mut file, mut count, mut tail) = (file(text.as_bytes()), wanted, String::new());
        seek_tail(&mut file, &mut count).unwrap();
        file.read_to_string(&mut tail).unwrap();
        assert!(count == left && tail == rest, "{wanted} of {text:.9}");
    }
}

#[test]
fn a_huge_file_is_not_read_from_its_beginning() {
    let (mut file, mut wanted) = (file(b""), 1);
    file.set_len(1 << 40).unwrap();
    seek_tail(&mut file, &mut wanted).unwrap();
    assert_eq!(file.stream_position().unwrap(), (1 << 40) - REACH);
}

#[test]
fn lines_come_by_time_and_those_without_stay_behind_theirs() {
    let at = |second: u8, text: &str| format!("2026-11-23 07:03:{second:02}.123456789  {text}\n");
    let one = [&at(1, "a"), "trace\n", &at(3, "c"), &at(2, "late")].concat();
    let two = ["early\n", &at(1, "A"), &at(2, "b"), "more\n"].concat();
    let mut logs = [log("one", &[one.as_bytes()]), log("two", &[two.as_bytes()])];
    let lines = merged(&mut logs, true);
    let words: Vec<&str> = lines.iter().map(|line| &line[line.len() - 4..]).collect();
    let expected = [
        "arly", "9  a", "race", "9  A", "9  b", "more", "9  c", "late",
    ];
    assert_eq!(words, expected, "{lines:#?}");
}

#[test]
fn only_what_s6_log_writes_is_a_time() {
    assert!(time(b"2026-11-23 07:03:28.123456789  text").is_some());
    assert!(time(b"2026-11-23 07:03:28.123456789").is_some());
    assert!(time(b"2026-11-23T07:03:28.123456789 text").is_none());
    assert!(time(b"2026-11-23 07:03:28").is_none());
    assert!(time(b"").is_none());
}

#[test]
fn a_line_ends_with_its_file_and_the_last_one_when_nothing_follows() {
    let mut logs = [log("x", &[b"a\nb", b"", b"c\nd"])];
    assert_eq!(merged(&mut logs, false), ["x: a", "x: b", "x: c"]);
    assert_eq!(merged(&mut logs, true), ["x: d"]);
    assert!(merged(&mut logs, true).is_empty());
}

#[test]
fn of_a_long_line_only_the_beginning_is_shown() {
    let [fits, longer, longest] =
        [0, 1, 3 * LINE_LIMIT].map(|more| [vec![b'x'; LINE_LIMIT + more], vec![b'\n']].concat());
    let mut logs = [log(
        "x",
        &[&fits, &longer, &longest, &longest[1..99], b"\nend"],
    )];
    let lengths: Vec<usize> = merged(&mut logs, true).iter().map(String::len).collect();
    let full = LINE_LIMIT + "x: ".len();
    assert_eq!(lengths, [full, full, full, 101, 3, 6]);
}

#[test]
fn names_are_padded_and_only_for_several_and_painted_in_turn() {
    let names = |names: &[&str], colour| {
        let profiles = names.iter().map(|name| name.parse().unwrap()).collect();
        labelled(profiles, colour)
            .into_iter()
            .map(|log| log.label)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&["coder"], true), [""]);
    assert_eq!(names(&["coder", "qa"], false), ["coder | ", "qa    | "]);
    let painted = names(&["coder", "qa"], true);
    assert_eq!(
        painted,
        ["\x1b[36mcoder |\x1b[0m ", "\x1b[33mqa    |\x1b[0m "]
    );
}
