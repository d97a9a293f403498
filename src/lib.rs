//! Supervises the gateways of Hermes Agent profiles with s6.
//!
//! The program reads, decides, and writes; what decides does no I/O.
//!
//! - [`cli`] is what was typed, [`settings`] what it means; [`root`] is where "/" is, and [`rights`]
//!   whose rights are used.
//! - [`survey`] reads the volume, [`scandir`] the slots and [`supervision`] what s6 says of them,
//!   all through [`beneath`], which follows no link that somebody else could have made.
//! - [`plan`] decides, with [`state`] for intents, [`container`] for the container's role, [`port`]
//!   and [`capacity`].
//! - [`slot`] renders service directories from `templates/`, quoted by [`word`]; [`apply`] writes.
//! - [`reconcile`], [`supervise`], [`status`] and [`detect`] are the commands; [`chain`] is what the
//!   scripts of a slot run.
//! - [`error`] is the one error with the exit codes; [`report`] is all that prints.

#![forbid(unsafe_code)]

pub mod account;
pub mod apply;
pub mod beneath;
pub mod capacity;
pub mod chain;
pub mod child;
pub mod cli;
pub mod container;
pub mod detect;
pub mod error;
pub mod name;
pub mod plan;
pub mod port;
pub mod reconcile;
pub mod report;
pub mod rights;
pub mod root;
pub mod scandir;
pub mod settings;
pub mod slot;
pub mod state;
pub mod status;
pub mod supervise;
pub mod supervision;
pub mod survey;
pub mod tool;
pub mod wait;
pub mod word;

use std::fs::OpenOptions;
use std::io::{IsTerminal, Read};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::path::Path;

use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::{Cli, Command, Common};
use crate::error::{Code, Error, Result};
use crate::name::ProfileName;
use crate::plan::VolumeChanges;
use crate::rights::Rights;
use crate::scandir::ScanDir;
use crate::settings::Settings;
use crate::slot::Renderer;
use crate::survey::Survey;
use crate::tool::Tools;

/// Runs the program, and gives its exit code.
pub fn main() -> u8 {
    own_standard_descriptors();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        report::fatal(
            &Error::new(Code::Bug, format!("a defect at {place}")).remedy("please report it"),
        );
        std::process::exit(Code::Bug as i32);
    }));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(&cli.common, cli.command) {
        Ok(code) => code,
        Err(error) => {
            report::fatal(&error);
            error.code() as u8
        }
    }
}

/// Takes up closed standard descriptors, so that no file of ours is mistaken for one of them.
fn own_standard_descriptors() {
    let closed = |fd: BorrowedFd| rustix::io::fcntl_getfd(fd).is_err();
    for standard in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ] {
        if closed(standard) {
            // The lowest free descriptor is the one that is closed.
            let null = OpenOptions::new().read(true).write(true).open("/dev/null");
            let _kept = null.map(IntoRawFd::into_raw_fd);
        }
    }
}

/// How the lines begin that clap adds to a message.
const USAGE_TAIL: [&str; 3] = ["Usage:", "tip:", "For more information"];

/// Prints help and version as asked, and a usage error as one line.
fn usage(error: &clap::Error) -> u8 {
    let text = error.render().to_string();
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        report::print(&text);
        return Code::Done as u8;
    }
    let said: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !USAGE_TAIL.iter().any(|tail| line.starts_with(tail)))
        .filter(|line| !line.is_empty())
        .collect();
    let said = said.join(" ");
    let said = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "no command is given",
        _ => said.strip_prefix("error: ").unwrap_or(&said),
    };
    report::fatal(&Error::new(Code::Usage, said).remedy("see hermes-s6 --help"));
    Code::Usage as u8
}

fn run(common: &Common, command: Command) -> Result<u8> {
    match command {
        Command::Render { profile, out } => {
            let context = Context::of(common)?;
            let tools = context.enter()?;
            let profile = context.profile(profile.profile, &tools)?;
            render(&context, &tools, &profile, out.as_deref())
        }
        Command::Reconcile { dry_run, json } => {
            let context = Context::of(common)?;
            if let Rights::Drop(_) = context.rights {
                rights::make_scandir(&context.settings, &context.rights)?;
            }
            let tools = context.enter()?;
            context.warn();
            let outcome = if dry_run {
                reconcile::dry_run(&context.settings, &context.rights, tools)?
            } else {
                reconcile::Session::begin(&context.settings, &context.rights, tools)?
                    .converge(false)?
            };
            reconcile::say(&outcome, json, dry_run);
            Ok(outcome.code() as u8)
        }
        Command::Supervise { notification_fd } => {
            let context = Context::of(common)?;
            if context.rights == Rights::Own || context.rights.drop_to().is_some() {
                context.warn();
            }
            let tools = Tools::find(&context.settings)?;
            supervise::supervise(&context.settings, &context.rights, &tools, notification_fd)?;
            Ok(Code::Done as u8)
        }
        Command::Detect { json } => {
            let detection = detection(common)?;
            if json {
                report::json(&detection);
            } else {
                report::line(&format!("{}: {}", detection.manager, detection.reason));
            }
            Ok(if detection.is_s6() {
                Code::Done
            } else {
                Code::No
            } as u8)
        }
        Command::Status { profile, json } => {
            let mut status = status_report(common)?;
            for wanted in &profile {
                if !status.profiles.iter().any(|row| row.profile == *wanted) {
                    return Err(no_such_profile(wanted));
                }
            }
            status
                .profiles
                .retain(|row| profile.is_empty() || profile.contains(&row.profile));
            if json {
                report::json(&status);
            } else {
                let colour =
                    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
                report::print(&status::table(&status, colour));
            }
            let missing = status.profiles.iter().any(status::Row::is_missing);
            Ok(if missing { Code::No } else { Code::Done } as u8)
        }
        Command::List { json } => {
            let status = status_report(common)?;
            if json {
                report::json(&status);
            } else {
                for row in &status.profiles {
                    report::line(&format!("{} {}", row.profile, row.state.word()));
                }
            }
            Ok(Code::Done as u8)
        }
        Command::Port { profile } => {
            let context = Context::of(common)?;
            let tools = context.enter()?;
            let survey = context.survey(&tools)?;
            let profile = context.profile_in(profile.profile, &survey)?;
            let given = survey.assigned_ports().get(&profile).copied();
            match status::port(&context.settings, &survey, &profile, given) {
                Some(port) => report::line(&port.to_string()),
                None => {
                    return Err(Error::new(
                        Code::No,
                        format!("profile {profile} has no port: all of 9200 to 9799 are given"),
                    )
                    .remedy("set API_SERVER_PORT in its .env"));
                }
            }
            Ok(Code::Done as u8)
        }
        Command::OwnEnv { prog } => Err(chain::own_env(&prog)),
        Command::HoldLock {
            timeout,
            home,
            prog,
        } => {
            let limit = std::time::Duration::from_millis(timeout);
            chain::hold_lock(&root::Root::new("/"), &home, limit, &prog)
        }
        Command::CheckReady { home } => {
            let ready = chain::check_ready(&home)?;
            Ok(if ready { Code::Done } else { Code::No } as u8)
        }
        Command::Survey => {
            let settings = Settings::gather(common)?;
            let survey = survey::survey(&settings)?;
            let answer = serde_json::to_vec(&survey)
                .map_err(|error| Error::new(Code::Bug, error.to_string()))?;
            report::bytes(&answer);
            Ok(Code::Done as u8)
        }
        Command::Settle => {
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
            report::json(&apply::volume::settle(&settings, &changes));
            Ok(Code::Done as u8)
        }
    }
}

/// What was asked for and whose rights are used for it.
struct Context {
    settings: Settings,
    rights: Rights,
}

impl Context {
    fn of(common: &Common) -> Result<Self> {
        let settings = Settings::gather(common)?;
        let rights = Rights::of(&settings)?;
        Ok(Self { settings, rights })
    }

    /// Finds the tools; a root process that serves somebody else's tree becomes that user first.
    fn enter(&self) -> Result<Tools> {
        let tools = Tools::find(&self.settings)?;
        match &self.rights {
            Rights::Drop(account) => {
                Err(rights::become_account(account, &tools, &self.settings, &[]))
            }
            _ => Ok(tools),
        }
    }

    fn warn(&self) {
        self.settings
            .warnings
            .iter()
            .for_each(|warning| report::warning(warning));
    }

    fn survey(&self, tools: &Tools) -> Result<Survey> {
        reconcile::look(&self.settings, &self.rights, tools)
    }

    /// Finds the profile that a command is about, which must exist.
    fn profile(&self, given: Option<ProfileName>, tools: &Tools) -> Result<ProfileName> {
        self.profile_in(given, &self.survey(tools)?)
    }

    fn profile_in(&self, given: Option<ProfileName>, survey: &Survey) -> Result<ProfileName> {
        let profile = given
            .or_else(|| self.settings.home_profile.clone())
            .or_else(|| survey.active.clone())
            .unwrap_or_else(ProfileName::default_profile);
        survey
            .profiles
            .get(&profile)
            .map(|_| profile.clone())
            .ok_or_else(|| no_such_profile(&profile))
    }
}

/// Finds out who supervises. Where there is no s6, or no user to serve, nobody does.
fn detection(common: &Common) -> Result<detect::Detection> {
    let context = Context::of(common).and_then(|context| {
        context.enter()?;
        Ok(context)
    });
    match context {
        Ok(context) => Ok(detect::detect(&context.settings)),
        Err(error) if error.code() == Code::System => Err(error),
        Err(error) => Ok(detect::Detection::none(error.to_string())),
    }
}

fn no_such_profile(profile: &ProfileName) -> Error {
    Error::new(Code::Usage, format!("profile {profile} does not exist"))
        .remedy(format!("create it with hermes profile create {profile}"))
}

fn render(
    context: &Context,
    tools: &Tools,
    profile: &ProfileName,
    out: Option<&Path>,
) -> Result<u8> {
    let survey = context.survey(tools)?;
    let port = survey.assigned_ports().get(profile).copied();
    let renderer = Renderer::new(&context.settings, tools, context.rights.drop_to());
    let files = renderer.render(profile, port)?;
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
        return Ok(Code::Done as u8);
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
    Ok(Code::Done as u8)
}

fn status_report(common: &Common) -> Result<status::Report> {
    let context = Context::of(common)?;
    let tools = context.enter()?;
    let scandir: ScanDir = supervise::open_tree(&context.settings)?;
    status::report(&context.settings, &scandir, &context.survey(&tools)?)
}
