//! Signals of this process: restores the effect of those that the caller ignores, and holds interrupts off.
//!
//! A process inherits ignored signals from its caller, and passes them on to every program that it executes.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::emulate_default_handler;

use crate::error::{Error, Result};

/// The signals that a terminal sends to end its foreground job (Ctrl-C and Ctrl-\).
const INTERRUPTS: [i32; 2] = [SIGINT, SIGQUIT];

/// Whether an interrupt ends this process at the moment.
static IS_INTERRUPTIBLE: LazyLock<Arc<AtomicBool>> =
    LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// Restores the usual effect of SIGCHLD, SIGINT and SIGQUIT, even if the caller ignores these signals.
///
/// While SIGCHLD is ignored, nobody learns how a child ended. Shells ignore SIGINT and SIGQUIT in background
/// jobs, and a tree with all its gateways would inherit that. This process gets handlers: a program that it
/// executes loses a handler and so has the usual effect of the signal. Rust's own runtime restores SIGPIPE for
/// executed programs.
pub fn restore() -> Result<()> {
    notice_children()?;
    INTERRUPTS.into_iter().try_for_each(end_by)
}

/// Restores the usual effect of SIGCHLD, so that this process can wait for its children.
pub fn notice_children() -> Result<()> {
    notice(SIGCHLD)
}

/// Restores the usual effect of SIGHUP in the programs that this process executes: s6-supervise ends by it, and
/// nohup(1) has it ignored. It does not end this process.
pub fn restore_hangup() -> Result<()> {
    notice(SIGHUP)
}

/// Installs a handler that does nothing.
fn notice(signal: i32) -> Result<()> {
    flag::register(signal, Arc::default())
        .map(drop)
        .map_err(|cause| Error::system("handle", format!("signal {signal}"), cause))
}

/// Does work that an interrupt must not end, and gives the result of the work.
///
/// A signal that the caller ignores stays ignored, also in the programs that the work executes.
pub fn without_interrupts<T>(work: impl FnOnce() -> T) -> Result<T> {
    not_ignored(&INTERRUPTS)?.into_iter().try_for_each(end_by)?;
    IS_INTERRUPTIBLE.store(false, Ordering::SeqCst);
    let done = work();
    IS_INTERRUPTIBLE.store(true, Ordering::SeqCst);
    Ok(done)
}

/// Installs a handler by which a signal ends this process, but only while [`IS_INTERRUPTIBLE`] is set.
fn end_by(signal: i32) -> Result<()> {
    if std::process::id() == 1 {
        // The kernel lets no such signal end PID 1, which would wait for its own end.
        return notice(signal);
    }
    flag::register_conditional_default(signal, Arc::clone(&IS_INTERRUPTIBLE))
        .map(drop)
        .map_err(|cause| Error::system("handle", format!("signal {signal}"), cause))
}

/// Gives those of some signals that the caller does not ignore.
pub fn not_ignored(signals: &[i32]) -> Result<Vec<i32>> {
    let status = "/proc/self/status";
    let status =
        fs::read_to_string(status).map_err(|cause| Error::system("read", status, cause))?;
    let mut signals = signals.to_vec();
    signals.retain(|signal| !is_ignored(&status, *signal));
    Ok(signals)
}

/// Ends this process by a signal of those that end jobs, so that its caller sees that; returns if it is another one.
pub fn end_by_default(signal: i32) {
    if [SIGHUP, SIGINT, SIGQUIT, SIGTERM].contains(&signal) {
        let _still_here = emulate_default_handler(signal);
    }
}

/// Reads from the text of /proc/PID/status whether the process ignores a signal.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_counts_from_signal_1() {
        let status = "Name:\tx\nSigIgn:\t0000000000000006\nSigCgt:\t0000000000010000\n";
        for (signal, ignored) in [
            (1, false),
            (SIGINT, true),
            (SIGQUIT, true),
            (SIGCHLD, false),
        ] {
            assert_eq!(is_ignored(status, signal), ignored, "signal {signal}");
        }
        assert!(!is_ignored("", SIGINT));
    }
}
