//! The slot: the service directory of one profile's gateway, rendered from `templates/`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use askama::Template;
use rustix::fs::{FileType, OFlags};
use rustix::io::retry_on_intr;
use sha2::{Digest, Sha256};

use crate::error::{Code, Error, Result};
use crate::hermes::name::ProfileName;
use crate::s6::supervision::{CRASH_LOOP_DEATHS, CRASH_LOOP_WINDOW};
use crate::s6::tool::Tools;
use crate::s6::word::Word;
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::system::beneath::write::written_aside;
use crate::tree::logger::MEMORY;
use crate::tree::owner::Choices;

/// The file that marks a slot as made by hermes-s6, with a digest of its files. A directory without this file is
/// never removed.
pub const MARKER: &str = "data/hermes-s6";

/// The exit code of the run script if another gateway holds the lock of the home.
///
/// It is EX_UNAVAILABLE of sysexits.h, which Hermes itself does not use.
pub const EXIT_LOCKED: u8 = 69;

/// How long what comes after a gateway may take.
pub const LOGGER_MARGIN: Duration = Duration::from_secs(5);

/// One file of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The permission bits.
    pub mode: u32,
    /// The content.
    pub content: Vec<u8>,
}

/// The files of a slot, by their path in the slot. `down` is not among them: it depends on the operator's intent.
pub type Files = BTreeMap<&'static str, File>;

/// The files of all slots.
pub type Rendered = BTreeMap<ProfileName, Files>;

/// Renders the slots of one data root, all with the same choices.
#[derive(Debug)]
pub struct Renderer<'a> {
    pub(super) settings: &'a Settings,
    pub(super) tools: &'a Tools,
    stop_timeout: Duration,
    /// The user that the gateways run as, if root supervises them.
    pub(super) drop_to: Option<&'a str>,
}

/// What sets the services with a log apart from each other, beside what they run.
#[derive(Debug)]
pub(super) struct Service<'a> {
    /// The name of the service directory.
    pub name: &'a str,
    /// The name in front of each line on stdout.
    pub label: &'a str,
    /// The log directory.
    pub log: PathBuf,
    /// How many deaths make a crash loop.
    pub deaths: usize,
    /// How long the process has to end.
    pub stop: Duration,
}

impl<'a> Renderer<'a> {
    /// Makes a renderer. `drop_to` is the user that the gateways run as, if root supervises them.
    pub fn new(settings: &'a Settings, choices: &'a Choices, drop_to: Option<&'a str>) -> Self {
        Self {
            settings,
            tools: &choices.tools,
            stop_timeout: choices.stop_timeout(),
            drop_to,
        }
    }

    /// Renders the slot of a profile, which was given `port`.
    ///
    /// The same input gives the same bytes: the files have no dates, no versions, nothing random.
    pub fn render(&self, profile: &ProfileName, port: Option<u16>) -> Result<Files> {
        let milliseconds = self.stop_timeout.as_millis();
        let word = |value: &OsStr| Word::new(value);
        let execline = word(self.tools.execline.as_os_str());
        let s6 = word(self.tools.s6.as_os_str());
        let hermes_s6 = word(self.tools.hermes_s6.as_os_str());
        let home = word(self.settings.home_of(profile).as_os_str());
        let drop_to = self.drop_to.map(Word::new);
        let mut files = self.common(&Service {
            name: &profile.slot(),
            label: profile.as_str(),
            log: self.settings.log_of(profile),
            deaths: CRASH_LOOP_DEATHS,
            stop: self.stop_timeout,
        })?;
        let container = self.settings.container_environment.as_ref();
        let container = container.map(|directory| word(directory.as_os_str()));
        let run = Run {
            execline: &execline,
            s6: &s6,
            hermes_s6: &hermes_s6,
            hermes: word(self.tools.hermes.as_os_str()),
            container_environment: container.as_ref(),
            data_root: word(self.settings.home.as_os_str()),
            home: &home,
            profile: profile.as_str(),
            named: !profile.is_default(),
            milliseconds,
            drop_to: drop_to.as_ref(),
        };
        add(&mut files, "run", 0o755, run.render())?;
        let check = Check {
            execline: &execline,
            s6: &s6,
            hermes_s6: &hermes_s6,
            home: &home,
            drop_to: drop_to.as_ref(),
        };
        add(&mut files, "data/check", 0o755, check.render())?;
        if let Some(port) = port {
            let port = ApiServerPort { port }.render();
            add(&mut files, "env/API_SERVER_PORT", 0o644, port)?;
        }
        let digest = digest(&files);
        let marker = Marker {
            profile: profile.as_str(),
            digest: &digest,
        };
        files.insert(
            MARKER,
            File {
                mode: 0o644,
                content: line(marker.render())?,
            },
        );
        Ok(files)
    }

    /// Renders what all services with a log have.
    pub(super) fn common(&self, service: &Service) -> Result<Files> {
        let execline = Word::new(&self.tools.execline);
        let s6 = Word::new(&self.tools.s6);
        let drop_to = self.drop_to.map(Word::new);
        let finish = Finish {
            execline: &execline,
            s6: &s6,
            locked: EXIT_LOCKED,
            window: CRASH_LOOP_WINDOW.as_secs(),
            deaths: service.deaths,
        };
        let log = LogRun {
            execline: &execline,
            s6: &s6,
            hermes_s6: &Word::new(&self.tools.hermes_s6),
            directory: Word::new(&service.log),
            slot: service.name,
            profile: service.label,
            memory: MEMORY,
            drop_to: drop_to.as_ref(),
        };
        let kill = TimeoutKill {
            milliseconds: service.stop.as_millis(),
        };
        let mut files = Files::new();
        for (path, mode, text) in [
            ("finish", 0o755, finish.render()),
            ("log/run", 0o755, log.render()),
            ("timeout-kill", 0o644, kill.render()),
            ("type", 0o644, Type.render()),
            ("notification-fd", 0o644, NotificationFd.render()),
            ("max-death-tally", 0o644, MaxDeathTally.render()),
            ("log/notification-fd", 0o644, LogNotificationFd.render()),
            ("log/down-signal", 0o644, LogDownSignal.render()),
        ] {
            add(&mut files, path, mode, text)?;
        }
        Ok(files)
    }
}

/// Adds a rendered file.
pub(super) fn add(
    files: &mut Files,
    path: &'static str,
    mode: u32,
    text: askama::Result<String>,
) -> Result<()> {
    let content = line(text)?;
    files.insert(path, File { mode, content });
    Ok(())
}

/// Renders the `down` file. s6 only looks whether it exists; the reason in it is for a person.
pub fn down(reason: &str) -> Result<File> {
    Ok(File {
        mode: 0o644,
        content: line(Down { reason }.render())?,
    })
}

/// Ends a rendered text with a newline: askama drops the last one of a template.
fn line(text: askama::Result<String>) -> Result<Vec<u8>> {
    let text = text.map_err(|_| {
        let what = "a path or name with a NUL or non-byte cannot be rendered";
        Error::new(Code::Usage, what)
    })?;
    Ok((text + "\n").into_bytes())
}

/// Gives one digest for all files of a slot: their paths, modes and content.
fn digest(files: &Files) -> String {
    let mut hash = Sha256::new();
    for (path, file) in files {
        hash.update(format!("{path}\n{:o} {}\n", file.mode, file.content.len()));
        hash.update(&file.content);
    }
    hash.finalize()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

/// The directories in a slot that hermes-s6 makes. `env` may stay empty, but the run script reads it.
const DIRECTORIES: [&str; 3] = ["data", "env", "log"];

/// The difference between a slot and the files that it should have.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The files that are missing, or differ in content or mode.
    pub outdated: Vec<&'static str>,
    /// Temporary files that a killed run has left.
    pub debris: Vec<String>,
}

/// Compares a slot with the files that it should have. Other files in the slot are ignored.
///
/// A file that cannot be read counts as outdated: the attempt to write it then gives the error.
pub fn compare(slot: &Dir, files: &Files) -> Difference {
    let mut difference = Difference {
        outdated: files.keys().copied().collect(),
        debris: Vec::new(),
    };
    difference.look(slot, "", files);
    for directory in DIRECTORIES {
        if let Ok(inner) = slot.dir(directory) {
            difference.look(&inner, &format!("{directory}/"), files);
        }
    }
    difference.debris.sort_unstable();
    difference
}

impl Difference {
    /// Looks at the files in one directory of a slot, whose paths have `prefix`.
    fn look(&mut self, directory: &Dir, prefix: &str, files: &Files) {
        let is_ours = |path: &str| path == "down" || files.contains_key(path);
        for name in directory.names().unwrap_or_default() {
            let Some(name) = name.to_str() else { continue };
            let path = format!("{prefix}{name}");
            if written_path(&path).is_some_and(|path| is_ours(&path)) {
                // A directory is not made by any writer of ours.
                if !matches!(directory.kind(name), Ok(Some(FileType::Directory))) {
                    self.debris.push(path);
                }
            } else if let Some(file) = files.get(&*path)
                && has(directory, name, file)
            {
                self.outdated.retain(|outdated| *outdated != path);
            }
        }
    }
}

/// Tells whether a file has the mode and the content that it should have.
fn has(directory: &Dir, name: &str, file: &File) -> bool {
    let read = || {
        let open = directory.file(name, OFlags::RDONLY)?;
        let meta = open.metadata().ok();
        let is_like_it = meta.is_some_and(|meta| {
            meta.is_file()
                && meta.mode() & 0o7777 == file.mode
                && meta.size() == file.content.len() as u64
        });
        if !is_like_it {
            return Ok::<_, Error>(false);
        }
        // One byte more, by which a file shows that has grown.
        let mut content = vec![0; file.content.len() + 1];
        let length = retry_on_intr(|| rustix::io::read(&open, &mut content));
        Ok(length.is_ok_and(|length| content[..length] == file.content))
    };
    read().unwrap_or(false)
}

/// Tells which file of a slot is written at this path, see [`written_aside`]; `None` if it is no temporary file.
fn written_path(path: &str) -> Option<String> {
    match path.rsplit_once('/') {
        Some((directory, name)) => Some(format!("{directory}/{}", written_aside(name)?)),
        None => written_aside(path).map(str::to_owned),
    }
}

/// Writes all files of a slot into a new directory with this name, which nobody reads before it is complete.
pub fn write_new(parent: &Dir, name: &str, files: &Files) -> Result<Dir> {
    let slot = parent.make_dir(name)?;
    slot.set_mode(0o755)?;
    let mut directories = Vec::new();
    for directory in DIRECTORIES {
        let made = slot.make_dir(directory)?;
        made.set_mode(0o755)?;
        directories.push((directory, made));
    }
    for (path, file) in files {
        let (directory, name) = path.rsplit_once('/').unwrap_or((".", path));
        let made = directories.iter().find(|(path, _)| *path == directory);
        let directory = match made {
            Some((_, made)) => made,
            None if directory == "." => &slot,
            None => {
                let what = format!("no directory is made for {path} in a slot");
                return Err(Error::new(Code::Bug, what));
            }
        };
        directory.create(name, &file.content, file.mode)?;
    }
    Ok(slot)
}

/// Writes or replaces a file in a slot that may be in use.
pub fn put(slot: &Dir, path: &str, file: &File) -> Result<()> {
    let put =
        |directory: &Dir, name: &str| directory.replace_passing(name, &file.content, file.mode);
    match path.rsplit_once('/') {
        Some((directory, name)) => {
            let directory = slot.make_dir(directory)?;
            directory.set_mode(0o755)?;
            put(&directory, name)
        }
        None => put(slot, path),
    }
}

#[derive(Template)]
#[template(path = "run.execline")]
struct Run<'a> {
    execline: &'a Word,
    s6: &'a Word,
    hermes_s6: &'a Word,
    hermes: Word,
    container_environment: Option<&'a Word>,
    data_root: Word,
    home: &'a Word,
    profile: &'a str,
    named: bool,
    milliseconds: u128,
    drop_to: Option<&'a Word>,
}

#[derive(Template)]
#[template(path = "finish.execline")]
struct Finish<'a> {
    execline: &'a Word,
    s6: &'a Word,
    locked: u8,
    window: u64,
    deaths: usize,
}

#[derive(Template)]
#[template(path = "log/run.execline")]
struct LogRun<'a> {
    execline: &'a Word,
    s6: &'a Word,
    hermes_s6: &'a Word,
    directory: Word,
    slot: &'a str,
    profile: &'a str,
    memory: u64,
    drop_to: Option<&'a Word>,
}

#[derive(Template)]
#[template(path = "data/check.execline")]
struct Check<'a> {
    execline: &'a Word,
    s6: &'a Word,
    hermes_s6: &'a Word,
    home: &'a Word,
    drop_to: Option<&'a Word>,
}

#[derive(Template)]
#[template(path = "timeout-kill", escape = "none")]
struct TimeoutKill {
    milliseconds: u128,
}

#[derive(Template)]
#[template(path = "type", escape = "none")]
struct Type;

#[derive(Template)]
#[template(path = "notification-fd", escape = "none")]
struct NotificationFd;

#[derive(Template)]
#[template(path = "max-death-tally", escape = "none")]
struct MaxDeathTally;

#[derive(Template)]
#[template(path = "log/notification-fd", escape = "none")]
struct LogNotificationFd;

#[derive(Template)]
#[template(path = "log/down-signal", escape = "none")]
struct LogDownSignal;

#[derive(Template)]
#[template(path = "env/API_SERVER_PORT", escape = "none")]
struct ApiServerPort {
    port: u16,
}

#[derive(Template)]
#[template(path = "data/hermes-s6", escape = "none")]
struct Marker<'a> {
    profile: &'a str,
    digest: &'a str,
}

#[derive(Template)]
#[template(path = "down", escape = "none")]
struct Down<'a> {
    reason: &'a str,
}

#[cfg(test)]
mod tests;
