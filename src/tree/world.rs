//! The scan directory as it was found, which is what a plan is made from.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::hermes::name::ProfileName;
use crate::s6::supervision::supervision;
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::system::wait::wait_until;
use crate::tree::scandir::{ScanDir, is_ours};
use crate::tree::slot::{Difference, Files, compare};

/// How long to wait for a new s6-svscan that takes up nothing more.
const FIRST_SCAN_PATIENCE: Duration = Duration::from_secs(3);

/// How long a new s6-svscan may take for all its services.
const FIRST_SCAN_LIMIT: Duration = Duration::from_secs(60);

/// A slot as it was found in the scan directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact that s6 keeps on its own"
)]
pub struct Found {
    /// Whether hermes-s6 made the slot.
    pub ours: bool,
    /// Why the slot could not be looked at; the other fields then say nothing.
    pub failure: Option<String>,
    /// The files that are missing or differ from the rendered ones, by their path in the slot.
    pub outdated: Vec<&'static str>,
    /// Temporary files that a killed run has left.
    pub debris: Vec<String>,
    /// Whether the slot has a `down` file.
    pub down: bool,
    /// Whether an s6-supervise runs for the slot.
    pub supervised: bool,
    /// Whether the slot has a status, but its supervisor is gone.
    pub stale: bool,
    /// Whether the supervisor wants the gateway up. Without this, a gateway that still runs is about to end.
    pub up: bool,
}

/// The scan directory as it was found.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The directories in it that have the name of a slot.
    pub slots: BTreeMap<ProfileName, Found>,
    /// Whether an s6-svscan watches it.
    pub watched: bool,
    /// Whether its tree runs, and was filled since the machine or container started. `false` means: at boot.
    pub live: bool,
    /// The number of slots that its s6-svscan has room for, including those that exist; `None` if nothing
    /// limits it.
    pub room: Option<usize>,
}

impl Found {
    /// Looks at the slot of a profile, which should have these files.
    fn of(scandir: &ScanDir, profile: &ProfileName, files: Option<&Files>) -> Self {
        let mut found = Self::default();
        if let Err(error) = found.look(scandir, profile, files) {
            found.failure = Some(error.to_string());
        }
        found
    }

    fn look(
        &mut self,
        scandir: &ScanDir,
        profile: &ProfileName,
        files: Option<&Files>,
    ) -> Result<()> {
        let Some(slot) = scandir.slot(profile)? else {
            return Ok(());
        };
        self.ours = is_ours(&slot)?;
        self.down = slot.kind("down")?.is_some();
        self.observe(&slot)?;
        if let Some(files) = files {
            Difference {
                outdated: self.outdated,
                debris: self.debris,
            } = compare(&slot, files);
        }
        Ok(())
    }

    /// Reads what s6 knows about the slot.
    fn observe(&mut self, slot: &Dir) -> Result<()> {
        self.failure = None;
        let (supervisor, status) = supervision(slot)?;
        self.supervised = supervisor.is_some();
        self.stale = status.is_some() && !self.supervised;
        self.up = self.supervised && status.is_some_and(|status| status.wanted_up);
        Ok(())
    }
}

impl World {
    /// Looks at everything in a scan directory that a plan needs.
    ///
    /// `rendered` are the files that the slot of each profile should have.
    pub fn of(
        scandir: &ScanDir,
        settings: &Settings,
        tools: &Tools,
        rendered: &BTreeMap<ProfileName, Files>,
    ) -> Result<Self> {
        let watcher = scandir.watcher()?;
        let watched = watcher.is_some();
        let mut world = Self {
            watched,
            live: scandir.live_owner(settings)?.is_some(),
            room: None,
            slots: BTreeMap::new(),
        };
        let mut others = Vec::new();
        for entry in scandir.dir().names()? {
            match entry.to_str().and_then(ProfileName::from_slot) {
                Some(name) => {
                    let found = Found::of(scandir, &name, rendered.get(&name));
                    if !found.ours {
                        others.push(entry);
                    }
                    world.slots.insert(name, found);
                }
                // s6-svscan ignores names with a leading dot.
                None if entry.as_encoded_bytes().starts_with(b".") => {}
                None => others.push(entry),
            }
        }
        if watched {
            world.await_first_scan(scandir);
            world.room = Some(scandir.room(settings, tools, watcher, &others)?);
        }
        Ok(world)
    }

    /// Waits for an s6-svscan that has just started to take up its services.
    ///
    /// Until then, they look like services that it has missed.
    fn await_first_scan(&mut self, scandir: &ScanDir) {
        let mut missed = usize::MAX;
        let mut progress = Instant::now();
        wait_until(
            FIRST_SCAN_LIMIT,
            "s6-svscan to take up its services",
            || {
                let mut left = 0;
                let unsupervised = self
                    .slots
                    .iter_mut()
                    .filter(|(_, found)| found.ours && !found.supervised);
                for (name, found) in unsupervised {
                    // A look that fails is made again.
                    if let Ok(Some(slot)) = scandir.slot(name)
                        && let Err(error) = found.observe(&slot)
                    {
                        found.failure = Some(error.to_string());
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
