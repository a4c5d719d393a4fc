use chrono::{DateTime, Utc};
use guildex_types::{
    ChannelId, GuildId, MessageId, ModelSlug, PointId, Revision, SearchText, SessionId, UserId,
};
use sqlx::{FromRow, PgPool};

use crate::StoreError;

/// A session as an index job needs it.
#[derive(Debug, Clone)]
pub struct Session {
    /// Session id.
    pub id: SessionId,
    /// Tenant.
    pub guild_id: GuildId,
    /// Channel or thread.
    pub channel_id: ChannelId,
    /// Name of the channel.
    pub channel_name: String,
    /// Language of the guild, if it is set.
    pub language: Option<String>,
    /// First message, which names the session.
    pub first_message_id: MessageId,
    /// Revision that was read.
    pub revision: Revision,
    /// Live messages with text, in order. Empty for a tombstone.
    pub messages: Vec<SessionMessage>,
    /// Record of the model's collection, if the session is in it.
    pub indexed: Option<Indexed>,
}

/// A message of a session.
#[derive(Debug, Clone, FromRow)]
pub struct SessionMessage {
    /// Message id.
    #[sqlx(rename = "message_id")]
    pub id: MessageId,
    /// Author.
    pub author_id: UserId,
    /// Author's current name, or the name that a webhook posted under.
    pub author_name: String,
    /// Time of sending.
    pub sent_at: DateTime<Utc>,
    /// Text.
    pub text: SearchText,
    /// Number of words, by Unicode segmentation.
    #[sqlx(try_from = "i32")]
    pub words: u32,
}

/// Record of a session in a model's collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexed {
    /// Revision of the points.
    pub point_revision: Revision,
    /// Hash of what the points were made from; `None` while they are being rewritten.
    pub content_hash: Option<Vec<u8>>,
    /// Ids of the points, one per chunk, in order.
    pub point_ids: Vec<PointId>,
}

/// Loads sessions in one statement, so that revision and messages are consistent. Sessions that do not exist
/// in the given guild are left out.
pub async fn load(
    pool: &PgPool,
    sessions: &[(GuildId, SessionId)],
    model: &ModelSlug,
) -> Result<Vec<Session>, StoreError> {
    let (guilds, ids): (Vec<GuildId>, Vec<SessionId>) = sessions.iter().copied().unzip();
    let rows: Vec<LoadedRow> = sqlx::query_as(
        "/* sessions.load */
         SELECT s.id, s.guild_id, s.channel_id, c.name AS channel_name, g.language, s.first_message_id, s.revision,
                i.point_revision, i.content_hash, i.point_ids,
                m.id AS message_id, m.author_id, coalesce(m.webhook_name, n.name, m.author_id::text) AS author_name,
                m.sent_at, m.text, m.words
         FROM UNNEST($1::bigint[], $2::uuid[]) AS u (guild_id, id)
         JOIN sessions s ON s.id = u.id AND s.guild_id = u.guild_id
         JOIN channels c ON c.guild_id = s.guild_id AND c.id = s.channel_id
         JOIN guilds g ON g.id = s.guild_id
         LEFT JOIN indexed_sessions i ON i.session_id = s.id AND i.model = $3
         LEFT JOIN messages m ON m.guild_id = s.guild_id AND m.channel_id = s.channel_id
              AND m.first_message_id = s.first_message_id AND m.deleted_at IS NULL AND m.text <> ''
         LEFT JOIN users n ON n.guild_id = m.guild_id AND n.user_id = m.author_id
         ORDER BY s.id, m.sent_at, m.id",
    )
    .bind(guilds)
    .bind(ids)
    .bind(model)
    .fetch_all(pool)
    .await?;
    let mut loaded: Vec<Session> = Vec::with_capacity(sessions.len());
    for row in rows {
        if loaded.last().is_none_or(|last| last.id != row.id) {
            loaded.push(row.session());
        }
        if let (Some(last), Some(message)) = (loaded.last_mut(), row.message()) {
            last.messages.push(message);
        }
    }
    Ok(loaded)
}

#[derive(FromRow)]
struct LoadedRow {
    id: SessionId,
    guild_id: GuildId,
    channel_id: ChannelId,
    channel_name: String,
    language: Option<String>,
    first_message_id: MessageId,
    revision: Revision,
    point_revision: Option<Revision>,
    content_hash: Option<Vec<u8>>,
    point_ids: Option<Vec<PointId>>,
    message_id: Option<MessageId>,
    author_id: Option<UserId>,
    author_name: Option<String>,
    sent_at: Option<DateTime<Utc>>,
    text: Option<SearchText>,
    words: Option<i32>,
}

impl LoadedRow {
    fn session(&self) -> Session {
        Session {
            id: self.id,
            guild_id: self.guild_id,
            channel_id: self.channel_id,
            channel_name: self.channel_name.clone(),
            language: self.language.clone(),
            first_message_id: self.first_message_id,
            revision: self.revision,
            messages: Vec::new(),
            indexed: self.point_revision.map(|point_revision| Indexed {
                point_revision,
                content_hash: self.content_hash.clone(),
                point_ids: self.point_ids.clone().unwrap_or_default(),
            }),
        }
    }

    fn message(self) -> Option<SessionMessage> {
        Some(SessionMessage {
            id: self.message_id?,
            author_id: self.author_id?,
            author_name: self.author_name?,
            sent_at: self.sent_at?,
            text: self.text?,
            words: count(self.words),
        })
    }
}

fn count(number: Option<i32>) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}
