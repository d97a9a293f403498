//! What lies on Hermes' volume: profiles, intents, ports, locks; and what is written there.
//!
//! - [`survey`] reads the volume, with [`setting`] for what operators set, [`port`] for the ports, [`lock`] for
//!   the locks, [`log`] for the log directories and [`said`] for what gateways say of themselves. A look that fails is
//!   a [`problem`], and no answer.
//! - [`changes`] are what a command decides to write, as values; [`mod@write`] writes them.

pub mod changes;
pub mod lock;
pub mod log;
pub mod port;
pub mod problem;
pub mod said;
pub mod setting;
pub mod survey;
pub mod write;
