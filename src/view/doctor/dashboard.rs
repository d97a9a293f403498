//! The check of the dashboard.

use crate::hermes::container::Command;
use crate::hermes::dashboard::{HIDDEN_REMEDY, left_out};
use crate::rights::Rights;
use crate::settings::Settings;
use crate::tree::scandir::ScanDir;
use crate::view::dashboard::look;
use crate::view::doctor::finding::{Findings, Level};

/// Checks that the dashboard runs where one is asked for, or says why there is none.
pub fn examine(settings: &Settings, rights: &Rights, scandir: &ScanDir, found: &mut Findings) {
    found.check = "dashboard";
    let with_log = !matches!(rights, Rights::Direct(_));
    match look(settings, scandir, true, with_log) {
        Ok(Some(seen)) => {
            let notes = [seen.note.clone(), seen.log_note()];
            for note in notes.iter().flatten() {
                found.sentence(Level::Problem, note);
            }
            if let Some(note) = settings.dashboard_note {
                found.add(Level::Warning, note.to_owned(), HIDDEN_REMEDY);
            }
            let url = seen.url.unwrap_or_default();
            found.conclude(format!("the dashboard is {}: {url}", seen.state.words()));
        }
        Ok(None) if settings.dashboard.is_some() => {
            let command = Command::detect(&settings.root);
            match left_out(&command, settings.no_supervise) {
                Some(why) => {
                    let text = format!("HERMES_DASHBOARD is left out, since {why}");
                    found.add(Level::Ok, text, "");
                }
                None => found.add(
                    Level::Warning,
                    "HERMES_DASHBOARD is set, and the tree was started without".to_owned(),
                    "start the tree anew",
                ),
            }
        }
        Ok(None) => {}
        Err(error) => found.error(Level::Unknown, &error),
    }
}
