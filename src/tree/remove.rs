//! Removing slots, and ending supervisors that no s6-svscan ends.
//!
//! Each gateway gets one SIGTERM and its time to save. s6-svscan gives up a whole scan if a directory disappears
//! during the scan. Therefore a slot is renamed first, and its directory is removed after its processes have
//! ended.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::error::{Code, Error, Result};
use crate::hermes::name::{ProfileName, SLOT_PREFIX};
use crate::s6::supervision::{supervised, supervisor};
use crate::s6::tool::Tools;
use crate::system::beneath::Dir;
use crate::system::process::{Holder, Process};
use crate::system::root::Root;
use crate::system::wait::wait_until;
use crate::tree::dashboard::DASHBOARD;
use crate::tree::logger::has_unread;
use crate::tree::scandir::{OLD_PREFIX, ScanDir};

/// How long a supervisor may take to end after its gateway: `finish` has 5 s of it.
const SUPERVISOR_TIME: Duration = Duration::from_secs(7);

/// The longest wait for a gateway to end, whatever its slot says: a day, the maximum of HERMES_S6_STOP_TIMEOUT.
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// How long a logger may take to end after its gateway, and how long after it was told to.
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
        let mut services = self.scandir.dir().names()?;
        services.retain(|name| {
            let name = name.as_encoded_bytes();
            !name.starts_with(b".") || name.starts_with(OLD_PREFIX.as_bytes())
        });
        self.end_supervisors(&services)
    }

    /// Ends the supervisors of these service directories and of their loggers, with all that they supervise.
    fn end_supervisors(&self, services: &[OsString]) -> Result<()> {
        let mut orphans = Vec::new();
        for service in services {
            if self.is_supervised(service)? {
                orphans.push(service.as_os_str());
            }
        }
        if orphans.is_empty() {
            return Ok(());
        }
        for service in &orphans {
            self.tell(&self.scandir.at(service), "-dx");
        }
        // A supervisor that cannot be looked at counts as running: so it gets its whole time.
        let is_running = |service: &&OsStr| !matches!(self.find(service, supervisor), Ok(None));
        let limit = self.stop_time(orphans.iter().copied());
        if !wait_until(limit, "gateways to end", || !orphans.iter().any(is_running)) {
            // The gateways first: without their supervisors, nobody would end them.
            for service in orphans.iter().filter(|service| is_running(service)) {
                self.kill(|| self.find(service, |service| Ok(process(self.root, service))))?;
            }
            if !wait_until(SUPERVISOR_TIME, "supervisors to end", || {
                !orphans.iter().any(is_running)
            }) {
                for service in orphans.iter().filter(|service| is_running(service)) {
                    self.kill(|| self.find(service, supervisor))?;
                }
            }
        }
        self.end_loggers(&orphans)
    }

    /// Waits until the gateways of a tree that ends have ended, and then ends the loggers that do not end by
    /// themselves. Looks once in every `pause`.
    pub fn end_loggers_of_ended(&self, pause: Duration) -> Result<()> {
        let mut services = self.scandir.dir().names()?;
        services.retain(|name| {
            let has_log = |name: &str| name.starts_with(SLOT_PREFIX) || name == DASHBOARD;
            name.to_str().is_some_and(has_log)
        });
        let is_over = |service: &OsString| matches!(self.find(service, supervisor), Ok(None));
        let end = Instant::now() + self.stop_time(services.iter().map(OsString::as_os_str));
        while !services.iter().all(is_over) && Instant::now() < end {
            thread::sleep(pause);
        }
        let ended = services.iter().filter(|service| is_over(service));
        let ended: Vec<&OsStr> = ended.map(OsString::as_os_str).collect();
        self.end_loggers(&ended)
    }

    /// Ends the loggers of services that have ended.
    ///
    /// A logger ends by itself when its pipe has no writer any more. A child of a gateway may keep the pipe open
    /// for as long as it likes: then the logger ends when what is in the pipe is written.
    fn end_loggers(&self, services: &[&OsStr]) -> Result<()> {
        let log = |service: &OsStr| Path::new(service).join("log");
        let is_left = |service: &&OsStr| self.is_supervised(service).unwrap_or(true);
        let is_over =
            |limit: Duration| wait_until(limit, "loggers to end", || !services.iter().any(is_left));
        // -x lets the supervisor of the logger end with it.
        for service in services {
            self.tell(&self.scandir.at(log(service)), "-x");
        }
        if is_over(LOGGER_TIME) {
            return Ok(());
        }
        wait_until(LOGGER_TIME, "loggers to read what is left", || {
            let find_process = |service: &Dir| Ok(process(self.root, service));
            let unread = |service: &&OsStr| match self.find(log(service), find_process) {
                Ok(Some(Holder::Process(pid))) => has_unread(self.root, pid),
                _ => false,
            };
            !services.iter().any(unread)
        });
        for service in services.iter().filter(|service| is_left(service)) {
            self.tell(&self.scandir.at(log(service)), "-dx");
        }
        // A logger that cannot write does not end by that.
        for is_supervisor in [false, true] {
            if is_over(LOGGER_TIME) {
                return Ok(());
            }
            let find = |service: &Dir| {
                if is_supervisor {
                    supervisor(service)
                } else {
                    Ok(process(self.root, service))
                }
            };
            for service in services.iter().filter(|service| is_left(service)) {
                self.kill(|| self.find(log(service), find))?;
            }
        }
        if is_over(LOGGER_TIME) {
            return Ok(());
        }
        let stuck = services.iter().find(|service| is_left(service));
        let path = self.scandir.at(stuck.copied().unwrap_or_default());
        Err(Error::new(
            Code::TimedOut,
            format!("the supervisor of {} does not end", path.display()),
        ))
    }

    /// Tells a supervisor something by `s6-svc`. A supervisor that is gone is no error.
    fn tell(&self, service: &Path, letters: &str) {
        let _gone = self.tools.run(self.root, "s6-svc", &[letters], service);
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
        let mut removals: Vec<(Option<ProfileName>, OsString)> = Vec::new();
        for leftover in self.scandir.leftovers().unwrap_or_default() {
            if leftover.starts_with(OLD_PREFIX) {
                removals.push((None, leftover.into()));
            } else {
                let _next_time = fs::remove_dir_all(self.scandir.at(leftover));
            }
        }
        for name in names {
            let old = format!("{OLD_PREFIX}{}", name.slot());
            match fs::rename(self.scandir.at(name.slot()), self.scandir.at(&old)) {
                Ok(()) => removals.push((Some(name.clone()), old.into())),
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
        let services: Vec<OsString> = removals.iter().map(|(_, old)| old.clone()).collect();
        // Whether there is an s6-svscan or not: without one, this does nothing.
        if !matches!(self.scandir.watcher(), Ok(None)) {
            let place = self.scandir.dir().path();
            let _waited_for_below = self.tools.run(self.root, "s6-svscanctl", &["-an"], place);
            let limit = self.stop_time(services.iter().map(OsString::as_os_str));
            wait_until(limit, "removed gateways to end", || {
                let is_gone =
                    |service: &OsString| matches!(self.find(service, supervisor), Ok(None));
                services.iter().all(is_gone)
            });
        }
        let ended = self.end_supervisors(&services);
        for (name, old) in removals {
            let path = self.scandir.at(&old);
            let result = match &ended {
                Err(error) if self.is_supervised(&old).unwrap_or(true) => {
                    Err(Error::new(error.code(), error.to_string()))
                }
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
    fn kill(&self, find: impl Fn() -> Result<Option<Holder>>) -> Result<()> {
        let found = find()?;
        let Some(Holder::Process(pid)) = found else {
            return Ok(());
        };
        match Process::identify(self.root, pid, || Ok(find()? == found))? {
            Some(process) => process.signal(Signal::KILL),
            None => Ok(()),
        }
    }

    /// Finds something of a service directory; `None` if the directory is gone.
    fn find<T>(
        &self,
        service: impl AsRef<Path>,
        find: impl Fn(&Dir) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let service = service.as_ref();
        let mut place = Some(self.scandir.dir().dir(".")?);
        for name in service {
            place = match &place {
                Some(place) => place.dir_if_there(name)?,
                None => None,
            };
        }
        place.as_ref().map_or(Ok(None), find)
    }

    /// Tells whether a service directory or its logger has a supervisor.
    fn is_supervised(&self, service: &OsStr) -> Result<bool> {
        Ok(self.find(service, supervisor)?.is_some()
            || self
                .find(Path::new(service).join("log"), supervisor)?
                .is_some())
    }

    /// Gives how long services and their supervisors may take to end.
    fn stop_time<'s>(&self, services: impl Iterator<Item = &'s OsStr>) -> Duration {
        let own = |service| {
            self.find(service, |service| Ok(own_stop_timeout(service)))
                .ok()?
        };
        let longest = services.filter_map(own).max();
        longest.unwrap_or_default().max(self.stop_timeout) + SUPERVISOR_TIME
    }
}

/// Reads from a service directory how long the process may take to end, at most a day.
pub fn own_stop_timeout(service: &Dir) -> Option<Duration> {
    let content = service.read("timeout-kill", 32).ok()?;
    let milliseconds = String::from_utf8_lossy(&content).trim().parse().ok()?;
    Some(Duration::from_millis(milliseconds).min(STOP_TIMEOUT_MAX))
}

/// Finds the process of a service. A status that is out of date names no process of it.
fn process(root: &Root, service: &Dir) -> Option<Holder> {
    let (status, _supervisor) = supervised(root, service).ok()??;
    let pid = i32::try_from(status.pid?).ok()?;
    Some(Holder::Process(pid))
}
