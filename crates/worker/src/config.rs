use std::time::Duration;

use guildex_types::{Eligibility, JobQueue};

use crate::limits::Limits;

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Jobs in flight, by class.
    pub concurrency: Concurrency,
    /// Sessions that go through the pipeline together, at most.
    pub batch_size: usize,
    /// How long a batch waits to fill.
    pub batch_wait: Duration,
    /// How long a claim holds without being renewed; renewed three times in that time.
    pub lease: Duration,
    /// When to look a second time at what was taken from another worker: whoever wakes later than that wakes into a
    /// world that has moved on for long.
    pub second_look: Duration,
    /// The pause after a first failure; doubled with each further one, and spread by chance.
    pub backoff_base: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// How long work may take.
    pub limits: Limits,
    /// Which sessions are indexed.
    pub eligible: Eligibility,
    /// Whether points carry the beginning of their text, for other readers of the collection.
    pub previews: bool,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            concurrency: Concurrency::default(),
            batch_size: 64,
            batch_wait: Duration::from_millis(20),
            lease: Duration::from_secs(10),
            second_look: Duration::from_secs(20),
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            limits: Limits::default(),
            eligible: Eligibility::default(),
            previews: true,
        }
    }
}

impl WorkerConfig {
    /// Jobs that one process holds at once, at most.
    pub fn slots(&self) -> usize {
        self.concurrency.total()
    }
}

/// Jobs in flight in one process, by class. A few batches' worth keeps every stage of the pipeline busy.
#[derive(Debug, Clone, Copy)]
pub struct Concurrency {
    /// Removals.
    pub delete: usize,
    /// Live changes.
    pub live: usize,
    /// Backfill.
    pub backfill: usize,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { delete: 16, live: 64, backfill: 256 }
    }
}

impl Concurrency {
    pub(crate) fn of(self, class: JobQueue) -> usize {
        match class {
            JobQueue::Delete => self.delete,
            JobQueue::Live => self.live,
            JobQueue::Backfill => self.backfill,
        }
        .max(1)
    }

    pub(crate) fn total(self) -> usize {
        JobQueue::ALL.into_iter().map(|class| self.of(class)).sum()
    }
}
