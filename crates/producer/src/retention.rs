//! Retention: what was sent longer ago than is kept is deleted, in the way of every other deletion.
//!
//! Any number of processes may do this; one at a time works, under an advisory lock, in small transactions.

use std::time::Duration;

use guildex_store::erasures::Erased;
use guildex_store::{StoreError, channels, lock_channel, soft_delete, try_lock_retention};
use guildex_types::{ChannelId, GuildId, JobQueue};
use tokio_util::sync::CancellationToken;

use crate::ingest::{Ingest, IngestError};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(60);
/// Messages deleted in a transaction.
const PAGE: i64 = 1_000;

/// Deletes what is overdue, now and then every minute until `stop`; returns at once if everything is kept. Outages
/// are waited out.
pub async fn run(ingest: &Ingest, stop: CancellationToken) {
    if ingest.config().retention.is_none() {
        return;
    }
    loop {
        if let Err(error) = sweep(ingest, &stop).await {
            tracing::warn!(%error, "cannot delete what is kept no longer; trying again in a minute");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// Deletes what is overdue in all guilds, until nothing is, somebody else is at it, or `stop`. Returns what was
/// erased.
///
/// # Errors
/// If Postgres fails; what was deleted until then stays so.
pub async fn sweep(ingest: &Ingest, stop: &CancellationToken) -> Result<Erased, IngestError> {
    let mut all = Erased::default();
    let mut db = ingest.pool().acquire().await?;
    let guilds = channels::guilds(&mut db).await?;
    drop(db);
    'guilds: for guild in guilds {
        while let Some(overdue) = ingest.overdue() {
            let mut db = ingest.pool().acquire().await?;
            let channels = soft_delete::channels_with_messages_before(&mut db, guild, overdue).await?;
            drop(db);
            if channels.is_empty() {
                continue 'guilds;
            }
            for channel in channels {
                if stop.is_cancelled() {
                    break 'guilds;
                }
                match page(ingest, guild, channel).await? {
                    Some(erased) => all += erased,
                    None => break 'guilds,
                }
            }
        }
    }
    if all.messages > 0 {
        tracing::info!(messages = all.messages, sessions = all.sessions, "deleted what is kept no longer");
    }
    Ok(all)
}

/// Deletes one page of a channel; `None` while another process deletes.
async fn page(ingest: &Ingest, guild: GuildId, channel: ChannelId) -> Result<Option<Erased>, IngestError> {
    let Some(overdue) = ingest.overdue() else { return Ok(None) };
    let mut tx = ingest.pool().begin().await?;
    if !try_lock_retention(&mut tx).await? {
        tx.rollback().await.map_err(StoreError::from)?;
        return Ok(None);
    }
    lock_channel(&mut tx, guild, channel).await?;
    let buried = soft_delete::messages_sent_before(&mut tx, guild, channel, overdue, PAGE).await?;
    // What is left of these sessions is in no hurry.
    let removed = ingest.take_out(&mut tx, guild, &buried, JobQueue::Backfill).await?;
    tx.commit().await?;
    Ok(Some(removed.erased))
}
