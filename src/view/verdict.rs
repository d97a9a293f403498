//! What a gateway does against what its operator wants: whether that differs, why, and what to do.

use std::time::SystemTime;

use crate::hermes::state::Intent;
use crate::s6::supervision::{CRASH_LOOP_DEATHS, CRASH_LOOP_WINDOW, Death};
use crate::tree::slot::EXIT_LOCKED;
use crate::view::status::{Row, State};
use crate::volume::survey::Lock;

/// Adds to a row what is not as its operator wants it, and what to do about it.
///
/// `watched` says that an s6-svscan watches the scan directory, `advice` what comes before the remedy.
pub fn judge(row: &mut Row, intent: &Intent, watched: bool, advice: &str) {
    let up = matches!(
        row.state,
        State::Ready | State::Up | State::Starting | State::WaitingForLock
    );
    let unwanted = up && intent.wants_stopped();
    let odd = unwanted || row.is_missing();
    let command = match row.state {
        State::Unsupervised | State::Unregistered if row.wanted && !watched => "supervise",
        State::Unsupervised if row.wanted => "reconcile",
        State::Down | State::Stopping | State::Unregistered if row.wanted => "start -p ",
        State::Parked => "start -p ",
        _ if unwanted => "stop -p ",
        _ => "",
    };
    let name = row.profile.as_str();
    row.remedy = (!command.is_empty()).then(|| {
        let name = if command.ends_with(' ') { name } else { "" };
        ["hermes-s6 ", command, name].concat()
    });
    if !odd && row.reason.is_none() {
        return;
    }
    let wants = match (row.wanted, unwanted) {
        (true, _) => " wants running,",
        (_, true) => " wants stopped,",
        _ => "",
    };
    let mut note = [name, wants, " is ", row.state.words()].concat();
    if let Some(reason) = &row.reason {
        note.extend([": ", reason]);
    }
    if let (State::Parked | State::Down, true, Some(seconds)) = (row.state, odd, row.seconds) {
        note.extend([", ", &ago(seconds)]);
    }
    let remedy = row.remedy.as_deref().unwrap_or_default();
    if !advice.is_empty() || !remedy.is_empty() {
        note.extend([": ", advice, remedy]);
    }
    row.warning = odd.then(|| note.clone());
    row.note = Some(note);
}

/// Tells why `finish` parked a gateway, and what to do before it is started again; `None` if it did not.
pub fn parked(
    lock: Option<&Lock>,
    intent: &Intent,
    deaths: &[(SystemTime, Death)],
) -> Option<(String, &'static str)> {
    let (last, death) = deaths.last()?;
    let counts = |death: &Death| match death {
        Death::Exit(code) => (1..=127).contains(code) && *code != 75,
        // ILL, ABRT, BUS, FPE, SEGV, as in the finish script.
        Death::Signal(signal) => matches!(signal, 4 | 6 | 7 | 8 | 11),
    };
    let recent = |time: &SystemTime| {
        last.duration_since(*time)
            .is_ok_and(|age| age <= CRASH_LOOP_WINDOW)
    };
    let crashes = deaths
        .iter()
        .filter(|(time, death)| counts(death) && recent(time))
        .count();
    Some(match death {
        Death::Exit(EXIT_LOCKED) => {
            let holder = lock.map_or_else(|| "its lock was held".to_owned(), holder_text);
            let held = lock.is_some_and(|lock| lock.held);
            let advice = if held { "stop it there, then " } else { "" };
            (format!("exit {EXIT_LOCKED} ({holder})"), advice)
        }
        Death::Exit(78) => ("exit 78 (configuration)".to_owned(), "fix it, then "),
        Death::Exit(0) if intent.wants_running() => ("exit 0 (it ended by itself)".to_owned(), ""),
        _ if crashes >= CRASH_LOOP_DEATHS => {
            let reason = format!("crash loop ({crashes} deaths in two minutes)");
            (reason, "fix it, then ")
        }
        _ => return None,
    })
}

/// Names the holder of a lock, also by its pid here unless it has signed with that.
pub fn holder_text(lock: &Lock) -> String {
    let holder = &lock.signature;
    if !lock.held {
        return format!("its lock was held by {holder}, and is free now");
    }
    match lock.pid {
        Some(pid) if !holder.contains(&format!(" pid {pid} ")) => {
            format!("its lock is held by {holder}, pid {pid} here")
        }
        _ => format!("its lock is held by {holder}"),
    }
}

/// Tells how long ago something was.
fn ago(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3600 => (seconds / 60, "min"),
        3600..86_400 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{count} {unit} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_some_time_ago_has_one_unit() {
        let texts = [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 900_000].map(ago);
        assert_eq!(
            texts,
            [
                "0 s ago",
                "59 s ago",
                "1 min ago",
                "59 min ago",
                "1 h ago",
                "23 h ago",
                "1 d ago",
                "10 d ago"
            ]
        );
    }

    #[test]
    fn a_holder_is_named_as_it_signed_and_as_it_is_seen_here() {
        let named = |held, pid| {
            holder_text(&Lock {
                signature: "web-1 pid 7 since then".to_owned(),
                held,
                pid,
            })
        };
        let held = "its lock is held by web-1 pid 7 since then";
        assert_eq!(named(true, None), held, "elsewhere");
        assert_eq!(named(true, Some(7)), held);
        assert_eq!(named(true, Some(70)), format!("{held}, pid 70 here"));
        assert_eq!(
            named(false, None),
            "its lock was held by web-1 pid 7 since then, and is free now"
        );
    }
}
