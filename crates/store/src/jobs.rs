//! The job queue: the `jobs` table. See `docs/jobs.md` and `docs/protocol.md`.
//!
//! `pending -> queued -> running -> completed`; back to pending after a failure, an expired lease or a newer change;
//! `dead` once a job cannot succeed. Producers [`enqueue`]; the dispatcher calls [`dispatch`] and
//! [`rescue_expired`]; workers [`claim`], [`renew`], [`complete`], [`fail`] and [`release`]. Statements of a
//! worker match job, running state and claim token, so a worker that lost its claim changes nothing.
//!
//! Statements lock jobs in the order of their deduplication keys, so that two of them cannot deadlock.

pub mod admin;
mod claim;
mod clean;
mod complete;
mod count;
mod dead_letter;
mod dispatch;
mod enqueue;
mod fail;
mod notify;
mod release;
mod renew;
mod rescue;

pub use self::claim::{ClaimToken, Claimed, claim, claim_isolated, quarantined};
pub use self::clean::delete_completed;
pub use self::complete::complete;
pub use self::count::{dead, running, unfinished, unfinished_backfills, unfinished_before};
pub use self::dead_letter::dead_letter;
pub use self::dispatch::{Dispatched, dispatch, queued_for, requeue};
pub use self::enqueue::{NewJob, enqueue, raise_target_revision};
pub use self::fail::{Failure, fail};
pub use self::notify::NOTIFY_CHANNEL;
pub use self::release::release;
pub use self::renew::renew;
pub use self::rescue::{Rescued, rescue_expired};
