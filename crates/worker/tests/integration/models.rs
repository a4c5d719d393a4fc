//! Several models: filling, switching, retiring and dropping.

use std::collections::BTreeMap;

use crate::support::*;
use guildex_embed::Embedder;
use guildex_producer::reindex;
use guildex_store::models::{self, ModelState, Switched};
use guildex_test_support::sync::wait_until;
use sqlx::PgPool;

/// Fills the next model's collection and waits until no session is missing.
async fn fill(world: &World) {
    reindex::start(world.ingest.pool(), world.ingest.enqueuer(), world.next.slug(), world.next.dimensions())
        .await
        .unwrap();
    world.until_idle().await;
    // Jobs that ran when the model was added may not have written its points.
    while world.status_of(&world.next).await.missing > 0 {
        reindex::plan_all(world.ingest.pool(), world.ingest.enqueuer()).await.unwrap();
        world.until_idle().await;
    }
}

async fn switch(world: &World, keep: bool) -> Switched {
    let eligible = world.ingest.enqueuer().eligibility();
    models::switch(&world.pool, world.next.slug(), eligible, keep, false).await.unwrap()
}

/// Number of times that each text was embedded.
fn counts(model: &Model) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    model.texts().into_iter().for_each(|text| *counts.entry(text).or_default() += 1);
    counts
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_new_model_is_filled_and_the_old_one_embeds_nothing_again(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=4 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        let worker = world.start_worker();
        world.until_idle().await;
        let before = world.points().await;

        fill(world).await;
        assert_eq!(world.points_of_next().await.len(), 4);
        assert_eq!(world.points().await, before);
        assert_eq!(world.model.texts().len(), 4, "the old model embedded something again");
        assert_eq!(world.next.texts().len(), 4, "the new one embedded something twice");

        // Both are maintained from now on.
        world.ingest(&exchange(5, "is the press free")).await;
        world.until_idle().await;
        assert_eq!((world.points().await.len(), world.points_of_next().await.len()), (5, 5));
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn an_interrupted_fill_resumes(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=6 {
            world.ingest(&exchange(day, "does the glue hold")).await;
        }
        let mut worker = world.worker(world.pool.clone(), world.queues.clone());
        worker.config.batch_size = 2;
        let worker = world.start(worker);
        world.until_idle().await;

        world.next.calls.close();
        reindex::start(
            world.ingest.pool(),
            world.ingest.enqueuer(),
            world.next.slug(),
            world.next.dimensions(),
        )
        .await
        .unwrap();
        world.next.calls.until_waiting(1).await;
        worker.stop.cancel();
        world.next.calls.open();
        worker.stop().await;
        let embedded = world.next.texts().len();
        assert!(embedded < 6, "the fill was not interrupted");

        let another = world.start_worker();
        fill(world).await;
        assert_eq!(world.points_of_next().await.len(), 6);
        assert_eq!(world.next.texts().len(), 6, "something was embedded twice");
        another.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_switch_waits_until_no_session_is_missing(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "does the glue hold")).await;
        let worker = world.start_worker();
        world.until_idle().await;
        models::start_filling(&world.pool, world.next.slug(), world.next.dimensions()).await.unwrap();
        assert_eq!(switch(world, false).await, Switched::Missing(1));
        assert_eq!(models::active(&world.pool).await.unwrap().as_ref(), Some(world.model.slug()));

        fill(world).await;
        assert_eq!(switch(world, false).await, Switched::Yes);
        assert_eq!(models::active(&world.pool).await.unwrap().as_ref(), Some(world.next.slug()));
        assert_eq!(world.status_of(&world.model).await.state, ModelState::Retired);
        assert_eq!(switch(world, false).await, Switched::Yes, "a second switch changes nothing");
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn sessions_indexed_while_a_model_is_added_reach_it(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "does the glue hold")).await;
        world.index.upserts.close();
        let worker = world.start_worker();
        world.index.upserts.until_waiting(1).await;
        // The worker knows one model.
        models::start_filling(&world.pool, world.next.slug(), world.next.dimensions()).await.unwrap();
        world.index.upserts.open();
        world.until_idle().await;
        assert_eq!(world.points_of_next().await.len(), 1);
        assert_eq!(world.model.texts().len(), 1, "the first model embedded it twice");
        assert_eq!(world.count("attempts > 1").await, 0);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_switch_during_live_ingest_loses_nothing_and_embeds_nothing_twice(pool: PgPool) {
    world(pool, async |world| {
        let worker = world.start_worker();
        for day in 1..=5 {
            world.ingest(&exchange(day, &format!("does glue {day} hold"))).await;
        }
        world.until_idle().await;
        reindex::start(
            world.ingest.pool(),
            world.ingest.enqueuer(),
            world.next.slug(),
            world.next.dimensions(),
        )
        .await
        .unwrap();
        let live = async {
            for day in 6..=25 {
                world.ingest(&exchange(day, &format!("is press {day} free"))).await;
            }
        };
        let switching = async {
            while switch(world, false).await != Switched::Yes {
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(live, async {
            // Enqueues missed sessions again, as the command does.
            tokio::select! {
                () = switching => {}
                () = async { loop {
                    world.until_idle().await;
                    reindex::plan_all(world.ingest.pool(), world.ingest.enqueuer()).await.unwrap();
                } } => {}
            }
        });
        world.until_idle().await;
        let next = world.status_of(&world.next).await;
        assert_eq!((next.state, next.indexed, next.missing), (ModelState::Active, 25, 0));
        for model in [&world.model, &world.next] {
            assert!(counts(model).values().all(|times| *times == 1), "embedded twice: {:?}", counts(model));
        }
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_retired_models_collection_only_shrinks(pool: PgPool) {
    world(pool, async |world| {
        for day in 1..=3 {
            world.ingest(&exchange(day, "my address is a secret")).await;
        }
        let worker = world.start_worker();
        world.until_idle().await;
        fill(world).await;
        assert_eq!(switch(world, false).await, Switched::Yes);
        // A worker from before the switch may still write the old collection for a second.
        worker.stop().await;
        let worker = world.start_worker();

        world.delete(1, &[1]).await;
        let [question, _] = exchange(2, "my address is a secret");
        world.ingest(&[edited(1, "my address is none of your business", &question)]).await;
        world.ingest(&exchange(4, "does the glue hold")).await;
        world.until_idle().await;
        let old: Vec<_> =
            world.points().await.into_iter().map(|point| point.payload.message_ids[0]).collect();
        assert_eq!(old, [exchange(3, "")[0].id], "changed or deleted messages are shown");
        // The answer left of the first day is too short to be indexed.
        assert_eq!(world.points_of_next().await.len(), 3);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_dropped_model_leaves_no_collection_and_no_records(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "does the glue hold")).await;
        let worker = world.start_worker();
        world.until_idle().await;
        fill(world).await;
        assert_eq!(switch(world, false).await, Switched::Yes);
        assert_eq!(models::drop_unused(&world.pool).await.unwrap(), [world.model.slug().clone()]);

        // Without any job.
        let dropped = async || models::list(&world.pool).await.unwrap().len() == 1;
        wait_until("the end of the old model", dropped).await;
        let records: i64 = sqlx::query_scalar("SELECT count(*) FROM indexed_sessions WHERE model = $1")
            .bind(world.model.slug().as_str())
            .fetch_one(&world.pool)
            .await
            .unwrap();
        assert_eq!(records, 0);
        worker.stop().await;
    })
    .await;
}
