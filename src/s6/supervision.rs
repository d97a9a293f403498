//! What s6 knows about a service, read from the files in `supervise/`, as s6-svstat, s6-svok and s6-svdt do.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::error::{Code, Error, Result, shown};
use crate::system::beneath::Dir;
use crate::system::process::{Holder, holder, is_child};
use crate::system::root::Root;

/// Seconds between the zero of TAI64 labels and the Unix epoch, with the 37 leap seconds that skalibs
/// counts (<https://skarnet.org/software/skalibs/libstddjb/tai.html>).
const TAI_EPOCH: u64 = (1 << 62) + 37;

/// The size of one record in `supervise/death_tally`: a TAI64N label, an exit code, a signal.
const TALLY_RECORD: usize = 14;

/// The number of deaths within [`CRASH_LOOP_WINDOW`] that make a crash loop: the `finish` script then parks the
/// slot.
pub const CRASH_LOOP_DEATHS: usize = 5;

/// The time within which [`CRASH_LOOP_DEATHS`] make a crash loop.
pub const CRASH_LOOP_WINDOW: Duration = Duration::from_secs(120);

/// How long a status may lag behind the end of a process: whoever finds it out of date looks again after that.
pub const STATUS_TIME: Duration = Duration::from_millis(200);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Death {
    /// It exited with this code.
    Exit(u8),
    /// This signal killed it.
    Signal(u8),
}

/// The content of `supervise/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The process of the service, `None` while it is down.
    pub pid: Option<u32>,
    /// Whether the service is wanted up.
    pub wanted_up: bool,
    /// Whether the service is up and has said that it is ready, or is down and `finish` has ended.
    pub ready: bool,
    /// Whether `finish` runs.
    pub finishing: bool,
    /// When the service last went up or down.
    pub since: SystemTime,
    /// How the last process of the service ended; `None` for exit code 0.
    pub last_exit: Option<Death>,
}

impl Status {
    /// Reads the status of a service directory; `None` if it was never supervised.
    pub fn read(service: &Dir) -> Result<Option<Self>> {
        match supervise(service)? {
            Some(supervise) => Self::read_in(&supervise),
            None => Ok(None),
        }
    }

    fn read_in(supervise: &Dir) -> Result<Option<Self>> {
        let Some(content) = read(supervise, "status", 64)? else {
            return Ok(None);
        };
        match Self::parse(&content) {
            Some(status) => Ok(Some(status)),
            None => Err(unusable(
                supervise,
                "status",
                "is not what s6-supervise writes",
            )),
        }
    }

    /// Tells whether the service is down, and stays down.
    pub fn is_down(&self) -> bool {
        self.pid.is_none() && !self.finishing && !self.wanted_up
    }

    /// Tells whether the process of the service is to end, or has ended and `finish` runs.
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
            // While finish runs, this is the pid of finish.
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

/// Reads how the earlier processes of a service ended, and when, oldest first.
///
/// The list begins with the start of the supervisor; s6 keeps only the last deaths, see `max-death-tally`.
pub fn deaths(service: &Dir) -> Result<Vec<(SystemTime, Death)>> {
    let Some(supervise) = supervise(service)? else {
        return Ok(Vec::new());
    };
    let tally = read(&supervise, "death_tally", 1 << 16)?;
    Ok(parse_tally(&tally.unwrap_or_default()))
}

/// Opens `supervise/` of a service directory; `None` if it was never supervised.
fn supervise(service: &Dir) -> Result<Option<Dir>> {
    match service.passage("supervise") {
        Err(error) if error.is_not_found() => Ok(None),
        supervise => supervise.map(Some),
    }
}

/// Reads a file in `supervise/`; `None` if there is no such file.
fn read(supervise: &Dir, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    match supervise.read(name, limit) {
        Ok(content) => Ok(Some(content)),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => {
            let what = failure.text.strip_prefix(name).unwrap_or(&failure.text);
            Err(unusable(supervise, name, what.trim_start()))
        }
    }
}

/// Makes the error for a file in `supervise/`, of which `what` says what is wrong.
fn unusable(supervise: &Dir, name: &str, what: &str) -> Error {
    let place = supervise.path().join(name);
    Error::new(Code::System, format!("{} {what}", shown(&place)))
}

/// Parses a death tally: its whole records, without those whose label is no time.
fn parse_tally(bytes: &[u8]) -> Vec<(SystemTime, Death)> {
    bytes
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
pub fn supervisor(service: &Dir) -> Result<Option<Holder>> {
    match supervise(service)? {
        Some(supervise) => holder(&supervise, "lock"),
        None => Ok(None),
    }
}

/// Reads the status of a service directory; `None` without a supervisor, since nobody then updates the status.
///
/// It is an error if the status names a process that is not the supervisor's. On a full file system,
/// s6-supervise cannot write the status: the process in it has ended, and another may have its pid by now.
pub fn supervised(root: &Root, service: &Dir) -> Result<Option<(Status, Holder)>> {
    let Some(supervise) = supervise(service)? else {
        return Ok(None);
    };
    let Some(supervisor) = holder(&supervise, "lock")? else {
        return Ok(None);
    };
    let status = Status::read_in(&supervise)?;
    if let (Some(Status { pid: Some(pid), .. }), Holder::Process(parent)) = (&status, &supervisor)
        && is_child(root, *pid, *parent) == Some(false)
    {
        let what = format!("is out of date: {pid} is no process of its s6-supervise");
        let remedy = "if the file system of the scan directory is full, make room there: s6 then writes it anew, within seconds if the gateway runs, else at the next start or stop";
        return Err(unusable(&supervise, "status", &what).remedy(remedy));
    }
    Ok(status.map(|status| (status, supervisor)))
}

/// Looks at both: the s6-supervise of a service directory, and the status that it has or that an earlier one has left.
pub fn supervision(service: &Dir) -> Result<(Option<Holder>, Option<Status>)> {
    let Some(supervise) = supervise(service)? else {
        return Ok((None, None));
    };
    let supervisor = holder(&supervise, "lock")?;
    Ok((supervisor, Status::read_in(&supervise)?))
}

/// Finds the s6-svscan of a scan directory: the holder of its `.s6-svscan/lock`.
pub fn scanner(scandir: &Dir) -> Result<Option<Holder>> {
    match scandir.dir(".s6-svscan") {
        Err(error) if error.is_not_found() => Ok(None),
        directory => holder(&directory?, "lock"),
    }
}

/// Reads a TAI64N label: eight bytes of seconds and four of nanoseconds.
fn time(label: &[u8]) -> Option<SystemTime> {
    let seconds = u64::from_be_bytes(label.get(..8)?.try_into().ok()?).checked_sub(TAI_EPOCH)?;
    let nanoseconds = u32::from_be_bytes(label.get(8..12)?.try_into().ok()?);
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds.min(999_999_999)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TAI64N label of this many seconds since 1970, and a nanosecond.
    fn label(seconds: u64) -> Vec<u8> {
        let mut bytes = (TAI_EPOCH + seconds).to_be_bytes().to_vec();
        bytes.extend(1_u32.to_be_bytes());
        bytes
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::new(seconds, 1)
    }

    /// What a status file is made of. Its second label, of when it got ready, is always another one.
    #[derive(Clone)]
    struct Form {
        since: Vec<u8>,
        pid: u64,
        group: Option<u64>,
        wait: [u8; 2],
        flags: u8,
    }

    impl Form {
        fn parse(&self) -> Option<Status> {
            let mut bytes = self.since.clone();
            bytes.extend(label(2_000));
            bytes.extend(self.pid.to_be_bytes());
            bytes.extend(self.group.iter().flat_map(|group| group.to_be_bytes()));
            bytes.extend(self.wait);
            bytes.push(self.flags);
            Status::parse(&bytes)
        }
    }

    /// A service that is down, without a flag.
    fn form() -> Form {
        Form {
            since: label(1_000),
            pid: 0,
            group: None,
            wait: [0, 0],
            flags: 0,
        }
    }

    /// What [`form`] says.
    fn status() -> Status {
        Status {
            pid: None,
            wanted_up: false,
            ready: false,
            finishing: false,
            since: at(1_000),
            last_exit: None,
        }
    }

    const FINISHING: u8 = 2;
    const WANTED_UP: u8 = 4;
    const READY: u8 = 8;

    #[test]
    fn a_status_file_is_read_field_by_field() {
        let flags = |flags| Form { flags, ..form() };
        let wanted = || Status {
            wanted_up: true,
            ..status()
        };
        let full = Form {
            pid: 77,
            wait: [78, 0],
            ..flags(WANTED_UP | READY)
        };
        let all = Status {
            pid: Some(77),
            ready: true,
            last_exit: Some(Death::Exit(78)),
            ..wanted()
        };
        #[rustfmt::skip]
        let rows = [
            (form(), status(), "down, with nothing else to say"),
            (Form { pid: 77, ..form() }, Status { pid: Some(77), ..status() }, "it has a process"),
            (flags(1), status(), "that it is paused does not matter here"),
            (flags(WANTED_UP), wanted(), "it is wanted up"),
            (flags(READY), Status { ready: true, ..status() }, "it is ready"),
            (Form { pid: 77, ..flags(FINISHING | WANTED_UP) }, Status { finishing: true, ..wanted() }, "while finish runs, the process is not the gateway"),
            (flags(0xf0), status(), "flags that s6 may have one day are passed over"),
            (full, all, "all at once"),
            (Form { pid: 1 << 32, ..form() }, status(), "a pid that is too large is none"),
        ];
        for (form, expected, sentence) in rows {
            assert_eq!(form.parse(), Some(expected), "{sentence}");
            let with_group = Form {
                group: Some(0x0807_0605_0403_0201),
                ..form
            };
            let sentence = format!("{sentence}, also beside a process group");
            assert_eq!(with_group.parse(), Some(expected), "{sentence}");
        }
    }

    #[test]
    fn the_wait_status_tells_how_the_last_process_ended() {
        #[rustfmt::skip]
        let rows = [
            ([0, 0], None, "no process has ended, or by exit code 0"),
            ([1, 0], Some(Death::Exit(1)), "the first byte is the exit code"),
            ([255, 0], Some(Death::Exit(255)), "the largest"),
            ([0, 9], Some(Death::Signal(9)), "the second one is the signal"),
            ([0, 0x8b], Some(Death::Signal(11)), "a core was dumped"),
            ([1, 15], Some(Death::Signal(15)), "a signal goes before a code"),
        ];
        for (wait, last_exit, sentence) in rows {
            let status = Form { wait, ..form() }.parse();
            let found = status.and_then(|status| status.last_exit);
            assert_eq!(found, last_exit, "{sentence}");
        }
    }

    #[test]
    fn a_label_is_a_time_since_1970() {
        let with_nanoseconds = |nanoseconds: u32| {
            let mut label = label(1_000);
            label.splice(8.., nanoseconds.to_be_bytes());
            label
        };
        #[rustfmt::skip]
        let rows = [
            (label(1_000), Some(at(1_000)), "a usual one"),
            (label(0), Some(at(0)), "the first second of 1970"),
            ([(TAI_EPOCH - 1).to_be_bytes().as_slice(), &[0; 4]].concat(), None, "a second before"),
            (vec![0; 12], None, "a file of zeros"),
            (with_nanoseconds(500_000_000), Some(at(1_000) + Duration::from_nanos(499_999_999)), "half a second more"),
            (with_nanoseconds(u32::MAX), Some(at(1_000) + Duration::from_nanos(999_999_998)), "more nanoseconds than a second has are the last one"),
            (vec![0xff; 12], None, "later than any time"),
        ];
        for (label, time, sentence) in rows {
            let status = Form {
                since: label,
                ..form()
            }
            .parse();
            assert_eq!(status.map(|status| status.since), time, "{sentence}");
        }
    }

    #[test]
    fn a_file_of_another_size_is_no_status() {
        for size in [0, 1, 34, 36, 42, 44, 64] {
            let mut bytes = label(1_000);
            bytes.resize(size, 0);
            assert_eq!(Status::parse(&bytes), None, "{size} bytes");
        }
    }

    #[test]
    fn what_is_down_and_what_is_ending_are_two_questions() {
        // Whether there is a process, finish runs, it is wanted up; then: is it down, is it ending.
        #[rustfmt::skip]
        let rows = [
            (false, false, false, true, false, "down, and stays so"),
            (false, false, true, false, false, "between two starts"),
            (false, true, false, false, true, "its last finish runs"),
            (false, true, true, false, true, "finish runs between two starts"),
            (true, false, false, false, true, "it was told to end"),
            (true, false, true, false, false, "it runs"),
        ];
        for (process, finishing, wanted_up, down, ending, sentence) in rows {
            let status = Status {
                pid: process.then_some(77),
                finishing,
                wanted_up,
                ..status()
            };
            assert_eq!(status.is_down(), down, "{sentence}: down");
            assert_eq!(status.is_ending(), ending, "{sentence}: ending");
            let ready = Status {
                ready: true,
                ..status
            };
            assert_eq!(ready.is_down(), down, "{sentence}: ready does not matter");
            assert_eq!(ready.is_ending(), ending, "{sentence}: nor here");
        }
    }

    #[test]
    fn a_death_tally_has_a_record_for_each_death() {
        let record = |seconds, code, signal| [label(seconds), vec![code, signal]].concat();
        let two = [record(1, 78, 0), record(2, 0, 15)].concat();
        let first = (at(1), Death::Exit(78));
        let both = vec![first, (at(2), Death::Signal(15))];
        #[rustfmt::skip]
        let rows = [
            (Vec::new(), Vec::new(), "none has ended"),
            (record(1, 0, 0), vec![(at(1), Death::Exit(0))], "one that ended well"),
            (two.clone(), both.clone(), "oldest first"),
            (two[..27].to_vec(), vec![first], "a torn last record is none"),
            (two[..13].to_vec(), Vec::new(), "nor is it if it is the only one"),
            ([vec![0; TALLY_RECORD], two].concat(), both, "a record without a time is passed over, those behind it are not"),
            (record(1, 78, 15), vec![(at(1), Death::Signal(15))], "a signal goes before a code"),
        ];
        for (bytes, deaths, sentence) in rows {
            assert_eq!(parse_tally(&bytes), deaths, "{sentence}");
        }
    }
}
