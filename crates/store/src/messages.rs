//! Messages: writing them as they come, and reading a channel in order.

mod write;

use chrono::{DateTime, Utc};
use guildex_types::{
    Author, ChannelId, ExcludedReason, GuildId, Links, Message, MessageId, MessageKind, SearchText, UserId,
};
use sqlx::{FromRow, PgConnection};

pub use self::write::{NewMessage, apply_edits, insert, stored};
use crate::StoreError;

/// A message's words, as Postgres counts them.
fn words(message: &Message) -> i32 {
    i32::try_from(message.text.words()).unwrap_or(i32::MAX)
}

/// A message as the sessionizer sees it: its links, and the session that it is in so far. Deleted ones are
/// among them, since a deletion moves nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedMessage {
    /// The message.
    pub id: MessageId,
    /// Its author.
    pub author: UserId,
    /// When it was sent.
    pub sent_at: DateTime<Utc>,
    /// What it points at.
    pub links: Links,
    /// The first message of its session; `None` until it is placed.
    pub first_message_id: Option<MessageId>,
}

/// A place in the order of a channel.
pub type Position = (DateTime<Utc>, MessageId);

/// The placed messages of a channel that were sent at `since` or later and stand before `before`, in order.
///
/// # Errors
/// If Postgres fails.
pub async fn assigned_before(
    db: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    since: DateTime<Utc>,
    before: Position,
) -> Result<Vec<AssignedMessage>, StoreError> {
    let rows: Vec<PlacedRow> = sqlx::query_as(
        "SELECT id, author_id, sent_at, reply_to, mentions, first_message_id FROM messages
         WHERE guild_id = $1 AND channel_id = $2 AND first_message_id IS NOT NULL
           AND sent_at >= $3 AND (sent_at, id) < ($4, $5)
         ORDER BY sent_at, id",
    )
    .bind(guild.get())
    .bind(channel.get())
    .bind(since)
    .bind(before.0)
    .bind(before.1.get())
    .fetch_all(db)
    .await?;
    rows.into_iter().map(PlacedRow::read).collect()
}

/// Up to `limit` placed messages of a channel that stand after `after`, in order.
///
/// # Errors
/// If Postgres fails.
pub async fn assigned_after(
    db: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    after: Position,
    limit: i64,
) -> Result<Vec<AssignedMessage>, StoreError> {
    let rows: Vec<PlacedRow> = sqlx::query_as(
        "SELECT id, author_id, sent_at, reply_to, mentions, first_message_id FROM messages
         WHERE guild_id = $1 AND channel_id = $2 AND first_message_id IS NOT NULL
           AND (sent_at, id) > ($3, $4)
         ORDER BY sent_at, id LIMIT $5",
    )
    .bind(guild.get())
    .bind(channel.get())
    .bind(after.0)
    .bind(after.1.get())
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.into_iter().map(PlacedRow::read).collect()
}

#[derive(FromRow)]
struct PlacedRow {
    id: i64,
    author_id: i64,
    sent_at: DateTime<Utc>,
    reply_to: Option<i64>,
    mentions: Vec<i64>,
    first_message_id: Option<i64>,
}

impl PlacedRow {
    fn read(self) -> Result<AssignedMessage, StoreError> {
        Ok(AssignedMessage {
            id: self.id.try_into()?,
            author: self.author_id.try_into()?,
            sent_at: self.sent_at,
            links: links(self.reply_to, self.mentions),
            first_message_id: self.first_message_id.map(MessageId::try_from).transpose()?,
        })
    }
}

/// What is no id links to nothing: another program may have written it.
fn links(reply_to: Option<i64>, mentions: Vec<i64>) -> Links {
    Links {
        reply_to: reply_to.and_then(|id| MessageId::try_from(id).ok()),
        mentions: mentions.into_iter().filter_map(|id| UserId::try_from(id).ok()).collect(),
    }
}

/// Moves messages of one channel into sessions: pairs of a message and the first message of its session.
///
/// # Errors
/// If Postgres fails.
pub async fn set_session(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    moves: &[(MessageId, MessageId)],
) -> Result<(), StoreError> {
    if moves.is_empty() {
        return Ok(());
    }
    let (ids, firsts): (Vec<i64>, Vec<i64>) = moves.iter().map(|(m, first)| (m.get(), first.get())).unzip();
    sqlx::query(
        "UPDATE messages m SET first_message_id = u.first, excluded_reason = NULL
         FROM UNNEST($3::bigint[], $4::bigint[]) AS u (id, first)
         WHERE m.guild_id = $1 AND m.channel_id = $2 AND m.id = u.id
           AND m.id BETWEEN (SELECT min(id) FROM UNNEST($3) AS id) AND (SELECT max(id) FROM UNNEST($3) AS id)",
    )
    .bind(guild.get())
    .bind(channel.get())
    .bind(ids)
    .bind(firsts)
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes why messages of one channel are in no session, and how many words they have: for rows that another
/// program wrote.
///
/// # Errors
/// If Postgres fails.
pub async fn set_exclusions(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    notes: &[(&Message, Option<ExcludedReason>)],
) -> Result<(), StoreError> {
    let ids: Vec<i64> = notes.iter().map(|(m, _)| m.id.get()).collect();
    let words: Vec<i32> = notes.iter().map(|(m, _)| words(m)).collect();
    let skips: Vec<Option<&str>> =
        notes.iter().map(|(_, excluded_reason)| excluded_reason.map(ExcludedReason::as_str)).collect();
    sqlx::query(
        "UPDATE messages m SET words = u.words, excluded_reason = u.excluded_reason
         FROM UNNEST($3::bigint[], $4::int[], $5::text[]) AS u (id, words, excluded_reason)
         WHERE m.guild_id = $1 AND m.channel_id = $2 AND m.id = u.id
           AND (m.words, m.excluded_reason) IS DISTINCT FROM (u.words, u.excluded_reason)",
    )
    .bind(guild.get())
    .bind(channel.get())
    .bind(ids)
    .bind(words)
    .bind(skips)
    .execute(tx)
    .await?;
    Ok(())
}

/// Up to `limit` live messages of a channel that are in no session and may belong in one, in order: those never
/// looked at, and with `include_bots` those left out as bots.
///
/// # Errors
/// If Postgres fails.
pub async fn unassigned(
    db: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    include_bots: bool,
    limit: i64,
) -> Result<Vec<Message>, StoreError> {
    let rows: Vec<MessageRow> = sqlx::query_as(
        "SELECT m.id, m.author_id, m.webhook_name, n.username, n.global_name, n.display_name, m.is_bot, m.is_system,
                m.sent_at, m.edited_at, m.reply_to, m.mentions, m.text
         FROM messages m
         LEFT JOIN users n ON n.guild_id = m.guild_id AND n.user_id = m.author_id
         WHERE m.guild_id = $1 AND m.channel_id = $2 AND m.first_message_id IS NULL AND m.deleted_at IS NULL
           AND (m.excluded_reason IS NULL OR ($3 AND m.excluded_reason = 'bot'))
         ORDER BY m.sent_at, m.id LIMIT $4",
    )
    .bind(guild.get())
    .bind(channel.get())
    .bind(include_bots)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.into_iter().map(|row| row.read(guild, channel)).collect()
}

#[derive(FromRow)]
struct MessageRow {
    id: i64,
    author_id: i64,
    webhook_name: Option<String>,
    username: Option<String>,
    global_name: Option<String>,
    display_name: Option<String>,
    is_bot: bool,
    is_system: bool,
    sent_at: DateTime<Utc>,
    edited_at: Option<DateTime<Utc>>,
    reply_to: Option<i64>,
    mentions: Vec<i64>,
    text: String,
}

impl MessageRow {
    fn read(self, guild_id: GuildId, channel_id: ChannelId) -> Result<Message, StoreError> {
        Ok(Message {
            guild_id,
            channel_id,
            id: self.id.try_into()?,
            author: Author {
                id: self.author_id.try_into()?,
                is_webhook: self.webhook_name.is_some(),
                username: self.webhook_name.or(self.username).unwrap_or_default(),
                global_name: self.global_name,
                display_name: self.display_name,
                is_bot: self.is_bot,
            },
            kind: if self.is_system { MessageKind::System } else { MessageKind::Conversation },
            sent_at: self.sent_at,
            edited_at: self.edited_at,
            links: links(self.reply_to, self.mentions),
            text: SearchText::from_parts([self.text.as_str()]),
        })
    }
}
