//! What root has the user of the gateways do on the volume: commands that answer with JSON.

use std::io::Read;

use crate::cli::Common;
use crate::error::{Code, Error, Result};
use crate::hermes::name::ProfileName;
use crate::report;
use crate::settings::Settings;
use crate::view::doctor;
use crate::volume::changes::VolumeChanges;
use crate::volume::survey::survey;
use crate::volume::write::settle;

/// Answers what is on the volume.
pub fn answer_survey(common: &Common, profiles: &[ProfileName]) -> Result<Code> {
    report::json(&survey(&Settings::gather(common)?, profiles)?);
    Ok(Code::Done)
}

/// Answers what is wrong on the volume.
pub fn answer_examine(common: &Common) -> Result<Code> {
    let settings = Settings::gather(common)?;
    report::json(&doctor::volume::examine(
        &settings,
        &survey(&settings, &[])?,
    ));
    Ok(Code::Done)
}

/// Makes the changes of the volume that stand on stdin, and answers what could not be done.
pub fn answer_settle(common: &Common) -> Result<Code> {
    let settings = Settings::gather(common)?;
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
