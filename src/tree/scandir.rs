//! The scan directory: which slots it has, which s6-svscan watches it, and whom it belongs to.
//!
//! Whoever changes a scan directory holds its lock
//! ([`ScanDir::lock_within`]).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, FlockOperation, OFlags};
use rustix::io::Errno;

use crate::error::{Code, Error, Result, shown};
use crate::hermes::name::{ProfileName, SLOT_PREFIX};
use crate::report;
use crate::rights::Rights;
use crate::s6::capacity;
use crate::s6::supervision::{Status, scanner, supervised, supervisor};
use crate::s6::tool::Tools;
use crate::settings::{CHOOSE_SCANDIR, Settings};
use crate::system::beneath::Dir;
use crate::system::process::Holder;
use crate::system::root::{Root, identity};
use crate::system::trust::{only_root_changes, require_root_owned};
use crate::system::wait::wait_until;
use crate::tree::dashboard::DASHBOARD;
use crate::tree::owner::{Choices, OWNER_FILE, Owner};
use crate::tree::slot::MARKER;
use crate::tree::tender::TENDER;
use crate::volume::port::Entries;
use crate::volume::survey::Survey;

/// The prefix of an empty file which tells that somebody unregistered a profile: that its slot was removed on
/// purpose.
const MARK_PREFIX: &str = ".hermes-s6-gone-";

/// The file whose lock a process holds while it changes the scan directory.
const LOCK_FILE: &str = ".hermes-s6.lock";

/// The prefix of a slot that is being built. s6-svscan ignores names with a leading dot.
pub const NEW_PREFIX: &str = ".hermes-s6-new-";

/// The prefix of a slot that is being removed.
pub const OLD_PREFIX: &str = ".hermes-s6-old-";

/// How long to wait for another process that changes the same scan directory.
pub const LOCK_WAIT: Duration = Duration::from_secs(60);

/// An open scan directory.
#[derive(Debug)]
pub struct ScanDir {
    dir: Dir,
}

impl ScanDir {
    /// Opens the scan directory of the settings.
    pub fn open(settings: &Settings) -> Result<Self> {
        let dir = Dir::open(&settings.root.at(&settings.scandir)).map_err(|error| {
            let is_place = error.is_forbidden() || error.kind() == Some(ErrorKind::NotADirectory);
            if is_place {
                error.remedy(CHOOSE_SCANDIR)
            } else {
                error
            }
        })?;
        Ok(Self { dir })
    }

    /// Opens the scan directory; `None` if it does not exist.
    pub fn open_if_there(settings: &Settings) -> Result<Option<Self>> {
        match Self::open(settings) {
            Ok(scandir) => Ok(Some(scandir)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the scan directory for a command that needs a tree; without one, the error has a remedy.
    pub fn open_tree(settings: &Settings) -> Result<Self> {
        Self::open_if_there(settings)?.ok_or_else(|| {
            let place = settings.scandir.display();
            let what = format!("nothing is supervised here: there is no {place}");
            Error::new(Code::Unsupervised, what).remedy(
                "start the tree with hermes-s6 supervise, or name its directory with --scandir",
            )
        })
    }

    /// Refuses a scan directory of another user: only root and its owner may change it.
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

    /// Refuses a scan directory with slots that somebody other than root owns or can change: root runs their scripts.
    ///
    /// This reads every slot. A command that changes none of them needs only [`ScanDir::require_root_owned`].
    pub fn require_all_root_owned(&self) -> Result<()> {
        for name in self.dir.names()? {
            let text = name.to_string_lossy();
            let is_ours = [SLOT_PREFIX, OWNER_FILE]
                .iter()
                .any(|start| text.starts_with(start));
            if is_ours || text == TENDER || text == DASHBOARD {
                require_root_owned(&self.dir, &name)?;
            }
        }
        Ok(())
    }

    /// Refuses a slot, or another name in the scan directory, that somebody other than root owns or can change.
    pub fn require_root_owned(&self, name: impl AsRef<OsStr>) -> Result<()> {
        require_root_owned(&self.dir, name.as_ref())
    }

    /// Gives the open directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Gives the path of a name in the scan directory, as this process can open it.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Finds the s6-svscan that watches the scan directory; `None` if there is none.
    pub fn watcher(&self) -> Result<Option<Holder>> {
        scanner(&self.dir)
    }

    /// Takes the lock of the scan directory, and waits for it for at most `limit`, or [`LOCK_WAIT`].
    ///
    /// The lock is held for as long as the result lives. Meanwhile no other hermes-s6 changes the scan
    /// directory.
    pub fn lock_within(&self, limit: Duration) -> Result<fs::File> {
        let file = self.lock_file()?;
        let limit = limit.min(LOCK_WAIT);
        let mut locked = Ok(false);
        wait_until(limit, "another hermes-s6 to finish", || {
            locked = try_lock(&file);
            !matches!(locked, Ok(false))
        });
        if self.locked(locked)? {
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

    /// Takes the lock as [`ScanDir::lock_within`] does, but does not wait; `None` if another process holds
    /// it.
    pub fn try_lock(&self) -> Result<Option<fs::File>> {
        let file = self.lock_file()?;
        Ok(self.locked(try_lock(&file))?.then_some(file))
    }

    /// Makes a failure to lock an error: it does not mean that another process has the lock.
    fn locked(&self, result: io::Result<bool>) -> Result<bool> {
        result.map_err(|cause| Error::system("lock", self.dir.path(), cause))
    }

    /// Opens the file that is locked.
    ///
    /// Only the owner of the scan directory may open it: another user who could lock it would stop all
    /// changes. Other users, who may control the slots but not change them, lock the directory itself,
    /// against each other.
    fn lock_file(&self) -> Result<fs::File> {
        if self.ours().is_err() {
            return Ok(fs::File::from(self.dir.dir(".")?.into_handle()));
        }
        let file = self.dir.file(LOCK_FILE, OFlags::RDWR | OFlags::CREATE)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))
            .map_err(|cause| Error::system("chmod", self.at(LOCK_FILE), cause))?;
        Ok(file)
    }

    /// Reads the owner file; `None` if the scan directory was never filled.
    pub fn owner(&self) -> Result<Option<Owner>> {
        let content = match self.dir.read(OWNER_FILE, 1 << 16) {
            Err(failure) if failure.is_missing() => return Ok(None),
            content => content.map_err(|failure| failure.text),
        };
        let owner = content.and_then(|content| {
            serde_json::from_slice(&content).map_err(|_| "is no owner file".to_owned())
        });
        owner.map(Some).map_err(|why| {
            let why = why.strip_prefix(OWNER_FILE).unwrap_or(&why).trim_start();
            let what = format!("{} {why}", shown(&self.at(OWNER_FILE)));
            Error::new(Code::System, what)
                .remedy("hermes-s6 cannot tell whose gateways these are: if it is damaged, remove it and run hermes-s6 reconcile")
        })
    }

    /// Reads the owner file of a running tree: its s6-svscan lives, and this instance has filled the directory.
    pub fn live_owner(&self, settings: &Settings) -> Result<Option<Owner>> {
        match self.owner()? {
            Some(owner) if owner.is_of_this_instance(settings)? => {
                let is_watched = match self.watcher() {
                    // Root's s6-svscan cannot be seen by hermes.
                    Err(error) if error.is_forbidden() => true,
                    watcher => watcher?.is_some(),
                };
                Ok(is_watched.then_some(owner))
            }
            _ => Ok(None),
        }
    }

    /// Reads the owner file, and refuses a scan directory with the gateways of another data root.
    pub fn owner_for(&self, settings: &Settings) -> Result<Option<Owner>> {
        let Some(other) = self.owner()? else {
            return Ok(None);
        };
        if other.serves(settings)? {
            return Ok(Some(other));
        }
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

    /// Gives the choices that slots are made with, and refuses a scan directory of another data root.
    ///
    /// A running tree keeps the choices that it was started with. The environment of this command does not
    /// change them: a client and a supervisor of different versions misunderstand each other, and a setting
    /// for one command must not change all gateways. `tools` finds the programs for a tree that does not run.
    pub fn choices(
        &self,
        settings: &Settings,
        tools: impl FnOnce() -> Result<Tools>,
    ) -> Result<Choices> {
        self.owner_for(settings)?;
        let Some(Owner { choices, .. }) = self.live_owner(settings)? else {
            return Ok(Choices::new(settings, tools()?));
        };
        // Root names a directory by the way without links.
        let same = |one: &Path, other: &Path| {
            let file = |path: &Path| identity(&settings.root.at(path));
            one == other || file(one).is_some_and(|one| Some(one) == file(other))
        };
        let differs = |setting: &Option<PathBuf>, kept: &Path| {
            setting.as_ref().is_some_and(|setting| !same(setting, kept))
        };
        if differs(&settings.hermes, &choices.tools.hermes)
            || differs(&settings.bindir, &choices.tools.s6)
        {
            report::warning(
                "the running tree keeps its own programs: HERMES_S6_HERMES and HERMES_S6_BINDIR count when the tree is started again",
            );
        }
        Ok(choices)
    }

    /// Lists the profiles that have a slot made by hermes-s6.
    pub fn profiles(&self) -> Result<BTreeSet<ProfileName>> {
        let mut profiles = self.slot_names()?;
        // One that cannot be looked at counts: whoever looks at it is told why.
        profiles.retain(|name| self.has_slot(name).unwrap_or(true));
        Ok(profiles)
    }

    /// Lists the profiles that something in the scan directory has the name of the slot of, whoever made it.
    pub fn slot_names(&self) -> Result<BTreeSet<ProfileName>> {
        let names = self.dir.names()?;
        let slot = |name: &OsString| ProfileName::from_slot(name.to_str()?);
        Ok(names.iter().filter_map(slot).collect())
    }

    /// Reads the ports that the slots have, not yet checked.
    pub fn ports(&self) -> Result<Entries> {
        let mut ports = Entries::new();
        for name in self.profiles()? {
            let Some(slot) = self.slot(&name)? else {
                continue;
            };
            let Some(env) = slot.dir_if_there("env")? else {
                continue;
            };
            match env.read("API_SERVER_PORT", 16) {
                Ok(port) => {
                    let port = String::from_utf8_lossy(&port).trim().parse().ok();
                    ports.extend(port.map(|port| (name.to_string(), port)));
                }
                Err(unusable) if unusable.is_missing() => {}
                Err(unusable) => return Err(Error::new(Code::System, unusable.text)),
            }
        }
        Ok(ports)
    }

    /// Lets the profiles keep the ports that their slots have, where the volume says nothing of ports.
    pub fn keep_ports(&self, settings: &Settings, survey: &mut Survey) -> Result<()> {
        if survey.lacks_ports() && self.owner_for(settings).is_ok() {
            survey.keep_ports(&self.ports()?);
        }
        Ok(())
    }

    /// Reads the status of a slot; `None` without a slot or a supervisor.
    pub fn status(&self, root: &Root, profile: &ProfileName) -> Result<Option<Status>> {
        let Some(slot) = self.slot(profile)? else {
            return Ok(None);
        };
        Ok(supervised(root, &slot)?.map(|(status, _supervisor)| status))
    }

    /// Tells whether a slot has a supervisor, be it one that outlived its s6-svscan.
    pub fn has_supervisor(&self) -> Result<bool> {
        let mut failure = None;
        for name in self.profiles()? {
            let found = self.slot(&name).and_then(|slot| match slot {
                Some(slot) => supervisor(&slot),
                None => Ok(None),
            });
            match found {
                Ok(Some(_)) => return Ok(true),
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(false), Err)
    }

    /// Opens the slot of a profile, or what has its name; `None` if there is none.
    pub fn slot(&self, profile: &ProfileName) -> Result<Option<Dir>> {
        self.dir.dir_if_there(profile.slot())
    }

    /// Tells whether a profile has a slot that hermes-s6 made.
    pub fn has_slot(&self, profile: &ProfileName) -> Result<bool> {
        self.slot(profile)?.map_or(Ok(false), |slot| is_ours(&slot))
    }

    /// Marks a profile as unregistered: its slot was removed on purpose.
    pub fn note_unregistered(&self, profile: &ProfileName) {
        let _unmarked = self.dir.replace(&mark(profile), b"");
    }

    /// Tells whether a profile is marked as unregistered.
    pub fn is_unregistered(&self, profile: &ProfileName) -> bool {
        matches!(self.dir.kind(mark(profile)), Ok(Some(_)))
    }

    /// Removes the mark: the profile is gone, or shall have a slot again.
    pub fn forget_unregistered(&self, profile: &ProfileName) {
        let _was_none = self.dir.remove(&mark(profile));
    }

    /// Lists the profiles that are marked as unregistered.
    pub fn unregistered(&self) -> Result<Vec<ProfileName>> {
        let names = self.dir.names()?;
        let marks = names
            .iter()
            .filter_map(|name| name.to_str()?.strip_prefix(MARK_PREFIX));
        Ok(marks.filter_map(|name| name.parse().ok()).collect())
    }

    /// Lists the half-built and half-removed slots that killed runs have left, by their names.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let ours = |name: &String| name.starts_with(NEW_PREFIX) || name.starts_with(OLD_PREFIX);
        let names = self.dir.names()?.into_iter();
        Ok(names
            .filter_map(|name| name.into_string().ok())
            .filter(ours)
            .collect())
    }

    /// Gives the number of slots that the s6-svscan `watcher` has room for.
    ///
    /// `others` are the names of the services in the scan directory that are not slots of ours.
    pub fn room(
        &self,
        settings: &Settings,
        tools: &Tools,
        watcher: Option<Holder>,
        others: &[OsString],
    ) -> Result<usize> {
        let services = others.iter().filter_map(|name| self.dir.dir(name).ok());
        let mut loggers: Vec<bool> = services.map(|service| service.dir("log").is_ok()).collect();
        // The tender comes with the first reconcile.
        loggers.extend((!others.iter().any(|name| name == TENDER)).then_some(false));
        capacity::room(settings, tools, watcher, &loggers)
    }
}

/// Takes the lock of the scan directory, and tells whether it was free.
fn try_lock(file: &fs::File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Tells whether hermes-s6 made a service directory: it has our marker.
pub fn is_ours(slot: &Dir) -> Result<bool> {
    let Some(data) = slot.dir_if_there("data")? else {
        return Ok(false);
    };
    let marker = Path::new(MARKER).file_name().unwrap_or_default();
    Ok(data.kind(marker)? == Some(FileType::RegularFile))
}

/// Gives the name of the file that marks a profile as unregistered.
fn mark(profile: &ProfileName) -> String {
    format!("{MARK_PREFIX}{profile}")
}

/// Gives the choices that slots would be made with: those of the running tree, or with what `tools` finds without one.
pub fn choices_of_tree(
    settings: &Settings,
    rights: &Rights,
    scandir: Option<&ScanDir>,
    tools: impl FnOnce() -> Result<Tools>,
) -> Result<Choices> {
    let Some(scandir) = scandir else {
        return Ok(Choices::new(settings, tools()?));
    };
    if rights.are_roots() {
        // Root runs the programs that the owner file names.
        only_root_changes(scandir.dir().path())?;
        scandir.require_root_owned(OWNER_FILE)?;
    }
    scandir.choices(settings, tools)
}
