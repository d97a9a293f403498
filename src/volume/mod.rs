//! What lies on Hermes' volume: profiles, intents, ports, locks; and what is written there.
//!
//! - [`survey`] reads the volume, with [`port`] for the ports, [`lock`] for the locks, [`log`] for the
//!   log directories and [`said`] for what gateways say of themselves.
//! - [`changes`] are what a command decides to write, as values; [`mod@write`] writes them.

pub mod changes;
pub mod lock;
pub mod log;
pub mod port;
pub mod said;
pub mod survey;
pub mod write;
