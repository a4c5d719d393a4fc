//! The job queue: enqueue, dispatch, claim, complete, fail and rescue.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use guildex_store::jobs::{self, Claimed, Dispatched, Failure, NOTIFY_CHANNEL, NewJob, Rescued};
use guildex_store::{MIGRATOR, StoreError};
use guildex_test_support::TEST_TIMEOUT;
use guildex_test_support::locks::until_blocked;
use guildex_types::{GuildId, Job, JobId, JobQueue, RetryPolicy, Revision, SessionId, Task};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{FromRow, PgPool};
use tokio::runtime::Handle;
use tokio::sync::Barrier;
use tokio::time::timeout;
use uuid::Uuid;

const MAX_ATTEMPTS: u32 = 3;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const ALL: usize = 1_000;
/// Delay of the recheck of a job whose lease expired.
const RECHECK_DELAY: Duration = Duration::from_secs(20);

fn guild(id: i64) -> GuildId {
    id.try_into().unwrap()
}

/// Session of the guild that starts with message `first`.
fn session(guild: GuildId, first: i64) -> SessionId {
    SessionId::new(guild, 9.try_into().unwrap(), first.try_into().unwrap())
}

/// Index job without a debounce.
fn index(guild_id: GuildId, first: i64, wanted: i64) -> NewJob {
    let task = Task::IndexSession { session_id: session(guild_id, first) };
    NewJob {
        job: Job { guild_id, task },
        queue: JobQueue::Live,
        target_revision: wanted.into(),
        debounce: Duration::ZERO,
    }
}

/// Deletion of the same session.
fn delete(guild_id: GuildId, first: i64, wanted: i64) -> NewJob {
    let task = Task::DeleteSession { session_id: session(guild_id, first) };
    let mut job = index(guild_id, first, wanted);
    (job.job.task, job.queue) = (task, JobQueue::Delete);
    job
}

fn in_queue(queue: JobQueue, job: NewJob) -> NewJob {
    NewJob { queue, ..job }
}

fn after(debounce: Duration, job: NewJob) -> NewJob {
    NewJob { debounce, ..job }
}

async fn enqueue(pool: &PgPool, new: &[NewJob]) {
    let mut tx = pool.begin().await.unwrap();
    jobs::enqueue(&mut tx, new, MAX_ATTEMPTS).await.unwrap();
    tx.commit().await.unwrap();
}

/// Dispatches all due jobs of a queue.
async fn dispatch(pool: &PgPool, queue: JobQueue) -> Vec<JobId> {
    dispatch_within(pool, queue, ALL, 0).await.ids
}

async fn dispatch_within(pool: &PgPool, queue: JobQueue, window: usize, depth: usize) -> Dispatched {
    jobs::dispatch(pool, queue, window, depth, MINUTE).await.unwrap()
}

/// Counts queued jobs.
async fn queued(pool: &PgPool) -> usize {
    rows(pool).await.iter().filter(|row| row.state == "queued").count()
}

/// Claims as a worker does: first the jobs that are not quarantined, then each of the others.
async fn claim(pool: &PgPool, ids: &[JobId], worker: &str) -> Vec<Claimed> {
    let mut claimed = jobs::claim(pool, ids, worker, MINUTE).await.unwrap();
    for id in jobs::quarantined(pool, ids).await.unwrap() {
        claimed.extend(jobs::claim_isolated(pool, id, worker, MINUTE).await.unwrap());
    }
    claimed
}

/// Dispatches and claims all due jobs of a queue.
async fn dispatch_and_claim(pool: &PgPool, queue: JobQueue) -> Vec<Claimed> {
    let ids = dispatch(pool, queue).await;
    claim(pool, &ids, "worker").await
}

/// Claims the only live job.
async fn claim_one(pool: &PgPool) -> Claimed {
    let mut taken = dispatch_and_claim(pool, JobQueue::Live).await;
    assert_eq!(taken.len(), 1);
    taken.remove(0)
}

async fn complete(pool: &PgPool, job: &Claimed, revision: i64) {
    jobs::complete(pool, &[(job.id, job.token, revision.into())], RECHECK_DELAY).await.unwrap();
}

async fn fail(pool: &PgPool, job: &Claimed, failure: &Failure) -> bool {
    jobs::fail(pool, (job.id, job.token), "it broke", failure).await.unwrap()
}

const AT_ONCE: Failure = Failure::Retry { after: Duration::ZERO };

/// Expires all leases.
async fn expire_leases(pool: &PgPool) {
    sqlx::query(
        "UPDATE jobs SET lease_expires_at = now() - interval '1 second' WHERE lease_expires_at IS NOT NULL",
    )
    .execute(pool)
    .await
    .unwrap();
}

/// Makes all pending jobs due.
async fn make_due(pool: &PgPool) {
    sqlx::query("UPDATE jobs SET run_at = now() WHERE state = 'pending'").execute(pool).await.unwrap();
}

/// A row of `jobs`.
#[derive(Debug, Clone, PartialEq, FromRow)]
struct Row {
    id: Uuid,
    kind: String,
    queue: JobQueue,
    state: String,
    target_revision: i64,
    attempts: i32,
    max_attempts: Option<i32>,
    run_at: DateTime<Utc>,
    lease_expires_at: Option<DateTime<Utc>>,
    claimed_by: Option<String>,
    crash_count: i32,
    error: Option<String>,
    finished_at: Option<DateTime<Utc>>,
}

async fn rows(pool: &PgPool) -> Vec<Row> {
    sqlx::query_as("SELECT * FROM jobs ORDER BY id").fetch_all(pool).await.unwrap()
}

async fn only(pool: &PgPool) -> Row {
    let mut rows = rows(pool).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

/// Seconds until the job is due, by the database's clock.
async fn seconds_until_due(pool: &PgPool) -> f64 {
    sqlx::query_scalar("SELECT extract(epoch FROM run_at - now())::float8 FROM jobs")
        .fetch_one(pool)
        .await
        .unwrap()
}

// Enqueueing.

#[sqlx::test(migrator = "MIGRATOR")]
async fn enqueueing_again_raises_the_target_revision_of_the_unfinished_job(pool: PgPool) {
    for wanted in [4, 9, 6] {
        enqueue(&pool, &[index(guild(1), 1, wanted)]).await;
    }
    let job = only(&pool).await;
    assert_eq!((job.state.as_str(), job.target_revision), ("pending", 9));
    assert_eq!(claim_one(&pool).await.target_revision, Revision::from(9));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn raising_a_target_revision_changes_unfinished_jobs_only(pool: PgPool) {
    let raise = async |first: i64, wanted: i64| {
        let mut tx = pool.begin().await.unwrap();
        jobs::raise_target_revision(&mut tx, &[(index(guild(1), first, 0).job, wanted.into())])
            .await
            .unwrap();
        tx.commit().await.unwrap();
    };
    raise(1, 5).await;
    assert!(rows(&pool).await.is_empty(), "a job was enqueued");
    enqueue(&pool, &[index(guild(1), 1, 2), index(guild(2), 1, 2)]).await;
    raise(1, 1).await;
    assert!(rows(&pool).await.iter().all(|row| row.target_revision == 2), "the target revision was lowered");
    let taken = dispatch_and_claim(&pool, JobQueue::Live).await;
    raise(1, 5).await;
    for job in &taken {
        complete(&pool, job, 2).await;
    }
    let mut ends: Vec<_> =
        rows(&pool).await.into_iter().map(|row| (row.target_revision, row.state)).collect();
    ends.sort();
    assert_eq!(ends, [(2, "completed".to_owned()), (5, "pending".to_owned())]);
    complete(&pool, &claim_one(&pool).await, 5).await;
    raise(1, 9).await;
    assert_eq!(jobs::unfinished(&pool, None).await.unwrap(), 0, "a finished job changed");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn jobs_of_different_sessions_and_guilds_are_not_merged(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1), index(guild(1), 2, 1), index(guild(2), 1, 1)]).await;
    assert_eq!(rows(&pool).await.len(), 3);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn point_removals_are_never_merged(pool: PgPool) {
    let task = Task::RemovePoints { sessions: vec![] };
    let mut removal = delete(guild(1), 1, 1);
    removal.job.task = task;
    enqueue(&pool, &[removal.clone(), removal]).await;
    assert_eq!(rows(&pool).await.len(), 2);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_finished_job_is_followed_by_a_new_one(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let first = claim_one(&pool).await;
    complete(&pool, &first, 1).await;
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    let second = claim_one(&pool).await;
    assert_ne!(second.id, first.id);
    assert_eq!((second.target_revision, second.attempt), (Revision::from(2), 1));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn further_changes_do_not_delay_a_pending_job(pool: PgPool) {
    enqueue(&pool, &[after(MINUTE, index(guild(1), 1, 1))]).await;
    enqueue(&pool, &[after(HOUR, index(guild(1), 1, 2))]).await;
    assert!(seconds_until_due(&pool).await <= 60.0);
    enqueue(&pool, &[index(guild(1), 1, 3)]).await;
    assert!(seconds_until_due(&pool).await <= 0.0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_is_rolled_back_with_its_transaction(pool: PgPool) {
    let mut tx = pool.begin().await.unwrap();
    jobs::enqueue(&mut tx, &[index(guild(1), 1, 1)], MAX_ATTEMPTS).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(rows(&pool).await, []);

    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let mut tx = pool.begin().await.unwrap();
    jobs::enqueue(&mut tx, &[index(guild(1), 1, 2)], MAX_ATTEMPTS).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(only(&pool).await.target_revision, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_listener_is_notified_when_the_transaction_commits(pool: PgPool) {
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen(NOTIFY_CHANNEL).await.unwrap();
    let mut next_payload = async || {
        timeout(TEST_TIMEOUT, listener.recv()).await.expect("a notification").unwrap().payload().to_owned()
    };

    let mut tx = pool.begin().await.unwrap();
    let new =
        [after(MINUTE, index(guild(1), 1, 1)), after(Duration::from_millis(250), index(guild(1), 2, 1))];
    jobs::enqueue(&mut tx, &new, MAX_ATTEMPTS).await.unwrap();
    // Notifications come in the order of commits: this one was committed first.
    sqlx::query("SELECT pg_notify($1, 'next')").bind(NOTIFY_CHANNEL).execute(&pool).await.unwrap();
    assert_eq!(next_payload().await, "next");
    tx.commit().await.unwrap();
    assert_eq!(next_payload().await, "250", "the delay until the first job is due, in milliseconds");
}

// Changes of kind and queue.

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_live_change_moves_a_pending_backfill_job_to_the_live_queue(pool: PgPool) {
    enqueue(&pool, &[in_queue(JobQueue::Backfill, index(guild(1), 1, 1))]).await;
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    assert_eq!(only(&pool).await.queue, JobQueue::Live);
    enqueue(&pool, &[in_queue(JobQueue::Backfill, index(guild(1), 1, 3))]).await;
    assert_eq!(only(&pool).await.queue, JobQueue::Live, "a backfill made it less urgent");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_queued_in_a_less_urgent_queue_is_dispatched_again(pool: PgPool) {
    enqueue(&pool, &[in_queue(JobQueue::Backfill, index(guild(1), 1, 1))]).await;
    let queued = dispatch(&pool, JobQueue::Backfill).await;
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;

    let job = only(&pool).await;
    assert_eq!((job.state.as_str(), job.queue, job.lease_expires_at), ("pending", JobQueue::Live, None));
    assert!(claim(&pool, &queued, "slow").await.is_empty(), "the id that was left in Redis claims nothing");
    assert_eq!(dispatch(&pool, JobQueue::Backfill).await, []);
    assert_eq!(dispatch(&pool, JobQueue::Live).await, queued);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_queued_job_keeps_its_place_after_a_less_urgent_change(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let queued = dispatch(&pool, JobQueue::Live).await;
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    enqueue(&pool, &[in_queue(JobQueue::Backfill, index(guild(1), 1, 3))]).await;
    let taken = claim(&pool, &queued, "worker").await;
    assert_eq!(taken[0].target_revision, Revision::from(3));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_index_job_becomes_a_deletion_and_vice_versa(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    dispatch(&pool, JobQueue::Live).await;
    enqueue(&pool, &[delete(guild(1), 1, 2)]).await;
    let job = only(&pool).await;
    assert_eq!(
        (job.kind.as_str(), job.queue, job.state.as_str()),
        ("delete_session", JobQueue::Delete, "pending")
    );
    assert_eq!((job.target_revision, job.max_attempts), (2, None));

    dispatch(&pool, JobQueue::Delete).await;
    enqueue(&pool, &[index(guild(1), 1, 3)]).await;
    let job = only(&pool).await;
    assert_eq!(
        (job.kind.as_str(), job.queue, job.state.as_str()),
        ("index_session", JobQueue::Live, "pending")
    );
    assert_eq!((job.target_revision, job.max_attempts), (3, None), "the deletion has not happened yet");
    let payload = claim_one(&pool).await.payload;
    assert_eq!(Job::decode(&payload).unwrap(), index(guild(1), 1, 3).job);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_running_job_that_becomes_a_deletion_runs_again_as_one(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let running = claim_one(&pool).await;
    enqueue(&pool, &[delete(guild(1), 1, 2)]).await;
    complete(&pool, &running, 1).await;
    let again = dispatch_and_claim(&pool, JobQueue::Delete).await;
    assert_eq!(Job::decode(&again[0].payload).unwrap(), delete(guild(1), 1, 2).job);
}

// Dispatching and claiming.

#[sqlx::test(migrator = "MIGRATOR")]
async fn only_due_jobs_of_the_queue_are_dispatched(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1), after(HOUR, index(guild(1), 2, 1))]).await;
    enqueue(&pool, &[after(HOUR, index(guild(2), 3, 1))]).await;
    enqueue(&pool, &[in_queue(JobQueue::Backfill, index(guild(1), 4, 1))]).await;
    assert_eq!(dispatch(&pool, JobQueue::Live).await.len(), 1);
    assert_eq!(dispatch_within(&pool, JobQueue::Live, ALL, 0).await, Dispatched::default());
    assert_eq!(queued(&pool).await, 1);
    assert_eq!(jobs::unfinished(&pool, Some(guild(1))).await.unwrap(), 3);
    assert_eq!(jobs::unfinished(&pool, None).await.unwrap(), 4);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_more_jobs_are_dispatched_than_the_queue_has_room_for(
    options: PgPoolOptions,
    database: PgConnectOptions,
) {
    // One connection: a dispatch that finds no room lets go of its lock when its connection is free again.
    let pool = options.max_connections(1).connect_with(database).await.unwrap();
    let new: Vec<NewJob> = (1..=20).map(|first| index(guild(1), first, 1)).collect();
    enqueue(&pool, &new).await;
    let full = Dispatched { ids: vec![], full: true };
    assert_eq!(dispatch_within(&pool, JobQueue::Live, 0, 0).await, full);
    let first = dispatch_within(&pool, JobQueue::Live, 5, 0).await;
    assert_eq!((first.ids.len(), first.full), (5, false));
    assert_eq!(dispatch_within(&pool, JobQueue::Live, 5, 0).await, full);
    assert_eq!(
        dispatch_within(&pool, JobQueue::Live, 8, 8).await,
        full,
        "Redis holds ids that are not queued"
    );
    assert_eq!(dispatch_within(&pool, JobQueue::Live, 8, 6).await.ids.len(), 2);
    assert_eq!(dispatch_within(&pool, JobQueue::Live, 8, 0).await.ids.len(), 1);
    claim(&pool, &first.ids, "worker").await;
    assert_eq!(
        dispatch_within(&pool, JobQueue::Live, 8, 0).await.ids.len(),
        5,
        "running jobs count as queued"
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn jobs_that_redis_had_no_room_for_are_requeued(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1), index(guild(1), 2, 1)]).await;
    let ids = dispatch(&pool, JobQueue::Live).await;
    let running = claim(&pool, &ids[..1], "worker").await;
    jobs::requeue(&pool, &ids).await.unwrap();
    let again = dispatch(&pool, JobQueue::Live).await;
    assert_eq!(again, ids[1..], "running jobs were requeued");
    complete(&pool, &running[0], 1).await;
    assert_eq!(claim(&pool, &again, "worker").await[0].attempt, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_oldest_job_of_a_guild_is_dispatched_first(pool: PgPool) {
    for first in [3, 1, 2] {
        enqueue(&pool, &[index(guild(1), first, 1)]).await;
    }
    let by_age: Vec<JobId> = rows(&pool).await.iter().map(|row| row.id.into()).collect();
    assert_eq!(dispatch(&pool, JobQueue::Live).await, by_age);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn guilds_take_turns_so_that_a_large_one_starves_no_other(pool: PgPool) {
    let huge: Vec<NewJob> = (1..=500).map(|first| index(guild(1), first, 1)).collect();
    enqueue(&pool, &huge).await;
    enqueue(&pool, &[index(guild(2), 1, 1), index(guild(2), 2, 1)]).await;
    enqueue(&pool, &[index(guild(3), 1, 1)]).await;

    let first = dispatch_within(&pool, JobQueue::Live, 9, 0).await.ids;
    let guilds: Vec<i64> = sqlx::query_scalar(
        "SELECT guild_id FROM UNNEST($1::uuid[]) WITH ORDINALITY AS u (id, place) JOIN jobs USING (id)
         ORDER BY place",
    )
    .bind(first.iter().map(|id| id.get()).collect::<Vec<_>>())
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(guilds, [1, 2, 3, 1, 2, 1], "one per guild and turn, at most a third of the room for each");
    let second = dispatch_within(&pool, JobQueue::Live, 15, 0).await.ids;
    assert_eq!(second.len(), 9, "without others, the large guild gets all the room");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn two_dispatchers_share_one_limit_and_never_dispatch_a_job_twice(pool: PgPool) {
    const JOBS: usize = 120;
    let new: Vec<NewJob> = (1..=JOBS as i64).map(|first| index(guild(1 + first % 3), first, 1)).collect();
    enqueue(&pool, &new).await;
    let barrier = Arc::new(Barrier::new(2));
    let dispatchers = [(); 2].map(|()| {
        let (pool, barrier) = (pool.clone(), barrier.clone());
        tokio::spawn(async move {
            let mut mine = vec![];
            for window in (7..).step_by(7).take_while(|window| *window < JOBS + 7) {
                barrier.wait().await;
                mine.extend(dispatch_within(&pool, JobQueue::Live, window, 0).await.ids);
                barrier.wait().await;
                assert!(queued(&pool).await <= window);
            }
            mine
        })
    });
    let mut all = vec![];
    for dispatcher in dispatchers {
        all.extend(timeout(TEST_TIMEOUT, dispatcher).await.expect("an end").unwrap());
    }
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "some were dispatched twice");
    assert!(all.len() <= JOBS);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn two_workers_with_the_same_ids_claim_each_job_once(pool: PgPool) {
    let new: Vec<NewJob> = (1..=100).map(|first| index(guild(1), first, 1)).collect();
    enqueue(&pool, &new).await;
    let ids = dispatch(&pool, JobQueue::Live).await;
    let barrier = Arc::new(Barrier::new(2));
    let workers = ["one", "two"].map(|name| {
        let (pool, barrier, ids) = (pool.clone(), barrier.clone(), ids.clone());
        tokio::spawn(async move {
            barrier.wait().await;
            let mut mine = vec![];
            for some in ids.chunks(10) {
                mine.extend(claim(&pool, some, name).await);
            }
            mine
        })
    });
    let mut claimed = vec![];
    for worker in workers {
        claimed.extend(worker.await.unwrap());
    }
    assert_eq!(claimed.len(), 100);
    assert_eq!(claimed.iter().map(|job| job.id).collect::<HashSet<_>>(), ids.into_iter().collect());
    assert!(rows(&pool).await.iter().all(|row| row.state == "running" && row.attempts == 1));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn only_queued_jobs_can_be_claimed(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let pending: Vec<JobId> = rows(&pool).await.iter().map(|row| row.id.into()).collect();
    assert!(claim(&pool, &pending, "eager").await.is_empty());
    let running = claim_one(&pool).await;
    assert!(claim(&pool, &[running.id, JobId::new()], "late").await.is_empty());
    complete(&pool, &running, 1).await;
    assert!(claim(&pool, &[running.id], "later").await.is_empty());
}

// Completion and failure.

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_reached_its_target_revision_is_completed(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 4)]).await;
    let job = claim_one(&pool).await;
    complete(&pool, &job, 5).await;
    let done = only(&pool).await;
    assert_eq!((done.state.as_str(), done.lease_expires_at), ("completed", None));
    assert!(done.finished_at.is_some());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_whose_target_revision_rose_runs_again_without_spending_an_attempt(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 4)]).await;
    let mut job = claim_one(&pool).await;
    for edit in 5..20 {
        enqueue(&pool, &[index(guild(1), 1, edit)]).await;
        complete(&pool, &job, edit - 1).await;
        assert_eq!(only(&pool).await.state, "pending");
        job = claim_one(&pool).await;
        assert_eq!((job.target_revision, job.attempt), (edit.into(), 1));
    }
    complete(&pool, &job, 19).await;
    assert_eq!(only(&pool).await.state, "completed");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn each_job_of_a_batch_completes_with_its_own_revision(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 10), index(guild(1), 2, 20)]).await;
    let taken = dispatch_and_claim(&pool, JobQueue::Live).await;
    let finished: Vec<_> = taken.iter().map(|job| (job.id, job.token, Revision::from(15))).collect();
    jobs::complete(&pool, &finished, RECHECK_DELAY).await.unwrap();
    let mut ends: Vec<_> =
        rows(&pool).await.into_iter().map(|row| (row.target_revision, row.state)).collect();
    ends.sort();
    assert_eq!(ends, [(10, "completed".to_owned()), (20, "pending".to_owned())]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_failed_job_waits_for_its_delay_and_keeps_its_error(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let job = claim_one(&pool).await;
    assert!(!fail(&pool, &job, &Failure::Retry { after: HOUR }).await);
    let failed = only(&pool).await;
    assert_eq!((failed.state.as_str(), failed.error.as_deref()), ("pending", Some("it broke")));
    assert!(seconds_until_due(&pool).await > 3500.0);
    assert_eq!(dispatch(&pool, JobQueue::Live).await, []);

    make_due(&pool).await;
    let again = claim_one(&pool).await;
    assert_eq!(again.attempt, 2);
    complete(&pool, &again, 1).await;
    assert_eq!(only(&pool).await.error, None);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_without_attempts_left_is_dead_with_its_error(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    for attempt in 1..=MAX_ATTEMPTS {
        let job = claim_one(&pool).await;
        assert_eq!(fail(&pool, &job, &AT_ONCE).await, attempt == MAX_ATTEMPTS);
    }
    let dead = only(&pool).await;
    assert_eq!((dead.state.as_str(), dead.error.as_deref()), ("dead", Some("it broke")));
    assert_eq!(jobs::dead(&pool).await.unwrap(), 1);
    assert_eq!(dispatch_and_claim(&pool, JobQueue::Live).await.len(), 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_change_of_a_session_with_a_dead_job_enqueues_a_job(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let job = claim_one(&pool).await;
    assert!(fail(&pool, &job, &Failure::Permanent).await);
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    assert_eq!(claim_one(&pool).await.attempt, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_change_during_the_last_attempt_keeps_the_job_alive(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    for _ in 1..MAX_ATTEMPTS {
        fail(&pool, &claim_one(&pool).await, &AT_ONCE).await;
    }
    let last = claim_one(&pool).await;
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    fail(&pool, &last, &AT_ONCE).await;
    assert_eq!(jobs::unfinished(&pool, None).await.unwrap(), 1, "no job is left to index the change");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_change_during_a_last_attempt_that_crashed_keeps_the_job_alive(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    for _ in 1..MAX_ATTEMPTS {
        fail(&pool, &claim_one(&pool).await, &AT_ONCE).await;
    }
    claim_one(&pool).await;
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    expire_leases(&pool).await;
    jobs::rescue_expired(&pool, &RetryPolicy::default()).await.unwrap();
    assert_eq!(jobs::unfinished(&pool, None).await.unwrap(), 1, "no job is left to index the change");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_restored_session_does_not_inherit_the_attempts_of_its_deletion(pool: PgPool) {
    enqueue(&pool, &[delete(guild(1), 1, 1)]).await;
    for _ in 0..10 {
        fail(&pool, &dispatch_and_claim(&pool, JobQueue::Delete).await[0], &AT_ONCE).await;
    }
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    assert!(!fail(&pool, &claim_one(&pool).await, &AT_ONCE).await, "the first failure made it dead");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_permanent_failure_makes_a_job_dead_at_once(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let job = claim_one(&pool).await;
    assert!(fail(&pool, &job, &Failure::Permanent).await);
    assert_eq!(only(&pool).await.state, "dead");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn deletions_retry_forever(pool: PgPool) {
    enqueue(&pool, &[delete(guild(1), 1, 1)]).await;
    for attempt in 1..=20 {
        let taken = dispatch_and_claim(&pool, JobQueue::Delete).await;
        assert_eq!(taken[0].attempt, attempt);
        match attempt % 3 {
            0 => assert!(!fail(&pool, &taken[0], &Failure::Permanent).await),
            1 => assert!(!fail(&pool, &taken[0], &AT_ONCE).await),
            _ => {
                expire_leases(&pool).await;
                assert_eq!(
                    jobs::rescue_expired(&pool, &RetryPolicy::default()).await.unwrap(),
                    Rescued { requeued: 1, dead: 0 }
                );
            }
        }
        make_due(&pool).await;
    }
    assert_eq!(only(&pool).await.state, "pending");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_released_job_has_spent_no_attempt(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    fail(&pool, &claim_one(&pool).await, &AT_ONCE).await;
    for _ in 0..5 {
        let job = claim_one(&pool).await;
        assert_eq!(job.attempt, 2);
        jobs::release(&pool, &[(job.id, job.token)], Duration::ZERO).await.unwrap();
        let back = only(&pool).await;
        assert_eq!((back.state.as_str(), back.attempts, back.crash_count), ("pending", 1, 0));
    }
    let job = claim_one(&pool).await;
    jobs::release(&pool, &[(job.id, job.token)], HOUR).await.unwrap();
    assert_eq!(dispatch(&pool, JobQueue::Live).await, [], "the job is due before its delay");
}

// Leases.

#[sqlx::test(migrator = "MIGRATOR")]
async fn jobs_with_a_valid_lease_are_not_rescued(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1), index(guild(1), 2, 1)]).await;
    let ids = dispatch(&pool, JobQueue::Live).await;
    claim(&pool, &ids[..1], "worker").await;
    assert_eq!(jobs::rescue_expired(&pool, &RetryPolicy::default()).await.unwrap(), Rescued::default());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_expired_lease_spends_an_attempt_of_running_jobs_only(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1), index(guild(1), 2, 1)]).await;
    let ids = dispatch(&pool, JobQueue::Live).await;
    let ran = claim(&pool, &ids[..1], "worker").await;
    expire_leases(&pool).await;
    assert_eq!(
        jobs::rescue_expired(&pool, &RetryPolicy::default()).await.unwrap(),
        Rescued { requeued: 2, dead: 0 }
    );

    let again = dispatch_and_claim(&pool, JobQueue::Live).await;
    let (ran_before, waited): (Vec<&Claimed>, Vec<_>) = again.iter().partition(|job| job.id == ran[0].id);
    assert_eq!((ran_before[0].attempt, ran_before[0].crash_count), (2, 1));
    assert_eq!((waited[0].attempt, waited[0].crash_count), (1, 0));
    assert!(again.iter().all(|job| !job.is_quarantined()), "quarantined after one crash");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_returns_keeps_its_place_before_later_ones(pool: PgPool) {
    for back in ["from a dead worker", "from one that stops"] {
        let first = i64::try_from(back.len()).unwrap();
        enqueue(&pool, &[index(guild(first), 1, 1)]).await;
        let held = claim_one(&pool).await;
        enqueue(&pool, &[index(guild(first), 2, 1), index(guild(first), 3, 1)]).await;
        if back == "from a dead worker" {
            expire_leases(&pool).await;
            jobs::rescue_expired(&pool, &RetryPolicy::default()).await.unwrap();
        } else {
            jobs::release(&pool, &[(held.id, held.token)], Duration::ZERO).await.unwrap();
        }
        let next = dispatch_within(&pool, JobQueue::Live, 1, 0).await.ids;
        assert_eq!(next, [held.id], "{back}");
        sqlx::query("DELETE FROM jobs").execute(&pool).await.unwrap();
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_whose_lease_expired_twice_is_quarantined_until_it_completes(pool: PgPool) {
    enqueue(&pool, &[delete(guild(1), 1, 2)]).await;
    let take = async || {
        make_due(&pool).await;
        dispatch_and_claim(&pool, JobQueue::Delete).await.remove(0)
    };
    for crash_count in 0..2 {
        assert_eq!(take().await.crash_count, crash_count);
        expire_leases(&pool).await;
        jobs::rescue_expired(&pool, &RetryPolicy::default()).await.unwrap();
    }
    assert!(seconds_until_due(&pool).await > 1.0, "the job is not delayed");
    let job = take().await;
    assert!(job.is_quarantined());
    fail(&pool, &job, &AT_ONCE).await;
    let job = take().await;
    assert!(job.is_quarantined(), "a failure ended the quarantine");
    complete(&pool, &job, 1).await;
    assert!(!take().await.is_quarantined());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_delay_after_a_crash_is_at_most_the_policys(pool: PgPool) {
    enqueue(&pool, &[delete(guild(1), 1, 2)]).await;
    let take = async || {
        make_due(&pool).await;
        dispatch_and_claim(&pool, JobQueue::Delete).await.remove(0)
    };
    let policy = RetryPolicy::new(Duration::from_secs(1), Duration::from_secs(10));
    for expected in [0.0_f64, 2.0, 4.0, 8.0, 10.0, 10.0] {
        take().await;
        expire_leases(&pool).await;
        jobs::rescue_expired(&pool, &policy).await.unwrap();
        let due = seconds_until_due(&pool).await;
        assert!(due <= expected && (expected == 0.0 || due > expected - 1.0), "{due} instead of {expected}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_whose_lease_expired_is_rechecked_later(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let frozen = dispatch_and_claim(&pool, JobQueue::Live).await.remove(0);
    expire_leases(&pool).await;
    jobs::rescue_expired(&pool, &RetryPolicy::default()).await.unwrap();
    let taken = dispatch_and_claim(&pool, JobQueue::Live).await.remove(0);
    complete(&pool, &taken, 1).await;
    let due = seconds_until_due(&pool).await;
    assert!(due > 10.0, "the recheck is too early: {due}");
    complete(&pool, &frozen, 1).await;

    make_due(&pool).await;
    let look = dispatch_and_claim(&pool, JobQueue::Live).await.remove(0);
    assert_eq!((look.attempt, look.crash_count), (1, 0));
    complete(&pool, &look, 1).await;
    assert!(rows(&pool).await.iter().all(|job| job.state == "completed"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn quarantined_jobs_are_claimed_one_at_a_time_and_by_one_worker(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1), index(guild(1), 2, 1), index(guild(1), 3, 1)]).await;
    let ids = dispatch(&pool, JobQueue::Live).await;
    sqlx::query("UPDATE jobs SET crash_count = 2 WHERE id <> $1")
        .bind(ids[0].get())
        .execute(&pool)
        .await
        .unwrap();
    let beside = jobs::claim(&pool, &ids, "worker", MINUTE).await.unwrap();
    assert_eq!(beside.iter().map(|job| job.id).collect::<Vec<_>>(), [ids[0]]);
    let mut quarantined = jobs::quarantined(&pool, &ids).await.unwrap();
    quarantined.sort_unstable_by_key(|id| ids.iter().position(|other| other == id));
    assert_eq!(quarantined, ids[1..]);
    let isolated = jobs::claim_isolated(&pool, quarantined[0], "worker", MINUTE).await.unwrap().unwrap();
    assert!(isolated.is_quarantined());
    assert!(jobs::claim_isolated(&pool, quarantined[0], "another", MINUTE).await.unwrap().is_none());
    assert_eq!(jobs::quarantined(&pool, &ids).await.unwrap(), quarantined[1..], "the other is still queued");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_crashes_every_worker_becomes_dead(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    for attempt in 1..=MAX_ATTEMPTS {
        make_due(&pool).await;
        claim_one(&pool).await;
        expire_leases(&pool).await;
        let died = u64::from(attempt == MAX_ATTEMPTS);
        assert_eq!(
            jobs::rescue_expired(&pool, &RetryPolicy::default()).await.unwrap(),
            Rescued { requeued: 1 - died, dead: died }
        );
    }
    let dead = only(&pool).await;
    assert_eq!(dead.state, "dead");
    assert!(dead.error.unwrap().contains("lease"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn losses_in_redis_spend_no_attempts(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    for _ in 0..3 * MAX_ATTEMPTS {
        assert_eq!(dispatch(&pool, JobQueue::Live).await.len(), 1);
        expire_leases(&pool).await;
        jobs::rescue_expired(&pool, &RetryPolicy::default()).await.unwrap();
    }
    let job = claim_one(&pool).await;
    assert_eq!((job.attempt, job.crash_count), (1, 0));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_renewed_claim_outlives_its_first_lease(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1), index(guild(1), 2, 1)]).await;
    let taken = dispatch_and_claim(&pool, JobQueue::Live).await;
    expire_leases(&pool).await;
    let held = jobs::renew(&pool, &[(taken[0].id, taken[0].token)], MINUTE).await.unwrap();
    assert_eq!(held, [taken[0].id]);
    assert_eq!(
        jobs::rescue_expired(&pool, &RetryPolicy::default()).await.unwrap(),
        Rescued { requeued: 1, dead: 0 }
    );
    complete(&pool, &taken[0], 1).await;
    assert_eq!(rows(&pool).await.iter().filter(|row| row.state == "completed").count(), 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_worker_that_lost_its_claim_changes_nothing(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let lost = claim_one(&pool).await;
    expire_leases(&pool).await;
    jobs::rescue_expired(&pool, &RetryPolicy::default()).await.unwrap();

    // The job is pending, queued, claimed by another worker and completed; the first worker changes none of it.
    for step in 0..4 {
        let before = only(&pool).await;
        let claim = (lost.id, lost.token);
        assert_eq!(jobs::renew(&pool, &[claim], HOUR).await.unwrap(), []);
        complete(&pool, &lost, 99).await;
        assert!(!fail(&pool, &lost, &Failure::Permanent).await);
        jobs::release(&pool, &[claim], HOUR).await.unwrap();
        assert_eq!(only(&pool).await, before, "after step {step}");
        match step {
            0 => assert_eq!(dispatch(&pool, JobQueue::Live).await, [lost.id]),
            1 => assert_eq!(claim_as(&pool, lost.id, "another").await.attempt, 2),
            2 => {
                let row = only(&pool).await;
                assert_eq!((row.state.as_str(), row.claimed_by.as_deref()), ("running", Some("another")));
                sqlx::query(
                    "UPDATE jobs SET state = 'completed', lease_expires_at = NULL, claim_token = NULL, finished_at = now()",
                )
                .execute(&pool)
                .await
                .unwrap();
            }
            _ => {}
        }
    }
}

async fn claim_as(pool: &PgPool, id: JobId, worker: &str) -> Claimed {
    claim(pool, &[id], worker).await.remove(0)
}

// Concurrency.

/// A producer that raises many jobs and a worker that completes them lock the same rows. With different orders they could
/// deadlock, and Postgres would end one of them with an error.
#[sqlx::test(migrator = "MIGRATOR")]
async fn producers_and_workers_lock_rows_in_the_same_order(pool: PgPool) {
    // Sessions in the order of their keys; their jobs' ids, which follow time, are in the opposite order.
    let mut wanted: Vec<NewJob> = (1..=3).map(|first| index(guild(1), first, 1)).collect();
    wanted.sort_by_key(|new| new.job.dedup_key());
    for new in wanted.iter().rev() {
        enqueue(&pool, std::slice::from_ref(new)).await;
    }
    let mut taken = dispatch_and_claim(&pool, JobQueue::Live).await;
    taken.sort_by_key(|job| job.id);
    let [last, middle, first] = &taken[..] else { panic!("three jobs: {taken:?}") };
    assert_eq!(Job::decode(&first.payload).unwrap(), wanted[0].job);

    // The middle row is locked, so the producer waits after the first.
    let mut blocker = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM jobs WHERE id = $1 FOR UPDATE")
        .bind(middle.id.get())
        .execute(&mut *blocker)
        .await
        .unwrap();
    let producer = tokio::spawn({
        let (pool, wanted) = (pool.clone(), wanted.clone());
        async move {
            let mut tx = pool.begin().await?;
            jobs::enqueue(&mut tx, &wanted, MAX_ATTEMPTS).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(())
        }
    });
    until_blocked(&pool, 1).await;
    let worker = tokio::spawn({
        let (pool, both) = (pool.clone(), [last, first].map(|job| (job.id, job.token, Revision::from(1))));
        async move { jobs::complete(&pool, &both, RECHECK_DELAY).await }
    });
    until_blocked(&pool, 2).await;
    blocker.rollback().await.unwrap();

    let both = async { (producer.await.unwrap(), worker.await.unwrap()) };
    let (produced, completed) = timeout(TEST_TIMEOUT, both).await.expect("no deadlock");
    produced.expect("the producer's jobs");
    completed.expect("the worker's completions");
}

// Cleaning.

#[sqlx::test(migrator = "MIGRATOR")]
async fn old_completed_jobs_are_deleted_in_batches(pool: PgPool) {
    let new: Vec<NewJob> = (1..=8).map(|first| index(guild(1), first, 1)).collect();
    enqueue(&pool, &new).await;
    let taken = dispatch_and_claim(&pool, JobQueue::Live).await;
    for job in &taken[..6] {
        complete(&pool, job, 1).await;
    }
    fail(&pool, &taken[6], &Failure::Permanent).await;
    let old: Vec<Uuid> = taken[1..].iter().map(|job| job.id.get()).collect();
    sqlx::query(
        "UPDATE jobs SET finished_at = now() - interval '2 hours' WHERE id = ANY($1) AND finished_at IS NOT NULL",
    )
    .bind(old)
    .execute(&pool)
    .await
    .unwrap();

    let mut deleted = vec![];
    while let some @ 1.. = jobs::delete_completed(&pool, HOUR, 2).await.unwrap() {
        deleted.push(some);
    }
    assert_eq!(deleted, [2, 2, 1]);
    let mut left: Vec<_> = rows(&pool).await.into_iter().map(|row| row.state).collect();
    left.sort();
    assert_eq!(left, ["completed", "dead", "running"]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn undecodable_messages_are_stored_once_as_dead_jobs(pool: PgPool) {
    for raw in ["junk", "junk", "other\0 junk", "other junk"] {
        jobs::dead_letter(&pool, JobQueue::Live, raw).await.unwrap();
    }
    let dead = rows(&pool).await;
    assert_eq!(dead.len(), 2);
    assert!(dead.iter().all(|row| row.state == "dead" && row.kind == "undecodable"));
    assert_eq!(jobs::dead(&pool).await.unwrap(), 2);
}

// Any order of events.

/// An event of the property's session.
#[derive(Debug, Clone)]
enum Step {
    /// The session changes, and the target revision rises.
    Change {
        deleted: bool,
        queue: JobQueue,
    },
    Dispatch,
    /// A worker claims the job and reads the session.
    Claim,
    /// Any worker that ever claimed the job completes it, with a valid or a lost claim.
    Complete(prop::sample::Index),
    Fail(prop::sample::Index),
    Release(prop::sample::Index),
    Renew(prop::sample::Index),
    /// All leases expire and are rescued.
    RescueExpired,
}

fn step() -> impl Strategy<Value = Step> {
    let queue = prop_oneof![Just(JobQueue::Live), Just(JobQueue::Backfill)];
    prop_oneof![
        3 => (prop::bool::weighted(0.2), queue)
            .prop_map(|(deleted, queue)| Step::Change { deleted, queue: if deleted { JobQueue::Delete } else { queue } }),
        4 => Just(Step::Dispatch),
        4 => Just(Step::Claim),
        3 => any::<prop::sample::Index>().prop_map(Step::Complete),
        1 => any::<prop::sample::Index>().prop_map(Step::Fail),
        1 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => any::<prop::sample::Index>().prop_map(Step::Renew),
        2 => Just(Step::RescueExpired),
    ]
}

/// A session, its job, and all workers that ever claimed it.
struct Story {
    pool: PgPool,
    /// Revision of the session.
    latest: i64,
    /// Highest revision that a valid completion reached.
    reached: i64,
    /// Ids that Redis delivers, some of them repeatedly.
    delivered: Vec<JobId>,
    /// All claims, with the revision that was read.
    claims: Vec<(Claimed, i64)>,
    /// Whether the latest claim is valid.
    held: bool,
}

impl Story {
    async fn new(pool: PgPool) -> Self {
        sqlx::query("TRUNCATE jobs").execute(&pool).await.unwrap();
        Self { pool, latest: 0, reached: 0, delivered: vec![], claims: vec![], held: false }
    }

    async fn unfinished(&self) -> Vec<Row> {
        sqlx::query_as("SELECT * FROM jobs WHERE is_unfinished(state)").fetch_all(&self.pool).await.unwrap()
    }

    /// Lets a worker change the job, which has an effect exactly if its claim is valid.
    async fn ended(
        &mut self,
        worker: prop::sample::Index,
        end: impl AsyncFnOnce(&PgPool, &Claimed, i64),
    ) -> Result<Option<i64>, TestCaseError> {
        if self.claims.is_empty() {
            return Ok(None);
        }
        let number = worker.index(self.claims.len());
        let (claimed, read) = &self.claims[number];
        let holds = self.held && number + 1 == self.claims.len();
        let before = rows(&self.pool).await;
        end(&self.pool, claimed, *read).await;
        let changed = rows(&self.pool).await != before;
        prop_assert_eq!(changed, holds, "a claim has an effect exactly while it is valid");
        Ok(holds.then_some(*read))
    }

    async fn play(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Change { deleted, queue } => {
                self.latest += 1;
                let new = if deleted { delete } else { index }(guild(1), 1, self.latest);
                let mut tx = self.pool.begin().await.unwrap();
                jobs::enqueue(&mut tx, &[in_queue(queue, new)], 1_000).await.unwrap();
                tx.commit().await.unwrap();
            }
            Step::Dispatch => {
                make_due(&self.pool).await;
                for queue in JobQueue::ALL {
                    self.delivered.extend(dispatch(&self.pool, queue).await);
                }
            }
            Step::Claim => {
                let mut taken = claim(&self.pool, &self.delivered, "worker").await;
                prop_assert!(taken.len() <= 1);
                if let Some(claimed) = taken.pop() {
                    self.claims.push((claimed, self.latest));
                    self.held = true;
                }
            }
            Step::Complete(worker) => {
                let counted =
                    self.ended(worker, async |pool, job, read| complete(pool, job, read).await).await?;
                if let Some(read) = counted {
                    self.reached = self.reached.max(read);
                    self.held = false;
                }
            }
            Step::Fail(worker) => {
                let counted = self.ended(worker, async |pool, job, _| {
                    fail(pool, job, &AT_ONCE).await;
                });
                self.held &= counted.await?.is_none();
            }
            Step::Release(worker) => {
                let counted = self.ended(worker, async |pool, job, _| {
                    jobs::release(pool, &[(job.id, job.token)], Duration::ZERO).await.unwrap();
                });
                self.held &= counted.await?.is_none();
            }
            Step::Renew(worker) => {
                self.ended(worker, async |pool, job, _| {
                    jobs::renew(pool, &[(job.id, job.token)], HOUR).await.unwrap();
                })
                .await?;
            }
            Step::RescueExpired => {
                expire_leases(&self.pool).await;
                jobs::rescue_expired(&self.pool, &RetryPolicy::default()).await.unwrap();
                self.held = false;
            }
        }
        let unfinished = self.unfinished().await;
        prop_assert!(unfinished.len() <= 1, "more than one unfinished job per key");
        match unfinished.first() {
            Some(job) => prop_assert_eq!(job.target_revision, self.latest, "the target revision was lost"),
            None => {
                prop_assert!(self.reached >= self.latest, "completed below the target revision")
            }
        }
        Ok(())
    }

    /// Runs a healthy worker, without further changes.
    async fn settle(&mut self) -> Result<(), TestCaseError> {
        self.play(Step::RescueExpired).await?;
        for _ in 0..2 {
            self.play(Step::Dispatch).await?;
            self.play(Step::Claim).await?;
            if std::mem::take(&mut self.held) {
                let (job, read) = self.claims.last().unwrap();
                complete(&self.pool, job, *read).await;
                self.reached = self.reached.max(*read);
            }
        }
        prop_assert!(self.unfinished().await.is_empty(), "a run and a recheck are enough");
        prop_assert!(self.reached >= self.latest);
        Ok(())
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn in_any_order_of_events_no_change_is_lost_and_no_lost_claim_has_an_effect(pool: PgPool) {
    let runtime = Handle::current();
    let property = tokio::task::spawn_blocking(move || {
        let config = Config { cases: 32, failure_persistence: None, ..Config::default() };
        TestRunner::new(config).run(&prop::collection::vec(step(), 1..40), |steps| {
            runtime.block_on(async {
                let mut story = Story::new(pool.clone()).await;
                for step in steps {
                    story.play(step).await?;
                }
                story.settle().await
            })
        })
    });
    if let Err(failure) = property.await.unwrap() {
        panic!("{failure}");
    }
}
