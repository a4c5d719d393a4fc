//! Configuration of a worker.

use std::time::Duration;

use guildex_types::{Eligibility, JobQueue, RetryPolicy};

use serde::{Deserialize, Serialize};

use crate::jobs::{backfill_channel, delete_session, index_session};
use crate::time_limits::TimeLimits;

/// Configuration of a worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Jobs that run at the same time, for each queue.
    pub concurrency: Concurrency,
    /// Most jobs claimed together.
    pub batch_size: usize,
    /// Time that a batch waits to fill.
    pub batch_wait: Duration,
    /// Duration of a lease, which is renewed three times in that time.
    pub lease: Duration,
    /// Delay before the recheck of a completed job that had been taken over from another worker: it removes points
    /// that a worker wrote which was frozen for longer than its lease.
    pub recheck_delay: Duration,
    /// Delays before failed jobs run again.
    pub retry: RetryPolicy,
    /// Time limits, by job kind.
    pub time_limits: TimeLimits,
    /// Sessions that are indexed.
    pub eligible: Eligibility,
    /// Previews: points carry the beginning of their text, for other readers of the collection.
    pub previews: bool,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            concurrency: Concurrency::default(),
            batch_size: 64,
            batch_wait: Duration::from_millis(20),
            lease: Duration::from_secs(10),
            recheck_delay: Duration::from_secs(20),
            retry: RetryPolicy::default(),
            time_limits: TimeLimits::default(),
            eligible: Eligibility::default(),
            previews: true,
        }
    }
}

impl WorkerConfig {
    /// Jobs that one process runs at the same time.
    pub fn slots(&self) -> usize {
        self.concurrency.total()
    }
}

/// Jobs that one process runs at the same time, by queue. A few batches keep every stage of the pipeline busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Concurrency {
    /// Deletions. Default: 16.
    pub delete: usize,
    /// Changes as they happen. Default: 64.
    pub live: usize,
    /// Imports and backfills. Default: 256.
    pub backfill: usize,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { delete: 16, live: 64, backfill: 256 }
    }
}

impl Concurrency {
    /// Concurrency of a queue, at least one.
    pub(crate) fn get(self, queue: JobQueue) -> usize {
        match queue {
            JobQueue::Delete => self.delete,
            JobQueue::Live => self.live,
            JobQueue::Backfill => self.backfill,
        }
        .max(1)
    }

    pub(crate) fn total(self) -> usize {
        JobQueue::ALL.into_iter().map(|queue| self.get(queue)).sum()
    }
}

// Defined here, because the defaults of each kind are in its job's file.
impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            index_session: index_session::TIME_LIMIT,
            delete: delete_session::TIME_LIMIT,
            backfill: backfill_channel::TIME_LIMIT,
        }
    }
}
