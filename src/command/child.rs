//! Commands that root runs as the owner of the volume, see [`rights`](crate::rights); they answer with JSON.

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

/// Answers with the survey of the volume.
pub fn answer_survey(common: &Common, profiles: &[ProfileName]) -> Result<Code> {
    report::json(&survey(&Settings::gather(common)?, profiles)?);
    Ok(Code::Done)
}

/// Answers with what the doctor finds on the volume.
pub fn answer_examine(common: &Common) -> Result<Code> {
    let settings = Settings::gather(common)?;
    report::json(&doctor::volume::examine(
        &settings,
        &survey(&settings, &[])?,
    ));
    Ok(Code::Done)
}

/// Reads changes of the volume from stdin, writes them, and answers with what has come of it.
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
