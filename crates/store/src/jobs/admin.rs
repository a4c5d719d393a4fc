//! Operator commands: list, show, retry, cancel and purge jobs.
//!
//! Actions decide by a job's state under its lock: a job that a worker completed or claimed meanwhile is
//! skipped.

mod actions;
mod filter;
mod list;
mod state;

pub use self::actions::{ActionResult, AdminAction, JobSummary, pick};
pub use self::filter::{Filter, Tenants};
pub use self::list::{Attempt, JobRow, list, show};
pub use self::state::JobState;
