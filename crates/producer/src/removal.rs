//! Deletions: what somebody deleted in Discord, which tells of ids alone.
//!
//! A removal erases the content, gives the sessions new revisions, and writes down the jobs: the points of every
//! session that lost something go at once, and what is left of it is indexed again. From the commit on no search
//! shows what was removed, whatever has become of the jobs.

use std::collections::{BTreeMap, HashSet};

use guildex_store::erasures::Erased;
use guildex_store::soft_delete::{self, SoftDeleted};
use guildex_store::{StoreError, lock_channel, sessions, suppressions, use_generic_plans};
use guildex_types::{ChannelId, GuildId, JobId, JobQueue, MessageId, SessionId};
use sqlx::PgConnection;

use crate::ingest::{Ingest, IngestError, Touched, outdated};

impl Ingest {
    /// Deletes messages of one channel, one or many: their rows stay as tombstones without text, and from the moment
    /// this returns no search shows them. Ids that are not stored are kept out for ever, so a deletion that overtakes
    /// its message wins. Returns how many sessions lost one.
    ///
    /// # Errors
    /// If Postgres fails; nothing has changed then.
    pub async fn delete(
        &self,
        guild: GuildId,
        channel: ChannelId,
        ids: &[MessageId],
    ) -> Result<usize, IngestError> {
        let mut tx = self.pool().begin().await?;
        use_generic_plans(&mut tx).await?;
        lock_channel(&mut tx, guild, channel).await?;
        suppressions::add_tombstones(&mut tx, guild, Some(channel), ids).await?;
        let buried = soft_delete::messages(&mut tx, guild, channel, ids).await?;
        let removed = self.take_out(&mut tx, guild, &buried, JobQueue::Live).await?;
        tx.commit().await?;
        Ok(usize::try_from(removed.erased.sessions).unwrap_or(usize::MAX))
    }

    /// What follows from burying messages: revisions, the removal of points, and jobs of `class` for what is left.
    pub(crate) async fn take_out(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        buried: &[SoftDeleted],
        class: JobQueue,
    ) -> Result<Removed, StoreError> {
        let mut channels: BTreeMap<ChannelId, Touched> = BTreeMap::new();
        let mut ids = Vec::new();
        for SoftDeleted { channel_id, first_message_id, .. } in buried {
            if let Some(first) = first_message_id {
                ids.push(SessionId::new(guild, *channel_id, *first));
                channels.entry(*channel_id).or_default().removed(*first);
            }
        }
        let mut removed = Removed::default();
        removed.erased.messages = buried.iter().map(|buried| buried.messages).sum();
        if ids.is_empty() {
            return Ok(removed);
        }
        sessions::lock(tx, guild, &ids).await?;
        let mut changed = Vec::with_capacity(ids.len());
        for (channel, touched) in channels {
            changed.extend(self.touch(tx, guild, channel, touched).await?);
        }
        let (points, removals) = self.withdraw(tx, guild, &outdated(&changed)).await?;
        removed.erased.sessions = u64::try_from(changed.len()).unwrap_or(u64::MAX);
        removed.erased.points = points;
        removed.jobs.extend(removals);
        removed.jobs.extend(self.ask(tx, guild, &changed, class).await?);
        Ok(removed)
    }
}

/// What a removal took away, and the jobs that end it.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    pub erased: Erased,
    pub jobs: HashSet<JobId>,
}
