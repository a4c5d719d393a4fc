//! Moves due jobs of one queue to Redis, up to a maximum number, so that the backlog waits in Postgres.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_queue::{Queues, WINDOW};
use guildex_store::jobs::{self, Dispatched};
use guildex_types::JobQueue;
use sqlx::PgPool;
use tokio::time::Instant;

use crate::config::SchedulerConfig;
use crate::scheduler::task::{PeriodicTask, Run, TaskError};

/// Maximum number of live jobs in Redis: enough for the workers until the next round. Guilds take turns in dispatch but not
/// in Redis, so the fewer jobs wait there, the sooner a guild with one message is served beside one with thousands.
const MAX_QUEUED_LIVE: usize = 128;
/// Minimum number of rounds per poll interval while the queue is full or being filled.
const BUSY_ROUNDS: u32 = 20;
/// Minimum pause between two rounds.
const MIN_PAUSE: Duration = Duration::from_millis(5);

pub(in crate::scheduler) struct Dispatch {
    pool: PgPool,
    queues: Queues,
    config: SchedulerConfig,
    queue: JobQueue,
    last_round: Instant,
}

/// Result of a round.
enum DispatchResult {
    /// No job is due.
    Idle,
    /// The maximum number of jobs is queued.
    Full,
    /// Jobs were queued. More may be due, because guilds with few jobs leave part of their share unused.
    Dispatched(usize),
}

impl Dispatch {
    pub fn new(pool: PgPool, queues: Queues, config: SchedulerConfig, queue: JobQueue) -> Self {
        Self { pool, queues, config, queue, last_round: Instant::now() }
    }

    /// Marks due jobs as queued, commits, and then pushes them. A crash in between leaves jobs that `requeue_lost` finds,
    /// and never an id in Redis that Postgres does not know.
    async fn dispatch(&self) -> Result<DispatchResult, TaskError> {
        let Self { pool, queues, config, queue, .. } = self;
        let limit = if *queue == JobQueue::Live { MAX_QUEUED_LIVE } else { WINDOW };
        let (max_queued, depth) = (config.max_queued.min(limit), queues.depth(*queue).await?);
        let Dispatched { ids, full } =
            jobs::dispatch(pool, *queue, max_queued, depth, config.queue_timeout).await?;
        if ids.is_empty() {
            return Ok(if full { DispatchResult::Full } else { DispatchResult::Idle });
        }
        let push = queues.push(*queue, &ids).await;
        // Some ids of a failed push may be in Redis; those are delivered twice.
        let pushed = *push.as_ref().unwrap_or(&0);
        if let Some(rest) = ids.get(pushed..).filter(|rest| !rest.is_empty()) {
            jobs::requeue(pool, rest).await?;
        }
        push?;
        tracing::debug!(queue = %queue, jobs = pushed, "dispatched jobs");
        Ok(DispatchResult::Dispatched(pushed))
    }

    /// Returns the pause until about half of the queue is empty, if workers continue at the rate since the last round.
    fn refill_pause(&self, dispatched: usize) -> Duration {
        let max = self.config.poll_interval / BUSY_ROUNDS;
        let half = self.config.max_queued / 2;
        let until_half = self.last_round.elapsed().mul_f64(half as f64 / dispatched.max(1) as f64);
        until_half.clamp(MIN_PAUSE.min(max), max)
    }
}

impl PeriodicTask for Dispatch {
    fn name(&self) -> &'static str {
        match self.queue {
            JobQueue::Delete => "dispatch_delete",
            JobQueue::Live => "dispatch_live",
            JobQueue::Backfill => "dispatch_backfill",
        }
    }

    /// Each run sets the time of the next; after a failure the task is due at once, when the outage's pause ends.
    fn period(&self) -> Duration {
        Duration::ZERO
    }

    fn dispatches(&self) -> bool {
        true
    }

    fn run(&mut self) -> BoxFuture<'_, Result<Run, TaskError>> {
        async {
            let pause = match self.dispatch().await? {
                DispatchResult::Idle => self.config.poll_interval,
                DispatchResult::Full => self.config.poll_interval / BUSY_ROUNDS,
                DispatchResult::Dispatched(count) => self.refill_pause(count),
            };
            self.last_round = Instant::now();
            Ok(Run { next_in: Some(pause), ..Run::default() })
        }
        .boxed()
    }
}
