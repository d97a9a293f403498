//! What lies on Hermes' volume: profiles, intents, ports, locks; and what is written there.
//!
//! - [`survey`] reads the volume, with [`port`] for the ports and [`lock`] for the locks.
//! - [`changes`] are what a command decides to write, as values; [`mod@write`] writes them.

pub mod changes;
pub mod lock;
pub mod port;
pub mod survey;
pub mod write;
