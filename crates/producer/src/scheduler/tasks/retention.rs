//! Deletes messages that were sent longer ago than the configured retention.
//!
//! It works in small transactions, under an advisory lock that lets one process at a time delete.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_store::erasures::Erased;
use guildex_store::{StoreError, channels, lock_channel, soft_delete, try_lock_retention};
use guildex_types::{ChannelId, GuildId, JobQueue};
use tokio_util::sync::CancellationToken;

use crate::delete::apply_deletions;
use crate::ingest::{Ingest, IngestError};
use crate::scheduler::task::{PeriodicTask, Run, TaskError};

const PERIOD: Duration = Duration::from_secs(60);
/// Messages deleted per transaction.
const PAGE: i64 = 1_000;

pub(in crate::scheduler) struct Retention {
    ingest: Ingest,
    stop: CancellationToken,
}

impl Retention {
    pub fn new(ingest: Ingest, stop: CancellationToken) -> Self {
        Self { ingest, stop }
    }
}

impl PeriodicTask for Retention {
    fn name(&self) -> &'static str {
        "retention"
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn run(&mut self) -> BoxFuture<'_, Result<Run, TaskError>> {
        async {
            delete_expired(&self.ingest, &self.stop).await?;
            Ok(Run { next_in: Some(PERIOD), ..Run::default() })
        }
        .boxed()
    }
}

/// Deletes the expired messages of all guilds, until none is left, another process deletes, or `stop`.
///
/// # Errors
/// If Postgres fails; completed pages remain deleted.
pub async fn delete_expired(ingest: &Ingest, stop: &CancellationToken) -> Result<Erased, IngestError> {
    let mut total = Erased::default();
    let mut db = ingest.pool.acquire().await?;
    let guilds = channels::guilds(&mut db).await?;
    drop(db);
    'guilds: for guild in guilds {
        while let Some(expired) = ingest.expired_before() {
            let mut db = ingest.pool.acquire().await?;
            let channels = soft_delete::channels_with_messages_before(&mut db, guild, expired).await?;
            drop(db);
            if channels.is_empty() {
                continue 'guilds;
            }
            for channel in channels {
                if stop.is_cancelled() {
                    break 'guilds;
                }
                match delete_page(ingest, guild, channel).await? {
                    Some(erased) => total += erased,
                    None => break 'guilds,
                }
            }
        }
    }
    if total.messages > 0 {
        tracing::info!(messages = total.messages, sessions = total.sessions, "deleted expired messages");
    }
    Ok(total)
}

/// Deletes one page of a channel; returns `None` while another process deletes.
async fn delete_page(
    ingest: &Ingest,
    guild: GuildId,
    channel: ChannelId,
) -> Result<Option<Erased>, IngestError> {
    let Some(expired) = ingest.expired_before() else { return Ok(None) };
    let mut tx = ingest.pool.begin().await?;
    if !try_lock_retention(&mut tx).await? {
        tx.rollback().await.map_err(StoreError::from)?;
        return Ok(None);
    }
    lock_channel(&mut tx, guild, channel).await?;
    let deleted = soft_delete::messages_sent_before(&mut tx, guild, channel, expired, PAGE).await?;
    // Indexing what remains of the sessions is not urgent.
    let deletion = apply_deletions(&ingest.enqueuer, &mut tx, guild, &deleted, JobQueue::Backfill).await?;
    tx.commit().await?;
    Ok(Some(deletion.erased))
}
