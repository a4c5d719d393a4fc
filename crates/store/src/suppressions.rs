//! What may not be stored: messages deleted before they were seen, what was forgotten, and who opted out.
//!
//! Whoever changes these holds the guild's lock ([`lock_guild`](crate::lock_guild)), and whoever stores messages
//! asks which are [`suppressed`] under it, so that it does not matter who comes first.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, MessageId, UserId};
use sqlx::PgConnection;

use crate::StoreError;

/// A member or a channel, who can opt out and be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A member, in all of the guild's channels.
    Member(UserId),
    /// A channel and its threads, or a thread.
    Channel(ChannelId),
}

impl Subject {
    fn columns(self) -> (&'static str, i64) {
        match self {
            Self::Member(id) => ("member", id.get()),
            Self::Channel(id) => ("channel", id.get()),
        }
    }
}

/// What decides whether a message may be stored.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// The message.
    pub id: MessageId,
    /// Its author.
    pub author: UserId,
    /// When it was sent.
    pub sent_at: DateTime<Utc>,
}

/// Which of these messages of one channel may not be stored: those that were deleted before they came, were
/// forgotten, are of somebody who opted out by call, or were sent at `overdue` or before, where given. A thread shares
/// the limits of its parent, whether the caller knows of one or the database does.
///
/// # Errors
/// If Postgres fails.
pub async fn suppressed(
    tx: &mut PgConnection,
    guild: GuildId,
    (channel, parent): (ChannelId, Option<ChannelId>),
    candidates: &[Candidate],
    overdue: Option<DateTime<Utc>>,
) -> Result<HashSet<MessageId>, StoreError> {
    let ids: Vec<i64> = sqlx::query_scalar(
        // What is asked of the place is asked once, and of the members and messages from tables in memory: a page of
        // an import has thousands.
        "WITH place (id) AS (
             VALUES ($2), (coalesce($3, (SELECT parent_id FROM channels WHERE guild_id = $1 AND id = $2))))
         SELECT u.id FROM UNNEST($4::bigint[], $5::bigint[], $6::timestamptz[]) AS u (id, author_id, sent_at)
         WHERE u.sent_at <= $7
            OR u.sent_at <= (SELECT max(sent_before) FROM ingest_cutoffs WHERE guild_id = $1 AND (
                   scope = 'guild' OR (scope = 'channel' AND target_id IN (SELECT id FROM place))))
            OR EXISTS (SELECT FROM opt_outs WHERE guild_id = $1 AND scope = 'channel'
                       AND target_id IN (SELECT id FROM place))
            OR u.author_id IN (SELECT target_id FROM opt_outs WHERE guild_id = $1 AND scope = 'member')
            OR EXISTS (SELECT FROM ingest_cutoffs c WHERE c.guild_id = $1 AND c.scope = 'member'
                       AND c.target_id = u.author_id AND c.sent_before >= u.sent_at)
            OR u.id IN (SELECT message_id FROM tombstones WHERE guild_id = $1 AND message_id BETWEEN $8 AND $9)",
    )
    .bind(guild.get())
    .bind(channel.get())
    .bind(parent.map(ChannelId::get))
    .bind(candidates.iter().map(|candidate| candidate.id.get()).collect::<Vec<_>>())
    .bind(candidates.iter().map(|candidate| candidate.author.get()).collect::<Vec<_>>())
    .bind(candidates.iter().map(|candidate| candidate.sent_at).collect::<Vec<_>>())
    .bind(overdue)
    .bind(candidates.iter().map(|candidate| candidate.id.get()).min())
    .bind(candidates.iter().map(|candidate| candidate.id.get()).max())
    .fetch_all(tx)
    .await?;
    Ok(ids.into_iter().map(MessageId::try_from).collect::<Result<_, _>>()?)
}

/// Keeps those of these messages out for ever that have no row in the channel; without a channel, in none of the
/// guild's. Those that have one are tombstones in it.
///
/// # Errors
/// If Postgres fails.
pub async fn add_tombstones(
    tx: &mut PgConnection,
    guild: GuildId,
    channel: Option<ChannelId>,
    ids: &[MessageId],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tombstones (guild_id, message_id)
         SELECT DISTINCT $1::bigint, u.id FROM UNNEST($3::bigint[]) AS u (id)
         WHERE NOT EXISTS (
             SELECT FROM channels c JOIN messages m ON m.guild_id = c.guild_id AND m.channel_id = c.id AND m.id = u.id
             WHERE c.guild_id = $1 AND ($2::bigint IS NULL OR c.id = $2))
         ON CONFLICT DO NOTHING",
    )
    .bind(guild.get())
    .bind(channel.map(ChannelId::get))
    .bind(ids.iter().map(|id| id.get()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Lets nothing of a member or channel in again that was sent until now, or until `latest` if that is later: the
/// clocks of those who send are not ours. Never lowers a cutoff.
///
/// # Errors
/// If Postgres fails.
pub async fn set_cutoff(
    tx: &mut PgConnection,
    guild: GuildId,
    party: Subject,
    latest: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    raise(tx, guild, party.columns(), latest).await
}

/// The same for all of the guild.
///
/// # Errors
/// If Postgres fails.
pub async fn set_guild_cutoff(
    tx: &mut PgConnection,
    guild: GuildId,
    latest: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    raise(tx, guild, ("guild", guild.get()), latest).await
}

async fn raise(
    tx: &mut PgConnection,
    guild: GuildId,
    (scope, target): (&str, i64),
    latest: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    // The statement's time: the transaction may have waited for its lock, and others stored messages meanwhile.
    sqlx::query(
        "INSERT INTO ingest_cutoffs AS c (guild_id, scope, target_id, sent_before)
         VALUES ($1, $2, $3, greatest(statement_timestamp(), $4))
         ON CONFLICT (guild_id, scope, target_id) DO UPDATE SET sent_before = greatest(c.sent_before, excluded.sent_before)",
    )
    .bind(guild.get())
    .bind(scope)
    .bind(target)
    .bind(latest)
    .execute(tx)
    .await?;
    Ok(())
}

/// Lets nothing of a member or channel in from now on.
///
/// # Errors
/// If Postgres fails.
pub async fn opt_out(tx: &mut PgConnection, guild: GuildId, party: Subject) -> Result<(), StoreError> {
    let (scope, target) = party.columns();
    sqlx::query(
        "INSERT INTO opt_outs (guild_id, scope, target_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(guild.get())
    .bind(scope)
    .bind(target)
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends an opt-out; returns whether there was one.
///
/// # Errors
/// If Postgres fails.
pub async fn opt_in(tx: &mut PgConnection, guild: GuildId, party: Subject) -> Result<bool, StoreError> {
    let (scope, target) = party.columns();
    let ended = sqlx::query("DELETE FROM opt_outs WHERE guild_id = $1 AND scope = $2 AND target_id = $3")
        .bind(guild.get())
        .bind(scope)
        .bind(target)
        .execute(tx)
        .await?;
    Ok(ended.rows_affected() > 0)
}
