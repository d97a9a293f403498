//! Removing slots, and ending supervisors that no s6-svscan ends.
//!
//! Each gateway gets one SIGTERM and its time to save. s6-svscan gives up a whole scan if a directory disappears
//! during the scan. Therefore a slot is renamed first, and its directory is removed after its processes have
//! ended.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::Signal;

use crate::error::{Code, Error, Result};
use crate::hermes::name::ProfileName;
use crate::s6::supervision::{Status, supervisor};
use crate::s6::tool::Tools;
use crate::system::beneath::Dir;
use crate::system::process::{Holder, Process};
use crate::system::root::Root;
use crate::system::wait::wait_until;
use crate::tree::scandir::{OLD_PREFIX, ScanDir};

/// How long a supervisor may take to end after its gateway: `finish` has 5 s of it.
const SUPERVISOR_TIME: Duration = Duration::from_secs(7);

/// The longest wait for a gateway to end, whatever its slot says: a day, the maximum of HERMES_S6_STOP_TIMEOUT.
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// How long a logger may take to write the lines that it has read.
const LOGGER_TIME: Duration = Duration::from_secs(2);

/// The profiles whose change failed, each with the error.
pub type Failures = BTreeMap<ProfileName, Error>;

/// Removes slots and ends supervisors in one scan directory.
#[derive(Debug, Clone, Copy)]
pub struct Remover<'a> {
    /// The directory that stands for "/".
    pub root: &'a Root,
    /// The programs of the tree.
    pub tools: &'a Tools,
    /// How long a gateway may take to stop, unless its slot allows more.
    pub stop_timeout: Duration,
    /// The scan directory, whose lock the caller holds.
    pub scandir: &'a ScanDir,
}

impl Remover<'_> {
    /// Ends every supervisor that outlived its s6-svscan, so that a new s6-svscan can start its own supervisors.
    ///
    /// Each gateway gets one SIGTERM and its time to save. If a supervisor does not end, its gateway is killed,
    /// and then the supervisor. A gateway that survives even this is found later by the lock of its home, and
    /// ended before the next one starts.
    pub fn take_over(&self) -> Result<()> {
        let names = self
            .scandir
            .dir()
            .names()?
            .into_iter()
            .filter_map(|name| name.into_string().ok());
        let service = |name: &String| !name.starts_with('.') || name.starts_with(OLD_PREFIX);
        let services: Vec<Dir> = names
            .filter(service)
            .filter_map(|name| self.scandir.dir().dir(name).ok())
            .collect();
        self.end_supervisors(&services)
    }

    /// Ends the supervisors of these service directories and of their loggers, with all that they supervise.
    fn end_supervisors(&self, services: &[Dir]) -> Result<()> {
        let orphans: Vec<&Dir> = services
            .iter()
            .filter(|service| is_supervised(service))
            .collect();
        if orphans.is_empty() {
            return Ok(());
        }
        for service in &orphans {
            self.tell(service, "-dx");
        }
        let is_running = |service: &&Dir| supervisor(service).is_some();
        let longest = orphans
            .iter()
            .filter_map(|service| own_stop_timeout(service))
            .max();
        let limit = longest.unwrap_or_default().max(self.stop_timeout) + SUPERVISOR_TIME;
        if !wait_until(limit, "gateways to end", || !orphans.iter().any(is_running)) {
            // The gateways first: without their supervisors, nobody would end them.
            for service in orphans.iter().filter(|service| is_running(service)) {
                self.kill(|| gateway(service))?;
            }
            if !wait_until(SUPERVISOR_TIME, "supervisors to end", || {
                !orphans.iter().any(is_running)
            }) {
                for service in orphans.iter().filter(|service| is_running(service)) {
                    self.kill(|| supervisor(service))?;
                }
            }
        }
        // A logger ends by itself when its pipe has no writer any more. -x lets its supervisor end then too.
        let any_is_left = || orphans.iter().any(|service| is_supervised(service));
        for letters in ["-x", "-dx"] {
            for logger in orphans.iter().filter_map(|service| service.dir("log").ok()) {
                self.tell(&logger, letters);
            }
            if wait_until(LOGGER_TIME, "loggers to end", || !any_is_left()) {
                return Ok(());
            }
        }
        for logger in orphans.iter().filter_map(|service| service.dir("log").ok()) {
            self.kill(|| supervisor(&logger))?;
        }
        if wait_until(LOGGER_TIME, "supervisors to end", || !any_is_left()) {
            Ok(())
        } else {
            let stuck = orphans.iter().find(|service| is_supervised(service));
            let path = stuck.map_or_else(|| self.scandir.dir().path(), |service| service.path());
            Err(Error::new(
                Code::TimedOut,
                format!("the supervisor of {} does not end", path.display()),
            ))
        }
    }

    /// Tells a supervisor something by `s6-svc`. A supervisor that is gone is no error.
    fn tell(&self, service: &Dir, letters: &str) {
        let _gone = self
            .tools
            .run(self.root, "s6-svc", &[letters], service.path());
    }

    /// Removes slots, and the half-built and half-removed slots that killed runs have left.
    ///
    /// The gateways end first. `failures` gets the slots that could not be removed.
    pub fn remove<'n>(
        &self,
        names: impl Iterator<Item = &'n ProfileName>,
        failures: &mut Failures,
    ) {
        // The directories to remove, each with the profile if its slot was there.
        let mut removals: Vec<(Option<ProfileName>, String)> = Vec::new();
        for leftover in self.scandir.leftovers().unwrap_or_default() {
            if leftover.starts_with(OLD_PREFIX) {
                removals.push((None, leftover));
            } else {
                let _next_time = fs::remove_dir_all(self.scandir.at(leftover));
            }
        }
        for name in names {
            let old = format!("{OLD_PREFIX}{}", name.slot());
            match fs::rename(self.scandir.at(name.slot()), self.scandir.at(&old)) {
                Ok(()) => removals.push((Some(name.clone()), old)),
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => {
                    failures.insert(
                        name.clone(),
                        Error::system("rename", self.scandir.at(name.slot()), cause),
                    );
                }
            }
        }
        if removals.is_empty() {
            return;
        }
        let services: Vec<Dir> = removals
            .iter()
            .filter_map(|(_, old)| self.scandir.dir().dir(old).ok())
            .collect();
        if self.scandir.watcher().is_some() {
            let _waited_for_below = self.tools.run(
                self.root,
                "s6-svscanctl",
                &["-an"],
                self.scandir.dir().path(),
            );
            let longest = services.iter().filter_map(own_stop_timeout).max();
            let limit = longest.unwrap_or_default().max(self.stop_timeout) + SUPERVISOR_TIME;
            wait_until(limit, "removed gateways to end", || {
                !services.iter().any(is_supervised)
            });
        }
        let ended = self.end_supervisors(&services);
        for (name, old) in removals {
            let path = self.scandir.at(&old);
            let stuck = self
                .scandir
                .dir()
                .dir(&old)
                .is_ok_and(|service| is_supervised(&service));
            let result = match &ended {
                Err(error) if stuck => Err(Error::new(error.code(), error.to_string())),
                _ => {
                    fs::remove_dir_all(&path).map_err(|cause| Error::system("remove", &path, cause))
                }
            };
            if let (Some(name), Err(error)) = (name, result) {
                failures.insert(name, error);
            }
        }
    }

    /// Kills the process that `find` finds, which did not end when it was told to.
    fn kill(&self, find: impl Fn() -> Option<Holder>) -> Result<()> {
        let found = find();
        let Some(Holder::Process(pid)) = found else {
            return Ok(());
        };
        match Process::identify(self.root, pid, || find() == found)? {
            Some(process) => process.signal(Signal::KILL),
            None => Ok(()),
        }
    }
}

/// Tells whether a service directory or its logger has a supervisor.
fn is_supervised(service: &Dir) -> bool {
    supervisor(service).is_some()
        || service
            .dir("log")
            .is_ok_and(|log| supervisor(&log).is_some())
}

/// Reads from a service directory how long the process may take to end, at most a day.
pub fn own_stop_timeout(service: &Dir) -> Option<Duration> {
    let content = service.read("timeout-kill", 32).ok()?;
    let milliseconds = String::from_utf8_lossy(&content).trim().parse().ok()?;
    Some(Duration::from_millis(milliseconds).min(STOP_TIMEOUT_MAX))
}

/// Finds the gateway's process of a slot.
fn gateway(service: &Dir) -> Option<Holder> {
    let pid = Status::read(service)?.pid?;
    i32::try_from(pid).ok().map(Holder::Process)
}
