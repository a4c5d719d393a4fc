//! Killed processes, and a Redis that loses its data.

use std::collections::BTreeMap;
use std::time::Duration;

use guildex_queue::testing;
use guildex_types::PointId;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::export::{self, GUILD};
use crate::points::{assert_consistent, assert_same, points};
use crate::world::{World, wait_until};

/// Small batches, so that a kill falls between them, and short leases. Each kill costs the claimed jobs an attempt.
const RESTLESS: &str = r#"
    worker.batch_size = 4
    worker.lease = "5s"
    worker.max_attempts = 100
    worker.concurrency.backfill = 8
"#;

const SESSIONS: i64 = 150;

/// Session and text of each message, by channel and id: the exported channels share ids.
type Members = BTreeMap<(i64, i64), (Option<i64>, String)>;

async fn members(world: &World) -> Members {
    let rows: Vec<(i64, i64, Option<i64>, String)> =
        sqlx::query_as("SELECT channel_id, id, first_message_id, text FROM messages")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    rows.into_iter().map(|(channel, id, session, text)| ((channel, id), (session, text))).collect()
}

async fn indexed(world: &World) -> i64 {
    world.value("SELECT count(*) FROM indexed_sessions").await
}

/// Sessions and points of a run without faults.
async fn without_faults() -> (Members, BTreeMap<PointId, guildex_index::Point>) {
    let world = World::new().await;
    world.import(&export::three_channels(&world.path("town"), SESSIONS));
    world.settle();
    let points = points(&world, GUILD).await;
    assert_consistent(&world, &points).await;
    assert_eq!(indexed(&world).await, SESSIONS);
    (members(&world).await, points)
}

#[tokio::test]
async fn workers_killed_at_any_moment_produce_the_same_index() {
    let world = World::with(RESTLESS).await;
    world.import(&export::three_channels(&world.path("town"), SESSIONS));
    let mut random = StdRng::seed_from_u64(9);
    for _ in 0..5 {
        let more = indexed(&world).await + random.random_range(1..=20);
        let up = world.up().await;
        wait_until("some sessions are recorded", || async { indexed(&world).await >= more }).await;
        // At any point of a batch, not only right after it was recorded.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
        up.kill();
    }
    assert!(indexed(&world).await < SESSIONS, "the kills came too late");
    world.settle();

    let survived = points(&world, GUILD).await;
    assert_consistent(&world, &survived).await;
    let (members_there, points_there) = without_faults().await;
    assert_eq!(members(&world).await, members_there);
    assert_same(&survived, &points_there);
}

#[tokio::test]
async fn a_killed_import_can_be_repeated() {
    let calm = World::new().await;
    let messages = export::conversations(1, 3_000).concat();
    let file = export::write(calm.path("big.json"), &export::export(export::CHANNEL, &messages));
    calm.import(&file);

    let world = World::new().await;
    let mut kills = 0;
    for pages in 1..=3 {
        let import = world.start(&["import", file.to_str().unwrap()]);
        wait_until("some pages are stored", || async {
            world.value::<i64>("SELECT count(*) FROM messages").await >= pages * 2_000
        })
        .await;
        import.kill();
        kills += i32::from(world.value::<i64>("SELECT count(*) FROM messages").await < 10_000);
    }
    assert!(kills > 0, "the kills came too late");
    world.import(&file);

    assert_eq!(members(&world).await, members(&calm).await);
    let of = |world: &World| {
        let pool = world.pool.clone();
        async move {
            let rows: Vec<(Uuid, i64, i32, i32, bool)> = sqlx::query_as(
                "SELECT id, first_message_id, message_count, word_count, deleted_at IS NULL
                 FROM sessions ORDER BY id",
            )
            .fetch_all(&pool)
            .await
            .unwrap();
            rows
        }
    };
    assert_eq!(of(&world).await, of(&calm).await);
    let without_job = "SELECT count(*) FROM sessions s WHERE NOT EXISTS (
        SELECT FROM jobs j WHERE j.payload->>'session_id' = s.id::text AND j.target_revision >= s.revision)";
    assert_eq!(world.value::<i64>(without_job).await, 0, "a changed session has no job");
}

#[tokio::test]
async fn a_graceful_shutdown_returns_unfinished_jobs_without_costing_an_attempt() {
    let world = World::with(RESTLESS).await;
    world.import(&export::three_channels(&world.path("town"), 90));
    let up = world.up().await;
    wait_until("some sessions are recorded", || async { indexed(&world).await >= 10 }).await;
    assert!(up.stop().await.success());

    let (running, left, tried): (i64, i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE state = 'running'), count(*) FILTER (WHERE state <> 'completed'),
                count(*) FILTER (WHERE state <> 'completed' AND (attempts > 0 OR crash_count > 0))
         FROM jobs",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert!(left > 0, "the stop came too late");
    assert_eq!((running, tried), (0, 0));

    world.settle();
    assert_consistent(&world, &points(&world, GUILD).await).await;
    let retried: i64 =
        world.value("SELECT count(*) FROM jobs WHERE attempts <> 1 OR state <> 'completed'").await;
    assert_eq!(retried, 0);
}

#[tokio::test]
async fn quarantined_jobs_run_in_isolation_and_block_no_other_job() {
    let world = World::with(RESTLESS).await;
    world.import(&export::three_channels(&world.path("town"), 60));
    // The state after two workers died with these jobs.
    let quarantined = "UPDATE jobs SET queue = 'live', crash_count = 2
                    WHERE id IN (SELECT id FROM jobs ORDER BY id LIMIT 8)";
    sqlx::query(quarantined).execute(&world.pool).await.unwrap();
    let up = world.up().await;
    world.wait_idle().await;
    assert!(up.stop().await.success());
    assert_consistent(&world, &points(&world, GUILD).await).await;
}

#[tokio::test]
async fn a_flushed_redis_loses_no_jobs() {
    let world = World::with(RESTLESS).await;
    world.import(&export::three_channels(&world.path("town"), 90));
    let queues = world.queues().await;
    let up = world.up().await;
    for sessions in [5, 25] {
        wait_until("some sessions are recorded", || async { indexed(&world).await >= sessions }).await;
        testing::purge(&queues).await.unwrap();
    }
    assert!(indexed(&world).await < 90, "the flush came too late");
    world.wait_idle().await;
    assert!(up.stop().await.success());
    assert_consistent(&world, &points(&world, GUILD).await).await;
    assert_eq!(world.value::<i64>("SELECT count(*) FROM jobs WHERE state <> 'completed'").await, 0);
}
