//! A worker's hold on jobs: taken, kept, and let go with the work done or undone.

use std::time::Duration;

use guildex_types::{JobId, Revision};
use sqlx::{FromRow, PgExecutor, PgPool};
use uuid::Uuid;

use super::{interval, raw, unzip};
use crate::StoreError;

/// Proof of a claim. A worker that does not hold a job's latest token cannot change the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimToken(pub(super) Uuid);

/// A job in a worker's hands.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The job's id.
    pub id: JobId,
    /// The proof.
    pub token: ClaimToken,
    /// The payload, yet to be decoded.
    pub payload: serde_json::Value,
    /// The session revision that must be reached, as far as was known at the claim.
    pub target_revision: Revision,
    /// Which attempt this is, counting from 1.
    pub attempt: u32,
    /// How many attempts were cut off by the end of a lease.
    pub crash_count: u32,
}

/// Takes queued jobs for `worker`, for the time of `lease`. What is not queued any more (a duplicate delivery) is
/// left out, and so are quarantined: see [`quarantined`].
///
/// # Errors
/// If Postgres fails.
pub async fn claim(
    pool: &PgPool,
    ids: &[JobId],
    worker: &str,
    lease: Duration,
) -> Result<Vec<Claimed>, StoreError> {
    take(pool, ids, worker, lease, QUARANTINE_AFTER - 1).await
}

/// Takes a queued job that may be a suspect. To be called when nothing else runs: whoever is claimed and waits
/// beside a job that kills its worker lapses with it, and would be dead with it in the end.
///
/// # Errors
/// If Postgres fails.
pub async fn claim_isolated(
    pool: &PgPool,
    id: JobId,
    worker: &str,
    lease: Duration,
) -> Result<Option<Claimed>, StoreError> {
    Ok(take(pool, &[id], worker, lease, i32::MAX).await?.pop())
}

/// Those of queued jobs that are quarantined: they are to be claimed one at a time.
///
/// # Errors
/// If Postgres fails.
pub async fn quarantined(pool: &PgPool, ids: &[JobId]) -> Result<Vec<JobId>, StoreError> {
    let found: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM jobs WHERE id = ANY($1) AND state = 'queued' AND crash_count >= $2 ORDER BY id",
    )
    .bind(raw(ids))
    .bind(QUARANTINE_AFTER)
    .fetch_all(pool)
    .await?;
    Ok(found.into_iter().map(JobId::from).collect())
}

async fn take(
    pool: &PgPool,
    ids: &[JobId],
    worker: &str,
    lease: Duration,
    most_lapses: i32,
) -> Result<Vec<Claimed>, StoreError> {
    let token = ClaimToken(Uuid::new_v4());
    let rows: Vec<ClaimedRow> = sqlx::query_as(
        "WITH taken AS (
             SELECT id FROM jobs WHERE id = ANY($1) AND state = 'queued' AND crash_count <= $5
             ORDER BY dedup_key, id FOR UPDATE)
         UPDATE jobs j SET state = 'running', attempts = attempts + 1, claimed_by = $2, claim_token = $3,
                           claimed_at = now(), target_revision_at_claim = target_revision, lease_expires_at = now() + $4
         FROM taken WHERE j.id = taken.id
         RETURNING j.id, j.payload, j.target_revision, j.attempts, j.crash_count",
    )
    .bind(raw(ids))
    .bind(worker)
    .bind(token.0)
    .bind(interval(lease))
    .bind(most_lapses)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| row.read(token)).collect())
}

impl Claimed {
    /// Whether it must run alone.
    pub fn is_quarantined(&self) -> bool {
        i32::try_from(self.crash_count).is_ok_and(|crash_count| crash_count >= QUARANTINE_AFTER)
    }
}

/// Lapses that make a job a suspect: it must run alone, since it may be what kills its worker. A worker that dies
/// takes the leases of many innocent jobs with it, so one lapse proves nothing.
const QUARANTINE_AFTER: i32 = 2;

#[derive(FromRow)]
struct ClaimedRow {
    id: Uuid,
    payload: serde_json::Value,
    target_revision: i64,
    attempts: i32,
    crash_count: i32,
}

impl ClaimedRow {
    fn read(self, token: ClaimToken) -> Claimed {
        Claimed {
            id: self.id.into(),
            token,
            payload: self.payload,
            target_revision: self.target_revision.into(),
            attempt: u32::try_from(self.attempts).unwrap_or(1),
            crash_count: u32::try_from(self.crash_count).unwrap_or(0),
        }
    }
}

/// Extends claims by `lease` from now, and returns those that still hold; the others were lost.
///
/// # Errors
/// If Postgres fails.
pub async fn renew(
    pool: &PgPool,
    claims: &[(JobId, ClaimToken)],
    lease: Duration,
) -> Result<Vec<JobId>, StoreError> {
    let (ids, tokens) = unzip(claims);
    let held: Vec<Uuid> = sqlx::query_scalar(
        "WITH held AS (
             SELECT j.id FROM jobs j JOIN UNNEST($1::uuid[], $2::uuid[]) AS u (id, token)
                  ON j.id = u.id AND j.claim_token = u.token AND j.state = 'running'
             ORDER BY j.dedup_key, j.id FOR UPDATE OF j)
         UPDATE jobs j SET lease_expires_at = now() + $3 FROM held WHERE j.id = held.id RETURNING j.id",
    )
    .bind(ids)
    .bind(tokens)
    .bind(interval(lease))
    .fetch_all(pool)
    .await?;
    Ok(held.into_iter().map(JobId::from).collect())
}

/// Ends jobs that reached a revision. One of which more is wanted by now is pending again, at no cost. So is one that
/// was taken from a worker, `later`: that worker may only have been frozen, and write what is out of date by now
/// before it finds out, or dies. A second look takes that away.
///
/// # Errors
/// If Postgres fails.
pub async fn complete(
    pool: &PgPool,
    finished: &[(JobId, ClaimToken, Revision)],
    later: Duration,
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = finished.iter().map(|(id, ..)| id.get()).collect();
    let tokens: Vec<Uuid> = finished.iter().map(|(_, token, _)| token.0).collect();
    let revisions: Vec<i64> = finished.iter().map(|(.., revision)| revision.get()).collect();
    sqlx::query(
        "WITH held AS (
             SELECT j.id, j.target_revision > u.revision AS newer, j.target_revision > u.revision OR j.crash_count > 0 AS again
             FROM jobs j JOIN UNNEST($1::uuid[], $2::uuid[], $3::bigint[]) AS u (id, token, revision)
                  ON j.id = u.id AND j.claim_token = u.token AND j.state = 'running'
             ORDER BY j.dedup_key, j.id FOR UPDATE OF j)
         UPDATE jobs j SET state = CASE WHEN again THEN 'pending' ELSE 'completed' END,
             finished_at = CASE WHEN again THEN NULL ELSE now() END,
             run_at = CASE WHEN newer THEN now() WHEN again THEN now() + $4 ELSE j.run_at END,
             attempts = CASE WHEN again THEN 0 ELSE j.attempts END,
             -- No suspect any more; a second look is due still.
             crash_count = CASE WHEN newer THEN least(j.crash_count, 1) ELSE 0 END,
             error = NULL, lease_expires_at = NULL, claim_token = NULL
         FROM held WHERE j.id = held.id",
    )
    .bind(ids)
    .bind(tokens)
    .bind(revisions)
    .bind(interval(later))
    .execute(pool)
    .await?;
    Ok(())
}

/// Gives jobs back undone, and the attempt with them: the worker stops in good order, or cannot reach the index.
///
/// # Errors
/// If Postgres fails.
pub async fn release(
    db: impl PgExecutor<'_>,
    claims: &[(JobId, ClaimToken)],
    after: Duration,
) -> Result<(), StoreError> {
    let (ids, tokens) = unzip(claims);
    sqlx::query(
        "WITH held AS (
             SELECT j.id FROM jobs j JOIN UNNEST($1::uuid[], $2::uuid[]) AS u (id, token)
                  ON j.id = u.id AND j.claim_token = u.token AND j.state = 'running'
             ORDER BY j.dedup_key, j.id FOR UPDATE OF j)
         UPDATE jobs j SET state = 'pending', attempts = greatest(attempts - 1, 0),
             -- Without a pause it keeps its place before those that were asked for later.
             run_at = CASE WHEN $3 > interval '0' THEN now() + $3 ELSE j.run_at END,
             lease_expires_at = NULL, claim_token = NULL
         FROM held WHERE j.id = held.id",
    )
    .bind(ids)
    .bind(tokens)
    .bind(interval(after))
    .execute(db)
    .await?;
    Ok(())
}
