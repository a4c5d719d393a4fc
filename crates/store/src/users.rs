//! Names of members and bots, one row per guild and user.
//!
//! A webhook posts under many names with one id, so its messages keep their own names and it has no row here.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use guildex_types::{Author, GuildId, UserId};
use sqlx::PgConnection;

use crate::StoreError;

/// Stores the names of authors, each with the time of the message that has them. A name replaces one of an
/// earlier message only, in any order of arrival; a time in the future counts as now.
pub async fn upsert<'a>(
    tx: &mut PgConnection,
    guild: GuildId,
    authors: impl IntoIterator<Item = (&'a Author, DateTime<Utc>)>,
) -> Result<(), StoreError> {
    let mut latest: BTreeMap<UserId, (&Author, DateTime<Utc>)> = BTreeMap::new();
    for (author, named_at) in authors.into_iter().filter(|(author, _)| !author.is_webhook) {
        let entry = latest.entry(author.id).or_insert((author, named_at));
        if named_at >= entry.1 {
            *entry = (author, named_at);
        }
    }
    if latest.is_empty() {
        return Ok(());
    }
    let authors = || latest.values().map(|(author, _)| *author);
    sqlx::query(
        // Rows that stay as they are are not locked: authors write in several channels at once.
        "INSERT INTO users AS stored (guild_id, user_id, username, global_name, display_name, is_bot, named_at)
         SELECT $1, u.user_id, u.username, u.global_name, u.display_name, u.is_bot, least(u.named_at, now())
         FROM UNNEST($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bool[], $7::timestamptz[])
              AS u (user_id, username, global_name, display_name, is_bot, named_at)
         LEFT JOIN users known ON known.guild_id = $1 AND known.user_id = u.user_id
         WHERE known.named_at IS NULL OR known.named_at < least(u.named_at, now())
         ORDER BY u.user_id
         ON CONFLICT (guild_id, user_id) DO UPDATE
         SET username = excluded.username, global_name = excluded.global_name,
             display_name = excluded.display_name, is_bot = excluded.is_bot, named_at = excluded.named_at
         WHERE stored.named_at < excluded.named_at",
    )
    .bind(guild)
    .bind(latest.keys().copied().collect::<Vec<_>>())
    .bind(authors().map(|author| author.username.as_str()).collect::<Vec<_>>())
    .bind(authors().map(|author| author.global_name.as_deref()).collect::<Vec<_>>())
    .bind(authors().map(|author| author.display_name.as_deref()).collect::<Vec<_>>())
    .bind(authors().map(|author| author.is_bot).collect::<Vec<_>>())
    .bind(latest.values().map(|(_, named_at)| *named_at).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Deletes the names of a member.
pub async fn delete(tx: &mut PgConnection, guild: GuildId, user: UserId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM users WHERE guild_id = $1 AND user_id = $2")
        .bind(guild)
        .bind(user)
        .execute(tx)
        .await?;
    Ok(())
}

/// Deletes the names of everyone in a guild.
pub async fn delete_all(tx: &mut PgConnection, guild: GuildId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM users WHERE guild_id = $1").bind(guild).execute(tx).await?;
    Ok(())
}
