//! The dashboard: a service of the tree that runs the dashboard of Hermes, for all profiles.

use std::path::PathBuf;
use std::time::Duration;

use askama::Template;

use crate::error::Result;
use crate::hermes::dashboard::Dashboard;
use crate::s6::word::Word;
use crate::settings::Settings;
use crate::tree::slot::{Files, Renderer, Service, add};

/// The name of the service in a scan directory.
pub const DASHBOARD: &str = "hermes-s6-dashboard";

/// What the dashboard is called where profiles have their names, and the name of its log directory in `logs/`.
pub const LABEL: &str = "dashboard";

/// The number of deaths that make a crash loop: what keeps a dashboard from its start does not go away by itself.
pub const DEATHS: usize = 3;

/// How long the dashboard has to end: it has nothing to save, and waits for browsers that are connected.
pub const STOP_TIME: Duration = Duration::from_secs(5);

/// Gives the directory of its log, as a logical path.
pub fn log(settings: &Settings) -> PathBuf {
    settings.home.join("logs").join(LABEL)
}

impl Renderer<'_> {
    /// Renders the service.
    pub fn dashboard(&self, dashboard: &Dashboard) -> Result<Files> {
        let mut files = self.common(&Service {
            name: DASHBOARD,
            label: LABEL,
            log: log(self.settings),
            deaths: DEATHS,
            stop: STOP_TIME,
        })?;
        let execline = Word::new(&self.tools.execline);
        let s6 = Word::new(&self.tools.s6);
        let hermes_s6 = Word::new(&self.tools.hermes_s6);
        let drop_to = self.drop_to.map(Word::new);
        let environment = self.settings.container_environment.as_ref();
        let environment = environment.map(Word::new);
        let run = Run {
            execline: &execline,
            s6: &s6,
            hermes_s6: &hermes_s6,
            hermes: Word::new(&self.tools.hermes),
            container_environment: environment.as_ref(),
            data_root: Word::new(&self.settings.home),
            milliseconds: STOP_TIME.as_millis(),
            place: Word::new(self.settings.scandir.join(DASHBOARD).join("data")),
            host: Word::new(&dashboard.host),
            port: dashboard.port,
            drop_to: drop_to.as_ref(),
        };
        add(&mut files, "run", 0o755, run.render())?;
        let check = Check {
            execline: &execline,
            s6: &s6,
            hermes_s6: &hermes_s6,
            drop_to: drop_to.as_ref(),
        };
        add(&mut files, "data/check", 0o755, check.render())?;
        Ok(files)
    }
}

#[derive(Template)]
#[template(path = "dashboard/run.execline")]
struct Run<'a> {
    execline: &'a Word,
    s6: &'a Word,
    hermes_s6: &'a Word,
    hermes: Word,
    container_environment: Option<&'a Word>,
    data_root: Word,
    milliseconds: u128,
    /// Where its lock is.
    place: Word,
    host: Word,
    port: u16,
    drop_to: Option<&'a Word>,
}

#[derive(Template)]
#[template(path = "dashboard/data/check.execline")]
struct Check<'a> {
    execline: &'a Word,
    s6: &'a Word,
    hermes_s6: &'a Word,
    drop_to: Option<&'a Word>,
}
