//! Terminals: makes one for a child that may not have ours, and passes on what is typed on ours.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::fchown;
use rustix::io::Errno;
use rustix::process::{Uid, getpgrp};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    LocalModes, OptionalActions, OutputModes, Termios, tcgetattr, tcgetpgrp, tcgetwinsize,
    tcsetattr, tcsetwinsize,
};

/// Makes a terminal like another one: gives our end of it, and that of a child. The child's belongs to `owner`.
///
/// If nobody `types`, it leaves lines as they are written: the other terminal ends them.
pub fn like(other: BorrowedFd, types: bool, owner: Uid) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    // Root may lack the capability CHOWN. Then the child cannot open its terminal anew by its name.
    let _as_it_is = fchown(&theirs, Some(owner), None);
    let mut modes = tcgetattr(other)?;
    if !types {
        modes.output_modes.remove(OutputModes::OPOST);
        modes.local_modes.remove(LocalModes::ECHO);
    }
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    resize(&ours, other);
    Ok((ours, theirs))
}

/// Gives a terminal the size of another one.
pub fn resize(terminal: &OwnedFd, other: BorrowedFd) {
    let _as_it_is = tcgetwinsize(other).and_then(|size| tcsetwinsize(terminal, size));
}

/// A terminal that gives every key as it is typed, also those that would send a signal, until this is dropped.
pub struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    modes: Termios,
}

impl<'a> Raw<'a> {
    /// Sets a terminal; `None` if this process is not in its foreground, and so may not read from it.
    pub fn set(terminal: BorrowedFd<'a>) -> Result<Option<Self>, Errno> {
        if tcgetpgrp(terminal) != Ok(getpgrp()) {
            return Ok(None);
        }
        let modes = tcgetattr(terminal)?;
        let mut raw = modes.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Drain, &raw)?;
        Ok(Some(Self { terminal, modes }))
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        let _gone = tcsetattr(self.terminal, OptionalActions::Drain, &self.modes);
    }
}
