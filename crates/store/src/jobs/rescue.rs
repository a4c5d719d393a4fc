use guildex_types::RetryPolicy;
use sqlx::PgPool;

use crate::StoreError;

/// Error of an attempt whose lease expired.
const LEASE_EXPIRED: &str = "lease expired: the worker died, froze or lost its connection to Postgres";

/// Result of [`rescue_expired`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Jobs that are pending again.
    pub requeued: u64,
    /// Jobs that became dead, since this was their last attempt.
    pub dead: u64,
}

/// Rescues up to 1,000 jobs whose lease expired. A job that was running becomes pending again, from its second crash on
/// after a delay that doubles with each crash up to the policy's maximum, or dead if this was its last attempt and its target revision did not
/// rise meanwhile.
pub async fn rescue_expired(pool: &PgPool, retry: &RetryPolicy) -> Result<Rescued, StoreError> {
    let states: Vec<String> = sqlx::query_scalar(
        "/* jobs.rescue_expired */
         WITH expired AS (
             SELECT id, state = 'running' AS ran,
                    CASE WHEN crash_count = 0 OR state = 'queued' THEN 0
                         ELSE least($2 * power(2, crash_count), $3) END AS delay,
                    state = 'running' AND max_attempts IS NOT NULL AND attempts >= max_attempts AS spent,
                    target_revision > target_revision_at_claim AS newer
             FROM jobs WHERE state IN ('queued', 'running') AND lease_expires_at < now()
             ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED)
         UPDATE jobs j SET state = CASE WHEN spent AND NOT newer THEN 'dead' ELSE 'pending' END,
             attempts = CASE WHEN spent AND newer THEN 0 ELSE attempts END,
             crash_count = crash_count + ran::int,
             -- Without a delay the job keeps its place before later ones.
             run_at = CASE WHEN delay > 0 THEN now() + interval '1 second' * delay ELSE j.run_at END,
             lease_expires_at = NULL, claim_token = NULL,
             finished_at = CASE WHEN spent AND NOT newer THEN now() END,
             error = CASE WHEN ran THEN $1 ELSE error END,
             attempts_log = CASE WHEN ran THEN append_attempt(attempts_log, attempts, claimed_by, claimed_at, $1)
                                 ELSE attempts_log END
         FROM expired WHERE j.id = expired.id
         RETURNING j.state",
    )
    .bind(LEASE_EXPIRED)
    .bind(retry.initial_delay.as_secs_f64())
    .bind(retry.max_delay.as_secs_f64())
    .fetch_all(pool)
    .await?;
    let dead = states.iter().filter(|state| *state == "dead").count();
    let count = |jobs: usize| u64::try_from(jobs).unwrap_or(u64::MAX);
    Ok(Rescued { requeued: count(states.len() - dead), dead: count(dead) })
}
