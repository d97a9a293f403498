//! The command that this container was started with: it tells what the container is for.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::hermes::line::{self, Action, Line};
use crate::hermes::name::ProfileName;
use crate::system::process::{is_of_this_container, proc_bytes};
use crate::system::root::Root;

/// The script by which every Hermes image runs the container's command; the command is its arguments.
const WRAPPER: &str = "main-wrapper.sh";

/// Commands of a container that serves something else than gateways. The gateways of its volume run in another
/// container.
const OTHER_ROLES: [&str; 4] = ["dashboard", "serve", "gui", "desktop"];

/// The command that a container was started with, as far as it concerns the gateways.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// The role of a container that does not run gateways, such as `dashboard`.
    pub other_role: Option<&'static str>,
    /// The gateway that the command asks for.
    pub gateway: Option<Gateway>,
}

/// A `gateway run` as the container's command: images were started in this way before supervision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The profile, if the command names one; else the profile is meant that Hermes uses without a name.
    pub profile: Option<ProfileName>,
    /// Whether the supervisor runs the gateway; `false` with `--no-supervise`.
    pub supervised: bool,
}

impl Command {
    /// Finds the command in the process table.
    ///
    /// Only processes of this container and of the user who owns PID 1 count, so that nobody else can pretend
    /// to be the command.
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
            let Ok(cmdline) = proc_bytes(&process.join("cmdline")) else {
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

    /// Reads the command out of a process's command line; `None` if that does not run [`WRAPPER`].
    ///
    /// The words end with a NUL each, as in /proc/PID/cmdline.
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
        let words: Vec<String> = words
            .filter(|word| !word.is_empty())
            .skip_while(|word| matches!(base(word).as_str(), "entrypoint-dispatch.sh" | "hermes"))
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let gateway = |line: Line| match line.action {
            Action::Run { supervised } => Some(Gateway {
                profile: line.profile,
                supervised,
            }),
            _ => None,
        };
        let subcommand = line::subcommand(&words);
        Some(Self {
            other_role: OTHER_ROLES
                .into_iter()
                .find(|&role| subcommand == Some(role)),
            gateway: line::read(&words).and_then(gateway),
        })
    }
}

#[cfg(test)]
impl Command {
    /// The command of a container that only shows the dashboard.
    pub fn dashboard() -> Self {
        Self {
            other_role: Some("dashboard"),
            gateway: None,
        }
    }
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
            ("gateway run -p viewer --replace", "viewer", true),
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
            "gateway run -p viewer --profile coder",
            "run",
        ] {
            assert_eq!(gateway(words), None, "{words}");
        }
    }
}
