//! Taking messages and sessions away: content goes at once, tombstones stay.
//!
//! The points go later, by jobs; until then no search shows them, since the sessions have higher revisions.

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, Eligibility, GuildId, MessageId, Revision, SessionId, UserId};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::StoreError;

/// Messages of one session that were buried together, or those of one channel that were in none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoftDeleted {
    /// Their channel or thread.
    pub channel_id: ChannelId,
    /// The first message of their session, if they were in one.
    pub first_message_id: Option<MessageId>,
    /// How many there were.
    pub messages: u64,
    /// When the last of them was sent.
    pub latest: DateTime<Utc>,
}

/// Turns messages of one channel into tombstones: their text and their author's name are erased, and their place
/// stays. Those that are tombstones already are left out.
///
/// # Errors
/// If Postgres fails.
pub async fn messages(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    ids: &[MessageId],
) -> Result<Vec<SoftDeleted>, StoreError> {
    let rows: Vec<BuriedRow> = sqlx::query_as(
        "WITH buried AS (
             UPDATE messages m SET deleted_at = now(), text = '', words = 0, webhook_name = NULL
             FROM UNNEST($3::bigint[]) AS u (id)
             WHERE m.guild_id = $1 AND m.channel_id = $2 AND m.id = u.id AND m.deleted_at IS NULL
               AND m.id BETWEEN (SELECT min(id) FROM UNNEST($3) AS id) AND (SELECT max(id) FROM UNNEST($3) AS id)
             RETURNING m.channel_id, m.first_message_id, m.sent_at)
         SELECT channel_id, first_message_id, count(*) AS messages, max(sent_at) AS latest FROM buried GROUP BY 1, 2",
    )
    .bind(guild.get())
    .bind(channel.get())
    .bind(raw(ids))
    .fetch_all(tx)
    .await?;
    read(rows)
}

/// The same for messages of any channel of the guild.
///
/// # Errors
/// If Postgres fails.
pub async fn messages_in_any_channel(
    tx: &mut PgConnection,
    guild: GuildId,
    ids: &[MessageId],
) -> Result<Vec<SoftDeleted>, StoreError> {
    let rows: Vec<BuriedRow> = sqlx::query_as(
        "WITH buried AS (
             UPDATE messages m SET deleted_at = now(), text = '', words = 0, webhook_name = NULL
             FROM channels c
             WHERE c.guild_id = $1 AND m.guild_id = c.guild_id AND m.channel_id = c.id AND m.id = ANY($2)
               AND m.deleted_at IS NULL
             RETURNING m.channel_id, m.first_message_id, m.sent_at)
         SELECT channel_id, first_message_id, count(*) AS messages, max(sent_at) AS latest FROM buried GROUP BY 1, 2",
    )
    .bind(guild.get())
    .bind(raw(ids))
    .fetch_all(tx)
    .await?;
    read(rows)
}

/// The same for all that a member wrote in the guild. Reads all of the guild's messages.
///
/// # Errors
/// If Postgres fails.
pub async fn messages_of_member(
    tx: &mut PgConnection,
    guild: GuildId,
    member: UserId,
) -> Result<Vec<SoftDeleted>, StoreError> {
    let rows: Vec<BuriedRow> = sqlx::query_as(
        "WITH buried AS (
             UPDATE messages SET deleted_at = now(), text = '', words = 0, webhook_name = NULL
             WHERE guild_id = $1 AND author_id = $2 AND deleted_at IS NULL
             RETURNING channel_id, first_message_id, sent_at)
         SELECT channel_id, first_message_id, count(*) AS messages, max(sent_at) AS latest FROM buried GROUP BY 1, 2",
    )
    .bind(guild.get())
    .bind(member.get())
    .fetch_all(tx)
    .await?;
    read(rows)
}

/// The same for up to `limit` messages of one channel that were sent at `overdue` or before, the oldest first.
///
/// # Errors
/// If Postgres fails.
pub async fn messages_sent_before(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
    overdue: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<SoftDeleted>, StoreError> {
    let rows: Vec<BuriedRow> = sqlx::query_as(
        "WITH buried AS (
             UPDATE messages SET deleted_at = now(), text = '', words = 0, webhook_name = NULL
             WHERE guild_id = $1 AND channel_id = $2 AND id IN (
                 SELECT id FROM messages
                 WHERE guild_id = $1 AND channel_id = $2 AND deleted_at IS NULL AND sent_at <= $3
                 ORDER BY sent_at, id LIMIT $4)
             RETURNING channel_id, first_message_id, sent_at)
         SELECT channel_id, first_message_id, count(*) AS messages, max(sent_at) AS latest FROM buried GROUP BY 1, 2",
    )
    .bind(guild.get())
    .bind(channel.get())
    .bind(overdue)
    .bind(limit)
    .fetch_all(tx)
    .await?;
    read(rows)
}

/// The guild's channels with live messages that were sent at `overdue` or before.
///
/// # Errors
/// If Postgres fails.
pub async fn channels_with_messages_before(
    db: &mut PgConnection,
    guild: GuildId,
    overdue: DateTime<Utc>,
) -> Result<Vec<ChannelId>, StoreError> {
    // One look at each channel's oldest.
    let ids: Vec<i64> = sqlx::query_scalar(
        "SELECT c.id FROM channels c
         CROSS JOIN LATERAL (
             SELECT m.sent_at FROM messages m
             WHERE m.guild_id = $1 AND m.channel_id = c.id AND m.deleted_at IS NULL
             ORDER BY m.sent_at LIMIT 1) oldest
         WHERE c.guild_id = $1 AND oldest.sent_at <= $2",
    )
    .bind(guild.get())
    .bind(overdue)
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(ChannelId::try_from).collect::<Result<_, _>>()?)
}

#[derive(FromRow)]
struct BuriedRow {
    channel_id: i64,
    first_message_id: Option<i64>,
    messages: i64,
    latest: DateTime<Utc>,
}

fn read(rows: Vec<BuriedRow>) -> Result<Vec<SoftDeleted>, StoreError> {
    rows.into_iter()
        .map(|row| {
            Ok(SoftDeleted {
                channel_id: row.channel_id.try_into()?,
                first_message_id: row.first_message_id.map(MessageId::try_from).transpose()?,
                messages: u64::try_from(row.messages).unwrap_or(0),
                latest: row.latest,
            })
        })
        .collect()
}

fn raw(ids: &[MessageId]) -> Vec<i64> {
    ids.iter().map(|id| id.get()).collect()
}

/// What [`delete_channels`] took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeletedChannels {
    /// Live messages.
    pub messages: u64,
    /// When the last message was sent, tombstones included.
    pub latest: Option<DateTime<Utc>>,
    /// Sessions that lived.
    pub sessions: u64,
    /// Those of them of which there may be points, in the order of their ids, with their tombstones' revisions.
    pub indexed: Vec<(SessionId, Revision)>,
}

/// Takes channels away whole: their messages' rows go, their sessions become tombstones, their names are erased. The
/// caller holds the guild's lock, and sees to it that nothing comes back ([`limits`](crate::limits)).
///
/// # Errors
/// If Postgres fails.
pub async fn delete_channels(
    tx: &mut PgConnection,
    guild: GuildId,
    channels: &[ChannelId],
    eligible: Eligibility,
) -> Result<DeletedChannels, StoreError> {
    let ids: Vec<i64> = channels.iter().map(|channel| channel.get()).collect();
    let buried: Vec<(Uuid, i64, bool)> = sqlx::query_as(
        "WITH living AS (
             SELECT id, is_eligible(message_count, word_count, $3, $4) AS was_eligible FROM sessions
             WHERE guild_id = $1 AND channel_id = ANY($2) AND deleted_at IS NULL ORDER BY id FOR UPDATE),
         fresh AS MATERIALIZED (SELECT *, nextval('session_revisions') AS revision FROM living)
         UPDATE sessions s
         SET revision = f.revision, last_removal_revision = f.revision, message_count = 0, word_count = 0,
             started_at = NULL, ended_at = NULL, deleted_at = now()
         FROM fresh f WHERE s.id = f.id
         RETURNING s.id, s.revision,
                   f.was_eligible
                   OR EXISTS (SELECT FROM indexed_sessions i WHERE i.session_id = s.id)
                   OR EXISTS (SELECT FROM jobs j WHERE j.dedup_key = 'session/' || s.guild_id || '/' || s.id
                              AND j.state IN ('pending', 'queued', 'running'))",
    )
    .bind(guild.get())
    .bind(&ids)
    .bind(i64::from(eligible.min_messages))
    .bind(i64::from(eligible.lone_message_min_words))
    .fetch_all(&mut *tx)
    .await?;
    let (messages, latest): (i64, Option<DateTime<Utc>>) = sqlx::query_as(
        "WITH gone AS (
             DELETE FROM messages WHERE guild_id = $1 AND channel_id = ANY($2) RETURNING sent_at, deleted_at)
         SELECT count(*) FILTER (WHERE deleted_at IS NULL), max(sent_at) FROM gone",
    )
    .bind(guild.get())
    .bind(&ids)
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query("UPDATE channels SET name = '' WHERE guild_id = $1 AND id = ANY($2)")
        .bind(guild.get())
        .bind(&ids)
        .execute(tx)
        .await?;
    let sessions = u64::try_from(buried.len()).unwrap_or(u64::MAX);
    let mut indexed: Vec<(SessionId, Revision)> = buried
        .into_iter()
        .filter(|(_, _, may_have_points)| *may_have_points)
        .map(|(id, revision, _)| (id.into(), revision.into()))
        .collect();
    indexed.sort_unstable();
    Ok(DeletedChannels { messages: u64::try_from(messages).unwrap_or(0), latest, sessions, indexed })
}
