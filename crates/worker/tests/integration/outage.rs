//! Outages of the index.

use std::sync::atomic::Ordering;

use crate::support::*;
use guildex_test_support::sync::wait_until;
use sqlx::PgPool;

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn an_unavailable_index_consumes_no_attempts_and_pauses_claiming(pool: PgPool) {
    world(pool, async |world| {
        world.index.unavailable.store(true, Ordering::SeqCst);
        world.ingest(&exchange(1, "does the glue hold")).await;
        let worker = world.start_worker();
        let rejected = async |times: usize| {
            wait_until("failed calls", async || world.index.rejected.load(Ordering::SeqCst) >= times).await;
        };
        // More often than a job may be attempted.
        rejected(1).await;
        for day in 2..=4 {
            world.ingest(&exchange(day, "is the press free")).await;
        }
        rejected(2 * MAX_ATTEMPTS as usize).await;
        assert_eq!(world.count("attempts > 1 OR state = 'dead'").await, 0);
        assert_eq!(
            world.count("state = 'running'").await,
            1,
            "jobs were claimed while the index was unavailable"
        );

        world.index.unavailable.store(false, Ordering::SeqCst);
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 4);
        assert_eq!(world.count("state = 'completed' AND attempts = 1").await, 4);
        assert_eq!(world.model.texts().len(), 4, "something was embedded again");
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_worker_that_stops_during_an_outage_releases_its_jobs(pool: PgPool) {
    world(pool, async |world| {
        world.index.unavailable.store(true, Ordering::SeqCst);
        world.ingest(&exchange(1, "does the glue hold")).await;
        let worker = world.start_worker();
        wait_until("a failed call", async || world.index.rejected.load(Ordering::SeqCst) > 0).await;
        worker.stop().await;
        assert_eq!(world.count("state = 'pending' AND attempts = 0").await, 1);

        world.index.unavailable.store(false, Ordering::SeqCst);
        let another = world.start_worker();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 1);
        another.stop().await;
    })
    .await;
}
