//! Services that end again and again: how they ended, in words, and for how long a start is held back.

use std::time::{Duration, SystemTime};

use crate::s6::supervision::{CRASH_LOOP_WINDOW, Death};

/// The names of the signals from 1 on, by their numbers on Linux (x86-64 and arm64).
const SIGNALS: &str = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT \
    CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";

/// Says how a process ended.
pub fn death_text(death: Death) -> String {
    match death {
        Death::Exit(code) => format!("exit {code}"),
        Death::Signal(number) => {
            let name = SIGNALS.split(' ').nth(usize::from(number).wrapping_sub(1));
            name.map_or_else(|| format!("signal {number}"), |name| ["SIG", name].concat())
        }
    }
}

/// The deaths in a row after which a start is held back for the first time.
const DEATHS_AT_ONCE: usize = 4;

/// The longest time for which a start is held back.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// A service that ends again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storm {
    /// How often it has ended in a row, each time within two minutes of the last.
    pub deaths: usize,
    /// How long that took, from the first of these deaths to the last.
    pub lasts: Duration,
    /// For how long the next start is held back.
    pub back_off: Duration,
}

/// Tells whether a service ends again and again; `deaths` are the earlier ones, oldest first.
///
/// A process that lives for two minutes, or for one after a start that was held back for the other, ends a storm.
pub fn storm(deaths: &[(SystemTime, Death)]) -> Option<Storm> {
    let (last, _) = deaths.last()?;
    let mut first = *last;
    let mut count: usize = 1;
    for (time, _) in deaths.iter().rev().skip(1) {
        // A clock that was set back does not end it.
        if first.duration_since(*time).unwrap_or_default() >= CRASH_LOOP_WINDOW {
            break;
        }
        first = *time;
        count += 1;
    }
    let beyond = count.checked_sub(DEATHS_AT_ONCE)?;
    let seconds = 1_u64.checked_shl(u32::try_from(beyond).ok()?.min(16))?;
    Some(Storm {
        deaths: count,
        lasts: last.duration_since(first).unwrap_or_default(),
        back_off: Duration::from_secs(seconds).min(BACK_OFF_MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// When it ended; then how often in a row, for how long, and how long it is held back.
    type Row<'a> = (&'a [u64], Option<(usize, u64, u64)>, &'a str);

    #[test]
    fn a_service_that_ends_again_and_again_is_held_back_for_up_to_a_minute() {
        let at_seconds = |list: &[u64]| -> Vec<(SystemTime, Death)> {
            let death = |seconds: &u64| (at(*seconds), Death::Exit(75));
            list.iter().map(death).collect()
        };
        let many: Vec<u64> = (0..128).map(|number| 1_000 + 61 * number).collect();
        #[rustfmt::skip]
        let rows: [Row; 9] = [
            (&[], None, "it has never ended"),
            (&[1, 2, 3], None, "the first three are for free"),
            (&[1, 2, 3, 4], Some((4, 3, 1)), "then a second"),
            (&[1, 2, 3, 4, 6], Some((5, 5, 2)), "then two"),
            (&[1, 2, 3, 4, 6, 9, 14, 23, 40, 73], Some((10, 72, 60)), "at most a minute"),
            (&many, Some((128, 127 * 61, 60)), "also when s6 has forgotten how it began"),
            (&[1, 2, 3, 4, 124], None, "a process that lives for two minutes ends it"),
            (&[1, 2, 3, 4, 123], Some((5, 122, 2)), "one that does not, does not"),
            (&[9, 8, 7, 6], Some((4, 0, 1)), "a clock that is set back does not"),
        ];
        for (deaths, expected, sentence) in rows {
            let expected = expected.map(|(deaths, lasts, back_off)| Storm {
                deaths,
                lasts: Duration::from_secs(lasts),
                back_off: Duration::from_secs(back_off),
            });
            assert_eq!(storm(&at_seconds(deaths)), expected, "{sentence}");
        }
    }

    #[test]
    fn a_signal_has_its_name_if_it_has_one() {
        let texts = [1, 9, 11, 15, 31, 32].map(|signal| death_text(Death::Signal(signal)));
        assert_eq!(
            texts,
            [
                "SIGHUP",
                "SIGKILL",
                "SIGSEGV",
                "SIGTERM",
                "SIGSYS",
                "signal 32"
            ]
        );
        assert_eq!(death_text(Death::Exit(78)), "exit 78");
    }
}
