//! What a search reads of the truth: which hits may be shown, and what is shown of them.

mod surrounding;
mod word_index;
mod words;

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, MessageId, ModelSlug, Revision, SearchText, SessionId};
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

pub use surrounding::{Side, Span, SurroundingMessage, surrounding};
pub use word_index::ensure_word_index;
pub use words::{Match, Words, by_words};

use crate::StoreError;
use crate::sessions::SessionMessage;

/// A session as a search shows it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The session.
    pub id: SessionId,
    /// Its tenant.
    pub guild_id: GuildId,
    /// Its channel or thread.
    pub channel_id: ChannelId,
    /// The channel's name.
    pub channel_name: String,
    /// The message that names it, which may be gone.
    pub first_message_id: MessageId,
    /// When its first and last messages were sent.
    pub span: (DateTime<Utc>, DateTime<Utc>),
    /// Its live messages with text, in order.
    pub messages: Vec<SessionMessage>,
}

/// A hit that asks to be shown: a session, and the revision of the point that was hit.
pub type HitKey = (SessionId, Revision);

/// Which of the hits may be shown: those on sessions of the guild (and, where given, of the channels) that are
/// live, whose point is of exactly the recorded revision, and from which nothing was removed since.
///
/// # Errors
/// If Postgres fails.
pub async fn visible(
    pool: &PgPool,
    guild: GuildId,
    channels: Option<&[ChannelId]>,
    hits: &[HitKey],
    model: &ModelSlug,
) -> Result<HashSet<HitKey>, StoreError> {
    let (ids, revisions): (Vec<Uuid>, Vec<i64>) = hits.iter().map(|(s, r)| (s.get(), r.get())).unzip();
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(
        "SELECT DISTINCT s.id, i.point_revision
         FROM UNNEST($2::uuid[], $3::bigint[]) AS u (id, revision)
         JOIN sessions s ON s.id = u.id AND s.guild_id = $1 AND s.deleted_at IS NULL
              AND ($4::bigint[] IS NULL OR s.channel_id = ANY($4))
         JOIN indexed_sessions i ON i.session_id = s.id AND i.model = $5
              AND i.point_revision = u.revision AND i.indexed_revision >= s.last_removal_revision",
    )
    .bind(guild.get())
    .bind(ids)
    .bind(revisions)
    .bind(numbers(channels))
    .bind(model.as_str())
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(id, revision)| (id.into(), revision.into())).collect())
}

/// Joins hits with the truth: the sessions of those that are [`visible`], each once, as they are now.
///
/// # Errors
/// If Postgres fails.
pub async fn show(
    pool: &PgPool,
    guild: GuildId,
    channels: Option<&[ChannelId]>,
    hits: &[HitKey],
    model: &ModelSlug,
) -> Result<Vec<Shown>, StoreError> {
    let wanted = hits.iter().map(|(session, revision)| (session.get(), Some(revision.get())));
    read(pool, guild, channels, wanted.unzip(), Some(model)).await
}

/// The sessions of the guild (and, where given, of the channels) that are live, whatever an index holds of them.
///
/// # Errors
/// If Postgres fails.
pub async fn live(
    pool: &PgPool,
    guild: GuildId,
    channels: Option<&[ChannelId]>,
    sessions: &[SessionId],
) -> Result<Vec<Shown>, StoreError> {
    let wanted = sessions.iter().map(|session| (session.get(), None));
    read(pool, guild, channels, wanted.unzip(), None).await
}

/// Reads sessions with their live messages in one statement, so that what is checked and what is shown belong
/// together. A revision asks for points of that revision in the model's books.
async fn read(
    pool: &PgPool,
    guild: GuildId,
    channels: Option<&[ChannelId]>,
    (ids, revisions): (Vec<Uuid>, Vec<Option<i64>>),
    model: Option<&ModelSlug>,
) -> Result<Vec<Shown>, StoreError> {
    let rows: Vec<ShownRow> = sqlx::query_as(
        "SELECT s.id, s.guild_id, s.channel_id, c.name AS channel_name, s.first_message_id,
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
    .bind(guild.get())
    .bind(ids)
    .bind(revisions)
    .bind(numbers(channels))
    .bind(model.map(ModelSlug::as_str))
    .fetch_all(pool)
    .await?;
    let mut shown: Vec<Shown> = Vec::new();
    for row in rows {
        let (mut session, message) = row.read()?;
        match shown.last_mut().filter(|last| last.id == session.id) {
            Some(last) => {
                last.span.1 = message.sent_at;
                last.messages.push(message);
            }
            None => {
                session.messages.push(message);
                shown.push(session);
            }
        }
    }
    Ok(shown)
}

#[derive(FromRow)]
struct ShownRow {
    id: Uuid,
    guild_id: i64,
    channel_id: i64,
    channel_name: String,
    first_message_id: i64,
    message_id: i64,
    author_id: i64,
    author_name: String,
    sent_at: DateTime<Utc>,
    text: String,
    words: i32,
}

impl ShownRow {
    fn read(self) -> Result<(Shown, SessionMessage), StoreError> {
        let message = SessionMessage {
            id: self.message_id.try_into()?,
            author_id: self.author_id.try_into()?,
            author_name: self.author_name,
            sent_at: self.sent_at,
            text: SearchText::from_parts([self.text.as_str()]),
            words: u32::try_from(self.words).unwrap_or(0),
        };
        let session = Shown {
            id: self.id.into(),
            guild_id: self.guild_id.try_into()?,
            channel_id: self.channel_id.try_into()?,
            channel_name: self.channel_name,
            first_message_id: self.first_message_id.try_into()?,
            span: (self.sent_at, self.sent_at),
            messages: Vec::new(),
        };
        Ok((session, message))
    }
}

fn numbers(channels: Option<&[ChannelId]>) -> Option<Vec<i64>> {
    channels.map(|ids| ids.iter().map(|id| id.get()).collect())
}
