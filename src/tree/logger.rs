//! The loggers: the s6-log of each slot, which writes what its gateway says.

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::ioctl_fionread;

use crate::system::root::Root;

/// Tells whether the pipe of a logger has lines that the logger has not read yet.
pub fn has_unread(root: &Root, pid: i32) -> bool {
    let stdin = root.at(format!("/proc/{pid}/fd/0"));
    let pipe = openat(
        CWD,
        stdin,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    );
    pipe.is_ok_and(|pipe| ioctl_fionread(&pipe).is_ok_and(|bytes| bytes > 0))
}
