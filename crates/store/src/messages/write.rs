use chrono::{DateTime, SubsecRound, Utc};
use guildex_types::{ChannelId, ExcludedReason, GuildId, Message, MessageId, MessageKind};
use sqlx::PgConnection;

use super::row::{AssignedMessage, AssignedRow};
use crate::StoreError;
use crate::copy::Rows;
use crate::sql::integer;

/// A message to insert.
#[derive(Debug, Clone, Copy)]
pub struct NewMessage<'a> {
    /// Message.
    pub message: &'a Message,
    /// Reason why it is excluded from sessions, if it is.
    pub excluded_reason: Option<ExcludedReason>,
    /// First message of its session; `None` if it is excluded.
    pub first_message_id: Option<MessageId>,
}

/// Number of messages from which on `COPY` is faster than a statement. It takes one more round trip, and a
/// slow one: its last packet is small, and the kernel holds it back until the server has acknowledged the
/// rows (40 ms).
const COPY_FROM: usize = 2_000;

/// Inserts messages of one channel that have no rows yet.
///
/// # Errors
/// [`StoreError::is_duplicate`] holds if a program without the channel's lock inserted one of them first.
pub async fn insert(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    new: &[NewMessage<'_>],
) -> Result<(), StoreError> {
    match new.len() {
        0 => Ok(()),
        1..COPY_FROM => insert_by_statement(tx, guild, channel, new).await,
        COPY_FROM.. => insert_by_copy(tx, guild, channel, new).await,
    }
}

async fn insert_by_statement(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    new: &[NewMessage<'_>],
) -> Result<(), StoreError> {
    // UNNEST flattens nested arrays, so the mentions of each message are passed as an array literal.
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
    .bind(guild)
    .bind(channel)
    .bind(new.iter().map(|new| new.message.id).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.message.author.id).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.message.author.webhook_name()).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.message.author.is_bot).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.message.kind == MessageKind::System).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.message.sent_at.trunc_subsecs(6)).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.message.edited_at.map(|at| at.trunc_subsecs(6))).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.message.links.reply_to).collect::<Vec<_>>())
    .bind(new.iter().map(|new| mentions(new.message)).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.message.text.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|new| words(new.message)).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.excluded_reason).collect::<Vec<_>>())
    .bind(new.iter().map(|new| new.first_message_id).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

async fn insert_by_copy(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    new: &[NewMessage<'_>],
) -> Result<(), StoreError> {
    let mut rows = Rows::new(15);
    for NewMessage { message, excluded_reason, first_message_id } in new {
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

/// Applies newer edits to stored messages of one channel; ids must be distinct. Returns the changed messages
/// with the links of their first version, in no particular order. Skips messages that are stored with the
/// same or a newer edit, are deleted, or have no row.
///
/// Each message comes with the reason why it is excluded from sessions, if it is.
pub async fn apply_edits(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    messages: &[(&Message, Option<ExcludedReason>)],
) -> Result<Vec<AssignedMessage>, StoreError> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<AssignedRow> = sqlx::query_as(
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
    .bind(guild)
    .bind(channel)
    .bind(messages.iter().map(|(m, _)| m.id).collect::<Vec<_>>())
    .bind(messages.iter().map(|(m, _)| m.author.webhook_name()).collect::<Vec<_>>())
    .bind(messages.iter().map(|(m, _)| m.edited_at).collect::<Vec<Option<DateTime<Utc>>>>())
    .bind(messages.iter().map(|(m, _)| m.text.as_str()).collect::<Vec<_>>())
    .bind(messages.iter().map(|(m, _)| words(m)).collect::<Vec<_>>())
    .bind(messages.iter().map(|(_, reason)| *reason).collect::<Vec<_>>())
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(AssignedMessage::from).collect())
}

/// Assigns messages of one channel to sessions: pairs of a message and the first message of its session.
pub async fn set_session(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    moves: &[(MessageId, MessageId)],
) -> Result<(), StoreError> {
    if moves.is_empty() {
        return Ok(());
    }
    let (ids, firsts): (Vec<MessageId>, Vec<MessageId>) = moves.iter().copied().unzip();
    sqlx::query(
        "UPDATE messages m SET first_message_id = u.first, excluded_reason = NULL
         FROM UNNEST($3::bigint[], $4::bigint[]) AS u (id, first)
         WHERE m.guild_id = $1 AND m.channel_id = $2 AND m.id = u.id
           AND m.id BETWEEN (SELECT min(id) FROM UNNEST($3) AS id) AND (SELECT max(id) FROM UNNEST($3) AS id)",
    )
    .bind(guild)
    .bind(channel)
    .bind(ids)
    .bind(firsts)
    .execute(tx)
    .await?;
    Ok(())
}

/// Stores word counts and exclusion reasons of messages of one channel that another program inserted.
pub async fn set_exclusions(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    messages: &[(&Message, Option<ExcludedReason>)],
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE messages m SET words = u.words, excluded_reason = u.excluded_reason
         FROM UNNEST($3::bigint[], $4::int[], $5::text[]) AS u (id, words, excluded_reason)
         WHERE m.guild_id = $1 AND m.channel_id = $2 AND m.id = u.id
           AND (m.words, m.excluded_reason) IS DISTINCT FROM (u.words, u.excluded_reason)",
    )
    .bind(guild)
    .bind(channel)
    .bind(messages.iter().map(|(m, _)| m.id).collect::<Vec<_>>())
    .bind(messages.iter().map(|(m, _)| words(m)).collect::<Vec<_>>())
    .bind(messages.iter().map(|(_, reason)| *reason).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

fn words(message: &Message) -> i32 {
    integer(message.text.words())
}
