//! Ingest: a message, its session and its job, in one transaction.
//!
//! Whoever changes a channel holds the channel's lock until the end of the transaction, so that a reply cannot
//! miss its parent, and two ingests of one channel follow each other. Nothing here depends on the order in which
//! messages arrive: the same set of messages gives the same sessions.
//!
//! Every change to a message is a call of [`Ingest`], and each call is one transaction: creating and editing are
//! [`Ingest::messages`], here; [`removal`](crate::removal) and [`forget`](crate::forget) take away.

mod config;
mod follow;
mod place;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use guildex_store::channels::{self, Channel};
use guildex_store::jobs::NewJob;
use guildex_store::messages::{self, AssignedMessage, NewMessage};
use guildex_store::soft_delete;
use guildex_store::suppressions::{self, Candidate};
use guildex_store::{StoreError, lock_channel, use_generic_plans, users};
use guildex_types::{
    Author, ChannelId, ExcludedReason, GuildId, Job, JobQueue, Message, MessageId, Revision, SessionId, Task,
};
use sqlx::{PgConnection, PgPool};

pub use self::config::IngestConfig;
pub(crate) use self::follow::{Touched, outdated};
use self::place::arrival;

/// Fewer messages than this cost less than the planning of their statements.
const FEW: usize = 100;

/// What one ingest did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Messages that were not there before.
    pub new: usize,
    /// Newer edits of stored messages.
    pub edited: usize,
    /// Messages of which nothing was stored: stored already, deleted, forgotten, overdue, or opted out.
    pub unchanged: usize,
    /// Sessions that changed.
    pub sessions: usize,
    /// Jobs that were asked for.
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

/// What goes wrong in an ingest; nothing of it is stored then.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The caller mixed channels.
    #[error("message {message} is not of channel {channel} of guild {guild}")]
    OtherChannel {
        /// The message.
        message: MessageId,
        /// The channel named.
        channel: ChannelId,
        /// The guild named.
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

/// Writes what happens in channels.
#[derive(Debug, Clone)]
pub struct Ingest {
    pool: PgPool,
    config: IngestConfig,
}

impl Ingest {
    /// An ingest into the database behind `pool`.
    pub fn new(pool: PgPool, config: IngestConfig) -> Self {
        Self { pool, config }
    }

    /// The configuration in force.
    pub fn config(&self) -> &IngestConfig {
        &self.config
    }

    /// The database written to.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Stores messages of one channel, new or edited, in any order, moves their sessions, and writes down the
    /// jobs that follow. Doing it again changes nothing, and an older edit never overwrites a newer one. Nothing is
    /// stored of what was deleted or forgotten before, is older than is kept, or is of somebody who opted out;
    /// what another program stored of that nevertheless is erased.
    ///
    /// # Errors
    /// If a message is of another channel, or Postgres fails.
    pub async fn messages(
        &self,
        channel: &Channel,
        messages: &[Message],
        queue: JobQueue,
    ) -> Result<Ingested, IngestError> {
        let (guild, id) = (channel.guild_id, channel.id);
        if let Some(stray) = messages.iter().find(|m| (m.guild_id, m.channel_id) != (guild, id)) {
            return Err(IngestError::OtherChannel { message: stray.id, channel: id, guild });
        }
        if self.config.opted_out_channels.contains(&id) {
            return Ok(Ingested { unchanged: messages.len(), ..Ingested::default() });
        }
        let newest = self.newest_of_each(messages);
        let done = match self.store(channel, &newest, queue).await {
            // Somebody who does not take the channel's lock was faster; now it can be seen.
            Err(error) if error.is_duplicate() => self.store(channel, &newest, queue).await?,
            done => done?,
        };
        Ok(Ingested { unchanged: messages.len() - done.new - done.edited, ..done })
    }

    /// Stores distinct messages of one channel, in one transaction.
    async fn store(
        &self,
        channel: &Channel,
        messages: &[Judged<'_>],
        queue: JobQueue,
    ) -> Result<Ingested, StoreError> {
        let (guild, id) = (channel.guild_id, channel.id);
        let mut tx = self.pool.begin().await?;
        if messages.len() < FEW {
            use_generic_plans(&mut tx).await?;
        }
        lock_channel(&mut tx, guild, id).await?;
        let (admitted, lost) = self
            .admit(&mut tx, guild, (id, channel.parent_id), messages.to_vec(), |(message, _)| *message)
            .await?;
        let mut change = Change { lost, ..Change::default() };
        let mut done = Ingested::default();
        let named: Vec<(&Author, DateTime<Utc>)> = admitted
            .iter()
            .map(|(message, _)| (&message.author, message.edited_at.unwrap_or(message.sent_at)))
            .collect();
        if !admitted.is_empty() {
            channels::upsert(&mut tx, channel).await?;
            let ids: Vec<MessageId> = admitted.iter().map(|(message, _)| message.id).collect();
            let stored = messages::stored(&mut tx, guild, id, &ids).await?;
            let (known, fresh): (Vec<_>, Vec<_>) =
                admitted.into_iter().partition(|(message, _)| stored.contains(&message.id));
            (done.new, done.edited) = (fresh.len(), change.revise(&mut tx, guild, id, &known).await?);
            change.arrive(fresh);
        }
        (done.sessions, done.jobs) = self.follow_up(&mut tx, guild, id, change, queue).await?;
        // Last, so that their rows are locked briefly: authors write in several channels at once.
        users::upsert(&mut tx, guild, named).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// Puts up to `limit` messages of a channel that are in no session yet into one, and writes down the jobs. Of
    /// what may not be stored the content is erased. Returns how many it looked at; 0 says that there is nothing
    /// left.
    ///
    /// # Errors
    /// If Postgres fails.
    pub async fn place_stored(
        &self,
        guild: GuildId,
        channel: ChannelId,
        limit: i64,
    ) -> Result<usize, IngestError> {
        if self.config.opted_out_channels.contains(&channel) {
            return Ok(0);
        }
        let mut tx = self.pool.begin().await?;
        lock_channel(&mut tx, guild, channel).await?;
        let stored = messages::unassigned(&mut tx, guild, channel, self.config.include_bots, limit).await?;
        let looked_at = stored.len();
        let (admitted, lost) = self.admit(&mut tx, guild, (channel, None), stored, |message| message).await?;
        let judged: Vec<(&Message, Option<ExcludedReason>)> =
            admitted.iter().map(|m| (m, self.skip(m))).collect();
        messages::set_exclusions(&mut tx, guild, channel, &judged).await?;
        let arrivals = judged.iter().filter(|(_, skip)| skip.is_none()).map(|(m, _)| arrival(m)).collect();
        let change = Change { arrivals, lost, ..Change::default() };
        self.follow_up(&mut tx, guild, channel, change, JobQueue::Backfill).await?;
        tx.commit().await?;
        Ok(looked_at)
    }

    /// A job under this configuration's debounce; removals do not wait.
    pub fn job(&self, guild_id: GuildId, task: Task, queue: JobQueue, target_revision: Revision) -> NewJob {
        let debounce = if queue == JobQueue::Delete { Duration::ZERO } else { self.config.debounce };
        NewJob { job: Job { guild_id, task }, queue, target_revision, debounce }
    }

    /// What was sent then or before is kept no longer.
    pub(crate) fn overdue(&self) -> Option<DateTime<Utc>> {
        let kept = TimeDelta::from_std(self.config.retention?).ok()?;
        Utc::now().checked_sub_signed(kept)
    }

    /// Each message once, in its newest edit, without those of members who opted out.
    fn newest_of_each<'a>(&self, messages: &'a [Message]) -> Vec<Judged<'a>> {
        let mut newest: BTreeMap<MessageId, &Message> = BTreeMap::new();
        for message in messages.iter().filter(|m| !self.config.opted_out_users.contains(&m.author.id)) {
            let kept = newest.entry(message.id).or_insert(message);
            if message.edited_at > kept.edited_at {
                *kept = message;
            }
        }
        newest.into_values().map(|m| (m, self.skip(m))).collect()
    }

    /// Why a message takes no part in sessions, if it does not.
    fn skip(&self, message: &Message) -> Option<ExcludedReason> {
        if self.config.opted_out_users.contains(&message.author.id) {
            return Some(ExcludedReason::OptedOut);
        }
        message.excluded_reason(self.config.include_bots)
    }

    /// The messages that may be stored. Those that may not are buried, if they are there; with the first messages of
    /// the sessions that lost one.
    async fn admit<T>(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        (channel, parent): (ChannelId, Option<ChannelId>),
        mut messages: Vec<T>,
        of: impl Fn(&T) -> &Message,
    ) -> Result<(Vec<T>, Vec<MessageId>), StoreError> {
        if messages.is_empty() {
            return Ok((messages, Vec::new()));
        }
        let candidates: Vec<Candidate> = messages
            .iter()
            .map(&of)
            .map(|m| Candidate { id: m.id, author: m.author.id, sent_at: m.sent_at })
            .collect();
        let refused =
            suppressions::suppressed(tx, guild, (channel, parent), &candidates, self.overdue()).await?;
        if refused.is_empty() {
            return Ok((messages, Vec::new()));
        }
        messages.retain(|message| !refused.contains(&of(message).id));
        let buried = soft_delete::messages(tx, guild, channel, &Vec::from_iter(refused)).await?;
        Ok((messages, buried.into_iter().filter_map(|buried| buried.first_message_id).collect()))
    }

    /// Places what arrived and writes what is fresh, gives the touched sessions their revisions, and asks for the jobs;
    /// has the points of those that lost a message removed. Returns how many sessions changed and jobs were asked for.
    async fn follow_up(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        channel: ChannelId,
        Change { fresh, arrivals, mut touched, lost }: Change<'_>,
        queue: JobQueue,
    ) -> Result<(usize, usize), StoreError> {
        lost.iter().for_each(|first| touched.removed(*first));
        let mut moves = self.settle(tx, guild, channel, arrivals, &mut touched).await?;
        // What is fresh is written in its place, and what is stored is moved to it.
        let fresh = fresh.into_iter().map(|(message, skip)| NewMessage {
            message,
            excluded_reason: skip,
            first_message_id: moves.remove(&message.id),
        });
        messages::insert(tx, guild, channel, &fresh.collect::<Vec<_>>()).await?;
        messages::set_session(tx, guild, channel, &Vec::from_iter(moves)).await?;
        let changed = self.touch(tx, guild, channel, touched).await?;
        let mut jobs = self.ask(tx, guild, &changed, queue).await?.len();
        if !lost.is_empty() {
            let lost: HashSet<SessionId> =
                lost.iter().map(|first| SessionId::new(guild, channel, *first)).collect();
            let losers = outdated(changed.iter().filter(|change| lost.contains(&change.id)));
            jobs += self.withdraw(tx, guild, &losers).await?.1.len();
        }
        Ok((changed.len(), jobs))
    }
}

/// A message, and why it takes no part in sessions, if it does not.
type Judged<'a> = (&'a Message, Option<ExcludedReason>);

/// What happens to a channel in one transaction.
#[derive(Default)]
struct Change<'a> {
    /// Messages that have no rows yet.
    fresh: Vec<Judged<'a>>,
    /// Messages, fresh or stored, that take their places in sessions.
    arrivals: Vec<AssignedMessage>,
    /// Sessions that change beside those that the arrivals change.
    touched: Touched,
    /// The first messages of the sessions that lost one to a limit.
    lost: Vec<MessageId>,
}

impl<'a> Change<'a> {
    /// Writes newer edits of stored messages. Returns how many there are.
    async fn revise(
        &mut self,
        tx: &mut PgConnection,
        guild: GuildId,
        channel: ChannelId,
        known: &[Judged<'_>],
    ) -> Result<usize, StoreError> {
        let skips: HashMap<MessageId, Option<ExcludedReason>> =
            known.iter().map(|(m, skip)| (m.id, *skip)).collect();
        let revised = messages::apply_edits(tx, guild, channel, known).await?;
        let edited = revised.len();
        for placed in revised {
            match placed.first_message_id {
                Some(first) => self.touched.removed(first),
                None if skips.get(&placed.id) == Some(&None) => self.arrivals.push(placed),
                None => {}
            }
        }
        Ok(edited)
    }

    fn arrive(&mut self, fresh: Vec<Judged<'a>>) {
        self.arrivals
            .extend(fresh.iter().filter(|(_, skip)| skip.is_none()).map(|(message, _)| arrival(message)));
        self.fresh = fresh;
    }
}
