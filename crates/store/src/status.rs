//! Numbers of stored, indexed, pending and dead items, per guild and per model.

use guildex_types::{ChannelId, Eligibility, GuildId, ModelSlug};
use serde::Serialize;
use sqlx::{FromRow, PgPool};

use crate::StoreError;
use crate::models::{self, ModelState};
use crate::sql::unsigned;

/// Numbers of a guild.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct GuildStatus {
    /// Tenant.
    #[sqlx(rename = "id")]
    pub guild_id: GuildId,
    /// Name of the guild.
    pub name: String,
    /// Live messages, including those in no session.
    pub messages: i64,
    /// Live sessions.
    pub sessions: i64,
    /// Eligible live sessions.
    pub eligible: i64,
    /// Eligible sessions that the model's collection holds at their latest revision.
    pub indexed: i64,
    /// Points of those sessions.
    pub points: i64,
    /// Unfinished jobs.
    pub pending: i64,
    /// Dead jobs.
    pub dead: i64,
    /// Age of the oldest unfinished job, in seconds.
    pub oldest_pending_seconds: Option<f64>,
}

/// Returns the numbers of every guild, or of one, ordered by id.
pub async fn guilds(
    pool: &PgPool,
    only: Option<GuildId>,
    model: &ModelSlug,
    eligible: Eligibility,
) -> Result<Vec<GuildStatus>, StoreError> {
    Ok(sqlx::query_as(
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
                    FROM jobs WHERE is_unfinished(state) OR state = 'dead' GROUP BY 1) j
              ON j.guild_id = g.id
         WHERE $1::bigint IS NULL OR g.id = $1
         ORDER BY g.id",
    )
    .bind(only)
    .bind(i64::from(eligible.min_messages))
    .bind(i64::from(eligible.lone_message_min_words))
    .bind(model)
    .fetch_all(pool)
    .await?)
}

/// Counts a backfill's remaining work in a guild or one of its channels: messages that are in no session and
/// may belong in one, and eligible sessions that the model's collection does not hold at their latest
/// revision.
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
    .bind(guild)
    .bind(only)
    .bind(include_bots)
    .bind(model)
    .bind(i64::from(eligible.min_messages))
    .bind(i64::from(eligible.lone_message_min_words))
    .fetch_one(pool)
    .await?;
    Ok((unsigned(messages), unsigned(sessions)))
}

/// Numbers of a model, over all guilds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelStatus {
    /// Model name.
    pub model: ModelSlug,
    /// State of the collection.
    pub state: ModelState,
    /// Length of the vectors.
    pub dimensions: usize,
    /// Eligible sessions that the collection holds at their latest revision.
    pub indexed: u64,
    /// Eligible sessions that the collection does not hold at their latest revision.
    pub missing: u64,
    /// Recorded points.
    pub points: u64,
}

/// Returns the numbers of every model with a collection, ordered by name.
pub async fn models(pool: &PgPool, eligible: Eligibility) -> Result<Vec<ModelStatus>, StoreError> {
    let mut found = Vec::new();
    for model in models::list(pool).await? {
        let (eligible_sessions, missing) = coverage(pool, &model.slug, eligible).await?;
        let points: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(points), 0)::bigint FROM indexed_sessions WHERE model = $1",
        )
        .bind(&model.slug)
        .fetch_one(pool)
        .await?;
        found.push(ModelStatus {
            model: model.slug,
            state: model.state,
            dimensions: model.dimensions,
            indexed: eligible_sessions - missing,
            missing,
            points: unsigned(points),
        });
    }
    Ok(found)
}

/// Counts eligible sessions, and those of them that the model's collection does not hold at their latest
/// revision.
pub async fn coverage(
    pool: &PgPool,
    model: &ModelSlug,
    eligible: Eligibility,
) -> Result<(u64, u64), StoreError> {
    let (eligible_sessions, missing): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE i.indexed_revision IS DISTINCT FROM s.revision)
         FROM sessions s LEFT JOIN indexed_sessions i ON i.session_id = s.id AND i.model = $1
         WHERE s.deleted_at IS NULL AND is_eligible(s.message_count, s.word_count, $2, $3)",
    )
    .bind(model)
    .bind(i64::from(eligible.min_messages))
    .bind(i64::from(eligible.lone_message_min_words))
    .fetch_one(pool)
    .await?;
    Ok((unsigned(eligible_sessions), unsigned(missing)))
}
