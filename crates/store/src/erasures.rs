//! Receipts: what was forgotten, and whether it is gone from every collection by now.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, JobId, MessageId, UserId};
use serde::Serialize;
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use crate::StoreError;

/// What is forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "scope", rename_all = "snake_case")]
pub enum Target {
    /// These messages, whatever their channels.
    Messages {
        /// Their ids.
        #[serde(rename = "message_ids")]
        messages: Vec<MessageId>,
    },
    /// All that a member wrote in the guild.
    Member {
        /// The member.
        #[serde(rename = "member_id")]
        member: UserId,
    },
    /// A channel with its threads, or a thread.
    Channel {
        /// The channel or thread.
        #[serde(rename = "channel_id")]
        channel: ChannelId,
    },
    /// Everything.
    Guild,
}

impl Target {
    fn columns(&self) -> (&'static str, Vec<i64>) {
        match self {
            Self::Messages { messages } => ("messages", messages.iter().map(|id| id.get()).collect()),
            Self::Member { member } => ("member", vec![member.get()]),
            Self::Channel { channel } => ("channel", vec![channel.get()]),
            Self::Guild => ("guild", Vec::new()),
        }
    }

    fn read(scope: &str, ids: &[i64]) -> Result<Self, StoreError> {
        match (scope, ids) {
            ("messages", ids) => {
                let messages = ids.iter().map(|id| MessageId::try_from(*id)).collect::<Result<_, _>>()?;
                Ok(Self::Messages { messages })
            }
            ("member", [id]) => Ok(Self::Member { member: UserId::try_from(*id)? }),
            ("channel", [id]) => Ok(Self::Channel { channel: ChannelId::try_from(*id)? }),
            ("guild", []) => Ok(Self::Guild),
            _ => Err(StoreError::Corrupt(format!("an erasure of scope {scope} with {} targets", ids.len()))),
        }
    }
}

/// What was erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Live messages.
    pub messages: u64,
    /// Sessions that lost some of them.
    pub sessions: u64,
    /// Points of those sessions, in the collections of all models, as far as the books knew.
    pub points: u64,
}

impl std::ops::AddAssign for Erased {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.sessions += other.sessions;
        self.points += other.points;
    }
}

/// A receipt. It holds no content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Erasure {
    /// Its own id.
    pub id: Uuid,
    /// The tenant.
    pub guild_id: GuildId,
    /// What was forgotten.
    #[serde(flatten)]
    pub target: Target,
    /// Messages whose content was erased.
    pub messages: u64,
    /// Sessions that lost some of them.
    pub sessions: u64,
    /// Points that those sessions had.
    pub points: u64,
    /// When the erasing transaction began. Searches have shown nothing of it since that committed.
    pub asked_at: DateTime<Utc>,
    /// When the last of the points was gone; `None` until then.
    pub completed_at: Option<DateTime<Utc>>,
}

/// Writes a receipt for what this transaction erased, to be completed when `jobs` are finished.
///
/// # Errors
/// If Postgres fails.
pub async fn write(
    tx: &mut PgConnection,
    guild: GuildId,
    target: &Target,
    erased: Erased,
    jobs: &HashSet<JobId>,
) -> Result<Erasure, StoreError> {
    let (scope, targets) = target.columns();
    let id = Uuid::now_v7();
    let row: Row = sqlx::query_as(
        "INSERT INTO erasures (id, guild_id, scope, targets, messages, sessions, points, completed_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $8 THEN now() END)
         RETURNING id, guild_id, scope, targets, messages, sessions, points, asked_at, completed_at",
    )
    .bind(id)
    .bind(guild.get())
    .bind(scope)
    .bind(targets)
    .bind(i64::try_from(erased.messages).unwrap_or(i64::MAX))
    .bind(i64::try_from(erased.sessions).unwrap_or(i64::MAX))
    .bind(i64::try_from(erased.points).unwrap_or(i64::MAX))
    .bind(jobs.is_empty())
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query(
        "INSERT INTO erasure_jobs (erasure_id, job_id) SELECT $1, id FROM UNNEST($2::uuid[]) AS u (id)",
    )
    .bind(id)
    .bind(jobs.iter().map(|job| job.get()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    row.read()
}

/// Completes the receipts whose jobs are all finished. Each of these reached the revision that the erasure gave to
/// its session, or removed what was below it, so no point of an earlier state is left. A job that is dead counts as
/// finished: removals do not die.
///
/// # Errors
/// If Postgres fails.
pub async fn settle(pool: &PgPool) -> Result<u64, StoreError> {
    let settled = sqlx::query(
        "WITH open AS (SELECT id FROM erasures WHERE completed_at IS NULL ORDER BY id FOR UPDATE SKIP LOCKED),
         settled AS (
             SELECT o.id, (SELECT max(j.finished_at) FROM erasure_jobs e JOIN jobs j ON j.id = e.job_id
                           WHERE e.erasure_id = o.id) AS at
             FROM open o
             WHERE NOT EXISTS (SELECT FROM erasure_jobs e JOIN jobs j ON j.id = e.job_id
                               WHERE e.erasure_id = o.id AND j.state IN ('pending', 'queued', 'running'))),
         tidied AS (DELETE FROM erasure_jobs e USING settled s WHERE e.erasure_id = s.id)
         UPDATE erasures e SET completed_at = coalesce(s.at, now()) FROM settled s WHERE e.id = s.id",
    )
    .execute(pool)
    .await?;
    Ok(settled.rows_affected())
}

/// How far an erasure is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Its receipt.
    pub erasure: Erasure,
    /// Its jobs that are not finished.
    pub unfinished: u64,
    /// All of its jobs; 0 once it is completed.
    pub jobs: u64,
}

/// The receipt, and how many of its jobs are left; `None` if the guild has no such.
///
/// # Errors
/// If Postgres fails.
pub async fn progress(pool: &PgPool, guild: GuildId, id: Uuid) -> Result<Option<Progress>, StoreError> {
    let row: Option<ProgressRow> = sqlx::query_as(
        "SELECT id, guild_id, scope, targets, messages, sessions, points, asked_at, completed_at,
                (SELECT count(*) FROM erasure_jobs e WHERE e.erasure_id = erasures.id) AS jobs,
                (SELECT count(*) FROM erasure_jobs e JOIN jobs j ON j.id = e.job_id
                 WHERE e.erasure_id = erasures.id AND j.state IN ('pending', 'queued', 'running')) AS unfinished
         FROM erasures WHERE guild_id = $1 AND id = $2",
    )
    .bind(guild.get())
    .bind(id)
    .fetch_optional(pool)
    .await?;
    row.map(|row| {
        Ok(Progress {
            erasure: row.receipt.read()?,
            unfinished: unsigned(row.unfinished),
            jobs: unsigned(row.jobs),
        })
    })
    .transpose()
}

#[derive(FromRow)]
struct ProgressRow {
    #[sqlx(flatten)]
    receipt: Row,
    jobs: i64,
    unfinished: i64,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    guild_id: i64,
    scope: String,
    targets: Vec<i64>,
    messages: i64,
    sessions: i64,
    points: i64,
    asked_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
}

impl Row {
    fn read(self) -> Result<Erasure, StoreError> {
        Ok(Erasure {
            id: self.id,
            guild_id: self.guild_id.try_into()?,
            target: Target::read(&self.scope, &self.targets)?,
            messages: unsigned(self.messages),
            sessions: unsigned(self.sessions),
            points: unsigned(self.points),
            asked_at: self.asked_at,
            completed_at: self.completed_at,
        })
    }
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
