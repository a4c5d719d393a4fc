//! The ledger: every job from its cause to its end. See `docs/protocol.md`.
//!
//! `pending -> queued -> running -> done`, and back to pending after a failure, a lapsed lease or newer work;
//! `dead` once a job cannot succeed. Who does what: producers [`enqueue`], the dispatcher calls [`dispatch`] and
//! [`sweep`], workers [`claim`], [`renew`], [`complete`], [`fail`] and [`give_back`]. All that a worker does to a
//! job it claimed matches job, running state and claim token, so that one that lost its claim changes nothing.

use std::time::Duration;

use guildex_types::{ChannelId, GuildId, Job, JobClass, JobId, Revision};
use sqlx::postgres::types::PgInterval;
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

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
    pub class: JobClass,
    /// The session revision that it must reach; [`Revision::NONE`] where there is none.
    pub wanted: Revision,
    /// How long to wait for more changes before it may run.
    pub debounce: Duration,
}

/// Writes jobs down. A job whose key has an unfinished one raises that one's wanted revision instead, and its
/// urgency; an unfinished job of another kind becomes the kind asked for last. Jobs of one call must have
/// distinct keys.
///
/// # Errors
/// If Postgres fails.
pub async fn enqueue(tx: &mut PgConnection, jobs: &[NewJob], max_attempts: u32) -> Result<(), StoreError> {
    let Some(first_due) = jobs.iter().map(|job| job.debounce).min() else { return Ok(()) };
    let mortal = i32::try_from(max_attempts.max(1)).unwrap_or(i32::MAX);
    let mut payloads = Vec::with_capacity(jobs.len());
    for new in jobs {
        payloads.push(new.job.encode().map_err(|e| StoreError::Corrupt(e.to_string()))?);
    }
    sqlx::query(
        "INSERT INTO jobs AS j (id, guild_id, kind, class, key, payload, wanted_revision, max_attempts, run_at)
         SELECT u.id, u.guild_id, u.kind, u.class, u.key, u.payload, u.wanted, u.max_attempts, now() + u.debounce
         FROM UNNEST($1::uuid[], $2::bigint[], $3::text[], $4::smallint[], $5::text[], $6::jsonb[], $7::bigint[],
                     $8::int[], $9::interval[])
              AS u (id, guild_id, kind, class, key, payload, wanted, max_attempts, debounce)
         ORDER BY u.key
         ON CONFLICT (key) WHERE state IN ('pending', 'queued', 'running') DO UPDATE
         SET wanted_revision = greatest(j.wanted_revision, excluded.wanted_revision),
             kind = excluded.kind, payload = excluded.payload,
             -- A removal that has not happened yet lives on in the job that takes its place.
             max_attempts = CASE WHEN j.max_attempts IS NOT NULL THEN excluded.max_attempts END,
             class = CASE WHEN j.kind = excluded.kind THEN least(j.class, excluded.class) ELSE excluded.class END,
             run_at = CASE WHEN j.state = 'pending' THEN least(j.run_at, excluded.run_at) ELSE j.run_at END,
             -- Queued for another class: back, to be queued for its own. The id left in Redis finds nothing
             -- to claim, or is as good as the new one.
             state = CASE WHEN j.state = 'queued' AND j.class <> excluded.class
                               AND (j.kind <> excluded.kind OR excluded.class < j.class)
                          THEN 'pending' ELSE j.state END,
             lease_until = CASE WHEN j.state = 'queued' AND j.class <> excluded.class
                               AND (j.kind <> excluded.kind OR excluded.class < j.class)
                          THEN NULL ELSE j.lease_until END",
    )
    .bind(jobs.iter().map(|_| JobId::new().get()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| new.job.guild_id.get()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| new.job.kind().as_str()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| new.class.rank()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| new.job.key()).collect::<Vec<_>>())
    .bind(payloads)
    .bind(jobs.iter().map(|new| new.wanted.get()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| (!new.job.kind().never_dies()).then_some(mortal)).collect::<Vec<_>>())
    .bind(jobs.iter().map(|new| interval(new.debounce)).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(NOTIFY_CHANNEL)
        .bind(first_due.as_millis().to_string())
        .execute(tx)
        .await?;
    Ok(())
}

/// What a dispatch did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dispatched {
    /// The jobs that are queued now, in the order in which they are to be pushed.
    pub ids: Vec<JobId>,
    /// Whether the window was full already.
    pub full: bool,
}

/// Moves due jobs of a class from pending to queued, as far as `window` has room for more than what is queued by
/// the ledger or waits in Redis (`depth`); they are to be pushed once this has committed. Guilds take turns,
/// oldest job first. Does nothing while another dispatcher is at it.
///
/// The jobs carry a lease: if Redis loses them, [`sweep`] finds them.
///
/// # Errors
/// If Postgres fails.
pub async fn dispatch(
    pool: &PgPool,
    class: JobClass,
    window: usize,
    depth: usize,
    lease: Duration,
) -> Result<Dispatched, StoreError> {
    let mut tx = pool.begin().await?;
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("guildex/dispatch/{class}"))
        .fetch_one(&mut *tx)
        .await?;
    if !alone {
        tx.rollback().await?;
        return Ok(Dispatched::default());
    }
    let queued: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE state = 'queued' AND class = $1")
        .bind(class.rank())
        .fetch_one(&mut *tx)
        .await?;
    let room = window.saturating_sub(depth.max(usize::try_from(queued).unwrap_or(usize::MAX)));
    if room == 0 {
        // At once, and not when the connection is used next: the lock goes with it.
        tx.rollback().await?;
        return Ok(Dispatched { ids: Vec::new(), full: true });
    }
    let mut taken: Vec<(Uuid, i64)> = sqlx::query_as(
        // The recursion hops from guild to guild over the index, and so reads one entry a guild, not one a job.
        "WITH RECURSIVE guild (id) AS (
             (SELECT min(guild_id) FROM jobs WHERE state = 'pending' AND class = $1)
             UNION ALL
             SELECT (SELECT min(guild_id) FROM jobs WHERE state = 'pending' AND class = $1 AND guild_id > guild.id)
             FROM guild WHERE guild.id IS NOT NULL),
         share (jobs) AS (SELECT ceil($2::numeric / greatest(count(id), 1))::bigint FROM guild),
         turn AS (
             SELECT due.id, due.run_at, row_number() OVER (PARTITION BY guild.id ORDER BY due.run_at, due.id) AS number
             FROM guild CROSS JOIN LATERAL (
                 SELECT id, run_at FROM jobs
                 WHERE state = 'pending' AND class = $1 AND guild_id = guild.id AND run_at <= now()
                 ORDER BY run_at, id LIMIT (SELECT jobs FROM share)) AS due),
         picked AS (
             SELECT id, row_number() OVER (ORDER BY number, run_at, id) AS place
             FROM turn ORDER BY place LIMIT $2),
         free AS (
             SELECT j.id, picked.place FROM jobs j JOIN picked ON picked.id = j.id
             WHERE j.state = 'pending' ORDER BY j.key, j.id FOR UPDATE OF j SKIP LOCKED)
         UPDATE jobs SET state = 'queued', lease_until = now() + $3
         FROM free WHERE jobs.id = free.id
         RETURNING jobs.id, free.place",
    )
    .bind(class.rank())
    .bind(i64::try_from(room).unwrap_or(i64::MAX))
    .bind(interval(lease))
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    taken.sort_unstable_by_key(|(_, place)| *place);
    Ok(Dispatched { ids: taken.into_iter().map(|(id, _)| id.into()).collect(), full: false })
}

/// The jobs of a class that have been queued for longer than `age`, if they were dispatched with this `lease`.
///
/// # Errors
/// If Postgres fails.
pub async fn queued_for(
    pool: &PgPool,
    class: JobClass,
    age: Duration,
    lease: Duration,
) -> Result<Vec<JobId>, StoreError> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM jobs WHERE state = 'queued' AND class = $1 AND lease_until < now() + $3 - $2",
    )
    .bind(class.rank())
    .bind(interval(age))
    .bind(interval(lease))
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().map(JobId::from).collect())
}

/// Takes back what was dispatched and was not pushed, or was lost: pending again.
///
/// # Errors
/// If Postgres fails.
pub async fn take_back(pool: &PgPool, ids: &[JobId]) -> Result<(), StoreError> {
    sqlx::query(
        "WITH waiting AS (
             SELECT id FROM jobs WHERE id = ANY($1) AND state = 'queued' ORDER BY key, id FOR UPDATE)
         UPDATE jobs j SET state = 'pending', lease_until = NULL FROM waiting WHERE j.id = waiting.id",
    )
    .bind(raw(ids))
    .execute(pool)
    .await?;
    Ok(())
}

/// What a sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Jobs that are pending again.
    pub returned: u64,
    /// Jobs whose last attempt did not come back.
    pub died: u64,
}

/// Returns the jobs whose lease is over. One that was running may run again after a pause that doubles with each
/// further lapse, or is dead if that was its last attempt (and no newer work is wanted by then).
///
/// # Errors
/// If Postgres fails.
pub async fn sweep(pool: &PgPool) -> Result<Swept, StoreError> {
    let states: Vec<(String,)> = sqlx::query_as(
        "WITH lapsed AS (
             SELECT id, state = 'running' AS ran,
                    CASE WHEN lapses = 0 OR state = 'queued' THEN 0
                         ELSE least(power(2, lapses), 300) END AS pause,
                    state = 'running' AND max_attempts IS NOT NULL AND attempts >= max_attempts AS spent,
                    wanted_revision > claimed_revision AS newer
             FROM jobs WHERE state IN ('queued', 'running') AND lease_until < now()
             ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED)
         UPDATE jobs j SET state = CASE WHEN spent AND NOT newer THEN 'dead' ELSE 'pending' END,
             attempts = CASE WHEN spent AND newer THEN 0 ELSE attempts END,
             -- Without a pause it keeps its place before those that were asked for later.
             lapses = lapses + ran::int, run_at = CASE WHEN pause > 0 THEN now() + interval '1 second' * pause
                                                       ELSE j.run_at END,
             lease_until = NULL, claim_token = NULL,
             finished_at = CASE WHEN spent AND NOT newer THEN now() END,
             error = CASE WHEN ran THEN 'the lease ran out: the worker died, froze or lost the database' ELSE error END
         FROM lapsed WHERE j.id = lapsed.id
         RETURNING j.state",
    )
    .fetch_all(pool)
    .await?;
    let died = states.iter().filter(|(state,)| state == "dead").count();
    Ok(Swept {
        returned: u64::try_from(states.len() - died).unwrap_or(u64::MAX),
        died: u64::try_from(died).unwrap_or(u64::MAX),
    })
}

/// Proof of a claim. A worker that does not hold a job's latest token cannot change the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimToken(Uuid);

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
    pub wanted: Revision,
    /// Which attempt this is, counting from 1.
    pub attempt: u32,
    /// How many attempts were cut off by the end of a lease.
    pub lapses: u32,
}

/// Takes queued jobs for `worker`, for the time of `lease`. What is not queued any more (a duplicate delivery)
/// is left out.
///
/// # Errors
/// If Postgres fails.
pub async fn claim(
    pool: &PgPool,
    ids: &[JobId],
    worker: &str,
    lease: Duration,
) -> Result<Vec<Claimed>, StoreError> {
    let token = ClaimToken(Uuid::new_v4());
    let rows: Vec<ClaimedRow> = sqlx::query_as(
        "WITH taken AS (
             SELECT id FROM jobs WHERE id = ANY($1) AND state = 'queued' ORDER BY key, id FOR UPDATE)
         UPDATE jobs j SET state = 'running', attempts = attempts + 1, worker = $2, claim_token = $3,
                           claimed_revision = wanted_revision, lease_until = now() + $4
         FROM taken WHERE j.id = taken.id
         RETURNING j.id, j.payload, j.wanted_revision, j.attempts, j.lapses",
    )
    .bind(raw(ids))
    .bind(worker)
    .bind(token.0)
    .bind(interval(lease))
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| row.read(token)).collect())
}

impl Claimed {
    /// Whether it must run alone, since it may be what kills its worker. A worker that dies takes the leases of
    /// many innocent jobs with it, so one lapse proves nothing.
    pub fn is_suspect(&self) -> bool {
        self.lapses >= 2
    }
}

#[derive(FromRow)]
struct ClaimedRow {
    id: Uuid,
    payload: serde_json::Value,
    wanted_revision: i64,
    attempts: i32,
    lapses: i32,
}

impl ClaimedRow {
    fn read(self, token: ClaimToken) -> Claimed {
        Claimed {
            id: self.id.into(),
            token,
            payload: self.payload,
            wanted: self.wanted_revision.into(),
            attempt: u32::try_from(self.attempts).unwrap_or(1),
            lapses: u32::try_from(self.lapses).unwrap_or(0),
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
             ORDER BY j.key, j.id FOR UPDATE OF j)
         UPDATE jobs j SET lease_until = now() + $3 FROM held WHERE j.id = held.id RETURNING j.id",
    )
    .bind(ids)
    .bind(tokens)
    .bind(interval(lease))
    .fetch_all(pool)
    .await?;
    Ok(held.into_iter().map(JobId::from).collect())
}

/// Ends jobs that reached a revision. One of which more is wanted by now is pending again, at no cost.
///
/// # Errors
/// If Postgres fails.
pub async fn complete(pool: &PgPool, finished: &[(JobId, ClaimToken, Revision)]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = finished.iter().map(|(id, ..)| id.get()).collect();
    let tokens: Vec<Uuid> = finished.iter().map(|(_, token, _)| token.0).collect();
    let revisions: Vec<i64> = finished.iter().map(|(.., revision)| revision.get()).collect();
    sqlx::query(
        "WITH held AS (
             SELECT j.id, j.wanted_revision > u.revision AS again
             FROM jobs j JOIN UNNEST($1::uuid[], $2::uuid[], $3::bigint[]) AS u (id, token, revision)
                  ON j.id = u.id AND j.claim_token = u.token AND j.state = 'running'
             ORDER BY j.key, j.id FOR UPDATE OF j)
         UPDATE jobs j SET state = CASE WHEN again THEN 'pending' ELSE 'done' END,
             finished_at = CASE WHEN again THEN NULL ELSE now() END,
             run_at = CASE WHEN again THEN now() ELSE j.run_at END,
             attempts = CASE WHEN again THEN 0 ELSE j.attempts END,
             lapses = 0, error = NULL, lease_until = NULL, claim_token = NULL
         FROM held WHERE j.id = held.id",
    )
    .bind(ids)
    .bind(tokens)
    .bind(revisions)
    .execute(pool)
    .await?;
    Ok(())
}

/// How a job failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may work another time: try again after this long.
    Retry {
        /// The backoff.
        after: Duration,
    },
    /// It took others with it, or they it: try again after this long, and alone the second time.
    Lapse {
        /// The backoff.
        after: Duration,
    },
    /// It never will.
    Permanent,
}

/// Notes a failed attempt: pending again after the backoff, or dead with its error if it cannot succeed or its
/// attempts are spent. Deletions do not die: they go on. Nor does a job of which more is wanted than when it was
/// claimed: its attempts are counted anew. Returns whether the job is dead now.
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
        Failure::Lapse { after } => (false, true, *after),
        Failure::Permanent => (true, false, Duration::from_secs(60)),
    };
    let dead: Option<bool> = sqlx::query_scalar(
        "WITH held AS (
             SELECT id, spent AND NOT newer AS dies, spent AND newer AS anew
             FROM jobs, LATERAL (SELECT max_attempts IS NOT NULL AND ($4 OR attempts >= max_attempts) AS spent,
                                        wanted_revision > claimed_revision AS newer) AS judged
             WHERE id = $1 AND claim_token = $2 AND state = 'running' FOR UPDATE OF jobs)
         UPDATE jobs j SET state = CASE WHEN dies THEN 'dead' ELSE 'pending' END,
             attempts = CASE WHEN anew THEN 0 ELSE attempts END,
             finished_at = CASE WHEN dies THEN now() END, run_at = now() + $5,
             lapses = lapses + $6::int, error = $3, lease_until = NULL, claim_token = NULL
         FROM held WHERE j.id = held.id RETURNING dies",
    )
    .bind(id.get())
    .bind(token.0)
    .bind(error)
    .bind(permanent)
    .bind(interval(after))
    .bind(i32::from(lapsed))
    .fetch_optional(pool)
    .await?;
    Ok(dead.unwrap_or(false))
}

/// Gives jobs back undone, and the attempt with them: the worker stops in good order, or cannot reach the index.
///
/// # Errors
/// If Postgres fails.
pub async fn give_back(
    pool: &PgPool,
    claims: &[(JobId, ClaimToken)],
    after: Duration,
) -> Result<(), StoreError> {
    let (ids, tokens) = unzip(claims);
    sqlx::query(
        "WITH held AS (
             SELECT j.id FROM jobs j JOIN UNNEST($1::uuid[], $2::uuid[]) AS u (id, token)
                  ON j.id = u.id AND j.claim_token = u.token AND j.state = 'running'
             ORDER BY j.key, j.id FOR UPDATE OF j)
         UPDATE jobs j SET state = 'pending', attempts = greatest(attempts - 1, 0),
             -- Without a pause it keeps its place before those that were asked for later.
             run_at = CASE WHEN $3 > interval '0' THEN now() + $3 ELSE j.run_at END,
             lease_until = NULL, claim_token = NULL
         FROM held WHERE j.id = held.id",
    )
    .bind(ids)
    .bind(tokens)
    .bind(interval(after))
    .execute(pool)
    .await?;
    Ok(())
}

/// Keeps what came out of Redis and is no job id, for somebody to look at. The same thing is kept once.
///
/// # Errors
/// If Postgres fails.
pub async fn bury_undecodable(pool: &PgPool, class: JobClass, raw: &str) -> Result<(), StoreError> {
    let raw: String = raw.chars().filter(|c| *c != '\0').take(4_000).collect();
    sqlx::query(
        "INSERT INTO jobs (id, kind, class, payload, state, finished_at, error)
         SELECT $1, 'undecodable', $2, jsonb_build_object('raw', $3::text), 'dead', now(),
                'not a job id: came out of Redis'
         WHERE NOT EXISTS (SELECT FROM jobs WHERE state = 'dead' AND guild_id IS NULL
                           AND payload = jsonb_build_object('raw', $3::text))",
    )
    .bind(JobId::new().get())
    .bind(class.rank())
    .bind(raw)
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes up to `limit` jobs that were done longer ago than `keep`; returns how many.
///
/// # Errors
/// If Postgres fails.
pub async fn forget_done(pool: &PgPool, keep: Duration, limit: i64) -> Result<u64, StoreError> {
    let deleted = sqlx::query(
        "DELETE FROM jobs WHERE id IN (
             SELECT id FROM jobs WHERE state = 'done' AND finished_at < now() - $1
             ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    )
    .bind(interval(keep))
    .bind(limit)
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}

/// How many jobs are not finished, of one guild or of all.
///
/// # Errors
/// If Postgres fails.
pub async fn unfinished(pool: &PgPool, guild: Option<GuildId>) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM jobs WHERE state IN ('pending', 'queued', 'running')
         AND ($1::bigint IS NULL OR guild_id = $1)",
    )
    .bind(guild.map(GuildId::get))
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// How many jobs workers hold.
///
/// # Errors
/// If Postgres fails.
pub async fn running(pool: &PgPool) -> Result<u64, StoreError> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs WHERE state = 'running'").fetch_one(pool).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// How many backfills are not finished, of one channel or of all of a guild's.
///
/// # Errors
/// If Postgres fails.
pub async fn unfinished_backfills(
    pool: &PgPool,
    guild: GuildId,
    only: Option<ChannelId>,
) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM jobs
         WHERE state IN ('pending', 'queued', 'running') AND guild_id = $1 AND kind = 'backfill_channel'
           AND ($2::text IS NULL OR payload->>'channel_id' = $2)",
    )
    .bind(guild.get())
    .bind(only.map(|channel| channel.to_string()))
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// How many jobs are dead, of all guilds.
///
/// # Errors
/// If Postgres fails.
pub async fn dead(pool: &PgPool) -> Result<u64, StoreError> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs WHERE state = 'dead'").fetch_one(pool).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

fn raw(ids: &[JobId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.get()).collect()
}

fn unzip(claims: &[(JobId, ClaimToken)]) -> (Vec<Uuid>, Vec<Uuid>) {
    claims.iter().map(|(id, token)| (id.get(), token.0)).unzip()
}

fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}
