//! The operator's commands on gateways: look, choose, carry out, say.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process;
use std::time::Duration;

use crate::cli::{Common, Selection, Waiting};
use crate::command::choose::{Choice, Seen, choose, skipped};
use crate::command::context::{Tree, must_exist, refuse_inside};
use crate::command::follow::{Strayed, follow_renamed, follow_volume, strayed};
use crate::command::outcome::{Form, say};
use crate::error::{Code, Error, Result};
use crate::hermes::container::Command;
use crate::hermes::name::ProfileName;
use crate::hermes::state::Source;
use crate::report;
use crate::settings::Settings;
use crate::tree::detect::detect;
use crate::tree::lifecycle::Outcome;
use crate::tree::lifecycle::request::{End, Request, Verb};
use crate::tree::remove::Failures;
use crate::tree::scandir::LOCK_WAIT;
use crate::view::status;
use crate::volume::survey::Survey;

/// What Hermes asks of a service manager, as far as s6 does it.
const ACTIONS: [&str; 5] = ["start", "stop", "restart", "install", "uninstall"];

/// How often a slot is registered again that another command removes before it can be used.
const ATTEMPTS: usize = 3;

/// Starts, stops or restarts gateways; `unless_stopped` leaves down what its operator stopped.
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

/// Does the same, and says what came of it in a certain form.
pub fn operate_as(
    form: Form,
    common: &Common,
    verb: Verb,
    selection: &Selection,
    waiting: Waiting,
    unless_stopped: bool,
) -> Result<Code> {
    refuse_inside(verb)?;
    let tree = Tree::enter(common, verb.is_up())?;
    let warn = |error: Error| report::warning(&error.to_string());
    let strayed = strayed(&tree).unwrap_or_else(|error| {
        warn(error);
        Strayed::default()
    });
    // First: by its new name a gateway cannot be started while it runs by the old one.
    follow_renamed(&tree, &strayed).unwrap_or_else(warn);
    let survey = tree.survey(&selection.profile, verb)?;
    let depends = verb.is_up() && (selection.all || unless_stopped);
    let seen = look(&tree, &survey, selection, depends)?;
    let chosen = choose(&seen, selection, verb, unless_stopped)?.said();
    if unless_stopped && chosen.is_empty() {
        // Which has been said.
        return Ok(Code::No);
    }
    let request = Request {
        wait: !waiting.no_wait,
        timeout: waiting.timeout.map(Duration::from_secs),
        ..Request::new(verb)
    };
    let code = carry_out(&tree, request, &survey, &chosen, form)?;
    if strayed.any {
        follow_volume(&tree).unwrap_or_else(warn);
    }
    Ok(code)
}

/// Looks at what a choice depends on, as far as the selection goes. `depends` says that it depends on what runs
/// and on the container's command, which takes a look at every process.
fn look<'a>(
    tree: &'a Tree,
    survey: &'a Survey,
    selection: &Selection,
    depends: bool,
) -> Result<Seen<'a>> {
    let slots = if selection.all {
        tree.scandir.profiles()?
    } else {
        let named = selection.profile.iter().cloned();
        let meant = selection.profile.is_empty();
        let meant = meant.then(|| survey.meant(tree.settings()));
        let mut slots: BTreeSet<ProfileName> = named.chain(meant).collect();
        slots.retain(|name| tree.scandir.is_ours(name.slot()));
        slots
    };
    let mut wanted_up = slots.clone();
    wanted_up.retain(|name| depends && tree.is_wanted_up(name));
    Ok(Seen {
        settings: tree.settings(),
        survey,
        command: if depends {
            Command::detect(&tree.settings().root)
        } else {
            Command::default()
        },
        slots,
        wanted_up,
    })
}

/// Stops everything that runs and keeps every intent.
pub fn shutdown(common: &Common, timeout: Option<u64>, json: bool) -> Result<Code> {
    refuse_inside(Verb::Shutdown)?;
    let tree = Tree::enter(common, false)?;
    let survey = tree.survey(&[], Verb::Shutdown)?;
    let mut running: Vec<ProfileName> = tree.scandir.profiles()?.into_iter().collect();
    running.retain(|name| tree.is_not_down(name));
    let request = Request {
        timeout: timeout.map(Duration::from_secs),
        ..Request::new(Verb::Shutdown)
    };
    carry_out(&tree, request, &survey, &running, Form::new(json))
}

/// Gives profiles their slots.
pub fn register(common: &Common, selection: &Selection) -> Result<Code> {
    let tree = Tree::enter(common, true)?;
    let survey = tree.context.survey(&selection.profile)?;
    let choice = if selection.all {
        Choice {
            names: survey.profiles.keys().cloned().collect(),
            warnings: skipped(&survey),
            notes: Vec::new(),
        }
    } else {
        let seen = look(&tree, &survey, selection, false)?;
        choose(&seen, selection, Verb::Start, false)?
    };
    let chosen = BTreeSet::from_iter(choice.said());
    tree.may_change("register")?;
    let (there, failures) = tree.session(LOCK_WAIT)?.register(&chosen)?;
    for name in &chosen {
        let slot = name.slot();
        match failures.get(name) {
            Some(error) => report::outcome(false, &format!("{slot} is not registered: {error}")),
            None if there.contains(name) => {
                report::outcome(true, &format!("{slot} is registered already"));
            }
            None => report::outcome(
                true,
                &format!("{slot} is registered, and down: start it with hermes-s6 start -p {name}"),
            ),
        }
    }
    Ok(code_of(&failures))
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
    let chosen = choose(&seen, selection, Verb::Remove, false)?.said();
    tree.spare_caller(&chosen)?;
    tree.may_change("unregister")?;
    remove(&tree, &survey, &chosen)
}

/// Lets the slot of a profile that has another name now follow it; `ran` says that its gateway ran before
/// that, whatever it does now.
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
    let ran = ran || tree.is_wanted_up(old);
    let removed = remove(&tree, &survey, &names[..1])?;
    let new_slot = BTreeSet::from([new.clone()]);
    let (_, mut failures) = tree.session(LOCK_WAIT)?.register(&new_slot)?;
    if let Some(error) = failures.remove(new) {
        return Err(error);
    }
    report::outcome(true, &format!("{} is registered", new.slot()));
    let runs = match profile.intent.source {
        Some(Source::DesiredState) => profile.intent.wants_running(),
        // Who renames a profile may have stopped it for that: what it was doing before counts.
        _ => ran || profile.intent.wants_running(),
    };
    if !runs {
        return Ok(removed);
    }
    let request = Request::new(Verb::Start);
    let started = carry_out(&tree, request, &survey, &names[1..], Form::Lines)?;
    Ok(if started == Code::Done {
        removed
    } else {
        started
    })
}

/// Does what Hermes asks of its service manager, or leaves it to a program.
pub fn dispatch(
    common: &Common,
    action: &str,
    mut selection: Selection,
    prog: &[OsString],
) -> Result<Code> {
    // With the rights that we were called with: a program that takes over is to have them.
    if !ACTIONS.contains(&action) {
        return hand_over(prog, &format!("'{action}' is nothing that s6 does"));
    }
    let detection = detect(&Settings::gather(common)?);
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

/// Says what there is in place of installing a gateway as a service, or of uninstalling it.
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

/// Becomes the program, if there is one.
fn hand_over(prog: &[OsString], why: &str) -> Result<Code> {
    let Some((program, arguments)) = prog.split_first() else {
        return Err(Error::new(Code::No, format!("nothing is done: {why}"))
            .remedy("name a program to leave it to, after --"));
    };
    let cause = process::Command::new(program).args(arguments).exec();
    Err(Error::exec(program, cause))
}

/// Does what was asked for, and says what came of it.
fn carry_out(
    tree: &Tree,
    request: Request,
    survey: &Survey,
    names: &[ProfileName],
    form: Form,
) -> Result<Code> {
    let homeless = homeless(survey, names);
    let lifecycle = tree.lifecycle();
    let mut outcome = Outcome::default();
    let mut left = names.to_vec();
    // Again for slots that another command has removed in between.
    for _ in 0..ATTEMPTS {
        outcome
            .targets
            .retain(|target| !left.contains(&target.name));
        let failures = if request.verb.is_up() {
            register_lacking(tree, &left, request.limit())?
        } else {
            Failures::new()
        };
        left.retain(|name| !failures.contains_key(name));
        let last = lifecycle.run(request, &left, &homeless, false)?;
        outcome.targets.extend(last.targets);
        for failure in last.failures {
            if !outcome.failures.contains(&failure) {
                outcome.failures.push(failure);
            }
        }
        let failed = failures.into_iter();
        outcome
            .targets
            .extend(failed.map(|(name, error)| lifecycle.failed(&name, error)));
        left = unsupervised(&outcome);
        if left.is_empty() {
            break;
        }
    }
    for target in &mut outcome.targets {
        if left.contains(&target.name) && tree.scandir.slot(&target.name).is_err() {
            target.end = Some(End::Overruled);
        }
    }
    outcome.targets.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if survey.profiles.is_empty() && request.verb == Verb::Stop {
        let what = "the volume cannot be read: what it says is wanted stays as it is";
        outcome.failures.push(what.to_owned());
    }
    // What the volume says now: who holds a lock, what was wanted meanwhile.
    let survey = tree.context.survey(names).unwrap_or_default();
    let report = status::report(tree.settings(), &tree.scandir, &survey, names)?;
    Ok(say(request, &outcome, &report, &survey, form))
}

/// Gives a slot to those profiles that have none, or one without a supervisor.
fn register_lacking(tree: &Tree, names: &[ProfileName], limit: Duration) -> Result<Failures> {
    let mut lacking: BTreeSet<ProfileName> = names.iter().cloned().collect();
    lacking.retain(|name| !tree.scandir.is_ours(name.slot()) || tree.status(name).is_none());
    if lacking.is_empty() {
        return Ok(Failures::new());
    }
    let refused = |name: ProfileName| Some((name, tree.may_change("start").err()?));
    let refusals: Failures = lacking.iter().cloned().filter_map(refused).collect();
    if !refusals.is_empty() {
        return Ok(refusals);
    }
    Ok(tree.session(limit)?.register(&lacking)?.1)
}

/// Stops gateways and removes their slots.
fn remove(tree: &Tree, survey: &Survey, names: &[ProfileName]) -> Result<Code> {
    let (there, gone): (Vec<ProfileName>, Vec<ProfileName>) = names
        .iter()
        .cloned()
        .partition(|name| tree.scandir.is_ours(name.slot()));
    for name in &gone {
        report::outcome(true, &format!("{} is not registered", name.slot()));
    }
    if there.is_empty() {
        return Ok(Code::Done);
    }
    let homeless = homeless(survey, &there);
    let request = Request::new(Verb::Remove);
    // First without the lock, so that nobody else waits for gateways that save.
    tree.lifecycle().run(request, &there, &homeless, false)?;
    let session = tree.session(LOCK_WAIT)?;
    let is_up = |name: &&ProfileName| tree.is_not_down(name);
    let up: Vec<ProfileName> = there.iter().filter(is_up).cloned().collect();
    if !up.is_empty() {
        // Another command has started them since; now none can.
        tree.lifecycle().run(request, &up, &homeless, true)?;
    }
    let failures = session.unregister(&there)?;
    for name in &there {
        let slot = name.slot();
        match failures.get(name) {
            Some(error) => report::outcome(false, &format!("{slot} is not removed: {error}")),
            None => report::outcome(true, &format!("{slot} is unregistered")),
        }
    }
    Ok(code_of(&failures))
}

/// Lists those that have no profile on the volume, or none that can be looked at.
fn homeless(survey: &Survey, names: &[ProfileName]) -> Vec<ProfileName> {
    let mut homeless = names.to_vec();
    homeless.retain(|name| !survey.profiles.contains_key(name));
    homeless
}

fn unsupervised(outcome: &Outcome) -> Vec<ProfileName> {
    let targets = outcome.targets.iter();
    targets
        .filter(|target| matches!(target.end, Some(End::Unsupervised)))
        .map(|target| target.name.clone())
        .collect()
}
