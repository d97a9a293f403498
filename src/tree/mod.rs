//! The slots and the s6-svscan above them: looking, planning, applying, and the lifecycle of what runs.
//!
//! - [`scandir`] opens the scan directory, and [`world`] looks at all that is in it; [`detect`] tells whether a
//!   tree runs, and [`owner`] whom it is for.
//! - [`held`] tells what keeps gateways down here. [`plan`] decides what to change, [`slot`] renders the files;
//!   [`apply`] and [`remove`] change the scan directory, and [`change`] says what has changed. [`reconcile`] does
//!   all of this in one go, and [`supervise`] then becomes the s6-svscan.
//! - [`logger`] looks at the loggers, and [`tender`] is the service that does so every few seconds. [`dashboard`] is
//!   the other service that is no slot.
//! - [`lifecycle`] starts, stops and restarts gateways that have a slot.

pub mod apply;
pub mod change;
pub mod dashboard;
pub mod detect;
pub mod held;
pub mod lifecycle;
pub mod logger;
pub mod owner;
pub mod plan;
pub mod reconcile;
pub mod remove;
pub mod scandir;
pub mod slot;
pub mod supervise;
pub mod tender;
pub mod world;
