//! Settings on the volume, as we read them and as the real Hermes reads them, in `config.py`.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use hermes_s6::hermes::config::Config;
use hermes_s6::hermes::dotenv::EnvFile;
use serde::Deserialize;
use serde_json::json;

use crate::support::{TestEnv, skip};

/// Environment files. The variables A and B are compared.
const ENV_FILES: &[&[u8]] = &[
    b"",
    b"A=1\nB=2\n",
    b"A=1\r\nB=2\r\n",
    b"A=1\rB=2",
    b"export A=1\nexport\tB = 2",
    b"  A  =  1  \n\tB=2\t\n",
    b"A=1 # why\nB=2# why\n",
    b"A= # why\nB=#why\n",
    b"A=\nB\n",
    b"A=1\nA\nB=1\nB=2\n",
    b"A=1=2\nB==3\n",
    b"A='1' # why\nB=\"2\" # why\n",
    b"A='1' 2\nB=3\n",
    b"A=\"1\nB=2\n",
    b"A='1\nB=2\n",
    b"A=\"1\n2\"\nB='3\n  4  \n'\n",
    b"A=\"a\\tb\\n\\\"\\\\c\\d\\x\"\nB='a\\tb\\'\\\\c'\n",
    b"A='C:\\'\nB=\"C:\\\"\n",
    b"A=C:\\n\nB='\\'",
    b"'A'=1\n\"B\"=2\n",
    b"'A\nB'=1\n",
    b"A='${GIVEN}'\nB=\"${GIVEN}\"\n",
    b"A=${GIVEN}1\nB=${A}${NONE}${NONE:-2}${GIVEN:-3}\n",
    b"A=${B}\nB=${B}\n",
    b"A=${GIVEN\nB=${GIVEN:2}$GIVEN${}\n",
    b"A\nB=${A}x${A:-y}\n",
    b"A=${a${GIVEN}}\nB=${x:${GIVEN}}\n",
    b"A: 1\nB 2\n= 3\n",
    b"#A=1\n # B=2\n",
    b"A=1;B=2\n",
    b"A=\xc3\xa9\nB=\xe2\x80\xa81\n",
    b"A=\xe9\nB=2\n",
    b"A=1\0\nB=\x002\n",
    b"A=1\x1f\nB=\xc2\xa02\xc2\xa0# x\n",
    b"\xff\xfeA\x00=\x001\x00\n\x00B\x00=\x002\x00\n\x00",
    b"\xfe\xff\x00A\x00=\x001\x00\n",
    b"\xef\xbb\xbf# a comment\nA=1\nB=2\n",
    b"\xef\xbb\xbf\nA=1\nB=2\n",
    b"A=1\nexportB=2\nexport=3\n",
    b"A='1'B=2\nB=3",
];

/// Configurations: whether one gateway serves all, and how long a gateway drains.
const CONFIGS: &[&[u8]] = &[
    b"",
    b"# nothing\n",
    b"multiplex_profiles: true\n",
    b"\xef\xbb\xbfmultiplex_profiles: true\n",
    b"\xef\xbb\xbf---\r\nmultiplex_profiles: true\r\n",
    b"multiplex_profiles: true",
    b"multiplex_profiles: yes\n",
    b"multiplex_profiles: Off\n",
    b"multiplex_profiles: oN\n",
    b"multiplex_profiles: y\n",
    b"multiplex_profiles: 'yes'\n",
    b"multiplex_profiles: \" ON \"\n",
    b"multiplex_profiles: maybe\n",
    b"multiplex_profiles: ''\n",
    b"multiplex_profiles:\n",
    b"multiplex_profiles: ~\ngateway: {multiplex_profiles: true}\n",
    b"multiplex_profiles: maybe\ngateway: {multiplex_profiles: true}\n",
    b"multiplex_profiles: 1\n",
    b"multiplex_profiles: 0\n",
    b"multiplex_profiles: 0x0\n",
    b"multiplex_profiles: 0.0\n",
    b"multiplex_profiles: .5\n",
    b"multiplex_profiles: 0:00\n",
    b"multiplex_profiles: []\n",
    b"multiplex_profiles: [false]\n",
    b"multiplex_profiles: {}\n",
    b"multiplex_profiles: {x: 1}\n",
    b"multiplex_profiles: 2001-01-01\n",
    b"multiplex_profiles: !!str true\n",
    b"multiplex_profiles: !!bool 'yes'\n",
    b"multiplex_profiles: !!int '0'\n",
    b"multiplex_profiles: ! yes\n",
    b"multiplex_profiles: !mine yes\n",
    b"multiplex_profiles: |\n  true\n",
    b"multiplex_profiles: >-\n  true\n",
    b"'multiplex_profiles': true\n",
    b"\"multiplex\\u005fprofiles\": true\n",
    b"? multiplex_profiles\n: true\n",
    b"{multiplex_profiles: true}\n",
    b"{\"multiplex_profiles\":true}\n",
    b"{\n  \"gateway\": {\n    \"multiplex_profiles\": true\n  }\n}\n",
    b"gateway: {\n  multiplex_profiles: true,\n}\n",
    b"gateway:\n  multiplex_profiles: true # all\n",
    b"gateway:\n    port: 1\n    multiplex_profiles: true\n    list:\n    - a\n    - b: c\n",
    b"gateway:\n  relay:\n    multiplex_profiles: true\n",
    b"gateway: [multiplex_profiles]\n",
    b"gateway: yes\n",
    b"model:\n  multiplex_profiles: true\n",
    b"multiplex_profiles: false\nmultiplex_profiles: true\n",
    b"gateway: {multiplex_profiles: true}\ngateway: {}\n",
    b"all: &all {multiplex_profiles: true}\ngateway: *all\n",
    b"all: &all {multiplex_profiles: true}\ngateway:\n  <<: *all\n",
    b"all: &all {multiplex_profiles: true}\ngateway:\n  multiplex_profiles: no\n  <<: *all\n",
    b"a: &a {multiplex_profiles: no}\nb: &b {multiplex_profiles: yes}\ngateway:\n  <<: [*b, *a]\n",
    b"a: &a {multiplex_profiles: no}\nb: &b {multiplex_profiles: yes}\ngateway:\n  <<: *a\n  <<: *b\n",
    b"a: &a {multiplex_profiles: yes}\n<<: *a\n",
    b"a: &a 1\n<<: *a\nmultiplex_profiles: true\n",
    b"a: &a 1\nb: &a 2\nmultiplex_profiles: true\n",
    b"a: *a\nmultiplex_profiles: true\n",
    b"a: =\nmultiplex_profiles: true\n",
    b"=: a\nmultiplex_profiles: true\n",
    b"a: 2024-02-30\nmultiplex_profiles: true\n",
    b"a: 2024-02-29T10:11:12.5 +01:30\nmultiplex_profiles: true\n",
    b"a: 0b_\nmultiplex_profiles: true\n",
    b"a: 08\nb: 1__0\nc: +1.e+5\nd: -.inf\ne: 0o7\nmultiplex_profiles: true\n",
    b"a: !!float x\nmultiplex_profiles: true\n",
    b"? [a]\n: b\nmultiplex_profiles: true\n",
    b"a: b: c\nmultiplex_profiles: true\n",
    b"a:\tb\nmultiplex_profiles: true\n",
    b"multiplex_profiles: true\t# all\n",
    b"\tmultiplex_profiles: true\n",
    b"a: 'b\tc' #\td\ne: \"\t\"\nf: |\n  \tg\nmultiplex_profiles: true\n",
    b"a: b\n  multiplex_profiles: true\n",
    b"a: several words\n  on two lines\nmultiplex_profiles: true\n",
    b"a: it's # fine\nmultiplex_profiles: true\n",
    b"a: 'it''s'\nb: http://x/#y\nmultiplex_profiles: true\n",
    b"a: @b\nmultiplex_profiles: true\n",
    b"a: %b\nmultiplex_profiles: true\n",
    b"a: \"\\q\"\nmultiplex_profiles: true\n",
    b"a: \"open\nmultiplex_profiles: true\n",
    b"a: [open\nmultiplex_profiles: true\n",
    b"multiplex_profiles: true\n---\na: b\n",
    b"---\nmultiplex_profiles: true\n...\n",
    b"%YAML 1.1\n---\nmultiplex_profiles: true\n",
    b"- multiplex_profiles: true\n",
    b"multiplex_profiles\n",
    b"a: \x07\nmultiplex_profiles: true\n",
    b"a: \xe9\nmultiplex_profiles: true\n",
    b"a: \xc3\xa9\xf0\x9f\xa6\x80\nmultiplex_profiles: true\n",
    b"a: b\xc2\x85multiplex_profiles: true\n",
    b"agent:\n  restart_drain_timeout: 60\n",
    b"agent: {restart_drain_timeout: '90.5'}\n",
    b"agent: {restart_drain_timeout: 1:30}\n",
    b"agent: {restart_drain_timeout: 1e3}\n",
    b"agent: {restart_drain_timeout: 1_0}\n",
    b"agent: {restart_drain_timeout: 010}\n",
    b"agent: {restart_drain_timeout: ' 5 '}\n",
    b"agent: {restart_drain_timeout: -5}\n",
    b"agent: {restart_drain_timeout: yes}\n",
    b"agent: {restart_drain_timeout: soon}\n",
    b"agent: {restart_drain_timeout: }\n",
    b"agent: [restart_drain_timeout]\n",
    b"restart_drain_timeout: 60\n",
];

/// Where it is set that one gateway serves all: the environment, the `.env` of `default`, its `config.yaml`, the
/// `.env` of `coder`; whether the gateway of `default` runs, and whether that of `coder` then ends at once.
const SERVED: &[(&str, &str, &str, &str, bool, bool)] = &[
    ("true", "", "", "", true, true),
    ("true", "", "", "", false, false),
    ("", "", "multiplex_profiles: true", "", true, true),
    ("", "", "multiplex_profiles: true", "", false, false),
    ("", SERVES, "", "", true, false),
    ("false", "", "multiplex_profiles: true", "", true, false),
    (
        "true",
        "",
        "",
        "GATEWAY_MULTIPLEX_PROFILES=false",
        true,
        false,
    ),
    ("", "", "", "", true, false),
];

const SERVES: &str = "GATEWAY_MULTIPLEX_PROFILES=true";

#[derive(Deserialize)]
struct Real {
    env_files: Vec<[Option<String>; 2]>,
    configs: Vec<Option<(bool, u64)>>,
    refused: Vec<bool>,
}

#[test]
fn settings_are_read_as_the_real_hermes_reads_them() {
    let Ok(hermes) = std::env::var("HERMES_S6_TEST_HERMES") else {
        skip("HERMES_S6_TEST_HERMES does not name the real Hermes");
        return;
    };
    let env = TestEnv::new();
    let deep = |depth: usize| [b"a: ".to_vec(), b"[".repeat(depth), b"]".repeat(depth)].concat();
    let (shallow, deep) = (deep(100), deep(100_000));
    let mut configs = CONFIGS.to_vec();
    configs.extend([&shallow[..], &deep]);
    let python = Path::new(&hermes).with_file_name("python");
    let mut child = env
        .command(python)
        // The user whom this runs as may not reach the source.
        .args(["-c", include_str!("config.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let served: Vec<_> = SERVED
        .iter()
        .map(|(environment, env_file, config, own, runs, _)| {
            json!([environment, env_file, config, own, runs])
        })
        .collect();
    let request =
        json!({"home": env.home, "env_files": ENV_FILES, "configs": configs, "served": served});
    write!(child.stdin.take().unwrap(), "{request}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let real: Real = serde_json::from_slice(&output.stdout).unwrap();

    let mut wrong = Vec::new();
    let given = |name: &str| match name {
        "GIVEN" => Some("given".to_owned()),
        "HOME" | "HERMES_HOME" => Some(env.home.display().to_string()),
        _ => None,
    };
    for (content, real) in ENV_FILES.iter().zip(&real.env_files) {
        let file = EnvFile::read(content, &given);
        let ours = ["A", "B"].map(|name| file.get(name).unwrap().map(str::to_owned));
        if ours != *real {
            let text = content.escape_ascii();
            wrong.push(format!("{text}\n  ours {ours:?}\n  real {real:?}"));
        }
    }
    for (content, real) in configs.iter().zip(&real.configs) {
        let config = Config::read(content).ok();
        // A drain that is not understood is none, for Hermes.
        let ours = config.map(|config| {
            let drain = config.drain_timeout().unwrap_or_default();
            (config.multiplex(), drain)
        });
        if ours != *real {
            let text = content[..content.len().min(100)].escape_ascii();
            wrong.push(format!("{text}\n  ours {ours:?}\n  real {real:?}"));
        }
    }
    for (case, refused) in SERVED.iter().zip(&real.refused) {
        if case.5 != *refused {
            wrong.push(format!("{case:?}\n  real {refused}"));
        }
    }
    assert_eq!(real.refused.len(), SERVED.len());
    assert_eq!(real.env_files.len(), ENV_FILES.len());
    assert_eq!(real.configs.len(), configs.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
