//! Returns running jobs whose lease expired to the pending state, or moves them to the dead-letter state.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_store::jobs;
use guildex_types::RetryPolicy;
use sqlx::PgPool;

use crate::scheduler::task::{PeriodicTask, Run, TaskError};

pub(in crate::scheduler) struct RescueLeases {
    pool: PgPool,
    period: Duration,
    retry: RetryPolicy,
}

impl RescueLeases {
    pub fn new(pool: PgPool, period: Duration, retry: RetryPolicy) -> Self {
        Self { pool, period, retry }
    }
}

impl PeriodicTask for RescueLeases {
    fn name(&self) -> &'static str {
        "rescue_leases"
    }

    fn period(&self) -> Duration {
        self.period
    }

    fn run(&mut self) -> BoxFuture<'_, Result<Run, TaskError>> {
        async {
            let rescued = jobs::rescue_expired(&self.pool, &self.retry).await?;
            let any = rescued != jobs::Rescued::default();
            if any {
                tracing::warn!(
                    requeued = rescued.requeued,
                    dead = rescued.dead,
                    "rescued jobs with an expired lease"
                );
            }
            Ok(Run { made_jobs_due: any, ..Run::default() })
        }
        .boxed()
    }
}
