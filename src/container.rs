//! What the container around us is for: its command, and whether one gateway serves all profiles.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::name::ProfileName;
use crate::root::Root;

/// The script that every Hermes image runs its command through; its arguments are the command.
const WRAPPER: &str = "main-wrapper.sh";

/// Commands that serve something else on a volume whose gateways run in another container.
const OTHER_ROLES: [&str; 4] = ["dashboard", "serve", "gui", "desktop"];

/// Has `gateway run` run a gateway itself, beneath no supervisor.
const NO_SUPERVISE: &str = "--no-supervise";

/// Options of Hermes Agent 0.19.0 in front of `gateway run`, with which it is one. With others it may be a
/// mistake. main-wrapper.sh has to take the same command lines for one.
const TOP_OPTIONS: [&str; 2] = ["--accept-hooks", "--yolo"];

/// The options of `gateway run` itself. With others it may be a call for help.
const RUN_OPTIONS: [&str; 8] = [
    "-q",
    "--quiet",
    "--verbose",
    "--replace",
    "--force",
    "--accept-hooks",
    "--external-supervisor",
    NO_SUPERVISE,
];

/// The command that a container was started with, as far as it concerns the gateways.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// The role of a container that is not there to run gateways.
    pub other_role: Option<&'static str>,
    /// The gateway that the command runs, or means to be started.
    pub gateway: Option<Gateway>,
}

/// A `gateway run` as a container's command: the way in which images were started before supervision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Whose gateway it is; without a name, that of the profile that is meant where none is named.
    pub profile: Option<ProfileName>,
    /// Whether it is left to the supervisor: not with `--no-supervise`.
    pub supervised: bool,
}

impl Command {
    /// Finds the command in the process table.
    ///
    /// Only processes of this container and of the user who owns PID 1 count: nobody else can pretend a
    /// role.
    pub fn detect(root: &Root) -> Self {
        let proc = root.at("/proc");
        let owner = |process: &Path| std::fs::metadata(process).ok().map(|meta| meta.uid());
        let Some(init) = owner(&proc.join("1")) else {
            return Self::default();
        };
        let mut processes: Vec<u32> = std::fs::read_dir(&proc)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        processes.sort_unstable();
        for pid in processes {
            let process = proc.join(pid.to_string());
            let Ok(cmdline) = std::fs::read(process.join("cmdline")) else {
                continue;
            };
            if let Some(command) = Self::parse(&cmdline)
                && owner(&process) == Some(init)
                && is_of_this_container(&process)
            {
                return command;
            }
        }
        Self::default()
    }

    /// Reads a command line as /proc has it: words that end with a NUL each.
    fn parse(cmdline: &[u8]) -> Option<Self> {
        let base = |word: &[u8]| -> String {
            let start = word
                .iter()
                .rposition(|&byte| byte == b'/')
                .map_or(0, |slash| slash + 1);
            String::from_utf8_lossy(&word[start..]).into_owned()
        };
        let mut words = cmdline
            .split(|&byte| byte == 0)
            .skip_while(|word| base(word) != WRAPPER);
        words.next()?;
        let mut words = words
            .filter(|word| !word.is_empty())
            .skip_while(|word| matches!(base(word).as_str(), "entrypoint-dispatch.sh" | "hermes"))
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .peekable();
        // Hermes takes the first one, wherever it stands.
        let mut named = None;
        let mut others = Vec::new();
        while let Some(word) = words.next() {
            match word.split_once('=') {
                Some(("--profile", name)) => named = named.or(Some(name.to_owned())),
                None if word == "-p" || word == "--profile" => {
                    named = named.or(Some(words.next()?));
                }
                _ => others.push(word),
            }
        }
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        let options = others
            .iter()
            .take_while(|word| word.starts_with('-'))
            .count();
        let (options, words) = others.split_at(options);
        let is_known = |option: &&str| {
            RUN_OPTIONS.contains(option) || option.strip_prefix("-v").is_some_and(is_only_v)
        };
        let supervised = match words {
            ["gateway"] => Some(true),
            ["gateway", "run", options @ ..] if options.iter().all(is_known) => {
                Some(!options.contains(&NO_SUPERVISE))
            }
            _ => None,
        };
        let gateway = |supervised| {
            let profile = named.map(|name| name.parse()).transpose().ok()?;
            Some(Gateway {
                profile,
                supervised,
            })
        };
        Some(Self {
            other_role: OTHER_ROLES
                .into_iter()
                .find(|role| words.first() == Some(role)),
            gateway: supervised
                .filter(|_| options.iter().all(|option| TOP_OPTIONS.contains(option)))
                .and_then(gateway),
        })
    }
}

/// Tells whether the rest of a `-v` asks for more of the same.
fn is_only_v(rest: &str) -> bool {
    rest.bytes().all(|byte| byte == b'v')
}

/// Tells whether a process has no pid in a namespace beneath ours: that would be another container.
pub fn is_of_this_container(process: &Path) -> bool {
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    pids.is_none_or(|pids| pids.split_whitespace().count() == 1)
}

/// Reads a truth value as Hermes does: 1, true, yes, on and their opposites, `None` for the rest.
pub fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Finds `multiplex_profiles` in a `config.yaml`: at the top level, else beneath `gateway`.
pub fn multiplex_in_config(yaml: &str) -> Option<bool> {
    ["", "gateway"]
        .into_iter()
        .find_map(|section| truth(setting_in_config(yaml, section, "multiplex_profiles")?))
}

/// Finds what a key beneath a section of a `config.yaml` is set to; without a section, at the top level.
///
/// Reads the block style that Hermes itself writes, and `section: {…}` on one line. Anything that it
/// does not understand counts as not set.
pub fn setting_in_config<'a>(yaml: &'a str, section: &str, key: &str) -> Option<&'a str> {
    let value_of = |text: &'a str, key: &str| {
        let value = text.trim().strip_prefix(key)?.trim_start();
        let value = value.strip_prefix(':')?;
        Some(value.split(" #").next().unwrap_or(value).trim())
    };
    let mut found = None;
    let mut inside = section.is_empty();
    let mut indent = inside.then_some(0);
    for line in yaml.lines() {
        let text = line.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let depth = line.len() - text.len();
        if depth == 0 && !section.is_empty() {
            let rest = value_of(text, section);
            inside = rest.is_some();
            indent = None;
            let flow = rest.and_then(|rest| rest.strip_prefix('{')?.split('}').next());
            found = flow
                .and_then(|flow| flow.split(',').find_map(|pair| value_of(pair, key)))
                .or(found);
        } else if inside && depth == *indent.get_or_insert(depth) {
            found = value_of(text, key).or(found);
        }
    }
    found.map(|value| value.trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Command> {
        Command::parse(line.replace(' ', "\0").as_bytes())
    }

    #[test]
    fn the_role_is_the_first_word_of_the_containers_command() {
        for role in OTHER_ROLES {
            let line = format!(
                "/bin/sh -e rc.init top /opt/hermes/docker/main-wrapper.sh {role} --port 1"
            );
            assert_eq!(
                parse(&line).and_then(|command| command.other_role),
                Some(role)
            );
        }
        let command = parse("/x/main-wrapper.sh hermes -p coder dashboard");
        assert_eq!(
            command.and_then(|command| command.other_role),
            Some("dashboard")
        );
        assert_eq!(
            parse("/x/main-wrapper.sh chat dashboard"),
            Some(Command::default())
        );
        assert_eq!(parse("/x/main-wrapper.sh "), Some(Command::default()));
        assert_eq!(parse("s6-svscan dashboard"), None);
    }

    #[test]
    fn gateway_run_is_recognized_where_it_is_certain() {
        let gateway = |words: &str| {
            let command = parse(&format!("/x/main-wrapper.sh {words}"));
            let gateway = command.and_then(|command| command.gateway)?;
            let profile = gateway.profile.map(|name| name.to_string());
            Some((profile.unwrap_or_default(), gateway.supervised))
        };
        for (words, profile, supervised) in [
            ("gateway", "", true),
            ("gateway run", "", true),
            ("--yolo --accept-hooks gateway run", "", true),
            (
                "gateway run -p viewer --replace --profile coder",
                "viewer",
                true,
            ),
            (
                "/x/entrypoint-dispatch.sh hermes gateway run -vv --replace",
                "",
                true,
            ),
            ("-p default gateway run --quiet", "default", true),
            ("-p viewer gateway run", "viewer", true),
            ("--profile=viewer gateway run", "viewer", true),
            ("gateway run --force --no-supervise", "", false),
            ("gateway --profile=coder run --no-supervise", "coder", false),
            (
                "hermes -p viewer gateway run --no-supervise",
                "viewer",
                false,
            ),
        ] {
            assert_eq!(
                gateway(words),
                Some((profile.to_owned(), supervised)),
                "{words}"
            );
        }
        for words in [
            "gateway status",
            "gateway run --help",
            "gateway run -vx",
            "gateway run --foo",
            "gateway run run",
            "--foo gateway run",
            "gateway --help",
            "gateway runs",
            "-p ../x gateway run",
            "run",
        ] {
            assert_eq!(gateway(words), None, "{words}");
        }
    }

    #[test]
    fn main_wrapper_takes_the_same_command_lines_for_a_gateway_to_supervise() {
        let script = include_str!("../rootfs/all/opt/hermes/docker/main-wrapper.sh");
        let start = script.find("is_gateway_run() {").unwrap_or_default();
        let end = start + script[start..].find("\n}\n").unwrap_or_default() + 3;
        let ask = format!(
            "set -u\n{}\nis_gateway_run \"$@\" && echo \"${{profile:-none}}\"",
            &script[start..end]
        );
        let wrapper = |line: &str| {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", &ask, "sh"]).args(line.split(' '));
            command.env_remove("HERMES_GATEWAY_NO_SUPERVISE");
            let output = command.output().ok()?;
            assert!(output.stderr.is_empty(), "{line}: {output:?}");
            let profile = String::from_utf8(output.stdout).ok()?;
            output.status.success().then(|| profile.trim().to_owned())
        };
        let ours = |line: &str| {
            let command = parse(&format!("/x/main-wrapper.sh {line}"));
            let gateway = command.and_then(|command| command.gateway)?;
            let profile = gateway
                .profile
                .map_or_else(|| "none".to_owned(), |name| name.to_string());
            gateway.supervised.then_some(profile)
        };
        let parts: [&[&str]; 4] = [
            &["", "hermes ", "/x/bin/hermes "],
            &["", "-p coder ", "--profile=coder ", "--yolo ", "--foo "],
            &[
                "gateway",
                "gateway run",
                "gateway status",
                "run",
                "dashboard",
            ],
            &[
                "",
                " --replace",
                " -vv",
                " -vx",
                " -p coder",
                " --profile viewer",
                " -p",
                " --no-supervise",
                " --help",
                " run",
                " --quiet --verbose -q --force --accept-hooks --external-supervisor",
            ],
        ];
        for (first, second) in parts[0]
            .iter()
            .flat_map(|a| parts[1].iter().map(move |b| (a, b)))
        {
            for (third, fourth) in parts[2]
                .iter()
                .flat_map(|a| parts[3].iter().map(move |b| (a, b)))
            {
                let line = format!("{first}{second}{third}{fourth}");
                assert_eq!(wrapper(&line), ours(&line), "{line}");
            }
        }
        assert_eq!(ours("gateway run"), Some("none".to_owned()));
    }

    #[test]
    fn multiplexing_is_read_from_the_top_level_and_then_from_gateway() {
        for (yaml, expected) in [
            ("multiplex_profiles: true\n", Some(true)),
            (
                "gateway:\n  port: 1\n  multiplex_profiles: yes # all\n",
                Some(true),
            ),
            (
                "gateway:\n  multiplex_profiles: 'on'\nmultiplex_profiles: false\n",
                Some(false),
            ),
            ("gateway: {multiplex_profiles: true, x: 1}\n", Some(true)),
            ("gateway:\n  relay:\n    multiplex_profiles: true\n", None),
            ("model:\n  multiplex_profiles: true\n", None),
            ("# multiplex_profiles: true\n", None),
            ("multiplex_profiles: maybe\n", None),
            ("multiplex_profiles_x: true\n", None),
            (": [}\n\t- broken", None),
            ("", None),
        ] {
            assert_eq!(multiplex_in_config(yaml), expected, "{yaml:?}");
        }
    }
}
