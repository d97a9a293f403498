//! Carrying out a plan: the only place that changes a scan directory, with [`remove`](crate::tree::remove) for
//! what goes.
//!
//! Removals come first and are waited for, then slots change in place, then new ones are published
//! together: s6-svscan gives up a whole scan when a directory vanishes under it. Every file and
//! every slot appears by a rename, so a run that is killed leaves nothing half made, only names with
//! a leading dot that the next run sweeps away.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{CWD, FileType, Mode};

use crate::error::{Code, Error, Result};
use crate::hermes::name::ProfileName;
use crate::rights::Rights;
use crate::s6::supervision::{Status, supervised, supervisor};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::system::wait::wait_until;
use crate::tree::owner::{OWNER_FILE, Owner};
use crate::tree::plan::{Change, Plan, Step};
use crate::tree::remove::{Failures, Remover};
use crate::tree::scandir::{NEW_PREFIX, ScanDir};
use crate::tree::slot::{Rendered, down, put, write_new};

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
    pub rendered: &'a Rendered,
}

impl Apply<'_> {
    /// Carries out the changes of a plan, each as far as it goes.
    pub fn slots(&self, plan: &Plan) -> Failures {
        let mut failures = Failures::new();
        let with = |wanted: &dyn Fn(&Step) -> bool| -> Vec<&Change> {
            let does = |change: &&Change| change.steps.iter().any(wanted);
            plan.changes.iter().filter(does).collect()
        };
        let removed = with(&|step| *step == Step::Remove);
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

    /// Gives what ends gateways and removes slots.
    pub fn remover(&self) -> Remover<'_> {
        Remover {
            root: &self.settings.root,
            tools: self.tools,
            stop_timeout: self.stop_timeout,
            scandir: self.scandir,
        }
    }

    fn in_place(&self, name: &ProfileName, change: &Change) -> Result<()> {
        if change.steps.is_empty() {
            return Ok(());
        }
        let path = self.scandir.at(name.slot());
        let slot = || self.scandir.slot(name);
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

    /// Builds a slot under a name that s6-svscan passes over.
    fn build(&self, name: &ProfileName, change: &Change) -> Result<()> {
        let Some(files) = self.rendered.get(name) else {
            return Ok(());
        };
        let slot = write_new(self.scandir.dir(), &new_name(name), files)?;
        if change.steps.contains(&Step::Publish { down: true }) {
            mark_down(&slot, &why_down(change))?;
        }
        self.control(slot.path())
    }

    /// Gives a slot that is built its name.
    fn reveal(&self, name: &ProfileName) -> Result<()> {
        let slot = self.scandir.at(name.slot());
        let new = self.scandir.at(new_name(name));
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
pub fn mark_down(slot: &Dir, why: &str) -> Result<()> {
    put(slot, "down", &down(why)?)
}

/// Removes the `down` file of a slot.
pub fn unmark_down(slot: &Dir) -> Result<()> {
    slot.remove("down")
}

/// Gives the name that a slot has while it is built.
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

/// Removes the status that an earlier supervisor of a slot and its logger left, which would go on to
/// answer for a service that is not supervised. All else in `supervise/` and `event/` is of use to the
/// next supervisor, or to somebody who already waits for it.
fn forget_status(slot: &Path) -> Result<()> {
    remove_file(&slot.join("supervise/status"))?;
    remove_file(&slot.join("log/supervise/status"))
}

fn why_down(change: &Change) -> String {
    let state = change.prior_state.as_deref().unwrap_or("none");
    let reason = change.reason.iter().flat_map(|reason| [" (", reason, ")"]);
    format!(
        "Registered down by hermes-s6: the state was {state:?}{}.",
        reason.collect::<String>()
    )
}
