//! Hermes' own words: its command line, state file, profile names, container roles, configuration.

pub mod config;
pub mod container;
pub mod line;
pub mod name;
pub mod state;
