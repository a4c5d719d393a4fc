//! Completes the receipts of erasures whose jobs are completed.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_store::erasures;
use sqlx::PgPool;

use crate::scheduler::task::{PeriodicTask, Run, TaskError};

const PERIOD: Duration = Duration::from_secs(30);

pub(in crate::scheduler) struct SettleErasures {
    pool: PgPool,
}

impl SettleErasures {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

impl PeriodicTask for SettleErasures {
    fn name(&self) -> &'static str {
        "settle_erasures"
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn first_delay(&self) -> Duration {
        PERIOD
    }

    fn run(&mut self) -> BoxFuture<'_, Result<Run, TaskError>> {
        async {
            erasures::settle(&self.pool).await?;
            Ok(Run::default())
        }
        .boxed()
    }
}
