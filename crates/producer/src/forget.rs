//! Forgetting: messages, members, channels and whole guilds, so that no later import brings them back.
//!
//! Each call is one transaction under the guild's lock, leaves a cutoff (or tombstones, for single messages), and
//! returns a receipt, which is completed when the last point is gone. Doing it again is harmless: the second receipt
//! has noughts.

use chrono::{DateTime, Utc};
use guildex_store::erasures::{self, Erased, Erasure, Target};
use guildex_store::soft_delete;
use guildex_store::suppressions::{self, Subject};
use guildex_store::{StoreError, channels, indexed_sessions, lock_guild, users};
use guildex_types::{ChannelId, GuildId, JobQueue, MessageId, UserId};
use sqlx::PgConnection;

use crate::ingest::{Ingest, IngestError};
use crate::removal::Removed;

impl Ingest {
    /// Forgets messages of whatever channels, for somebody who knows their ids alone. Like [`Ingest::delete`], with a
    /// receipt.
    ///
    /// # Errors
    /// If Postgres fails; nothing has changed then.
    pub async fn forget_messages(&self, guild: GuildId, ids: &[MessageId]) -> Result<Erasure, IngestError> {
        self.forget(guild, Target::Messages { messages: ids.to_vec() }).await
    }

    /// Forgets all that a member wrote in the guild: texts and names are erased, and nothing that was sent until now
    /// is stored again. What the member writes later is; [`Ingest::opt_out`] ends that, too. The member's id stays
    /// in the tombstones, since the partition into sessions rests on it.
    ///
    /// # Errors
    /// If Postgres fails; nothing has changed then.
    pub async fn forget_member(&self, guild: GuildId, member: UserId) -> Result<Erasure, IngestError> {
        self.forget(guild, Target::Member { member }).await
    }

    /// Forgets a channel with its threads, or a thread: for when it is deleted in Discord, and for when it ought not
    /// to have been stored. Its messages' rows go; nothing that was sent until now is stored again.
    ///
    /// # Errors
    /// If Postgres fails; nothing has changed then.
    pub async fn delete_channel(&self, guild: GuildId, channel: ChannelId) -> Result<Erasure, IngestError> {
        self.forget(guild, Target::Channel { channel }).await
    }

    /// Forgets a guild, for when the bot is removed from it. Messages' rows and all names go; what was sent until now
    /// is not stored again, even if the bot comes back.
    ///
    /// # Errors
    /// If Postgres fails; nothing has changed then.
    pub async fn remove_guild(&self, guild: GuildId) -> Result<Erasure, IngestError> {
        self.forget(guild, Target::Guild).await
    }

    /// Any of these by its target.
    ///
    /// # Errors
    /// If Postgres fails; nothing has changed then.
    pub async fn forget(&self, guild: GuildId, target: Target) -> Result<Erasure, IngestError> {
        let mut tx = self.pool().begin().await?;
        lock_guild(&mut tx, guild).await?;
        let erasure = self.erase(&mut tx, guild, &target).await?;
        tx.commit().await?;
        Ok(erasure)
    }

    /// Stores nothing more of a member, or of a channel and its threads, and forgets what there is of it.
    ///
    /// # Errors
    /// If Postgres fails; nothing has changed then.
    pub async fn opt_out(&self, guild: GuildId, party: Subject) -> Result<Erasure, IngestError> {
        let mut tx = self.pool().begin().await?;
        lock_guild(&mut tx, guild).await?;
        suppressions::opt_out(&mut tx, guild, party).await?;
        let target = match party {
            Subject::Member(member) => Target::Member { member },
            Subject::Channel(channel) => Target::Channel { channel },
        };
        let erasure = self.erase(&mut tx, guild, &target).await?;
        tx.commit().await?;
        Ok(erasure)
    }

    /// Ends an opt-out: what is sent from now on is stored. What was sent until now stays out, since nobody agreed to
    /// that. Returns whether there was an opt-out.
    ///
    /// # Errors
    /// If Postgres fails; nothing has changed then.
    pub async fn opt_in(&self, guild: GuildId, party: Subject) -> Result<bool, IngestError> {
        let mut tx = self.pool().begin().await?;
        lock_guild(&mut tx, guild).await?;
        let ended = suppressions::opt_in(&mut tx, guild, party).await?;
        if ended {
            suppressions::set_cutoff(&mut tx, guild, party, None).await?;
        }
        tx.commit().await?;
        Ok(ended)
    }

    /// The caller holds the guild's lock.
    async fn erase(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        target: &Target,
    ) -> Result<Erasure, StoreError> {
        let removed = match target {
            Target::Messages { messages } => {
                suppressions::add_tombstones(tx, guild, None, messages).await?;
                let buried = soft_delete::messages_in_any_channel(tx, guild, messages).await?;
                self.take_out(tx, guild, &buried, JobQueue::Live).await?
            }
            Target::Member { member } => {
                let buried = soft_delete::messages_of_member(tx, guild, *member).await?;
                let latest = buried.iter().map(|buried| buried.latest).max();
                suppressions::set_cutoff(tx, guild, Subject::Member(*member), latest).await?;
                users::delete(tx, guild, *member).await?;
                self.take_out(tx, guild, &buried, JobQueue::Live).await?
            }
            Target::Channel { channel } => {
                let mut channels = channels::with_threads(tx, guild, *channel).await?;
                let (removed, latest) = self.raze(tx, guild, &channels).await?;
                // One that is not known yet may be imported later, and a thread may lose its parent.
                if !channels.contains(channel) {
                    channels.push(*channel);
                }
                for channel in channels {
                    suppressions::set_cutoff(tx, guild, Subject::Channel(channel), latest).await?;
                }
                removed
            }
            Target::Guild => {
                // First: whoever else changes all of a guild begins with its row, too.
                channels::erase_guild_name(tx, guild).await?;
                let channels = channels::list(tx, guild).await?;
                let (removed, latest) = self.raze(tx, guild, &channels).await?;
                suppressions::set_guild_cutoff(tx, guild, latest).await?;
                users::delete_all(tx, guild).await?;
                removed
            }
        };
        erasures::write(tx, guild, target, removed.erased, &removed.jobs).await
    }

    async fn raze(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        channels: &[ChannelId],
    ) -> Result<(Removed, Option<DateTime<Utc>>), StoreError> {
        let razed = soft_delete::delete_channels(tx, guild, channels, self.config().eligible).await?;
        let ids: Vec<_> = razed.indexed.iter().map(|(session, _)| *session).collect();
        let points = indexed_sessions::clear_content_hashes(tx, guild, &ids).await?;
        let jobs = self.ask_for_deletion(tx, guild, &razed.indexed).await?;
        let erased = Erased { messages: razed.messages, sessions: razed.sessions, points };
        Ok((Removed { erased, jobs: jobs.into_iter().collect() }, razed.latest))
    }
}
