//! What a command works with: the settings, whose rights are used, and the tree that runs.

use std::time::Duration;

use crate::cli::Common;
use crate::error::{Code, Error, Result, shown};
use crate::hermes::name::ProfileName;
use crate::report;
use crate::rights::{self, Rights};
use crate::s6::supervision::{Status, supervised};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::account::Account;
use crate::tree::detect::detect;
use crate::tree::lifecycle::Lifecycle;
use crate::tree::lifecycle::request::Verb;
use crate::tree::reconcile::Session;
use crate::tree::scandir::{ScanDir, choices_of_tree};
use crate::view::row::Report;
use crate::view::status;
use crate::volume::survey::{Skipped, Survey, survey, survey_as};

/// What was asked for, and whose rights are used for it.
#[derive(Debug)]
pub struct Context {
    /// What was asked for.
    pub settings: Settings,
    /// Whose rights are used.
    pub rights: Rights,
}

impl Context {
    /// Finds everything out; a root process that serves somebody else's tree becomes that user first.
    pub fn enter(common: &Common) -> Result<Self> {
        let context = Self::of(Settings::gather(common)?)?;
        match &context.rights {
            Rights::Drop(account) => Err(context.become_account(account)),
            _ => Ok(context),
        }
    }

    /// Does the same for a command that needs nothing but the volume, where root's slots do not matter.
    pub fn enter_volume(common: &Common) -> Result<Self> {
        let context = Self::of(Settings::gather(common)?)?;
        match &context.rights {
            Rights::Drop(account) | Rights::Direct(account) => Err(context.become_account(account)),
            Rights::Own => Ok(context),
        }
    }

    /// Starts this command anew as the account, and gives why that failed.
    fn become_account(&self, account: &Account) -> Error {
        match Tools::find(&self.settings) {
            Ok(tools) => rights::become_account(account, &tools, &self.settings, &[]),
            Err(error) => error,
        }
    }

    /// Works out whose rights are used; nothing is changed yet.
    pub fn of(mut settings: Settings) -> Result<Self> {
        let rights = Rights::of(&settings)?;
        if !matches!(rights, Rights::Drop(_)) {
            take_path_of_tree(&mut settings);
        }
        Ok(Self { settings, rights })
    }

    /// Says which settings are ignored.
    pub fn warn(&self) {
        self.settings
            .warnings
            .iter()
            .for_each(|warning| report::warning(warning));
    }

    /// Looks at the volume, as [`survey`] does.
    pub fn survey(&self, only: &[ProfileName]) -> Result<Survey> {
        match self.rights {
            // Root needs the programs for that.
            Rights::Direct(_) => {
                let tools = Tools::find(&self.settings)?;
                survey_as(&self.settings, &self.rights, &tools, only)
            }
            _ => survey(&self.settings, only),
        }
    }

    /// Looks at all slots and profiles of the tree.
    pub fn report(&self) -> Result<Report> {
        let scandir = ScanDir::open_tree(&self.settings)?;
        scandir.owner_for(&self.settings)?;
        status::report(&self.settings, &scandir, &self.survey(&[])?, &[])
    }

    /// Finds the profile that a command is about, which must exist.
    pub fn profile(&self, given: Option<ProfileName>, survey: &Survey) -> Result<ProfileName> {
        let profile = given.unwrap_or_else(|| survey.meant(&self.settings));
        must_exist(&profile, survey)?;
        Ok(profile)
    }
}

/// Refuses a profile that is not on the volume, and says what is there in its place.
pub fn must_exist(profile: &ProfileName, survey: &Survey) -> Result<()> {
    if survey.profiles.contains_key(profile) {
        return Ok(());
    }
    let named = |skipped: &&Skipped| skipped.name == profile.as_str();
    if let Some(skipped) = survey.skipped.iter().find(named) {
        let what = format!("profile {profile}: {}", skipped.problem.text);
        return Err(Error::new(Code::Usage, what));
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

/// Makes the error for a profile that nobody has made.
pub fn no_such_profile(profile: &ProfileName) -> Error {
    Error::new(Code::Usage, format!("profile {profile} does not exist"))
        .remedy(format!("create it with hermes profile create {profile}"))
}

/// A data root can have several paths. A tree that runs keeps the one that it was started with: its scripts name
/// it.
fn take_path_of_tree(settings: &mut Settings) {
    let scandir = ScanDir::open(settings).ok();
    let owner = scandir.and_then(|scandir| scandir.live_owner(settings));
    if let Some(owner) = owner.filter(|owner| owner.serves(settings)) {
        settings.home = owner.home;
    }
}

/// A tree that runs, and what is asked of it.
#[derive(Debug)]
pub struct Tree {
    /// What was asked for, and whose rights are used.
    pub context: Context,
    /// Where the slots are.
    pub scandir: ScanDir,
    /// The programs that its slots name.
    pub tools: Tools,
}

impl Tree {
    /// Opens the tree. Unless it has to be `watched`, supervisors that have outlived their s6-svscan will
    /// do: what they have can still be stopped.
    pub fn enter(common: &Common, watched: bool) -> Result<Self> {
        let context = Context::enter(common)?;
        context.warn();
        let settings = &context.settings;
        let scandir = ScanDir::open_tree(settings)?;
        scandir.owner_for(settings)?;
        let detection = detect(settings);
        let tools = choices_of_tree(settings, &context.rights, Tools::find(settings))?.tools;
        let tree = Self {
            context,
            scandir,
            tools,
        };
        let survives = |name: &ProfileName| tree.status(name).is_some();
        if detection.is_s6() || (!watched && tree.scandir.profiles()?.iter().any(survives)) {
            return Ok(tree);
        }
        Err(Error::new(Code::Unsupervised, detection.reason)
            .remedy("start the tree with hermes-s6 supervise"))
    }

    /// Gives what was asked for.
    pub fn settings(&self) -> &Settings {
        &self.context.settings
    }

    /// Gives whose rights are used.
    pub fn rights(&self) -> &Rights {
        &self.context.rights
    }

    /// Looks at the volume. One that cannot be read keeps nobody from being stopped.
    pub fn survey(&self, only: &[ProfileName], verb: Verb) -> Result<Survey> {
        match self.context.survey(only) {
            Err(error) if !verb.is_up() => {
                report::warning(&error.to_string());
                Ok(Survey::default())
            }
            survey => survey,
        }
    }

    /// Reads what s6 makes of a slot that has a supervisor.
    pub fn status(&self, name: &ProfileName) -> Option<Status> {
        supervised(&self.scandir.slot(name).ok()?).map(|(status, _)| status)
    }

    /// Tells whether s6 has been told to have a gateway up.
    pub fn is_wanted_up(&self, name: &ProfileName) -> bool {
        self.status(name).is_some_and(|status| status.wanted_up)
    }

    /// Tells whether a gateway runs, or is about to.
    pub fn is_not_down(&self, name: &ProfileName) -> bool {
        self.status(name).is_some_and(|status| !status.is_down())
    }

    /// Opens the scan directory for changes. Others that change it are waited for, for at most `limit`.
    pub fn session(&self, limit: Duration) -> Result<Session<'_>> {
        Session::begin(self.settings(), self.rights(), self.tools.clone(), limit)
    }

    /// Gives what starts and stops gateways.
    pub fn lifecycle(&self) -> Lifecycle<'_> {
        Lifecycle {
            settings: self.settings(),
            rights: self.rights(),
            tools: &self.tools,
            scandir: &self.scandir,
        }
    }

    /// Refuses to add or remove slots where only somebody else can.
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

    /// Refuses to remove the slot of the gateway that this command was called from: an agent may remove
    /// profiles, and would end itself before it has done so.
    pub fn spare_caller(&self, names: &[ProfileName]) -> Result<()> {
        if names.contains(&self.settings().own_profile()) {
            refuse_inside(Verb::Remove)?;
        }
        Ok(())
    }
}

/// The variable that Hermes sets in a gateway, and so in everything that an agent runs there.
const INSIDE_VARIABLE: &str = "_HERMES_GATEWAY";

/// Tells whether this command was called from within a gateway.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE_VARIABLE).is_some_and(|value| !value.is_empty())
}

/// Refuses what would end the gateway that this command was called from, and the command with it.
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
