use std::collections::HashSet;

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, MessageId, ModelSlug, Revision, SessionId};
use sqlx::{FromRow, PgPool};

use crate::StoreError;
use crate::sessions::SessionMessage;

/// A session as a search returns it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Session id.
    pub id: SessionId,
    /// Tenant.
    pub guild_id: GuildId,
    /// Channel or thread.
    pub channel_id: ChannelId,
    /// Name of the channel.
    pub channel_name: String,
    /// First message, which names the session and may be deleted.
    pub first_message_id: MessageId,
    /// Times at which the first and last live messages were sent.
    pub span: (DateTime<Utc>, DateTime<Utc>),
    /// Live messages with text, in order.
    pub messages: Vec<SessionMessage>,
}

/// A hit: its session, and the revision of its point.
pub type HitKey = (SessionId, Revision);

/// Returns the visible hits: the session is live and in the guild (and in one of the channels, if given), the
/// point has exactly the recorded revision, and nothing was removed from the session since.
pub async fn visible(
    pool: &PgPool,
    guild: GuildId,
    channels: Option<&[ChannelId]>,
    hits: &[HitKey],
    model: &ModelSlug,
) -> Result<HashSet<HitKey>, StoreError> {
    let (ids, revisions): (Vec<SessionId>, Vec<Revision>) = hits.iter().copied().unzip();
    let rows: Vec<HitKey> = sqlx::query_as(
        "/* search.visible */
         SELECT DISTINCT s.id, i.point_revision
         FROM UNNEST($2::uuid[], $3::bigint[]) AS u (id, revision)
         JOIN sessions s ON s.id = u.id AND s.guild_id = $1 AND s.deleted_at IS NULL
              AND ($4::bigint[] IS NULL OR s.channel_id = ANY($4))
         JOIN indexed_sessions i ON i.session_id = s.id AND i.model = $5
              AND i.point_revision = u.revision AND i.indexed_revision >= s.last_removal_revision",
    )
    .bind(guild)
    .bind(ids)
    .bind(revisions)
    .bind(channels)
    .bind(model)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Returns the sessions of the [`visible`] hits as they are now, each once.
pub async fn show(
    pool: &PgPool,
    guild: GuildId,
    channels: Option<&[ChannelId]>,
    hits: &[HitKey],
    model: &ModelSlug,
) -> Result<Vec<Shown>, StoreError> {
    let keys = hits.iter().map(|(session, revision)| (*session, Some(*revision)));
    read(pool, guild, channels, keys.unzip(), Some(model)).await
}

/// Returns live sessions of the guild (and of the channels, if given), whether they are indexed or not.
pub async fn live(
    pool: &PgPool,
    guild: GuildId,
    channels: Option<&[ChannelId]>,
    sessions: &[SessionId],
) -> Result<Vec<Shown>, StoreError> {
    let keys = sessions.iter().map(|session| (*session, None));
    read(pool, guild, channels, keys.unzip(), None).await
}

/// Reads sessions with their live messages in one statement, so that what is checked is what is shown. With a
/// revision, the session is read only if its record in the model's collection has that revision.
async fn read(
    pool: &PgPool,
    guild: GuildId,
    channels: Option<&[ChannelId]>,
    (ids, revisions): (Vec<SessionId>, Vec<Option<Revision>>),
    model: Option<&ModelSlug>,
) -> Result<Vec<Shown>, StoreError> {
    let rows: Vec<ShownRow> = sqlx::query_as(
        "/* search.show */
         SELECT s.id, s.guild_id, s.channel_id, c.name AS channel_name, s.first_message_id,
                m.id AS message_id, m.author_id, coalesce(m.webhook_name, n.name, m.author_id::text) AS author_name,
                m.sent_at, m.text, m.words
         FROM (SELECT DISTINCT * FROM UNNEST($2::uuid[], $3::bigint[])) AS u (id, revision)
         JOIN sessions s ON s.id = u.id AND s.guild_id = $1 AND s.deleted_at IS NULL
              AND ($4::bigint[] IS NULL OR s.channel_id = ANY($4))
         JOIN channels c ON c.guild_id = s.guild_id AND c.id = s.channel_id
         LEFT JOIN indexed_sessions i ON i.session_id = s.id AND i.model = $5
         JOIN messages m ON m.guild_id = s.guild_id AND m.channel_id = s.channel_id
              AND m.first_message_id = s.first_message_id AND m.deleted_at IS NULL AND m.text <> ''
         LEFT JOIN users n ON n.guild_id = m.guild_id AND n.user_id = m.author_id
         WHERE u.revision IS NULL
            OR (i.point_revision = u.revision AND i.indexed_revision >= s.last_removal_revision)
         ORDER BY s.id, m.sent_at, m.id",
    )
    .bind(guild)
    .bind(ids)
    .bind(revisions)
    .bind(channels)
    .bind(model)
    .fetch_all(pool)
    .await?;
    let mut shown: Vec<Shown> = Vec::new();
    for row in rows {
        match shown.last_mut().filter(|last| last.id == row.id) {
            Some(last) => {
                last.span.1 = row.message.sent_at;
                last.messages.push(row.message);
            }
            None => shown.push(row.into()),
        }
    }
    Ok(shown)
}

#[derive(FromRow)]
struct ShownRow {
    id: SessionId,
    guild_id: GuildId,
    channel_id: ChannelId,
    channel_name: String,
    first_message_id: MessageId,
    #[sqlx(flatten)]
    message: SessionMessage,
}

impl From<ShownRow> for Shown {
    fn from(row: ShownRow) -> Self {
        Self {
            id: row.id,
            guild_id: row.guild_id,
            channel_id: row.channel_id,
            channel_name: row.channel_name,
            first_message_id: row.first_message_id,
            span: (row.message.sent_at, row.message.sent_at),
            messages: vec![row.message],
        }
    }
}
