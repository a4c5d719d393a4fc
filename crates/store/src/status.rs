//! How each guild stands: what is stored, indexed, waiting and dead.

use guildex_types::{ChannelId, Eligibility, GuildId, ModelSlug};
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use crate::StoreError;
use crate::models::{ModelState, list};

/// A guild's numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GuildStatus {
    /// The tenant.
    pub guild_id: GuildId,
    /// Its name.
    pub name: String,
    /// Live messages, those that are in no session included.
    pub messages: i64,
    /// Live sessions.
    pub sessions: i64,
    /// Live sessions that are worth a place in the index.
    pub eligible: i64,
    /// Eligible sessions that the model's collection holds at their latest revision.
    pub indexed: i64,
    /// Points of those sessions.
    pub points: i64,
    /// Jobs that are not finished.
    pub pending: i64,
    /// Jobs that cannot succeed.
    pub dead: i64,
    /// Age of the oldest unfinished job, in seconds.
    pub oldest_pending_seconds: Option<f64>,
}

/// The numbers of every guild, or of one, by id.
///
/// # Errors
/// If Postgres fails.
pub async fn guilds(
    pool: &PgPool,
    only: Option<GuildId>,
    model: &ModelSlug,
    eligible: Eligibility,
) -> Result<Vec<GuildStatus>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT g.id, g.name, coalesce(m.messages, 0) AS messages, coalesce(s.sessions, 0) AS sessions,
                coalesce(s.eligible, 0) AS eligible, coalesce(s.indexed, 0) AS indexed,
                coalesce(s.points, 0) AS points, coalesce(j.pending, 0) AS pending, coalesce(j.dead, 0) AS dead,
                j.oldest_pending_seconds
         FROM guilds g
         LEFT JOIN (SELECT guild_id, count(*) AS messages FROM messages
                    WHERE deleted_at IS NULL GROUP BY 1) m ON m.guild_id = g.id
         LEFT JOIN (SELECT guild_id, count(*) AS sessions,
                           count(*) FILTER (WHERE ok) AS eligible,
                           count(*) FILTER (WHERE ok AND indexed_revision = revision) AS indexed,
                           coalesce(sum(points) FILTER (WHERE ok AND indexed_revision = revision), 0)::bigint AS points
                    FROM (SELECT s.guild_id, s.revision, i.indexed_revision, i.points,
                                 is_eligible(s.message_count, s.word_count, $2, $3) AS ok
                          FROM sessions s
                          LEFT JOIN indexed_sessions i ON i.session_id = s.id AND i.model = $4
                          WHERE s.deleted_at IS NULL) live
                    GROUP BY 1) s ON s.guild_id = g.id
         LEFT JOIN (SELECT guild_id, count(*) FILTER (WHERE state <> 'dead') AS pending,
                           count(*) FILTER (WHERE state = 'dead') AS dead,
                           extract(epoch FROM now() - min(created_at) FILTER (WHERE state <> 'dead'))::float8
                               AS oldest_pending_seconds
                    FROM jobs WHERE state IN ('pending', 'queued', 'running', 'dead') GROUP BY 1) j
              ON j.guild_id = g.id
         WHERE $1::bigint IS NULL OR g.id = $1
         ORDER BY g.id",
    )
    .bind(only.map(GuildId::get))
    .bind(i64::from(eligible.min_messages))
    .bind(i64::from(eligible.lone_message_min_words))
    .bind(model.as_str())
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Row::read).collect()
}

#[derive(FromRow)]
struct Row {
    id: i64,
    name: String,
    messages: i64,
    sessions: i64,
    eligible: i64,
    indexed: i64,
    points: i64,
    pending: i64,
    dead: i64,
    oldest_pending_seconds: Option<f64>,
}

impl Row {
    fn read(self) -> Result<GuildStatus, StoreError> {
        Ok(GuildStatus {
            guild_id: self.id.try_into()?,
            name: self.name,
            messages: self.messages,
            sessions: self.sessions,
            eligible: self.eligible,
            indexed: self.indexed,
            points: self.points,
            pending: self.pending,
            dead: self.dead,
            oldest_pending_seconds: self.oldest_pending_seconds,
        })
    }
}

/// What is left to do in a guild or one of its channels: messages that are in no session and may belong in one,
/// and eligible sessions that the model's collection lacks at their latest revision.
///
/// # Errors
/// If Postgres fails.
pub async fn backlog(
    pool: &PgPool,
    guild: GuildId,
    only: Option<ChannelId>,
    model: &ModelSlug,
    eligible: Eligibility,
    include_bots: bool,
) -> Result<(u64, u64), StoreError> {
    let (messages, sessions): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM messages
                 WHERE guild_id = $1 AND ($2::bigint IS NULL OR channel_id = $2)
                   AND first_message_id IS NULL AND deleted_at IS NULL AND (excluded_reason IS NULL OR ($3 AND excluded_reason = 'bot'))),
                (SELECT count(*) FROM sessions s
                 LEFT JOIN indexed_sessions i ON i.session_id = s.id AND i.model = $4
                 WHERE s.guild_id = $1 AND ($2::bigint IS NULL OR s.channel_id = $2) AND s.deleted_at IS NULL
                   AND is_eligible(s.message_count, s.word_count, $5, $6)
                   AND i.indexed_revision IS DISTINCT FROM s.revision)",
    )
    .bind(guild.get())
    .bind(only.map(ChannelId::get))
    .bind(include_bots)
    .bind(model.as_str())
    .bind(i64::from(eligible.min_messages))
    .bind(i64::from(eligible.lone_message_min_words))
    .fetch_one(pool)
    .await?;
    Ok((unsigned(messages), unsigned(sessions)))
}

/// How a model stands, over all guilds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelStatus {
    /// Its name.
    pub model: ModelSlug,
    /// What becomes of its collection.
    pub state: ModelState,
    /// The length of its vectors.
    pub dimensions: usize,
    /// Sessions that its collection holds at their latest revision.
    pub indexed: u64,
    /// Sessions that are worth a place in it and that it lacks at their latest revision.
    pub missing: u64,
    /// Points that the books know.
    pub points: u64,
}

/// Every model with a collection, by name.
///
/// # Errors
/// If Postgres fails.
pub async fn models(pool: &PgPool, eligible: Eligibility) -> Result<Vec<ModelStatus>, StoreError> {
    let mut found = Vec::new();
    for model in list(pool).await? {
        let (wanted, missing) = coverage(pool, &model.slug, eligible).await?;
        let points: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(points), 0)::bigint FROM indexed_sessions WHERE model = $1",
        )
        .bind(model.slug.as_str())
        .fetch_one(pool)
        .await?;
        found.push(ModelStatus {
            model: model.slug,
            state: model.state,
            dimensions: model.dimensions,
            indexed: wanted - missing,
            missing,
            points: unsigned(points),
        });
    }
    Ok(found)
}

/// How many sessions are worth a place in a model's collection, and how many of them it lacks at their latest
/// revision.
///
/// # Errors
/// If Postgres fails.
pub async fn coverage(
    pool: &PgPool,
    model: &ModelSlug,
    eligible: Eligibility,
) -> Result<(u64, u64), StoreError> {
    let (wanted, missing): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE i.indexed_revision IS DISTINCT FROM s.revision)
         FROM sessions s LEFT JOIN indexed_sessions i ON i.session_id = s.id AND i.model = $1
         WHERE s.deleted_at IS NULL AND is_eligible(s.message_count, s.word_count, $2, $3)",
    )
    .bind(model.as_str())
    .bind(i64::from(eligible.min_messages))
    .bind(i64::from(eligible.lone_message_min_words))
    .fetch_one(pool)
    .await?;
    Ok((unsigned(wanted), unsigned(missing)))
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
