use std::time::Duration;

use guildex_types::{JobId, Revision};
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::StoreError;
use crate::sql::interval;

/// Crashes after which a job is quarantined: it runs isolated, since it may be the one that crashes its
/// worker. A worker that dies takes the leases of many other jobs with it, so one crash proves nothing.
const QUARANTINE_AFTER: i32 = 2;

/// Proof of a claim. Only the holder of a job's latest token can change the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct ClaimToken(Uuid);

/// A claimed job.
#[derive(Debug, Clone, FromRow)]
pub struct Claimed {
    /// Job id.
    pub id: JobId,
    /// Claim token.
    #[sqlx(rename = "claim_token")]
    pub token: ClaimToken,
    /// Payload, not decoded.
    pub payload: serde_json::Value,
    /// Session revision to reach, as known at the claim.
    pub target_revision: Revision,
    /// Number of this attempt, starting at 1.
    #[sqlx(rename = "attempts", try_from = "i32")]
    pub attempt: u32,
    /// Number of attempts whose lease expired.
    #[sqlx(try_from = "i32")]
    pub crash_count: u32,
}

impl Claimed {
    /// Returns whether the job must run isolated.
    pub fn is_quarantined(&self) -> bool {
        i32::try_from(self.crash_count).is_ok_and(|crash_count| crash_count >= QUARANTINE_AFTER)
    }
}

/// Claims queued jobs for `worker`, with a lease. Skips jobs that are no longer queued (duplicate deliveries)
/// and those that are [`quarantined`].
pub async fn claim(
    pool: &PgPool,
    ids: &[JobId],
    worker: &str,
    lease: Duration,
) -> Result<Vec<Claimed>, StoreError> {
    claim_up_to(pool, ids, worker, lease, QUARANTINE_AFTER - 1).await
}

/// Claims a queued job that may be quarantined. Call it while nothing else runs: jobs that are claimed beside
/// one that crashes its worker crash with it, and would become dead with it.
pub async fn claim_isolated(
    pool: &PgPool,
    id: JobId,
    worker: &str,
    lease: Duration,
) -> Result<Option<Claimed>, StoreError> {
    Ok(claim_up_to(pool, &[id], worker, lease, i32::MAX).await?.pop())
}

/// Returns those of the queued jobs that are quarantined: they must be claimed one at a time.
pub async fn quarantined(pool: &PgPool, ids: &[JobId]) -> Result<Vec<JobId>, StoreError> {
    Ok(sqlx::query_scalar(
        "/* jobs.quarantined */
         SELECT id FROM jobs WHERE id = ANY($1) AND state = 'queued' AND crash_count >= $2 ORDER BY id",
    )
    .bind(ids)
    .bind(QUARANTINE_AFTER)
    .fetch_all(pool)
    .await?)
}

async fn claim_up_to(
    pool: &PgPool,
    ids: &[JobId],
    worker: &str,
    lease: Duration,
    max_crash_count: i32,
) -> Result<Vec<Claimed>, StoreError> {
    Ok(sqlx::query_as(
        "/* jobs.claim */
         WITH claimable AS (
             SELECT id FROM jobs WHERE id = ANY($1) AND state = 'queued' AND crash_count <= $5
             ORDER BY dedup_key, id FOR UPDATE)
         UPDATE jobs j SET state = 'running', attempts = attempts + 1, claimed_by = $2, claim_token = $3,
                           claimed_at = now(), target_revision_at_claim = target_revision,
                           lease_expires_at = now() + $4
         FROM claimable WHERE j.id = claimable.id
         RETURNING j.id, j.claim_token, j.payload, j.target_revision, j.attempts, j.crash_count",
    )
    .bind(ids)
    .bind(worker)
    .bind(ClaimToken(Uuid::new_v4()))
    .bind(interval(lease))
    .bind(max_crash_count)
    .fetch_all(pool)
    .await?)
}
