//! The index is away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::sync::atomic::Ordering;

use sqlx::PgPool;
use support::*;

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn an_index_that_is_away_costs_no_attempts_and_pauses_claiming(pool: PgPool) {
    world(pool, async |world| {
        world.view.away.store(true, Ordering::SeqCst);
        world.ingest(&exchange(1, "does the glue hold")).await;
        let worker = world.start_worker();
        let refused = async |times: usize| {
            until("refusals", async || world.view.refused.load(Ordering::SeqCst) >= times).await;
        };
        // More often than a job may fail.
        refused(1).await;
        for day in 2..=4 {
            world.ingest(&exchange(day, "is the press free")).await;
        }
        refused(2 * MAX_ATTEMPTS as usize).await;
        assert_eq!(world.count("attempts > 1 OR state = 'dead'").await, 0);
        assert_eq!(world.count("state = 'running'").await, 1, "jobs were claimed while the index was away");

        world.view.away.store(false, Ordering::SeqCst);
        world.settle().await;
        assert_eq!(world.in_step().await, 4);
        assert_eq!(world.count("state = 'completed' AND attempts = 1").await, 4);
        assert_eq!(world.model.texts().len(), 4, "something was embedded again");
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_worker_stops_while_the_index_is_away_and_gives_its_jobs_back(pool: PgPool) {
    world(pool, async |world| {
        world.view.away.store(true, Ordering::SeqCst);
        world.ingest(&exchange(1, "does the glue hold")).await;
        let worker = world.start_worker();
        until("a refusal", async || world.view.refused.load(Ordering::SeqCst) > 0).await;
        worker.stop().await;
        assert_eq!(world.count("state = 'pending' AND attempts = 0").await, 1);

        world.view.away.store(false, Ordering::SeqCst);
        let another = world.start_worker();
        world.settle().await;
        assert_eq!(world.in_step().await, 1);
        another.stop().await;
    })
    .await;
}
