//! Bounded waits: every one has an end, and says what it waits for when it takes long.

use std::time::{Duration, Instant};

use crate::report::note;

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// After this long a person wants to know what is going on.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits until `condition` holds, for at most `limit`, and tells whether it does.
///
/// `what` completes "waiting for".
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    let mut said = false;
    while !condition() {
        let waited = start.elapsed();
        if waited >= limit {
            return false;
        }
        if waited >= PATIENCE && !said {
            said = true;
            note(&format!(
                "waiting for {what} (at most {} s)",
                limit.as_secs()
            ));
        }
        std::thread::sleep(INTERVAL);
    }
    true
}
