//! How many services an s6-svscan takes: past its limit it starts none of a batch and says little.

use std::process::Stdio;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::process::Holder;

/// Directories that an s6-svscan takes when it was not told otherwise, with loggers counted: 1000
/// since 2.12, before that 500 services, whose loggers were not counted.
const USUAL_DIRECTORIES: usize = 1000;

/// Descriptors that an s6-svscan needs besides the two of each logged service.
const OTHER_DESCRIPTORS: usize = 64;

/// Which options an s6-svscan takes for its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitOption {
    /// `-c`, in services, as before 2.12.
    Services,
    /// `-C`, in directories with loggers counted.
    Directories,
}

impl LimitOption {
    /// Asks the installed s6-svscan, in a directory that it cannot enter: one that does not know the
    /// option says so with its usage message and code 100.
    pub fn of_installed(settings: &Settings, tools: &Tools) -> Self {
        let status = tools
            .command(&settings.root, "s6-svscan")
            .args(["-C", "1000", "--", "/dev/null/none"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if status.is_ok_and(|status| status.code() == Some(100)) {
            Self::Services
        } else {
            Self::Directories
        }
    }

    /// Gives the arguments for a limit of that many logged services.
    pub fn arguments(self, services: usize) -> [String; 2] {
        match self {
            Self::Services => ["-c".to_owned(), services.to_string()],
            Self::Directories => ["-C".to_owned(), (services * 2).to_string()],
        }
    }
}

/// Tells how many slots a running s6-svscan has room for, the ones that it has already included.
///
/// `others` are the services beside ours in its scan directory: whether each has a logger.
pub fn room(settings: &Settings, tools: &Tools, watcher: Option<Holder>, others: &[bool]) -> usize {
    let Some(Holder::Process(pid)) = watcher else {
        return usize::MAX;
    };
    let process = settings.root.at(format!("/proc/{pid}"));
    let cmdline = std::fs::read(process.join("cmdline")).unwrap_or_default();
    let limit = limit(&cmdline);
    let old = matches!(limit, Limit::Usual | Limit::Services(_))
        && LimitOption::of_installed(settings, tools) == LimitOption::Services;
    let loggers = others.iter().filter(|logger| **logger).count();
    let by_limit = match limit {
        Limit::Services(services) if old => services.saturating_sub(others.len()),
        Limit::Usual if old => (USUAL_DIRECTORIES / 2).saturating_sub(others.len()),
        Limit::Services(services) => directories(services * 2, others.len() + loggers),
        Limit::Usual => directories(USUAL_DIRECTORIES, others.len() + loggers),
        Limit::Directories(limit) => directories(limit, others.len() + loggers),
    };
    let limits = std::fs::read_to_string(process.join("limits")).unwrap_or_default();
    by_limit.min(by_descriptors(open_files(&limits)).saturating_sub(loggers))
}

/// Tells how many slots an s6-svscan can have that starts with our own limit of descriptors, raised
/// as far as it goes.
pub fn room_by_descriptors() -> usize {
    by_descriptors(getrlimit(Resource::Nofile).maximum)
}

/// Gives our limit of open files, `None` if there is none.
pub fn descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises our limit of open files to what that many slots need, or as far as it goes.
pub fn raise_descriptors(slots: usize) {
    let needed = u64::try_from(slots.saturating_mul(2).saturating_add(OTHER_DESCRIPTORS)).ok();
    set_descriptors(needed);
}

/// Gives an s6-svscan of that many slots the limit that we had before, or what it needs.
pub fn lower_descriptors(before: Option<u64>, slots: usize) {
    let needed = u64::try_from(slots * 2 + OTHER_DESCRIPTORS).ok();
    set_descriptors(before.and_then(|before| Some(before.max(needed?))));
}

fn set_descriptors(wanted: Option<u64>) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = match (wanted, maximum) {
        (Some(wanted), Some(maximum)) => Some(wanted.min(maximum)),
        (wanted, maximum) => wanted.or(maximum),
    };
    let _as_it_is = setrlimit(Resource::Nofile, Rlimit { current, maximum });
}

fn directories(limit: usize, others: usize) -> usize {
    limit.saturating_sub(others) / 2
}

fn by_descriptors(limit: Option<u64>) -> usize {
    limit
        .and_then(|limit| usize::try_from(limit).ok())
        .map_or(usize::MAX, |limit| {
            limit.saturating_sub(OTHER_DESCRIPTORS) / 2
        })
}

/// What an s6-svscan was told about its limit.
#[derive(Debug, PartialEq, Eq)]
enum Limit {
    Usual,
    Services(usize),
    Directories(usize),
}

fn limit(cmdline: &[u8]) -> Limit {
    let words: Vec<_> = cmdline
        .split(|&byte| byte == 0)
        .map(String::from_utf8_lossy)
        .collect();
    let mut found = Limit::Usual;
    for (index, word) in words.iter().enumerate() {
        let value = |option: &str| {
            let rest = word.strip_prefix(option)?;
            let text = if rest.is_empty() {
                words.get(index + 1)?
            } else {
                rest
            };
            text.parse().ok()
        };
        if let Some(services) = value("-c") {
            found = Limit::Services(services);
        } else if let Some(directories) = value("-C") {
            found = Limit::Directories(directories);
        }
    }
    found
}

/// Reads the soft limit of open files out of /proc/PID/limits.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_read_from_the_command_line() {
        assert_eq!(limit(b"s6-svscan\0-d4\0--\0/run/service\0"), Limit::Usual);
        assert_eq!(limit(b"s6-svscan\0-C\x0040\0/x\0"), Limit::Directories(40));
        assert_eq!(limit(b"s6-svscan\0-c7\0/x\0"), Limit::Services(7));
    }

    #[test]
    fn descriptors_are_two_for_each_slot() {
        assert_eq!(by_descriptors(Some(1024)), 480);
        assert_eq!(by_descriptors(None), usize::MAX);
        assert_eq!(
            open_files("Limit x\nMax open files            1024                 4096 files\n"),
            Some(1024)
        );
    }
}
