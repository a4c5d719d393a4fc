//! Removals, with real queues, a real database, a real model and a real index.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;

use guildex_store::erasures;
use guildex_types::JobQueue;
use sqlx::PgPool;
use support::{World, edited, exchange, reply, say, world};

/// A session of several chunks, in which the first message tells a secret.
async fn long_talk(world: &World) {
    let mut talk = vec![say(1, 1, 1, "my address is a secret"), reply(1, 1, say(1, 2, 2, "do not say it"))];
    talk.extend(
        (3..10)
            .map(|n| reply(1, n - 1, say(1, n, 1 + n % 2, &"a long story of a small printer ".repeat(20)))),
    );
    world.ingest(&talk).await;
}

async fn until_removed(world: &World) {
    world
        .until("the removal to be done", async || {
            world.count("kind = 'remove_points' AND state = 'completed'").await >= 1
        })
        .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn no_chunk_of_the_session_is_left_when_a_message_is_removed(pool: PgPool) {
    world(pool, async |world| {
        long_talk(world).await;
        world.ingest(&exchange(2, "does the glue hold")).await;
        let worker = world.start_worker();
        world.settle().await;
        let before = world.points().await;
        let others: BTreeSet<_> = before
            .iter()
            .filter(|point| point.payload.message_ids[0].get() / 100 == 2)
            .map(|p| p.id)
            .collect();
        assert!(before.len() > 3 && others.len() == 1, "no test: the session has one chunk");

        world.model.calls.close();
        world.delete(1, &[1]).await;
        until_removed(world).await;
        let left: BTreeSet<_> = world.points().await.iter().map(|point| point.id).collect();
        assert_eq!(left, others, "a chunk that was embedded beside the message is left");
        world.model.calls.open();
        world.settle().await;
        assert_eq!(world.in_step().await, 2);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_removal_spares_what_was_indexed_since(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "my address is a secret")).await;
        world.ingest(&[reply(1, 2, say(1, 3, 1, "better not say it here"))]).await;
        world.ingest(&exchange(2, "my number is a secret")).await;
        world.ingest(&[reply(2, 2, say(2, 3, 1, "better not say it here"))]).await;
        let worker = world.start_worker();
        world.settle().await;
        // Both sessions have the removal in common, and the one has a lower revision than the other.
        let member = 2.try_into().unwrap();
        world.ingest.erase_member(world.guild(), member).await.unwrap();
        world.settle().await;
        assert_eq!(world.in_step().await, 2);
        sqlx::query("UPDATE jobs SET state = 'pending', finished_at = NULL WHERE kind = 'remove_points'")
            .execute(&world.pool)
            .await
            .unwrap();
        world.settle().await;
        assert_eq!(world.in_step().await, 2, "a removal that runs again takes what was made since");
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn removing_what_says_nothing_leaves_its_session_findable(pool: PgPool) {
    world(pool, async |world| {
        let said = reply(1, 2, say(1, 3, 1, "never mind"));
        world.ingest(&exchange(1, "does the glue hold")).await;
        world.ingest(std::slice::from_ref(&said)).await;
        world.ingest(&[edited(5, "", &said)]).await;
        let worker = world.start_worker();
        world.settle().await;
        // The content is the same without it, but its points go.
        world.delete(1, &[3]).await;
        world.settle().await;
        assert_eq!(world.in_step().await, 1);
        assert_eq!(world.shown().await, 1);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn removals_overtake_all_that_is_queued(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "my address is a secret")).await;
        world.ingest(&[reply(1, 2, say(1, 3, 1, "better not say it here"))]).await;
        let worker = world.start_worker();
        world.settle().await;
        assert_eq!(world.points().await.len(), 1);

        // Nothing is embedded any more: whatever is done from here on has passed two thousand sessions that wait.
        world.model.calls.close();
        let many: Vec<_> = (2..=2_001).flat_map(|day| exchange(day, "does the glue hold")).collect();
        for page in many.chunks(1_000) {
            world.ingest_as(JobQueue::Backfill, page).await;
        }
        world.until("a full window", async || world.count("queue = 'backfill' AND state = 'queued'").await > 200).await;
        world.model.calls.until_waiting(1).await;

        // A session that is indexed, and one whose job is queued already: that goes back, to be queued as a removal.
        world.delete(1, &[1]).await;
        let queued: i64 = sqlx::query_scalar(
            "SELECT max(s.first_message_id) FROM jobs j JOIN sessions s ON j.dedup_key LIKE '%/' || s.id WHERE j.state = 'queued'",
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        world.delete(queued / 100, &[1, 2]).await;
        world
            .until("three removals", async || world.count("queue = 'delete' AND state = 'completed'").await == 3)
            .await;
        assert_eq!(world.count("queue = 'backfill' AND state = 'completed'").await, 0);
        assert_eq!(world.count("queue = 'backfill'").await, 1_999, "the job that was queued is a removal now");
        assert!(world.points().await.is_empty());
        worker.stop.cancel();
        world.model.calls.open();
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_receipt_waits_for_a_worker_that_was_writing_old_points(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "my address is a secret")).await;
        world.view.upserts.close();
        let worker = world.start_worker();
        world.view.upserts.until_waiting(1).await;
        let erasure = world.ingest.erase_channel(world.guild(), 9.try_into().unwrap()).await.unwrap();
        assert_eq!((erasure.messages, erasure.sessions, erasure.points), (2, 1, 0));
        assert_eq!(erasures::settle(&world.pool).await.unwrap(), 0, "its points are about to be written");
        world.view.upserts.open();
        world.settle().await;
        assert_eq!(erasures::settle(&world.pool).await.unwrap(), 1);
        assert!(world.points().await.is_empty());
        assert_eq!(world.in_step().await, 0);
        worker.stop().await;
    })
    .await;
}
