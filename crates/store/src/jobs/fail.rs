use std::time::Duration;

use guildex_types::JobId;
use sqlx::PgPool;

use super::claim::ClaimToken;
use crate::StoreError;
use crate::sql::interval;

/// Maximum length of a stored error, in characters.
const MAX_ERROR: usize = 1_000;

/// Delay before a deletion that failed permanently is retried.
const PERMANENT_RETRY_DELAY: Duration = Duration::from_secs(60);

/// Kind of failure of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may succeed later.
    Retry {
        /// Delay until the next attempt.
        after: Duration,
    },
    /// It crashed or hung, alone or with others. Retried like [`Retry`](Self::Retry), isolated after the
    /// second time.
    Crashed {
        /// Delay until the next attempt.
        after: Duration,
    },
    /// It cannot succeed.
    Permanent,
}

/// Records a failed attempt and returns whether the job is dead now. The error must contain neither message
/// content nor secrets; it is also appended to the job's attempts log.
///
/// The job becomes pending again after the delay, or dead if it cannot succeed or has no attempts left.
/// Deletions never become dead. Neither does a job whose target revision rose since it was claimed: its
/// attempts are reset.
pub async fn fail(
    pool: &PgPool,
    (id, token): (JobId, ClaimToken),
    error: &str,
    failure: &Failure,
) -> Result<bool, StoreError> {
    let (permanent, crashed, delay) = match failure {
        Failure::Retry { after } => (false, false, *after),
        Failure::Crashed { after } => (false, true, *after),
        Failure::Permanent => (true, false, PERMANENT_RETRY_DELAY),
    };
    let dead: Option<bool> = sqlx::query_scalar(
        "/* jobs.fail */
         WITH held AS (
             SELECT id, spent AND NOT newer AS dies, spent AND newer AS reset
             FROM jobs, LATERAL (SELECT max_attempts IS NOT NULL AND ($4 OR attempts >= max_attempts) AS spent,
                                        target_revision > target_revision_at_claim AS newer) AS outcome
             WHERE id = $1 AND claim_token = $2 AND state = 'running' FOR UPDATE OF jobs)
         UPDATE jobs j SET state = CASE WHEN dies THEN 'dead' ELSE 'pending' END,
             attempts = CASE WHEN reset THEN 0 ELSE attempts END,
             finished_at = CASE WHEN dies THEN now() END, run_at = now() + $5,
             crash_count = crash_count + $6::int, error = $3, lease_expires_at = NULL, claim_token = NULL,
             attempts_log = append_attempt(attempts_log, attempts, claimed_by, claimed_at, $3)
         FROM held WHERE j.id = held.id RETURNING dies",
    )
    .bind(id)
    .bind(token)
    .bind(storable(error))
    .bind(permanent)
    .bind(interval(delay))
    .bind(i32::from(crashed))
    .fetch_optional(pool)
    .await?;
    Ok(dead.unwrap_or(false))
}

/// Limits the length of an error and removes NUL, which Postgres cannot store.
fn storable(error: &str) -> String {
    error.chars().filter(|c| *c != '\0').take(MAX_ERROR).collect()
}
