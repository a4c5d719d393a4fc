//! Deletions.

use std::collections::BTreeSet;

use crate::support::{World, edited, exchange, new_message, reply, world};
use guildex_store::erasures;
use guildex_types::JobQueue;
use sqlx::PgPool;

/// A session of several chunks.
async fn long_session(world: &World) {
    let mut talk = vec![
        new_message(1, 1, 1, "my address is a secret"),
        reply(1, 1, new_message(1, 2, 2, "do not say it")),
    ];
    talk.extend((3..10).map(|n| {
        reply(1, n - 1, new_message(1, n, 1 + n % 2, &"a long story of a small printer ".repeat(20)))
    }));
    world.ingest(&talk).await;
}

async fn until_removed(world: &World) {
    world
        .until("the end of the removal", async || {
            world.count("kind = 'remove_points' AND state = 'completed'").await >= 1
        })
        .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn deleting_a_message_removes_all_chunks_of_its_session(pool: PgPool) {
    world(pool, async |world| {
        long_session(world).await;
        world.ingest(&exchange(2, "does the glue hold")).await;
        let worker = world.start_worker();
        world.until_idle().await;
        let before = world.points().await;
        let others: BTreeSet<_> = before
            .iter()
            .filter(|point| point.payload.message_ids[0].get() / 100 == 2)
            .map(|p| p.id)
            .collect();
        assert!(before.len() > 3 && others.len() == 1, "the session has one chunk only");

        world.model.calls.close();
        world.delete(1, &[1]).await;
        until_removed(world).await;
        let left: BTreeSet<_> = world.points().await.iter().map(|point| point.id).collect();
        assert_eq!(left, others, "a chunk embedded beside the deleted message remains");
        world.model.calls.open();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 2);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_removal_keeps_points_indexed_since(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "my address is a secret")).await;
        world.ingest(&[reply(1, 2, new_message(1, 3, 1, "better not say it here"))]).await;
        world.ingest(&exchange(2, "my number is a secret")).await;
        world.ingest(&[reply(2, 2, new_message(2, 3, 1, "better not say it here"))]).await;
        let worker = world.start_worker();
        world.until_idle().await;
        // One job removes points of both sessions, of which one has a lower revision.
        let member = 2.try_into().unwrap();
        world.ingest.erase_member(world.guild(), member).await.unwrap();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 2);
        sqlx::query("UPDATE jobs SET state = 'pending', finished_at = NULL WHERE kind = 'remove_points'")
            .execute(&world.pool)
            .await
            .unwrap();
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 2, "a repeated removal deleted newer points");
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn deleting_an_empty_message_keeps_its_session_searchable(pool: PgPool) {
    world(pool, async |world| {
        let said = reply(1, 2, new_message(1, 3, 1, "never mind"));
        world.ingest(&exchange(1, "does the glue hold")).await;
        world.ingest(std::slice::from_ref(&said)).await;
        world.ingest(&[edited(5, "", &said)]).await;
        let worker = world.start_worker();
        world.until_idle().await;
        // The content is the same without it, but its points are removed.
        world.delete(1, &[3]).await;
        world.until_idle().await;
        assert_eq!(world.assert_consistent().await, 1);
        assert_eq!(world.searchable().await, 1);
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn deletions_overtake_queued_jobs(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "my address is a secret")).await;
        world.ingest(&[reply(1, 2, new_message(1, 3, 1, "better not say it here"))]).await;
        let worker = world.start_worker();
        world.until_idle().await;
        assert_eq!(world.points().await.len(), 1);

        // Nothing is embedded from here on: completed jobs have overtaken two thousand sessions.
        world.model.calls.close();
        let many: Vec<_> = (2..=2_001).flat_map(|day| exchange(day, "does the glue hold")).collect();
        for page in many.chunks(1_000) {
            world.ingest_as(JobQueue::Backfill, page).await;
        }
        world.until("a full window", async || world.count("queue = 'backfill' AND state = 'queued'").await > 200).await;
        world.model.calls.until_waiting(1).await;

        // An indexed session, and one whose index job is queued: that job becomes a deletion.
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
        assert_eq!(world.count("queue = 'backfill'").await, 1_999, "the queued job is a deletion now");
        assert!(world.points().await.is_empty());
        worker.stop.cancel();
        world.model.calls.open();
        worker.stop().await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_receipt_waits_for_a_worker_that_writes_old_points(pool: PgPool) {
    world(pool, async |world| {
        world.ingest(&exchange(1, "my address is a secret")).await;
        world.index.upserts.close();
        let worker = world.start_worker();
        world.index.upserts.until_waiting(1).await;
        let erasure = world.ingest.erase_channel(world.guild(), 9.try_into().unwrap()).await.unwrap();
        assert_eq!((erasure.messages, erasure.sessions, erasure.points), (2, 1, 0));
        assert_eq!(erasures::settle(&world.pool).await.unwrap(), 0, "a worker is writing its points");
        world.index.upserts.open();
        world.until_idle().await;
        assert_eq!(erasures::settle(&world.pool).await.unwrap(), 1);
        assert!(world.points().await.is_empty());
        assert_eq!(world.assert_consistent().await, 0);
        worker.stop().await;
    })
    .await;
}
