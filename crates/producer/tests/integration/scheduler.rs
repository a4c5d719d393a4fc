//! Runs the scheduler with Postgres and with a Redis that loses jobs.

use std::collections::HashSet;
use std::time::Duration;

use guildex_producer::{Scheduler, SchedulerConfig};
use guildex_queue::testing::{connection, layout, purge, with_queues};
use guildex_queue::{Consumer, Delivery, Queues};
use guildex_store::jobs::{self, NewJob};
use guildex_store::scheduler_tasks;
use guildex_test_support::TEST_TIMEOUT;
use guildex_types::{GuildId, Job, JobId, JobQueue, Revision, SessionId, Task};
use sqlx::PgPool;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Guild with more jobs than all others.
const HUGE: i64 = 1;

/// Starts a scheduler that runs until the guard is dropped. Its queue timeout never requeues a job.
fn start_scheduler(pool: &PgPool, queues: &Queues) -> DropGuard {
    let stop = CancellationToken::new();
    let config = SchedulerConfig {
        poll_interval: Duration::from_millis(100),
        queue_timeout: Duration::from_secs(3600),
        max_queued: 1_000,
        ..SchedulerConfig::default()
    };
    let scheduler = Scheduler::new(pool.clone(), queues.clone(), config);
    let until = stop.clone();
    tokio::spawn(async move { scheduler.run(until).await });
    stop.drop_guard()
}

/// Inserts jobs of a guild.
async fn insert_jobs(pool: &PgPool, guild: i64, queue: JobQueue, count: i32) {
    sqlx::query(
        "INSERT INTO jobs (id, guild_id, kind, queue, dedup_key, payload)
         SELECT gen_random_uuid(), $1, 'index_session', $2, gen_random_uuid()::text, '{}'
         FROM generate_series(1, $3)",
    )
    .bind(guild)
    .bind(queue)
    .bind(count)
    .execute(pool)
    .await
    .unwrap();
}

/// Enqueues a live change as an ingest does.
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

async fn until_known(queues: &Queues, queue: JobQueue, count: usize) -> HashSet<JobId> {
    let known = async {
        loop {
            let known = queues.known(queue).await.unwrap();
            if known.len() == count {
                return known;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(TEST_TIMEOUT, known).await.expect("redis has the jobs")
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn jobs_lost_by_a_flushed_redis_are_requeued_before_their_timeout(pool: PgPool) {
    with_queues(|queues| async move {
        insert_jobs(&pool, HUGE, JobQueue::Backfill, 700).await;
        insert_jobs(&pool, HUGE, JobQueue::Live, 30).await;
        let _scheduler = start_scheduler(&pool, &queues);
        let before = until_known(&queues, JobQueue::Backfill, 700).await;
        until_known(&queues, JobQueue::Live, 30).await;
        purge(&queues).await.unwrap();
        assert_eq!(until_known(&queues, JobQueue::Backfill, 700).await, before);
        until_known(&queues, JobQueue::Live, 30).await;
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn only_lost_jobs_are_requeued(pool: PgPool) {
    with_queues(|queues| async move {
        insert_jobs(&pool, HUGE, JobQueue::Live, 60).await;
        let _scheduler = start_scheduler(&pool, &queues);
        let before = until_known(&queues, JobQueue::Live, 60).await;
        let scheduled = layout(&queues, JobQueue::Live).scheduled_jobs_set();
        let removed: i64 = redis::cmd("ZREMRANGEBYRANK")
            .arg(scheduled)
            .arg(20)
            .arg(-1)
            .query_async(&mut connection(&queues))
            .await
            .unwrap();
        assert_eq!(removed, 40);
        assert_eq!(until_known(&queues, JobQueue::Live, 60).await, before);
        assert_eq!(queues.depth(JobQueue::Live).await.unwrap(), 60, "some were pushed twice");
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn jobs_queued_by_a_crashed_scheduler_are_pushed_by_another(pool: PgPool) {
    with_queues(|queues| async move {
        insert_jobs(&pool, HUGE, JobQueue::Live, 20).await;
        let lease = Duration::from_secs(3600);
        let died = jobs::dispatch(&pool, JobQueue::Live, 100, 0, lease).await.unwrap();
        assert_eq!(died.ids.len(), 20);
        let _scheduler = start_scheduler(&pool, &queues);
        assert_eq!(until_known(&queues, JobQueue::Live, 20).await, died.ids.into_iter().collect());
    })
    .await;
}

/// Consumes a queue, completes each job at once and returns the deliveries in order.
fn deliveries(pool: &PgPool, queues: &Queues, queue: JobQueue) -> (UnboundedReceiver<JobId>, DropGuard) {
    let (sender, deliveries) = unbounded_channel();
    let stop = CancellationToken::new();
    let (pool, queues, until) = (pool.clone(), queues.clone(), stop.clone());
    tokio::spawn(async move {
        let handler = move |delivery: Delivery| {
            let (pool, sender) = (pool.clone(), sender.clone());
            async move {
                let id = delivery.job().unwrap();
                let _ = sender.send(id);
                let claimed = jobs::claim(&pool, &[id], "test", TEST_TIMEOUT).await.unwrap();
                let done: Vec<_> = claimed
                    .iter()
                    .map(|claimed| (claimed.id, claimed.token, claimed.target_revision))
                    .collect();
                jobs::complete(&pool, &done, Duration::ZERO).await.unwrap();
            }
        };
        let consumer = Consumer { queue, name: "test", concurrency: 4, shutdown_timeout: TEST_TIMEOUT };
        queues.consume(consumer, handler, until).await;
    });
    (deliveries, stop.drop_guard())
}

async fn next(deliveries: &mut UnboundedReceiver<JobId>) -> JobId {
    timeout(TEST_TIMEOUT, deliveries.recv()).await.expect("a delivery").unwrap()
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_live_change_of_a_small_guild_overtakes_50_000_of_another(pool: PgPool) {
    with_queues(|queues| async move {
        insert_jobs(&pool, HUGE, JobQueue::Live, 50_000).await;
        let _scheduler = start_scheduler(&pool, &queues);
        let (mut delivered, _consumer) = deliveries(&pool, &queues, JobQueue::Live);
        for _ in 0..300 {
            next(&mut delivered).await;
        }
        for guild in 2..=11 {
            let change = live_change(&pool, guild).await;
            let delivered_already: Vec<_> = std::iter::from_fn(|| delivered.try_recv().ok()).collect();
            if delivered_already.contains(&change) {
                continue;
            }
            let mut before = 0;
            while next(&mut delivered).await != change {
                before += 1;
            }
            // Jobs in Redis, and those pushed by a round already in progress.
            assert!(before <= 2 * 128 + 4, "{before} jobs of the large guild were delivered first");
        }
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn live_changes_of_a_hundred_guilds_overtake_a_backfill_of_50_000(pool: PgPool) {
    with_queues(|queues| async move {
        insert_jobs(&pool, HUGE, JobQueue::Backfill, 50_000).await;
        let _scheduler = start_scheduler(&pool, &queues);
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
        assert!(went_first < 1_000, "{went_first} backfill jobs went first");
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn the_last_outcome_of_each_task_is_reported(pool: PgPool) {
    with_queues(|queues| async move {
        let _scheduler = start_scheduler(&pool, &queues);
        let reported = async {
            loop {
                let tasks = scheduler_tasks::list(&pool).await.unwrap();
                if tasks.iter().any(|task| task.name == "requeue_lost") {
                    return tasks;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let tasks = timeout(TEST_TIMEOUT, reported).await.expect("a report");
        let names: HashSet<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
        for name in ["analyze", "dispatch_live", "requeue_lost", "rescue_leases"] {
            assert!(names.contains(name), "{names:?}");
        }
        assert!(tasks.iter().all(|task| task.error.is_none() && task.succeeded_at.is_some()), "{tasks:?}");
    })
    .await;
}

#[sqlx::test(migrator = "guildex_store::MIGRATOR")]
async fn a_failing_task_is_reported_with_its_error(pool: PgPool) {
    with_queues(|queues| async move {
        sqlx::query("ALTER TABLE jobs RENAME TO elsewhere_jobs").execute(&pool).await.unwrap();
        let _scheduler = start_scheduler(&pool, &queues);
        let failed = async {
            loop {
                let tasks = scheduler_tasks::list(&pool).await.unwrap();
                if let Some(error) = tasks.into_iter().find_map(|task| task.error) {
                    return error;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let error = timeout(TEST_TIMEOUT, failed).await.expect("a failure");
        assert!(error.contains("jobs"), "{error}");
    })
    .await;
}
