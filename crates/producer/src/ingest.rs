//! Stores messages with their sessions and jobs, in one transaction.
//!
//! A writer holds the channel's lock until its transaction ends, so a reply cannot miss its parent and ingests of one
//! channel run one after another. The result does not depend on the order in which messages arrive: the same set of
//! messages yields the same sessions.
//!
//! Each call of [`Ingest`] is one transaction. This module creates and edits messages; `delete` and `erase` add methods
//! that remove them.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use guildex_store::channels::{self, Channel};
use guildex_store::messages::{self, AssignedMessage, NewMessage};
use guildex_store::soft_delete;
use guildex_store::suppressions::{self, Candidate};
use guildex_store::{StoreError, lock_channel, use_generic_plans, users};
use guildex_types::{Author, ChannelId, ExcludedReason, GuildId, JobQueue, Message, MessageId, SessionId};
use sqlx::{PgConnection, PgPool};

use crate::assign_sessions::{assign_sessions, unassigned};
use crate::config::IngestConfig;
use crate::enqueue::{ChangedSessions, Enqueuer, outdated};

/// Batches of fewer messages use generic plans, because planning would cost more than running the statements.
const SMALL_BATCH: usize = 100;

/// Counts of an ingest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Messages stored for the first time.
    pub new: usize,
    /// Stored messages replaced by a newer edit.
    pub edited: usize,
    /// Messages not stored: already stored, deleted, erased, expired or opted out.
    pub unchanged: usize,
    /// Sessions changed.
    pub sessions: usize,
    /// Jobs enqueued.
    pub jobs: usize,
}

impl std::ops::AddAssign for Ingested {
    fn add_assign(&mut self, other: Self) {
        self.new += other.new;
        self.edited += other.edited;
        self.unchanged += other.unchanged;
        self.sessions += other.sessions;
        self.jobs += other.jobs;
    }
}

/// An ingest failed; nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A message belongs to another channel.
    #[error("message {message} does not belong to channel {channel} of guild {guild}")]
    OtherChannel {
        /// Message id.
        message: MessageId,
        /// Channel of the call.
        channel: ChannelId,
        /// Guild of the call.
        guild: GuildId,
    },
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for IngestError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Writes the messages of channels. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ingest {
    pub(crate) pool: PgPool,
    pub(crate) enqueuer: Enqueuer,
    config: IngestConfig,
}

impl Ingest {
    /// Creates an ingest into the database of `pool`.
    pub fn new(pool: PgPool, config: IngestConfig) -> Self {
        Self { pool, enqueuer: Enqueuer::new(&config), config }
    }

    /// Returns the configuration.
    pub fn config(&self) -> &IngestConfig {
        &self.config
    }

    /// Returns the database pool.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Returns the enqueuer of this configuration.
    pub fn enqueuer(&self) -> &Enqueuer {
        &self.enqueuer
    }

    /// Stores new and edited messages of one channel, in any order, assigns their sessions and enqueues jobs.
    ///
    /// The call is idempotent, and an older edit never overwrites a newer one. Messages that are deleted, erased,
    /// expired or opted out are not stored; if another program stored them, their content is erased.
    ///
    /// # Errors
    /// If a message belongs to another channel, or Postgres fails.
    pub async fn messages(
        &self,
        channel: &Channel,
        messages: &[Message],
        queue: JobQueue,
    ) -> Result<Ingested, IngestError> {
        let (guild, id) = (channel.guild_id, channel.id);
        if let Some(other) = messages.iter().find(|m| (m.guild_id, m.channel_id) != (guild, id)) {
            return Err(IngestError::OtherChannel { message: other.id, channel: id, guild });
        }
        if self.config.optout.channels.contains(&id) {
            return Ok(Ingested { unchanged: messages.len(), ..Ingested::default() });
        }
        let newest = self.newest_versions(messages);
        let done = match self.store(channel, &newest, queue).await {
            // A writer without the channel's lock inserted one of the messages; it is visible now.
            Err(error) if error.is_duplicate() => self.store(channel, &newest, queue).await?,
            done => done?,
        };
        Ok(Ingested { unchanged: messages.len() - done.new - done.edited, ..done })
    }

    /// Stores distinct messages of one channel in one transaction.
    async fn store(
        &self,
        channel: &Channel,
        messages: &[Classified<'_>],
        queue: JobQueue,
    ) -> Result<Ingested, StoreError> {
        let (guild, id) = (channel.guild_id, channel.id);
        let mut tx = self.pool.begin().await?;
        if messages.len() < SMALL_BATCH {
            use_generic_plans(&mut tx).await?;
        }
        lock_channel(&mut tx, guild, id).await?;
        let (allowed, sessions_losing_messages) = self
            .filter_suppressed(&mut tx, guild, (id, channel.parent_id), messages.to_vec(), |(message, _)| {
                *message
            })
            .await?;
        let mut change = Change { sessions_losing_messages, ..Change::default() };
        let mut done = Ingested::default();
        let named: Vec<(&Author, DateTime<Utc>)> = allowed
            .iter()
            .map(|(message, _)| (&message.author, message.edited_at.unwrap_or(message.sent_at)))
            .collect();
        if !allowed.is_empty() {
            channels::upsert(&mut tx, channel).await?;
            let ids: Vec<MessageId> = allowed.iter().map(|(message, _)| message.id).collect();
            let stored = messages::stored(&mut tx, guild, id, &ids).await?;
            let (known, new): (Vec<_>, Vec<_>) =
                allowed.into_iter().partition(|(message, _)| stored.contains(&message.id));
            (done.new, done.edited) = (new.len(), change.add_edits(&mut tx, guild, id, &known).await?);
            change.add_new(new);
        }
        (done.sessions, done.jobs) = self.apply(&mut tx, guild, id, change, queue).await?;
        // Last, so that their rows are locked briefly: authors write in several channels at once.
        users::upsert(&mut tx, guild, named).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// Assigns up to `limit` stored messages of a channel that have no session yet, and enqueues jobs. Erases the content
    /// of those that may not be stored. Returns the number of messages processed; 0 means that none are left.
    pub async fn assign_stored(
        &self,
        guild: GuildId,
        channel: ChannelId,
        limit: i64,
    ) -> Result<usize, IngestError> {
        if self.config.optout.channels.contains(&channel) {
            return Ok(0);
        }
        let mut tx = self.pool.begin().await?;
        lock_channel(&mut tx, guild, channel).await?;
        let include_bots = self.config.sessions.include_bots;
        let stored = messages::unassigned(&mut tx, guild, channel, include_bots, limit).await?;
        let processed = stored.len();
        let (allowed, sessions_losing_messages) =
            self.filter_suppressed(&mut tx, guild, (channel, None), stored, |message| message).await?;
        let classified: Vec<Classified<'_>> = allowed.iter().map(|m| (m, self.excluded_reason(m))).collect();
        messages::set_exclusions(&mut tx, guild, channel, &classified).await?;
        let unassigned =
            classified.iter().filter(|(_, reason)| reason.is_none()).map(|(m, _)| unassigned(m)).collect();
        let change = Change { unassigned, sessions_losing_messages, ..Change::default() };
        self.apply(&mut tx, guild, channel, change, JobQueue::Backfill).await?;
        tx.commit().await?;
        Ok(processed)
    }

    /// Returns the time up to which messages are expired; `None` if they are kept forever.
    pub(crate) fn expired_before(&self) -> Option<DateTime<Utc>> {
        let retention = TimeDelta::from_std(self.config.retention?).ok()?;
        Utc::now().checked_sub_signed(retention)
    }

    /// Reduces the messages to the newest version of each, without those of members who opted out.
    fn newest_versions<'a>(&self, messages: &'a [Message]) -> Vec<Classified<'a>> {
        let mut newest: BTreeMap<MessageId, &Message> = BTreeMap::new();
        for message in messages.iter().filter(|m| !self.config.optout.users.contains(&m.author.id)) {
            let kept = newest.entry(message.id).or_insert(message);
            if message.edited_at > kept.edited_at {
                *kept = message;
            }
        }
        newest.into_values().map(|m| (m, self.excluded_reason(m))).collect()
    }

    /// Returns the reason to exclude a message from sessions, if any.
    fn excluded_reason(&self, message: &Message) -> Option<ExcludedReason> {
        if self.config.optout.users.contains(&message.author.id) {
            return Some(ExcludedReason::OptedOut);
        }
        message.excluded_reason(self.config.sessions.include_bots)
    }

    /// Returns the messages that may be stored. The others are soft-deleted if they are stored; also returns the first
    /// messages of the sessions that lose one.
    async fn filter_suppressed<T>(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        (channel, parent): (ChannelId, Option<ChannelId>),
        mut messages: Vec<T>,
        message_of: impl Fn(&T) -> &Message,
    ) -> Result<(Vec<T>, Vec<MessageId>), StoreError> {
        if messages.is_empty() {
            return Ok((messages, Vec::new()));
        }
        let candidates: Vec<Candidate> = messages
            .iter()
            .map(&message_of)
            .map(|m| Candidate { id: m.id, author: m.author.id, sent_at: m.sent_at })
            .collect();
        let suppressed =
            suppressions::suppressed(tx, guild, (channel, parent), &candidates, self.expired_before())
                .await?;
        if suppressed.is_empty() {
            return Ok((messages, Vec::new()));
        }
        messages.retain(|message| !suppressed.contains(&message_of(message).id));
        let deleted = soft_delete::messages(tx, guild, channel, &Vec::from_iter(suppressed)).await?;
        Ok((messages, deleted.into_iter().filter_map(|deleted| deleted.first_message_id).collect()))
    }

    /// Applies a change: assigns sessions, writes new messages, bumps the revisions of changed sessions and enqueues jobs,
    /// including point removals for sessions that lose a message. Returns the number of changed sessions and of jobs.
    async fn apply(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        channel: ChannelId,
        Change { new, unassigned, mut changed, sessions_losing_messages }: Change<'_>,
        queue: JobQueue,
    ) -> Result<(usize, usize), StoreError> {
        sessions_losing_messages.iter().for_each(|first| changed.message_removed(*first));
        let rules = self.config.sessions.rules();
        let mut assigned = assign_sessions(tx, rules, guild, channel, unassigned, &mut changed).await?;
        // New messages are inserted with their session; stored ones are moved to it.
        let new = new.into_iter().map(|(message, excluded_reason)| NewMessage {
            message,
            excluded_reason,
            first_message_id: assigned.remove(&message.id),
        });
        messages::insert(tx, guild, channel, &new.collect::<Vec<_>>()).await?;
        messages::set_session(tx, guild, channel, &Vec::from_iter(assigned)).await?;
        let changed = changed.bump_revisions(tx, guild, channel).await?;
        let mut jobs = self.enqueuer.enqueue_index_jobs(tx, guild, &changed, queue).await?.len();
        if !sessions_losing_messages.is_empty() {
            let losing: HashSet<SessionId> =
                sessions_losing_messages.iter().map(|first| SessionId::new(guild, channel, *first)).collect();
            let losing = outdated(changed.iter().filter(|change| losing.contains(&change.id)));
            jobs += self.enqueuer.enqueue_point_removals(tx, guild, &losing).await?.1.len();
        }
        Ok((changed.len(), jobs))
    }
}

/// A message, with the reason to exclude it from sessions, if any.
type Classified<'a> = (&'a Message, Option<ExcludedReason>);

/// Changes of a channel in one transaction.
#[derive(Default)]
struct Change<'a> {
    /// Messages to insert.
    new: Vec<Classified<'a>>,
    /// New or stored messages to assign to sessions.
    unassigned: Vec<AssignedMessage>,
    /// Sessions that change in addition to those that the assignment changes.
    changed: ChangedSessions,
    /// First messages of the sessions that lose a suppressed message.
    sessions_losing_messages: Vec<MessageId>,
}

impl<'a> Change<'a> {
    /// Writes newer edits of stored messages and returns their number.
    async fn add_edits(
        &mut self,
        tx: &mut PgConnection,
        guild: GuildId,
        channel: ChannelId,
        known: &[Classified<'_>],
    ) -> Result<usize, StoreError> {
        let reasons: HashMap<MessageId, Option<ExcludedReason>> =
            known.iter().map(|(message, reason)| (message.id, *reason)).collect();
        let edited = messages::apply_edits(tx, guild, channel, known).await?;
        let count = edited.len();
        for message in edited {
            match message.first_message_id {
                Some(first) => self.changed.message_removed(first),
                None if reasons.get(&message.id) == Some(&None) => self.unassigned.push(message),
                None => {}
            }
        }
        Ok(count)
    }

    fn add_new(&mut self, new: Vec<Classified<'a>>) {
        let included = new.iter().filter(|(_, reason)| reason.is_none());
        self.unassigned.extend(included.map(|(message, _)| unassigned(message)));
        self.new = new;
    }
}
