//! The answer to `detect`: whether s6 supervises the gateways here, and why we think so.

use serde::Serialize;

use crate::error::Result;
use crate::settings::Settings;
use crate::system::process::Holder;
use crate::tree::scandir::ScanDir;

/// The answer, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detection {
    /// The version of this schema, and of the schema of the status, which has these fields too.
    pub version: u32,
    /// `s6` or `none`.
    pub manager: &'static str,
    /// The reason, for a person.
    pub reason: String,
}

impl Detection {
    /// Makes the answer that no s6 supervises the gateways.
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

/// Finds out whether s6 supervises the gateways of the settings' data root.
///
/// It does if the scan directory has the gateways of this data root, and a live s6-svscan watches it. A caller
/// who may not look for the s6-svscan gets a yes if a slot has a supervisor; or if PID 1 is s6-svscan and
/// `/run/s6/basedir` exists. The owner file is needed in any case: other images have s6 too, but no slots of
/// ours.
///
/// It is an error if it cannot be told.
pub fn detect(settings: &Settings) -> Result<Detection> {
    let place = settings.scandir.display();
    let s6 = |reason| {
        Ok(Detection {
            version: 1,
            manager: "s6",
            reason,
        })
    };
    let none = |reason| Ok(Detection::none(reason));
    let Some(scandir) = ScanDir::open_if_there(settings)? else {
        return none(format!("there is no scan directory {place}"));
    };
    let Some(owner) = scandir.owner()? else {
        return none(format!(
            "{place} has no gateways of hermes-s6: it was never reconciled"
        ));
    };
    if !owner.serves(settings)? {
        let (theirs, ours) = (owner.home.display(), settings.home.display());
        return none(format!(
            "{place} has the gateways of {theirs}, not of {ours}"
        ));
    }
    let closed = match scandir.watcher() {
        Ok(Some(Holder::Process(pid))) => {
            return s6(format!("s6-svscan (pid {pid}) watches {place}"));
        }
        Ok(Some(Holder::Elsewhere)) => {
            return none(format!(
                "{place} is watched by an s6-svscan of another container"
            ));
        }
        Ok(None) => None,
        Err(error) if error.is_forbidden() => Some(error),
        Err(error) => return Err(error),
    };
    // We may not look into it; but the supervisor of a slot proves that there is an s6-svscan.
    if closed.is_some() {
        match scandir.has_supervisor() {
            Ok(true) => return s6(format!("gateways in {place} are supervised")),
            Err(error) if !error.is_forbidden() => return Err(error),
            _ => {}
        }
    }
    let is_closed = closed.is_some();
    let unwatched = |why: String| {
        match closed {
        // Nobody holds the lock there.
        None => none(format!("no s6-svscan watches {place}{why}")),
        Some(error) => Err(error.remedy(
            "only root and the user of the gateways can see whether s6 supervises them: ask as one of these",
        )),
    }
    };
    let init = std::fs::read_to_string(settings.root.at("/proc/1/comm")).unwrap_or_default();
    if init.trim_end() != "s6-svscan" {
        return unwatched(format!(", and PID 1 is {}", init.trim_end()));
    }
    if !settings.root.at("/run/s6/basedir").is_dir() {
        return unwatched(", and there is no /run/s6/basedir".to_owned());
    }
    if !is_closed {
        return unwatched(String::new());
    }
    s6(format!(
        "PID 1 is s6-svscan, and {place} has gateways of hermes-s6"
    ))
}
