//! The ledger's protocol, told as stories: how jobs come, are handed out, end, fail and come back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use guildex_store::jobs::{self, Claimed, Dispatched, Failure, NOTIFY_CHANNEL, NewJob, Rescued};
use guildex_store::{MIGRATOR, StoreError};
use guildex_types::{GuildId, Job, JobId, JobQueue, Revision, SessionId, Task};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{FromRow, PgPool};
use support::{PATIENCE, until_blocked};
use tokio::runtime::Handle;
use tokio::sync::Barrier;
use tokio::time::timeout;
use uuid::Uuid;

const MAX_ATTEMPTS: u32 = 3;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const ALL: usize = 1_000;
/// Until the second look at what was taken from a worker.
const LATER: Duration = Duration::from_secs(20);

fn guild(id: i64) -> GuildId {
    id.try_into().unwrap()
}

/// The session that begins with message `first` of the guild.
fn session(guild: GuildId, first: i64) -> SessionId {
    SessionId::new(guild, 9.try_into().unwrap(), first.try_into().unwrap())
}

/// An index job that is due at once.
fn index(guild_id: GuildId, first: i64, wanted: i64) -> NewJob {
    let task = Task::IndexSession { session_id: session(guild_id, first) };
    NewJob {
        job: Job { guild_id, task },
        queue: JobQueue::Live,
        target_revision: wanted.into(),
        debounce: Duration::ZERO,
    }
}

/// The same session's deletion.
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

/// Dispatches all that is due in a queue.
async fn dispatch(pool: &PgPool, queue: JobQueue) -> Vec<JobId> {
    dispatch_within(pool, queue, ALL, 0).await.ids
}

async fn dispatch_within(pool: &PgPool, queue: JobQueue, window: usize, depth: usize) -> Dispatched {
    jobs::dispatch(pool, queue, window, depth, MINUTE).await.unwrap()
}

/// How many jobs are queued, by the ledger.
async fn queued(pool: &PgPool) -> usize {
    rows(pool).await.iter().filter(|row| row.state == "queued").count()
}

/// As a worker does: what may run beside others first, then suspects one by one.
async fn claim(pool: &PgPool, ids: &[JobId], worker: &str) -> Vec<Claimed> {
    let mut claimed = jobs::claim(pool, ids, worker, MINUTE).await.unwrap();
    for id in jobs::quarantined(pool, ids).await.unwrap() {
        claimed.extend(jobs::claim_isolated(pool, id, worker, MINUTE).await.unwrap());
    }
    claimed
}

/// Dispatches and claims everything that is due in a queue.
async fn take(pool: &PgPool, queue: JobQueue) -> Vec<Claimed> {
    let ids = dispatch(pool, queue).await;
    claim(pool, &ids, "worker").await
}

/// The one live job there is, in a worker's hands.
async fn take_one(pool: &PgPool) -> Claimed {
    let mut taken = take(pool, JobQueue::Live).await;
    assert_eq!(taken.len(), 1);
    taken.remove(0)
}

async fn complete(pool: &PgPool, job: &Claimed, revision: i64) {
    jobs::complete(pool, &[(job.id, job.token, revision.into())], LATER).await.unwrap();
}

async fn fail(pool: &PgPool, job: &Claimed, failure: &Failure) -> bool {
    jobs::fail(pool, (job.id, job.token), "it broke", failure).await.unwrap()
}

const AT_ONCE: Failure = Failure::Retry { after: Duration::ZERO };

/// All leases are over.
async fn lapse(pool: &PgPool) {
    sqlx::query(
        "UPDATE jobs SET lease_expires_at = now() - interval '1 second' WHERE lease_expires_at IS NOT NULL",
    )
    .execute(pool)
    .await
    .unwrap();
}

/// All pauses are over.
async fn make_due(pool: &PgPool) {
    sqlx::query("UPDATE jobs SET run_at = now() WHERE state = 'pending'").execute(pool).await.unwrap();
}

/// A job as it stands in the ledger.
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

/// How long until the job may run, in seconds, by the database's clock.
async fn seconds_until_due(pool: &PgPool) -> f64 {
    sqlx::query_scalar("SELECT extract(epoch FROM run_at - now())::float8 FROM jobs")
        .fetch_one(pool)
        .await
        .unwrap()
}

// How jobs come.

#[sqlx::test(migrator = "MIGRATOR")]
async fn asking_again_for_a_session_raises_what_its_one_job_must_reach(pool: PgPool) {
    for wanted in [4, 9, 6] {
        enqueue(&pool, &[index(guild(1), 1, wanted)]).await;
    }
    let job = only(&pool).await;
    assert_eq!((job.state.as_str(), job.target_revision), ("pending", 9));
    assert_eq!(take_one(&pool).await.target_revision, Revision::from(9));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_raised_is_to_be_reached_by_a_job_that_is_under_way_and_by_no_other(pool: PgPool) {
    let raise = async |first: i64, wanted: i64| {
        let mut tx = pool.begin().await.unwrap();
        jobs::raise_target_revision(&mut tx, &[(index(guild(1), first, 0).job, wanted.into())])
            .await
            .unwrap();
        tx.commit().await.unwrap();
    };
    raise(1, 5).await;
    assert!(rows(&pool).await.is_empty(), "nothing was asked for");
    enqueue(&pool, &[index(guild(1), 1, 2), index(guild(2), 1, 2)]).await;
    raise(1, 1).await;
    assert!(rows(&pool).await.iter().all(|row| row.target_revision == 2), "it is never lowered");
    let taken = take(&pool, JobQueue::Live).await;
    raise(1, 5).await;
    for job in &taken {
        complete(&pool, job, 2).await;
    }
    let mut ends: Vec<_> =
        rows(&pool).await.into_iter().map(|row| (row.target_revision, row.state)).collect();
    ends.sort();
    assert_eq!(ends, [(2, "completed".to_owned()), (5, "pending".to_owned())]);
    complete(&pool, &take_one(&pool).await, 5).await;
    raise(1, 9).await;
    assert_eq!(jobs::unfinished(&pool, None).await.unwrap(), 0, "what is done stays done");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn sessions_and_guilds_do_not_coalesce_with_each_other(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1), index(guild(1), 2, 1), index(guild(2), 1, 1)]).await;
    assert_eq!(rows(&pool).await.len(), 3);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn removals_of_messages_never_coalesce(pool: PgPool) {
    let task = Task::RemovePoints { sessions: vec![] };
    let mut removal = delete(guild(1), 1, 1);
    removal.job.task = task;
    enqueue(&pool, &[removal.clone(), removal]).await;
    assert_eq!(rows(&pool).await.len(), 2);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_finished_job_is_not_raised_but_followed_by_another(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let first = take_one(&pool).await;
    complete(&pool, &first, 1).await;
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    let second = take_one(&pool).await;
    assert_ne!(second.id, first.id);
    assert_eq!((second.target_revision, second.attempt), (Revision::from(2), 1));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn more_changes_do_not_put_a_waiting_job_off(pool: PgPool) {
    enqueue(&pool, &[after(MINUTE, index(guild(1), 1, 1))]).await;
    enqueue(&pool, &[after(HOUR, index(guild(1), 1, 2))]).await;
    assert!(seconds_until_due(&pool).await <= 60.0);
    enqueue(&pool, &[index(guild(1), 1, 3)]).await;
    assert!(seconds_until_due(&pool).await <= 0.0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_goes_away_with_the_transaction_that_caused_it(pool: PgPool) {
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
async fn a_listener_hears_of_a_job_once_its_transaction_commits(pool: PgPool) {
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen(NOTIFY_CHANNEL).await.unwrap();
    let mut heard = async || {
        timeout(PATIENCE, listener.recv()).await.expect("a notification").unwrap().payload().to_owned()
    };

    let mut tx = pool.begin().await.unwrap();
    let new =
        [after(MINUTE, index(guild(1), 1, 1)), after(Duration::from_millis(250), index(guild(1), 2, 1))];
    jobs::enqueue(&mut tx, &new, MAX_ATTEMPTS).await.unwrap();
    // Notifications come in the order of commits: this one was committed first.
    sqlx::query("SELECT pg_notify($1, 'meanwhile')").bind(NOTIFY_CHANNEL).execute(&pool).await.unwrap();
    assert_eq!(heard().await, "meanwhile");
    tx.commit().await.unwrap();
    assert_eq!(heard().await, "250", "the delay until the first job is due, in milliseconds");
}

// Changes of mind about what is to be done, and how soon.

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_live_change_makes_a_waiting_backfill_job_urgent(pool: PgPool) {
    enqueue(&pool, &[in_queue(JobQueue::Backfill, index(guild(1), 1, 1))]).await;
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    assert_eq!(only(&pool).await.queue, JobQueue::Live);
    enqueue(&pool, &[in_queue(JobQueue::Backfill, index(guild(1), 1, 3))]).await;
    assert_eq!(only(&pool).await.queue, JobQueue::Live, "a backfill does not make it less urgent");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_was_queued_for_a_slower_class_is_queued_anew(pool: PgPool) {
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
async fn a_queued_job_keeps_its_place_when_no_more_than_its_class_asks_for_more(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let queued = dispatch(&pool, JobQueue::Live).await;
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    enqueue(&pool, &[in_queue(JobQueue::Backfill, index(guild(1), 1, 3))]).await;
    let taken = claim(&pool, &queued, "worker").await;
    assert_eq!(taken[0].target_revision, Revision::from(3));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_index_job_becomes_a_deletion_and_the_other_way_round(pool: PgPool) {
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
    assert_eq!(
        (job.target_revision, job.max_attempts),
        (3, None),
        "the removal that did not happen yet lives on"
    );
    let payload = take_one(&pool).await.payload;
    assert_eq!(Job::decode(&payload).unwrap(), index(guild(1), 1, 3).job);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_running_job_that_becomes_a_deletion_runs_again_as_one(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let running = take_one(&pool).await;
    enqueue(&pool, &[delete(guild(1), 1, 2)]).await;
    complete(&pool, &running, 1).await;
    let again = take(&pool, JobQueue::Delete).await;
    assert_eq!(Job::decode(&again[0].payload).unwrap(), delete(guild(1), 1, 2).job);
}

// How jobs are handed out.

#[sqlx::test(migrator = "MIGRATOR")]
async fn only_due_jobs_of_the_class_are_dispatched(pool: PgPool) {
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
async fn no_more_is_dispatched_than_the_window_has_room_for(
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
        "Redis holds ids that the ledger forgot"
    );
    assert_eq!(dispatch_within(&pool, JobQueue::Live, 8, 6).await.ids.len(), 2);
    assert_eq!(dispatch_within(&pool, JobQueue::Live, 8, 0).await.ids.len(), 1);
    claim(&pool, &first.ids, "worker").await;
    assert_eq!(
        dispatch_within(&pool, JobQueue::Live, 8, 0).await.ids.len(),
        5,
        "what runs is queued no more"
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_redis_had_no_room_for_is_taken_back(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1), index(guild(1), 2, 1)]).await;
    let ids = dispatch(&pool, JobQueue::Live).await;
    let running = claim(&pool, &ids[..1], "worker").await;
    jobs::requeue(&pool, &ids).await.unwrap();
    let again = dispatch(&pool, JobQueue::Live).await;
    assert_eq!(again, ids[1..], "what runs stays with its worker");
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
async fn guilds_take_turns_so_that_a_huge_one_starves_nobody(pool: PgPool) {
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
    assert_eq!(guilds, [1, 2, 3, 1, 2, 1], "one of each guild a turn, a third of the room for each at most");
    let second = dispatch_within(&pool, JobQueue::Live, 15, 0).await.ids;
    assert_eq!(second.len(), 9, "alone, the huge guild has all the room");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn two_dispatchers_share_one_window_and_never_dispatch_a_job_twice(pool: PgPool) {
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
        all.extend(timeout(PATIENCE, dispatcher).await.expect("an end").unwrap());
    }
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "some were dispatched twice");
    assert!(all.len() <= JOBS);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn two_workers_that_get_the_same_ids_share_them_and_claim_none_twice(pool: PgPool) {
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
async fn an_id_that_is_not_queued_claims_nothing(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let pending: Vec<JobId> = rows(&pool).await.iter().map(|row| row.id.into()).collect();
    assert!(claim(&pool, &pending, "eager").await.is_empty());
    let running = take_one(&pool).await;
    assert!(claim(&pool, &[running.id, JobId::new()], "late").await.is_empty());
    complete(&pool, &running, 1).await;
    assert!(claim(&pool, &[running.id], "later").await.is_empty());
}

// How jobs end.

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_reached_what_was_wanted_is_done(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 4)]).await;
    let job = take_one(&pool).await;
    complete(&pool, &job, 5).await;
    let done = only(&pool).await;
    assert_eq!((done.state.as_str(), done.lease_expires_at), ("completed", None));
    assert!(done.finished_at.is_some());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_of_which_more_is_wanted_by_now_runs_again_at_no_cost(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 4)]).await;
    let mut job = take_one(&pool).await;
    for edit in 5..20 {
        enqueue(&pool, &[index(guild(1), 1, edit)]).await;
        complete(&pool, &job, edit - 1).await;
        assert_eq!(only(&pool).await.state, "pending");
        job = take_one(&pool).await;
        assert_eq!((job.target_revision, job.attempt), (edit.into(), 1));
    }
    complete(&pool, &job, 19).await;
    assert_eq!(only(&pool).await.state, "completed");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_batch_of_completions_ends_each_job_by_its_own_revision(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 10), index(guild(1), 2, 20)]).await;
    let taken = take(&pool, JobQueue::Live).await;
    let finished: Vec<_> = taken.iter().map(|job| (job.id, job.token, Revision::from(15))).collect();
    jobs::complete(&pool, &finished, LATER).await.unwrap();
    let mut ends: Vec<_> =
        rows(&pool).await.into_iter().map(|row| (row.target_revision, row.state)).collect();
    ends.sort();
    assert_eq!(ends, [(10, "completed".to_owned()), (20, "pending".to_owned())]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_failed_attempt_waits_for_its_backoff_and_keeps_its_error(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let job = take_one(&pool).await;
    assert!(!fail(&pool, &job, &Failure::Retry { after: HOUR }).await);
    let failed = only(&pool).await;
    assert_eq!((failed.state.as_str(), failed.error.as_deref()), ("pending", Some("it broke")));
    assert!(seconds_until_due(&pool).await > 3500.0);
    assert_eq!(dispatch(&pool, JobQueue::Live).await, []);

    make_due(&pool).await;
    let again = take_one(&pool).await;
    assert_eq!(again.attempt, 2);
    complete(&pool, &again, 1).await;
    assert_eq!(only(&pool).await.error, None);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_whose_attempts_are_spent_is_dead_with_its_error(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    for attempt in 1..=MAX_ATTEMPTS {
        let job = take_one(&pool).await;
        assert_eq!(fail(&pool, &job, &AT_ONCE).await, attempt == MAX_ATTEMPTS);
    }
    let dead = only(&pool).await;
    assert_eq!((dead.state.as_str(), dead.error.as_deref()), ("dead", Some("it broke")));
    assert_eq!(jobs::dead(&pool).await.unwrap(), 1);
    assert_eq!(take(&pool, JobQueue::Live).await.len(), 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_new_change_to_a_session_whose_job_is_dead_gets_a_job(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let job = take_one(&pool).await;
    assert!(fail(&pool, &job, &Failure::Permanent).await);
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    assert_eq!(take_one(&pool).await.attempt, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_change_during_the_last_attempt_is_not_buried_with_it(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    for _ in 1..MAX_ATTEMPTS {
        fail(&pool, &take_one(&pool).await, &AT_ONCE).await;
    }
    let last = take_one(&pool).await;
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    fail(&pool, &last, &AT_ONCE).await;
    assert_eq!(jobs::unfinished(&pool, None).await.unwrap(), 1, "nobody is left to index the change");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_change_during_an_attempt_that_never_came_back_is_not_buried_with_it(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    for _ in 1..MAX_ATTEMPTS {
        fail(&pool, &take_one(&pool).await, &AT_ONCE).await;
    }
    take_one(&pool).await;
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    lapse(&pool).await;
    jobs::rescue_expired(&pool).await.unwrap();
    assert_eq!(jobs::unfinished(&pool, None).await.unwrap(), 1, "nobody is left to index the change");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_session_that_comes_back_does_not_inherit_the_attempts_of_its_deletion(pool: PgPool) {
    enqueue(&pool, &[delete(guild(1), 1, 1)]).await;
    for _ in 0..10 {
        fail(&pool, &take(&pool, JobQueue::Delete).await[0], &AT_ONCE).await;
    }
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    assert!(!fail(&pool, &take_one(&pool).await, &AT_ONCE).await, "its first failure is its death");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_can_never_succeed_is_dead_at_once(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let job = take_one(&pool).await;
    assert!(fail(&pool, &job, &Failure::Permanent).await);
    assert_eq!(only(&pool).await.state, "dead");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn deletions_never_die(pool: PgPool) {
    enqueue(&pool, &[delete(guild(1), 1, 1)]).await;
    for attempt in 1..=20 {
        let taken = take(&pool, JobQueue::Delete).await;
        assert_eq!(taken[0].attempt, attempt);
        match attempt % 3 {
            0 => assert!(!fail(&pool, &taken[0], &Failure::Permanent).await),
            1 => assert!(!fail(&pool, &taken[0], &AT_ONCE).await),
            _ => {
                lapse(&pool).await;
                assert_eq!(jobs::rescue_expired(&pool).await.unwrap(), Rescued { requeued: 1, dead: 0 });
            }
        }
        make_due(&pool).await;
    }
    assert_eq!(only(&pool).await.state, "pending");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_given_back_has_lost_no_attempt(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    fail(&pool, &take_one(&pool).await, &AT_ONCE).await;
    for _ in 0..5 {
        let job = take_one(&pool).await;
        assert_eq!(job.attempt, 2);
        jobs::release(&pool, &[(job.id, job.token)], Duration::ZERO).await.unwrap();
        let back = only(&pool).await;
        assert_eq!((back.state.as_str(), back.attempts, back.crash_count), ("pending", 1, 0));
    }
    let job = take_one(&pool).await;
    jobs::release(&pool, &[(job.id, job.token)], HOUR).await.unwrap();
    assert_eq!(dispatch(&pool, JobQueue::Live).await, [], "it waits as long as it was told to");
}

// Leases.

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_lease_that_runs_makes_nobody_a_suspect(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1), index(guild(1), 2, 1)]).await;
    let ids = dispatch(&pool, JobQueue::Live).await;
    claim(&pool, &ids[..1], "worker").await;
    assert_eq!(jobs::rescue_expired(&pool).await.unwrap(), Rescued::default());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_running_job_whose_lease_is_over_has_lost_an_attempt_and_a_queued_one_has_not(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1), index(guild(1), 2, 1)]).await;
    let ids = dispatch(&pool, JobQueue::Live).await;
    let ran = claim(&pool, &ids[..1], "worker").await;
    lapse(&pool).await;
    assert_eq!(jobs::rescue_expired(&pool).await.unwrap(), Rescued { requeued: 2, dead: 0 });

    let again = take(&pool, JobQueue::Live).await;
    let (ran_before, waited): (Vec<&Claimed>, Vec<_>) = again.iter().partition(|job| job.id == ran[0].id);
    assert_eq!((ran_before[0].attempt, ran_before[0].crash_count), (2, 1));
    assert_eq!((waited[0].attempt, waited[0].crash_count), (1, 0));
    assert!(again.iter().all(|job| !job.is_quarantined()), "a worker that dies takes many innocents with it");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_comes_back_keeps_its_place_before_those_that_were_asked_for_later(pool: PgPool) {
    for back in ["from a dead worker", "from one that stops"] {
        let first = i64::try_from(back.len()).unwrap();
        enqueue(&pool, &[index(guild(first), 1, 1)]).await;
        let held = take_one(&pool).await;
        enqueue(&pool, &[index(guild(first), 2, 1), index(guild(first), 3, 1)]).await;
        if back == "from a dead worker" {
            lapse(&pool).await;
            jobs::rescue_expired(&pool).await.unwrap();
        } else {
            jobs::release(&pool, &[(held.id, held.token)], Duration::ZERO).await.unwrap();
        }
        let next = dispatch_within(&pool, JobQueue::Live, 1, 0).await.ids;
        assert_eq!(next, [held.id], "{back}");
        sqlx::query("DELETE FROM jobs").execute(&pool).await.unwrap();
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_outlived_its_lease_twice_is_a_suspect_until_it_is_done(pool: PgPool) {
    enqueue(&pool, &[delete(guild(1), 1, 2)]).await;
    let take = async || {
        make_due(&pool).await;
        take(&pool, JobQueue::Delete).await.remove(0)
    };
    for crash_count in 0..2 {
        assert_eq!(take().await.crash_count, crash_count);
        lapse(&pool).await;
        jobs::rescue_expired(&pool).await.unwrap();
    }
    assert!(seconds_until_due(&pool).await > 1.0, "it takes a pause, that others may go first");
    let job = take().await;
    assert!(job.is_quarantined());
    fail(&pool, &job, &AT_ONCE).await;
    let job = take().await;
    assert!(job.is_quarantined(), "a failure clears nobody");
    complete(&pool, &job, 1).await;
    assert!(!take().await.is_quarantined());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_was_taken_from_a_worker_is_looked_at_again_later(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let frozen = take(&pool, JobQueue::Live).await.remove(0);
    lapse(&pool).await;
    jobs::rescue_expired(&pool).await.unwrap();
    let taken = take(&pool, JobQueue::Live).await.remove(0);
    complete(&pool, &taken, 1).await;
    let due = seconds_until_due(&pool).await;
    assert!(due > 10.0, "what the other does in the meantime is there by then: {due}");
    complete(&pool, &frozen, 1).await;

    make_due(&pool).await;
    let look = take(&pool, JobQueue::Live).await.remove(0);
    assert_eq!((look.attempt, look.crash_count), (1, 0));
    complete(&pool, &look, 1).await;
    assert!(rows(&pool).await.iter().all(|job| job.state == "completed"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn suspects_are_claimed_one_at_a_time_and_by_one_worker(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1), index(guild(1), 2, 1), index(guild(1), 3, 1)]).await;
    let ids = dispatch(&pool, JobQueue::Live).await;
    sqlx::query("UPDATE jobs SET crash_count = 2 WHERE id <> $1")
        .bind(ids[0].get())
        .execute(&pool)
        .await
        .unwrap();
    let beside = jobs::claim(&pool, &ids, "worker", MINUTE).await.unwrap();
    assert_eq!(beside.iter().map(|job| job.id).collect::<Vec<_>>(), [ids[0]]);
    let mut suspects = jobs::quarantined(&pool, &ids).await.unwrap();
    suspects.sort_unstable_by_key(|id| ids.iter().position(|other| other == id));
    assert_eq!(suspects, ids[1..]);
    let alone = jobs::claim_isolated(&pool, suspects[0], "worker", MINUTE).await.unwrap().unwrap();
    assert!(alone.is_quarantined());
    assert!(jobs::claim_isolated(&pool, suspects[0], "another", MINUTE).await.unwrap().is_none());
    assert_eq!(jobs::quarantined(&pool, &ids).await.unwrap(), suspects[1..], "the other waits, unclaimed");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_kills_every_worker_is_dead_in_the_end(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    for attempt in 1..=MAX_ATTEMPTS {
        make_due(&pool).await;
        take_one(&pool).await;
        lapse(&pool).await;
        let died = u64::from(attempt == MAX_ATTEMPTS);
        assert_eq!(jobs::rescue_expired(&pool).await.unwrap(), Rescued { requeued: 1 - died, dead: died });
    }
    let dead = only(&pool).await;
    assert_eq!(dead.state, "dead");
    assert!(dead.error.unwrap().contains("lease"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_redis_loses_again_and_again_does_not_die_of_it(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    for _ in 0..3 * MAX_ATTEMPTS {
        assert_eq!(dispatch(&pool, JobQueue::Live).await.len(), 1);
        lapse(&pool).await;
        jobs::rescue_expired(&pool).await.unwrap();
    }
    let job = take_one(&pool).await;
    assert_eq!((job.attempt, job.crash_count), (1, 0));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_renewed_claim_outlives_its_first_lease(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1), index(guild(1), 2, 1)]).await;
    let taken = take(&pool, JobQueue::Live).await;
    lapse(&pool).await;
    let held = jobs::renew(&pool, &[(taken[0].id, taken[0].token)], MINUTE).await.unwrap();
    assert_eq!(held, [taken[0].id]);
    assert_eq!(jobs::rescue_expired(&pool).await.unwrap(), Rescued { requeued: 1, dead: 0 });
    complete(&pool, &taken[0], 1).await;
    assert_eq!(rows(&pool).await.iter().filter(|row| row.state == "completed").count(), 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_worker_that_lost_its_claim_changes_nothing(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let lost = take_one(&pool).await;
    lapse(&pool).await;
    jobs::rescue_expired(&pool).await.unwrap();

    // The job is pending, then queued, then another's, then done: the first worker has no say in any of it.
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

// Side by side.

/// A producer that raises many jobs and a worker that completes them take the same rows. If they took them in
/// different orders, each could hold what the other waits for; Postgres would end one of them with an error.
#[sqlx::test(migrator = "MIGRATOR")]
async fn producers_and_workers_take_rows_in_the_same_order(pool: PgPool) {
    // Sessions in the order of their keys; their jobs' ids, which follow time, are in the opposite order.
    let mut wanted: Vec<NewJob> = (1..=3).map(|first| index(guild(1), first, 1)).collect();
    wanted.sort_by_key(|new| new.job.dedup_key());
    for new in wanted.iter().rev() {
        enqueue(&pool, std::slice::from_ref(new)).await;
    }
    let mut taken = take(&pool, JobQueue::Live).await;
    taken.sort_by_key(|job| job.id);
    let [last, middle, first] = &taken[..] else { panic!("three jobs: {taken:?}") };
    assert_eq!(Job::decode(&first.payload).unwrap(), wanted[0].job);

    // Somebody holds the middle row, so the producer stops after the first.
    let mut somebody = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM jobs WHERE id = $1 FOR UPDATE")
        .bind(middle.id.get())
        .execute(&mut *somebody)
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
        async move { jobs::complete(&pool, &both, LATER).await }
    });
    until_blocked(&pool, 2).await;
    somebody.rollback().await.unwrap();

    let both = async { (producer.await.unwrap(), worker.await.unwrap()) };
    let (produced, completed) = timeout(PATIENCE, both).await.expect("an end of the waiting");
    produced.expect("the producer's jobs");
    completed.expect("the worker's completions");
}

// Tidying.

#[sqlx::test(migrator = "MIGRATOR")]
async fn only_what_was_done_long_ago_is_forgotten_and_in_batches(pool: PgPool) {
    let new: Vec<NewJob> = (1..=8).map(|first| index(guild(1), first, 1)).collect();
    enqueue(&pool, &new).await;
    let taken = take(&pool, JobQueue::Live).await;
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
    assert_eq!(left, ["dead", "completed", "running"]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_no_job_is_kept_once_among_the_dead(pool: PgPool) {
    for raw in ["junk", "junk", "other\0 junk", "other junk"] {
        jobs::dead_letter(&pool, JobQueue::Live, raw).await.unwrap();
    }
    let dead = rows(&pool).await;
    assert_eq!(dead.len(), 2);
    assert!(dead.iter().all(|row| row.state == "dead" && row.kind == "undecodable"));
    assert_eq!(jobs::dead(&pool).await.unwrap(), 2);
}

// Any order of things.

/// What may happen to the one session of the property.
#[derive(Debug, Clone)]
enum Step {
    /// The session changes; another revision is wanted.
    Change {
        gone: bool,
        queue: JobQueue,
    },
    Dispatch,
    /// A worker takes the job and reads the session as it is.
    Claim,
    /// One of the workers that ever took the job ends it, its claim lost or not.
    Complete(prop::sample::Index),
    Fail(prop::sample::Index),
    GiveBack(prop::sample::Index),
    Renew(prop::sample::Index),
    /// All leases are over, and the sweeper comes by.
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let queue = prop_oneof![Just(JobQueue::Live), Just(JobQueue::Backfill)];
    prop_oneof![
        3 => (prop::bool::weighted(0.2), queue)
            .prop_map(|(gone, queue)| Step::Change { gone, queue: if gone { JobQueue::Delete } else { queue } }),
        4 => Just(Step::Dispatch),
        4 => Just(Step::Claim),
        3 => any::<prop::sample::Index>().prop_map(Step::Complete),
        1 => any::<prop::sample::Index>().prop_map(Step::Fail),
        1 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
        1 => any::<prop::sample::Index>().prop_map(Step::Renew),
        2 => Just(Step::Sweep),
    ]
}

/// A session, its job, and all workers that ever took the job.
struct Story {
    pool: PgPool,
    /// The session's revision.
    latest: i64,
    /// The highest revision that a completion which counted has told of.
    reached: i64,
    /// Ids that Redis delivers, some of them more than once.
    delivered: Vec<JobId>,
    /// Every claim ever made, with the revision read under it.
    claims: Vec<(Claimed, i64)>,
    /// Whether the newest claim still holds.
    held: bool,
}

impl Story {
    async fn new(pool: PgPool) -> Self {
        sqlx::query("TRUNCATE jobs").execute(&pool).await.unwrap();
        Self { pool, latest: 0, reached: 0, delivered: vec![], claims: vec![], held: false }
    }

    async fn unfinished(&self) -> Vec<Row> {
        sqlx::query_as("SELECT * FROM jobs WHERE state IN ('pending', 'queued', 'running')")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    /// Lets a worker do something, which has an effect exactly if its claim holds.
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
        prop_assert_eq!(changed, holds, "a claim counts exactly while it holds");
        Ok(holds.then_some(*read))
    }

    async fn play(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Change { gone, queue } => {
                self.latest += 1;
                let new = if gone { delete } else { index }(guild(1), 1, self.latest);
                // Attempts are not what this is about.
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
            Step::GiveBack(worker) => {
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
            Step::Sweep => {
                lapse(&self.pool).await;
                jobs::rescue_expired(&self.pool).await.unwrap();
                self.held = false;
            }
        }
        let unfinished = self.unfinished().await;
        prop_assert!(unfinished.len() <= 1, "one unfinished job a key");
        match unfinished.first() {
            Some(job) => prop_assert_eq!(job.target_revision, self.latest, "what is wanted is not forgotten"),
            None => {
                prop_assert!(self.reached >= self.latest, "all is done, and less was reached than wanted")
            }
        }
        Ok(())
    }

    /// Nothing changes any more, and a worker that works comes along.
    async fn settle(&mut self) -> Result<(), TestCaseError> {
        self.play(Step::Sweep).await?;
        for _ in 0..2 {
            self.play(Step::Dispatch).await?;
            self.play(Step::Claim).await?;
            if std::mem::take(&mut self.held) {
                let (job, read) = self.claims.last().unwrap();
                complete(&self.pool, job, *read).await;
                self.reached = self.reached.max(*read);
            }
        }
        prop_assert!(self.unfinished().await.is_empty(), "one more run is enough, and a second look");
        prop_assert!(self.reached >= self.latest);
        Ok(())
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn whatever_happens_to_a_job_no_change_is_lost_and_no_lost_claim_counts(pool: PgPool) {
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
