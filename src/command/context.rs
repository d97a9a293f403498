//! What a command works with: the settings, the rights, and the running tree.

use std::time::Duration;

use crate::cli::Common;
use crate::error::{Code, Error, Result, shown};
use crate::hermes::name::ProfileName;
use crate::report;
use crate::rights::apart::{Dropping, Purpose};
use crate::rights::{self, Rights};
use crate::s6::capacity::raise_descriptors;
use crate::s6::supervision::Status;
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::account::Account;
use crate::tree::detect::detect;
use crate::tree::lifecycle::Lifecycle;
use crate::tree::lifecycle::request::Verb;
use crate::tree::reconcile::Session;
use crate::tree::scandir::{ScanDir, choices_of_tree};
use crate::view::row::Report;
use crate::view::{dashboard, status};
use crate::volume::survey::{Skipped, Survey, UNREADABLE, survey_as};

/// The settings of a command, and the rights that it works with.
#[derive(Debug)]
pub struct Context {
    /// The settings of this run.
    pub settings: Settings,
    /// The rights that the work is done with.
    pub rights: Rights,
}

impl Context {
    /// Makes the context. A root process with the tree of another user becomes that user first.
    pub fn enter(common: &Common) -> Result<Self> {
        Self::of(Settings::gather(common)?)?.into_owner()
    }

    /// Becomes the user of the tree, if that is another user than this root process.
    pub fn into_owner(self) -> Result<Self> {
        match &self.rights {
            Rights::Drop(account) => Err(self.become_account(account)),
            _ => Ok(self),
        }
    }

    /// Makes the context for a command that needs only the volume. A root process becomes the user of the
    /// gateways first, even if the slots are root's.
    pub fn enter_volume(common: &Common) -> Result<Self> {
        let context = Self::of(Settings::gather(common)?)?;
        match &context.rights {
            Rights::Drop(account) | Rights::Direct(account) => Err(context.become_account(account)),
            Rights::Own => Ok(context),
        }
    }

    /// Starts this command anew with the rights of the account; returns only the error if that fails.
    fn become_account(&self, account: &Account) -> Error {
        match Tools::find(&self.settings) {
            Ok(tools) => {
                let dropping = Dropping {
                    settings: &self.settings,
                    tools: &tools,
                    account,
                };
                rights::become_account(&dropping, Purpose::Command, &[])
            }
            Err(error) => error,
        }
    }

    /// Decides which rights to work with, but does not change those of this process yet.
    pub fn of(mut settings: Settings) -> Result<Self> {
        let rights = Rights::of(&settings)?;
        if !matches!(rights, Rights::Drop(_)) {
            take_path_of_tree(&mut settings);
        }
        Ok(Self { settings, rights })
    }

    /// Prints a warning for each setting that is ignored.
    pub fn warn(&self) {
        self.settings
            .warnings
            .iter()
            .for_each(|warning| report::warning(warning));
    }

    /// Surveys the volume, with the rights of its owner.
    pub fn survey(&self, only: &[ProfileName]) -> Result<Survey> {
        let mut survey = survey_as(&self.settings, &self.rights, None, only)?;
        // For what is shown. A session, which changes slots, fails if their ports cannot be read.
        let scandir = ScanDir::open(&self.settings);
        let _as_far_as_known =
            scandir.and_then(|scandir| scandir.keep_ports(&self.settings, &mut survey));
        Ok(survey)
    }

    /// Reports on all slots and profiles of the tree.
    pub fn report(&self) -> Result<Report> {
        let scandir = ScanDir::open_tree(&self.settings)?;
        scandir.owner_for(&self.settings)?;
        let (survey, failure) = match self.survey(&[]) {
            // What s6 knows can be told all the same.
            Err(error) if error.code() == Code::System => {
                report::warning(&error.to_string());
                (Survey::default(), Some(error.to_string()))
            }
            survey => (survey?, None),
        };
        let again = || self.survey(&[]);
        let report = status::report(&self.settings, &scandir, &survey, again)?;
        let watched = report.manager.is_s6() || matches!(scandir.watcher(), Ok(Some(_)));
        // Root reads no log on the volume: its owner could have replaced it by anything.
        let with_log = failure.is_none() && !matches!(self.rights, Rights::Direct(_));
        Ok(Report {
            volume: failure,
            dashboard: dashboard::look(&self.settings, &scandir, watched, with_log)?,
            ..report
        })
    }

    /// Gives the profile that a command means: the given one, or else see [`Survey::meant`]. It must exist.
    pub fn profile(&self, given: Option<ProfileName>, survey: &Survey) -> Result<ProfileName> {
        let profile = given.map_or_else(|| survey.meant(&self.settings), Ok)?;
        must_exist(&profile, survey)?;
        Ok(profile)
    }
}

/// Refuses a profile that is not on the volume; the error tells what is there instead.
pub fn must_exist(profile: &ProfileName, survey: &Survey) -> Result<()> {
    if survey.profiles.contains_key(profile) {
        return Ok(());
    }
    let has_name = |skipped: &&Skipped| skipped.name == profile.as_str();
    if let Some(skipped) = survey.skipped.iter().find(has_name) {
        let what = format!("profile {profile}: {}", skipped.problem.text);
        // What could not be read may be readable in a moment.
        let is_unread = skipped.problem.reason == UNREADABLE;
        let code = if is_unread { Code::System } else { Code::Usage };
        return Err(Error::new(code, what));
    }
    if survey.soulless.contains(profile) {
        let what = format!("profile {profile} has no SOUL.md");
        return Err(Error::new(Code::Usage, what).remedy("create that file in its home"));
    }
    match survey.skipped.iter().find(|_| !survey.complete) {
        Some(skipped) => Err(Error::new(Code::System, skipped.problem.text.clone())),
        None => Err(no_such_profile(profile)),
    }
}

/// Makes the error for a profile that does not exist.
pub fn no_such_profile(profile: &ProfileName) -> Error {
    Error::new(Code::Usage, format!("profile {profile} does not exist"))
        .remedy(format!("create it with hermes profile create {profile}"))
}

/// Sets the data root to the path that the running tree has for it.
///
/// A data root can have several paths. The scripts of a running tree name the path that it was started with.
fn take_path_of_tree(settings: &mut Settings) {
    // If that cannot be told, the command finds out itself, and says so.
    let scandir = ScanDir::open(settings);
    if let Ok(Some(owner)) = scandir.and_then(|scandir| scandir.live_owner(settings))
        && matches!(owner.serves(settings), Ok(true))
    {
        settings.home = owner.home;
    }
}

/// A running tree, with the context of the command that works on it.
#[derive(Debug)]
pub struct Tree {
    /// The settings and the rights of the command.
    pub context: Context,
    /// The scan directory with the slots.
    pub scandir: ScanDir,
    /// The programs that the slots name.
    pub tools: Tools,
}

impl Tree {
    /// Opens the running tree.
    ///
    /// If it need not be `watched` by an s6-svscan, supervisors that outlived their s6-svscan are enough: their
    /// gateways can still be stopped.
    pub fn enter(common: &Common, watched: bool) -> Result<Self> {
        let context = Context::enter(common)?;
        context.warn();
        raise_descriptors(usize::MAX);
        let settings = &context.settings;
        let scandir = ScanDir::open_tree(settings)?;
        let find = || Tools::find(settings);
        let tools = choices_of_tree(settings, &context.rights, Some(&scandir), find)?.tools;
        let detection = detect(settings)?;
        let tree = Self {
            context,
            scandir,
            tools,
        };
        if detection.is_s6() || (!watched && tree.scandir.has_supervisor()?) {
            return Ok(tree);
        }
        Err(Error::new(Code::Unsupervised, detection.reason)
            .remedy("start the tree with hermes-s6 supervise"))
    }

    /// Gives the settings of the command.
    pub fn settings(&self) -> &Settings {
        &self.context.settings
    }

    /// Gives the rights of the command.
    pub fn rights(&self) -> &Rights {
        &self.context.rights
    }

    /// Surveys the volume. If it cannot be read, that is only a warning for a verb that stops gateways.
    pub fn survey(&self, only: &[ProfileName], verb: Verb) -> Result<Survey> {
        match self.context.survey(only) {
            Err(error) if !verb.is_up() => {
                report::warning(&error.to_string());
                Ok(Survey::default())
            }
            survey => survey,
        }
    }

    /// Reads the status of a slot; `None` without a supervisor.
    pub fn status(&self, name: &ProfileName) -> Result<Option<Status>> {
        self.scandir.status(&self.settings().root, name)
    }

    /// Tells whether s6 wants a gateway up.
    pub fn is_wanted_up(&self, name: &ProfileName) -> Result<bool> {
        Ok(self.status(name)?.is_some_and(|status| status.wanted_up))
    }

    /// Tells whether a gateway runs, or is about to run; also if that cannot be told.
    pub fn may_run(&self, name: &ProfileName) -> bool {
        let status = self.status(name);
        !status.is_ok_and(|status| status.is_none_or(|status| status.is_down()))
    }

    /// Opens and locks the scan directory for changes. Waits for at most `limit` for others that change it.
    pub fn session(&self, limit: Duration) -> Result<Session<'_>> {
        Session::begin(self.settings(), self.rights(), self.tools.clone(), limit)
    }

    /// Gives the lifecycle of this tree, which starts and stops gateways.
    pub fn lifecycle(&self) -> Lifecycle<'_> {
        Lifecycle {
            settings: self.settings(),
            rights: self.rights(),
            tools: &self.tools,
            scandir: &self.scandir,
        }
    }

    /// Refuses to add or remove slots in a scan directory that this process may not change.
    pub fn may_change(&self, command: &str) -> Result<()> {
        if self.scandir.ours().is_ok() {
            return Ok(());
        }
        Err(Error::new(
            Code::Usage,
            format!(
                "only root adds and removes slots in {}",
                shown(&self.settings().scandir)
            ),
        )
        .remedy(format!(
            "run hermes-s6 {command} as root (docker exec -u root)"
        )))
    }

    /// Refuses to remove the slot of the gateway that this command was called from.
    ///
    /// An agent may remove profiles. But to remove its own one, it would end itself before the work is done.
    pub fn spare_caller(&self, names: &[ProfileName]) -> Result<()> {
        if names.contains(&self.settings().own_profile()) {
            refuse_inside(Verb::Remove)?;
        }
        Ok(())
    }
}

/// The variable that Hermes sets in a gateway. Every program that an agent runs there inherits it.
const INSIDE_VARIABLE: &str = "_HERMES_GATEWAY";

/// Tells whether this command was called from within a gateway.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE_VARIABLE).is_some_and(|value| !value.is_empty())
}

/// Refuses a verb that would end the gateway that this command was called from, and so the command itself.
pub fn refuse_inside(verb: Verb) -> Result<()> {
    let word = match verb {
        Verb::Restart => "restart",
        Verb::Start => return Ok(()),
        _ => "stop",
    };
    if !is_inside() {
        return Ok(());
    }
    Err(Error::new(
        Code::No,
        format!("refusing to {word} the gateway from inside the gateway process: it would end this command too"),
    )
    .remedy("run it from a shell outside the gateway"))
}
