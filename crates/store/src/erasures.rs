//! Receipts of erasures, and their progress.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, JobId, MessageId, UserId};
use serde::Serialize;
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use crate::StoreError;
use crate::sql::{bigint, unsigned};

/// Target of an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "scope", rename_all = "snake_case")]
pub enum Target {
    /// Messages of any channels.
    Messages {
        /// Message ids.
        #[serde(rename = "message_ids")]
        messages: Vec<MessageId>,
    },
    /// All messages of a member in the guild.
    Member {
        /// Member.
        #[serde(rename = "member_id")]
        member: UserId,
    },
    /// Channel with its threads, or a thread.
    Channel {
        /// Channel or thread.
        #[serde(rename = "channel_id")]
        channel: ChannelId,
    },
    /// The whole guild.
    Guild,
}

impl Target {
    /// Columns `scope` and `targets`.
    fn columns(&self) -> (&'static str, Vec<i64>) {
        match self {
            Self::Messages { messages } => ("messages", messages.iter().map(|id| id.get()).collect()),
            Self::Member { member } => ("member", vec![member.get()]),
            Self::Channel { channel } => ("channel", vec![channel.get()]),
            Self::Guild => ("guild", Vec::new()),
        }
    }

    fn from_columns(scope: &str, ids: &[i64]) -> Result<Self, StoreError> {
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

/// Numbers of an erasure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Live messages.
    pub messages: u64,
    /// Sessions that contained them.
    pub sessions: u64,
    /// Points of those sessions, in the collections of all models, as recorded then.
    pub points: u64,
}

impl std::ops::AddAssign for Erased {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.sessions += other.sessions;
        self.points += other.points;
    }
}

/// Receipt of an erasure. Contains ids and numbers, no content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Erasure {
    /// Erasure id.
    pub id: Uuid,
    /// Tenant.
    pub guild_id: GuildId,
    /// Target.
    #[serde(flatten)]
    pub target: Target,
    /// Messages whose content was erased.
    pub messages: u64,
    /// Sessions that contained them.
    pub sessions: u64,
    /// Points of those sessions.
    pub points: u64,
    /// Start of the transaction. Searches do not return the erased content from its commit on.
    pub asked_at: DateTime<Utc>,
    /// Time at which the last of the points was deleted; `None` until then.
    pub completed_at: Option<DateTime<Utc>>,
}

/// Inserts the receipt of what this transaction erased. It completes when `jobs` are finished.
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
    .bind(guild)
    .bind(scope)
    .bind(targets)
    .bind(bigint(erased.messages))
    .bind(bigint(erased.sessions))
    .bind(bigint(erased.points))
    .bind(jobs.is_empty())
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query(
        "INSERT INTO erasure_jobs (erasure_id, job_id) SELECT $1, id FROM UNNEST($2::uuid[]) AS u (id)",
    )
    .bind(id)
    .bind(jobs.iter().copied().collect::<Vec<_>>())
    .execute(tx)
    .await?;
    row.try_into()
}

/// Completes receipts whose jobs are all finished, and returns their number. Each of these jobs reached the
/// revision that the erasure gave to its session, or deleted the points below it, so no earlier point is
/// left. Dead jobs count as finished: deletions do not become dead.
pub async fn settle(pool: &PgPool) -> Result<u64, StoreError> {
    let settled = sqlx::query(
        "WITH open AS (SELECT id FROM erasures WHERE completed_at IS NULL ORDER BY id FOR UPDATE SKIP LOCKED),
         settled AS (
             SELECT o.id, (SELECT max(j.finished_at) FROM erasure_jobs e JOIN jobs j ON j.id = e.job_id
                           WHERE e.erasure_id = o.id) AS at
             FROM open o
             WHERE NOT EXISTS (SELECT FROM erasure_jobs e JOIN jobs j ON j.id = e.job_id
                               WHERE e.erasure_id = o.id AND is_unfinished(j.state))),
         cleaned AS (DELETE FROM erasure_jobs e USING settled s WHERE e.erasure_id = s.id)
         UPDATE erasures e SET completed_at = coalesce(s.at, now()) FROM settled s WHERE e.id = s.id",
    )
    .execute(pool)
    .await?;
    Ok(settled.rows_affected())
}

/// Progress of an erasure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Receipt.
    pub erasure: Erasure,
    /// Number of unfinished jobs.
    pub unfinished: u64,
    /// Number of all jobs; 0 once the erasure is completed.
    pub jobs: u64,
}

/// Returns an erasure and its progress; `None` if the guild has none with this id.
pub async fn progress(pool: &PgPool, guild: GuildId, id: Uuid) -> Result<Option<Progress>, StoreError> {
    let row: Option<ProgressRow> = sqlx::query_as(
        "SELECT id, guild_id, scope, targets, messages, sessions, points, asked_at, completed_at,
                (SELECT count(*) FROM erasure_jobs e WHERE e.erasure_id = erasures.id) AS jobs,
                (SELECT count(*) FROM erasure_jobs e JOIN jobs j ON j.id = e.job_id
                 WHERE e.erasure_id = erasures.id AND is_unfinished(j.state)) AS unfinished
         FROM erasures WHERE guild_id = $1 AND id = $2",
    )
    .bind(guild)
    .bind(id)
    .fetch_optional(pool)
    .await?;
    row.map(|row| {
        Ok(Progress {
            erasure: row.receipt.try_into()?,
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
    guild_id: GuildId,
    scope: String,
    targets: Vec<i64>,
    messages: i64,
    sessions: i64,
    points: i64,
    asked_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for Erasure {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            guild_id: row.guild_id,
            target: Target::from_columns(&row.scope, &row.targets)?,
            messages: unsigned(row.messages),
            sessions: unsigned(row.sessions),
            points: unsigned(row.points),
            asked_at: row.asked_at,
            completed_at: row.completed_at,
        })
    }
}
