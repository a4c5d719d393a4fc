use std::collections::HashSet;

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, Message, MessageId};
use sqlx::PgConnection;

use super::row::{AssignedMessage, AssignedRow, MessageRow};
use crate::StoreError;

/// Position of a message in its channel.
pub type Position = (DateTime<Utc>, MessageId);

/// Returns the assigned messages of a channel that were sent at or after `since` and precede `before`, in
/// order.
pub async fn assigned_before(
    db: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    since: DateTime<Utc>,
    before: Position,
) -> Result<Vec<AssignedMessage>, StoreError> {
    let rows: Vec<AssignedRow> = sqlx::query_as(
        "SELECT id, author_id, sent_at, reply_to, mentions, first_message_id FROM messages
         WHERE guild_id = $1 AND channel_id = $2 AND first_message_id IS NOT NULL
           AND sent_at >= $3 AND (sent_at, id) < ($4, $5)
         ORDER BY sent_at, id",
    )
    .bind(guild)
    .bind(channel)
    .bind(since)
    .bind(before.0)
    .bind(before.1)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(AssignedMessage::from).collect())
}

/// Returns up to `limit` assigned messages of a channel that follow `after`, in order.
pub async fn assigned_after(
    db: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    after: Position,
    limit: i64,
) -> Result<Vec<AssignedMessage>, StoreError> {
    let rows: Vec<AssignedRow> = sqlx::query_as(
        "SELECT id, author_id, sent_at, reply_to, mentions, first_message_id FROM messages
         WHERE guild_id = $1 AND channel_id = $2 AND first_message_id IS NOT NULL
           AND (sent_at, id) > ($3, $4)
         ORDER BY sent_at, id LIMIT $5",
    )
    .bind(guild)
    .bind(channel)
    .bind(after.0)
    .bind(after.1)
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(AssignedMessage::from).collect())
}

/// Returns up to `limit` live messages of a channel that are in no session and may belong in one, in order:
/// those that were not assigned yet, and, with `include_bots`, those excluded as bots.
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
    .bind(guild)
    .bind(channel)
    .bind(include_bots)
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| row.into_message(guild, channel)).collect())
}

/// Returns those of the messages of one channel that have a row, tombstones included.
pub async fn stored(
    db: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    ids: &[MessageId],
) -> Result<HashSet<MessageId>, StoreError> {
    let (Some(lowest), Some(highest)) = (ids.iter().min(), ids.iter().max()) else {
        return Ok(HashSet::new());
    };
    let found: Vec<MessageId> = sqlx::query_scalar(
        // A new page of an import has no stored message between its first and last: one lookup replaces
        // thousands. Not
        // `id = ANY`: where Postgres picks an index without the id after the channel, it scans the whole channel for each.
        "SELECT u.id FROM UNNEST($3::bigint[]) AS u (id)
         WHERE EXISTS (SELECT FROM messages WHERE guild_id = $1 AND channel_id = $2 AND id BETWEEN $4 AND $5)
           AND EXISTS (SELECT FROM messages m
                       WHERE m.guild_id = $1 AND m.channel_id = $2 AND m.id = u.id AND m.id BETWEEN $4 AND $5)",
    )
    .bind(guild)
    .bind(channel)
    .bind(ids)
    .bind(lowest)
    .bind(highest)
    .fetch_all(db)
    .await?;
    Ok(found.into_iter().collect())
}
