//! Turns jobs into points.
//!
//! - [`Worker`]: takes deliveries from the queues and runs them to their end.
//! - `intake`: deliveries become claims, in batches.
//! - `pipeline`: index jobs in stages that overlap: read, embed, write.
//! - `tasks`: the jobs that are not about one session.
//! - `finish`: outcomes go into the ledger, in batches.
//! - `limits`, `watchdog`: work that takes too long is given up; a process in which it goes on all the same ends.
//!
//! The order of things within an index job, and why a crash between any two of them does no harm, is told in
//! `docs/protocol.md`.

mod breaker;
mod claims;
mod config;

mod finish;
mod intake;
mod limits;
mod parts;
mod pipeline;
mod retry;
mod targets;
mod tasks;
mod watchdog;
mod worker;

pub use config::{Concurrency, WorkerConfig};
pub use limits::{Limit, Limits};
pub use watchdog::{EXIT_HUNG, LastResort, exit_hung};
pub use worker::Worker;
