//! Writes the last outcome of each task to the `scheduler_tasks` table.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_store::scheduler_tasks::{self, SchedulerTask};
use sqlx::PgPool;

use crate::scheduler::status::{TaskReport, TaskStatus};
use crate::scheduler::task::{PeriodicTask, Run, TaskError};

const PERIOD: Duration = Duration::from_secs(5);

pub(in crate::scheduler) struct Report {
    pool: PgPool,
    report: TaskReport,
    process: String,
}

impl Report {
    pub fn new(pool: PgPool, report: TaskReport, process: String) -> Self {
        Self { pool, report, process }
    }
}

impl PeriodicTask for Report {
    fn name(&self) -> &'static str {
        "report"
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn first_delay(&self) -> Duration {
        // Most tasks run at once.
        Duration::from_secs(1)
    }

    fn run(&mut self) -> BoxFuture<'_, Result<Run, TaskError>> {
        async {
            let row = |(name, status): (&'static str, TaskStatus)| SchedulerTask {
                name: name.to_owned(),
                process: self.process.clone(),
                started_at: status.started_at,
                duration_ms: i64::try_from(status.duration.as_millis()).unwrap_or(i64::MAX),
                succeeded_at: status.succeeded_at,
                error: status.error,
            };
            let rows: Vec<_> = self.report.snapshot().into_iter().map(row).collect();
            scheduler_tasks::upsert(&self.pool, &rows).await?;
            Ok(Run::default())
        }
        .boxed()
    }
}
