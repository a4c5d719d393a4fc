//! What operators see of jobs and do to them, and what is kept of attempts that came to nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

use std::time::Duration;

use guildex_store::MIGRATOR;
use guildex_store::jobs::admin::{self, ActionResult, AdminAction, Filter, JobRow, JobState, Tenants};
use guildex_store::jobs::{self, Claimed, Failure, NewJob};
use guildex_types::{ChannelId, GuildId, Job, JobId, JobQueue, SessionId, Task};
use sqlx::PgPool;
use support::until_blocked;

const MAX_ATTEMPTS: u32 = 3;
const MINUTE: Duration = Duration::from_secs(60);
const AT_ONCE: Failure = Failure::Retry { after: Duration::ZERO };

fn guild(id: i64) -> GuildId {
    id.try_into().unwrap()
}

fn session(guild: GuildId, first: i64) -> SessionId {
    SessionId::new(guild, 9.try_into().unwrap(), first.try_into().unwrap())
}

fn job(guild_id: GuildId, queue: JobQueue, wanted: i64, task: Task) -> NewJob {
    NewJob { job: Job { guild_id, task }, queue, target_revision: wanted.into(), debounce: Duration::ZERO }
}

fn index(guild_id: GuildId, first: i64, wanted: i64) -> NewJob {
    job(guild_id, JobQueue::Live, wanted, Task::IndexSession { session_id: session(guild_id, first) })
}

fn delete(guild_id: GuildId, first: i64) -> NewJob {
    job(guild_id, JobQueue::Delete, 1, Task::DeleteSession { session_id: session(guild_id, first) })
}

fn backfill(guild_id: GuildId, channel: i64) -> NewJob {
    let channel_id = ChannelId::try_from(channel).unwrap();
    job(guild_id, JobQueue::Backfill, 1, Task::BackfillChannel { channel_id })
}

async fn enqueue(pool: &PgPool, new: &[NewJob]) {
    let mut tx = pool.begin().await.unwrap();
    jobs::enqueue(&mut tx, new, MAX_ATTEMPTS).await.unwrap();
    tx.commit().await.unwrap();
}

/// Dispatches and claims everything that is due in a queue.
async fn take(pool: &PgPool, queue: JobQueue) -> Vec<Claimed> {
    let queued = jobs::dispatch(pool, queue, 1_000, 0, MINUTE).await.unwrap();
    let mut claimed = jobs::claim(pool, &queued.ids, "worker", MINUTE).await.unwrap();
    for id in jobs::quarantined(pool, &queued.ids).await.unwrap() {
        claimed.extend(jobs::claim_isolated(pool, id, "worker", MINUTE).await.unwrap());
    }
    claimed
}

/// The one live job that is due, in a worker's hands.
async fn take_one(pool: &PgPool) -> Claimed {
    let mut taken = take(pool, JobQueue::Live).await;
    assert_eq!(taken.len(), 1);
    taken.remove(0)
}

async fn fail(pool: &PgPool, claimed: &Claimed, error: &str, failure: &Failure) {
    jobs::fail(pool, (claimed.id, claimed.token), error, failure).await.unwrap();
}

/// All leases and all pauses are over.
async fn pass_time(pool: &PgPool) {
    let statement = "UPDATE jobs SET run_at = now(),
                     lease_expires_at = CASE WHEN lease_expires_at IS NOT NULL THEN now() - interval '1 second' END";
    sqlx::query(statement).execute(pool).await.unwrap();
}

/// The one live job, dead by its own fault.
async fn die(pool: &PgPool) -> JobId {
    let claimed = take_one(pool).await;
    fail(pool, &claimed, "it broke", &Failure::Permanent).await;
    claimed.id
}

async fn list(pool: &PgPool, filter: Filter) -> Vec<JobRow> {
    admin::list(pool, &filter, 100).await.unwrap().0
}

async fn all(pool: &PgPool) -> Vec<JobRow> {
    list(pool, Filter::new(Tenants::All)).await
}

async fn only(pool: &PgPool) -> JobRow {
    let mut found = all(pool).await;
    assert_eq!(found.len(), 1);
    found.remove(0)
}

async fn act(pool: &PgPool, act: AdminAction, id: JobId) -> ActionResult {
    act.run(pool, Tenants::All, &[id]).await.unwrap()[0].1
}

async fn refusal(pool: &PgPool, act: AdminAction) -> Option<&'static str> {
    let picked = admin::pick(pool, &Filter::new(Tenants::All)).await.unwrap();
    assert_eq!(picked.len(), 1);
    act.refuses(&picked[0])
}

// History.

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_attempt_that_came_to_nothing_is_noted_and_success_is_not(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    fail(&pool, &take_one(&pool).await, "it broke", &AT_ONCE).await;
    take_one(&pool).await;
    pass_time(&pool).await;
    jobs::rescue_expired(&pool).await.unwrap();
    pass_time(&pool).await;
    // What lapsed is looked at a second time.
    for _ in 0..2 {
        let claimed = take_one(&pool).await;
        jobs::complete(&pool, &[(claimed.id, claimed.token, 1.into())], Duration::ZERO).await.unwrap();
    }

    let JobRow { state, attempts_log, .. } = only(&pool).await;
    assert_eq!(state, JobState::Completed);
    let noted: Vec<_> = attempts_log.iter().map(|a| (a.attempt, a.claimed_by.as_deref())).collect();
    assert_eq!(noted, [(1, Some("worker")), (2, Some("worker"))]);
    assert_eq!(attempts_log[0].error, "it broke");
    assert!(attempts_log[1].error.contains("lease"));
    assert!(attempts_log.iter().all(|attempt| attempt.claimed_at.unwrap() <= attempt.ended_at));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_redis_lost_has_no_attempt_to_note(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    jobs::dispatch(&pool, JobQueue::Live, 10, 0, MINUTE).await.unwrap();
    pass_time(&pool).await;
    jobs::rescue_expired(&pool).await.unwrap();
    assert_eq!(only(&pool).await.attempts_log, []);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_history_keeps_the_last_twenty_attempts(pool: PgPool) {
    enqueue(&pool, &[delete(guild(1), 1)]).await;
    for attempt in 1..=25 {
        let claimed = take(&pool, JobQueue::Delete).await.remove(0);
        fail(&pool, &claimed, &format!("failure {attempt}"), &AT_ONCE).await;
    }
    let attempts_log = only(&pool).await.attempts_log;
    let attempts: Vec<_> = attempts_log.iter().map(|attempt| attempt.attempt).collect();
    assert_eq!(attempts, (6..=25).collect::<Vec<_>>());
    assert_eq!(attempts_log[19].error, "failure 25");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_error_is_cut_and_cleaned_before_it_is_kept(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let error = format!("\0{}", "é".repeat(5_000));
    fail(&pool, &take_one(&pool).await, &error, &AT_ONCE).await;
    let entry = only(&pool).await;
    assert_eq!(entry.error.unwrap(), "é".repeat(1_000));
    assert_eq!(entry.attempts_log[0].error.chars().count(), 1_000);
}

// Looking.

#[sqlx::test(migrator = "MIGRATOR")]
async fn jobs_are_found_by_all_that_is_said_of_them(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let dead = die(&pool).await;
    enqueue(
        &pool,
        &[index(guild(1), 2, 1), index(guild(2), 1, 1), delete(guild(1), 3), backfill(guild(2), 7)],
    )
    .await;
    sqlx::query("UPDATE jobs SET finished_at = now() - interval '2 hours' WHERE state = 'dead'")
        .execute(&pool)
        .await
        .unwrap();

    let count = async |filter: Filter| list(&pool, filter).await.len();
    let everybody = || Filter::new(Tenants::All);
    assert_eq!(count(everybody()).await, 5);
    assert_eq!(count(Filter::new(Tenants::One(guild(1)))).await, 3);
    assert_eq!(count(Filter { states: vec![JobState::Dead, JobState::Completed], ..everybody() }).await, 1);
    let kinds = vec!["delete_session".to_owned(), "backfill_channel".to_owned()];
    assert_eq!(count(Filter { kinds, ..everybody() }).await, 2);
    assert_eq!(count(Filter { queue: Some(JobQueue::Live), ..everybody() }).await, 3);
    assert_eq!(count(Filter { session: Some(session(guild(1), 3)), ..everybody() }).await, 1);
    for (error, found) in [("IT br", 1), ("it_br", 0), ("%", 0)] {
        assert_eq!(count(Filter { error: Some(error.to_owned()), ..everybody() }).await, found, "{error}");
    }
    let older = |older| Filter { older: Some(older), ..everybody() };
    assert_eq!(count(older(MINUTE)).await, 1);
    assert_eq!(count(older(200 * MINUTE)).await, 0);
    assert_eq!(count(Filter { ids: vec![dead], states: vec![JobState::Completed], ..everybody() }).await, 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_needs_looking_at_comes_first_and_the_rest_is_counted(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let dead = die(&pool).await;
    enqueue(&pool, &[index(guild(1), 2, 1)]).await;
    let failing = take_one(&pool).await;
    fail(&pool, &failing, "it broke", &Failure::Retry { after: MINUTE }).await;
    enqueue(&pool, &[index(guild(1), 3, 1)]).await;
    let running = take_one(&pool).await;
    enqueue(&pool, &[index(guild(1), 4, 1), index(guild(1), 5, 1)]).await;

    let (entries, count) = admin::list(&pool, &Filter::new(Tenants::All), 3).await.unwrap();
    let ids: Vec<JobId> = entries.iter().map(|entry| entry.id.into()).collect();
    assert_eq!(ids, [dead, running.id, failing.id]);
    assert_eq!(count, 5);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn one_guild_neither_sees_nor_touches_anothers_jobs(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let theirs = die(&pool).await;
    jobs::dead_letter(&pool, JobQueue::Live, "junk").await.unwrap();
    let me = Tenants::One(guild(2));
    assert_eq!(list(&pool, Filter::new(me)).await, []);
    assert_eq!(admin::show(&pool, me, theirs).await.unwrap(), None);
    let before = all(&pool).await;
    let ids: Vec<JobId> = before.iter().map(|entry| entry.id.into()).collect();
    for act in [AdminAction::Retry, AdminAction::Cancel, AdminAction::Purge] {
        for (_, done) in act.run(&pool, me, &ids).await.unwrap() {
            assert_eq!(done, ActionResult::No, "{act:?}");
        }
    }
    assert_eq!(all(&pool).await, before);
    assert!(admin::show(&pool, Tenants::One(guild(1)), theirs).await.unwrap().is_some());
}

// Retry.

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_dead_job_that_is_retried_has_all_its_attempts_again(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let id = die(&pool).await;
    assert_eq!(act(&pool, AdminAction::Retry, id).await, ActionResult::Yes);
    let entry = only(&pool).await;
    assert_eq!((entry.state, entry.attempts, entry.finished_at), (JobState::Pending, 0, None));
    assert_eq!(entry.attempts_log.len(), 1, "what was is not forgotten");
    let claimed = take_one(&pool).await;
    assert_eq!((claimed.id, claimed.attempt), (id, 1));
    jobs::complete(&pool, &[(id, claimed.token, 1.into())], Duration::ZERO).await.unwrap();
    assert_eq!(only(&pool).await.state, JobState::Completed);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_waits_for_its_next_attempt_may_be_hurried(pool: PgPool) {
    for new in [index(guild(1), 1, 1), delete(guild(1), 2)] {
        let queue = new.queue;
        enqueue(&pool, &[new]).await;
        let claimed = take(&pool, queue).await.remove(0);
        fail(&pool, &claimed, "it broke", &Failure::Retry { after: 60 * MINUTE }).await;
        assert!(take(&pool, queue).await.is_empty());
        assert_eq!(act(&pool, AdminAction::Retry, claimed.id).await, ActionResult::Yes);
        assert_eq!(take(&pool, queue).await[0].attempt, 1);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_suspect_that_is_retried_still_runs_alone(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let mut id = None;
    for _ in 0..MAX_ATTEMPTS {
        id = Some(take_one(&pool).await.id);
        pass_time(&pool).await;
        jobs::rescue_expired(&pool).await.unwrap();
        pass_time(&pool).await;
    }
    assert_eq!(act(&pool, AdminAction::Retry, id.unwrap()).await, ActionResult::Yes);
    assert!(take_one(&pool).await.is_quarantined());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_dead_job_is_merged_into_one_that_asks_for_the_same(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 9)]).await;
    let dead = die(&pool).await;
    enqueue(&pool, &[index(guild(1), 1, 5)]).await;
    let survivor: JobId =
        list(&pool, Filter { states: vec![JobState::Pending], ..Filter::new(Tenants::All) }).await[0]
            .id
            .into();
    assert_eq!(act(&pool, AdminAction::Retry, dead).await, ActionResult::Merged(survivor));
    let entry = only(&pool).await;
    assert_eq!((JobId::from(entry.id), entry.target_revision), (survivor, 9));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn two_dead_jobs_of_one_key_become_one_again(pool: PgPool) {
    let mut ids = Vec::new();
    for wanted in [1, 2] {
        enqueue(&pool, &[index(guild(1), 1, wanted)]).await;
        ids.push(die(&pool).await);
    }
    let told = AdminAction::Retry.run(&pool, Tenants::All, &ids).await.unwrap();
    assert_eq!(told, [(ids[0], ActionResult::Yes), (ids[1], ActionResult::Merged(ids[0]))]);
    assert_eq!(only(&pool).await.target_revision, 2);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_retry_leaves_a_running_claim_alone(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let claimed = take_one(&pool).await;
    assert!(refusal(&pool, AdminAction::Retry).await.unwrap().contains("running"));
    let before = only(&pool).await;
    assert_eq!(act(&pool, AdminAction::Retry, claimed.id).await, ActionResult::No);
    assert_eq!(only(&pool).await, before);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_dead_job_that_is_merged_into_a_running_one_makes_that_run_again(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 9)]).await;
    let dead = die(&pool).await;
    enqueue(&pool, &[index(guild(1), 1, 5)]).await;
    let running = take_one(&pool).await;
    assert_eq!(act(&pool, AdminAction::Retry, dead).await, ActionResult::Merged(running.id));
    jobs::complete(&pool, &[(running.id, running.token, 5.into())], Duration::ZERO).await.unwrap();
    assert_eq!(only(&pool).await.state, JobState::Pending, "more is wanted than it reached");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_retry_while_the_same_is_being_asked_for_makes_one_job(pool: PgPool) {
    // The producer is first, and the retry waits for it.
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let dead = die(&pool).await;
    let mut tx = pool.begin().await.unwrap();
    jobs::enqueue(&mut tx, &[index(guild(1), 1, 2)], MAX_ATTEMPTS).await.unwrap();
    let retry = tokio::spawn({
        let pool = pool.clone();
        async move { act(&pool, AdminAction::Retry, dead).await }
    });
    until_blocked(&pool, 1).await;
    tx.commit().await.unwrap();
    assert!(matches!(retry.await.unwrap(), ActionResult::Merged(_)));
    assert_eq!(only(&pool).await.target_revision, 2);

    // The retry looked first, and the producer commits before it acts.
    let dead = die(&pool).await;
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM jobs FOR UPDATE").execute(&mut *tx).await.unwrap();
    let retry = tokio::spawn({
        let pool = pool.clone();
        async move { act(&pool, AdminAction::Retry, dead).await }
    });
    until_blocked(&pool, 1).await;
    enqueue(&pool, &[index(guild(1), 1, 3)]).await;
    tx.commit().await.unwrap();
    assert!(matches!(retry.await.unwrap(), ActionResult::Merged(_)));
    assert_eq!(only(&pool).await.target_revision, 3);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_came_out_of_redis_can_be_purged_and_not_retried(pool: PgPool) {
    jobs::dead_letter(&pool, JobQueue::Live, "junk").await.unwrap();
    let id = only(&pool).await.id.into();
    assert!(refusal(&pool, AdminAction::Retry).await.is_some());
    assert_eq!(act(&pool, AdminAction::Retry, id).await, ActionResult::No);
    assert_eq!(refusal(&pool, AdminAction::Purge).await, None);
    assert_eq!(act(&pool, AdminAction::Purge, id).await, ActionResult::Yes);
    assert_eq!(all(&pool).await, []);
}

// Cancel.

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_unfinished_job_that_is_cancelled_is_dead_and_can_be_retried(pool: PgPool) {
    for step in 0..3 {
        enqueue(&pool, &[index(guild(1), step + 1, 1)]).await;
        let mut id = list(&pool, Filter { states: vec![JobState::Pending], ..Filter::new(Tenants::All) })
            .await[0]
            .id
            .into();
        if step > 0 {
            let queued = jobs::dispatch(&pool, JobQueue::Live, 10, 0, MINUTE).await.unwrap();
            id = queued.ids[0];
        }
        let claimed =
            if step > 1 { jobs::claim(&pool, &[id], "worker", MINUTE).await.unwrap() } else { vec![] };

        assert_eq!(act(&pool, AdminAction::Cancel, id).await, ActionResult::Yes, "step {step}");
        let entry = admin::show(&pool, Tenants::All, id).await.unwrap().unwrap();
        assert_eq!(entry.state, JobState::Dead);
        assert!(entry.error.unwrap().contains("cancelled"));
        assert!(entry.attempts_log[0].error.contains("cancelled"));
        for claimed in claimed {
            jobs::complete(&pool, &[(id, claimed.token, 1.into())], Duration::ZERO).await.unwrap();
            fail(&pool, &claimed, "it broke", &AT_ONCE).await;
            assert_eq!(admin::show(&pool, Tenants::All, id).await.unwrap().unwrap().state, JobState::Dead);
        }
        assert_eq!(act(&pool, AdminAction::Retry, id).await, ActionResult::Yes);
        assert_eq!(take_one(&pool).await.id, id);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_cancel_and_a_completion_end_a_job_once_whoever_comes_first(pool: PgPool) {
    for cancel_first in [true, false] {
        enqueue(&pool, &[index(guild(1), 1, 1)]).await;
        let claimed = take_one(&pool).await;
        let id = claimed.id;
        let cancel = |pool: PgPool| tokio::spawn(async move { act(&pool, AdminAction::Cancel, id).await });
        let complete = |pool: PgPool| {
            tokio::spawn(async move {
                jobs::complete(&pool, &[(id, claimed.token, 1.into())], Duration::ZERO).await.unwrap()
            })
        };

        let mut tx = pool.begin().await.unwrap();
        sqlx::query("SELECT FROM jobs WHERE id = $1 FOR UPDATE")
            .bind(id.get())
            .execute(&mut *tx)
            .await
            .unwrap();
        let (cancelled, completed) = if cancel_first {
            let cancelled = cancel(pool.clone());
            until_blocked(&pool, 1).await;
            let completed = complete(pool.clone());
            until_blocked(&pool, 2).await;
            (cancelled, completed)
        } else {
            let completed = complete(pool.clone());
            until_blocked(&pool, 1).await;
            let cancelled = cancel(pool.clone());
            until_blocked(&pool, 2).await;
            (cancelled, completed)
        };
        tx.commit().await.unwrap();
        completed.await.unwrap();

        let state = admin::show(&pool, Tenants::All, id).await.unwrap().unwrap().state;
        match cancelled.await.unwrap() {
            ActionResult::Yes => assert_eq!((state, cancel_first), (JobState::Dead, true)),
            ActionResult::No => assert_eq!((state, cancel_first), (JobState::Completed, false)),
            merged @ ActionResult::Merged(_) => panic!("{merged:?}"),
        }
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_deletion_can_be_neither_cancelled_nor_purged(pool: PgPool) {
    enqueue(&pool, &[delete(guild(1), 1)]).await;
    let id = only(&pool).await.id.into();
    assert!(refusal(&pool, AdminAction::Cancel).await.unwrap().contains("deletions cannot be cancelled"));
    assert_eq!(act(&pool, AdminAction::Cancel, id).await, ActionResult::No);

    // Nor where it lives on in the index job of a session that came back.
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    assert_eq!(only(&pool).await.kind, "index_session");
    assert_eq!(act(&pool, AdminAction::Cancel, id).await, ActionResult::No);

    let claimed = take_one(&pool).await;
    jobs::complete(&pool, &[(id, claimed.token, 2.into())], Duration::ZERO).await.unwrap();
    assert!(refusal(&pool, AdminAction::Purge).await.unwrap().contains("deletions cannot be purged"));
    assert_eq!(act(&pool, AdminAction::Purge, id).await, ActionResult::No);
    assert_eq!(only(&pool).await.state, JobState::Completed);
}

// Purge.

#[sqlx::test(migrator = "MIGRATOR")]
async fn only_what_is_over_is_purged(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let dead = die(&pool).await;
    enqueue(&pool, &[index(guild(1), 2, 1)]).await;
    let running = take_one(&pool).await;
    enqueue(&pool, &[index(guild(1), 3, 1)]).await;
    let ids: Vec<JobId> = all(&pool).await.iter().map(|entry| entry.id.into()).collect();
    let told = AdminAction::Purge.run(&pool, Tenants::All, &ids).await.unwrap();
    let purged: Vec<_> =
        told.iter().filter(|(_, done)| *done == ActionResult::Yes).map(|(id, _)| *id).collect();
    assert_eq!(purged, [dead]);
    let left = all(&pool).await;
    assert_eq!(left.len(), 2);
    jobs::complete(&pool, &[(running.id, running.token, 1.into())], Duration::ZERO).await.unwrap();
    assert_eq!(act(&pool, AdminAction::Purge, running.id).await, ActionResult::Yes);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_was_retried_in_the_meantime_is_not_purged(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let id = die(&pool).await;
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM jobs FOR UPDATE").execute(&mut *tx).await.unwrap();
    let retried = tokio::spawn({
        let pool = pool.clone();
        async move { act(&pool, AdminAction::Retry, id).await }
    });
    until_blocked(&pool, 1).await;
    let purged = tokio::spawn({
        let pool = pool.clone();
        async move { act(&pool, AdminAction::Purge, id).await }
    });
    until_blocked(&pool, 2).await;
    tx.commit().await.unwrap();
    assert_eq!((retried.await.unwrap(), purged.await.unwrap()), (ActionResult::Yes, ActionResult::No));
    assert_eq!(only(&pool).await.state, JobState::Pending);
}
