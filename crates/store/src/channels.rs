//! Guilds and their channels, by name.

use guildex_types::{ChannelId, GuildId};
use sqlx::{PgConnection, PgPool};

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
    sqlx::query(
        "INSERT INTO guilds (id, name) VALUES ($1, $2)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE guilds.name <> excluded.name",
    )
    .bind(channel.guild_id.get())
    .bind(&channel.guild_name)
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "INSERT INTO channels (guild_id, id, name, parent_id) VALUES ($1, $2, $3, $4)
         ON CONFLICT (guild_id, id) DO UPDATE SET name = excluded.name, parent_id = excluded.parent_id
         WHERE (channels.name, channels.parent_id) IS DISTINCT FROM (excluded.name, excluded.parent_id)",
    )
    .bind(channel.guild_id.get())
    .bind(channel.id.get())
    .bind(&channel.name)
    .bind(channel.parent_id.map(ChannelId::get))
    .execute(db)
    .await?;
    Ok(())
}

/// The channels of a guild, by id.
///
/// # Errors
/// If Postgres fails.
pub async fn of_guild(db: &mut PgConnection, guild: GuildId) -> Result<Vec<ChannelId>, StoreError> {
    let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM channels WHERE guild_id = $1 ORDER BY id")
        .bind(guild.get())
        .fetch_all(db)
        .await?;
    Ok(ids.into_iter().map(ChannelId::try_from).collect::<Result<_, _>>()?)
}

/// Every guild, by id: for what is done to all tenants, one after the other.
///
/// # Errors
/// If Postgres fails.
pub async fn guilds(pool: &PgPool) -> Result<Vec<GuildId>, StoreError> {
    let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM guilds ORDER BY id").fetch_all(pool).await?;
    Ok(ids.into_iter().map(GuildId::try_from).collect::<Result<_, _>>()?)
}
