//! Signs of life: a child that works on the volume prints one whenever the volume has answered, so that its parent can
//! tell a slow volume from one that never answers again.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::report;

/// A sign: white space in front of the answer, which is JSON.
const SIGN: &str = "\n";

/// Whether this process is such a child.
static IS_WATCHED: AtomicBool = AtomicBool::new(false);

/// Has this process print signs from now on.
pub fn begin() {
    IS_WATCHED.store(true, Ordering::Relaxed);
}

/// Prints a sign, if this process is watched.
pub fn beat() {
    if IS_WATCHED.load(Ordering::Relaxed) {
        report::print(SIGN);
    }
}
