//! Guilds and their channels, by name.

use guildex_types::{ChannelId, GuildId};
use sqlx::{PgConnection, PgExecutor};

use crate::StoreError;

/// A channel or thread as its source describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// The tenant.
    pub guild_id: GuildId,
    /// The guild's name.
    pub guild_name: String,
    /// The channel or thread.
    pub id: ChannelId,
    /// Its name, without the `#`.
    pub name: String,
    /// A thread's parent channel.
    pub parent_id: Option<ChannelId>,
}

/// Makes the channel and its guild known, or renames them.
///
/// # Errors
/// If Postgres fails.
pub async fn upsert(db: &mut PgConnection, channel: &Channel) -> Result<(), StoreError> {
    let known: bool = sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT FROM guilds g JOIN channels c ON c.guild_id = g.id
             WHERE g.id = $1 AND g.name = $2 AND c.id = $3 AND (c.name, c.parent_id) IS NOT DISTINCT FROM ($4, $5))",
    )
    .bind(channel.guild_id.get())
    .bind(&channel.guild_name)
    .bind(channel.id.get())
    .bind(&channel.name)
    .bind(channel.parent_id.map(ChannelId::get))
    .fetch_one(&mut *db)
    .await?;
    if known {
        return Ok(());
    }
    // DO UPDATE would lock the row even where nothing changes, and all channels of a guild share one.
    for statement in [
        "INSERT INTO guilds (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        "UPDATE guilds SET name = $2 WHERE id = $1 AND name <> $2",
    ] {
        sqlx::query(statement)
            .bind(channel.guild_id.get())
            .bind(&channel.guild_name)
            .execute(&mut *db)
            .await?;
    }
    for statement in [
        "INSERT INTO channels (guild_id, id, name, parent_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        "UPDATE channels SET name = $3, parent_id = $4
         WHERE guild_id = $1 AND id = $2 AND (name, parent_id) IS DISTINCT FROM ($3, $4)",
    ] {
        sqlx::query(statement)
            .bind(channel.guild_id.get())
            .bind(channel.id.get())
            .bind(&channel.name)
            .bind(channel.parent_id.map(ChannelId::get))
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// The language of the guild's words, for stemming; `None` where it has none or is not known.
///
/// # Errors
/// If Postgres fails.
pub async fn language(db: impl PgExecutor<'_>, guild: GuildId) -> Result<Option<String>, StoreError> {
    let language: Option<Option<String>> = sqlx::query_scalar("SELECT language FROM guilds WHERE id = $1")
        .bind(guild.get())
        .fetch_optional(db)
        .await?;
    Ok(language.flatten())
}

/// Gives the guild's words a language, or none. All its sessions get a new revision, since their words in the index
/// are others now. Returns how many sessions that is; `None` if there is no such guild or nothing changes.
///
/// # Errors
/// If Postgres fails.
pub async fn set_language(
    tx: &mut PgConnection,
    guild: GuildId,
    language: Option<&str>,
) -> Result<Option<u64>, StoreError> {
    let changed =
        sqlx::query("UPDATE guilds SET language = $2 WHERE id = $1 AND language IS DISTINCT FROM $2")
            .bind(guild.get())
            .bind(language)
            .execute(&mut *tx)
            .await?;
    if changed.rows_affected() == 0 {
        return Ok(None);
    }
    let sessions = sqlx::query(
        "WITH all_of_it AS (
             SELECT id FROM sessions WHERE guild_id = $1 AND deleted_at IS NULL ORDER BY id FOR UPDATE)
         UPDATE sessions s SET revision = nextval('session_revisions') FROM all_of_it a WHERE a.id = s.id",
    )
    .bind(guild.get())
    .execute(tx)
    .await?;
    Ok(Some(sessions.rows_affected()))
}

/// The channels of a guild, by id.
///
/// # Errors
/// If Postgres fails.
pub async fn list(db: &mut PgConnection, guild: GuildId) -> Result<Vec<ChannelId>, StoreError> {
    let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM channels WHERE guild_id = $1 ORDER BY id")
        .bind(guild.get())
        .fetch_all(db)
        .await?;
    Ok(ids.into_iter().map(ChannelId::try_from).collect::<Result<_, _>>()?)
}

/// The channel and its threads, as far as they are known.
///
/// # Errors
/// If Postgres fails.
pub async fn with_threads(
    db: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
) -> Result<Vec<ChannelId>, StoreError> {
    let ids: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM channels WHERE guild_id = $1 AND (id = $2 OR parent_id = $2)")
            .bind(guild.get())
            .bind(channel.get())
            .fetch_all(db)
            .await?;
    Ok(ids.into_iter().map(ChannelId::try_from).collect::<Result<_, _>>()?)
}

/// Erases the guild's name.
///
/// # Errors
/// If Postgres fails.
pub async fn erase_guild_name(tx: &mut PgConnection, guild: GuildId) -> Result<(), StoreError> {
    sqlx::query("UPDATE guilds SET name = '' WHERE id = $1").bind(guild.get()).execute(tx).await?;
    Ok(())
}

/// Every guild, by id: for what is done to all tenants, one after the other.
///
/// # Errors
/// If Postgres fails.
pub async fn guilds(db: &mut PgConnection) -> Result<Vec<GuildId>, StoreError> {
    let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM guilds ORDER BY id").fetch_all(db).await?;
    Ok(ids.into_iter().map(GuildId::try_from).collect::<Result<_, _>>()?)
}
