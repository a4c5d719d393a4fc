//! Erases messages, members, channels and guilds so that no later import restores them.
//!
//! Each call is one transaction under the guild's lock. It leaves a cutoff, or tombstones for single messages, and returns
//! a receipt that is completed when the last point is removed. Calls are idempotent; the receipt of a repeated call shows
//! zeros.

use chrono::{DateTime, Utc};
use guildex_store::erasures::{self, Erased, Erasure, Target};
use guildex_store::soft_delete;
use guildex_store::suppressions::{self, Subject};
use guildex_store::{StoreError, channels, indexed_sessions, lock_guild, users};
use guildex_types::{ChannelId, GuildId, JobQueue, MessageId, UserId};
use sqlx::PgConnection;

use crate::delete::{Deletion, apply_deletions};
use crate::ingest::{Ingest, IngestError};

impl Ingest {
    /// Erases messages by id, in any channel of the guild. Like [`Ingest::delete`], with a receipt.
    pub async fn erase_messages(&self, guild: GuildId, ids: &[MessageId]) -> Result<Erasure, IngestError> {
        self.erase(guild, Target::Messages { messages: ids.to_vec() }).await
    }

    /// Erases everything that a member wrote in the guild: texts and names are removed, and messages sent until now are
    /// not stored again. Later messages are stored; use [`Ingest::opt_out`] to prevent that. The member's id remains in
    /// the tombstones, because the partition into sessions depends on it.
    pub async fn erase_member(&self, guild: GuildId, member: UserId) -> Result<Erasure, IngestError> {
        self.erase(guild, Target::Member { member }).await
    }

    /// Erases a channel with its threads, or a thread, for example after it was deleted in Discord. Rows of messages are
    /// deleted, and messages sent until now are not stored again.
    pub async fn erase_channel(&self, guild: GuildId, channel: ChannelId) -> Result<Erasure, IngestError> {
        self.erase(guild, Target::Channel { channel }).await
    }

    /// Erases a guild, for example after the bot was removed from it. Rows of messages and all names are deleted, and
    /// messages sent until now are not stored again, even if the bot rejoins.
    pub async fn erase_guild(&self, guild: GuildId) -> Result<Erasure, IngestError> {
        self.erase(guild, Target::Guild).await
    }

    /// Erases a target.
    pub async fn erase(&self, guild: GuildId, target: Target) -> Result<Erasure, IngestError> {
        let mut tx = self.pool.begin().await?;
        lock_guild(&mut tx, guild).await?;
        let erasure = self.erase_in(&mut tx, guild, &target).await?;
        tx.commit().await?;
        Ok(erasure)
    }

    /// Opts a member, or a channel with its threads, out: erases their messages and stores no new ones.
    pub async fn opt_out(&self, guild: GuildId, party: Subject) -> Result<Erasure, IngestError> {
        let mut tx = self.pool.begin().await?;
        lock_guild(&mut tx, guild).await?;
        suppressions::opt_out(&mut tx, guild, party).await?;
        let target = match party {
            Subject::Member(member) => Target::Member { member },
            Subject::Channel(channel) => Target::Channel { channel },
        };
        let erasure = self.erase_in(&mut tx, guild, &target).await?;
        tx.commit().await?;
        Ok(erasure)
    }

    /// Ends an opt-out: messages sent from now on are stored. Messages sent until now are not, because the opt-out
    /// covered them. Returns true if there was an opt-out.
    pub async fn opt_in(&self, guild: GuildId, party: Subject) -> Result<bool, IngestError> {
        let mut tx = self.pool.begin().await?;
        lock_guild(&mut tx, guild).await?;
        let ended = suppressions::opt_in(&mut tx, guild, party).await?;
        if ended {
            suppressions::set_cutoff(&mut tx, guild, party, None).await?;
        }
        tx.commit().await?;
        Ok(ended)
    }

    /// Erases a target. The caller holds the guild's lock.
    async fn erase_in(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        target: &Target,
    ) -> Result<Erasure, StoreError> {
        let deletion = match target {
            Target::Messages { messages } => {
                suppressions::add_tombstones(tx, guild, None, messages).await?;
                let deleted = soft_delete::messages_in_any_channel(tx, guild, messages).await?;
                apply_deletions(&self.enqueuer, tx, guild, &deleted, JobQueue::Live).await?
            }
            Target::Member { member } => {
                let deleted = soft_delete::messages_of_member(tx, guild, *member).await?;
                let latest = deleted.iter().map(|deleted| deleted.latest).max();
                suppressions::set_cutoff(tx, guild, Subject::Member(*member), latest).await?;
                users::delete(tx, guild, *member).await?;
                apply_deletions(&self.enqueuer, tx, guild, &deleted, JobQueue::Live).await?
            }
            Target::Channel { channel } => {
                let mut channels = channels::with_threads(tx, guild, *channel).await?;
                let (deletion, latest) = self.delete_channels(tx, guild, &channels).await?;
                // An unknown channel may be imported later, and a thread's later import may not name its parent.
                if !channels.contains(channel) {
                    channels.push(*channel);
                }
                for channel in channels {
                    suppressions::set_cutoff(tx, guild, Subject::Channel(channel), latest).await?;
                }
                deletion
            }
            Target::Guild => {
                // First, because every change of a whole guild starts by locking its row.
                channels::erase_guild_name(tx, guild).await?;
                let channels = channels::list(tx, guild).await?;
                let (deletion, latest) = self.delete_channels(tx, guild, &channels).await?;
                suppressions::set_guild_cutoff(tx, guild, latest).await?;
                users::delete_all(tx, guild).await?;
                deletion
            }
        };
        erasures::write(tx, guild, target, deletion.erased, &deletion.jobs).await
    }

    /// Deletes the rows of channels and enqueues the removal of all their points. Returns the time of the latest message, too.
    async fn delete_channels(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        channels: &[ChannelId],
    ) -> Result<(Deletion, Option<DateTime<Utc>>), StoreError> {
        let deleted = soft_delete::delete_channels(tx, guild, channels, self.enqueuer.eligibility()).await?;
        let ids: Vec<_> = deleted.indexed.iter().map(|(session, _)| *session).collect();
        let points = indexed_sessions::clear_content_hashes(tx, guild, &ids).await?;
        let jobs = self.enqueuer.enqueue_session_deletions(tx, guild, &deleted.indexed).await?;
        let erased = Erased { messages: deleted.messages, sessions: deleted.sessions, points };
        Ok((Deletion { erased, jobs: jobs.into_iter().collect() }, deleted.latest))
    }
}
