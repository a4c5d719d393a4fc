//! Requeues jobs that Redis lost: it was flushed or restarted from an old snapshot, or a scheduler died before its push.
//!
//! Jobs that have been queued for a while and are unknown to Redis become pending again. If such a job was on its way after
//! all, it is delivered twice.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_queue::Queues;
use guildex_store::jobs;
use guildex_types::JobQueue;
use sqlx::PgPool;

use crate::scheduler::task::{PeriodicTask, Run, TaskError};

/// Period, and minimum time in the queued state, since the push may still be in progress.
const PERIOD: Duration = Duration::from_secs(2);

pub(in crate::scheduler) struct RequeueLost {
    pool: PgPool,
    queues: Queues,
    queue_timeout: Duration,
}

impl RequeueLost {
    pub fn new(pool: PgPool, queues: Queues, queue_timeout: Duration) -> Self {
        Self { pool, queues, queue_timeout }
    }

    /// Requeues the lost jobs of all queues; returns true if there were any.
    async fn requeue(&self) -> Result<bool, TaskError> {
        let mut any = false;
        for queue in JobQueue::ALL {
            let mut lost = jobs::queued_for(&self.pool, queue, PERIOD, self.queue_timeout).await?;
            if lost.is_empty() {
                continue;
            }
            let known = self.queues.known(queue).await?;
            lost.retain(|id| !known.contains(id));
            if !lost.is_empty() {
                tracing::warn!(queue = %queue, jobs = lost.len(), "redis lost jobs; requeuing them");
                jobs::requeue(&self.pool, &lost).await?;
                any = true;
            }
        }
        Ok(any)
    }
}

impl PeriodicTask for RequeueLost {
    fn name(&self) -> &'static str {
        "requeue_lost"
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn first_delay(&self) -> Duration {
        PERIOD
    }

    fn run(&mut self) -> BoxFuture<'_, Result<Run, TaskError>> {
        async { Ok(Run { made_jobs_due: self.requeue().await?, ..Run::default() }) }.boxed()
    }
}
