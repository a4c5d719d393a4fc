//! Work that takes too long, is given up, and takes nobody with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::time::Duration;

use guildex_worker::{Limit, Limits, Worker};
use sqlx::PgPool;
use support::{World, exchange, world};

/// A worker that gives work up after this long, and never ends its process.
fn impatient(world: &World, soft: Duration) -> Worker {
    let limit = Limit { soft, hard: Duration::from_hours(1) };
    let mut worker = world.worker(world.pool.clone(), world.queues.clone());
    worker.config.limits = Limits { index_session: limit, delete: limit, backfill: limit };
    worker
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_session_that_hangs_the_model_is_dead_in_the_end_and_the_others_go_on(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=5 {
            let text = if day == 3 { "the mandrake sleeps" } else { "does the glue hold" };
            world.ingest(&exchange(day, text)).await;
        }
        world.allow_attempts(5).await;
        world.model.hold("mandrake");
        let worker = world.start(impatient(world, Duration::from_secs(1)));
        world.settle().await;
        assert_eq!(world.count("state = 'completed'").await, 4);
        let history = world.dead_history().await;
        assert_eq!(history.len(), 5);
        assert!(history.iter().all(|error| error.contains("soft limit")), "{history:?}");
        assert!(!history.concat().contains("mandrake"), "an error does not quote");
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_write_that_hangs_is_given_up_and_tried_again(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "does the glue hold")).await;
        world.allow_attempts(100).await;
        world.view.upserts.close();
        let worker = world.start(impatient(world, Duration::from_secs(1)));
        world
            .until("a write that is given up", async || {
                world.count("error LIKE 'writing to the index took longer than its soft limit%'").await == 1
            })
            .await;
        world.view.upserts.open();
        world.settle().await;
        assert_eq!(world.in_step().await, 1);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_job_that_waits_for_its_turn_is_not_given_up(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "the suspect speaks")).await;
        world.view.upserts.close();
        // The write hangs, under a limit that is far away; what comes later waits for slots and stages all the while.
        let mut patient = impatient(world, Duration::from_hours(1));
        patient.config.batch_size = 1;
        let worker = world.start(patient);
        world.view.upserts.until_waiting(1).await;
        for day in 2..=9 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        world.until("claims", async || world.count("state = 'running'").await >= 4).await;
        world.view.upserts.open();
        world.settle().await;
        assert_eq!(world.in_step().await, 9);
        assert_eq!(world.count("attempts > 1 OR jsonb_array_length(attempts_log) > 0").await, 0);
        worker.stop().await;
    })
    .await;
}
