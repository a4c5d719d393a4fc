//! How many jobs there are, and an end to those that are over.

use std::time::Duration;

use guildex_types::{ChannelId, GuildId};
use sqlx::PgPool;

use super::interval;
use crate::StoreError;

/// Deletes up to `limit` jobs that were done longer ago than `keep`; returns how many.
///
/// # Errors
/// If Postgres fails.
pub async fn delete_completed(pool: &PgPool, keep: Duration, limit: i64) -> Result<u64, StoreError> {
    let deleted = sqlx::query(
        "DELETE FROM jobs WHERE id IN (
             SELECT id FROM jobs WHERE state = 'completed' AND finished_at < now() - $1
             ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    )
    .bind(interval(keep))
    .bind(limit)
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}

/// How many jobs are not finished, of one guild or of all.
///
/// # Errors
/// If Postgres fails.
pub async fn unfinished(pool: &PgPool, guild: Option<GuildId>) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM jobs WHERE state IN ('pending', 'queued', 'running')
         AND ($1::bigint IS NULL OR guild_id = $1)",
    )
    .bind(guild.map(GuildId::get))
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// How many jobs workers hold.
///
/// # Errors
/// If Postgres fails.
pub async fn running(pool: &PgPool) -> Result<u64, StoreError> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs WHERE state = 'running'").fetch_one(pool).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// How many backfills are not finished, of one channel or of all of a guild's.
///
/// # Errors
/// If Postgres fails.
pub async fn unfinished_backfills(
    pool: &PgPool,
    guild: GuildId,
    only: Option<ChannelId>,
) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM jobs
         WHERE state IN ('pending', 'queued', 'running') AND guild_id = $1 AND kind = 'backfill_channel'
           AND ($2::text IS NULL OR payload->>'channel_id' = $2)",
    )
    .bind(guild.get())
    .bind(only.map(|channel| channel.to_string()))
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// How many jobs are dead, of all guilds.
///
/// # Errors
/// If Postgres fails.
pub async fn dead(pool: &PgPool) -> Result<u64, StoreError> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobs WHERE state = 'dead'").fetch_one(pool).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}
