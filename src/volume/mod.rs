//! What lies on Hermes' volume: profiles, intents, ports, locks; and what is written there.

pub mod changes;
pub mod lock;
pub mod port;
pub mod survey;
pub mod write;
