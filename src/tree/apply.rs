//! Carrying out a plan. Only this module, and [`remove`](crate::tree::remove) for it, change the slots.
//!
//! Slots are removed first, with a wait for their processes. Then slots change in place. Then all new slots are
//! published together: s6-svscan gives up a whole scan if a directory disappears during the scan. Every file and
//! every slot gets its name by a rename. So a killed run leaves nothing half made, only names with a leading dot,
//! which the next run removes.

use std::fs::{self, Permissions};
use std::io;
use std::iter;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{CWD, FileType, Mode};

use crate::error::{Code, Error, Result, shown};
use crate::hermes::name::ProfileName;
use crate::rights::Rights;
use crate::s6::supervision::{Status, supervised, supervisor};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::system::wait::wait_until;
use crate::tree::change::{Change, Plan, Step};
use crate::tree::dashboard::DASHBOARD;
use crate::tree::owner::{OWNER_FILE, Owner};
use crate::tree::remove::{Failures, Remover};
use crate::tree::scandir::{NEW_PREFIX, OLD_PREFIX, ScanDir};
use crate::tree::slot::{Files, Rendered, compare, down, put, write_new};
use crate::tree::tender::{self, TENDER};

/// How long to wait for an s6-svscan that takes up no further new slot.
const SCAN_PATIENCE: Duration = Duration::from_secs(2);

/// How long s6-svscan may take for all new slots.
const SCAN_LIMIT: Duration = Duration::from_secs(60);

/// Carries out plans in one scan directory.
#[derive(Debug)]
pub struct Apply<'a> {
    /// The settings of this run.
    pub settings: &'a Settings,
    /// The programs of the tree.
    pub tools: &'a Tools,
    /// How long a gateway may take to stop.
    pub stop_timeout: Duration,
    /// The rights of this run: they tell which account may control the slots.
    pub rights: &'a Rights,
    /// The scan directory, whose lock the caller holds.
    pub scandir: &'a ScanDir,
    /// The rendered slots.
    pub rendered: &'a Rendered,
}

impl Apply<'_> {
    /// Carries out the changes of a plan. A failure does not stop the others.
    pub fn slots(&self, plan: &Plan) -> Failures {
        let mut failures = Failures::new();
        let with_step = |is_step: &dyn Fn(&Step) -> bool| -> Vec<&Change> {
            let has_step = |change: &&Change| change.steps.iter().any(is_step);
            plan.changes.iter().filter(has_step).collect()
        };
        let removed = with_step(&|step| *step == Step::Remove);
        let remover = self.remover();
        remover.remove(
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
        let published = with_step(&|step| matches!(step, Step::Publish { .. }));
        self.publish(&published, &mut failures);
        failures
    }

    /// Writes the owner file of the scan directory, unless it has this content already; tells whether it was written.
    pub fn owner(&self, owner: &Owner) -> Result<bool> {
        if matches!(self.scandir.owner(), Ok(Some(present)) if present == *owner) {
            return Ok(false);
        }
        let mut content = serde_json::to_vec(owner).unwrap_or_default();
        content.push(b'\n');
        self.scandir.dir().replace(OWNER_FILE, &content)?;
        Ok(true)
    }

    /// Gives the remover of this scan directory.
    pub fn remover(&self) -> Remover<'_> {
        Remover {
            root: &self.settings.root,
            tools: self.tools,
            stop_timeout: self.stop_timeout,
            scandir: self.scandir,
        }
    }

    /// Does the steps of a change that need neither the removal nor the publication of a slot.
    fn in_place(&self, name: &ProfileName, change: &Change) -> Result<()> {
        if change.steps.is_empty() {
            return Ok(());
        }
        let path = self.scandir.at(name.slot());
        let slot = || self.slot(name);
        for step in &change.steps {
            match step {
                Step::Reset => forget_status(&path)?,
                Step::Sweep(debris) => {
                    for file in debris {
                        remove_file(&path.join(file))?;
                    }
                }
                Step::Write(paths) => {
                    let files = self.rendered.get(name);
                    let slot = slot()?;
                    for path in paths {
                        if let Some(file) = files.and_then(|files| files.get(path)) {
                            put(&slot, path, file)?;
                        }
                    }
                }
                Step::MarkDown => mark_down(&slot()?, &why_down(change))?,
                Step::UnmarkDown => unmark_down(&slot()?)?,
                Step::Up => self.s6("s6-svc", &["-u"], &path)?,
                Step::Down => self.down(name, &path)?,
                Step::Remove | Step::Publish { .. } => {}
            }
        }
        Ok(())
    }

    /// Brings a gateway down. If its process has had a SIGTERM already, it gets no second one (`s6-svc -O`).
    fn down(&self, name: &ProfileName, path: &Path) -> Result<()> {
        let slot = self.slot(name)?;
        let status = Status::read(&slot)?;
        let has_signal = match &status {
            Some(status) => is_signalled(&slot, status)?,
            None => false,
        };
        self.s6("s6-svc", &[if has_signal { "-O" } else { "-d" }], path)?;
        if let Some(status) = status.filter(|status| status.pid.is_some()) {
            remember_signal(&slot, &status);
        }
        Ok(())
    }

    /// Gives the account of the gateways control of a slot that root supervises.
    ///
    /// The account may read files in `supervise/` by their names and write to the control FIFO, and nothing else.
    /// s6-supervise keeps the directory and the FIFO that it finds. `event/` stays root's: whoever can write
    /// there can make root write elsewhere.
    fn control(&self, services: &[PathBuf]) -> Result<()> {
        let Rights::Direct(account) = self.rights else {
            return Ok(());
        };
        for service in services {
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

    /// Publishes new slots, and waits until s6-svscan has taken them up.
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
        // All slots get their names together, so that one scan takes all of them up.
        new.retain(|name| match self.reveal(name) {
            Ok(()) => true,
            Err(error) => {
                failures.insert((*name).clone(), error);
                false
            }
        });
        // Looked for only now, so that an s6-svscan that has started meanwhile is told too.
        // If that cannot be told, there may be one.
        if new.is_empty() || matches!(self.scandir.watcher(), Ok(None)) {
            return;
        }
        let missed = self.await_supervisors(&new);
        if missed.is_empty() {
            return;
        }
        // s6-svscan tries a directory that it once failed to take up again only if the inode is another one.
        self.remover().remove(missed.iter().copied(), failures);
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

    /// Builds a slot under a name that s6-svscan ignores.
    fn build(&self, name: &ProfileName, change: &Change) -> Result<()> {
        let Some(files) = self.rendered.get(name) else {
            return Ok(());
        };
        let slot = write_new(self.scandir.dir(), &new_name(name), files)?;
        if change.steps.contains(&Step::Publish { down: true }) {
            mark_down(&slot, &why_down(change))?;
        }
        self.control(&[slot.path().to_owned(), slot.path().join("log")])
    }

    /// Adds the tender, or writes its files anew where they differ.
    ///
    /// `has_room` says whether s6-svscan has room for one more service.
    pub fn tender(&self, files: &Files, has_room: bool) -> Result<()> {
        let Some(service) = self.refresh(TENDER, files)? else {
            let purpose = "that looks after the logs";
            return self.add(TENDER, purpose, has_room, |dir, new| {
                tender::build(dir, new, files)
            });
        };
        // Somebody may have brought it down.
        match supervised(&self.settings.root, &service) {
            Ok(Some((status, _))) if !status.wanted_up => {
                self.s6("s6-svc", &["-u"], service.path())
            }
            _ => Ok(()),
        }
    }

    /// Adds the dashboard, or writes its files anew where they differ, which count from its next start on. One that is
    /// down stays so: it was parked, or somebody has stopped it.
    pub fn dashboard(&self, files: &Files, has_room: bool) -> Result<()> {
        if self.refresh(DASHBOARD, files)?.is_some() {
            return Ok(());
        }
        self.add(DASHBOARD, "of the dashboard", has_room, |dir, new| {
            write_new(dir, new, files)
        })
    }

    /// Ends the dashboard of an earlier tree, and removes its service.
    pub fn no_dashboard(&self) -> Result<()> {
        let old = format!("{OLD_PREFIX}{DASHBOARD}");
        if self.scandir.dir().dir_if_there(DASHBOARD)?.is_none() {
            return Ok(());
        }
        self.scandir.dir().rename(DASHBOARD, &old)?;
        // What has this prefix is removed with whatever else is.
        self.remover().remove(iter::empty(), &mut Failures::new());
        match self.scandir.dir().dir_if_there(&old)? {
            Some(_) => Err(Error::new(Code::System, format!("{old} is still there"))),
            None => Ok(()),
        }
    }

    /// Writes the files of a service anew where they differ; `None` if there is no such service.
    fn refresh(&self, name: &str, files: &Files) -> Result<Option<Dir>> {
        let service = self.scandir.dir().dir_if_there(name)?;
        if let Some(service) = &service {
            for path in compare(service, files).outdated {
                if let Some(file) = files.get(path) {
                    put(service, path, file)?;
                }
            }
        }
        Ok(service)
    }

    /// Adds a service that is no slot; `purpose` says which, for a person.
    fn add(
        &self,
        name: &str,
        purpose: &str,
        has_room: bool,
        build: impl FnOnce(&Dir, &str) -> Result<Dir>,
    ) -> Result<()> {
        let dir = self.scandir.dir();
        if !has_room {
            let what = format!("s6-svscan has no room for the service {purpose}");
            return Err(Error::new(Code::No, what).remedy(
                "restart the tree with hermes-s6 supervise, or s6-svscan with a larger limit",
            ));
        }
        let new = format!("{NEW_PREFIX}{name}");
        let service = build(dir, &new)?;
        let log = service.dir_if_there("log")?;
        let log = log.map(|log| log.path().to_owned());
        let parts: Vec<PathBuf> = [service.path().to_owned()].into_iter().chain(log).collect();
        self.control(&parts)?;
        dir.rename(&new, name)?;
        if !matches!(self.scandir.watcher(), Ok(None)) {
            // -n: that of a directory that somebody has removed must not go on.
            self.s6("s6-svscanctl", &["-an"], dir.path())?;
        }
        Ok(())
    }

    /// Gives a built slot its final name.
    fn reveal(&self, name: &ProfileName) -> Result<()> {
        let slot = self.scandir.at(name.slot());
        let new = self.scandir.at(new_name(name));
        fs::rename(new, &slot).map_err(|cause| Error::system("create", slot, cause))
    }

    /// Tells s6-svscan to scan, and waits for as long as it takes up new slots. Gives the slots that it has
    /// missed.
    fn await_supervisors<'n>(&self, names: &[&'n ProfileName]) -> Vec<&'n ProfileName> {
        // -n also ends the supervisor of a slot that somebody removed by hand: its gateway would get in the way.
        let _failure_shows_below = self.s6("s6-svscanctl", &["-an"], self.scandir.dir().path());
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
        let look = || -> Result<bool> {
            let slot = self.slot(name)?;
            // The status has to be there too, for the next command: s6-supervise writes it after it takes its
            // lock.
            Ok(supervised(&self.settings.root, &slot)?.is_some()
                && supervisor(&slot.dir("log")?)?.is_some())
        };
        look().unwrap_or(false)
    }

    /// Opens a slot that must be there.
    fn slot(&self, name: &ProfileName) -> Result<Dir> {
        self.scandir.dir().dir(name.slot())
    }

    fn s6(&self, program: &str, arguments: &[&str], directory: &Path) -> Result<()> {
        self.tools
            .run(&self.settings.root, program, arguments, directory)
    }
}

/// The file in `data/` of a slot that names the process which has had its SIGTERM.
///
/// The file also counts if the command that sent the signal was killed, and if the gateway is wanted up again
/// meanwhile.
const SIGNALLED_FILE: &str = "signalled";

/// Tells whether the process of a slot has had its SIGTERM from a hermes-s6 command.
///
/// Such a process gets no second SIGTERM while it saves.
pub fn is_signalled(slot: &Dir, status: &Status) -> Result<bool> {
    match slot.dir("data")?.read(SIGNALLED_FILE, 128) {
        Ok(content) => Ok(content == process(status)),
        Err(unusable) if unusable.is_missing() => Ok(false),
        Err(unusable) => {
            let place = slot.path().join("data");
            let what = format!("{}: {}", shown(&place), unusable.text);
            Err(Error::new(Code::System, what))
        }
    }
}

/// Remembers that the process of a slot has had its SIGTERM, if we may write in the slot.
pub fn remember_signal(slot: &Dir, status: &Status) {
    let data = slot.dir("data");
    let _not_ours = data.and_then(|data| data.replace(SIGNALLED_FILE, &process(status)));
}

/// Identifies the process of a slot by its pid and start: pids repeat.
fn process(status: &Status) -> Vec<u8> {
    let since = status.since.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default().as_nanos();
    format!("{} {since}\n", status.pid.unwrap_or(0)).into_bytes()
}

/// Adds the `down` file to a slot, with a line for a person that says why.
pub fn mark_down(slot: &Dir, why: &str) -> Result<()> {
    put(slot, "down", &down(why)?)
}

/// Removes the `down` file of a slot.
pub fn unmark_down(slot: &Dir) -> Result<()> {
    slot.remove("down")
}

/// Gives the name of a slot while it is built.
fn new_name(name: &ProfileName) -> String {
    format!("{NEW_PREFIX}{}", name.slot())
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(Error::system("remove", path, cause))
        }
        _ => Ok(()),
    }
}

/// Removes the status files that earlier supervisors of a slot and its logger have left.
///
/// Readers would still take them for the status of the service, although it is not supervised. All other files in
/// `supervise/` and `event/` are of use: to the next supervisor, or to somebody who already waits for it.
fn forget_status(slot: &Path) -> Result<()> {
    remove_file(&slot.join("supervise/status"))?;
    remove_file(&slot.join("log/supervise/status"))
}

/// Gives the text of a `down` file that a plan leaves in a slot.
fn why_down(change: &Change) -> String {
    let state = change.prior_state.as_deref().unwrap_or("none");
    let reason = change.reason.iter().flat_map(|reason| [" (", reason, ")"]);
    format!(
        "Registered down by hermes-s6: the state was {state:?}{}.",
        reason.collect::<String>()
    )
}
