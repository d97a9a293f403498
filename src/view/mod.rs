//! What is shown: the status and its verdicts, tables, metrics, logs, and what the doctor finds.
//!
//! - [`status`] looks at profiles and slots, [`verdict`] judges what was seen, and [`row`] are the results.
//!   [`dashboard`] does the same for the dashboard.
//! - [`table`] writes them for people, [`metrics`] for Prometheus.
//! - [`logs`] and [`doctor`] look at other things than the status.

pub mod dashboard;
pub mod doctor;
pub mod logs;
pub mod metrics;
pub mod row;
pub mod status;
pub mod table;
pub mod verdict;
