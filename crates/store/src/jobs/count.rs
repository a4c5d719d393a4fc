use guildex_types::{ChannelId, GuildId, Revision};
use sqlx::PgPool;

use crate::StoreError;
use crate::sql::unsigned;

/// Counts unfinished jobs of one guild or of all.
pub async fn unfinished(pool: &PgPool, guild: Option<GuildId>) -> Result<u64, StoreError> {
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM jobs WHERE is_unfinished(state) AND ($1::bigint IS NULL OR guild_id = $1)",
    )
    .bind(guild)
    .fetch_one(pool)
    .await?;
    Ok(unsigned(count))
}

/// Counts unfinished session jobs that were enqueued before `revision` was drawn, of one guild or of all.
pub async fn unfinished_before(
    pool: &PgPool,
    guild: Option<GuildId>,
    revision: Revision,
) -> Result<u64, StoreError> {
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM jobs
         WHERE is_unfinished(state) AND kind IN ('index_session', 'delete_session') AND target_revision < $2
           AND ($1::bigint IS NULL OR guild_id = $1)",
    )
    .bind(guild)
    .bind(revision)
    .fetch_one(pool)
    .await?;
    Ok(unsigned(count))
}

/// Counts unfinished backfills of one channel or of all of a guild's channels.
pub async fn unfinished_backfills(
    pool: &PgPool,
    guild: GuildId,
    channel: Option<ChannelId>,
) -> Result<u64, StoreError> {
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM jobs
         WHERE is_unfinished(state) AND guild_id = $1 AND kind = 'backfill_channel'
           AND ($2::text IS NULL OR payload->>'channel_id' = $2)",
    )
    .bind(guild)
    .bind(channel.map(|channel| channel.to_string()))
    .fetch_one(pool)
    .await?;
    Ok(unsigned(count))
}

/// Counts running jobs of all guilds.
pub async fn running(pool: &PgPool) -> Result<u64, StoreError> {
    let count =
        sqlx::query_scalar("SELECT count(*) FROM jobs WHERE state = 'running'").fetch_one(pool).await?;
    Ok(unsigned(count))
}

/// Counts dead jobs of all guilds.
pub async fn dead(pool: &PgPool) -> Result<u64, StoreError> {
    let count = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE state = 'dead'").fetch_one(pool).await?;
    Ok(unsigned(count))
}
