//! The scan directory: the slots in it, who watches it, and whose it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, OFlags};

use crate::error::{Code, Error, Result, shown};
use crate::hermes::name::{ProfileName, SLOT_PREFIX};
use crate::report;
use crate::rights::Rights;
use crate::s6::capacity;
use crate::s6::supervision::{Status, scanner, supervisor};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::system::process::Holder;
use crate::system::trust::require_root_owned;
use crate::system::wait::wait_until;
use crate::tree::owner::{Choices, OWNER_FILE, Owner};
use crate::tree::slot::{Difference, Files, MARKER, compare};

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

/// A slot as it lies in the scan directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact that s6 keeps on its own"
)]
pub struct Found {
    /// Whether hermes-s6 made it.
    pub ours: bool,
    /// The files that differ from what they should be, by their path in the slot.
    pub outdated: Vec<&'static str>,
    /// Files beside them that a killed run has left half written.
    pub debris: Vec<String>,
    /// Whether there is a `down` file.
    pub down: bool,
    /// Whether an s6-supervise looks after it.
    pub supervised: bool,
    /// Whether it has the status of a supervisor that is no more.
    pub stale: bool,
    /// Whether its supervisor wants the gateway up; one that is up all the same is about to end.
    pub up: bool,
}

/// The scan directory as it is.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The slots in it that have a profile's name.
    pub slots: BTreeMap<ProfileName, Found>,
    /// Whether an s6-svscan watches it.
    pub watched: bool,
    /// Whether this is not the first convergence since the container or the tree started.
    pub live: bool,
    /// The number of slots that its s6-svscan has room for, if there is a limit.
    pub room: Option<usize>,
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

    /// Opens it if it is there.
    pub fn open_if_there(settings: &Settings) -> Result<Option<Self>> {
        match Self::open(settings) {
            Ok(scandir) => Ok(Some(scandir)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens it for a command that is about a tree; the error has a remedy if there is none.
    pub fn open_tree(settings: &Settings) -> Result<Self> {
        Self::open_if_there(settings)?.ok_or_else(|| {
            let place = settings.scandir.display();
            let what = format!("nothing is supervised here: there is no {place}");
            Error::new(Code::Unsupervised, what).remedy(
                "start the tree with hermes-s6 supervise, or name its directory with --scandir",
            )
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
    pub fn require_root_owned(&self) -> Result<()> {
        for name in self.dir.names()? {
            let text = name.to_string_lossy();
            if text.starts_with(SLOT_PREFIX) || text.starts_with(OWNER_FILE) {
                require_root_owned(&self.dir, &name)?;
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

    /// Reads the same of a tree that runs: one whose s6-svscan lives, and that this instance of the container
    /// has filled.
    pub fn live_owner(&self, settings: &Settings) -> Option<Owner> {
        self.owner()
            .filter(|owner| owner.is_of_this_instance(settings) && self.watcher().is_some())
    }

    /// Reads whose gateways it has, and refuses those of another data root.
    pub fn owner_for(&self, settings: &Settings) -> Result<Option<Owner>> {
        let owner = self.owner();
        let Some(other) = owner.as_ref().filter(|owner| !owner.serves(settings)) else {
            return Ok(owner);
        };
        let what = format!(
            "{} has the gateways of {}, not of {}",
            shown(&settings.scandir),
            shown(&other.home),
            shown(&settings.home)
        );
        Err(Error::new(Code::Usage, what).remedy(
            "name that data directory with --home, or another scan directory with --scandir",
        ))
    }

    /// Gives what slots are to be made with, and refuses a scan directory of another data root.
    ///
    /// A tree that runs keeps what it was started with, whatever this caller's environment says: a client and
    /// a supervisor of two versions misunderstand each other, and a setting for one command is none for all
    /// gateways. `tools` are the programs that were found here, for a tree that does not run.
    pub fn choices(&self, settings: &Settings, tools: Result<Tools>) -> Result<Choices> {
        self.owner_for(settings)?;
        let Some(Owner { choices, .. }) = self.live_owner(settings) else {
            return Ok(Choices::new(settings, tools?));
        };
        let differs = |named: &Option<PathBuf>, kept: &Path| {
            named.as_ref().is_some_and(|named| named != kept)
        };
        if differs(&settings.hermes, &choices.tools.hermes)
            || differs(&settings.bindir, &choices.tools.s6)
        {
            report::warning(
                "the tree that runs keeps its own programs: HERMES_S6_HERMES and HERMES_S6_BINDIR count when it is started again",
            );
        }
        Ok(choices)
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
            live: self.live_owner(settings).is_some(),
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
        capacity::room(settings, tools, watcher, &loggers)
    }

    fn found(&self, profile: &ProfileName, files: Option<&Files>) -> Found {
        let Ok(slot) = self.slot(profile) else {
            return Found::default();
        };
        let Difference { outdated, debris } = files
            .map(|files| compare(slot.path(), files))
            .unwrap_or_default();
        let mut found = Found {
            ours: self.is_ours(profile.slot()),
            outdated,
            debris,
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

/// Looks at what s6 makes of a slot.
fn observe(slot: &Dir, found: &mut Found) {
    let status = Status::read(slot);
    found.supervised = supervisor(slot).is_some();
    found.stale = status.is_some() && !found.supervised;
    found.up = found.supervised && status.is_some_and(|status| status.wanted_up);
}

fn mark(profile: &ProfileName) -> String {
    format!("{MARK_PREFIX}{profile}")
}

/// Gives what slots would be made with: what those of the tree that runs were, if one does.
pub fn choices_of_tree(
    settings: &Settings,
    rights: &Rights,
    tools: Result<Tools>,
) -> Result<Choices> {
    let Some(scandir) = ScanDir::open_if_there(settings)? else {
        return Ok(Choices::new(settings, tools?));
    };
    if let Rights::Direct(_) = rights {
        // Root runs the programs that are named there.
        scandir.require_root_owned()?;
    }
    scandir.choices(settings, tools)
}
