//! The commands: each puts together what the other modules do, and gives its exit code.

pub mod chain;
pub mod child;
pub mod hermes;
mod operate;

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use self::operate::operate;
use crate::cli::{Command, Common, Selection};
use crate::error::{Code, Error, Result};
use crate::hermes::name::ProfileName;
use crate::report;
use crate::rights::{self, Rights};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::account::Account;
use crate::system::root::Root;
use crate::tree::apply;
use crate::tree::detect::{Detection, detect};
use crate::tree::lifecycle::Verb;
use crate::tree::plan::VolumeChanges;
use crate::tree::reconcile::{self, Session};
use crate::tree::scandir::LOCK_WAIT;
use crate::tree::slot::Renderer;
use crate::tree::supervise;
use crate::view::doctor;
use crate::view::logs;
use crate::view::metrics;
use crate::view::status::{self, Report, Row};
use crate::view::table;
use crate::volume::survey::{Skipped, Survey, survey};
use crate::volume::write::settle;

/// How many lines of its log the status of one profile shows.
const LOG_LINES: usize = 10;

/// Runs a command.
pub fn run(common: &Common, command: Command) -> Result<u8> {
    match command {
        Command::Render { profile, out } => render(common, profile.profile, out.as_deref()),
        Command::Reconcile { dry_run, json } => reconcile(common, dry_run, json),
        Command::Supervise { notification_fd } => supervise(common, notification_fd),
        Command::Detect { json } => detection(common, json),
        Command::Start {
            selection,
            unless_stopped,
            waiting,
        } => operate(common, Verb::Start, &selection, waiting, unless_stopped),
        Command::Stop { selection, waiting } => {
            operate(common, Verb::Stop, &selection, waiting, false)
        }
        Command::Restart { selection, waiting } => {
            operate(common, Verb::Restart, &selection, waiting, false)
        }
        Command::Shutdown { timeout, json } => operate::shutdown(common, timeout, json),
        Command::Register { selection } => operate::register(common, &selection),
        Command::Unregister { selection } => operate::unregister(common, &selection),
        Command::Rename { old, new } => operate::rename(common, &old, &new, false),
        Command::Dispatch {
            action,
            profile,
            all,
            prog,
        } => operate::dispatch(common, &action, Selection { profile, all }, &prog),
        Command::Status {
            profile,
            json,
            format,
        } => {
            let format = format.as_deref().filter(|_| !json);
            show_status(
                common,
                &profile,
                format.unwrap_or(if json { "json" } else { "table" }),
            )
        }
        Command::Logs {
            selection,
            lines,
            follow,
        } => show_logs(common, &selection, lines, follow),
        Command::Doctor { json } => diagnose(common, json),
        Command::List { json } => list(common, json),
        Command::Port { profile } => port(common, profile.profile),
        Command::OwnEnv { prog } => return Err(chain::own_env(&prog)),
        Command::HoldLock {
            timeout,
            directory,
            prog,
        } => {
            let limit = Duration::from_millis(timeout);
            return chain::hold_lock(&Root::new("/"), &directory, limit, &prog);
        }
        Command::AwaitLock { timeout, directory } => {
            chain::await_lock(&directory, Duration::from_millis(timeout)).map(|()| Code::Done)
        }
        Command::CheckReady { directory } => {
            chain::check_ready(&Root::new("/"), &directory).map(yes)
        }
        Command::Survey { profile } => answer_survey(common, &profile),
        Command::Examine => answer_examine(common),
        Command::Settle => answer_settle(common),
    }
    .map(|code| code as u8)
}

fn yes(answer: bool) -> Code {
    if answer { Code::Done } else { Code::No }
}

fn render(common: &Common, profile: Option<ProfileName>, out: Option<&Path>) -> Result<Code> {
    let context = Context::enter(common)?;
    let survey = context.survey(&[])?;
    let profile = context.profile(profile, &survey)?;
    let port = survey.assigned_ports().get(&profile).copied();
    let tools = Tools::find(&context.settings)?;
    let choices = reconcile::choices_of_tree(&context.settings, &context.rights, Ok(tools))?;
    let renderer = Renderer::new(&context.settings, &choices, context.rights.drop_to());
    let files = renderer.render(&profile, port)?;
    if let Some(out) = out {
        let place = out.join(profile.slot());
        if place.symlink_metadata().is_ok() {
            return Err(
                Error::new(Code::Usage, format!("{} is already there", place.display()))
                    .remedy("remove it, or name another directory with --out"),
            );
        }
        apply::write_tree(&place, &files)?;
        report::line(&place.display().to_string());
        return Ok(Code::Done);
    }
    for (path, file) in &files {
        report::line(&format!(
            "==> {}/{path} ({:04o}) <==",
            profile.slot(),
            file.mode
        ));
        report::bytes(&file.content);
        report::line("");
    }
    Ok(Code::Done)
}

fn reconcile(common: &Common, dry_run: bool, json: bool) -> Result<Code> {
    let settings = Settings::gather(common)?;
    let rights = Rights::of(&settings)?;
    if matches!(rights, Rights::Drop(_)) && !dry_run {
        // What only root can: afterwards all is done by the user of the gateways.
        rights::make_scandir(&settings, &rights)?;
    }
    let context = Context::enter(common)?;
    context.warn();
    let Context { settings, rights } = context;
    let tools = Tools::find(&settings)?;
    let outcome = if dry_run {
        reconcile::dry_run(&settings, &rights, tools)?
    } else {
        Session::begin(&settings, &rights, tools, LOCK_WAIT)?.converge(false, None)?
    };
    reconcile::say(&outcome, json, dry_run);
    Ok(outcome.code())
}

fn supervise(common: &Common, notification_fd: Option<u64>) -> Result<Code> {
    let context = Context::of(Settings::gather(common)?)?;
    let tools = Tools::find(&context.settings)?;
    if !matches!(context.rights, Rights::Drop(_)) {
        context.warn();
    }
    supervise::supervise(&context.settings, &context.rights, &tools, notification_fd)?;
    Ok(Code::Done)
}

/// Finds out who supervises. Where there is no s6, or no user to serve, nobody does.
fn detection(common: &Common, json: bool) -> Result<Code> {
    // What was typed must make sense; that there is no user to serve is an answer.
    Settings::gather(common)?;
    let detection = match Context::enter(common) {
        Ok(context) => detect(&context.settings),
        Err(error) if error.code() == Code::System => return Err(error),
        Err(error) => Detection::none(error.to_string()),
    };
    if json {
        report::json(&detection);
    } else {
        report::line(&format!("{}: {}", detection.manager, detection.reason));
    }
    Ok(yes(detection.is_s6()))
}

fn show_status(common: &Common, profiles: &[ProfileName], format: &str) -> Result<Code> {
    let context = Context::enter(common)?;
    let mut status = look(&context)?;
    for wanted in profiles {
        if !status.profiles.iter().any(|row| row.profile == *wanted) {
            return Err(no_such_profile(wanted));
        }
    }
    status
        .profiles
        .retain(|row| profiles.is_empty() || profiles.contains(&row.profile));
    match format {
        "json" => report::json(&status),
        "prometheus" => report::print(&metrics::exposition(&status)),
        _ => {
            report::print(&table::table(&status, report::colour()));
            if let ([_], [row]) = (profiles, status.profiles.as_slice()) {
                // Root reads nothing that hermes could have put there.
                let root = matches!(context.rights, Rights::Direct(_));
                let log =
                    (!root).then(|| logs::last_lines(&context.settings, &row.profile, LOG_LINES));
                report::print(&table::details(&status.manager, row, log));
            }
        }
    }
    Ok(yes(!status.profiles.iter().any(Row::is_missing)))
}

fn list(common: &Common, json: bool) -> Result<Code> {
    let status = look(&Context::enter(common)?)?;
    if json {
        report::json(&status);
    } else {
        for row in &status.profiles {
            let state = row.state.words().replace(' ', "-");
            report::line(&format!("{} {state}", row.profile));
        }
    }
    Ok(Code::Done)
}

fn look(context: &Context) -> Result<Report> {
    let scandir = supervise::open_tree(&context.settings)?;
    reconcile::owner_of(&context.settings, &scandir)?;
    status::report(&context.settings, &scandir, &context.survey(&[])?, &[])
}

fn port(common: &Common, profile: Option<ProfileName>) -> Result<Code> {
    let context = Context::enter(common)?;
    let survey = context.survey(&[])?;
    let profile = context.profile(profile, &survey)?;
    let given = survey.assigned_ports().get(&profile).copied();
    let port = status::port(&context.settings, &survey, &profile, given).ok_or_else(|| {
        let what = format!("profile {profile} has no port: all of 9200 to 9799 are given");
        Error::new(Code::No, what).remedy("set API_SERVER_PORT in its .env")
    })?;
    report::line(&port.to_string());
    Ok(Code::Done)
}

fn show_logs(common: &Common, selection: &Selection, lines: usize, follow: bool) -> Result<Code> {
    let context = Context::enter_volume(common)?;
    let survey = context.survey(&[])?;
    let mut profiles: Vec<ProfileName> = Vec::new();
    if selection.all {
        profiles.extend(survey.profiles.keys().cloned());
    } else if selection.profile.is_empty() {
        profiles.push(context.profile(None, &survey)?);
    }
    for profile in &selection.profile {
        if !logs::is_logged(&context.settings, profile) {
            context.profile(Some(profile.clone()), &survey)?;
        }
        if !profiles.contains(profile) {
            profiles.push(profile.clone());
        }
    }
    logs::show(&context.settings, profiles, lines, follow)
}

fn answer_survey(common: &Common, profiles: &[ProfileName]) -> Result<Code> {
    report::json(&survey(&Settings::gather(common)?, profiles)?);
    Ok(Code::Done)
}

/// Finds what is wrong. Whatever cannot be looked at is a finding, and no reason to end.
fn diagnose(common: &Common, json: bool) -> Result<Code> {
    let settings = Settings::gather(common)?;
    let rights = Context::enter(common).map(|context| context.rights);
    let diagnosis = doctor::diagnose(&settings, rights);
    if json {
        report::json(&diagnosis);
    } else {
        report::print(&doctor::text(&diagnosis, report::colour()));
    }
    Ok(yes(diagnosis.ok))
}

fn answer_examine(common: &Common) -> Result<Code> {
    let settings = Settings::gather(common)?;
    report::json(&doctor::volume::examine(
        &settings,
        &survey(&settings, &[])?,
    ));
    Ok(Code::Done)
}

fn answer_settle(common: &Common) -> Result<Code> {
    let settings = Settings::gather(common)?;
    let mut request = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut request)
        .map_err(|cause| Error::system("read", "stdin", cause))?;
    let changes: VolumeChanges = serde_json::from_slice(&request).map_err(|error| {
        Error::new(
            Code::Usage,
            format!("unable to understand the changes: {error}"),
        )
    })?;
    report::json(&settle(&settings, &changes));
    Ok(Code::Done)
}

/// What was asked for, and whose rights are used for it.
struct Context {
    settings: Settings,
    rights: Rights,
}

impl Context {
    /// Finds everything out; a root process that serves somebody else's tree becomes that user first.
    fn enter(common: &Common) -> Result<Self> {
        let context = Self::of(Settings::gather(common)?)?;
        match &context.rights {
            Rights::Drop(account) => Err(context.become_account(account)),
            _ => Ok(context),
        }
    }

    /// Does the same for a command that needs nothing but the volume, where root's slots do not matter.
    fn enter_volume(common: &Common) -> Result<Self> {
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

    fn of(settings: Settings) -> Result<Self> {
        let rights = Rights::of(&settings)?;
        Ok(Self { settings, rights })
    }

    fn warn(&self) {
        self.settings
            .warnings
            .iter()
            .for_each(|warning| report::warning(warning));
    }

    /// Looks at the volume, as [`survey`] does.
    fn survey(&self, only: &[ProfileName]) -> Result<Survey> {
        match self.rights {
            // Root needs the programs for that.
            Rights::Direct(_) => {
                let tools = Tools::find(&self.settings)?;
                reconcile::look(&self.settings, &self.rights, &tools, only)
            }
            _ => survey(&self.settings, only),
        }
    }

    /// Finds the profile that a command is about, which must exist.
    fn profile(&self, given: Option<ProfileName>, survey: &Survey) -> Result<ProfileName> {
        let profile = given.unwrap_or_else(|| survey.meant(&self.settings));
        must_exist(&profile, survey)?;
        Ok(profile)
    }
}

fn must_exist(profile: &ProfileName, survey: &Survey) -> Result<()> {
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

fn no_such_profile(profile: &ProfileName) -> Error {
    Error::new(Code::Usage, format!("profile {profile} does not exist"))
        .remedy(format!("create it with hermes profile create {profile}"))
}
