//! Carrying out a plan: with [`volume`], the only place that changes a file system.
//!
//! Removals come first and are waited for, then slots change in place, then new ones are published
//! together: s6-svscan gives up a whole scan when a directory vanishes under it. Every file and
//! every slot appears by a rename, so a run that is killed leaves nothing half made, only names with
//! a leading dot that the next run sweeps away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{Code, Error, Result};
use crate::hermes::name::ProfileName;
use crate::rights::Rights;
use crate::s6::supervision::{Holder, Status, supervised, supervisor};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::system::wait::wait_until;
use crate::tree::plan::{Change, Plan, Step};
use crate::tree::scandir::{NEW_PREFIX, OLD_PREFIX, OWNER_FILE, Owner, ScanDir};
use crate::tree::slot::{File, Files, down};

/// How long a supervisor may take beyond the gateway's own time: `finish` has 5 s.
const SUPERVISOR_TIME: Duration = Duration::from_secs(7);

/// The longest time that is waited for a gateway to end, whatever its slot says: a day, as for
/// HERMES_S6_STOP_TIMEOUT.
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// How long a logger may take to write what it has read.
const LOGGER_TIME: Duration = Duration::from_secs(2);

/// How long s6-svscan may go without taking up another new slot.
const SCAN_PATIENCE: Duration = Duration::from_secs(2);

/// How long s6-svscan may take for all new slots.
const SCAN_LIMIT: Duration = Duration::from_secs(60);

/// What all steps work with.
#[derive(Debug)]
pub struct Apply<'a> {
    /// What was asked for.
    pub settings: &'a Settings,
    /// The programs.
    pub tools: &'a Tools,
    /// How long a gateway may take to stop.
    pub stop_timeout: Duration,
    /// Whose slots they are.
    pub rights: &'a Rights,
    /// The scan directory, locked.
    pub scandir: &'a ScanDir,
    /// The rendered slots.
    pub rendered: &'a BTreeMap<ProfileName, Files>,
}

/// The changes that could not be carried out, by the profile's name.
pub type Failures = BTreeMap<ProfileName, Error>;

impl Apply<'_> {
    /// Carries out the changes of a plan, each as far as it goes.
    pub fn slots(&self, plan: &Plan) -> Failures {
        let mut failures = Failures::new();
        let with = |wanted: &dyn Fn(&Step) -> bool| -> Vec<&Change> {
            let does = |change: &&Change| change.steps.iter().any(wanted);
            plan.changes.iter().filter(does).collect()
        };
        let removed = with(&|step| *step == Step::Remove);
        self.remove(
            removed.iter().filter_map(|change| change.name.as_ref()),
            &mut failures,
        );
        for change in &plan.changes {
            if let Some(name) = &change.name
                && let Err(error) = self.in_place(name, change)
            {
                failures.insert(name.clone(), error);
            }
        }
        let published = with(&|step| matches!(step, Step::Publish { .. }));
        self.publish(&published, &mut failures);
        failures
    }

    /// Writes whom the scan directory is for, if it does not say so already.
    pub fn owner(&self, owner: &Owner) -> Result<()> {
        if self.scandir.owner().as_ref() == Some(owner) {
            return Ok(());
        }
        let mut content = serde_json::to_vec(owner).unwrap_or_default();
        content.push(b'\n');
        self.scandir.dir().replace(OWNER_FILE, &content)
    }

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
                kill(gateway(service))?;
            }
            if !wait_until(SUPERVISOR_TIME, "supervisors to end", || {
                !orphans.iter().any(main)
            }) {
                for service in orphans.iter().filter(|service| main(service)) {
                    kill(supervisor(service))?;
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
            kill(supervisor(&logger))?;
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
        let _gone = self.s6("s6-svc", &[letters], service.path());
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
            let _waited_for_below = self.s6("s6-svscanctl", &["-an"], self.scandir.dir().path());
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

    fn in_place(&self, name: &ProfileName, change: &Change) -> Result<()> {
        let slot = self.scandir.at(name.slot());
        for step in &change.steps {
            match step {
                Step::Reset => forget_status(&slot)?,
                Step::Write(paths) => {
                    let files = self.rendered.get(name);
                    for path in paths {
                        if let Some(file) = files.and_then(|files| files.get(path)) {
                            write(&slot, path, file)?;
                        }
                    }
                }
                Step::MarkDown => mark_down(&slot, &why_down(change))?,
                Step::UnmarkDown => unmark_down(&slot)?,
                Step::Up => self.s6("s6-svc", &["-u"], &slot)?,
                Step::Down => self.down(name, &slot)?,
                Step::Remove | Step::Publish { .. } => {}
            }
        }
        Ok(())
    }

    /// Brings a gateway down. One that has its signal already is only kept from being started again.
    fn down(&self, name: &ProfileName, path: &Path) -> Result<()> {
        let slot = self.scandir.slot(name)?;
        let status = Status::read(&slot);
        let signalled = status
            .as_ref()
            .is_some_and(|status| is_signalled(&slot, status));
        self.s6("s6-svc", &[if signalled { "-O" } else { "-d" }], path)?;
        if let Some(status) = status.filter(|status| status.pid.is_some()) {
            remember_signal(&slot, &status);
        }
        Ok(())
    }

    /// Gives hermes control of a slot of root's: it may read its status by name and write to its
    /// control FIFO, and nothing else. s6-supervise takes what is there; `event/` stays root's, since
    /// who can write there can make root write elsewhere.
    fn control(&self, slot: &Path) -> Result<()> {
        let Rights::Direct(account) = self.rights else {
            return Ok(());
        };
        for service in [slot.to_owned(), slot.join("log")] {
            let supervise = service.join("supervise");
            let fifo = supervise.join("control");
            let failed = |cause: io::Error| Error::system("create", &fifo, cause);
            fs::DirBuilder::new()
                .mode(0o711)
                .create(&supervise)
                .map_err(failed)?;
            fs::set_permissions(&supervise, Permissions::from_mode(0o711)).map_err(failed)?;
            rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
                .map_err(|errno| failed(errno.into()))?;
            chown(&fifo, Some(0), Some(account.gid)).map_err(failed)?;
            fs::set_permissions(&fifo, Permissions::from_mode(0o620)).map_err(failed)?;
        }
        Ok(())
    }

    fn publish(&self, changes: &[&Change], failures: &mut Failures) {
        let mut new: Vec<&ProfileName> = Vec::new();
        for change in changes {
            let Some(name) = change
                .name
                .as_ref()
                .filter(|name| !failures.contains_key(name))
            else {
                continue;
            };
            match self.build(name, change) {
                Ok(()) => new.push(name),
                Err(error) => {
                    failures.insert(name.clone(), error);
                }
            }
        }
        // All at once: each scan takes up everything that is there.
        new.retain(|name| match self.reveal(name) {
            Ok(()) => true,
            Err(error) => {
                failures.insert((*name).clone(), error);
                false
            }
        });
        // Looked at only now: an s6-svscan that has started meanwhile is told too.
        if new.is_empty() || self.scandir.watcher().is_none() {
            return;
        }
        let missed = self.await_supervisors(&new);
        if missed.is_empty() {
            return;
        }
        // s6-svscan looks at a directory that it once failed to take up only under a new inode.
        self.remove(missed.iter().copied(), failures);
        let again: Vec<&ProfileName> = changes
            .iter()
            .filter_map(|change| Some((change.name.as_ref()?, change)))
            .filter(|(name, _)| missed.contains(name) && !failures.contains_key(name))
            .filter(|(name, change)| {
                self.build(name, change)
                    .and_then(|()| self.reveal(name))
                    .is_ok()
            })
            .map(|(name, _)| name)
            .collect();
        self.await_supervisors(&again);
        for name in missed {
            if !self.is_taken_up(name) && !failures.contains_key(name) {
                let error = Error::new(Code::System, "s6-svscan does not take it up").remedy(
                    "look at the messages of s6-svscan, then run hermes-s6 reconcile again",
                );
                failures.insert(name.clone(), error);
            }
        }
    }

    /// Builds a slot under a name that s6-svscan passes over.
    fn build(&self, name: &ProfileName, change: &Change) -> Result<()> {
        let place = self.scandir.at(format!("{NEW_PREFIX}{}", name.slot()));
        if let Some(files) = self.rendered.get(name) {
            write_tree(&place, files)?;
        }
        if change.steps.contains(&Step::Publish { down: true }) {
            mark_down(&place, &why_down(change))?;
        }
        self.control(&place)
    }

    /// Gives a slot that is built its name.
    fn reveal(&self, name: &ProfileName) -> Result<()> {
        let slot = self.scandir.at(name.slot());
        let new = self.scandir.at(format!("{NEW_PREFIX}{}", name.slot()));
        fs::rename(new, &slot).map_err(|cause| Error::system("create", slot, cause))
    }

    /// Lets s6-svscan scan, and waits for as long as it goes on taking up new slots. Gives those that
    /// it has not taken up.
    fn await_supervisors<'n>(&self, names: &[&'n ProfileName]) -> Vec<&'n ProfileName> {
        // Whose directory somebody has removed by hand is let go, too: its gateway would be in the way.
        let _seen_below = self.s6("s6-svscanctl", &["-an"], self.scandir.dir().path());
        let mut missed = names.to_vec();
        let mut progress = Instant::now();
        wait_until(SCAN_LIMIT, "s6-svscan to take up the new slots", || {
            let before = missed.len();
            missed.retain(|name| !self.is_taken_up(name));
            if missed.len() < before {
                progress = Instant::now();
            }
            missed.is_empty() || progress.elapsed() > SCAN_PATIENCE
        });
        missed
    }

    fn is_taken_up(&self, name: &ProfileName) -> bool {
        self.scandir.slot(name).is_ok_and(|slot| {
            // It takes its lock before it writes its status, which commands read next.
            supervised(&slot).is_some()
                && slot.dir("log").is_ok_and(|log| supervisor(&log).is_some())
        })
    }

    fn s6(&self, program: &str, arguments: &[&str], directory: &Path) -> Result<()> {
        self.tools
            .run(&self.settings.root, program, arguments, directory)
    }
}

/// The file in a slot that names the process which has been told to end. It stays when the command that
/// has told it is killed, and when the process is meanwhile wanted up again.
const SIGNALLED_FILE: &str = "signalled";

/// Tells whether the process of a slot has had its SIGTERM from a command of ours, so that it gets no
/// second one while it saves.
pub fn is_signalled(slot: &Dir, status: &Status) -> bool {
    let data = slot.dir("data");
    data.is_ok_and(|data| data.read(SIGNALLED_FILE, 128) == Ok(process(status)))
}

/// Remembers that the process of a slot has had its SIGTERM, as far as we may write there.
pub fn remember_signal(slot: &Dir, status: &Status) {
    let data = slot.dir("data");
    let _not_ours = data.and_then(|data| data.replace(SIGNALLED_FILE, &process(status)));
}

/// Names one process for good: pids repeat.
fn process(status: &Status) -> Vec<u8> {
    let since = status.since.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default().as_nanos();
    format!("{} {since}\n", status.pid.unwrap_or(0)).into_bytes()
}

/// Adds the `down` file to a slot, with a line that tells a person why.
pub fn mark_down(slot: &Path, why: &str) -> Result<()> {
    write(slot, "down", &down(why)?)
}

/// Removes the `down` file of a slot.
pub fn unmark_down(slot: &Path) -> Result<()> {
    let path = slot.join("down");
    match fs::remove_file(&path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(Error::system("remove", &path, cause))
        }
        _ => Ok(()),
    }
}

/// Writes a whole slot into a directory that is not there yet.
pub fn write_tree(place: &Path, files: &Files) -> Result<()> {
    let mut parents = BTreeSet::new();
    parents.extend(files.keys().filter_map(|path| Path::new(path).parent()));
    // `env` even when it is empty: the run script reads it.
    parents.insert(Path::new("env"));
    for directory in parents {
        let directory: PathBuf = place.join(directory).components().collect();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&directory)
            .map_err(|cause| Error::system("create", &directory, cause))?;
        // Whatever the umask says.
        fs::set_permissions(&directory, Permissions::from_mode(0o755))
            .map_err(|cause| Error::system("chmod", &directory, cause))?;
    }
    // Nobody sees it before it is whole.
    files
        .iter()
        .try_for_each(|(path, file)| create(&place.join(path), file))
}

/// Removes the status that an earlier supervisor of a slot and its logger left, which would go on to
/// answer for a service that is not supervised. All else in `supervise/` and `event/` is of use to the
/// next supervisor, or to somebody who already waits for it.
fn forget_status(slot: &Path) -> Result<()> {
    for path in [
        slot.join("supervise/status"),
        slot.join("log/supervise/status"),
    ] {
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(Error::system("remove", &path, cause));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Puts a file in its place at once, where it may be in use.
fn write(slot: &Path, path: &str, file: &File) -> Result<()> {
    let target = slot.join(path);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let fresh = target.with_file_name(format!(".{name}.new"));
    let _leftover = fs::remove_file(&fresh);
    create(&fresh, file)?;
    fs::rename(&fresh, &target).map_err(|cause| Error::system("write", &target, cause))
}

/// Writes a file that is not there yet.
fn create(path: &Path, file: &File) -> Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .open(path)
        .and_then(|mut open| {
            open.write_all(&file.content)?;
            // Whatever the umask says.
            open.set_permissions(Permissions::from_mode(file.mode))
        })
        .map_err(|cause| Error::system("write", path, cause))
}

fn why_down(change: &Change) -> String {
    let state = change.prior_state.as_deref().unwrap_or("none");
    let reason = change.reason.iter().flat_map(|reason| [" (", reason, ")"]);
    format!(
        "Registered down by hermes-s6: the state was {state:?}{}.",
        reason.collect::<String>()
    )
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

/// Kills a process that did not end when asked to.
fn kill(holder: Option<Holder>) -> Result<()> {
    let Some(Holder::Process(pid)) = holder else {
        return Ok(());
    };
    Pid::from_raw(pid)
        .map_or(Ok(()), |pid| {
            pidfd_send_signal(pidfd_open(pid, PidfdFlags::empty())?, Signal::KILL)
        })
        .or_else(|errno| {
            if errno == rustix::io::Errno::SRCH {
                Ok(())
            } else {
                Err(errno)
            }
        })
        .map_err(|errno| Error::system("kill", pid.to_string(), errno))
}
