//! The machine: its files, accounts, processes, signals and clock.
//!
//! - [`beneath`] opens files without following links, [`root`] moves "/", [`trust`] tells what only root changes.
//! - [`account`] reads `/etc/passwd`; [`process`] identifies and signals processes; [`signal`] handles our own
//!   signals.
//! - [`relay`] runs a child that may not have our own streams, [`terminal`] makes it a terminal, and [`stream`] opens a
//!   stream of ours once more.
//! - [`mount`] tells which file systems may hang, and [`pulse`] that one does not. [`socket`] tells who listens.
//! - [`time`] writes times as text; [`wait`] waits, but never without end.

pub mod account;
pub mod beneath;
pub mod mount;
pub mod process;
pub mod pulse;
pub mod relay;
pub mod root;
pub mod signal;
pub mod socket;
pub mod stream;
pub mod terminal;
pub mod time;
pub mod trust;
pub mod wait;
pub mod walk;
