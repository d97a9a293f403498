//! The operator's commands on gateways: which profiles, what has to be there first, what came of it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process;
use std::time::Duration;

use serde::Serialize;

use super::{Context, must_exist};
use crate::cli::{Common, Selection, Waiting};
use crate::error::{Code, Error, Result, shown};
use crate::hermes::container;
use crate::hermes::name::ProfileName;
use crate::hermes::state::Source;
use crate::report;
use crate::rights::Rights;
use crate::s6::supervision::{Status, supervised};
use crate::s6::tool::Tools;
use crate::settings::Settings;
use crate::tree::apply::Failures;
use crate::tree::detect::detect;
use crate::tree::lifecycle::{End, Lifecycle, Outcome, Request, Target, Verb};
use crate::tree::plan::held;
use crate::tree::reconcile::{self, Session};
use crate::tree::scandir::{LOCK_WAIT, ScanDir};
use crate::tree::supervise;
use crate::view::status::{self, Report, State};
use crate::volume::survey::{Lock, Profile, Survey, names};

/// What Hermes asks of a service manager, as far as s6 does it.
const ACTIONS: [&str; 5] = ["start", "stop", "restart", "install", "uninstall"];

/// How often a slot is registered again that another command removes before it can be used.
const ATTEMPTS: usize = 3;

/// The variable that Hermes sets in a gateway, and so in everything that an agent runs there.
const INSIDE_VARIABLE: &str = "_HERMES_GATEWAY";

/// How the outcome of a command is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line for each gateway.
    Lines,
    /// One line of JSON.
    Json,
    /// As Hermes tells it of all gateways: with the number of those that succeeded.
    Sum,
}

impl Form {
    fn new(json: bool) -> Self {
        if json { Self::Json } else { Self::Lines }
    }
}

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

/// The same, told in a certain form.
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
    let strayed = tree.strayed().unwrap_or_else(|error| {
        warn(error);
        Strayed::default()
    });
    // First: by its new name it cannot be started while it runs by the old one.
    tree.follow_renamed(&strayed).unwrap_or_else(warn);
    let survey = tree.survey(&selection.profile, verb)?;
    let mut chosen = tree.choose(&survey, selection, verb)?;
    if unless_stopped {
        let command = container::Command::detect(&tree.settings().root);
        chosen.retain(|name| tree.may_start(&survey, &command, name));
    }
    let request = Request {
        verb,
        wait: !waiting.no_wait,
        timeout: waiting.timeout.map(Duration::from_secs),
    };
    if unless_stopped && chosen.is_empty() {
        // Which has been said.
        return Ok(Code::No);
    }
    let code = tree.carry_out(request, &survey, &chosen, form)?;
    if strayed.any {
        tree.follow_volume().unwrap_or_else(warn);
    }
    Ok(code)
}

/// Stops everything that runs and keeps every intent.
pub fn shutdown(common: &Common, timeout: Option<u64>, json: bool) -> Result<Code> {
    refuse_inside(Verb::Shutdown)?;
    let tree = Tree::enter(common, false)?;
    let survey = tree.survey(&[], Verb::Shutdown)?;
    let mut running: Vec<ProfileName> = tree.scandir.profiles()?.into_iter().collect();
    running.retain(|name| {
        let status = tree.status(name);
        status.is_some_and(|status| !status.is_down())
    });
    let request = Request {
        verb: Verb::Shutdown,
        wait: true,
        timeout: timeout.map(Duration::from_secs),
    };
    tree.carry_out(request, &survey, &running, Form::new(json))
}

/// Gives profiles their slots.
pub fn register(common: &Common, selection: &Selection) -> Result<Code> {
    let tree = Tree::enter(common, true)?;
    let survey = tree.context.survey(&selection.profile)?;
    let chosen = if selection.all {
        warn_of_skipped(&survey);
        survey.profiles.keys().cloned().collect()
    } else {
        tree.choose(&survey, selection, Verb::Start)?
    };
    tree.may_change("register")?;
    let (there, failures) = tree.session(LOCK_WAIT)?.register(&chosen)?;
    let mut code = Code::Done;
    for name in &chosen {
        let slot = name.slot();
        match failures.get(name) {
            Some(error) => {
                code = Code::No;
                report::outcome(false, &format!("{slot} is not registered: {error}"));
            }
            None if there.contains(name) => {
                report::outcome(true, &format!("{slot} is registered already"));
            }
            None => report::outcome(
                true,
                &format!("{slot} is registered, and down: start it with hermes-s6 start -p {name}"),
            ),
        }
    }
    Ok(code)
}

/// Stops gateways and removes their slots.
pub fn unregister(common: &Common, selection: &Selection) -> Result<Code> {
    let tree = Tree::enter(common, true)?;
    let survey = tree.survey(&selection.profile, Verb::Remove)?;
    let chosen = tree.choose(&survey, selection, Verb::Remove)?;
    tree.spare_caller(&chosen)?;
    tree.may_change("unregister")?;
    tree.remove(&survey, &chosen)
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
    let removed = tree.remove(&survey, &names[..1])?;
    let (_, mut failures) = tree.session(LOCK_WAIT)?.register(&names[1..])?;
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
    let request = Request {
        verb: Verb::Start,
        wait: true,
        timeout: None,
    };
    let started = tree.carry_out(request, &survey, &names[1..], Form::Lines)?;
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

/// Tells whether we were called from within a gateway.
fn is_inside() -> bool {
    std::env::var_os(INSIDE_VARIABLE).is_some_and(|value| !value.is_empty())
}

/// Refuses what would end the gateway that it is asked from, and with it the one who asks.
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

/// What has come about on the volume by ways that did not call us.
#[derive(Debug, Default)]
struct Strayed {
    /// Profiles that are to have a slot.
    new: BTreeSet<ProfileName>,
    /// Profiles whose slot is to go.
    gone: BTreeSet<ProfileName>,
    /// Whether profiles and slots differ at all: of what may not go yet, too.
    any: bool,
}

/// A tree that runs, and what is asked of it.
struct Tree {
    context: Context,
    scandir: ScanDir,
    tools: Tools,
}

impl Tree {
    /// Opens the tree. Unless it has to be `watched`, supervisors that have outlived their s6-svscan will
    /// do: what they have can still be stopped.
    fn enter(common: &Common, watched: bool) -> Result<Self> {
        let context = Context::enter(common)?;
        context.warn();
        let settings = &context.settings;
        let scandir = supervise::open_tree(settings)?;
        reconcile::owner_of(settings, &scandir)?;
        let detection = detect(settings);
        let tools = Tools::find(settings);
        let tools = reconcile::choices_of_tree(settings, &context.rights, tools)?.tools;
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

    /// Looks at the volume. One that cannot be read keeps nobody from being stopped.
    fn survey(&self, only: &[ProfileName], verb: Verb) -> Result<Survey> {
        match self.context.survey(only) {
            Err(error) if !verb.is_up() => {
                report::warning(&error.to_string());
                Ok(Survey::default())
            }
            survey => survey,
        }
    }

    /// Reads what s6 makes of a slot that has a supervisor.
    fn status(&self, name: &ProfileName) -> Option<Status> {
        supervised(&self.scandir.slot(name).ok()?).map(|(status, _)| status)
    }

    fn is_wanted_up(&self, name: &ProfileName) -> bool {
        self.status(name).is_some_and(|status| status.wanted_up)
    }

    fn settings(&self) -> &Settings {
        &self.context.settings
    }

    fn rights(&self) -> &Rights {
        &self.context.rights
    }

    fn session(&self, limit: Duration) -> Result<Session<'_>> {
        Session::begin(self.settings(), self.rights(), self.tools.clone(), limit)
    }

    /// Refuses to remove the slot of the gateway that we were called from: an agent may remove profiles, and
    /// would end itself before it has done so.
    fn spare_caller(&self, names: &[ProfileName]) -> Result<()> {
        if names.contains(&self.settings().own_profile()) {
            refuse_inside(Verb::Remove)?;
        }
        Ok(())
    }

    /// Finds the profiles without a slot, and the slots without a profile's home, that have come about by
    /// ways that did not call us: somebody has edited the volume from outside.
    fn strayed(&self) -> Result<Strayed> {
        if self.scandir.ours().is_err() || *self.rights() != Rights::Own {
            return Ok(Strayed::default());
        }
        let there = names(self.settings())?;
        let slots = self.scandir.profiles()?;
        for name in self.scandir.unregistered()? {
            if !there.contains(&name) {
                self.scandir.forget_unregistered(&name);
            }
        }
        let mut new = &there - &slots;
        new.retain(|name| !self.scandir.is_unregistered(name));
        let mut gone = &slots - &there;
        let is_own = |name: &ProfileName| is_inside() && *name == self.settings().own_profile();
        gone.retain(|name| self.has_no_home(name) && !is_own(name));
        // Where there is no named profile at all, it is rather the volume that is away.
        let is_down = |name: &ProfileName| self.status(name).is_none_or(|status| status.is_down());
        gone.retain(|name| there.len() > 1 || is_down(name));
        let any = there != slots;
        Ok(Strayed { new, gone, any })
    }

    /// Lets gateways follow profiles whose homes have been renamed while they ran: whose lock a gateway
    /// holds is its profile, whatever that is called now.
    fn follow_renamed(&self, Strayed { new, gone, .. }: &Strayed) -> Result<()> {
        if new.is_empty() || gone.is_empty() {
            return Ok(());
        }
        let survey = self.context.survey(&Vec::from_iter(new.clone()))?;
        let runs_as = |old: &ProfileName| {
            let pid = i32::try_from(self.status(old)?.pid?).ok();
            let holds = |lock: &Lock| lock.held && lock.pid.is_some() && lock.pid == pid;
            let is_it = |profile: &&Profile| profile.lock.as_ref().is_some_and(holds);
            Some(survey.profiles.values().find(is_it)?.name.clone())
        };
        let renamed = gone
            .iter()
            .filter_map(|old| Some([old.clone(), runs_as(old)?]));
        let renamed: BTreeSet<ProfileName> = renamed.flatten().collect();
        if renamed.is_empty() {
            return Ok(());
        }
        self.converge(&renamed)
    }

    /// Lets slots follow profiles that have come or gone.
    ///
    /// A new one may be half made, and one that cannot be found may be back at once. So nothing is started,
    /// and nothing is ended whose home may only be away.
    fn follow_volume(&self) -> Result<()> {
        let Strayed { new, gone, .. } = self.strayed()?;
        if !gone.is_empty() {
            self.converge(&gone)?;
        }
        if new.is_empty() {
            return Ok(());
        }
        let new = Vec::from_iter(new);
        let (_, failures) = self.session(LOCK_WAIT)?.register(&new)?;
        for name in &new {
            match failures.get(name) {
                Some(error) => report::warning(&error.to_string()),
                None => report::note(&format!("{} is registered, and down", name.slot())),
            }
        }
        Ok(())
    }

    fn has_no_home(&self, name: &ProfileName) -> bool {
        let home = self.settings().root.at(self.settings().home_of(name));
        home.symlink_metadata()
            .is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    /// Makes the slots of some profiles agree with the volume.
    fn converge(&self, names: &BTreeSet<ProfileName>) -> Result<()> {
        let outcome = self.session(LOCK_WAIT)?.converge(false, Some(names))?;
        for change in &outcome.plan.changes {
            if !change.steps.is_empty() {
                report::note(&report::change_line(change));
            }
        }
        outcome
            .failures
            .iter()
            .for_each(|failure| report::warning(failure));
        Ok(())
    }

    /// Refuses to add or remove slots where only somebody else can.
    fn may_change(&self, command: &str) -> Result<()> {
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

    /// Finds the profiles that a request is about.
    fn choose(
        &self,
        survey: &Survey,
        selection: &Selection,
        verb: Verb,
    ) -> Result<Vec<ProfileName>> {
        if !selection.all {
            let mut names = selection.profile.clone();
            if names.is_empty() {
                if survey.profiles.is_empty() {
                    return Err(Error::new(Code::Usage, "no profile is named")
                        .remedy("name it with -p: the volume does not tell which one is meant"));
                }
                names.push(survey.meant(&self.context.settings));
                if survey.active.as_ref() == names.first() {
                    must_exist(&names[0], survey).map_err(|error| {
                        error.remedy("or choose another with hermes profile use")
                    })?;
                }
            }
            names.sort_unstable();
            names.dedup();
            for name in &names {
                // What is left of a profile that is gone can be stopped and removed.
                if verb.is_up() || !self.scandir.is_ours(name.slot()) {
                    must_exist(name, survey)?;
                }
                if verb.is_up() && self.is_multiplexed(survey, name) {
                    report::warning(&format!(
                        "profile {name} is served by the default profile's gateway (multiplex_profiles), beside which its own ends at once"
                    ));
                }
            }
            return Ok(names);
        }
        warn_of_skipped(survey);
        if !verb.is_up() {
            let mut names = self.scandir.profiles()?;
            // To be stopped is an intent also where there is nothing to stop.
            let wanted = survey
                .profiles
                .iter()
                .filter(|(_, profile)| verb == Verb::Stop && profile.intent.wants_running());
            names.extend(wanted.map(|(name, _)| name.clone()));
            return Ok(names.into_iter().collect());
        }
        let command = container::Command::detect(&self.settings().root);
        let mut names: Vec<ProfileName> = Vec::new();
        for (name, profile) in &survey.profiles {
            let is_up = self.is_wanted_up(name);
            // What its operator stopped stays stopped.
            if verb == Verb::Restart && !is_up && !profile.intent.wants_running() {
                continue;
            }
            match held(self.settings(), &command, survey, name) {
                Some(why) if !is_up => {
                    report::note(&format!("{} stays down here ({why})", name.slot()));
                }
                _ => names.push(name.clone()),
            }
        }
        Ok(names)
    }

    /// Tells whether nothing speaks against a start: neither the operator's last word nor this container.
    fn may_start(&self, survey: &Survey, command: &container::Command, name: &ProfileName) -> bool {
        let profile = survey.profiles.get(name);
        let why = if profile.is_some_and(|profile| profile.intent.wants_stopped()) {
            format!("it was stopped; start it with hermes-s6 start -p {name}")
        } else {
            match held(self.settings(), command, survey, name) {
                Some(why) => why,
                None => return true,
            }
        };
        report::note(&format!("{} stays down here ({why})", name.slot()));
        false
    }

    /// Tells whether the default profile's gateway serves a profile.
    fn is_multiplexed(&self, survey: &Survey, name: &ProfileName) -> bool {
        // Whatever the container's command is.
        let command = container::Command::default();
        held(self.settings(), &command, survey, name).as_deref() == Some("multiplex")
    }

    /// Does what was asked for, and says what came of it.
    fn carry_out(
        &self,
        request: Request,
        survey: &Survey,
        names: &[ProfileName],
        form: Form,
    ) -> Result<Code> {
        let homeless = homeless(survey, names);
        let lifecycle = self.lifecycle();
        let mut outcome = Outcome::default();
        let mut left = names.to_vec();
        // Again for slots that another command has removed in between.
        for _ in 0..ATTEMPTS {
            outcome
                .targets
                .retain(|target| !left.contains(&target.name));
            let failures = if request.verb.is_up() {
                self.register_lacking(&left, request.limit())?
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
            if left.contains(&target.name) && self.scandir.slot(&target.name).is_err() {
                target.end = Some(End::Overruled);
            }
        }
        outcome.targets.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        // What the volume says now: who holds a lock, what was wanted meanwhile.
        if survey.profiles.is_empty() && request.verb == Verb::Stop {
            let what = "the volume cannot be read: what it says is wanted stays as it is";
            outcome.failures.push(what.to_owned());
        }
        let survey = self.context.survey(names).unwrap_or_default();
        let report = status::report(self.settings(), &self.scandir, &survey, names)?;
        Ok(say(request, &outcome, &report, &survey, form))
    }

    fn lifecycle(&self) -> Lifecycle<'_> {
        Lifecycle {
            settings: self.settings(),
            rights: self.rights(),
            tools: &self.tools,
            scandir: &self.scandir,
        }
    }

    /// Gives a slot to those profiles that have none, or one without a supervisor.
    fn register_lacking(&self, names: &[ProfileName], limit: Duration) -> Result<Failures> {
        let mut lacking = names.to_vec();
        lacking.retain(|name| !self.has_supervised_slot(name));
        if lacking.is_empty() {
            return Ok(Failures::new());
        }
        let mut failures = Failures::new();
        for name in &lacking {
            if let Err(error) = self.may_change("start") {
                failures.insert(name.clone(), error);
            }
        }
        if failures.is_empty() {
            failures = self.session(limit)?.register(&lacking)?.1;
        }
        Ok(failures)
    }

    fn has_supervised_slot(&self, name: &ProfileName) -> bool {
        self.scandir.is_ours(name.slot()) && self.status(name).is_some()
    }

    /// Stops gateways and removes their slots.
    fn remove(&self, survey: &Survey, names: &[ProfileName]) -> Result<Code> {
        let (there, gone): (Vec<ProfileName>, Vec<ProfileName>) = names
            .iter()
            .cloned()
            .partition(|name| self.scandir.is_ours(name.slot()));
        for name in &gone {
            report::outcome(true, &format!("{} is not registered", name.slot()));
        }
        if there.is_empty() {
            return Ok(Code::Done);
        }
        let homeless = homeless(survey, &there);
        let request = Request {
            verb: Verb::Remove,
            wait: true,
            timeout: None,
        };
        // First without the lock, so that nobody else waits for gateways that save.
        self.lifecycle().run(request, &there, &homeless, false)?;
        let session = self.session(LOCK_WAIT)?;
        let is_up = |name: &&ProfileName| {
            let status = self.status(name);
            status.is_some_and(|status| !status.is_down())
        };
        let up: Vec<ProfileName> = there.iter().filter(is_up).cloned().collect();
        if !up.is_empty() {
            // Another command has started them since; now none can.
            self.lifecycle().run(request, &up, &homeless, true)?;
        }
        let failures = session.unregister(&there)?;
        for name in &there {
            let slot = name.slot();
            match failures.get(name) {
                Some(error) => report::outcome(false, &format!("{slot} is not removed: {error}")),
                None => report::outcome(true, &format!("{slot} is unregistered")),
            }
        }
        Ok(if failures.is_empty() {
            Code::Done
        } else {
            Code::No
        })
    }
}

/// Lists those that have no profile on the volume, or none that can be looked at.
fn homeless(survey: &Survey, names: &[ProfileName]) -> Vec<ProfileName> {
    let mut homeless = names.to_vec();
    homeless.retain(|name| !survey.profiles.contains_key(name));
    homeless
}

fn warn_of_skipped(survey: &Survey) {
    for skipped in &survey.skipped {
        report::warning(&format!(
            "profile {}: {}",
            skipped.name, skipped.problem.text
        ));
    }
}

fn unsupervised(outcome: &Outcome) -> Vec<ProfileName> {
    let targets = outcome.targets.iter();
    targets
        .filter(|target| matches!(target.end, Some(End::Unsupervised)))
        .map(|target| target.name.clone())
        .collect()
}

#[derive(Serialize)]
struct Json<'a> {
    version: u32,
    ok: bool,
    results: Vec<JsonResult<'a>>,
    failures: &'a [String],
}

#[derive(Serialize)]
struct JsonResult<'a> {
    profile: &'a str,
    ok: bool,
    outcome: &'static str,
    state: State,
    pid: Option<u32>,
    milliseconds: u64,
    text: String,
}

/// Says what came of a request, and gives the exit code.
fn say(request: Request, outcome: &Outcome, report: &Report, survey: &Survey, form: Form) -> Code {
    let json = form == Form::Json;
    let mut codes: Vec<Code> = Vec::new();
    let mut results = Vec::new();
    for target in &outcome.targets {
        let row = report
            .profiles
            .iter()
            .find(|row| row.profile == target.name);
        let state = row.map_or(State::Unregistered, |row| row.state);
        let lock = survey.profiles.get(&target.name);
        let lock = lock.and_then(|profile| profile.lock.as_ref());
        // A process of ours that holds it without being s6's: of a slot that is gone, or a supervisor.
        let orphan = lock.filter(|lock| lock.held).and_then(|lock| lock.pid);
        let supervised = row.and_then(|row| row.pid);
        let orphan = orphan.filter(|&pid| i32::try_from(supervised.unwrap_or(0)) != Ok(pid));
        let told = tell(request, target, row, orphan);
        let ok = told.code == Code::Done;
        if !ok {
            codes.push(told.code);
        }
        let text = format!("{} {}", target.name.slot(), told.text);
        match form {
            Form::Json => {}
            Form::Sum if !ok => {
                let (verb, _) = words_of_hermes(request.verb);
                let slot = target.name.slot();
                report::failure_line(&format!("Could not {verb} {slot}: {}", told.text));
            }
            _ => report::outcome(ok, &text),
        }
        results.push(JsonResult {
            profile: target.name.as_str(),
            ok,
            outcome: told.word,
            state,
            pid: target.pid,
            milliseconds: u64::try_from(target.took.as_millis()).unwrap_or(u64::MAX),
            text,
        });
    }
    for failure in &outcome.failures {
        codes.push(Code::No);
        if !json {
            report::warning(failure);
        }
    }
    match form {
        Form::Sum if results.is_empty() => {
            // A restart leaves down what its operator has stopped.
            let has_slot = |row: &status::Row| row.state != State::Unregistered;
            let what = if report.profiles.iter().any(has_slot) {
                format!("to {}", words_of_hermes(request.verb).0)
            } else {
                "registered".to_owned()
            };
            report::failure_line(&format!("No profile gateways {what} under s6"));
        }
        Form::Sum => {
            let done = results.iter().filter(|result| result.ok).count();
            if done > 0 {
                let (_, verb) = words_of_hermes(request.verb);
                report::outcome(true, &format!("{verb} {done} profile gateway(s) under s6"));
            }
        }
        Form::Lines if results.is_empty() => {
            report::note("there is nothing to do: no profile is meant");
        }
        Form::Json | Form::Lines => {}
    }
    if results.is_empty() && request.verb == Verb::Start {
        codes.push(Code::No);
    }
    if json {
        report::json(&Json {
            version: 1,
            ok: codes.is_empty(),
            results,
            failures: &outcome.failures,
        });
    }
    match codes.split_first() {
        None => Code::Done,
        Some((code, others)) if others.iter().all(|other| other == code) => *code,
        Some(_) => Code::No,
    }
}

/// The words that Hermes has for what it does and has done.
fn words_of_hermes(verb: Verb) -> (&'static str, &'static str) {
    match verb {
        Verb::Start => ("start", "Started"),
        Verb::Restart => ("restart", "Restarted"),
        _ => ("stop", "Stopped"),
    }
}

struct Told {
    code: Code,
    word: &'static str,
    text: String,
}

/// Puts into words what came of a request for one gateway.
///
/// `orphan` is a process of it that runs without a supervisor.
fn tell(request: Request, target: &Target, row: Option<&status::Row>, orphan: Option<i32>) -> Told {
    let pid = target
        .pid
        .map_or_else(String::new, |pid| format!("pid {pid}"));
    let seconds = match target.took.as_millis() {
        took @ 0..100 => format!("{took} ms"),
        took => format!("{}.{} s", took / 1000, took / 100 % 10),
    };
    let see = format!("see hermes-s6 logs -p {}", target.name);
    let limit = target.took.as_secs();
    let state = row.map_or("unregistered", |row| row.state.words());
    let reason = row.and_then(|row| row.reason.clone());
    let told = |code, word, text| Told { code, word, text };
    let end = target.end.as_ref().unwrap_or(&End::TimedOut);
    match end {
        End::Down | End::Killed | End::WasDown if orphan.is_some() => told(
            Code::No,
            "orphan",
            format!(
                "has no process that s6 knows, but one without a supervisor still runs: kill {}",
                orphan.unwrap_or_default()
            ),
        ),
        End::Ready if target.killed => told(
            Code::Done,
            "ready",
            format!("is ready ({pid}, {seconds}; its old process was killed, it had not ended)"),
        ),
        End::Ready => told(Code::Done, "ready", format!("is ready ({pid}, {seconds})")),
        End::WasReady => told(Code::Done, "was_ready", format!("is ready already ({pid})")),
        End::Told if request.verb.is_up() => told(Code::Done, "told", "is starting".into()),
        End::Told => told(Code::Done, "told", "is stopping".into()),
        End::Down => told(Code::Done, "down", format!("is down ({seconds})")),
        End::Killed if !target.killed => told(
            Code::Done,
            "killed",
            format!("is down, by SIGKILL ({seconds})"),
        ),
        End::Killed => told(
            Code::Done,
            "killed",
            format!("is down (killed: it had not ended after {seconds})"),
        ),
        End::WasDown => told(Code::Done, "was_down", "is down already".into()),
        End::Lost => {
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            // Somebody may have started it since.
            let before = if row.is_some_and(|row| row.pid.is_some()) {
                "has gone down, and now "
            } else {
                ""
            };
            told(
                Code::No,
                "lost",
                format!("{before}is {state}{reason}, {see}"),
            )
        }
        End::Overruled => {
            let what = if request.verb.is_up() {
                "stopped"
            } else {
                "started again"
            };
            told(
                Code::No,
                "overruled",
                format!("was {what} by another command"),
            )
        }
        End::TimedOut if request.verb.is_up() && !target.is_ending() => told(
            Code::TimedOut,
            "timed_out",
            if row.is_some_and(|row| row.state == State::Ready) {
                format!("has got ready only after {limit} s")
            } else {
                format!("is not ready after {limit} s: it is {state}, {see}")
            },
        ),
        End::TimedOut => told(
            Code::TimedOut,
            "timed_out",
            format!("has not ended after {limit} s ({pid}), {see}"),
        ),
        End::Unsupervised => told(
            Code::Unsupervised,
            "unsupervised",
            "has no supervisor: run hermes-s6 reconcile".into(),
        ),
        End::Failed(error) => told(error.code(), "failed", format!("was not told: {error}")),
    }
}
