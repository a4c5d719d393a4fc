//! Deletes old completed jobs in Postgres and trims finished tasks in Redis.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_queue::Queues;
use guildex_store::jobs;
use sqlx::PgPool;

use crate::scheduler::task::{PeriodicTask, Run, TaskError};

const PERIOD: Duration = Duration::from_secs(30);
/// Rows deleted per statement.
const BATCH: i64 = 5_000;

pub(in crate::scheduler) struct CleanJobs {
    pool: PgPool,
    queues: Queues,
    completed_retention: Duration,
}

impl CleanJobs {
    pub fn new(pool: PgPool, queues: Queues, completed_retention: Duration) -> Self {
        Self { pool, queues, completed_retention }
    }
}

impl PeriodicTask for CleanJobs {
    fn name(&self) -> &'static str {
        "clean_jobs"
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn first_delay(&self) -> Duration {
        PERIOD
    }

    fn run(&mut self) -> BoxFuture<'_, Result<Run, TaskError>> {
        async {
            while jobs::delete_completed(&self.pool, self.completed_retention, BATCH).await? > 0 {}
            self.queues.trim().await?;
            Ok(Run::default())
        }
        .boxed()
    }
}
