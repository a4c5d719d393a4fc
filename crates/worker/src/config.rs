//! Configuration of a worker.

use std::time::Duration;

use guildex_types::JobQueue;
use guildex_types::config::{HOUR, MINUTE, SECOND, between, duration, duration_between};
use serde::{Deserialize, Serialize};

use crate::jobs::{backfill_channel, delete_session, index_session};
use crate::time_limits::TimeLimits;

/// Keys of section `worker` that apply to a worker process.
#[derive(Debug, Clone, Serialize, Deserialize, garde::Validate)]
#[serde(default)]
pub struct WorkerConfig {
    /// Most jobs claimed, embedded and written together. Default: 64.
    #[garde(custom(between(1..=1024)))]
    pub batch_size: usize,
    /// Time that a batch waits to fill. Default: 20 ms.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(Duration::ZERO..=10 * SECOND)))]
    pub batch_wait: Duration,
    /// Duration of a lease, which is renewed three times in that time. Default: 10 s.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(5 * SECOND..=HOUR)))]
    pub lease: Duration,
    /// Time that a worker which stops waits for running jobs. Default: 20 s.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(Duration::ZERO..=10 * MINUTE)))]
    pub shutdown_timeout: Duration,
    /// Delay before the recheck of a completed job that had been taken over from another worker: it removes points
    /// that a worker wrote which was frozen for longer than its lease. Not a key. Default: twice the lease.
    #[serde(skip)]
    #[garde(skip)]
    pub recheck_delay: Option<Duration>,
    /// Jobs that run at the same time, for each queue.
    #[garde(dive)]
    pub concurrency: Concurrency,
    /// Time limits, by job kind.
    #[garde(dive)]
    pub time_limits: TimeLimits,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            batch_size: 64,
            batch_wait: Duration::from_millis(20),
            lease: Duration::from_secs(10),
            shutdown_timeout: Duration::from_secs(20),
            recheck_delay: None,
            concurrency: Concurrency::default(),
            time_limits: TimeLimits::default(),
        }
    }
}

impl WorkerConfig {
    /// Jobs that one process runs at the same time.
    pub fn slots(&self) -> usize {
        self.concurrency.total()
    }

    pub(crate) fn recheck_delay(&self) -> Duration {
        self.recheck_delay.unwrap_or_else(|| self.lease.saturating_mul(2))
    }
}

/// Jobs that one process runs at the same time, by queue. A few batches keep every stage of the pipeline busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, garde::Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Concurrency {
    /// Deletions. Default: 16.
    #[garde(custom(between(1..=10_000)))]
    pub delete: usize,
    /// Changes as they happen. Default: 64.
    #[garde(custom(between(1..=10_000)))]
    pub live: usize,
    /// Imports and backfills. Default: 256.
    #[garde(custom(between(1..=10_000)))]
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
