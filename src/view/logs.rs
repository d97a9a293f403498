//! The logs of the gateways, from the files of s6-log: the last lines, and the lines that follow.
//!
//! A log is a directory with the file `current`, and with older files that are named after the time when they
//! were full (<https://skarnet.org/software/s6/s6-log.html>). The gateways decide what is in them. Therefore only
//! a limited part of a file is held in memory, and control characters never reach a terminal.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, ErrorKind, IsTerminal, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::error::{Code, Error, Result, escaped_where, shown};
use crate::hermes::name::ProfileName;
use crate::report::{self, Warning};
use crate::s6::capacity::raise_descriptors;
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::system::wait::wait_until;
use crate::tree::dashboard::LABEL;

/// The number of log lines in the status of one profile.
pub const EXCERPT: usize = 10;

/// The longest part of a line that is shown, in bytes. s6-log writes no line that is so long.
const LINE_LIMIT: usize = 64 << 10;

/// How far the search for the last lines goes back in one file, in bytes. s6-log keeps 1 MB in each.
const REACH: u64 = 16 << 20;

/// The number of older files that s6-log keeps, see `n10` in the template of `log/run`.
const ARCHIVES: usize = 10;

/// The pause between two looks for new lines.
const INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// How long s6-log may take to give a full file its final name.
const RENAMING: Duration = Duration::from_millis(500);

/// The number of bytes after which lines are printed.
const BATCH: usize = 32 << 10;

/// The colours of the names, one after the other. There is no red: red means that something is wrong.
const COLOURS: [&str; 10] = ["36", "33", "35", "32", "34", "96", "93", "95", "92", "94"];

/// The time at the beginning of a line, as s6-log's action `T` writes it. Times sort as text.
type Time = [u8; 29];

/// Tells whether a profile has a log, even if the profile itself is gone.
pub fn is_logged(settings: &Settings, profile: &ProfileName) -> bool {
    let kind = Dir::open(&settings.root.at(&settings.home))
        .and_then(|home| Whose::Gateways.open(&home))
        .and_then(|gateways| gateways.kind(profile.as_str()));
    matches!(kind, Ok(Some(_)))
}

/// Whose logs are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Those of the gateways.
    Gateways,
    /// That of the dashboard, which is called [`LABEL`] like a profile.
    Dashboard,
}

impl Whose {
    /// Tells whose logs are meant by an option.
    pub fn of(is_dashboard: bool) -> Self {
        if is_dashboard {
            Self::Dashboard
        } else {
            Self::Gateways
        }
    }

    /// Opens the directory with the log directories.
    fn open(self, home: &Dir) -> Result<Dir> {
        let logs = home.passage("logs")?;
        match self {
            Self::Gateways => logs.passage("gateways"),
            Self::Dashboard => Ok(logs),
        }
    }
}

/// Prints the last `lines` lines of each profile, merged by time; that of the dashboard needs no `profiles`.
///
/// With `follow`, goes on with new lines until nobody reads stdout any more. If a log cannot be read, the others
/// are printed all the same, and the code is [`Code::System`].
pub fn show(
    settings: &Settings,
    whose: Whose,
    mut profiles: Vec<ProfileName>,
    lines: usize,
    follow: bool,
) -> Result<Code> {
    raise_descriptors(usize::MAX);
    if whose == Whose::Dashboard {
        profiles = vec![LABEL.parse()?];
    }
    let home = Dir::open(&settings.root.at(&settings.home))?;
    let mut logs = labelled(profiles, report::colour());
    let mut tail = Some(lines);
    let mut code = Code::Done;
    loop {
        let gateways = existing(whose.open(&home))?;
        let mut broken = Vec::new();
        logs.retain_mut(|log| match log.look(gateways.as_ref(), tail) {
            Ok(()) => true,
            Err(error) => {
                broken.push((log.profile.clone(), error));
                false
            }
        });
        let last = broken.pop_if(|_| logs.is_empty());
        let warning =
            |(name, error): &(ProfileName, Error)| Warning::of(name.as_str(), error.to_string());
        report::warnings(&broken.iter().map(warning).collect::<Vec<_>>());
        if let Some((_, error)) = last {
            return Err(error);
        }
        if !broken.is_empty() {
            code = Code::System;
        }
        if tail.take().is_some_and(|lines| lines > 0) {
            for log in logs.iter().filter(|log| log.is_empty()) {
                let name = match whose {
                    Whose::Gateways => log.profile.slot(),
                    Whose::Dashboard => log.profile.to_string(),
                };
                report::note(&format!("{name} has not said anything yet"));
            }
        }
        match print(&mut logs, !follow) {
            Err(error) if error.kind() == Some(ErrorKind::BrokenPipe) => return Ok(code),
            printed => printed?,
        }
        // Waits, and notices if the reader closes the pipe, even if there is nothing to write.
        let stdout = rustix::stdio::stdout();
        let mut reader = [PollFd::new(&stdout, PollFlags::empty())];
        if !follow || poll(&mut reader, Some(&INTERVAL)).is_ok_and(|closed| closed > 0) {
            return Ok(code);
        }
    }
}

/// Gives the last lines of a profile's log, made printable. The caller has the rights of the volume's owner.
pub fn last_lines(
    settings: &Settings,
    whose: Whose,
    profile: &ProfileName,
    lines: usize,
) -> Result<Vec<String>> {
    let home = Dir::open(&settings.root.at(&settings.home))?;
    let mut log = [Log::new(profile.clone(), String::new())];
    log[0].look(existing(whose.open(&home))?.as_ref(), Some(lines))?;
    let mut excerpt = Vec::new();
    merge(&mut log, true, &mut |_, line| {
        excerpt.push(escaped_where(line, |c| c.is_control() && c != '\t'));
        Ok(())
    })?;
    Ok(excerpt)
}

/// Makes a [`Log`] for each profile; several get a label with the name for each line.
fn labelled(profiles: Vec<ProfileName>, colour: bool) -> Vec<Log> {
    let is_alone = profiles.len() == 1;
    let names = profiles.iter().map(|profile| profile.as_str().len());
    let width = names.max().unwrap_or(0);
    let label = |(profile, paint): (ProfileName, &&str)| {
        let label = match (is_alone, colour) {
            (true, _) => String::new(),
            (_, true) => format!("\x1b[{paint}m{:width$} |\x1b[0m ", profile.as_str()),
            (_, false) => format!("{:width$} | ", profile.as_str()),
        };
        Log::new(profile, label)
    };
    let colours = COLOURS.iter().cycle();
    profiles.into_iter().zip(colours).map(label).collect()
}

/// Prints all lines that can be read now; `last` as for [`Log::advance`].
fn print(logs: &mut [Log], last: bool) -> Result<()> {
    let terminal = io::stdout().is_terminal();
    let mut batch = Vec::new();
    let flush = |batch: &mut Vec<u8>| {
        let printed =
            report::try_bytes(batch).map_err(|cause| Error::system("write", "stdout", cause));
        batch.clear();
        printed
    };
    merge(logs, last, &mut |label, line| {
        batch.extend_from_slice(label.as_bytes());
        if terminal {
            let text = escaped_where(line, |c| c.is_control() && c != '\t');
            batch.extend_from_slice(text.as_bytes());
        } else {
            batch.extend_from_slice(line);
        }
        batch.push(b'\n');
        if batch.len() < BATCH {
            return Ok(());
        }
        flush(&mut batch)
    })?;
    flush(&mut batch)
}

/// Calls `show` with the label and the text of each line, the earliest line first.
///
/// The lines of one log keep their order. Lines with the same time come in the order of the logs.
fn merge(
    logs: &mut [Log],
    last: bool,
    show: &mut dyn FnMut(&str, &[u8]) -> Result<()>,
) -> Result<()> {
    for log in &mut *logs {
        log.advance(last)?;
    }
    let earliest = |logs: &[Log]| {
        let with_line = (0..logs.len()).filter(|&index| logs[index].line.is_some());
        with_line.min_by(|&one, &other| logs[one].time.cmp(&logs[other].time))
    };
    while let Some(index) = earliest(logs) {
        let log = &mut logs[index];
        show(&log.label, log.line.as_deref().unwrap_or_default())?;
        log.advance(last)?;
    }
    Ok(())
}

/// The log of a profile, with the place up to which it was read.
struct Log {
    profile: ProfileName,
    /// The text in front of each line.
    label: String,
    /// The file that is being read.
    file: Option<BufReader<File>>,
    /// The files to read after it, the newest first.
    rest: Vec<File>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
    /// Whether `partial` is the rest of a line that was too long, and whose beginning was shown.
    cut: bool,
    /// The line to show next.
    line: Option<Vec<u8>>,
    /// The time of this line, or of the last line that had a time.
    time: Time,
}

impl Log {
    fn new(profile: ProfileName, label: String) -> Self {
        Self {
            profile,
            label,
            file: None,
            rest: Vec::new(),
            partial: Vec::new(),
            cut: false,
            line: None,
            time: [0; 29],
        }
    }

    /// Tells whether the log has no lines at all.
    fn is_empty(&self) -> bool {
        let size = |file: &BufReader<File>| file.get_ref().metadata().map_or(0, |meta| meta.size());
        self.rest.is_empty() && self.file.as_ref().map_or(0, size) == 0
    }

    /// Finds the files to read.
    ///
    /// With `tail`, they are set to the beginning of this many last lines. Without it, they are the files that
    /// are newer than the one that is being read.
    fn look(&mut self, gateways: Option<&Dir>, tail: Option<usize>) -> Result<()> {
        let Some(gateways) = gateways else {
            return Ok(());
        };
        let Some(dir) = existing(gateways.dir(self.profile.as_str()))? else {
            return Ok(());
        };
        let failed = |cause| Error::system("read", dir.path(), cause);
        let current = open(&dir, "current")?;
        let known = current.as_ref().map(|(_, meta)| meta.ino());
        let mut ours = None;
        if let (Some(file), Some((_, current))) = (&mut self.file, &current) {
            let meta = file.get_ref().metadata().map_err(failed)?;
            if meta.ino() == current.ino() {
                if meta.size() < file.stream_position().map_err(failed)? {
                    // Somebody has emptied the file.
                    file.rewind().map_err(failed)?;
                    self.partial.clear();
                    self.cut = false;
                }
                return Ok(());
            }
            ours = Some(meta);
        } else if self.file.is_some() {
            return Ok(());
        }
        let files = current.map(|(file, _)| file).into_iter();
        let mut wanted = tail.unwrap_or(usize::MAX);
        // The newest file is needed even if no line is wanted: new lines come at its end.
        for mut file in files.chain(archives(&dir, known, ours.as_ref())?) {
            if wanted == 0 && !self.rest.is_empty() {
                break;
            }
            if tail.is_some() {
                seek_tail(&mut file, &mut wanted).map_err(failed)?;
            }
            self.rest.push(file);
        }
        if self.file.is_none() {
            self.file = self.rest.pop().map(BufReader::new);
        }
        Ok(())
    }

    /// Reads the next line into `line`; `None` if there is none.
    ///
    /// With `last`, a line without a line break at the end of the log counts as a line. Otherwise its end is
    /// still awaited.
    fn advance(&mut self, last: bool) -> Result<()> {
        self.line = None;
        while let Some(file) = &mut self.file {
            let room = LINE_LIMIT + 1 - self.partial.len();
            file.by_ref()
                .take(room as u64)
                .read_until(b'\n', &mut self.partial)
                .map_err(|cause| Error::system("read the log of", self.profile.as_str(), cause))?;
            let has_end = self.partial.pop_if(|byte| *byte == b'\n').is_some();
            let is_too_long = self.partial.len() > LINE_LIMIT;
            if !has_end && !is_too_long {
                match self.rest.pop() {
                    // No line goes on in the next file: if its end is missing, s6-log was killed.
                    Some(next) => self.file = Some(BufReader::new(next)),
                    None if last && !self.partial.is_empty() => {}
                    None => return Ok(()),
                }
                if self.partial.is_empty() {
                    self.cut = false;
                    continue;
                }
            }
            let mut line = std::mem::take(&mut self.partial);
            line.truncate(LINE_LIMIT);
            if !std::mem::replace(&mut self.cut, is_too_long) {
                self.time = time(&line).unwrap_or(self.time);
                self.line = Some(line);
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Opens the full files of a log, the newest first.
///
/// `current` is the inode of the file `current`, `ours` the file that is being read. If they are given, only the
/// files between these two count.
fn archives(dir: &Dir, current: Option<u64>, ours: Option<&Metadata>) -> Result<Vec<File>> {
    // A full file is called `previous` until it gets its final name, and s6-log does not write into the next file
    // before that, see rotator() in s6-log.c. Without a `previous`, all files that were full when `current` was
    // opened have their final names.
    wait_until(RENAMING, "s6-log", || {
        !matches!(dir.kind("previous"), Ok(Some(_)))
    });
    let mut names = dir.names()?;
    names.retain(|name| name == "previous" || name.as_encoded_bytes().starts_with(b"@"));
    let mut files = Vec::new();
    for name in names.iter().rev().take(ARCHIVES + 2) {
        match open(dir, name) {
            // `current` became full after it was opened. The files that are newer are read the next time.
            Ok(Some((_, meta))) if current == Some(meta.ino()) => files.clear(),
            Ok(Some((_, meta))) if ours.is_some_and(|ours| !is_after(&meta, ours)) => break,
            Ok(Some((file, _))) => files.push(file),
            Ok(None) => {}
            Err(error) => report::warning(&error.to_string()),
        }
    }
    Ok(files)
}

/// Tells whether a file is newer than ours. Ours need not exist any more: s6-log removes the oldest files.
fn is_after(meta: &Metadata, ours: &Metadata) -> bool {
    let written = |meta: &Metadata| (meta.mtime(), meta.mtime_nsec());
    meta.ino() != ours.ino() && written(meta) >= written(ours)
}

/// Opens a regular file; `None` if there is no such name.
fn open(dir: &Dir, name: impl AsRef<Path>) -> Result<Option<(File, Metadata)>> {
    let path = dir.path().join(&name);
    let Some(file) = existing(dir.file(name, OFlags::RDONLY))? else {
        return Ok(None);
    };
    let meta = file.metadata();
    let meta = meta.map_err(|cause| Error::system("read", &path, cause))?;
    if !meta.is_file() {
        let what = format!("unable to read {}: it is not a regular file", shown(&path));
        return Err(Error::new(Code::System, what));
    }
    Ok(Some((file, meta)))
}

/// Turns the error that something does not exist into `None`.
fn existing<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Err(error) if error.is_not_found() => Ok(None),
        found => found.map(Some),
    }
}

/// Sets a file to the beginning of its last `wanted` lines, and subtracts the lines that it has.
fn seek_tail(file: &mut File, wanted: &mut usize) -> io::Result<()> {
    let size = file.metadata()?.size();
    let floor = size.saturating_sub(REACH);
    let mut buffer = [0; 8 << 10];
    let mut start = size;
    while start > floor && *wanted > 0 {
        let length =
            usize::try_from(start - floor).map_or(buffer.len(), |left| left.min(buffer.len()));
        let chunk = &mut buffer[..length];
        start -= length as u64;
        if file.read_exact_at(chunk, start).is_err() {
            // The file was emptied meanwhile, or cannot be read. In the second case, the next read gives the
            // error.
            break;
        }
        for index in (0..length).rev() {
            let next = start + index as u64 + 1;
            if chunk[index] == b'\n' && next < size {
                *wanted -= 1;
                if *wanted == 0 {
                    start = next;
                    break;
                }
            }
        }
    }
    if size > 0 && start == floor {
        *wanted = wanted.saturating_sub(1);
    }
    file.seek(SeekFrom::Start(start))?;
    Ok(())
}

/// Gives the time at the beginning of a line; `None` if there is none.
fn time(line: &[u8]) -> Option<Time> {
    let time: &Time = line.first_chunk()?;
    let fits = |(form, byte): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        _ => form == byte,
    };
    let form = b"0000-00-00 00:00:00.000000000";
    form.iter().zip(time).all(fits).then_some(*time)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;
