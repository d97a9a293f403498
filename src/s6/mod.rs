//! s6's own words: status files, limits, programs, execline quoting.

pub mod capacity;
pub mod storm;
pub mod supervision;
pub mod tool;
pub mod word;
