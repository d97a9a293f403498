//! What a gateway says of itself in its home: whether it failed to start, and its heartbeat.

use rustix::time::{ClockId, clock_gettime};

use crate::hermes::state::{HEARTBEAT_DIRECTORY, HEARTBEAT_FILE, Heartbeat, Said, failed_start};
use crate::system::beneath::Dir;
use crate::volume::log::is_full;

/// The largest heartbeat that is read, in bytes.
const HEARTBEAT_LIMIT: u64 = 1 << 14;

/// Reads what a gateway says of itself; `state` is the content of its state file.
pub fn said(home: &Dir, state: Option<&[u8]>) -> Said {
    Said {
        failed_start: state.and_then(failed_start),
        heartbeat: heartbeat(home),
    }
}

/// Reads the heartbeat of a gateway. Where no file can be written, an old one says nothing.
fn heartbeat(home: &Dir) -> Option<Heartbeat> {
    let directory = home.dir(HEARTBEAT_DIRECTORY).ok()?;
    let content = directory.read(HEARTBEAT_FILE, HEARTBEAT_LIMIT).ok()?;
    let now = clock_gettime(ClockId::Monotonic).tv_sec;
    let beat = Heartbeat::read(&content, u64::try_from(now).ok()?)?;
    (!is_full(&directory)).then_some(beat)
}
