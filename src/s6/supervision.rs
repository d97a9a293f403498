//! What s6 knows about a service: read from `supervise/` as s6-svstat, s6-svok and s6-svdt do.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::system::beneath::Dir;
use crate::system::process::{Holder, holder};

/// Seconds between the zero of TAI64 labels and the Unix epoch, with the 37 leap seconds that skalibs
/// counts (<https://skarnet.org/software/skalibs/libstddjb/tai.html>).
const TAI_EPOCH: u64 = (1 << 62) + 37;

/// The size of one record in `supervise/death_tally`: a TAI64N label, an exit code, a signal.
const TALLY_RECORD: usize = 14;

/// The crash loop that parks a slot: this many deaths in [`CRASH_LOOP_WINDOW`].
pub const CRASH_LOOP_DEATHS: usize = 5;

/// See [`CRASH_LOOP_DEATHS`].
pub const CRASH_LOOP_WINDOW: Duration = Duration::from_secs(120);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Death {
    /// With this exit code.
    Exit(u8),
    /// By this signal.
    Signal(u8),
}

/// The content of `supervise/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The process of the service, `None` while it is down.
    pub pid: Option<u32>,
    /// Whether the service is wanted up.
    pub wanted_up: bool,
    /// Whether it is up and has said that it is ready, or down and `finish` has ended.
    pub ready: bool,
    /// Whether `finish` runs.
    pub finishing: bool,
    /// When it last went up or down.
    pub since: SystemTime,
    /// How its last process ended, unless that was by exit code 0.
    pub last_exit: Option<Death>,
}

impl Status {
    /// Reads the status of a service directory; none if it was never supervised.
    pub fn read(service: &Dir) -> Option<Self> {
        Self::parse(&service.passage("supervise").ok()?.read("status", 64).ok()?)
    }

    /// Tells whether it is down, and stays so.
    pub fn is_down(&self) -> bool {
        self.pid.is_none() && !self.finishing && !self.wanted_up
    }

    /// Tells whether its process has been told to end, or has ended while `finish` runs.
    pub fn is_ending(&self) -> bool {
        self.finishing || (self.pid.is_some() && !self.wanted_up)
    }

    /// Parses a status file: 35 bytes, or 43 with a process group from s6 2.13.0 and 2.13.1.
    fn parse(bytes: &[u8]) -> Option<Self> {
        if !matches!(bytes.len(), 35 | 43) {
            return None;
        }
        let (_, &[high, low, flags]) = bytes.split_last_chunk()?;
        let pid = u64::from_be_bytes(bytes[24..32].try_into().ok()?);
        let finishing = flags & 2 != 0;
        Some(Self {
            // While finish runs, the pid is that of finish.
            pid: u32::try_from(pid)
                .ok()
                .filter(|&pid| pid != 0 && !finishing),
            wanted_up: flags & 4 != 0,
            ready: flags & 8 != 0,
            finishing,
            since: time(bytes)?,
            // As wait(2) encodes it.
            last_exit: match (low & 0x7f, high) {
                (0, 0) => None,
                (0, code) => Some(Death::Exit(code)),
                (signal, _) => Some(Death::Signal(signal)),
            },
        })
    }
}

/// Reads how the processes of a service ended, oldest first, since its supervisor started.
pub fn deaths(service: &Dir) -> Vec<(SystemTime, Death)> {
    let tally = service
        .passage("supervise")
        .ok()
        .and_then(|dir| dir.read("death_tally", 1 << 16).ok());
    tally
        .unwrap_or_default()
        .chunks_exact(TALLY_RECORD)
        .filter_map(|record| {
            let death = if record[13] == 0 {
                Death::Exit(record[12])
            } else {
                Death::Signal(record[13])
            };
            Some((time(record)?, death))
        })
        .collect()
}

/// Finds the s6-supervise of a service directory: the holder of its `supervise/lock`.
pub fn supervisor(service: &Dir) -> Option<Holder> {
    holder(&service.passage("supervise").ok()?, "lock")
}

/// Reads the status of a service directory that has a supervisor, which keeps it true.
pub fn supervised(service: &Dir) -> Option<(Status, Holder)> {
    let supervisor = supervisor(service)?;
    Some((Status::read(service)?, supervisor))
}

/// Finds the s6-svscan of a scan directory: the holder of its `.s6-svscan/lock`.
pub fn scanner(scandir: &Dir) -> Option<Holder> {
    holder(&scandir.dir(".s6-svscan").ok()?, "lock")
}

fn time(label: &[u8]) -> Option<SystemTime> {
    let seconds = u64::from_be_bytes(label.get(..8)?.try_into().ok()?).checked_sub(TAI_EPOCH)?;
    let nanoseconds = u32::from_be_bytes(label.get(8..12)?.try_into().ok()?);
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds.min(999_999_999)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(group: bool, wait: [u8; 2], flags: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..2 {
            bytes.extend((TAI_EPOCH + 1_000).to_be_bytes());
            bytes.extend(500_000_000_u32.to_be_bytes());
        }
        bytes.extend(77_u64.to_be_bytes());
        if group {
            bytes.extend(77_u64.to_be_bytes());
        }
        bytes.extend(wait);
        bytes.push(flags);
        bytes
    }

    #[test]
    fn both_forms_of_the_status_file_are_read() {
        for group in [false, true] {
            let status = Status::parse(&status(group, [78, 0], 4 | 8));
            assert_eq!(
                status,
                Some(Status {
                    pid: Some(77),
                    wanted_up: true,
                    ready: true,
                    finishing: false,
                    since: SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_500),
                    last_exit: Some(Death::Exit(78)),
                })
            );
        }
    }

    #[test]
    fn the_wait_status_tells_how_the_last_process_ended() {
        let last_exit = |wait| Status::parse(&status(false, wait, 0)).and_then(|it| it.last_exit);
        assert_eq!(last_exit([0, 0]), None, "no process has ended, or well");
        assert_eq!(last_exit([1, 0]), Some(Death::Exit(1)));
        assert_eq!(last_exit([0, 9]), Some(Death::Signal(9)));
        assert_eq!(last_exit([0, 0x8b]), Some(Death::Signal(11)), "dumped");
    }

    #[test]
    fn while_finish_runs_there_is_no_gateway() {
        let status = Status::parse(&status(false, [0, 0], 2 | 4));
        assert_eq!(status.map(|status| status.pid), Some(None));
    }

    #[test]
    fn a_file_of_another_size_is_no_status() {
        assert_eq!(Status::parse(b""), None);
        assert_eq!(Status::parse(&[0; 36]), None);
        assert_eq!(Status::parse(&[0; 35]), None, "a label before 1970");
    }
}
