//! The slots and the s6-svscan above them: looking, planning, applying, and the lifecycle of what runs.

pub mod apply;
pub mod detect;
pub mod lifecycle;
pub mod owner;
pub mod plan;
pub mod reconcile;
pub mod remove;
pub mod scandir;
pub mod slot;
pub mod supervise;
