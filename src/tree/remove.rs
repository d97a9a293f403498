//! Removing slots, and ending supervisors that nobody else ends.
//!
//! Each gateway gets one SIGTERM and its time to save. s6-svscan gives up a whole scan when a directory vanishes
//! under it, so a slot is renamed first and its processes are waited for before its directory goes.

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

/// How long a supervisor may take beyond the gateway's own time: `finish` has 5 s.
const SUPERVISOR_TIME: Duration = Duration::from_secs(7);

/// The longest time that is waited for a gateway to end, whatever its slot says: a day, as for
/// HERMES_S6_STOP_TIMEOUT.
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// How long a logger may take to write what it has read.
const LOGGER_TIME: Duration = Duration::from_secs(2);

/// What could not be done, by the profile's name.
pub type Failures = BTreeMap<ProfileName, Error>;

/// What removals work with.
#[derive(Debug, Clone, Copy)]
pub struct Remover<'a> {
    /// What stands for "/".
    pub root: &'a Root,
    /// The programs.
    pub tools: &'a Tools,
    /// How long a gateway may take to stop, unless its slot gives it longer.
    pub stop_timeout: Duration,
    /// The scan directory, locked.
    pub scandir: &'a ScanDir,
}

impl Remover<'_> {
    /// Ends every supervisor that outlived its s6-svscan, so that a new one can start its own.
    ///
    /// Each gateway gets one SIGTERM and its time to save. A supervisor that does not end is killed;
    /// its gateway is then found by the lock of its home and ended before the next one starts.
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

    fn end_supervisors(&self, services: &[Dir]) -> Result<()> {
        let orphans: Vec<&Dir> = services
            .iter()
            .filter(|service| is_supervised(service))
            .collect();
        if orphans.is_empty() {
            return Ok(());
        }
        for service in &orphans {
            self.let_go(service, "-dx");
        }
        let main = |service: &&Dir| supervisor(service).is_some();
        let own = orphans
            .iter()
            .filter_map(|service| own_stop_timeout(service))
            .max();
        let limit = own.unwrap_or_default().max(self.stop_timeout) + SUPERVISOR_TIME;
        if !wait_until(limit, "gateways to end", || !orphans.iter().any(main)) {
            // First what they supervise, which without them nobody would end.
            for service in orphans.iter().filter(|service| main(service)) {
                self.kill(|| gateway(service))?;
            }
            if !wait_until(SUPERVISOR_TIME, "supervisors to end", || {
                !orphans.iter().any(main)
            }) {
                for service in orphans.iter().filter(|service| main(service)) {
                    self.kill(|| supervisor(service))?;
                }
            }
        }
        // A logger ends by itself when nobody can write to it any more; then so must its supervisor.
        let supervised = || orphans.iter().any(|service| is_supervised(service));
        for letters in ["-x", "-dx"] {
            for logger in orphans.iter().filter_map(|service| service.dir("log").ok()) {
                self.let_go(&logger, letters);
            }
            if wait_until(LOGGER_TIME, "loggers to end", || !supervised()) {
                return Ok(());
            }
        }
        for logger in orphans.iter().filter_map(|service| service.dir("log").ok()) {
            self.kill(|| supervisor(&logger))?;
        }
        if wait_until(LOGGER_TIME, "supervisors to end", || !supervised()) {
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

    /// Asks a supervisor to end with its service. One that is gone needs no asking.
    fn let_go(&self, service: &Dir, letters: &str) {
        let _gone = self
            .tools
            .run(self.root, "s6-svc", &[letters], service.path());
    }

    /// Removes slots, whose gateways end first, and what killed runs have left of others.
    pub fn remove<'n>(
        &self,
        names: impl Iterator<Item = &'n ProfileName>,
        failures: &mut Failures,
    ) {
        let mut going: Vec<(Option<ProfileName>, String)> = Vec::new();
        for leftover in self.scandir.leftovers().unwrap_or_default() {
            if leftover.starts_with(OLD_PREFIX) {
                going.push((None, leftover));
            } else {
                let _next_time = fs::remove_dir_all(self.scandir.at(leftover));
            }
        }
        for name in names {
            let old = format!("{OLD_PREFIX}{}", name.slot());
            match fs::rename(self.scandir.at(name.slot()), self.scandir.at(&old)) {
                Ok(()) => going.push((Some(name.clone()), old)),
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => {
                    failures.insert(
                        name.clone(),
                        Error::system("rename", self.scandir.at(name.slot()), cause),
                    );
                }
            }
        }
        if going.is_empty() {
            return;
        }
        let open: Vec<Dir> = going
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
            let own = open.iter().filter_map(own_stop_timeout).max();
            let limit = own.unwrap_or_default().max(self.stop_timeout) + SUPERVISOR_TIME;
            wait_until(limit, "removed gateways to end", || {
                !open.iter().any(is_supervised)
            });
        }
        let ended = self.end_supervisors(&open);
        for (name, old) in going {
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

    /// Kills a process that did not end when it was asked to: the one that `find` names.
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

fn is_supervised(service: &Dir) -> bool {
    supervisor(service).is_some()
        || service
            .dir("log")
            .is_ok_and(|log| supervisor(&log).is_some())
}

/// Reads how long the service itself gives its process to end.
pub fn own_stop_timeout(service: &Dir) -> Option<Duration> {
    let content = service.read("timeout-kill", 32).ok()?;
    let milliseconds = String::from_utf8_lossy(&content).trim().parse().ok()?;
    Some(Duration::from_millis(milliseconds).min(STOP_TIMEOUT_MAX))
}

/// Finds the process of a service.
fn gateway(service: &Dir) -> Option<Holder> {
    let pid = Status::read(service)?.pid?;
    i32::try_from(pid).ok().map(Holder::Process)
}
