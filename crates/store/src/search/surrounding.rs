use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, MessageId, SearchText, UserId};
use sqlx::{FromRow, PgPool};

use crate::StoreError;

/// Part of a session whose surrounding messages are requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Channel or thread.
    pub channel_id: ChannelId,
    /// First message of the session.
    pub first_message_id: MessageId,
    /// First message of the part.
    pub from: (DateTime<Utc>, MessageId),
    /// Last message of the part.
    pub to: (DateTime<Utc>, MessageId),
}

/// Side of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before the first message.
    Before,
    /// After the last message.
    After,
}

/// A message before or after a span.
#[derive(Debug, Clone)]
pub struct SurroundingMessage {
    /// Index of the span, from 0.
    pub span: usize,
    /// Side of the span.
    pub side: Side,
    /// Message id.
    pub id: MessageId,
    /// Author.
    pub author_id: UserId,
    /// Author's current name, or the name that a webhook posted under.
    pub author_name: String,
    /// Time of sending.
    pub sent_at: DateTime<Utc>,
    /// Text, truncated to the requested length.
    pub text: SearchText,
    /// Whether the message is in the span's session.
    pub in_session: bool,
}

/// Returns up to `count` live messages before and after each span, in the order of the spans and then of the
/// channel. Only messages in sessions are returned, so none of members who opted out, and none that was not
/// checked yet. Spans outside of the channels, if given, have none. Texts are truncated to
/// `max_chars` characters.
pub async fn surrounding(
    pool: &PgPool,
    guild: GuildId,
    channels: Option<&[ChannelId]>,
    spans: &[Span],
    count: u32,
    max_chars: i32,
) -> Result<Vec<SurroundingMessage>, StoreError> {
    let rows: Vec<SurroundingRow> = sqlx::query_as(
        "SELECT u.position, n.earlier, n.id, n.author_id, coalesce(n.webhook_name, w.name, n.author_id::text) AS author_name,
                n.sent_at, n.text,
                n.first_message_id = u.first_message_id AS in_session
         FROM UNNEST($2::bigint[], $3::bigint[], $4::timestamptz[], $5::bigint[], $6::timestamptz[], $7::bigint[])
              WITH ORDINALITY AS u (channel_id, first_message_id, from_time, from_id, to_time, to_id, position)
         CROSS JOIN LATERAL (
             (SELECT true AS earlier, m.id, m.author_id, m.webhook_name, m.sent_at, left(m.text, $9) AS text,
                     m.first_message_id
              FROM messages m
              WHERE m.guild_id = $1 AND m.channel_id = u.channel_id AND m.first_message_id IS NOT NULL
                AND m.excluded_reason IS NULL AND m.deleted_at IS NULL AND m.text <> ''
                AND (m.sent_at, m.id) < (u.from_time, u.from_id)
              ORDER BY m.sent_at DESC, m.id DESC LIMIT $8)
             UNION ALL
             (SELECT false, m.id, m.author_id, m.webhook_name, m.sent_at, left(m.text, $9), m.first_message_id
              FROM messages m
              WHERE m.guild_id = $1 AND m.channel_id = u.channel_id AND m.first_message_id IS NOT NULL
                AND m.excluded_reason IS NULL AND m.deleted_at IS NULL AND m.text <> ''
                AND (m.sent_at, m.id) > (u.to_time, u.to_id)
              ORDER BY m.sent_at, m.id LIMIT $8)) n
         LEFT JOIN users w ON w.guild_id = $1 AND w.user_id = n.author_id
         WHERE $10::bigint[] IS NULL OR u.channel_id = ANY($10)
         ORDER BY u.position, n.sent_at, n.id",
    )
    .bind(guild)
    .bind(spans.iter().map(|span| span.channel_id).collect::<Vec<_>>())
    .bind(spans.iter().map(|span| span.first_message_id).collect::<Vec<_>>())
    .bind(spans.iter().map(|span| span.from.0).collect::<Vec<_>>())
    .bind(spans.iter().map(|span| span.from.1).collect::<Vec<_>>())
    .bind(spans.iter().map(|span| span.to.0).collect::<Vec<_>>())
    .bind(spans.iter().map(|span| span.to.1).collect::<Vec<_>>())
    .bind(i64::from(count))
    .bind(max_chars)
    .bind(channels)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(SurroundingMessage::try_from).collect()
}

#[derive(FromRow)]
struct SurroundingRow {
    position: i64,
    earlier: bool,
    id: MessageId,
    author_id: UserId,
    author_name: String,
    sent_at: DateTime<Utc>,
    text: SearchText,
    in_session: bool,
}

impl TryFrom<SurroundingRow> for SurroundingMessage {
    type Error = StoreError;

    fn try_from(row: SurroundingRow) -> Result<Self, StoreError> {
        Ok(Self {
            // WITH ORDINALITY counts from 1.
            span: usize::try_from(row.position - 1).map_err(|e| StoreError::Corrupt(e.to_string()))?,
            side: if row.earlier { Side::Before } else { Side::After },
            id: row.id,
            author_id: row.author_id,
            author_name: row.author_name,
            sent_at: row.sent_at,
            text: row.text,
            in_session: row.in_session,
        })
    }
}
