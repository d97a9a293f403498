//! What the real execlineb makes of quoted values: the same bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use askama::FastWritable;
use askama::filters::Escaper;
use hermes_s6::s6::word::{Execline, Word};

use crate::support::{TestEnv, skip};

/// Writes a value as the templates do: through its type and through the escaper.
fn quoted(value: &[u8]) -> String {
    let mut text = String::new();
    Word::new(OsStr::from_bytes(value))
        .write_into(&mut text, askama::NO_VALUES)
        .unwrap();
    let mut word = String::new();
    Execline.write_escaped_str(&mut word, &text).unwrap();
    word
}

/// Lets the real execlineb run a script whose words are the values, and gives them as they arrived.
fn through_execlineb(values: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let execlineb = ["/usr/lib/execline/bin/execlineb", "/command/execlineb"];
    let execlineb = execlineb
        .into_iter()
        .find(|path| Path::new(path).exists())?;
    let env = TestEnv::new();
    let script = env.place.join("script");
    let words: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    env.write(
        &script,
        &format!("printf \"%s\\\\0\" {}\n", words.join(" ")),
    );
    let output = env
        .command(execlineb)
        .arg("-P")
        .arg(&script)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut arrived: Vec<Vec<u8>> = output
        .stdout
        .split(|&byte| byte == 0)
        .map(<[u8]>::to_vec)
        .collect();
    arrived.pop();
    Some(arrived)
}

fn round_trip(values: &[Vec<u8>]) {
    match through_execlineb(values) {
        None => skip("execline is not installed"),
        Some(arrived) => assert_eq!(arrived, values),
    }
}

#[test]
fn every_byte_but_nul_arrives() {
    let single = (1..=255).map(|byte| vec![byte]);
    let framed = (1..=255).map(|byte| vec![b'a', byte, b'0', byte, b'f']);
    round_trip(&single.chain(framed).collect::<Vec<_>>());
}

#[test]
fn words_that_mean_something_to_execline_arrive() {
    let words = [
        "",
        "{",
        "}",
        "{ }",
        "#",
        "# no comment",
        "a#b",
        "$",
        "$1",
        "${1}",
        "${HOME}",
        "$@",
        "\\",
        "\\\\",
        "\\n",
        "\"",
        "\"\"",
        "'",
        "\\\"",
        "a b",
        " a",
        "a ",
        "\n",
        "a\nb",
        "-P",
        "--",
        "\\0x41",
        "0x41",
        "*",
        "~",
        "é",
        "日本",
        "\u{1f600}",
    ];
    round_trip(&words.map(|word| word.as_bytes().to_vec()));
}

#[test]
fn random_bytes_arrive() {
    // A fixed sequence: the multiplier of Knuth's MMIX.
    let mut state: u64 = 20_260_101;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    let values: Vec<Vec<u8>> = (0..400)
        .map(|_| {
            let length = next() % 24;
            (0..length).map(|_| next().max(1)).collect()
        })
        .collect();
    round_trip(&values);
}
