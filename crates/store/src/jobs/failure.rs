//! Attempts that came to nothing, each noted in its job's log of attempts.

use std::time::Duration;

use guildex_types::{JobId, JobQueue};
use sqlx::PgPool;

use super::{ClaimToken, interval};
use crate::StoreError;

/// The characters of an error that are kept, at most.
const MAX_ERROR: usize = 1_000;

/// What is noted of an attempt that never came back.
const LAPSED: &str = "the lease ran out: the worker died, froze or lost the database";

/// How a job failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may work another time: try again after this long.
    Retry {
        /// The backoff.
        after: Duration,
    },
    /// It took others with it, or they it: try again after this long, and alone the second time.
    Crashed {
        /// The backoff.
        after: Duration,
    },
    /// It never will.
    Permanent,
}

/// Notes a failed attempt: pending again after the backoff, or dead with its error if it cannot succeed or its
/// attempts are spent. Deletions do not die: they go on. Nor does a job of which more is wanted than when it was
/// claimed: its attempts are counted anew. The error, which must hold neither text of messages nor secrets, goes
/// into the job's attempts_log, too. Returns whether the job is dead now.
///
/// # Errors
/// If Postgres fails.
pub async fn fail(
    pool: &PgPool,
    (id, token): (JobId, ClaimToken),
    error: &str,
    failure: &Failure,
) -> Result<bool, StoreError> {
    let (permanent, lapsed, after) = match failure {
        Failure::Retry { after } => (false, false, *after),
        Failure::Crashed { after } => (false, true, *after),
        Failure::Permanent => (true, false, Duration::from_secs(60)),
    };
    let dead: Option<bool> = sqlx::query_scalar(
        "WITH held AS (
             SELECT id, spent AND NOT newer AS dies, spent AND newer AS anew
             FROM jobs, LATERAL (SELECT max_attempts IS NOT NULL AND ($4 OR attempts >= max_attempts) AS spent,
                                        target_revision > target_revision_at_claim AS newer) AS judged
             WHERE id = $1 AND claim_token = $2 AND state = 'running' FOR UPDATE OF jobs)
         UPDATE jobs j SET state = CASE WHEN dies THEN 'dead' ELSE 'pending' END,
             attempts = CASE WHEN anew THEN 0 ELSE attempts END,
             finished_at = CASE WHEN dies THEN now() END, run_at = now() + $5,
             crash_count = crash_count + $6::int, error = $3, lease_expires_at = NULL, claim_token = NULL,
             attempts_log = append_attempt(attempts_log, attempts, claimed_by, claimed_at, $3)
         FROM held WHERE j.id = held.id RETURNING dies",
    )
    .bind(id.get())
    .bind(token.0)
    .bind(bounded(error))
    .bind(permanent)
    .bind(interval(after))
    .bind(i32::from(lapsed))
    .fetch_optional(pool)
    .await?;
    Ok(dead.unwrap_or(false))
}

/// An error as the ledger keeps it: of bounded length, and of characters that Postgres takes.
fn bounded(error: &str) -> String {
    error.chars().filter(|c| *c != '\0').take(MAX_ERROR).collect()
}

/// What a rescue_expired found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Jobs that are pending again.
    pub requeued: u64,
    /// Jobs whose last attempt did not come back.
    pub dead: u64,
}

/// Returns the jobs whose lease is over. One that was running may run again after a pause that doubles with each
/// further lapse, or is dead if that was its last attempt (and no newer work is wanted by then).
///
/// # Errors
/// If Postgres fails.
pub async fn rescue_expired(pool: &PgPool) -> Result<Rescued, StoreError> {
    let states: Vec<(String,)> = sqlx::query_as(
        "WITH lapsed AS (
             SELECT id, state = 'running' AS ran,
                    CASE WHEN crash_count = 0 OR state = 'queued' THEN 0
                         ELSE least(power(2, crash_count), 300) END AS pause,
                    state = 'running' AND max_attempts IS NOT NULL AND attempts >= max_attempts AS spent,
                    target_revision > target_revision_at_claim AS newer
             FROM jobs WHERE state IN ('queued', 'running') AND lease_expires_at < now()
             ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED)
         UPDATE jobs j SET state = CASE WHEN spent AND NOT newer THEN 'dead' ELSE 'pending' END,
             attempts = CASE WHEN spent AND newer THEN 0 ELSE attempts END,
             -- Without a pause it keeps its place before those that were asked for later.
             crash_count = crash_count + ran::int, run_at = CASE WHEN pause > 0 THEN now() + interval '1 second' * pause
                                                       ELSE j.run_at END,
             lease_expires_at = NULL, claim_token = NULL,
             finished_at = CASE WHEN spent AND NOT newer THEN now() END,
             error = CASE WHEN ran THEN $1 ELSE error END,
             attempts_log = CASE WHEN ran THEN append_attempt(attempts_log, attempts, claimed_by, claimed_at, $1) ELSE attempts_log END
         FROM lapsed WHERE j.id = lapsed.id
         RETURNING j.state",
    )
    .bind(LAPSED)
    .fetch_all(pool)
    .await?;
    let died = states.iter().filter(|(state,)| state == "dead").count();
    Ok(Rescued {
        requeued: u64::try_from(states.len() - died).unwrap_or(u64::MAX),
        dead: u64::try_from(died).unwrap_or(u64::MAX),
    })
}

/// Keeps what came out of Redis and is no job id, for somebody to look at. The same thing is kept once.
///
/// # Errors
/// If Postgres fails.
pub async fn dead_letter(pool: &PgPool, queue: JobQueue, raw: &str) -> Result<(), StoreError> {
    let raw: String = raw.chars().filter(|c| *c != '\0').take(4_000).collect();
    sqlx::query(
        "INSERT INTO jobs (id, kind, queue, payload, state, finished_at, error)
         SELECT $1, 'undecodable', $2, jsonb_build_object('raw', $3::text), 'dead', now(),
                'not a job id: came out of Redis'
         WHERE NOT EXISTS (SELECT FROM jobs WHERE state = 'dead' AND guild_id IS NULL
                           AND payload = jsonb_build_object('raw', $3::text))",
    )
    .bind(JobId::new().get())
    .bind(queue)
    .bind(raw)
    .execute(pool)
    .await?;
    Ok(())
}
