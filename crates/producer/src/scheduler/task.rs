//! Interface of a periodic task.

use std::time::Duration;

use futures::future::BoxFuture;
use guildex_queue::QueueError;
use guildex_store::StoreError;

use crate::ingest::IngestError;

/// A periodic task failed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Redis failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl From<IngestError> for TaskError {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Store(error) => Self::Store(error),
            other => Self::Store(StoreError::Corrupt(other.to_string())),
        }
    }
}

/// Result of a successful run.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// The run made jobs due, so dispatch need not wait for its next poll.
    pub made_jobs_due: bool,
    /// Delay of the next run after the end of this one, instead of the period.
    pub next_in: Option<Duration>,
}

/// A task that the driver runs periodically.
pub(super) trait PeriodicTask: Send {
    /// Name in logs and in the `scheduler_tasks` table.
    fn name(&self) -> &'static str;

    /// Time from the start of a run to the next.
    fn period(&self) -> Duration;

    /// Time before the first run.
    fn first_delay(&self) -> Duration {
        Duration::ZERO
    }

    /// Returns true if the task also runs when jobs become due.
    fn dispatches(&self) -> bool {
        false
    }

    /// Runs the task once.
    fn run(&mut self) -> BoxFuture<'_, Result<Run, TaskError>>;
}
