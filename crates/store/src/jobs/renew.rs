use std::time::Duration;

use guildex_types::JobId;
use sqlx::PgPool;

use super::claim::ClaimToken;
use crate::StoreError;
use crate::sql::interval;

/// Renews leases: they expire `lease` from now. Returns the jobs whose claims are still held; the others were
/// lost.
pub async fn renew(
    pool: &PgPool,
    claims: &[(JobId, ClaimToken)],
    lease: Duration,
) -> Result<Vec<JobId>, StoreError> {
    let (ids, tokens): (Vec<JobId>, Vec<ClaimToken>) = claims.iter().copied().unzip();
    Ok(sqlx::query_scalar(
        "/* jobs.renew */
         WITH held AS (
             SELECT j.id FROM jobs j JOIN UNNEST($1::uuid[], $2::uuid[]) AS u (id, token)
                  ON j.id = u.id AND j.claim_token = u.token AND j.state = 'running'
             ORDER BY j.dedup_key, j.id FOR UPDATE OF j)
         UPDATE jobs j SET lease_expires_at = now() + $3 FROM held WHERE j.id = held.id RETURNING j.id",
    )
    .bind(ids)
    .bind(tokens)
    .bind(interval(lease))
    .fetch_all(pool)
    .await?)
}
