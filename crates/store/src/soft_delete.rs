//! Soft deletion of messages, and deletion of whole channels. Content is erased at once; tombstones stay.
//!
//! Jobs delete the points later. Until then searches do not show them, since the sessions have higher
//! revisions.

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, Eligibility, GuildId, MessageId, Revision, SessionId, UserId};
use sqlx::{FromRow, PgConnection};

use crate::StoreError;
use crate::sql::{interval, unsigned};
use crate::suppressions::MAX_AHEAD;

/// Soft-deleted messages of one session, or those of one channel that were in no session.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct SoftDeleted {
    /// Channel or thread.
    pub channel_id: ChannelId,
    /// First message of the session, if they were in one.
    pub first_message_id: Option<MessageId>,
    /// Number of messages.
    #[sqlx(try_from = "i64")]
    pub messages: u64,
    /// Time at which the last of them was sent.
    pub latest: DateTime<Utc>,
}

/// Soft-deletes messages of one channel: erases their text and webhooks' names, and keeps them as tombstones
/// in their sessions. Skips tombstones.
pub async fn messages(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    ids: &[MessageId],
) -> Result<Vec<SoftDeleted>, StoreError> {
    Ok(sqlx::query_as(
        "WITH deleted AS (
             UPDATE messages m SET deleted_at = now(), text = '', words = 0, webhook_name = NULL
             FROM UNNEST($3::bigint[]) AS u (id)
             WHERE m.guild_id = $1 AND m.channel_id = $2 AND m.id = u.id AND m.deleted_at IS NULL
               AND m.id BETWEEN (SELECT min(id) FROM UNNEST($3) AS id) AND (SELECT max(id) FROM UNNEST($3) AS id)
             RETURNING m.channel_id, m.first_message_id, m.sent_at)
         SELECT channel_id, first_message_id, count(*) AS messages, max(sent_at) AS latest FROM deleted GROUP BY 1, 2",
    )
    .bind(guild)
    .bind(channel)
    .bind(ids)
    .fetch_all(tx)
    .await?)
}

/// Soft-deletes messages of the guild, in any channel.
pub async fn messages_in_any_channel(
    tx: &mut PgConnection,
    guild: GuildId,
    ids: &[MessageId],
) -> Result<Vec<SoftDeleted>, StoreError> {
    Ok(sqlx::query_as(
        "WITH deleted AS (
             UPDATE messages m SET deleted_at = now(), text = '', words = 0, webhook_name = NULL
             FROM channels c
             WHERE c.guild_id = $1 AND m.guild_id = c.guild_id AND m.channel_id = c.id AND m.id = ANY($2)
               AND m.deleted_at IS NULL
             RETURNING m.channel_id, m.first_message_id, m.sent_at)
         SELECT channel_id, first_message_id, count(*) AS messages, max(sent_at) AS latest FROM deleted GROUP BY 1, 2",
    )
    .bind(guild)
    .bind(ids)
    .fetch_all(tx)
    .await?)
}

/// Soft-deletes all messages of a member in the guild. Scans all of the guild's messages.
pub async fn messages_of_member(
    tx: &mut PgConnection,
    guild: GuildId,
    member: UserId,
) -> Result<Vec<SoftDeleted>, StoreError> {
    Ok(sqlx::query_as(
        "WITH deleted AS (
             UPDATE messages SET deleted_at = now(), text = '', words = 0, webhook_name = NULL
             WHERE guild_id = $1 AND author_id = $2 AND deleted_at IS NULL
             RETURNING channel_id, first_message_id, sent_at)
         SELECT channel_id, first_message_id, count(*) AS messages, max(sent_at) AS latest FROM deleted GROUP BY 1, 2",
    )
    .bind(guild)
    .bind(member)
    .fetch_all(tx)
    .await?)
}

/// Soft-deletes up to `limit` messages of a channel that were sent at or before `expiry`, oldest first.
pub async fn messages_sent_before(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    expiry: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<SoftDeleted>, StoreError> {
    Ok(sqlx::query_as(
        "WITH deleted AS (
             UPDATE messages SET deleted_at = now(), text = '', words = 0, webhook_name = NULL
             WHERE guild_id = $1 AND channel_id = $2 AND id IN (
                 SELECT id FROM messages
                 WHERE guild_id = $1 AND channel_id = $2 AND deleted_at IS NULL AND sent_at <= $3
                 ORDER BY sent_at, id LIMIT $4)
             RETURNING channel_id, first_message_id, sent_at)
         SELECT channel_id, first_message_id, count(*) AS messages, max(sent_at) AS latest FROM deleted GROUP BY 1, 2",
    )
    .bind(guild)
    .bind(channel)
    .bind(expiry)
    .bind(limit)
    .fetch_all(tx)
    .await?)
}

/// Returns the guild's channels with live messages that were sent at or before `expiry`.
pub async fn channels_with_messages_before(
    db: &mut PgConnection,
    guild: GuildId,
    expiry: DateTime<Utc>,
) -> Result<Vec<ChannelId>, StoreError> {
    // Reads one index entry per channel.
    Ok(sqlx::query_scalar(
        "SELECT c.id FROM channels c
         CROSS JOIN LATERAL (
             SELECT m.sent_at FROM messages m
             WHERE m.guild_id = $1 AND m.channel_id = c.id AND m.deleted_at IS NULL
             ORDER BY m.sent_at LIMIT 1) oldest
         WHERE c.guild_id = $1 AND oldest.sent_at <= $2",
    )
    .bind(guild)
    .bind(expiry)
    .fetch_all(db)
    .await?)
}

/// Result of [`delete_channels`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeletedChannels {
    /// Number of live messages.
    pub messages: u64,
    /// Time at which the last message was sent, tombstones included.
    pub latest: Option<DateTime<Utc>>,
    /// Number of live sessions.
    pub sessions: u64,
    /// Those of the sessions that may have points, ordered by id, with the revisions of their tombstones.
    pub indexed: Vec<(SessionId, Revision)>,
}

/// Deletes the content of channels: deletes their messages, turns their sessions into tombstones and erases
/// their names. The caller holds the guild's lock, and sets a cutoff so that the messages are not stored
/// again ([`suppressions`](crate::suppressions)); messages from further ahead than a cutoff reaches leave tombstones.
pub async fn delete_channels(
    tx: &mut PgConnection,
    guild: GuildId,
    channels: &[ChannelId],
    eligible: Eligibility,
) -> Result<DeletedChannels, StoreError> {
    let deleted: Vec<(SessionId, Revision, bool)> = sqlx::query_as(
        "WITH live AS (
             SELECT id, is_eligible(message_count, word_count, $3, $4) AS was_eligible FROM sessions
             WHERE guild_id = $1 AND channel_id = ANY($2) AND deleted_at IS NULL ORDER BY id FOR UPDATE),
         revised AS MATERIALIZED (SELECT *, nextval('session_revisions') AS revision FROM live)
         UPDATE sessions s
         SET revision = r.revision, last_removal_revision = r.revision, message_count = 0, word_count = 0,
             started_at = NULL, ended_at = NULL, deleted_at = now()
         FROM revised r WHERE s.id = r.id
         RETURNING s.id, s.revision,
                   r.was_eligible
                   OR EXISTS (SELECT FROM indexed_sessions i WHERE i.session_id = s.id)
                   OR EXISTS (SELECT FROM jobs j WHERE j.dedup_key = 'session/' || s.guild_id || '/' || s.id
                              AND is_unfinished(j.state))",
    )
    .bind(guild)
    .bind(channels)
    .bind(i64::from(eligible.min_messages))
    .bind(i64::from(eligible.lone_message_min_words))
    .fetch_all(&mut *tx)
    .await?;
    let (messages, latest): (i64, Option<DateTime<Utc>>) = sqlx::query_as(
        "WITH deleted AS (
             DELETE FROM messages WHERE guild_id = $1 AND channel_id = ANY($2) RETURNING id, sent_at, deleted_at),
         ahead AS (
             INSERT INTO tombstones (guild_id, message_id)
             SELECT $1, id FROM deleted WHERE sent_at > statement_timestamp() + $3
             ON CONFLICT DO NOTHING)
         SELECT count(*) FILTER (WHERE deleted_at IS NULL), max(sent_at) FROM deleted",
    )
    .bind(guild)
    .bind(channels)
    .bind(interval(MAX_AHEAD))
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query("UPDATE channels SET name = '' WHERE guild_id = $1 AND id = ANY($2)")
        .bind(guild)
        .bind(channels)
        .execute(tx)
        .await?;
    let sessions = u64::try_from(deleted.len()).unwrap_or(u64::MAX);
    let mut indexed: Vec<(SessionId, Revision)> = deleted
        .into_iter()
        .filter(|(_, _, may_have_points)| *may_have_points)
        .map(|(id, revision, _)| (id, revision))
        .collect();
    indexed.sort_unstable();
    Ok(DeletedChannels { messages: unsigned(messages), latest, sessions, indexed })
}
