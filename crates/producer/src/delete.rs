//! Deletes messages that were deleted in Discord, which reports only their ids.
//!
//! A deletion erases the content, bumps the revisions of the sessions and enqueues jobs: the points of each changed
//! session are removed at once, and what remains of it is indexed again. Once the deletion commits, no search returns the
//! deleted messages, regardless of the jobs.

use std::collections::{BTreeMap, HashSet};

use guildex_store::erasures::Erased;
use guildex_store::soft_delete::{self, SoftDeleted};
use guildex_store::{StoreError, lock_channel, sessions, suppressions, use_generic_plans};
use guildex_types::{ChannelId, GuildId, JobId, JobQueue, MessageId, SessionId};
use sqlx::PgConnection;

use crate::enqueue::{ChangedSessions, Enqueuer, outdated};
use crate::ingest::{Ingest, IngestError};

impl Ingest {
    /// Deletes messages of one channel: their rows remain as tombstones without content. Ids that are not stored get a
    /// tombstone, too, so a deletion that arrives before its message wins. Returns the number of changed sessions.
    pub async fn delete(
        &self,
        guild: GuildId,
        channel: ChannelId,
        ids: &[MessageId],
    ) -> Result<usize, IngestError> {
        let mut tx = self.pool.begin().await?;
        use_generic_plans(&mut tx).await?;
        lock_channel(&mut tx, guild, channel).await?;
        suppressions::add_tombstones(&mut tx, guild, Some(channel), ids).await?;
        let deleted = soft_delete::messages(&mut tx, guild, channel, ids).await?;
        let deletion = apply_deletions(&self.enqueuer, &mut tx, guild, &deleted, JobQueue::Live).await?;
        tx.commit().await?;
        Ok(usize::try_from(deletion.erased.sessions).unwrap_or(usize::MAX))
    }
}

/// Bumps the revisions of the sessions of soft-deleted messages and enqueues jobs: point removals, and index jobs of
/// `queue` for what remains.
pub(crate) async fn apply_deletions(
    enqueuer: &Enqueuer,
    tx: &mut PgConnection,
    guild: GuildId,
    deleted: &[SoftDeleted],
    queue: JobQueue,
) -> Result<Deletion, StoreError> {
    let mut channels: BTreeMap<ChannelId, ChangedSessions> = BTreeMap::new();
    let mut ids = Vec::new();
    for SoftDeleted { channel_id, first_message_id, .. } in deleted {
        if let Some(first) = first_message_id {
            ids.push(SessionId::new(guild, *channel_id, *first));
            channels.entry(*channel_id).or_default().message_removed(*first);
        }
    }
    let mut deletion = Deletion::default();
    deletion.erased.messages = deleted.iter().map(|deleted| deleted.messages).sum();
    if ids.is_empty() {
        return Ok(deletion);
    }
    sessions::lock(tx, guild, &ids).await?;
    let mut changed = Vec::with_capacity(ids.len());
    for (channel, sessions) in channels {
        changed.extend(sessions.bump_revisions(tx, guild, channel).await?);
    }
    let (points, removals) = enqueuer.enqueue_point_removals(tx, guild, &outdated(&changed)).await?;
    deletion.erased.sessions = u64::try_from(changed.len()).unwrap_or(u64::MAX);
    deletion.erased.points = points;
    deletion.jobs.extend(removals);
    deletion.jobs.extend(enqueuer.enqueue_index_jobs(tx, guild, &changed, queue).await?);
    Ok(deletion)
}

/// Counts of a deletion, and the jobs that complete it.
#[derive(Debug, Default)]
pub(crate) struct Deletion {
    pub erased: Erased,
    pub jobs: HashSet<JobId>,
}
