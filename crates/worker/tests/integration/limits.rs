//! Jobs that exceed their time limits.

use std::time::Duration;

use crate::support::{World, exchange, world};
use guildex_worker::{TimeLimit, TimeLimits, Worker};
use sqlx::PgPool;

/// A worker with this soft limit, whose hard limit is never reached.
fn with_soft_limit(world: &World, soft: Duration) -> Worker {
    let limit = TimeLimit { soft, hard: Duration::from_hours(1) };
    let mut worker = world.worker(world.pool.clone(), world.queues.clone());
    worker.config.time_limits = TimeLimits { index_session: limit, delete: limit, backfill: limit };
    worker
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_session_that_hangs_the_model_becomes_dead_and_others_complete(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=5 {
            let text = if day == 3 { "the mandrake sleeps" } else { "does the glue hold" };
            world.ingest(&exchange(day, text)).await;
        }
        world.allow_attempts(5).await;
        world.model.block_on("mandrake");
        let worker = world.start(with_soft_limit(world, Duration::from_secs(1)));
        world.until_idle().await;
        assert_eq!(world.count("state = 'completed'").await, 4);
        let history = world.errors_of_dead_job().await;
        assert_eq!(history.len(), 5);
        assert!(history.iter().all(|error| error.contains("soft limit")), "{history:?}");
        assert!(!history.concat().contains("mandrake"), "errors must not contain text of messages");
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_write_that_hangs_is_abandoned_and_retried(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "does the glue hold")).await;
        world.allow_attempts(100).await;
        world.index.upserts.close();
        let worker = world.start(with_soft_limit(world, Duration::from_secs(1)));
        world
            .until("an abandoned write", async || {
                world.count("error LIKE 'writing to the index took longer than its soft limit%'").await == 1
            })
            .await;
        world.index.upserts.open();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 1);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_job_that_waits_does_not_time_out(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "the culprit speaks")).await;
        world.index.upserts.close();
        // The write hangs under a long limit, while later jobs wait for slots and stages.
        let mut worker = with_soft_limit(world, Duration::from_hours(1));
        worker.config.batch_size = 1;
        let worker = world.start(worker);
        world.index.upserts.until_waiting(1).await;
        for day in 2..=9 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        world.until("claims", async || world.count("state = 'running'").await >= 4).await;
        world.index.upserts.open();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 9);
        assert_eq!(world.count("attempts > 1 OR jsonb_array_length(attempts_log) > 0").await, 0);
        worker.stop().await;
    })
    .await;
}
