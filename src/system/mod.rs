//! The machine: directories without links, the root, trust, accounts, processes, waiting.

pub mod account;
pub mod beneath;
pub mod process;
pub mod root;
pub mod signal;
pub mod time;
pub mod trust;
pub mod wait;
