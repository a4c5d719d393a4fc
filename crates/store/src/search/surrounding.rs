//! What was said around a find.

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, MessageId, SearchText, UserId};
use sqlx::{FromRow, PgPool};

use super::numbers;
use crate::StoreError;

/// A part of a channel's talk whose neighbours are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The channel or thread.
    pub channel_id: ChannelId,
    /// The first message of the session that the part is of.
    pub first_message_id: MessageId,
    /// Its first message.
    pub from: (DateTime<Utc>, MessageId),
    /// Its last message.
    pub to: (DateTime<Utc>, MessageId),
}

/// On which side of a span a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before its first message.
    Before,
    /// After its last.
    After,
}

/// A message beside a span.
#[derive(Debug, Clone)]
pub struct SurroundingMessage {
    /// Which of the spans that were given, from 0.
    pub span: usize,
    /// Where it stands.
    pub side: Side,
    /// The message.
    pub id: MessageId,
    /// Who wrote it.
    pub author_id: UserId,
    /// By which name.
    pub author_name: String,
    /// When it was sent.
    pub sent_at: DateTime<Utc>,
    /// Its text, at most as many characters as were asked for.
    pub text: SearchText,
    /// Whether it is of the same session.
    pub in_session: bool,
}

/// The `count` live messages before and after each span, in the order of the spans and then of the channel: those
/// that stand in sessions, so nothing of members who opted out, nor what nobody has looked at yet. Spans outside of
/// the channels, where given, have none. Texts are cut after `max_chars` characters.
///
/// # Errors
/// If Postgres fails.
pub async fn surrounding(
    pool: &PgPool,
    guild: GuildId,
    channels: Option<&[ChannelId]>,
    spans: &[Span],
    count: u32,
    max_chars: i32,
) -> Result<Vec<SurroundingMessage>, StoreError> {
    let rows: Vec<SurroundingRow> = sqlx::query_as(
        "SELECT u.place, n.earlier, n.id, n.author_id,
                coalesce(n.webhook_name, w.name, n.author_id::text) AS author_name, n.sent_at, n.text,
                n.first_message_id = u.first_message_id AS in_session
         FROM UNNEST($2::bigint[], $3::bigint[], $4::timestamptz[], $5::bigint[], $6::timestamptz[], $7::bigint[])
              WITH ORDINALITY AS u (channel_id, first_message_id, from_time, from_id, to_time, to_id, place)
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
         ORDER BY u.place, n.sent_at, n.id",
    )
    .bind(guild.get())
    .bind(spans.iter().map(|span| span.channel_id.get()).collect::<Vec<_>>())
    .bind(spans.iter().map(|span| span.first_message_id.get()).collect::<Vec<_>>())
    .bind(spans.iter().map(|span| span.from.0).collect::<Vec<_>>())
    .bind(spans.iter().map(|span| span.from.1.get()).collect::<Vec<_>>())
    .bind(spans.iter().map(|span| span.to.0).collect::<Vec<_>>())
    .bind(spans.iter().map(|span| span.to.1.get()).collect::<Vec<_>>())
    .bind(i64::from(count))
    .bind(max_chars)
    .bind(numbers(channels))
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(SurroundingRow::read).collect()
}

#[derive(FromRow)]
struct SurroundingRow {
    place: i64,
    earlier: bool,
    id: i64,
    author_id: i64,
    author_name: String,
    sent_at: DateTime<Utc>,
    text: String,
    in_session: bool,
}

impl SurroundingRow {
    fn read(self) -> Result<SurroundingMessage, StoreError> {
        Ok(SurroundingMessage {
            // Postgres counts from 1.
            span: usize::try_from(self.place - 1).map_err(|e| StoreError::Corrupt(e.to_string()))?,
            side: if self.earlier { Side::Before } else { Side::After },
            id: self.id.try_into()?,
            author_id: self.author_id.try_into()?,
            author_name: self.author_name,
            sent_at: self.sent_at,
            text: SearchText::from_parts([self.text.as_str()]),
            in_session: self.in_session,
        })
    }
}
