//! Checks after the run: acknowledged changes against Postgres, and Postgres against the index.

use std::collections::HashMap;

use guildex_consistency::verify::{self, DifferenceKind};
use guildex_types::{GuildId, MessageId};

use crate::report::Report;
use crate::traffic::StoredMessage;
use crate::world::World;

/// Compares the acknowledged changes of a guild with Postgres.
pub async fn messages(
    world: &World,
    guild: GuildId,
    said: &HashMap<MessageId, StoredMessage>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let stored: Vec<(i64, i64, String)> = sqlx::query_as(
        "SELECT id, channel_id, text FROM messages WHERE guild_id = $1 AND deleted_at IS NULL",
    )
    .bind(guild.get())
    .fetch_all(&world.pool)
    .await?;
    let stored: HashMap<i64, (i64, String)> =
        stored.into_iter().map(|(id, channel, text)| (id, (channel, text))).collect();
    for (id, said) in said {
        let there = stored.get(&id.get());
        let as_said =
            there.is_some_and(|(channel, text)| *channel == said.channel().get() && text == said.text());
        report.messages_lost += usize::from(!said.is_gone && !as_said);
        report.ghosts += usize::from(said.is_gone && there.is_some());
    }
    Ok(())
}

/// Checks that no job is dead and no session is left unindexed.
pub async fn jobs(world: &World, report: &mut Report) -> anyhow::Result<()> {
    report.jobs = world.number("SELECT count(*) FROM jobs").await?;
    report.jobs_dead = world.number("SELECT count(*) FROM jobs WHERE state = 'dead'").await?;
    // No job is left, so a session that is not up to date has lost its job.
    report.jobs_lost = world
        .number(
            "SELECT count(*) FROM sessions s LEFT JOIN indexed_sessions i ON i.session_id = s.id
             WHERE s.deleted_at IS NULL AND is_eligible(s.message_count, s.word_count, 2, 12)
               AND i.indexed_revision IS DISTINCT FROM s.revision",
        )
        .await?;
    Ok(())
}

/// Compares the index with Postgres by `guildex verify`.
pub async fn index(world: &World, report: &mut Report) -> anyhow::Result<()> {
    let verified = world.fleet.lock().await.setting().json(&["verify", "--json"])?;
    let found: verify::Report = serde_json::from_value(verified.clone())?;
    for guild in found.models.iter().flat_map(|model| &model.guilds) {
        for (kind, found) in &guild.differences {
            let column = match kind {
                DifferenceKind::Missing | DifferenceKind::Stale | DifferenceKind::WrongHash => {
                    &mut report.stale
                }
                DifferenceKind::Orphaned => &mut report.ghosts,
                DifferenceKind::WrongGuild => &mut report.foreign,
                // A second point of the same chunk is orphaned.
                DifferenceKind::Misplaced => &mut report.duplicates,
            };
            *column += usize::try_from(found.count)?;
        }
    }
    report.verified = verified;
    Ok(())
}
