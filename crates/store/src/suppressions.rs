//! Suppression rules: messages that must not be stored, because they were deleted or forgotten, or their
//! author or channel opted out.
//!
//! Callers hold the guild's lock ([`lock_guild`](crate::lock_guild)) to change the rules. Ingestion calls
//! [`suppressed`] under a share of it, so that rules and messages may arrive in any order.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, MessageId, UserId};
use sqlx::PgConnection;

use crate::StoreError;
use crate::sql::interval;

/// Furthest that a cutoff is ahead of Postgres' clock: one message dated 2199 must not suppress everything until
/// then. Erased messages that were sent later than this leave tombstones.
pub(crate) const MAX_AHEAD: Duration = Duration::from_hours(1);

/// A member or channel that can opt out and be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Member, in all of the guild's channels.
    Member(UserId),
    /// Channel and its threads, or a thread.
    Channel(ChannelId),
}

impl Subject {
    /// Columns `scope` and `target_id`.
    fn columns(self) -> (&'static str, i64) {
        match self {
            Self::Member(id) => ("member", id.get()),
            Self::Channel(id) => ("channel", id.get()),
        }
    }
}

/// A message to check against the rules.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Message id.
    pub id: MessageId,
    /// Author.
    pub author: UserId,
    /// Time of sending.
    pub sent_at: DateTime<Utc>,
}

/// Returns those of the messages of one channel that must not be stored: deleted or forgotten ones, those of
/// members or channels that opted out, and those that were sent at or before `expiry`, if given. A thread
/// inherits the rules of its parent, which is `parent` or, if that is `None`, the parent in the database.
pub async fn suppressed(
    tx: &mut PgConnection,
    guild: GuildId,
    (channel, parent): (ChannelId, Option<ChannelId>),
    candidates: &[Candidate],
    expiry: Option<DateTime<Utc>>,
) -> Result<HashSet<MessageId>, StoreError> {
    let ids: Vec<MessageId> = sqlx::query_scalar(
        // Rules of the channel are evaluated once, those of members and messages by hashed subplans: a page
        // of an import has thousands of messages.
        "WITH scoped (id) AS (
             VALUES ($2), (coalesce($3, (SELECT parent_id FROM channels WHERE guild_id = $1 AND id = $2))))
         SELECT u.id FROM UNNEST($4::bigint[], $5::bigint[], $6::timestamptz[]) AS u (id, author_id, sent_at)
         WHERE u.sent_at <= $7
            OR u.sent_at <= (SELECT max(sent_before) FROM ingest_cutoffs WHERE guild_id = $1 AND (
                   scope = 'guild' OR (scope = 'channel' AND target_id IN (SELECT id FROM scoped))))
            OR EXISTS (SELECT FROM opt_outs WHERE guild_id = $1 AND scope = 'channel'
                       AND target_id IN (SELECT id FROM scoped))
            OR u.author_id IN (SELECT target_id FROM opt_outs WHERE guild_id = $1 AND scope = 'member')
            OR EXISTS (SELECT FROM ingest_cutoffs c WHERE c.guild_id = $1 AND c.scope = 'member'
                       AND c.target_id = u.author_id AND c.sent_before >= u.sent_at)
            OR u.id IN (SELECT message_id FROM tombstones WHERE guild_id = $1 AND message_id BETWEEN $8 AND $9)",
    )
    .bind(guild)
    .bind(channel)
    .bind(parent)
    .bind(candidates.iter().map(|candidate| candidate.id).collect::<Vec<_>>())
    .bind(candidates.iter().map(|candidate| candidate.author).collect::<Vec<_>>())
    .bind(candidates.iter().map(|candidate| candidate.sent_at).collect::<Vec<_>>())
    .bind(expiry)
    .bind(candidates.iter().map(|candidate| candidate.id).min())
    .bind(candidates.iter().map(|candidate| candidate.id).max())
    .fetch_all(tx)
    .await?;
    Ok(ids.into_iter().collect())
}

/// Adds tombstones for those of the messages that have no row in the channel, or, without a channel, in the
/// guild. Rows that exist are tombstones themselves once they are soft-deleted.
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
    .bind(guild)
    .bind(channel)
    .bind(ids)
    .execute(tx)
    .await?;
    Ok(())
}

/// Suppresses messages of a member or channel that were sent until now, or until `latest` if that is later, since
/// the clocks of senders are not ours. Never lowers a cutoff, and never sets one more than an
/// hour ahead of Postgres' clock.
pub async fn set_cutoff(
    tx: &mut PgConnection,
    guild: GuildId,
    subject: Subject,
    latest: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    raise_cutoff(tx, guild, subject.columns(), latest).await
}

/// Suppresses messages of the whole guild, as [`set_cutoff`] does.
pub async fn set_guild_cutoff(
    tx: &mut PgConnection,
    guild: GuildId,
    latest: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    raise_cutoff(tx, guild, ("guild", guild.get()), latest).await
}

async fn raise_cutoff(
    tx: &mut PgConnection,
    guild: GuildId,
    (scope, target): (&str, i64),
    latest: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    // Not now(): the transaction may have waited for its lock while others stored messages.
    sqlx::query(
        "INSERT INTO ingest_cutoffs AS c (guild_id, scope, target_id, sent_before)
         VALUES ($1, $2, $3, greatest(statement_timestamp(), least($4, statement_timestamp() + $5)))
         ON CONFLICT (guild_id, scope, target_id) DO UPDATE SET sent_before = greatest(c.sent_before, excluded.sent_before)",
    )
    .bind(guild)
    .bind(scope)
    .bind(target)
    .bind(latest)
    .bind(interval(MAX_AHEAD))
    .execute(tx)
    .await?;
    Ok(())
}

/// Suppresses future messages of a member or channel.
pub async fn opt_out(tx: &mut PgConnection, guild: GuildId, subject: Subject) -> Result<(), StoreError> {
    let (scope, target) = subject.columns();
    sqlx::query(
        "INSERT INTO opt_outs (guild_id, scope, target_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(guild)
    .bind(scope)
    .bind(target)
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends an opt-out, and returns whether there was one.
pub async fn opt_in(tx: &mut PgConnection, guild: GuildId, subject: Subject) -> Result<bool, StoreError> {
    let (scope, target) = subject.columns();
    let ended = sqlx::query("DELETE FROM opt_outs WHERE guild_id = $1 AND scope = $2 AND target_id = $3")
        .bind(guild)
        .bind(scope)
        .bind(target)
        .execute(tx)
        .await?;
    Ok(ended.rows_affected() > 0)
}
