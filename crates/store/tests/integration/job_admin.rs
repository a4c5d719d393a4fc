//! Operator commands on jobs, and the attempts log.

use std::time::Duration;

use guildex_store::MIGRATOR;
use guildex_store::jobs::admin::{self, ActionResult, AdminAction, Filter, JobRow, JobState, Tenants};
use guildex_store::jobs::{self, Claimed, Failure, NewJob};
use guildex_test_support::locks::until_blocked;
use guildex_types::{ChannelId, GuildId, Job, JobId, JobQueue, RetryPolicy, SessionId, Task};
use sqlx::PgPool;

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

/// Dispatches and claims all due jobs of a queue.
async fn dispatch_and_claim(pool: &PgPool, queue: JobQueue) -> Vec<Claimed> {
    let queued = jobs::dispatch(pool, queue, 1_000, 0, MINUTE).await.unwrap();
    let mut claimed = jobs::claim(pool, &queued.ids, "worker", MINUTE).await.unwrap();
    for id in jobs::quarantined(pool, &queued.ids).await.unwrap() {
        claimed.extend(jobs::claim_isolated(pool, id, "worker", MINUTE).await.unwrap());
    }
    claimed
}

/// Claims the only due live job.
async fn claim_one(pool: &PgPool) -> Claimed {
    let mut taken = dispatch_and_claim(pool, JobQueue::Live).await;
    assert_eq!(taken.len(), 1);
    taken.remove(0)
}

async fn fail(pool: &PgPool, claimed: &Claimed, error: &str, failure: &Failure) {
    jobs::fail(pool, (claimed.id, claimed.token), error, failure).await.unwrap();
}

/// Expires all leases and makes all pending jobs due.
async fn pass_time(pool: &PgPool) {
    let statement = "UPDATE jobs SET run_at = now(),
                     lease_expires_at = CASE WHEN lease_expires_at IS NOT NULL THEN now() - interval '1 second' END";
    sqlx::query(statement).execute(pool).await.unwrap();
}

/// Makes the only live job dead.
async fn make_dead(pool: &PgPool) -> JobId {
    let claimed = claim_one(pool).await;
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

// Attempts log.

#[sqlx::test(migrator = "MIGRATOR")]
async fn failed_attempts_are_logged_and_successes_are_not(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    fail(&pool, &claim_one(&pool).await, "it broke", &AT_ONCE).await;
    claim_one(&pool).await;
    pass_time(&pool).await;
    jobs::rescue_expired(&pool, &RetryPolicy::default()).await.unwrap();
    pass_time(&pool).await;
    // A job whose lease expired is rechecked.
    for _ in 0..2 {
        let claimed = claim_one(&pool).await;
        jobs::complete(&pool, &[(claimed.id, claimed.token, 1.into())], Duration::ZERO).await.unwrap();
    }

    let JobRow { state, attempts_log, .. } = only(&pool).await;
    assert_eq!(state, JobState::Completed);
    let logged: Vec<_> = attempts_log.iter().map(|a| (a.attempt, a.claimed_by.as_deref())).collect();
    assert_eq!(logged, [(1, Some("worker")), (2, Some("worker"))]);
    assert_eq!(attempts_log[0].error, "it broke");
    assert!(attempts_log[1].error.contains("lease"));
    assert!(attempts_log.iter().all(|attempt| attempt.claimed_at.unwrap() <= attempt.ended_at));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn jobs_that_redis_lost_have_no_attempt_to_log(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    jobs::dispatch(&pool, JobQueue::Live, 10, 0, MINUTE).await.unwrap();
    pass_time(&pool).await;
    jobs::rescue_expired(&pool, &RetryPolicy::default()).await.unwrap();
    assert_eq!(only(&pool).await.attempts_log, []);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_log_keeps_the_last_twenty_attempts(pool: PgPool) {
    enqueue(&pool, &[delete(guild(1), 1)]).await;
    for attempt in 1..=25 {
        let claimed = dispatch_and_claim(&pool, JobQueue::Delete).await.remove(0);
        fail(&pool, &claimed, &format!("failure {attempt}"), &AT_ONCE).await;
    }
    let attempts_log = only(&pool).await.attempts_log;
    let attempts: Vec<_> = attempts_log.iter().map(|attempt| attempt.attempt).collect();
    assert_eq!(attempts, (6..=25).collect::<Vec<_>>());
    assert_eq!(attempts_log[19].error, "failure 25");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn errors_are_truncated_and_cleaned(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let error = format!("\0{}", "é".repeat(5_000));
    fail(&pool, &claim_one(&pool).await, &error, &AT_ONCE).await;
    let entry = only(&pool).await;
    assert_eq!(entry.error.unwrap(), "é".repeat(1_000));
    assert_eq!(entry.attempts_log[0].error.chars().count(), 1_000);
}

// List.

#[sqlx::test(migrator = "MIGRATOR")]
async fn jobs_match_all_conditions_of_a_filter(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let dead = make_dead(&pool).await;
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
    let all_jobs = || Filter::new(Tenants::All);
    assert_eq!(count(all_jobs()).await, 5);
    assert_eq!(count(Filter::new(Tenants::One(guild(1)))).await, 3);
    assert_eq!(count(Filter { states: vec![JobState::Dead, JobState::Completed], ..all_jobs() }).await, 1);
    let kinds = vec!["delete_session".to_owned(), "backfill_channel".to_owned()];
    assert_eq!(count(Filter { kinds, ..all_jobs() }).await, 2);
    assert_eq!(count(Filter { queue: Some(JobQueue::Live), ..all_jobs() }).await, 3);
    assert_eq!(count(Filter { session: Some(session(guild(1), 3)), ..all_jobs() }).await, 1);
    for (error, found) in [("IT br", 1), ("it_br", 0), ("%", 0)] {
        assert_eq!(count(Filter { error: Some(error.to_owned()), ..all_jobs() }).await, found, "{error}");
    }
    let older = |older| Filter { older: Some(older), ..all_jobs() };
    assert_eq!(count(older(MINUTE)).await, 1);
    assert_eq!(count(older(200 * MINUTE)).await, 0);
    assert_eq!(count(Filter { ids: vec![dead], states: vec![JobState::Completed], ..all_jobs() }).await, 0);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn jobs_that_need_attention_are_listed_first_and_all_are_counted(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let dead = make_dead(&pool).await;
    enqueue(&pool, &[index(guild(1), 2, 1)]).await;
    let failing = claim_one(&pool).await;
    fail(&pool, &failing, "it broke", &Failure::Retry { after: MINUTE }).await;
    enqueue(&pool, &[index(guild(1), 3, 1)]).await;
    let running = claim_one(&pool).await;
    enqueue(&pool, &[index(guild(1), 4, 1), index(guild(1), 5, 1)]).await;

    let (entries, count) = admin::list(&pool, &Filter::new(Tenants::All), 3).await.unwrap();
    let ids: Vec<JobId> = entries.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [dead, running.id, failing.id]);
    assert_eq!(count, 5);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_guild_can_neither_list_nor_change_jobs_of_another(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let theirs = make_dead(&pool).await;
    jobs::dead_letter(&pool, JobQueue::Live, "junk").await.unwrap();
    let me = Tenants::One(guild(2));
    assert_eq!(list(&pool, Filter::new(me)).await, []);
    assert_eq!(admin::show(&pool, me, theirs).await.unwrap(), None);
    let before = all(&pool).await;
    let ids: Vec<JobId> = before.iter().map(|entry| entry.id).collect();
    for act in [AdminAction::Retry, AdminAction::Cancel, AdminAction::Purge] {
        for (_, done) in act.run(&pool, me, &ids).await.unwrap() {
            assert_eq!(done, ActionResult::Skipped, "{act:?}");
        }
    }
    assert_eq!(all(&pool).await, before);
    assert!(admin::show(&pool, Tenants::One(guild(1)), theirs).await.unwrap().is_some());
}

// Retry.

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_retried_dead_job_has_all_attempts_again(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let id = make_dead(&pool).await;
    assert_eq!(act(&pool, AdminAction::Retry, id).await, ActionResult::Applied);
    let entry = only(&pool).await;
    assert_eq!((entry.state, entry.attempts, entry.finished_at), (JobState::Pending, 0, None));
    assert_eq!(entry.attempts_log.len(), 1, "the log is kept");
    let claimed = claim_one(&pool).await;
    assert_eq!((claimed.id, claimed.attempt), (id, 1));
    jobs::complete(&pool, &[(id, claimed.token, 1.into())], Duration::ZERO).await.unwrap();
    assert_eq!(only(&pool).await.state, JobState::Completed);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_delayed_job_can_be_retried_at_once(pool: PgPool) {
    for new in [index(guild(1), 1, 1), delete(guild(1), 2)] {
        let queue = new.queue;
        enqueue(&pool, &[new]).await;
        let claimed = dispatch_and_claim(&pool, queue).await.remove(0);
        fail(&pool, &claimed, "it broke", &Failure::Retry { after: 60 * MINUTE }).await;
        assert!(dispatch_and_claim(&pool, queue).await.is_empty());
        assert_eq!(act(&pool, AdminAction::Retry, claimed.id).await, ActionResult::Applied);
        assert_eq!(dispatch_and_claim(&pool, queue).await[0].attempt, 1);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_retried_quarantined_job_stays_quarantined(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let mut id = None;
    for _ in 0..MAX_ATTEMPTS {
        id = Some(claim_one(&pool).await.id);
        pass_time(&pool).await;
        jobs::rescue_expired(&pool, &RetryPolicy::default()).await.unwrap();
        pass_time(&pool).await;
    }
    assert_eq!(act(&pool, AdminAction::Retry, id.unwrap()).await, ActionResult::Applied);
    assert!(claim_one(&pool).await.is_quarantined());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_dead_job_is_merged_into_an_unfinished_one_with_the_same_key(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 9)]).await;
    let dead = make_dead(&pool).await;
    enqueue(&pool, &[index(guild(1), 1, 5)]).await;
    let survivor: JobId =
        list(&pool, Filter { states: vec![JobState::Pending], ..Filter::new(Tenants::All) }).await[0].id;
    assert_eq!(act(&pool, AdminAction::Retry, dead).await, ActionResult::Merged(survivor));
    let entry = only(&pool).await;
    assert_eq!((entry.id, entry.target_revision), (survivor, 9.into()));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn two_dead_jobs_with_the_same_key_are_merged(pool: PgPool) {
    let mut ids = Vec::new();
    for wanted in [1, 2] {
        enqueue(&pool, &[index(guild(1), 1, wanted)]).await;
        ids.push(make_dead(&pool).await);
    }
    let results = AdminAction::Retry.run(&pool, Tenants::All, &ids).await.unwrap();
    assert_eq!(results, [(ids[0], ActionResult::Applied), (ids[1], ActionResult::Merged(ids[0]))]);
    assert_eq!(only(&pool).await.target_revision, 2.into());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_retry_does_not_change_a_running_job(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let claimed = claim_one(&pool).await;
    assert!(refusal(&pool, AdminAction::Retry).await.unwrap().contains("running"));
    let before = only(&pool).await;
    assert_eq!(act(&pool, AdminAction::Retry, claimed.id).await, ActionResult::Skipped);
    assert_eq!(only(&pool).await, before);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_dead_job_merged_into_a_running_one_makes_it_run_again(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 9)]).await;
    let dead = make_dead(&pool).await;
    enqueue(&pool, &[index(guild(1), 1, 5)]).await;
    let running = claim_one(&pool).await;
    assert_eq!(act(&pool, AdminAction::Retry, dead).await, ActionResult::Merged(running.id));
    jobs::complete(&pool, &[(running.id, running.token, 5.into())], Duration::ZERO).await.unwrap();
    assert_eq!(
        only(&pool).await.state,
        JobState::Pending,
        "the target revision is higher than the reached one"
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_retry_during_an_enqueue_with_the_same_key_makes_one_job(pool: PgPool) {
    // The retry waits for the producer.
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let dead = make_dead(&pool).await;
    let mut tx = pool.begin().await.unwrap();
    jobs::enqueue(&mut tx, &[index(guild(1), 1, 2)], MAX_ATTEMPTS).await.unwrap();
    let retry = tokio::spawn({
        let pool = pool.clone();
        async move { act(&pool, AdminAction::Retry, dead).await }
    });
    until_blocked(&pool, 1).await;
    tx.commit().await.unwrap();
    assert!(matches!(retry.await.unwrap(), ActionResult::Merged(_)));
    assert_eq!(only(&pool).await.target_revision, 2.into());

    // The producer commits between the retry's snapshot and its update.
    let dead = make_dead(&pool).await;
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
    assert_eq!(only(&pool).await.target_revision, 3.into());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn undecodable_messages_can_be_purged_but_not_retried(pool: PgPool) {
    jobs::dead_letter(&pool, JobQueue::Live, "junk").await.unwrap();
    let id = only(&pool).await.id;
    assert!(refusal(&pool, AdminAction::Retry).await.is_some());
    assert_eq!(act(&pool, AdminAction::Retry, id).await, ActionResult::Skipped);
    assert_eq!(refusal(&pool, AdminAction::Purge).await, None);
    assert_eq!(act(&pool, AdminAction::Purge, id).await, ActionResult::Applied);
    assert_eq!(all(&pool).await, []);
}

// Cancel.

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_cancelled_job_is_dead_and_can_be_retried(pool: PgPool) {
    for step in 0..3 {
        enqueue(&pool, &[index(guild(1), step + 1, 1)]).await;
        let mut id =
            list(&pool, Filter { states: vec![JobState::Pending], ..Filter::new(Tenants::All) }).await[0].id;
        if step > 0 {
            let queued = jobs::dispatch(&pool, JobQueue::Live, 10, 0, MINUTE).await.unwrap();
            id = queued.ids[0];
        }
        let claimed =
            if step > 1 { jobs::claim(&pool, &[id], "worker", MINUTE).await.unwrap() } else { vec![] };

        assert_eq!(act(&pool, AdminAction::Cancel, id).await, ActionResult::Applied, "step {step}");
        let entry = admin::show(&pool, Tenants::All, id).await.unwrap().unwrap();
        assert_eq!(entry.state, JobState::Dead);
        assert!(entry.error.unwrap().contains("cancelled"));
        assert!(entry.attempts_log[0].error.contains("cancelled"));
        for claimed in claimed {
            jobs::complete(&pool, &[(id, claimed.token, 1.into())], Duration::ZERO).await.unwrap();
            fail(&pool, &claimed, "it broke", &AT_ONCE).await;
            assert_eq!(admin::show(&pool, Tenants::All, id).await.unwrap().unwrap().state, JobState::Dead);
        }
        assert_eq!(act(&pool, AdminAction::Retry, id).await, ActionResult::Applied);
        assert_eq!(claim_one(&pool).await.id, id);
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_ends_once_if_it_is_cancelled_and_completed_concurrently(pool: PgPool) {
    for cancel_first in [true, false] {
        enqueue(&pool, &[index(guild(1), 1, 1)]).await;
        let claimed = claim_one(&pool).await;
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
            ActionResult::Applied => assert_eq!((state, cancel_first), (JobState::Dead, true)),
            ActionResult::Skipped => assert_eq!((state, cancel_first), (JobState::Completed, false)),
            merged @ ActionResult::Merged(_) => panic!("{merged:?}"),
        }
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn deletions_can_be_neither_cancelled_nor_purged(pool: PgPool) {
    enqueue(&pool, &[delete(guild(1), 1)]).await;
    let id = only(&pool).await.id;
    assert!(refusal(&pool, AdminAction::Cancel).await.unwrap().contains("deletions cannot be cancelled"));
    assert_eq!(act(&pool, AdminAction::Cancel, id).await, ActionResult::Skipped);

    // This holds for the index job that replaces it when the session is restored, too.
    enqueue(&pool, &[index(guild(1), 1, 2)]).await;
    assert_eq!(only(&pool).await.kind, "index_session");
    assert_eq!(act(&pool, AdminAction::Cancel, id).await, ActionResult::Skipped);

    let claimed = claim_one(&pool).await;
    jobs::complete(&pool, &[(id, claimed.token, 2.into())], Duration::ZERO).await.unwrap();
    assert!(refusal(&pool, AdminAction::Purge).await.unwrap().contains("deletions cannot be purged"));
    assert_eq!(act(&pool, AdminAction::Purge, id).await, ActionResult::Skipped);
    assert_eq!(only(&pool).await.state, JobState::Completed);
}

// Purge.

#[sqlx::test(migrator = "MIGRATOR")]
async fn only_finished_jobs_are_purged(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let dead = make_dead(&pool).await;
    enqueue(&pool, &[index(guild(1), 2, 1)]).await;
    let running = claim_one(&pool).await;
    enqueue(&pool, &[index(guild(1), 3, 1)]).await;
    let ids: Vec<JobId> = all(&pool).await.iter().map(|entry| entry.id).collect();
    let results = AdminAction::Purge.run(&pool, Tenants::All, &ids).await.unwrap();
    let purged: Vec<_> =
        results.iter().filter(|(_, done)| *done == ActionResult::Applied).map(|(id, _)| *id).collect();
    assert_eq!(purged, [dead]);
    let left = all(&pool).await;
    assert_eq!(left.len(), 2);
    jobs::complete(&pool, &[(running.id, running.token, 1.into())], Duration::ZERO).await.unwrap();
    assert_eq!(act(&pool, AdminAction::Purge, running.id).await, ActionResult::Applied);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_job_that_was_retried_meanwhile_is_not_purged(pool: PgPool) {
    enqueue(&pool, &[index(guild(1), 1, 1)]).await;
    let id = make_dead(&pool).await;
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
    assert_eq!(
        (retried.await.unwrap(), purged.await.unwrap()),
        (ActionResult::Applied, ActionResult::Skipped)
    );
    assert_eq!(only(&pool).await.state, JobState::Pending);
}
