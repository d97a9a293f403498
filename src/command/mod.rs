//! The commands: each puts together what the floors beneath do, and gives its exit code.
//!
//! - `context` opens what a command works with. The commands on gateways are in `operate`: it looks, lets
//!   `choose` choose the profiles, carries the request out, and lets `outcome` print what happened. `dashboard` starts
//!   and stops the dashboard.
//! - `follow` adds and removes slots after changes on the volume.
//! - `environment` is the last thing that a gateway gets.
//! - [`hermes`] does the command lines of Hermes, and `handover` hands them on. [`chain`] has the programs in the
//!   scripts of a slot, `log` those that keep the logs going, and [`child`] the work that root gives to the owner of the volume.

pub mod chain;
pub mod child;
mod choose;
mod context;
mod dashboard;
mod environment;
mod follow;
mod handover;
pub mod hermes;
mod log;
mod operate;
mod outcome;

use std::path::Path;
use std::time::Duration;

use crate::cli::{Command, Common, Format, Selection, Target, Waiting};
use crate::command::context::{Context, no_such_profile};
use crate::error::{Code, Error, Result, shown};
use crate::hermes::name::ProfileName;
use crate::report;
use crate::rights::ask::show_by_child;
use crate::rights::{self, Rights};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::system::beneath::Dir;
use crate::system::process::end_with_parent;
use crate::system::root::Root;
use crate::tree::detect::{Detection, detect};
use crate::tree::lifecycle::request::Verb;
use crate::tree::reconcile::{self, Session};
use crate::tree::scandir::{LOCK_WAIT, ScanDir, choices_of_tree};
use crate::tree::slot::{Difference, Renderer, compare, write_new};
use crate::tree::supervise;
use crate::view::logs::Whose;
use crate::view::{doctor, logs, metrics, status, table};
use crate::volume::port::{NO_PORT_REMEDY, all_given};

/// Runs a command, and gives its exit code.
pub fn run(common: &Common, command: Command) -> Result<u8> {
    match command {
        Command::Render { profile, out } => render(common, profile.profile, out.as_deref()),
        Command::Reconcile { dry_run, json } => reconcile(common, dry_run, json),
        Command::Supervise { notification_fd } => supervise(common, notification_fd),
        Command::Detect { json } => detection(common, json),
        Command::Start {
            target,
            unless_stopped,
            waiting,
        } => operate(common, Verb::Start, &target, waiting, unless_stopped),
        Command::Stop { target, waiting } => operate(common, Verb::Stop, &target, waiting, false),
        Command::Restart { target, waiting } => {
            operate(common, Verb::Restart, &target, waiting, false)
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
            ready,
            out,
        } => {
            let format = if json { Format::Json } else { format };
            show_status(common, &profile, format, ready, out.as_deref())
        }
        Command::Logs {
            target,
            lines,
            follow,
        } => show_logs(common, &target, lines, follow),
        Command::Doctor { json } => diagnose(common, json),
        Command::List { json } => list(common, json),
        Command::Port { profile } => port(common, profile.profile),
        Command::WithParent { parent, prog } => return Err(chain::with_parent(parent, &prog)),
        Command::OwnSession { prog } => return Err(chain::own_session(&prog)),
        Command::BackOff { prog } => return Err(chain::back_off(&prog)),
        Command::OwnEnv { prog } => return Err(chain::own_env(&prog)),
        Command::HoldLock {
            timeout,
            variable,
            directory,
            prog,
        } => {
            let limit = Duration::from_millis(timeout);
            let mut prog = chain::command(&prog);
            if let Some((name, value)) = variable
                && std::env::var_os(&name).is_none()
            {
                prog.env(name, value);
            }
            environment::complete(&mut prog, true)?;
            return chain::hold_lock(&Root::new("/"), &directory, limit, prog);
        }
        Command::ChooseLog { directory, words } => {
            return Err(log::choose(&Root::new("/"), &directory, &words)?);
        }
        Command::Tend { end: true, .. } => log::tend(true),
        Command::Tend { prog, .. } => {
            // Nothing of the tender outlives the tree.
            end_with_parent();
            let tended = log::tend(false);
            if prog.is_empty() {
                return tended.map(|code| code as u8);
            }
            if let Err(error) = tended {
                report::warning(&error.to_string());
            }
            return Err(chain::exec(chain::command(&prog)));
        }
        Command::CheckReady { directory } => {
            chain::check_ready(&Root::new("/"), &directory).map(Code::of)
        }
        Command::CheckListens => chain::check_listens(&Root::new("/")).map(Code::of),
        Command::Survey { profile } => child::answer_survey(common, &profile),
        Command::ReadLogs {
            profile,
            dashboard,
            lines,
            follow,
        } => child::read_logs(common, Whose::of(dashboard), profile, lines, follow),
        Command::Reach => child::answer_reach(common),
        Command::Names => child::answer_names(common),
        Command::EndOrphan { profile, timeout } => {
            child::answer_end_orphan(common, &profile, timeout)
        }
        Command::Examine => child::answer_examine(common),
        Command::Settle => child::answer_settle(common),
    }
    .map(|code| code as u8)
}

/// Starts, stops or restarts gateways, or the dashboard.
fn operate(
    common: &Common,
    verb: Verb,
    target: &Target,
    waiting: Waiting,
    unless_stopped: bool,
) -> Result<Code> {
    if target.dashboard {
        return dashboard::operate(common, verb, waiting);
    }
    operate::operate(common, verb, &target.selection, waiting, unless_stopped)
}

fn render(common: &Common, profile: Option<ProfileName>, out: Option<&Path>) -> Result<Code> {
    let context = Context::enter(common)?;
    let survey = context.survey(&[])?;
    let profile = context.profile(profile, &survey)?;
    let ports = survey.assigned_ports(&context.settings);
    let port = ports.get(&profile).copied();
    let scandir = ScanDir::open_if_there(&context.settings)?;
    let find = || Tools::find(&context.settings);
    let choices = choices_of_tree(&context.settings, &context.rights, scandir.as_ref(), find)?;
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
        std::fs::create_dir_all(out).map_err(|cause| Error::system("create", out, cause))?;
        let slot = write_new(&Dir::open(out)?, &profile.slot(), &files)?;
        if compare(&slot, &files) != Difference::default() {
            let what = format!("{} does not hold what was written there", place.display());
            return Err(Error::new(Code::System, what).remedy("look at the file system"));
        }
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
    let context = Context::of(Settings::gather(common)?)?;
    if matches!(context.rights, Rights::Drop(_)) && !dry_run {
        // Only root can do this. After it, the user of the gateways does the rest.
        rights::make_scandir(&context.settings, &context.rights)?;
    }
    let context = context.into_owner()?;
    context.warn();
    let Context { settings, rights } = context;
    let tools = Tools::find(&settings)?;
    let outcome = if dry_run {
        reconcile::dry_run(&settings, &rights, tools)?
    } else {
        Session::begin(&settings, &rights, tools, LOCK_WAIT)?.converge(false, None)?
    };
    outcome::say_converged(&outcome, json, dry_run);
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

/// Finds out whether s6 supervises. Without a user whose gateways it could supervise, the answer is no.
fn detection(common: &Common, json: bool) -> Result<Code> {
    // Wrong usage stays an error; below, the other errors become an answer.
    let settings = Settings::gather(common)?;
    let detection = match Context::of(settings).and_then(Context::into_owner) {
        Ok(context) => detect(&context.settings)?,
        Err(error) if error.code() == Code::System => return Err(error),
        Err(error) => Detection::none(error.to_string()),
    };
    if json {
        report::json(&detection);
    } else {
        let text = format!("{}: {}", detection.manager, detection.reason);
        report::line(&report::one_line(&text));
    }
    Ok(Code::of(detection.is_s6()))
}

fn show_status(
    common: &Common,
    profiles: &[ProfileName],
    format: Format,
    ready: bool,
    out: Option<&Path>,
) -> Result<Code> {
    let context = Context::enter(common)?;
    let mut status = context.report()?;
    let is_read = status.volume.is_none();
    for wanted in profiles.iter().filter(|_| is_read) {
        if !status.profiles.iter().any(|row| row.profile == *wanted) {
            return Err(no_such_profile(wanted));
        }
    }
    if !profiles.is_empty() {
        status.dashboard = None;
        status
            .profiles
            .retain(|row| profiles.contains(&row.profile));
    }
    let text = match format {
        Format::Json => {
            report::json_line(&status).map_err(|cause| Error::system("write", "the JSON", cause))?
        }
        Format::Prometheus => metrics::exposition(&status),
        Format::Table => {
            let mut text = table::table(&status, out.is_none() && report::colour());
            if let ([_], [row]) = (profiles, status.profiles.as_slice()) {
                // Root does not read the log: its owner could have replaced it by anything.
                let we_are_root = matches!(context.rights, Rights::Direct(_));
                let log = (!we_are_root && is_read).then(|| {
                    logs::last_lines(
                        &context.settings,
                        Whose::Gateways,
                        &row.profile,
                        logs::EXCERPT,
                    )
                });
                text += &table::details(&status.manager, row, log);
            }
            text
        }
    };
    match out {
        Some(file) => write_out(&context.rights, file, &text)?,
        None => report::print(&text),
    }
    Ok(if ready {
        status.code_of_ready()
    } else {
        status.code()
    })
}

/// Writes what a command shows into a file of the operator's.
///
/// Root follows no link on the way there: the user of the gateways could have made it.
fn write_out(rights: &Rights, file: &Path, text: &str) -> Result<()> {
    let is_directory = file.as_os_str().as_encoded_bytes().ends_with(b"/");
    let Some(name) = file.file_name().filter(|_| !is_directory) else {
        let what = format!("--out '{}' is not the name of a file", shown(file));
        return Err(Error::new(Code::Usage, what).remedy("name a file in a directory"));
    };
    let place = file.parent().filter(|place| *place != Path::new(""));
    let place = place.unwrap_or(Path::new("."));
    let (place, remedy) = match rights {
        Rights::Direct(_) => (
            Dir::open_without_links(place),
            "name a directory that exists; root follows no link on the way there",
        ),
        _ => (Dir::open(place), "name a directory that exists"),
    };
    place
        .map_err(|error| error.remedy(remedy))?
        .publish(name, text.as_bytes())
}

fn list(common: &Common, json: bool) -> Result<Code> {
    let status = Context::enter(common)?.report()?;
    if json {
        report::json(&status);
    } else {
        for row in &status.profiles {
            let state = row.state.words().replace(' ', "-");
            report::line(&format!("{} {state}", row.profile));
        }
    }
    Ok(if status.volume.is_some() {
        Code::System
    } else {
        Code::Done
    })
}

fn port(common: &Common, profile: Option<ProfileName>) -> Result<Code> {
    let context = Context::enter(common)?;
    let survey = context.survey(&[])?;
    let profile = context.profile(profile, &survey)?;
    let settings = &context.settings;
    let set = survey.profiles.get(&profile);
    if let Some(problem) = set.and_then(|profile| profile.own_port.problem()) {
        return Err(Error::new(Code::System, problem.text.clone()));
    }
    let given = survey.assigned_ports(settings).get(&profile).copied();
    let port = status::port(settings, &survey, &profile, given).ok_or_else(|| {
        let all_given = all_given(&settings.ports);
        let what = format!("profile {profile} has no port: {all_given}");
        Error::new(Code::No, what).remedy(NO_PORT_REMEDY)
    })?;
    report::line(&port.to_string());
    Ok(Code::Done)
}

fn show_logs(common: &Common, target: &Target, lines: usize, follow: bool) -> Result<Code> {
    let context = Context::enter_volume(common)?;
    let whose = Whose::of(target.dashboard);
    let profiles = match whose {
        Whose::Gateways => logged(&context, &target.selection)?,
        Whose::Dashboard => Vec::new(),
    };
    let lines_word = lines.to_string();
    let mut words = vec!["read-logs", "-n", &lines_word];
    words.extend(follow.then_some("-f"));
    words.extend(target.dashboard.then_some("--dashboard"));
    words.extend(profiles.iter().flat_map(|name| ["-p", name.as_str()]));
    show_by_child(&context.settings, &words)
        .unwrap_or_else(|| logs::show(&context.settings, whose, profiles, lines, follow))
}

/// Gives the profiles whose logs are meant.
fn logged(context: &Context, selection: &Selection) -> Result<Vec<ProfileName>> {
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
    Ok(profiles)
}

/// Runs the doctor. What it cannot look at is a finding, and does not end the command.
fn diagnose(common: &Common, json: bool) -> Result<Code> {
    let settings = Settings::gather(common)?;
    let context = Context::of(settings.clone()).and_then(Context::into_owner);
    let diagnosis = doctor::diagnose(&settings, context.map(|context| context.rights));
    if json {
        report::json(&diagnosis);
    } else {
        report::print(&doctor::finding::text(&diagnosis, report::colour()));
    }
    Ok(Code::of(diagnosis.ok))
}
