use std::time::Duration;

use guildex_types::JobId;
use sqlx::PgExecutor;

use super::claim::ClaimToken;
use crate::StoreError;
use crate::sql::interval;

/// Returns claimed jobs to the queue without spending an attempt: the worker shuts down, or the index is
/// unavailable.
pub async fn release(
    db: impl PgExecutor<'_>,
    claims: &[(JobId, ClaimToken)],
    delay: Duration,
) -> Result<(), StoreError> {
    let (ids, tokens): (Vec<JobId>, Vec<ClaimToken>) = claims.iter().copied().unzip();
    sqlx::query(
        "/* jobs.release */
         WITH held AS (
             SELECT j.id FROM jobs j JOIN UNNEST($1::uuid[], $2::uuid[]) AS u (id, token)
                  ON j.id = u.id AND j.claim_token = u.token AND j.state = 'running'
             ORDER BY j.dedup_key, j.id FOR UPDATE OF j)
         UPDATE jobs j SET state = 'pending', attempts = greatest(attempts - 1, 0),
             -- Without a delay the job keeps its place before later ones.
             run_at = CASE WHEN $3 > interval '0' THEN now() + $3 ELSE j.run_at END,
             lease_expires_at = NULL, claim_token = NULL
         FROM held WHERE j.id = held.id",
    )
    .bind(ids)
    .bind(tokens)
    .bind(interval(delay))
    .execute(db)
    .await?;
    Ok(())
}
