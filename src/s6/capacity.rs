//! The number of services that an s6-svscan takes, by its own limit and by the limit of open files.
//!
//! An s6-svscan that is past its limit starts none of the new services, and says little about it. Therefore the
//! program counts before it adds slots.

use std::path::Path;
use std::process::Stdio;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{Code, Error, Result, shown};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::process::{Holder, proc_if_seen, spawn};

/// The limit of an s6-svscan without an option, in directories: a service with a logger counts as two.
///
/// Before s6 2.12, the limit was 500 services, and loggers did not count.
const USUAL_DIRECTORIES: usize = 1000;

/// The descriptors that an s6-svscan needs besides two for each service with a logger.
const OTHER_DESCRIPTORS: usize = 64;

/// The option by which an s6-svscan takes its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitOption {
    /// `-c`, in services: before s6 2.12.
    Services,
    /// `-C`, in directories: a service with a logger counts as two.
    Directories,
}

impl LimitOption {
    /// Finds out which option the installed s6-svscan takes.
    ///
    /// Calls it with `-C` and a directory that cannot exist, so that it does not run. An s6-svscan that does not
    /// know the option prints its usage and exits 100, and one that knows it exits 111.
    pub fn of_installed(settings: &Settings, tools: &Tools) -> Result<Self> {
        let mut probe = tools.command(&settings.root, "s6-svscan");
        probe
            .args(["-C", "1000", "--", "/dev/null/none"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = spawn(&mut probe)
            .and_then(|mut child| child.wait())
            .map_err(|cause| Error::exec(probe.get_program(), cause))?;
        match status.code() {
            Some(100) => Ok(Self::Services),
            Some(111) => Ok(Self::Directories),
            _ => {
                let program = shown(Path::new(probe.get_program()));
                let what = format!("{program} does not tell which options it has ({status})");
                Err(Error::new(Code::System, what))
            }
        }
    }

    /// Gives the arguments that set the limit to a number of services with loggers.
    pub fn arguments(self, services: usize) -> [String; 2] {
        match self {
            Self::Services => ["-c".to_owned(), services.to_string()],
            Self::Directories => ["-C".to_owned(), (services * 2).to_string()],
        }
    }
}

/// Gives the number of slots that a running s6-svscan has room for, including the slots that it has already.
///
/// `others` are the services beside the slots in its scan directory: `true` for a service with a logger. If the
/// s6-svscan is none of our processes, its limit is unknown, and counts as endless.
pub fn room(
    settings: &Settings,
    tools: &Tools,
    watcher: Option<Holder>,
    others: &[bool],
) -> Result<usize> {
    let Some(Holder::Process(pid)) = watcher else {
        return Ok(usize::MAX);
    };
    let process = settings.root.at(format!("/proc/{pid}"));
    let cmdline = proc_if_seen(&process.join("cmdline"))?;
    let limit = limit(&cmdline);
    let old = matches!(limit, Limit::Usual | Limit::Services(_))
        && LimitOption::of_installed(settings, tools)? == LimitOption::Services;
    let loggers = others.iter().filter(|logger| **logger).count();
    let by_limit = match limit {
        Limit::Services(services) if old => services.saturating_sub(others.len()),
        Limit::Usual if old => (USUAL_DIRECTORIES / 2).saturating_sub(others.len()),
        Limit::Services(services) => directories(services * 2, others.len() + loggers),
        Limit::Usual => directories(USUAL_DIRECTORIES, others.len() + loggers),
        Limit::Directories(limit) => directories(limit, others.len() + loggers),
    };
    let limits = proc_if_seen(&process.join("limits"))?;
    let limits = String::from_utf8_lossy(&limits);
    Ok(by_limit.min(by_descriptors(open_files(&limits)).saturating_sub(loggers)))
}

/// Gives the number of slots that a new s6-svscan has room for by the limit of open files.
///
/// It inherits our limit; the hard limit counts, to which [`raise_descriptors`] raises the soft one.
pub fn room_by_descriptors() -> usize {
    by_descriptors(getrlimit(Resource::Nofile).maximum)
}

/// Gives our soft limit of open files; `None` if there is no limit.
pub fn descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises our limit of open files to what a number of slots needs, or to the hard limit.
pub fn raise_descriptors(slots: usize) {
    let needed = u64::try_from(slots.saturating_mul(2).saturating_add(OTHER_DESCRIPTORS)).ok();
    set_descriptors(needed);
}

/// Sets our limit of open files for the s6-svscan that this process becomes: back to `before`, or to what a
/// number of slots needs, if that is more.
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

/// The limit on the command line of an s6-svscan.
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

/// Reads the soft limit of open files from the text of /proc/PID/limits.
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
