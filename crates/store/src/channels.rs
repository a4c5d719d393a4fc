//! Guilds and channels.

use guildex_types::{ChannelId, GuildId};
use sqlx::{PgConnection, PgExecutor};

use crate::StoreError;

/// A channel or thread as a source describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Tenant.
    pub guild_id: GuildId,
    /// Name of the guild.
    pub guild_name: String,
    /// Id of the channel or thread.
    pub id: ChannelId,
    /// Name, without the `#`.
    pub name: String,
    /// Parent channel of a thread.
    pub parent_id: Option<ChannelId>,
}

/// Inserts the channel and its guild, or updates their names. A known parent stays where the source does not name
/// one: an export of a thread may lack its parent, and a thread never leaves it.
pub async fn upsert(db: &mut PgConnection, channel: &Channel) -> Result<(), StoreError> {
    let known: bool = sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT FROM guilds g JOIN channels c ON c.guild_id = g.id
             WHERE g.id = $1 AND g.name = $2 AND c.id = $3
               AND (c.name, c.parent_id) IS NOT DISTINCT FROM ($4, coalesce($5, c.parent_id)))",
    )
    .bind(channel.guild_id)
    .bind(&channel.guild_name)
    .bind(channel.id)
    .bind(&channel.name)
    .bind(channel.parent_id)
    .fetch_one(&mut *db)
    .await?;
    if known {
        return Ok(());
    }
    // DO UPDATE would lock the guild's row, which all of its channels share, even if nothing changes.
    for statement in [
        "INSERT INTO guilds (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        "UPDATE guilds SET name = $2 WHERE id = $1 AND name <> $2",
    ] {
        sqlx::query(statement).bind(channel.guild_id).bind(&channel.guild_name).execute(&mut *db).await?;
    }
    for statement in [
        "INSERT INTO channels (guild_id, id, name, parent_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        "UPDATE channels SET name = $3, parent_id = coalesce($4, parent_id)
         WHERE guild_id = $1 AND id = $2 AND (name, parent_id) IS DISTINCT FROM ($3, coalesce($4, parent_id))",
    ] {
        sqlx::query(statement)
            .bind(channel.guild_id)
            .bind(channel.id)
            .bind(&channel.name)
            .bind(channel.parent_id)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// Returns the guild's language, for stemming; `None` if it is not set or the guild does not exist.
pub async fn language(db: impl PgExecutor<'_>, guild: GuildId) -> Result<Option<String>, StoreError> {
    let language: Option<Option<String>> = sqlx::query_scalar("SELECT language FROM guilds WHERE id = $1")
        .bind(guild)
        .fetch_optional(db)
        .await?;
    Ok(language.flatten())
}

/// Sets or clears the guild's language. All of its sessions get a new revision, since their sparse vectors
/// change. Returns the number of sessions; `None` if the guild does not exist or the language is the same.
pub async fn set_language(
    tx: &mut PgConnection,
    guild: GuildId,
    language: Option<&str>,
) -> Result<Option<u64>, StoreError> {
    let changed =
        sqlx::query("UPDATE guilds SET language = $2 WHERE id = $1 AND language IS DISTINCT FROM $2")
            .bind(guild)
            .bind(language)
            .execute(&mut *tx)
            .await?;
    if changed.rows_affected() == 0 {
        return Ok(None);
    }
    let sessions = sqlx::query(
        "WITH live AS (
             SELECT id FROM sessions WHERE guild_id = $1 AND deleted_at IS NULL ORDER BY id FOR UPDATE)
         UPDATE sessions s SET revision = nextval('session_revisions') FROM live WHERE live.id = s.id",
    )
    .bind(guild)
    .execute(tx)
    .await?;
    Ok(Some(sessions.rows_affected()))
}

/// Returns the channels of a guild, ordered by id.
pub async fn list(db: &mut PgConnection, guild: GuildId) -> Result<Vec<ChannelId>, StoreError> {
    Ok(sqlx::query_scalar("SELECT id FROM channels WHERE guild_id = $1 ORDER BY id")
        .bind(guild)
        .fetch_all(db)
        .await?)
}

/// Returns the channel and its threads, if they are stored.
pub async fn with_threads(
    db: &mut PgConnection,
    guild: GuildId,
    channel: ChannelId,
) -> Result<Vec<ChannelId>, StoreError> {
    Ok(sqlx::query_scalar("SELECT id FROM channels WHERE guild_id = $1 AND (id = $2 OR parent_id = $2)")
        .bind(guild)
        .bind(channel)
        .fetch_all(db)
        .await?)
}

/// Erases the name of the guild.
pub async fn erase_guild_name(tx: &mut PgConnection, guild: GuildId) -> Result<(), StoreError> {
    sqlx::query("UPDATE guilds SET name = '' WHERE id = $1").bind(guild).execute(tx).await?;
    Ok(())
}

/// Returns all guilds, ordered by id. For tasks that run for one tenant after the other.
pub async fn guilds(db: &mut PgConnection) -> Result<Vec<GuildId>, StoreError> {
    Ok(sqlx::query_scalar("SELECT id FROM guilds ORDER BY id").fetch_all(db).await?)
}
