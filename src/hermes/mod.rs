//! Hermes' own words: its command line, state file, profile names, container roles, configuration.
//!
//! These modules only read text and give values; they know nothing of s6. [`container`] also reads /proc.

pub mod config;
pub mod container;
pub mod dashboard;
pub mod dotenv;
pub mod line;
pub mod name;
pub mod program;
pub mod scalar;
pub mod state;
pub mod yaml;
