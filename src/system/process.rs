//! Processes, as /proc shows them.

use crate::system::root::Root;

/// Reads a field of /proc/PID/stat, by the number that proc(5) gives it.
pub fn stat_field(root: &Root, pid: &str, number: usize) -> Option<String> {
    let stat = std::fs::read_to_string(root.at(format!("/proc/{pid}/stat"))).ok()?;
    // Counted behind the command's name, which may contain anything: the third field comes first.
    stat.rsplit(')')
        .next()?
        .split_whitespace()
        .nth(number - 3)
        .map(str::to_owned)
}
