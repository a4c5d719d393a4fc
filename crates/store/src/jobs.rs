//! The ledger: every job from its cause to its end. See `docs/protocol.md`.
//!
//! `pending -> queued -> running -> done`, and back to pending after a failure, a lapsed lease or newer work;
//! `dead` once a job cannot succeed. Who does what: producers [`enqueue`], the dispatcher calls [`dispatch`] and
//! [`rescue_expired`], workers [`claim`], [`renew`], [`complete`], [`fail`] and [`release`]. All that a worker does to a
//! job it claimed matches job, running state and claim token, so that one that lost its claim changes nothing.

pub mod admin;
mod claims;
mod counts;
mod dispatch;
mod failure;

use std::time::Duration;

use guildex_types::{Job, JobId, JobQueue, Revision};
use sqlx::PgConnection;
use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

pub use self::claims::{ClaimToken, Claimed, claim, claim_isolated, complete, quarantined, release, renew};
pub use self::counts::{dead, delete_completed, running, unfinished, unfinished_backfills};
pub use self::dispatch::{Dispatched, dispatch, queued_for, requeue};
pub use self::failure::{Failure, Rescued, dead_letter, fail, rescue_expired};
use crate::StoreError;

/// The channel on which Postgres tells dispatchers of new jobs; the payload is the delay in milliseconds until
/// the first of them is due.
pub const NOTIFY_CHANNEL: &str = "guildex_jobs";

/// A job to be written down.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// What is to be done.
    pub job: Job,
    /// How urgent it is.
    pub queue: JobQueue,
    /// The session revision that it must reach; [`Revision::NONE`] where there is none.
    pub target_revision: Revision,
    /// How long to wait for more changes before it may run.
    pub debounce: Duration,
}

/// Writes jobs down. A job whose key has an unfinished one raises that one's wanted revision instead, and its
/// urgency; an unfinished job of another kind becomes the kind asked for last. Jobs of one call must have
/// distinct keys. Returns the rows that will do the work, in no particular order.
///
/// A job that takes the place of a removal does not die, either: until it has completed, nobody knows whether the
/// removal has happened, and it removes whatever is below the revision that it reaches. It is mortal again with its
/// next row, since a key's row lives until it is done.
///
/// # Errors
/// If Postgres fails.
pub async fn enqueue(
    tx: &mut PgConnection,
    jobs: &[NewJob],
    max_attempts: u32,
) -> Result<Vec<JobId>, StoreError> {
    let Some(first_due) = jobs.iter().map(|job| job.debounce).min() else { return Ok(Vec::new()) };
    let mortal = i32::try_from(max_attempts.max(1)).unwrap_or(i32::MAX);
    let mut payloads = Vec::with_capacity(jobs.len());
    for new in jobs {
        payloads.push(new.job.encode().map_err(|e| StoreError::Corrupt(e.to_string()))?);
    }
    let rows: Vec<Uuid> = sqlx::query_scalar(
        "INSERT INTO jobs AS j (id, guild_id, kind, queue, dedup_key, payload, target_revision, max_attempts, run_at)
         SELECT u.id, u.guild_id, u.kind, u.queue, u.dedup_key, u.payload, u.wanted, u.max_attempts, now() + u.debounce
         FROM UNNEST($1::uuid[], $2::bigint[], $3::text[], $4::job_queue[], $5::text[], $6::jsonb[], $7::bigint[],
                     $8::int[], $9::interval[])
              AS u (id, guild_id, kind, queue, dedup_key, payload, wanted, max_attempts, debounce)
         ORDER BY u.dedup_key
         ON CONFLICT (dedup_key) WHERE state IN ('pending', 'queued', 'running') DO UPDATE
         SET target_revision = greatest(j.target_revision, excluded.target_revision),
             kind = excluded.kind, payload = excluded.payload,
             -- A removal that has not happened yet lives on in the job that takes its place.
             max_attempts = CASE WHEN j.max_attempts IS NOT NULL THEN excluded.max_attempts END,
             queue = CASE WHEN j.kind = excluded.kind THEN least(j.queue, excluded.queue) ELSE excluded.queue END,
             run_at = CASE WHEN j.state = 'pending' THEN least(j.run_at, excluded.run_at) ELSE j.run_at END,
             -- Queued for another queue: back, to be queued for its own. The id left in Redis finds nothing
             -- to claim, or is as good as the new one.
             state = CASE WHEN j.state = 'queued' AND j.queue <> excluded.queue
                               AND (j.kind <> excluded.kind OR excluded.queue < j.queue)
                          THEN 'pending' ELSE j.state END,
             lease_expires_at = CASE WHEN j.state = 'queued' AND j.queue <> excluded.queue
                               AND (j.kind <> excluded.kind OR excluded.queue < j.queue)
                          THEN NULL ELSE j.lease_expires_at END
         RETURNING j.id",
    )
    .bind(jobs.iter().map(|_| JobId::new().get()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| new.job.guild_id.get()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| new.job.kind().as_str()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| new.queue).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| new.job.dedup_key()).collect::<Vec<_>>())
    .bind(payloads)
    .bind(jobs.iter().map(|new| new.target_revision.get()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| (!new.job.kind().retries_forever()).then_some(mortal)).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| interval(new.debounce)).collect::<Vec<_>>())
    .fetch_all(&mut *tx)
    .await?;
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(NOTIFY_CHANNEL)
        .bind(first_due.as_millis().to_string())
        .execute(tx)
        .await?;
    Ok(rows.into_iter().map(JobId::from).collect())
}

/// Raises what unfinished jobs have to reach, where there are any; asks for none. For changes that need no job, but
/// that a job which is under way must not miss.
///
/// # Errors
/// If Postgres fails.
pub async fn raise_target_revision(
    tx: &mut PgConnection,
    wanted: &[(Job, Revision)],
) -> Result<(), StoreError> {
    let (keys, revisions): (Vec<Option<String>>, Vec<i64>) =
        wanted.iter().map(|(job, revision)| (job.dedup_key(), revision.get())).unzip();
    sqlx::query(
        "WITH under_way AS (
             SELECT j.id, u.revision FROM jobs j JOIN UNNEST($1::text[], $2::bigint[]) AS u (dedup_key, revision) ON j.dedup_key = u.dedup_key
             WHERE j.state IN ('pending', 'queued', 'running') ORDER BY j.dedup_key, j.id FOR UPDATE OF j)
         UPDATE jobs j SET target_revision = greatest(j.target_revision, under_way.revision)
         FROM under_way WHERE j.id = under_way.id",
    )
    .bind(keys)
    .bind(revisions)
    .execute(tx)
    .await?;
    Ok(())
}

fn raw(ids: &[JobId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.get()).collect()
}

fn unzip(claims: &[(JobId, ClaimToken)]) -> (Vec<Uuid>, Vec<Uuid>) {
    claims.iter().map(|(id, token)| (id.get(), token.0)).unzip()
}

pub(crate) fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}
