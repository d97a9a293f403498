//! Waiting with a limit: every wait has an end, and a long one tells the person what it waits for.

use std::time::{Duration, Instant};

use crate::report::note;

/// The pause between two looks at the condition.
const INTERVAL: Duration = Duration::from_millis(5);

/// After this time the person is told what is being waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits until `condition` holds, but no longer than `limit`, and tells whether `condition` holds at the end.
///
/// `what` ends the message "waiting for …".
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    let mut is_announced = false;
    loop {
        let look = Instant::now();
        if condition() {
            return true;
        }
        let took = look.elapsed();
        let waited = start.elapsed();
        if waited >= limit {
            return false;
        }
        if waited >= PATIENCE && !is_announced {
            is_announced = true;
            note(&format!(
                "waiting for {what} (at most {} s)",
                limit.as_secs()
            ));
        }
        std::thread::sleep(pause(took));
    }
}

/// Gives the pause after a look that took so long: looks at many gateways take half of the time at most, since what is
/// waited for needs the machine too.
fn pause(look: Duration) -> Duration {
    look.max(INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_the_condition_holds_or_its_time_is_over() {
        let long = Duration::from_secs(60);
        let none = Duration::ZERO;
        // The limit, at which look the condition holds, how often it is looked at, whether it holds.
        for (limit, holds_at, looks, holds, sentence) in [
            (long, 1, 1, true, "it holds already"),
            (long, 3, 3, true, "it comes to hold"),
            (none, 1, 1, true, "it holds, and there is no time"),
            (none, 2, 1, false, "without time it is looked at once"),
        ] {
            let mut count = 0;
            let held = wait_until(limit, "nothing", || {
                count += 1;
                count >= holds_at
            });
            assert_eq!((count, held), (looks, holds), "{sentence}");
        }
    }

    #[test]
    fn who_waits_looks_for_half_of_the_time_at_most() {
        for (look, expected, sentence) in [
            (0, 5, "one gateway"),
            (5, 5, "as long as the least pause"),
            (40, 40, "hundreds of gateways"),
        ] {
            let pause = pause(Duration::from_millis(look));
            assert_eq!(pause, Duration::from_millis(expected), "{sentence}");
        }
    }

    #[test]
    fn a_wait_in_vain_takes_its_time() {
        let limit = Duration::from_millis(50);
        let start = Instant::now();
        assert!(!wait_until(limit, "nothing", || false));
        assert!(start.elapsed() >= limit, "{:?}", start.elapsed());
    }
}
