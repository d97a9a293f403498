//! The operator's commands on gateways and slots: they look, choose the profiles, carry the request out, and
//! print the outcome.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process;
use std::time::Duration;

use crate::cli::{Common, Selection, Waiting};
use crate::command::choose::{Choice, Seen, choose, skipped};
use crate::command::context::{Tree, must_exist, refuse_inside};
use crate::command::dashboard;
use crate::command::follow::{Strayed, follow_renamed, follow_volume, strayed};
use crate::command::outcome::{Form, say};
use crate::error::{Code, Error, Result};
use crate::hermes::container::Command;
use crate::hermes::name::ProfileName;
use crate::hermes::state::Source;
use crate::report::{self, Warning};
use crate::rights::ask::{hurry, is_silent};
use crate::settings::Settings;
use crate::tree::detect::detect;
use crate::tree::lifecycle::Outcome;
use crate::tree::lifecycle::request::{End, Request, Verb};
use crate::tree::reconcile::Registered;
use crate::tree::remove::Failures;
use crate::tree::scandir::LOCK_WAIT;
use crate::view::status;
use crate::volume::survey::Survey;

/// The actions of `dispatch`: what Hermes can ask of a service manager, and s6 does.
const ACTIONS: [&str; 5] = ["start", "stop", "restart", "install", "uninstall"];

/// The number of attempts to start a gateway whose slot another command removes at the same time.
const ATTEMPTS: usize = 3;

/// Starts, stops or restarts gateways; `unless_stopped` leaves gateways down that their operator has stopped.
pub fn operate(
    common: &Common,
    verb: Verb,
    selection: &Selection,
    waiting: Waiting,
    unless_stopped: bool,
) -> Result<Code> {
    let form = Form::new(waiting.json);
    operate_as(form, common, verb, selection, waiting, unless_stopped)
}

/// Does the same as [`operate`], and prints the outcome in the given form.
pub fn operate_as(
    form: Form,
    common: &Common,
    verb: Verb,
    selection: &Selection,
    waiting: Waiting,
    unless_stopped: bool,
) -> Result<Code> {
    refuse_inside(verb)?;
    let request = Request {
        wait: !waiting.no_wait,
        timeout: waiting.timeout.map(Duration::from_secs),
        ..Request::new(verb)
    };
    hurry(request.timeout);
    let tree = Tree::enter(common, verb.is_up())?;
    // The survey says why the volume is silent.
    let warn = |error: Error| {
        if !is_silent() {
            report::warning(&error.to_string());
        }
    };
    let strayed = strayed(&tree).unwrap_or_else(|error| {
        warn(error);
        Strayed::default()
    });
    // This comes first: a gateway that still runs under the old name of a profile holds the lock that a gateway
    // under the new name needs.
    follow_renamed(&tree, &strayed, request.limit()).unwrap_or_else(warn);
    let survey = tree.survey(&selection.profile, verb)?;
    let needs_command = verb.is_up() && (selection.all || unless_stopped);
    let seen = look(&tree, &survey, selection, needs_command)?;
    let mut choice = choose(&seen, selection, verb, unless_stopped)?;
    let failures = std::mem::take(&mut choice.failures);
    let chosen = choice.print_and_take();
    if unless_stopped && chosen.is_empty() {
        // The reasons are printed already.
        return Ok(Code::No);
    }
    let code = carry_out(&tree, request, &survey, &chosen, failures, form)?;
    if strayed.any {
        follow_volume(&tree, request.limit()).unwrap_or_else(warn);
    }
    Ok(code)
}

/// Looks at everything that the choice of profiles depends on.
///
/// `needs_command` says that it depends also on the running gateways and on the container's command. To find that
/// command means to read every process.
fn look<'a>(
    tree: &'a Tree,
    survey: &'a Survey,
    selection: &Selection,
    needs_command: bool,
) -> Result<Seen<'a>> {
    let slots = if selection.all {
        tree.scandir.profiles()?
    } else {
        let named = selection.profile.iter().cloned();
        let is_unnamed = selection.profile.is_empty();
        let meant = is_unnamed
            .then(|| survey.meant(tree.settings()))
            .transpose()?;
        only(named.chain(meant), |name| tree.scandir.has_slot(name))?
    };
    let wanted_up = only(slots.iter().cloned(), |name| {
        // What cannot be told counts as up: then it is not left out.
        Ok(needs_command && tree.is_wanted_up(name).unwrap_or(true))
    })?;
    Ok(Seen {
        settings: tree.settings(),
        survey,
        command: if needs_command {
            Command::detect(&tree.settings().root)
        } else {
            Command::default()
        },
        slots,
        wanted_up,
        default_runs: tree.may_run(&ProfileName::default_profile()),
    })
}

/// Takes the profiles for which an answer is yes.
fn only(
    names: impl Iterator<Item = ProfileName>,
    answer: impl Fn(&ProfileName) -> Result<bool>,
) -> Result<BTreeSet<ProfileName>> {
    let mut chosen = BTreeSet::new();
    for name in names {
        if answer(&name)? {
            chosen.insert(name);
        }
    }
    Ok(chosen)
}

/// Stops all running gateways, because the container ends. The intents stay as they are.
pub fn shutdown(common: &Common, timeout: Option<u64>, json: bool) -> Result<Code> {
    refuse_inside(Verb::Shutdown)?;
    let request = Request {
        timeout: timeout.map(Duration::from_secs),
        ..Request::new(Verb::Shutdown)
    };
    hurry(request.timeout);
    let tree = Tree::enter(common, false)?;
    // It needs nothing from the volume, and does not wait for it before the gateways are told.
    let survey = Survey::default();
    let mut running: Vec<ProfileName> = tree.scandir.profiles()?.into_iter().collect();
    running.retain(|name| tree.may_run(name));
    // It ends while the gateways save.
    dashboard::begin_to_end(&tree);
    let form = Form::new(json);
    let code = carry_out(&tree, request, &survey, &running, Vec::new(), form)?;
    dashboard::await_end(&tree, request.left());
    Ok(code)
}

/// Adds the slots of profiles, with their gateways down.
pub fn register(common: &Common, selection: &Selection) -> Result<Code> {
    let tree = Tree::enter(common, true)?;
    let survey = tree.context.survey(&selection.profile)?;
    let choice = if selection.all {
        Choice {
            names: survey.profiles.keys().cloned().collect(),
            warnings: skipped(&survey),
            ..Choice::default()
        }
    } else {
        let seen = look(&tree, &survey, selection, false)?;
        choose(&seen, selection, Verb::Start, false)?
    };
    let chosen = BTreeSet::from_iter(choice.print_and_take());
    tree.may_change("register")?;
    let Registered {
        existing,
        failures,
        unwritten,
    } = tree.session(LOCK_WAIT)?.register(&chosen)?;
    report::warnings(&unwritten);
    for name in &chosen {
        let slot = name.slot();
        match failures.get(name) {
            Some(error) => report::outcome(false, &format!("{slot} is not registered: {error}")),
            None if existing.contains(name) => {
                report::outcome(true, &format!("{slot} is registered already"));
            }
            None => report::outcome(
                true,
                &format!("{slot} is registered, and down: start it with hermes-s6 start -p {name}"),
            ),
        }
    }
    Ok(match code_of(&failures) {
        Code::Done if !unwritten.is_empty() => Code::No,
        code => code,
    })
}

fn code_of(failures: &Failures) -> Code {
    if failures.is_empty() {
        Code::Done
    } else {
        Code::No
    }
}

/// Stops gateways and removes their slots.
pub fn unregister(common: &Common, selection: &Selection) -> Result<Code> {
    let tree = Tree::enter(common, true)?;
    let survey = tree.survey(&selection.profile, Verb::Remove)?;
    let seen = look(&tree, &survey, selection, false)?;
    let chosen = choose(&seen, selection, Verb::Remove, false)?.print_and_take();
    tree.spare_caller(&chosen)?;
    tree.may_change("unregister")?;
    remove(&tree, &survey, &chosen)
}

/// Replaces the slot of a renamed profile by one with the new name.
///
/// `ran` says that the gateway ran before the profile was renamed; it need not run any more.
pub fn rename(common: &Common, old: &ProfileName, new: &ProfileName, ran: bool) -> Result<Code> {
    if old.is_default() || new.is_default() || old == new {
        let what = if old == new {
            "a profile is renamed to another name"
        } else {
            "the profile of the data root is always called default"
        };
        return Err(Error::new(Code::Usage, what));
    }
    let tree = Tree::enter(common, true)?;
    let survey = tree.context.survey(&[])?;
    let Some(profile) = survey.profiles.get(new) else {
        let remedy = format!("rename it with hermes profile rename {old} {new} first");
        return Err(must_exist(new, &survey)
            .err()
            .filter(|_| !survey.complete)
            .unwrap_or_else(|| {
                Error::new(Code::Usage, format!("profile {new} does not exist")).remedy(remedy)
            }));
    };
    if survey.profiles.contains_key(old) {
        return Err(Error::new(
            Code::Usage,
            format!("profile {old} is still there, {new} is another one"),
        )
        .remedy("use register and unregister"));
    }
    let names = [old.clone(), new.clone()];
    tree.spare_caller(&names)?;
    tree.may_change("rename")?;
    let ran = ran || tree.is_wanted_up(old)?;
    let removed = remove(&tree, &survey, &names[..1])?;
    let new_slot = BTreeSet::from([new.clone()]);
    let mut registered = tree.session(LOCK_WAIT)?.register(&new_slot)?;
    report::warnings(&registered.unwritten);
    if let Some(error) = registered.failures.remove(new) {
        return Err(error);
    }
    report::outcome(true, &format!("{} is registered", new.slot()));
    let runs = match profile.intent.source {
        Some(Source::DesiredState) => profile.intent.wants_running(),
        // The gateway may be down only because of the renaming: it counts whether it ran before.
        _ => ran || profile.intent.wants_running(),
    };
    if !runs {
        return Ok(removed);
    }
    let request = Request::new(Verb::Start);
    let started = carry_out(
        &tree,
        request,
        &survey,
        &names[1..],
        Vec::new(),
        Form::Lines,
    )?;
    Ok(if started == Code::Done {
        removed
    } else {
        started
    })
}

/// Does what Hermes asks of its service manager; executes `prog` instead if s6 does not do it.
pub fn dispatch(
    common: &Common,
    action: &str,
    mut selection: Selection,
    prog: &[OsString],
) -> Result<Code> {
    // The rights stay those of the caller here: a program that takes over has to have them.
    if !ACTIONS.contains(&action) {
        return hand_over(prog, &format!("'{action}' is not an action of s6"));
    }
    let detection = detect(&Settings::gather(common)?)?;
    if !detection.is_s6() {
        return hand_over(prog, &detection.reason);
    }
    let verb = match action {
        "start" => Verb::Start,
        "stop" => Verb::Stop,
        "restart" => Verb::Restart,
        action => {
            explain_slots(action == "install");
            return Ok(Code::Done);
        }
    };
    if selection.profile.is_empty() && !selection.all {
        selection.profile.push(ProfileName::default_profile());
    }
    operate(common, verb, &selection, Waiting::default(), false)
}

/// Prints what takes the place of installing or uninstalling a gateway as a service.
pub fn explain_slots(install: bool) {
    let (done, by) = if install {
        ("registered", "create")
    } else {
        ("unregistered", "delete")
    };
    report::line(&format!(
        "Gateways are {done} when you {by} a profile: hermes profile {by} NAME"
    ));
    report::line("Their slots are those of s6: see hermes-s6 status");
}

/// Replaces this process by the program; without one, the error tells why nothing was done.
fn hand_over(prog: &[OsString], why: &str) -> Result<Code> {
    let Some((program, arguments)) = prog.split_first() else {
        return Err(Error::new(Code::No, format!("nothing is done: {why}"))
            .remedy("name a program to leave it to, after --"));
    };
    let cause = process::Command::new(program).args(arguments).exec();
    Err(Error::exec(program, cause))
}

/// Carries out a request for gateways, with new slots where they are needed, and prints the outcome, with the
/// `failures` that there have been before.
fn carry_out(
    tree: &Tree,
    request: Request,
    survey: &Survey,
    names: &[ProfileName],
    failures: Vec<Warning>,
    form: Form,
) -> Result<Code> {
    let homeless = homeless(survey, names);
    let lifecycle = tree.lifecycle();
    let mut outcome = Outcome {
        failures,
        ..Outcome::default()
    };
    let mut remaining = names.to_vec();
    // The next attempts are for slots that another command has removed meanwhile.
    for _ in 0..ATTEMPTS {
        outcome
            .targets
            .retain(|target| !remaining.contains(&target.name));
        let Registered {
            failures,
            unwritten,
            ..
        } = if request.verb.is_up() {
            register_missing(tree, &remaining, request.limit())?
        } else {
            Registered::default()
        };
        remaining.retain(|name| !failures.contains_key(name));
        let last = lifecycle.run(request, &remaining, &homeless, false)?;
        outcome.targets.extend(last.targets);
        for failure in unwritten.into_iter().chain(last.failures) {
            if !outcome.failures.contains(&failure) {
                outcome.failures.push(failure);
            }
        }
        let failed = failures.into_iter();
        outcome
            .targets
            .extend(failed.map(|(name, error)| lifecycle.failed(&name, error)));
        remaining = unsupervised(&outcome);
        if remaining.is_empty() {
            break;
        }
    }
    for target in &mut outcome.targets {
        if remaining.contains(&target.name) && matches!(tree.scandir.slot(&target.name), Ok(None)) {
            target.end = Some(End::Overruled);
        }
    }
    outcome.targets.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    // Surveyed again: the holders of locks and the intents may have changed meanwhile.
    let survey = tree.context.survey(names).unwrap_or_else(|error| {
        if survey.complete {
            outcome.failures.push(Warning::new(error.to_string()));
        }
        Survey::default()
    });
    let report = status::states(tree.settings(), &tree.scandir, &survey, names)?;
    Ok(say(request, &outcome, &report, &survey, form))
}

/// Adds the slots of profiles that have none, and replaces slots without a supervisor.
fn register_missing(tree: &Tree, names: &[ProfileName], limit: Duration) -> Result<Registered> {
    let missing = only(names.iter().cloned(), |name| {
        // A slot that cannot be looked at is not missing.
        Ok(matches!(tree.scandir.has_slot(name), Ok(false))
            || matches!(tree.status(name), Ok(None)))
    })?;
    if missing.is_empty() {
        return Ok(Registered::default());
    }
    let refused = |name: ProfileName| Some((name, tree.may_change("start").err()?));
    let refusals: Failures = missing.iter().cloned().filter_map(refused).collect();
    if !refusals.is_empty() {
        return Ok(Registered {
            failures: refusals,
            ..Registered::default()
        });
    }
    tree.session(limit)?.register(&missing)
}

/// Stops gateways and removes their slots.
fn remove(tree: &Tree, survey: &Survey, names: &[ProfileName]) -> Result<Code> {
    let registered = only(names.iter().cloned(), |name| tree.scandir.has_slot(name))?;
    let registered: Vec<ProfileName> = registered.into_iter().collect();
    for name in names.iter().filter(|name| !registered.contains(name)) {
        report::outcome(true, &format!("{} is not registered", name.slot()));
    }
    if registered.is_empty() {
        return Ok(Code::Done);
    }
    let homeless = homeless(survey, &registered);
    let request = Request::new(Verb::Remove);
    // First without the lock, so that other commands need not wait for gateways that save.
    tree.lifecycle()
        .run(request, &registered, &homeless, false)?;
    let session = tree.session(LOCK_WAIT)?;
    let is_up = |name: &&ProfileName| tree.may_run(name);
    let up: Vec<ProfileName> = registered.iter().filter(is_up).cloned().collect();
    if !up.is_empty() {
        // Another command has started these meanwhile. Under the lock, no command can.
        tree.lifecycle().run(request, &up, &homeless, true)?;
    }
    let failures = session.unregister(&registered)?;
    for name in &registered {
        let slot = name.slot();
        match failures.get(name) {
            Some(error) => report::outcome(false, &format!("{slot} is not removed: {error}")),
            None => report::outcome(true, &format!("{slot} is unregistered")),
        }
    }
    Ok(code_of(&failures))
}

/// Lists the names whose profile certainly is not on the volume.
fn homeless(survey: &Survey, names: &[ProfileName]) -> Vec<ProfileName> {
    let mut homeless = names.to_vec();
    homeless.retain(|name| survey.is_gone(name));
    homeless
}

/// Lists the gateways for which the request failed because they have no slot with a supervisor.
fn unsupervised(outcome: &Outcome) -> Vec<ProfileName> {
    let targets = outcome.targets.iter();
    targets
        .filter(|target| matches!(target.end, Some(End::Unsupervised)))
        .map(|target| target.name.clone())
        .collect()
}
