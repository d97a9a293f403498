//! Whether s6 supervises the gateways here, and how we know.

use serde::Serialize;

use crate::hermes::name::ProfileName;
use crate::s6::supervision::supervisor;
use crate::settings::Settings;
use crate::system::process::Holder;
use crate::tree::scandir::ScanDir;

/// The answer, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detection {
    /// The version of this schema, and of that of the status, which has these fields too.
    pub version: u32,
    /// `s6` or `none`.
    pub manager: &'static str,
    /// Why, for a person.
    pub reason: String,
}

impl Detection {
    /// Makes the answer that nobody supervises.
    pub fn none(reason: String) -> Self {
        Self {
            version: 1,
            manager: "none",
            reason,
        }
    }

    /// Tells whether s6 supervises the gateways.
    pub fn is_s6(&self) -> bool {
        self.manager == "s6"
    }
}

/// Finds out. s6 is there when a live s6-svscan watches our scan directory; or, for a caller who may
/// not look into that, when PID 1 is s6-svscan, `/run/s6/basedir` is there, and the scan directory
/// says that it is ours: other images have s6 too, and none of our slots.
pub fn detect(settings: &Settings) -> Detection {
    let place = settings.scandir.display();
    let s6 = |reason| Detection {
        version: 1,
        manager: "s6",
        reason,
    };
    let none = Detection::none;
    let Ok(scandir) = ScanDir::open(settings) else {
        return none(format!("there is no scan directory {place}"));
    };
    let owner = scandir.owner();
    let Some(owner) = owner else {
        return none(format!(
            "{place} has no gateways of hermes-s6: it was never reconciled"
        ));
    };
    if !owner.serves(settings) {
        let (theirs, ours) = (owner.home.display(), settings.home.display());
        return none(format!(
            "{place} has the gateways of {theirs}, not of {ours}"
        ));
    }
    match scandir.watcher() {
        Some(Holder::Process(pid)) => return s6(format!("s6-svscan (pid {pid}) watches {place}")),
        Some(Holder::Elsewhere) => {
            return none(format!(
                "{place} is watched by an s6-svscan of another container"
            ));
        }
        None => {}
    }
    // Not to be looked into by us; but a supervisor of ours proves an s6-svscan above it.
    let closed = matches!(scandir.dir().dir(".s6-svscan"), Err(error) if !error.is_not_found());
    let supervised = |name: &ProfileName| {
        scandir
            .slot(name)
            .is_ok_and(|slot| supervisor(&slot).is_some())
    };
    if closed
        && scandir
            .profiles()
            .is_ok_and(|names| names.iter().any(supervised))
    {
        return s6(format!("gateways in {place} are supervised"));
    }
    let init = std::fs::read_to_string(settings.root.at("/proc/1/comm")).unwrap_or_default();
    if init.trim_end() != "s6-svscan" {
        return none(format!(
            "no s6-svscan watches {place}, and PID 1 is {}",
            init.trim_end()
        ));
    }
    if !settings.root.at("/run/s6/basedir").is_dir() {
        return none(format!(
            "no s6-svscan watches {place}, and there is no /run/s6/basedir"
        ));
    }
    if scandir.dir().dir(".s6-svscan").is_ok() {
        // We may look, and nobody holds its lock.
        return none(format!("no s6-svscan watches {place}"));
    }
    s6(format!(
        "PID 1 is s6-svscan, and {place} has gateways of hermes-s6"
    ))
}
