//! Commands that this program runs as a child of itself, see [`ask`](crate::rights::ask); they answer with JSON.

use std::io::Read;
use std::time::Duration;

use rustix::fs::statvfs;

use crate::cli::Common;
use crate::error::{Code, Error, Result};
use crate::hermes::name::ProfileName;
use crate::report;
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::system::process::end_with_parent;
use crate::system::pulse;
use crate::view::logs::Whose;
use crate::view::{doctor, logs};
use crate::volume::changes::VolumeChanges;
use crate::volume::lock::end_orphan_of;
use crate::volume::survey::{names, survey};
use crate::volume::write::{home_of, settle};

/// Gathers the settings, and shows the parent that the volume answers, as it does from now on.
fn begin(common: &Common) -> Result<Settings> {
    let settings = Settings::gather(common)?;
    // What a caller of statfs is told does not come from a cache. An error is an answer too.
    let _answered = statvfs(settings.root.at(&settings.home));
    pulse::begin();
    pulse::beat();
    Ok(settings)
}

/// Answers that the volume answers.
pub fn answer_reach(common: &Common) -> Result<Code> {
    begin(common)?;
    report::json(&());
    Ok(Code::Done)
}

/// Shows what gateways have said, for as long as the parent waits.
pub fn read_logs(
    common: &Common,
    whose: Whose,
    profiles: Vec<ProfileName>,
    lines: usize,
    follow: bool,
) -> Result<Code> {
    end_with_parent();
    logs::show(&Settings::gather(common)?, whose, profiles, lines, follow)
}

/// Answers with the survey of the volume.
pub fn answer_survey(common: &Common, profiles: &[ProfileName]) -> Result<Code> {
    report::json(&survey(&begin(common)?, profiles)?);
    Ok(Code::Done)
}

/// Answers with the names of the profiles.
pub fn answer_names(common: &Common) -> Result<Code> {
    report::json(&names(&begin(common)?)?);
    Ok(Code::Done)
}

/// Ends the gateway of a profile that a killed s6-supervise has left, and answers as [`end_orphan_of`] does.
pub fn answer_end_orphan(
    common: &Common,
    profile: &ProfileName,
    milliseconds: u64,
) -> Result<Code> {
    let settings = begin(common)?;
    let home = Dir::open(&settings.root.at(&settings.home))?;
    let home = home_of(&home, profile)?;
    let limit = Duration::from_millis(milliseconds);
    report::json(&end_orphan_of(&settings.root, &home, limit)?);
    Ok(Code::Done)
}

/// Answers with what the doctor finds on the volume.
pub fn answer_examine(common: &Common) -> Result<Code> {
    let settings = begin(common)?;
    report::json(&doctor::volume::examine(
        &settings,
        &survey(&settings, &[])?,
    ));
    Ok(Code::Done)
}

/// Reads changes of the volume from stdin, writes them, and answers with what has come of it.
pub fn answer_settle(common: &Common) -> Result<Code> {
    let settings = begin(common)?;
    let mut request = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut request)
        .map_err(|cause| Error::system("read", "stdin", cause))?;
    let changes: VolumeChanges = serde_json::from_slice(&request).map_err(|error| {
        Error::new(
            Code::Usage,
            format!("unable to understand the changes: {error}"),
        )
    })?;
    report::json(&settle(&settings, &changes));
    Ok(Code::Done)
}
