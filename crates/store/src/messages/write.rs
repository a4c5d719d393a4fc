//! Writing messages as they come.

use std::collections::HashSet;

use chrono::{DateTime, SubsecRound, Utc};
use guildex_types::{ChannelId, ExcludedReason, GuildId, Message, MessageId, MessageKind};
use sqlx::PgConnection;

use super::{AssignedMessage, PlacedRow, words};
use crate::StoreError;
use crate::copy::Rows;

/// A message that is not stored yet, and its place.
#[derive(Debug, Clone, Copy)]
pub struct NewMessage<'a> {
    /// The message.
    pub message: &'a Message,
    /// Why it takes no part in sessions, if it does not.
    pub excluded_reason: Option<ExcludedReason>,
    /// The first message of its session; `None` for one that takes no part.
    pub first_message_id: Option<MessageId>,
}

/// Which of these messages of one channel have rows, be they tombstones.
///
/// # Errors
/// If Postgres fails.
pub async fn stored(
    db: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    ids: &[MessageId],
) -> Result<HashSet<MessageId>, StoreError> {
    let (Some(least), Some(most)) = (ids.iter().min(), ids.iter().max()) else { return Ok(HashSet::new()) };
    let found: Vec<i64> = sqlx::query_scalar(
        // A page of an import that is new has nothing stored between its first and its last message: one look then
        // spares thousands. Not `id = ANY`: where Postgres takes an index that has no id behind the channel, it goes
        // through the whole channel for each.
        "SELECT u.id FROM UNNEST($3::bigint[]) AS u (id)
         WHERE EXISTS (SELECT FROM messages WHERE guild_id = $1 AND channel_id = $2 AND id BETWEEN $4 AND $5)
           AND EXISTS (SELECT FROM messages m
                       WHERE m.guild_id = $1 AND m.channel_id = $2 AND m.id = u.id AND m.id BETWEEN $4 AND $5)",
    )
    .bind(guild.get())
    .bind(channel.get())
    .bind(ids.iter().map(|id| id.get()).collect::<Vec<_>>())
    .bind(least.get())
    .bind(most.get())
    .fetch_all(db)
    .await?;
    Ok(found.into_iter().map(MessageId::try_from).collect::<Result<_, _>>()?)
}

/// From so many messages on, `COPY` is faster than a statement. It takes a round trip more, and one that waits: its end
/// is a small packet of its own, which the kernel holds back until the server has acknowledged the rows (40 ms).
const MANY: usize = 2_000;

/// Writes messages of one channel that have no rows, each with its place.
///
/// # Errors
/// If Postgres fails; with [`StoreError::is_duplicate`] if somebody who does not hold the channel's lock wrote one of
/// them first.
pub async fn insert(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    fresh: &[NewMessage<'_>],
) -> Result<(), StoreError> {
    match fresh.len() {
        0 => Ok(()),
        1..MANY => state(tx, guild, channel, fresh).await,
        MANY.. => copy(tx, guild, channel, fresh).await,
    }
}

async fn state(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    fresh: &[NewMessage<'_>],
) -> Result<(), StoreError> {
    // Mentions are a list a message, and UNNEST flattens lists: they travel as array literals.
    let mentions = |message: &Message| {
        let ids: Vec<String> = message.links.mentions.iter().map(ToString::to_string).collect();
        format!("{{{}}}", ids.join(","))
    };
    sqlx::query(
        "INSERT INTO messages (guild_id, channel_id, id, author_id, webhook_name, is_bot, is_system, sent_at,
                               edited_at, reply_to, mentions, text, words, excluded_reason, first_message_id)
         SELECT $1, $2, u.id, u.author_id, u.webhook_name, u.is_bot, u.is_system, u.sent_at, u.edited_at, u.reply_to,
                u.mentions::bigint[], u.text, u.words, u.excluded_reason, u.first_message_id
         FROM UNNEST($3::bigint[], $4::bigint[], $5::text[], $6::bool[], $7::bool[], $8::timestamptz[],
                     $9::timestamptz[], $10::bigint[], $11::text[], $12::text[], $13::int[], $14::text[], $15::bigint[])
              AS u (id, author_id, webhook_name, is_bot, is_system, sent_at,
                    edited_at, reply_to, mentions, text, words, excluded_reason, first_message_id)",
    )
    .bind(guild.get())
    .bind(channel.get())
    .bind(fresh.iter().map(|new| new.message.id.get()).collect::<Vec<_>>())
    .bind(fresh.iter().map(|new| new.message.author.id.get()).collect::<Vec<_>>())
    .bind(fresh.iter().map(|new| new.message.author.webhook_name()).collect::<Vec<_>>())
    .bind(fresh.iter().map(|new| new.message.author.is_bot).collect::<Vec<_>>())
    .bind(fresh.iter().map(|new| new.message.kind == MessageKind::System).collect::<Vec<_>>())
    .bind(fresh.iter().map(|new| new.message.sent_at.trunc_subsecs(6)).collect::<Vec<_>>())
    .bind(fresh.iter().map(|new| new.message.edited_at.map(|at| at.trunc_subsecs(6))).collect::<Vec<_>>())
    .bind(fresh.iter().map(|new| new.message.links.reply_to.map(MessageId::get)).collect::<Vec<_>>())
    .bind(fresh.iter().map(|new| mentions(new.message)).collect::<Vec<_>>())
    .bind(fresh.iter().map(|new| new.message.text.as_str()).collect::<Vec<_>>())
    .bind(fresh.iter().map(|new| words(new.message)).collect::<Vec<_>>())
    .bind(fresh.iter().map(|new| new.excluded_reason.map(ExcludedReason::as_str)).collect::<Vec<_>>())
    .bind(fresh.iter().map(|new| new.first_message_id.map(MessageId::get)).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

async fn copy(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    fresh: &[NewMessage<'_>],
) -> Result<(), StoreError> {
    let mut rows = Rows::new(15);
    for NewMessage { message, excluded_reason, first_message_id } in fresh {
        rows.begin()
            .bigint(guild.get())
            .bigint(channel.get())
            .bigint(message.id.get())
            .bigint(message.author.id.get())
            .text(message.author.webhook_name())
            .boolean(message.author.is_bot)
            .boolean(message.kind == MessageKind::System)
            .time(message.sent_at)
            .time(message.edited_at)
            .bigint(message.links.reply_to.map(MessageId::get))
            .bigints(message.links.mentions.iter().map(|id| id.get()))
            .text(message.text.as_str())
            .integer(words(message))
            .text(excluded_reason.map(ExcludedReason::as_str))
            .bigint(first_message_id.map(MessageId::get));
    }
    rows.copy(
        tx,
        "COPY messages (guild_id, channel_id, id, author_id, webhook_name, is_bot, is_system, sent_at, edited_at,
                        reply_to, mentions, text, words, excluded_reason, first_message_id)
         FROM STDIN (FORMAT BINARY)",
    )
    .await
}

/// Takes over newer edits of stored messages of one channel; ids must be distinct. Returns those that changed, as they
/// are stored now, with the links that they were first seen with, in no particular order. Left out is what is stored
/// in the same or a newer edit, was deleted, or has no row.
///
/// Each comes with why it takes no part in sessions, if it does not.
///
/// # Errors
/// If Postgres fails.
pub async fn apply_edits(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    messages: &[(&Message, Option<ExcludedReason>)],
) -> Result<Vec<AssignedMessage>, StoreError> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<PlacedRow> = sqlx::query_as(
        "UPDATE messages m
         SET edited_at = u.edited_at, webhook_name = u.webhook_name, text = u.text, words = u.words,
             excluded_reason = CASE WHEN m.first_message_id IS NULL THEN u.excluded_reason END
         FROM UNNEST($3::bigint[], $4::text[], $5::timestamptz[], $6::text[], $7::int[], $8::text[])
              AS u (id, webhook_name, edited_at, text, words, excluded_reason)
         WHERE m.guild_id = $1 AND m.channel_id = $2 AND m.id = u.id AND m.deleted_at IS NULL
           AND m.id BETWEEN (SELECT min(id) FROM UNNEST($3) AS id) AND (SELECT max(id) FROM UNNEST($3) AS id)
           AND coalesce(u.edited_at, '-infinity') > coalesce(m.edited_at, '-infinity')
         RETURNING m.id, m.author_id, m.sent_at, m.reply_to, m.mentions, m.first_message_id",
    )
    .bind(guild.get())
    .bind(channel.get())
    .bind(messages.iter().map(|(m, _)| m.id.get()).collect::<Vec<_>>())
    .bind(messages.iter().map(|(m, _)| m.author.webhook_name()).collect::<Vec<_>>())
    .bind(messages.iter().map(|(m, _)| m.edited_at).collect::<Vec<Option<DateTime<Utc>>>>())
    .bind(messages.iter().map(|(m, _)| m.text.as_str()).collect::<Vec<_>>())
    .bind(messages.iter().map(|(m, _)| words(m)).collect::<Vec<_>>())
    .bind(
        messages
            .iter()
            .map(|(_, excluded_reason)| excluded_reason.map(ExcludedReason::as_str))
            .collect::<Vec<_>>(),
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(PlacedRow::read).collect()
}
