//! Periodic work: moves due jobs to Redis and maintains the `jobs` table.
//!
//! The [`Scheduler`] runs one file of `tasks` each: it dispatches due jobs, rescues expired leases, requeues jobs that Redis
//! lost, completes erasure receipts, deletes completed jobs and expired messages, and refreshes statistics. Any number of
//! schedulers may run; advisory locks let one at a time work. Each reports the last outcome of its tasks to the
//! `scheduler_tasks` table.

mod driver;
mod status;
mod task;
mod tasks;

pub use driver::Scheduler;
pub use status::{TaskReport, TaskStatus};
pub use task::TaskError;
pub use tasks::retention::delete_expired;
