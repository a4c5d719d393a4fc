use std::time::Duration;

use guildex_types::{JobId, Revision};
use sqlx::PgPool;

use super::claim::ClaimToken;
use crate::StoreError;
use crate::sql::interval;

/// Completes jobs that reached a revision.
///
/// A job whose target revision is higher by now becomes pending again, and spends no attempt. So does a job
/// whose lease once expired, after `recheck_delay`: its former worker may only have been frozen, and may
/// write outdated points before it notices or dies. The second run deletes these.
pub async fn complete(
    pool: &PgPool,
    reached: &[(JobId, ClaimToken, Revision)],
    recheck_delay: Duration,
) -> Result<(), StoreError> {
    sqlx::query(
        "/* jobs.complete */
         WITH held AS (
             SELECT j.id, j.target_revision > u.revision AS newer,
                    j.target_revision > u.revision OR j.crash_count > 0 AS again
             FROM jobs j JOIN UNNEST($1::uuid[], $2::uuid[], $3::bigint[]) AS u (id, token, revision)
                  ON j.id = u.id AND j.claim_token = u.token AND j.state = 'running'
             ORDER BY j.dedup_key, j.id FOR UPDATE OF j)
         UPDATE jobs j SET state = CASE WHEN again THEN 'pending' ELSE 'completed' END,
             finished_at = CASE WHEN again THEN NULL ELSE now() END,
             run_at = CASE WHEN newer THEN now() WHEN again THEN now() + $4 ELSE j.run_at END,
             attempts = CASE WHEN again THEN 0 ELSE j.attempts END,
             -- The job leaves quarantine; the recheck is still due.
             crash_count = CASE WHEN newer THEN least(j.crash_count, 1) ELSE 0 END,
             error = NULL, lease_expires_at = NULL, claim_token = NULL
         FROM held WHERE j.id = held.id",
    )
    .bind(reached.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
    .bind(reached.iter().map(|(_, token, _)| *token).collect::<Vec<_>>())
    .bind(reached.iter().map(|(.., revision)| *revision).collect::<Vec<_>>())
    .bind(interval(recheck_delay))
    .execute(pool)
    .await?;
    Ok(())
}
