//! One file per periodic task.

pub(super) mod analyze;
pub(super) mod clean_jobs;
pub(super) mod dispatch;
pub(super) mod report;
pub(super) mod requeue_lost;
pub(super) mod rescue_leases;
pub(super) mod retention;
pub(super) mod settle_erasures;
