//! What is shown: the status and its verdicts, tables, metrics, logs, and what the doctor finds.

pub mod doctor;
pub mod logs;
pub mod metrics;
pub mod row;
pub mod status;
pub mod table;
pub mod verdict;
