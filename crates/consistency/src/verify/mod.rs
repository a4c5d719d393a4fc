//! Compares Postgres with the index in both directions, and repairs differences through ordinary jobs.
//!
//! One pass reads the points of a collection by id and looks up their sessions in Postgres; the other reads sessions by
//! channel and looks up the points that they should have. Each pass holds one page in memory.
//!
//! Jobs may run at the same time. A difference that an unfinished job will resolve is reported as in progress, and every
//! other difference is read a second time, so that a change between two reads is not reported.
//!
//! - `scan`: the two passes.
//! - `diff`: compares one point or session, without I/O.
//! - `repair`: enqueues jobs for differences.
//! - `report`: the result.

mod diff;
mod error;
mod progress;
mod repair;
mod report;
mod scan;
mod verifier;

pub use error::VerifyError;
pub use progress::Progress;
pub use report::{DifferenceKind, Differences, Example, GuildReport, ModelReport, Report};
pub use verifier::{Repaired, Request, Verifier, repair_collection};
