//! Whether s6 supervises the gateways here, and how we know.

use serde::Serialize;

use crate::scandir::ScanDir;
use crate::settings::Settings;
use crate::supervision::Holder;

/// The answer, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detection {
    /// `s6` or `none`.
    pub manager: &'static str,
    /// Why, for a person.
    pub reason: String,
}

impl Detection {
    /// Makes the answer that nobody supervises.
    pub fn none(reason: String) -> Self {
        Self {
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
        manager: "s6",
        reason,
    };
    let none = Detection::none;
    let Ok(scandir) = ScanDir::open(settings) else {
        return none(format!("there is no scan directory {place}"));
    };
    let owner = scandir.owner();
    match scandir.watcher() {
        _ if owner.is_none() => {
            return none(format!(
                "{place} has no gateways of hermes-s6: it was never reconciled"
            ));
        }
        Some(Holder::Process(pid)) => return s6(format!("s6-svscan (pid {pid}) watches {place}")),
        Some(Holder::Elsewhere) => {
            return none(format!(
                "{place} is watched by an s6-svscan of another container"
            ));
        }
        None => {}
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
