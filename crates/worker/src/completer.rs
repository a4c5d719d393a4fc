//! Results of jobs, written to Postgres in batches.

use std::sync::Arc;
use std::time::Duration;

use guildex_store::jobs::{self, Failure};
use guildex_types::{RetryPolicy, Revision};
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{Instrument, Span};

use crate::lease_keeper::{Lease, LeaseKeeper};
use crate::retry::retry_transient;

/// Most results written at a time.
const BATCH: usize = 256;

/// Delay before a released job runs again, so that a job that cannot run yet does not spin.
const RELEASE_DELAY: Duration = Duration::from_millis(500);

/// Outcome of an attempt.
pub(crate) enum Outcome {
    /// The index shows the session at this revision or later; other jobs report their target revision.
    Completed(Revision),
    /// Another attempt may succeed.
    Failed(String),
    /// The job, or another one in its batch, took too long.
    TimedOut(String),
    /// The job, or another one in its batch, panicked.
    Panicked,
    /// The job did not run to its end: the worker stops, or a precondition is missing.
    Released,
}

impl Outcome {
    /// Outcome of a job that was dropped without one.
    pub fn of_dropped() -> Self {
        if std::thread::panicking() { Self::Panicked } else { Self::Released }
    }

    /// The worse of two outcomes of one job.
    pub fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Panicked, _) | (_, Self::Panicked) => Self::Panicked,
            (Self::TimedOut(error), _) | (_, Self::TimedOut(error)) => Self::TimedOut(error),
            (Self::Failed(error), _) | (_, Self::Failed(error)) => Self::Failed(error),
            (Self::Released, _) | (_, Self::Released) => Self::Released,
            (Self::Completed(one), Self::Completed(two)) => Self::Completed(one.min(two)),
        }
    }
}

/// Acknowledges the delivery and frees the slots when dropped, which happens once the result is written.
pub(crate) struct DeliveryAck {
    pub _delivery: oneshot::Sender<()>,
    /// One slot for most jobs, all slots for a quarantined job, which therefore runs alone.
    pub _slots: OwnedSemaphorePermit,
}

/// A job with the outcome of its attempt.
pub(crate) struct JobResult {
    pub lease: Lease,
    pub attempt: u32,
    pub outcome: Outcome,
    /// The job's span.
    pub span: Span,
    pub _ack: DeliveryAck,
}

/// Delays before jobs run again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunAgain {
    /// After a failure.
    pub retry: RetryPolicy,
    /// Before the recheck of a completed job that had been taken over from another worker.
    pub recheck_delay: Duration,
}

/// Accepts results of jobs. The slots bound how many are waiting to be written.
#[derive(Clone)]
pub(crate) struct Completer(mpsc::UnboundedSender<JobResult>);

impl Completer {
    /// Starts a task that writes results and then ends their leases. It ends with the last clone of the completer.
    pub fn start(pool: PgPool, leases: Arc<LeaseKeeper>, run_again: RunAgain) -> Self {
        let (sender, mut results) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut batch: Vec<JobResult> = Vec::with_capacity(BATCH);
            while results.recv_many(&mut batch, BATCH).await > 0 {
                write(&pool, &batch, run_again).await;
                leases.remove(batch.iter().map(|result| result.lease));
                batch.clear();
            }
        });
        Self(sender)
    }

    pub fn submit(&self, result: JobResult) {
        // The receiver lives as long as the senders.
        let _ = self.0.send(result);
    }
}

/// Writes a batch of results. If that fails, the jobs return to the queue when their leases expire.
async fn write(pool: &PgPool, batch: &[JobResult], run_again: RunAgain) {
    let (mut completed, mut released) = (Vec::new(), Vec::new());
    for result in batch {
        let after = run_again.retry.delay(result.attempt);
        let failed = match &result.outcome {
            Outcome::Completed(revision) => {
                tracing::debug!(parent: &result.span, %revision, "job completed");
                completed.push((result.lease.0, result.lease.1, *revision));
                continue;
            }
            Outcome::Released => {
                tracing::debug!(parent: &result.span, "job released");
                released.push(result.lease);
                continue;
            }
            Outcome::Failed(error) => fail(pool, result.lease, error, Failure::Retry { after }),
            Outcome::TimedOut(error) => fail(pool, result.lease, error, Failure::Crashed { after }),
            Outcome::Panicked => {
                fail(pool, result.lease, "the job or its batch panicked", Failure::Crashed { after })
            }
        };
        failed.instrument(result.span.clone()).await;
    }
    if !completed.is_empty() {
        let complete = || jobs::complete(pool, &completed, run_again.recheck_delay);
        let _ = retry_transient("completing jobs", complete).await;
    }
    if !released.is_empty() {
        let release = || jobs::release(pool, &released, RELEASE_DELAY);
        let _ = retry_transient("releasing jobs", release).await;
    }
}

/// Records a failed attempt and logs it in the current span, which is the job's.
pub(crate) async fn fail(pool: &PgPool, lease: Lease, error: &str, failure: Failure) {
    let dead = retry_transient("recording a failed job", || jobs::fail(pool, lease, error, &failure)).await;
    match (dead.unwrap_or(false), &failure) {
        (true, _) => tracing::error!(error, "job moved to dead-letter state"),
        (false, Failure::Retry { after } | Failure::Crashed { after }) => {
            tracing::warn!(error, retry_after = ?after, "job failed");
        }
        (false, Failure::Permanent) => tracing::warn!(error, "job failed"),
    }
}
