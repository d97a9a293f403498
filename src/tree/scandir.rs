//! The scan directory: the slots in it, who watches it, and whose it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, FlockOperation, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result, shown};
use crate::hermes::name::{ProfileName, SLOT_PREFIX};
use crate::s6::supervision::{Holder, Status, scanner, supervisor};
use crate::s6::tool::{Tools, identity};
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::system::process::stat_field;
use crate::system::wait::wait_until;
use crate::tree::plan::{Found, World};
use crate::tree::slot::{Files, MARKER};

/// The file in a scan directory that says that its gateways are ours, and what they were made with.
pub const OWNER_FILE: &str = ".hermes-s6";

/// Begins the name of an empty file: somebody has removed the slot of that profile on purpose.
const MARK_PREFIX: &str = ".hermes-s6-gone-";

/// The file whose lock the one process that changes a scan directory holds.
const LOCK_FILE: &str = ".hermes-s6.lock";

/// How names begin that a killed run may leave behind: s6-svscan passes over a leading dot.
pub const NEW_PREFIX: &str = ".hermes-s6-new-";

/// See [`NEW_PREFIX`].
pub const OLD_PREFIX: &str = ".hermes-s6-old-";

/// How long to wait for another process that changes the same scan directory.
pub const LOCK_WAIT: Duration = Duration::from_secs(60);

/// How long a new s6-svscan may go without taking up another service.
const FIRST_SCAN_PATIENCE: Duration = Duration::from_secs(3);

/// How long it may take for all of them.
const FIRST_SCAN_LIMIT: Duration = Duration::from_secs(60);

/// What a scan directory was made for, written into it when it is first filled.
///
/// Whoever comes later, perhaps with another `PATH`, finds the same programs in it, and a second data
/// root is not taken for the first one with all profiles gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The data root whose profiles have their slots here.
    pub home: PathBuf,
    /// The instance of the machine or container that filled it.
    pub instance: String,
    /// What its slots were made with.
    pub choices: Choices,
}

impl Owner {
    /// Tells whether it was made for this data root, by whatever path.
    pub fn serves(&self, settings: &Settings) -> bool {
        let identity = |path: &Path| identity(&settings.root.at(path));
        self.home == settings.home
            || identity(&self.home).is_some_and(|home| Some(home) == identity(&settings.home))
    }
}

/// What slots are made with, besides the profiles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices {
    /// The programs that they name.
    pub tools: Tools,
    /// How long a gateway may take to stop, in seconds.
    pub stop_timeout: u64,
}

impl Choices {
    /// Takes the programs, and the rest from the settings.
    pub fn new(settings: &Settings, tools: Tools) -> Self {
        Self {
            tools,
            stop_timeout: settings.stop_timeout.as_secs(),
        }
    }

    /// Gives the time that a gateway may take to stop.
    pub fn stop_timeout(&self) -> Duration {
        Duration::from_secs(self.stop_timeout)
    }
}

/// A scan directory, open.
#[derive(Debug)]
pub struct ScanDir {
    dir: Dir,
}

impl ScanDir {
    /// Opens the scan directory of the settings.
    pub fn open(settings: &Settings) -> Result<Self> {
        Ok(Self {
            dir: Dir::open(&settings.root.at(&settings.scandir))?,
        })
    }

    /// Refuses to change a scan directory of somebody else.
    pub fn ours(&self) -> Result<()> {
        let stat = rustix::fs::fstat(&self.dir)
            .map_err(|errno| Error::system("stat", self.dir.path(), errno))?;
        let us = rustix::process::geteuid().as_raw();
        if stat.st_uid == us || us == 0 {
            return Ok(());
        }
        let place = shown(self.dir.path());
        Err(Error::new(
            Code::Usage,
            format!("{place} belongs to uid {}, not to us", stat.st_uid),
        )
        .remedy("run this as the owner of the scan directory"))
    }

    /// Refuses, as root, slots that somebody else has made or could change: root runs what is in them.
    pub fn only_roots(&self) -> Result<()> {
        for name in self.dir.names()? {
            let text = name.to_string_lossy();
            if text.starts_with(SLOT_PREFIX) || text.starts_with(OWNER_FILE) {
                only_roots(&self.dir, &name, 0)?;
            }
        }
        Ok(())
    }

    /// Gives the directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Gives the path of a name in it, in this process' file system.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Finds the s6-svscan that watches it.
    pub fn watcher(&self) -> Option<Holder> {
        scanner(&self.dir)
    }

    /// Waits until nobody else changes it, for at most `limit`, and keeps others out for as long as the
    /// result lives.
    pub fn lock_within(&self, limit: Duration) -> Result<fs::File> {
        let file = self.lock_file()?;
        let limit = limit.min(LOCK_WAIT);
        if wait_until(limit, "another hermes-s6 to finish", || try_lock(&file)) {
            return Ok(file);
        }
        Err(Error::new(
            Code::TimedOut,
            format!(
                "another hermes-s6 has been changing {} for {} s",
                shown(self.dir.path()),
                limit.as_secs()
            ),
        ))
    }

    /// Does as [`ScanDir::lock_within`] if that can be had at once.
    pub fn try_lock(&self) -> Result<Option<fs::File>> {
        let file = self.lock_file()?;
        Ok(try_lock(&file).then_some(file))
    }

    /// Opens what is locked: a file that only the owner may open, since anybody who could could stop all
    /// changes for ever. Others, who may only control the slots, exclude each other.
    fn lock_file(&self) -> Result<fs::File> {
        if self.ours().is_err() {
            return Ok(fs::File::from(self.dir.dir(".")?.into_handle()));
        }
        let file = self.dir.file(LOCK_FILE, OFlags::RDWR | OFlags::CREATE)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))
            .map_err(|cause| Error::system("chmod", self.at(LOCK_FILE), cause))?;
        Ok(file)
    }

    /// Reads whom the directory was made for, if it was ever filled.
    pub fn owner(&self) -> Option<Owner> {
        serde_json::from_slice(&self.dir.read(OWNER_FILE, 1 << 16).ok()?).ok()
    }

    /// Lists the profiles that have a slot made by hermes-s6.
    pub fn profiles(&self) -> Result<BTreeSet<ProfileName>> {
        let names = self.dir.names()?;
        let slots = names
            .iter()
            .filter_map(|name| ProfileName::from_slot(name.to_str()?));
        let mut profiles = BTreeSet::new();
        profiles.extend(slots.filter(|name| self.is_ours(name.slot())));
        Ok(profiles)
    }

    /// Opens a slot.
    pub fn slot(&self, profile: &ProfileName) -> Result<Dir> {
        self.dir.dir(profile.slot())
    }

    /// Tells whether a name is a service directory that hermes-s6 made.
    pub fn is_ours(&self, name: impl AsRef<OsStr>) -> bool {
        let slot = self.dir.dir(Path::new(name.as_ref()));
        let data = slot.and_then(|slot| slot.dir("data"));
        let marker = Path::new(MARKER).file_name().unwrap_or_default();
        data.is_ok_and(|data| matches!(data.kind(marker), Ok(Some(FileType::RegularFile))))
    }

    /// Notes that a profile's slot was removed on purpose.
    pub fn note_unregistered(&self, profile: &ProfileName) {
        let _unnoted = self.dir.replace(&mark(profile), b"");
    }

    /// Tells whether that is so.
    pub fn is_unregistered(&self, profile: &ProfileName) -> bool {
        matches!(self.dir.kind(mark(profile)), Ok(Some(_)))
    }

    /// Forgets it: the profile is gone, or is to have a slot again.
    pub fn forget_unregistered(&self, profile: &ProfileName) {
        let _was_none = self.dir.remove(&mark(profile));
    }

    /// Lists the profiles of which it is noted.
    pub fn unregistered(&self) -> Result<Vec<ProfileName>> {
        let names = self.dir.names()?;
        let marks = names
            .iter()
            .filter_map(|name| name.to_str()?.strip_prefix(MARK_PREFIX));
        Ok(marks.filter_map(|name| name.parse().ok()).collect())
    }

    /// Lists what killed runs left behind.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let ours = |name: &String| name.starts_with(NEW_PREFIX) || name.starts_with(OLD_PREFIX);
        let names = self.dir.names()?.into_iter();
        Ok(names
            .filter_map(|name| name.into_string().ok())
            .filter(ours)
            .collect())
    }

    /// Looks at everything that a plan needs to know.
    ///
    /// `rendered` are the files that each profile's slot should have.
    pub fn world(
        &self,
        settings: &Settings,
        tools: &Tools,
        rendered: &BTreeMap<ProfileName, Files>,
    ) -> Result<World> {
        let watcher = self.watcher();
        let watched = watcher.is_some();
        let mut world = World {
            watched,
            live: watched
                && self
                    .owner()
                    .is_some_and(|owner| owner.instance == instance(settings)),
            room: None,
            slots: BTreeMap::new(),
        };
        let mut others = Vec::new();
        for entry in self.dir.names()? {
            match entry.to_str().and_then(ProfileName::from_slot) {
                Some(name) => {
                    let found = self.found(&name, rendered.get(&name));
                    if !found.ours {
                        others.push(entry);
                    }
                    world.slots.insert(name, found);
                }
                // s6-svscan passes over names with a leading dot.
                None if entry.as_encoded_bytes().starts_with(b".") => {}
                None => others.push(entry),
            }
        }
        if watched {
            self.await_first_scan(&mut world);
            world.room = Some(self.room(settings, tools, watcher, &others));
        }
        Ok(world)
    }

    /// Tells how many slots the s6-svscan that watches it has room for, beside `others`, the names of
    /// what is not a slot of ours.
    pub fn room(
        &self,
        settings: &Settings,
        tools: &Tools,
        watcher: Option<Holder>,
        others: &[OsString],
    ) -> usize {
        let services = others.iter().filter_map(|name| self.dir.dir(name).ok());
        let loggers: Vec<bool> = services.map(|service| service.dir("log").is_ok()).collect();
        crate::s6::capacity::room(settings, tools, watcher, &loggers)
    }

    fn found(&self, profile: &ProfileName, files: Option<&Files>) -> Found {
        let Ok(slot) = self.slot(profile) else {
            return Found::default();
        };
        let mut found = Found {
            ours: self.is_ours(profile.slot()),
            outdated: files
                .map(|files| outdated(slot.path(), files))
                .unwrap_or_default(),
            down: matches!(slot.kind("down"), Ok(Some(_))),
            ..Found::default()
        };
        observe(&slot, &mut found);
        found
    }

    /// Gives an s6-svscan that has just started the time to take up its services: until then they
    /// look like services that it has missed.
    fn await_first_scan(&self, world: &mut World) {
        let mut missed = usize::MAX;
        let mut progress = Instant::now();
        wait_until(
            FIRST_SCAN_LIMIT,
            "s6-svscan to take up its services",
            || {
                let mut left = 0;
                let unsupervised = world
                    .slots
                    .iter_mut()
                    .filter(|(_, found)| found.ours && !found.supervised);
                for (name, found) in unsupervised {
                    if let Ok(slot) = self.slot(name) {
                        observe(&slot, found);
                    }
                    left += usize::from(!found.supervised);
                }
                if left < missed {
                    missed = left;
                    progress = Instant::now();
                }
                left == 0 || progress.elapsed() > FIRST_SCAN_PATIENCE
            },
        );
    }
}

fn try_lock(file: &fs::File) -> bool {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// How deep a service directory is: `gateway-x/log/supervise/control`.
const SLOT_DEPTH: usize = 3;

fn only_roots(dir: &Dir, name: &OsStr, depth: usize) -> Result<()> {
    let path = dir.path().join(name);
    let stat = match rustix::fs::statat(dir, Path::new(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        // s6-supervise writes its status beside it first, and slots come and go: what is gone is not run.
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(Error::system("stat", &path, errno)),
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    // The control FIFO is for hermes' group to write to, and s6 makes event/ for a group of root's.
    let shared = stat.st_mode & 0o002 != 0
        || (stat.st_mode & 0o020 != 0 && stat.st_gid != 0 && kind != FileType::Fifo);
    if stat.st_uid != 0 || shared || kind == FileType::Symlink || depth > SLOT_DEPTH {
        let path = shown(&path);
        return Err(Error::new(
            Code::Usage,
            format!("{path} is not root's alone, and root would run what is in it"),
        )
        .remedy("use a new, empty scan directory"));
    }
    if kind == FileType::Directory {
        let inner = match dir.dir(name) {
            Err(error) if error.is_not_found() => return Ok(()),
            inner => inner?,
        };
        for name in inner.names()? {
            only_roots(&inner, &name, depth + 1)?;
        }
    }
    Ok(())
}

/// Looks at what s6 makes of a slot.
fn observe(slot: &Dir, found: &mut Found) {
    let status = Status::read(slot);
    found.supervised = supervisor(slot).is_some();
    found.stale = status.is_some() && !found.supervised;
    found.up = found.supervised && status.is_some_and(|status| status.wanted_up);
}

/// Lists the files of a slot that are missing, or other than they should be.
fn outdated(slot: &Path, files: &Files) -> Vec<&'static str> {
    let same = |path: &str, mode: u32, content: &[u8]| {
        let place = slot.join(path);
        let meta = fs::symlink_metadata(&place)?;
        let plain = meta.is_file()
            && meta.permissions().mode() & 0o7777 == mode
            && meta.len() == content.len() as u64;
        Ok::<_, std::io::Error>(plain && fs::read(&place)? == content)
    };
    files
        .iter()
        .filter(|(path, file)| !same(path, file.mode, &file.content).unwrap_or(false))
        .map(|(path, _)| *path)
        .collect()
}

fn mark(profile: &ProfileName) -> String {
    format!("{MARK_PREFIX}{profile}")
}

/// Names this instance of the machine or container: another one has another PID 1.
pub fn instance(settings: &Settings) -> String {
    let read = |path: &str| fs::read_to_string(settings.root.at(path)).unwrap_or_default();
    let start = stat_field(&settings.root, "1", 22);
    format!(
        "{} {}",
        read("/proc/sys/kernel/random/boot_id").trim(),
        start.as_deref().unwrap_or("-")
    )
}
