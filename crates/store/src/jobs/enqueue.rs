use std::time::Duration;

use guildex_types::{Job, JobId, JobQueue, Revision};
use sqlx::PgConnection;

use super::notify::notify;
use crate::StoreError;
use crate::sql::{integer, interval};

/// A job to enqueue.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Job.
    pub job: Job,
    /// Queue.
    pub queue: JobQueue,
    /// Session revision that the job must reach; [`Revision::NONE`] if there is none.
    pub target_revision: Revision,
    /// Delay in which further changes are merged into this job.
    pub debounce: Duration,
}

/// Enqueues jobs and returns the ids of the rows that will do the work, in no particular order.
///
/// If an unfinished job has the same deduplication key, its target revision and urgency are raised instead,
/// and it takes the kind and payload of the new one. Jobs of one call must have distinct keys.
///
/// A job that replaces a deletion retries forever, too: until it completes, the deletion may not have
/// happened, and it deletes all points below the revision that it reaches. The limit returns with the next
/// row, since a key's row is used until it is completed.
pub async fn enqueue(
    tx: &mut PgConnection,
    jobs: &[NewJob],
    max_attempts: u32,
) -> Result<Vec<JobId>, StoreError> {
    let Some(first_due) = jobs.iter().map(|job| job.debounce).min() else { return Ok(Vec::new()) };
    let limit = integer(max_attempts.max(1));
    let mut payloads = Vec::with_capacity(jobs.len());
    for new in jobs {
        payloads.push(new.job.encode().map_err(|e| StoreError::Corrupt(e.to_string()))?);
    }
    let ids = sqlx::query_scalar(
        "/* jobs.enqueue */
         INSERT INTO jobs AS j (id, guild_id, kind, queue, dedup_key, payload, target_revision, max_attempts, run_at)
         SELECT u.id, u.guild_id, u.kind, u.queue, u.dedup_key, u.payload, u.target, u.max_attempts, now() + u.debounce
         FROM UNNEST($1::uuid[], $2::bigint[], $3::text[], $4::job_queue[], $5::text[], $6::jsonb[], $7::bigint[],
                     $8::int[], $9::interval[])
              AS u (id, guild_id, kind, queue, dedup_key, payload, target, max_attempts, debounce)
         ORDER BY u.dedup_key
         ON CONFLICT (dedup_key) WHERE is_unfinished(state) DO UPDATE
         SET target_revision = greatest(j.target_revision, excluded.target_revision),
             kind = excluded.kind, payload = excluded.payload,
             -- The job may replace a deletion that has not happened yet: it keeps retrying forever.
             max_attempts = CASE WHEN j.max_attempts IS NOT NULL THEN excluded.max_attempts END,
             queue = CASE WHEN j.kind = excluded.kind THEN least(j.queue, excluded.queue) ELSE excluded.queue END,
             run_at = CASE WHEN j.state = 'pending' THEN least(j.run_at, excluded.run_at) ELSE j.run_at END,
             -- Moves to another queue: pending again, to be dispatched there. The id left in Redis is not claimable,
             -- or is claimed like the new one.
             state = CASE WHEN j.state = 'queued' AND j.queue <> excluded.queue
                               AND (j.kind <> excluded.kind OR excluded.queue < j.queue)
                          THEN 'pending' ELSE j.state END,
             lease_expires_at = CASE WHEN j.state = 'queued' AND j.queue <> excluded.queue
                               AND (j.kind <> excluded.kind OR excluded.queue < j.queue)
                          THEN NULL ELSE j.lease_expires_at END
         RETURNING j.id",
    )
    .bind(jobs.iter().map(|_| JobId::new()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| new.job.guild_id).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| new.job.kind().as_str()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| new.queue).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| new.job.dedup_key()).collect::<Vec<_>>())
    .bind(payloads)
    .bind(jobs.iter().map(|new| new.target_revision).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| (!new.job.kind().retries_forever()).then_some(limit)).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| interval(new.debounce)).collect::<Vec<_>>())
    .fetch_all(&mut *tx)
    .await?;
    notify(tx, first_due).await?;
    Ok(ids)
}

/// Raises the target revision of unfinished jobs with the deduplication keys of `targets`, and enqueues none.
/// For changes that need no new job, but that a running job must include.
pub async fn raise_target_revision(
    tx: &mut PgConnection,
    targets: &[(Job, Revision)],
) -> Result<(), StoreError> {
    let (keys, revisions): (Vec<Option<String>>, Vec<Revision>) =
        targets.iter().map(|(job, revision)| (job.dedup_key(), *revision)).unzip();
    sqlx::query(
        "/* jobs.raise_target_revision */
         WITH unfinished AS (
             SELECT j.id, u.revision
             FROM jobs j JOIN UNNEST($1::text[], $2::bigint[]) AS u (dedup_key, revision) ON j.dedup_key = u.dedup_key
             WHERE is_unfinished(j.state) ORDER BY j.dedup_key, j.id FOR UPDATE OF j)
         UPDATE jobs j SET target_revision = greatest(j.target_revision, unfinished.revision)
         FROM unfinished WHERE j.id = unfinished.id",
    )
    .bind(keys)
    .bind(revisions)
    .execute(tx)
    .await?;
    Ok(())
}
