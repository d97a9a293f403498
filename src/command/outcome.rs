//! The outcome of a command, printed: as lines for a person, or as JSON for a program.

use serde::Serialize;

use crate::error::Code;
use crate::hermes::name::ProfileName;
use crate::report::{self, Warning};
use crate::tree::change::{Action, Change};
use crate::tree::lifecycle::Outcome;
use crate::tree::lifecycle::request::{End, Request, Verb};
use crate::tree::lifecycle::target::Target;
use crate::tree::reconcile::{Outcome as Converged, warn};
use crate::view::row::{Report, Row, State};
use crate::volume::survey::Survey;

/// The form in which the outcome of a command is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line for each gateway.
    Lines,
    /// One line of JSON.
    Json,
    /// As Hermes prints it for `--all`: the failures, and the number of gateways that succeeded.
    Sum,
}

impl Form {
    /// Chooses JSON or lines.
    pub fn new(json: bool) -> Self {
        if json { Self::Json } else { Self::Lines }
    }
}

#[derive(Serialize)]
struct Operation<'a> {
    version: u32,
    ok: bool,
    results: Vec<JsonResult<'a>>,
    failures: Vec<&'a str>,
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

/// Prints the outcome of a request, and gives the exit code.
pub fn say(
    request: Request,
    outcome: &Outcome,
    report: &Report,
    survey: &Survey,
    form: Form,
) -> Code {
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
        // A process here that holds the lock, but is not the one that s6 knows: its slot or supervisor is gone.
        let orphan = lock.filter(|lock| lock.held).and_then(|lock| lock.pid);
        let supervised = row.and_then(|row| row.pid);
        let orphan = orphan.filter(|&pid| i32::try_from(supervised.unwrap_or(0)) != Ok(pid));
        let message = message(request, target, row, orphan);
        let ok = message.code == Code::Done;
        if !ok {
            codes.push(message.code);
        }
        let text = format!("{} {}", target.name.slot(), message.text);
        match form {
            Form::Json => {}
            Form::Sum if !ok => {
                let (verb, _) = words_of_hermes(request.verb);
                let slot = target.name.slot();
                report::failure_line(&format!("Could not {verb} {slot}: {}", message.text));
            }
            _ => report::outcome(ok, &text),
        }
        results.push(JsonResult {
            profile: target.name.as_str(),
            ok,
            outcome: message.word,
            state,
            pid: target.pid,
            milliseconds: u64::try_from(target.took.as_millis()).unwrap_or(u64::MAX),
            text,
        });
    }
    codes.extend(outcome.failures.iter().map(|_| Code::No));
    if !json {
        report::warnings(&outcome.failures);
    }
    match form {
        Form::Sum if results.is_empty() => {
            // There may be slots all the same: a restart leaves gateways down that their operator has stopped.
            let has_slot = |row: &Row| row.state != State::Unregistered;
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
            let (verb, _) = words_of_hermes(request.verb);
            report::note(&format!("there is no gateway to {verb}"));
        }
        Form::Json | Form::Lines => {}
    }
    if results.is_empty() && request.verb == Verb::Start {
        codes.push(Code::No);
    }
    if json {
        report::json(&Operation {
            version: 1,
            ok: codes.is_empty(),
            results,
            failures: texts(&outcome.failures),
        });
    }
    match codes.split_first() {
        None => Code::Done,
        Some((code, others)) if others.iter().all(|other| other == code) => *code,
        Some(_) => Code::No,
    }
}

/// Gives the texts of warnings, for JSON: each of them, also where several are the same.
fn texts(warnings: &[Warning]) -> Vec<&str> {
    warnings.iter().map(|warning| &*warning.text).collect()
}

/// Gives the two words that Hermes prints for a verb: to do it, and it is done.
fn words_of_hermes(verb: Verb) -> (&'static str, &'static str) {
    match verb {
        Verb::Start => ("start", "Started"),
        Verb::Restart => ("restart", "Restarted"),
        _ => ("stop", "Stopped"),
    }
}

/// How a request has ended for one gateway, in words.
struct Message {
    /// The exit code for this end.
    code: Code,
    /// The word for JSON.
    word: &'static str,
    /// The end of a sentence that begins with the name of the slot.
    text: String,
}

/// Puts into words how a request has ended for one gateway.
///
/// `orphan` is a process of the gateway that runs without a supervisor.
fn message(request: Request, target: &Target, row: Option<&Row>, orphan: Option<i32>) -> Message {
    let pid = target
        .pid
        .map_or_else(String::new, |pid| format!("pid {pid}"));
    let seconds = match target.took.as_millis() {
        took @ 0..100 => format!("{took} ms"),
        took => format!("{}.{} s", took / 1000, took / 100 % 10),
    };
    let see = format!("see hermes-s6 logs -p {}", target.name);
    let limit = request.timeout.unwrap_or(target.took).as_secs();
    let state = row.map_or(State::Unregistered, |row| row.state).words();
    let message = |code, word, text| Message { code, word, text };
    let end = target.end.as_ref().unwrap_or(&End::TimedOut);
    match end {
        End::Down | End::Killed | End::WasDown if orphan.is_some() => message(
            Code::No,
            "orphan",
            format!(
                "has no process that s6 knows, but one without a supervisor still runs: kill {}",
                orphan.unwrap_or_default()
            ),
        ),
        End::Ready if target.killed => message(
            Code::Done,
            "ready",
            format!("is ready ({pid}, {seconds}; its old process was killed, it had not ended)"),
        ),
        End::Ready => message(Code::Done, "ready", format!("is ready ({pid}, {seconds})")),
        End::WasReady if row.is_some_and(|row| row.state == State::Unresponsive) => {
            let restart = format!("hermes-s6 restart -p {}", target.name);
            message(
                Code::No,
                "unresponsive",
                format!("{}: {restart}", lost(row)),
            )
        }
        End::WasReady => message(Code::Done, "was_ready", format!("is ready already ({pid})")),
        End::Told if request.verb.is_up() => message(Code::Done, "told", "is starting".into()),
        End::Told => message(Code::Done, "told", "is stopping".into()),
        End::Down => message(Code::Done, "down", format!("is down ({seconds})")),
        End::Killed if !target.killed => message(
            Code::Done,
            "killed",
            format!("is down, by SIGKILL ({seconds})"),
        ),
        End::Killed => message(
            Code::Done,
            "killed",
            format!("is down (killed: it had not ended after {seconds})"),
        ),
        End::WasDown => message(Code::Done, "was_down", "is down already".into()),
        End::Lost => message(Code::No, "lost", format!("{}, {see}", lost(row))),
        End::Overruled => {
            let what = if request.verb.is_up() {
                "stopped"
            } else {
                "started again"
            };
            message(
                Code::No,
                "overruled",
                format!("was {what} by another command"),
            )
        }
        End::TimedOut if request.verb.is_up() && !target.is_ending() => message(
            Code::TimedOut,
            "timed_out",
            if row.is_some_and(|row| row.state == State::Ready) {
                format!("has got ready only after {limit} s")
            } else {
                format!("is not ready after {limit} s: it is {state}, {see}")
            },
        ),
        End::TimedOut => message(
            Code::TimedOut,
            "timed_out",
            format!("has not ended after {limit} s ({pid}), {see}"),
        ),
        End::Unsupervised => message(
            Code::Unsupervised,
            "unsupervised",
            "has no supervisor: run hermes-s6 reconcile".into(),
        ),
        End::Unseen(error) if request.verb.is_up() => message(
            error.code(),
            "unseen",
            format!("cannot be looked at: {error}"),
        ),
        End::Unseen(error) => message(
            error.code(),
            "unseen",
            format!("was told to end, but cannot be looked at: {error}"),
        ),
        End::Failed(error) => message(
            error.code(),
            "failed",
            format!("could not be told what to do: {error}"),
        ),
    }
}

/// Says what a gateway does that has gone down although it should run.
fn lost(row: Option<&Row>) -> String {
    let state = row.map_or(State::Unregistered, |row| row.state).words();
    let reason = row.and_then(|row| row.reason.as_ref());
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    // Another command may have started the gateway since.
    let before = if row.is_some_and(|row| row.pid.is_some()) {
        "has gone down, and now "
    } else {
        ""
    };
    format!("{before}is {state}{reason}")
}

/// Prints what a convergence did: a line for each change, then the warnings; or one line of JSON.
pub fn say_converged(outcome: &Converged, json: bool, dry_run: bool) {
    if json {
        report::json(&Convergence::of(outcome, dry_run));
        return;
    }
    let changes = &outcome.plan.changes;
    for change in changes {
        report::line(&format!("reconcile: {change}"));
    }
    if let Some(adopted) = outcome.plan.adopted() {
        report::line(&format!("reconcile: {adopted}"));
    }
    let failed = changes
        .iter()
        .filter(|change| change.action == Action::Failed)
        .count();
    let changed = changes
        .iter()
        .filter(|change| !change.steps.is_empty())
        .count()
        - failed;
    let failed = if failed == 0 {
        String::new()
    } else {
        format!(", {failed} failed")
    };
    report::line(&match (changed, dry_run) {
        (0, _) if outcome.plan.is_empty() => "reconcile: nothing changed".to_owned(),
        (0, _) if failed.is_empty() => "reconcile: no slot changed".to_owned(),
        (_, false) => format!("reconcile: {changed} changed{failed}"),
        (_, true) => format!("reconcile: {changed} would change"),
    });
    warn(outcome);
}

#[derive(Serialize)]
struct Convergence<'a> {
    version: u32,
    dry_run: bool,
    changed: bool,
    changes: Vec<JsonChange<'a>>,
    adopted: &'a [ProfileName],
    failures: Vec<&'a str>,
}

#[derive(Serialize)]
struct JsonChange<'a> {
    profile: &'a str,
    prior_state: Option<&'a str>,
    action: Action,
    reason: Option<&'a str>,
    warning: Option<&'a str>,
}

impl<'a> Convergence<'a> {
    fn of(outcome: &'a Converged, dry_run: bool) -> Self {
        let json = |change: &'a Change| JsonChange {
            profile: &change.profile,
            prior_state: change.prior_state.as_deref(),
            action: change.action,
            reason: change.reason.as_deref(),
            warning: change.warning.as_deref(),
        };
        Self {
            version: 1,
            dry_run,
            changed: !outcome.plan.is_empty(),
            changes: outcome.plan.changes.iter().map(json).collect(),
            adopted: &outcome.plan.volume.adopted,
            failures: texts(&outcome.failures),
        }
    }
}
