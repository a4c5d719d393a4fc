//! A real dispatcher between a real ledger and a real Redis, which loses things.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::HashSet;
use std::time::Duration;

use guildex_producer::dispatcher::{Dispatcher, DispatcherConfig};
use guildex_queue::testing::{connection, layout, purge, with_queues};
use guildex_queue::{Delivery, Queues};
use guildex_store::jobs::{self, NewJob};
use guildex_types::{GuildId, Job, JobId, JobQueue, Revision, SessionId, Task};
use sqlx::PgPool;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Long enough for a busy machine; a test that works does not wait for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The one with more to do than all others.
const HUGE: i64 = 1;

/// Runs until the guard is dropped. Nothing comes again because it waited for too long.
fn start_dispatcher(pool: &PgPool, queues: &Queues) -> DropGuard {
    let stop = CancellationToken::new();
    let config = DispatcherConfig {
        poll: Duration::from_millis(100),
        queued_lease: Duration::from_secs(3600),
        window: 1_000,
        ..DispatcherConfig::default()
    };
    let dispatcher = Dispatcher::new(pool.clone(), queues.clone(), config);
    let until = stop.clone();
    tokio::spawn(async move { dispatcher.run(until).await });
    stop.drop_guard()
}

/// Jobs of a guild, all at once.
async fn ask(pool: &PgPool, guild: i64, class: JobQueue, count: i32) {
    sqlx::query(
        "INSERT INTO jobs (id, guild_id, kind, queue, dedup_key, payload)
         SELECT gen_random_uuid(), $1, 'index_session', $2, gen_random_uuid()::text, '{}'
         FROM generate_series(1, $3)",
    )
    .bind(guild)
    .bind(class)
    .bind(count)
    .execute(pool)
    .await
    .unwrap();
}

/// A live change of a guild, as it is written down in an ingest.
async fn live_change(pool: &PgPool, guild: i64) -> JobId {
    let guild_id = GuildId::try_from(guild).unwrap();
    let job =
        Job { guild_id, task: Task::IndexSession { session_id: SessionId::from(uuid::Uuid::new_v4()) } };
    let key = job.dedup_key();
    let new =
        NewJob { job, queue: JobQueue::Live, target_revision: Revision::from(1), debounce: Duration::ZERO };
    let mut tx = pool.begin().await.unwrap();
    jobs::enqueue(&mut tx, &[new], 5).await.unwrap();
    tx.commit().await.unwrap();
    let id: uuid::Uuid = sqlx::query_scalar("SELECT id FROM jobs WHERE dedup_key = $1")
        .bind(key)
        .fetch_one(pool)
        .await
        .unwrap();
    id.into()
}

async fn until_known(queues: &Queues, class: JobQueue, count: usize) -> HashSet<JobId> {
    let known = async {
        loop {
            let known = queues.known(class).await.unwrap();
            if known.len() == count {
                return known;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, known).await.expect("redis knows of the jobs")
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn what_a_flushed_redis_lost_is_pushed_again_long_before_its_lease_is_over(pool: PgPool) {
    with_queues(|queues| async move {
        ask(&pool, HUGE, JobQueue::Backfill, 700).await;
        ask(&pool, HUGE, JobQueue::Live, 30).await;
        let _dispatcher = start_dispatcher(&pool, &queues);
        let before = until_known(&queues, JobQueue::Backfill, 700).await;
        until_known(&queues, JobQueue::Live, 30).await;
        purge(&queues).await.unwrap();
        assert_eq!(until_known(&queues, JobQueue::Backfill, 700).await, before);
        until_known(&queues, JobQueue::Live, 30).await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn what_redis_lost_a_part_of_is_pushed_again_and_the_rest_is_left_alone(pool: PgPool) {
    with_queues(|queues| async move {
        ask(&pool, HUGE, JobQueue::Live, 60).await;
        let _dispatcher = start_dispatcher(&pool, &queues);
        let before = until_known(&queues, JobQueue::Live, 60).await;
        let scheduled = layout(&queues, JobQueue::Live).scheduled_jobs_set();
        let gone: i64 = redis::cmd("ZREMRANGEBYRANK")
            .arg(scheduled)
            .arg(20)
            .arg(-1)
            .query_async(&mut connection(&queues))
            .await
            .unwrap();
        assert_eq!(gone, 40);
        assert_eq!(until_known(&queues, JobQueue::Live, 60).await, before);
        assert_eq!(queues.depth(JobQueue::Live).await.unwrap(), 60, "some were pushed twice");
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn what_a_dispatcher_queued_and_did_not_live_to_push_is_pushed_by_another(pool: PgPool) {
    with_queues(|queues| async move {
        ask(&pool, HUGE, JobQueue::Live, 20).await;
        let lease = Duration::from_secs(3600);
        let died = jobs::dispatch(&pool, JobQueue::Live, 100, 0, lease).await.unwrap();
        assert_eq!(died.ids.len(), 20);
        let _dispatcher = start_dispatcher(&pool, &queues);
        assert_eq!(until_known(&queues, JobQueue::Live, 20).await, died.ids.into_iter().collect());
    })
    .await;
}

/// What is delivered, in order; each job is done at once.
fn deliveries(pool: &PgPool, queues: &Queues, class: JobQueue) -> (UnboundedReceiver<JobId>, DropGuard) {
    let (tell, deliveries) = unbounded_channel();
    let stop = CancellationToken::new();
    let (pool, queues, until) = (pool.clone(), queues.clone(), stop.clone());
    tokio::spawn(async move {
        let handler = move |delivery: Delivery| {
            let (pool, tell) = (pool.clone(), tell.clone());
            async move {
                let id = delivery.job().unwrap();
                let _ = tell.send(id);
                let claimed = jobs::claim(&pool, &[id], "test", PATIENCE).await.unwrap();
                let done: Vec<_> = claimed
                    .iter()
                    .map(|claimed| (claimed.id, claimed.token, claimed.target_revision))
                    .collect();
                jobs::complete(&pool, &done, Duration::ZERO).await.unwrap();
            }
        };
        queues.consume(class, 4, "test", handler, until).await;
    });
    (deliveries, stop.drop_guard())
}

async fn next(deliveries: &mut UnboundedReceiver<JobId>) -> JobId {
    timeout(PATIENCE, deliveries.recv()).await.expect("a delivery").unwrap()
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_live_change_of_a_small_guild_is_soon_delivered_though_another_has_50_000(pool: PgPool) {
    with_queues(|queues| async move {
        ask(&pool, HUGE, JobQueue::Live, 50_000).await;
        let _dispatcher = start_dispatcher(&pool, &queues);
        let (mut delivered, _consumer) = deliveries(&pool, &queues, JobQueue::Live);
        for _ in 0..300 {
            next(&mut delivered).await;
        }
        for guild in 2..=11 {
            let change = live_change(&pool, guild).await;
            let went_already: Vec<_> = std::iter::from_fn(|| delivered.try_recv().ok()).collect();
            if went_already.contains(&change) {
                continue;
            }
            let mut before = 0;
            while next(&mut delivered).await != change {
                before += 1;
            }
            // What waits in Redis, and what a round that had begun before still pushed.
            assert!(before <= 2 * 128 + 4, "{before} of the huge guild's jobs went first");
        }
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn live_changes_of_a_hundred_guilds_do_not_wait_for_a_backfill_of_50_000(pool: PgPool) {
    with_queues(|queues| async move {
        ask(&pool, HUGE, JobQueue::Backfill, 50_000).await;
        let _dispatcher = start_dispatcher(&pool, &queues);
        until_known(&queues, JobQueue::Backfill, 1_000).await;
        let (mut backfill, _slow) = deliveries(&pool, &queues, JobQueue::Backfill);
        let (mut live, _quick) = deliveries(&pool, &queues, JobQueue::Live);
        let mut changes = HashSet::new();
        for guild in 2..=101 {
            changes.insert(live_change(&pool, guild).await);
        }
        while backfill.try_recv().is_ok() {}
        while !changes.is_empty() {
            changes.remove(&next(&mut live).await);
        }
        let went_first = std::iter::from_fn(|| backfill.try_recv().ok()).count();
        assert!(went_first < 1_000, "{went_first} of the backfill's jobs went first");
    })
    .await;
}
