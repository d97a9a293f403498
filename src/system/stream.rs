//! Our own streams: opening one of them once more.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{FileType, OFlags};

/// Opens the file of a stream once more; `None` if that cannot be done, or does not matter.
///
/// Only pipes and terminals can be opened in this way, and only for them does it matter.
pub fn opened_anew(stream: BorrowedFd, flags: OFlags) -> Option<File> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(stream).ok()?.st_mode);
    if !matches!(kind, FileType::Fifo | FileType::CharacterDevice) {
        return None;
    }
    let flags = flags | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let path = format!("/proc/self/fd/{}", stream.as_raw_fd());
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(flags).open(path).ok()
}
