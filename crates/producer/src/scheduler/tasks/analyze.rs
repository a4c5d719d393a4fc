//! Refreshes the statistics of tables that grew, so that Postgres plans with current row counts.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_store::statistics;
use sqlx::PgPool;

use crate::scheduler::task::{PeriodicTask, Run, TaskError};

const PERIOD: Duration = Duration::from_secs(10);

pub(in crate::scheduler) struct Analyze {
    pool: PgPool,
}

impl Analyze {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

impl PeriodicTask for Analyze {
    fn name(&self) -> &'static str {
        "analyze"
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn run(&mut self) -> BoxFuture<'_, Result<Run, TaskError>> {
        async {
            statistics::refresh(&self.pool).await?;
            Ok(Run::default())
        }
        .boxed()
    }
}
