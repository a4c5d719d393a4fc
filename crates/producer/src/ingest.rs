//! Ingest: a message, its session and its job, in one transaction.
//!
//! Whoever changes a channel holds the channel's lock until the end of the transaction, so that a reply cannot
//! miss its parent, and two ingests of one channel follow each other. Nothing here depends on the order in which
//! messages arrive: the same set of messages gives the same sessions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use guildex_store::channels::{self, Channel};
use guildex_store::jobs::{self, NewJob};
use guildex_store::messages::{self, Placed, Position, Written};
use guildex_store::sessions::{self, Changed};
use guildex_store::{StoreError, lock_channel};
use guildex_types::{
    ChannelId, Eligibility, GuildId, Job, JobClass, Message, MessageId, Revision, Skip, Task, UserId,
};
use sqlx::{PgConnection, PgPool};

use crate::sessionizer::{Repartition, Rules, Turn};

/// How many stored messages are read at a time while a late one moves its neighbours.
const PAGE: i64 = 1_000;

/// What the configuration says about ingest.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// How messages become sessions.
    pub rules: Rules,
    /// Which sessions are indexed.
    pub eligible: Eligibility,
    /// Whether bots and webhooks take part in sessions.
    pub include_bots: bool,
    /// Members who opted out: nothing of theirs is stored.
    pub opted_out_users: HashSet<UserId>,
    /// Channels and threads that are left out: nothing in them is stored.
    pub opted_out_channels: HashSet<ChannelId>,
    /// How long a job waits for further changes to its session.
    pub debounce: Duration,
    /// Attempts before a job is dead.
    pub max_attempts: u32,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            eligible: Eligibility::default(),
            include_bots: false,
            opted_out_users: HashSet::new(),
            opted_out_channels: HashSet::new(),
            debounce: Duration::from_millis(300),
            max_attempts: 5,
        }
    }
}

/// What one ingest did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Messages that were not there before.
    pub new: usize,
    /// Newer edits of stored messages.
    pub edited: usize,
    /// Messages that changed nothing: stored already, deleted, or opted out.
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
    /// jobs that follow. Doing it again changes nothing, and an older edit never overwrites a newer one.
    ///
    /// # Errors
    /// If a message is of another channel, or Postgres fails.
    pub async fn messages(
        &self,
        channel: &Channel,
        messages: &[Message],
        class: JobClass,
    ) -> Result<Ingested, IngestError> {
        let (guild, id) = (channel.guild_id, channel.id);
        if let Some(stray) = messages.iter().find(|m| (m.guild_id, m.channel_id) != (guild, id)) {
            return Err(IngestError::OtherChannel { message: stray.id, channel: id, guild });
        }
        if self.config.opted_out_channels.contains(&id) {
            return Ok(Ingested { unchanged: messages.len(), ..Ingested::default() });
        }
        let newest = self.newest_of_each(messages);

        let mut tx = self.pool.begin().await?;
        channels::upsert(&mut tx, channel).await?;
        lock_channel(&mut tx, guild, id).await?;
        let written = messages::write(&mut tx, guild, id, &newest).await?;
        let mut done = Ingested { unchanged: messages.len() - written.len(), ..Ingested::default() };
        let mut touched = Touched::default();
        let mut arrivals = Vec::new();
        let skips: HashMap<MessageId, Option<Skip>> = newest.iter().map(|(m, skip)| (m.id, *skip)).collect();
        for Written { placed, new } in written {
            if new {
                done.new += 1
            } else {
                done.edited += 1
            }
            match placed.session_first {
                Some(first) => touched.removed(first),
                None if skips.get(&placed.id) == Some(&None) => arrivals.push(placed),
                None => {}
            }
        }
        self.settle(&mut tx, guild, id, arrivals, &mut touched).await?;
        let changed = self.touch(&mut tx, guild, id, touched).await?;
        done.sessions = changed.len();
        done.jobs = self.ask(&mut tx, guild, &changed, class).await?;
        tx.commit().await?;
        Ok(done)
    }

    /// Deletes messages of one channel: their rows stay as tombstones without text, and from the moment this
    /// returns no search shows them. Ids that are not stored are passed over. Returns how many sessions lost one.
    ///
    /// # Errors
    /// If Postgres fails.
    pub async fn delete(
        &self,
        guild: GuildId,
        channel: ChannelId,
        ids: &[MessageId],
    ) -> Result<usize, IngestError> {
        let mut tx = self.pool.begin().await?;
        lock_channel(&mut tx, guild, channel).await?;
        let mut touched = Touched::default();
        for first in messages::bury(&mut tx, guild, channel, ids).await? {
            touched.removed(first);
        }
        let changed = self.touch(&mut tx, guild, channel, touched).await?;
        self.ask(&mut tx, guild, &changed, JobClass::Live).await?;
        if let Some(latest) = changed.iter().map(|change| change.revision).max() {
            // The points go at once: a removal waits for no model.
            let task = Task::DeleteMessages { channel_id: channel, message_ids: ids.to_vec() };
            let removal = self.job(guild, task, JobClass::Delete, latest);
            jobs::enqueue(&mut tx, &[removal], self.config.max_attempts).await?;
        }
        tx.commit().await?;
        Ok(changed.len())
    }

    /// Puts up to `limit` messages of a channel that are in no session yet into one, and writes down the jobs.
    /// Returns how many it looked at; 0 says that there is nothing left.
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
        let stored = messages::unplaced(&mut tx, guild, channel, self.config.include_bots, limit).await?;
        let judged: Vec<(&Message, Option<Skip>)> = stored.iter().map(|m| (m, self.skip(m))).collect();
        messages::annotate(&mut tx, guild, channel, &judged).await?;
        let arrivals = judged.iter().filter(|(_, skip)| skip.is_none()).map(|(m, _)| arrival(m)).collect();
        let mut touched = Touched::default();
        self.settle(&mut tx, guild, channel, arrivals, &mut touched).await?;
        let changed = self.touch(&mut tx, guild, channel, touched).await?;
        self.ask(&mut tx, guild, &changed, JobClass::Backfill).await?;
        tx.commit().await?;
        Ok(stored.len())
    }

    /// A job under this configuration's debounce; removals do not wait.
    pub fn job(&self, guild_id: GuildId, task: Task, class: JobClass, wanted: Revision) -> NewJob {
        let debounce = if class == JobClass::Delete { Duration::ZERO } else { self.config.debounce };
        NewJob { job: Job { guild_id, task }, class, wanted, debounce }
    }

    /// Each message once, in its newest edit, without those of members who opted out.
    fn newest_of_each<'a>(&self, messages: &'a [Message]) -> Vec<(&'a Message, Option<Skip>)> {
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
    fn skip(&self, message: &Message) -> Option<Skip> {
        if self.config.opted_out_users.contains(&message.author.id) {
            return Some(Skip::OptedOut);
        }
        message.skip(self.config.include_bots)
    }

    /// Gives arrivals their sessions, and moves the neighbours that they move.
    async fn settle(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        channel: ChannelId,
        mut arrivals: Vec<Placed>,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        arrivals.sort_unstable_by_key(position);
        let Some(start) = arrivals.first().map(position) else { return Ok(()) };
        let since = start.0 - self.config.rules.horizon();
        let before = messages::placed_before(tx, guild, channel, since, start).await?;
        let mut partition = Repartition::new(self.config.rules.clone());
        for placed in before {
            if let Some(first) = placed.session_first {
                partition.replay(&turn(&placed), first);
            }
        }

        let mut moves = Vec::new();
        let mut unsettled = arrivals.len();
        let mut arrivals = arrivals.into_iter().peekable();
        let mut cursor = start;
        loop {
            let stored = messages::placed_after(tx, guild, channel, cursor, PAGE).await?;
            let last_page = stored.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            let end = if last_page { None } else { stored.last().map(position) };
            for placed in merge(stored, &mut arrivals, end) {
                if unsettled == 0 && partition.converged(placed.sent_at) {
                    return messages::place(tx, guild, channel, &moves).await;
                }
                cursor = position(&placed);
                unsettled -= usize::from(placed.session_first.is_none());
                let first = partition.push(&turn(&placed), placed.session_first);
                if placed.session_first != Some(first) {
                    moves.push((placed.id, first));
                    touched.moved(placed.session_first, first);
                }
            }
            if last_page {
                return messages::place(tx, guild, channel, &moves).await;
            }
        }
    }

    /// Gives the touched sessions a new revision.
    async fn touch(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        channel: ChannelId,
        touched: Touched,
    ) -> Result<Vec<Changed>, StoreError> {
        let touched: Vec<(MessageId, bool)> = touched.0.into_iter().collect();
        if touched.is_empty() { Ok(Vec::new()) } else { sessions::touch(tx, guild, channel, &touched).await }
    }

    /// Asks for the jobs that follow from changes to sessions; returns how many.
    async fn ask(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        changed: &[Changed],
        class: JobClass,
    ) -> Result<usize, StoreError> {
        let jobs: Vec<NewJob> =
            changed.iter().filter_map(|change| self.job_for(guild, change, class)).collect();
        if jobs.len() < changed.len() {
            // A session that stays too small needs no job. The one that removes its points may have read it
            // already, though, and is to read it again. All at once: rows are locked in the order of their keys.
            let of = |session_id| Job { guild_id: guild, task: Task::IndexSession { session_id } };
            let raised: Vec<_> = changed.iter().map(|change| (of(change.id), change.revision)).collect();
            jobs::raise(tx, &raised).await?;
        }
        jobs::enqueue(tx, &jobs, self.config.max_attempts).await?;
        Ok(jobs.len())
    }

    fn job_for(&self, guild: GuildId, change: &Changed, class: JobClass) -> Option<NewJob> {
        let admits = |(messages, words)| self.config.eligible.admits(messages, words);
        let session_id = change.id;
        if admits(change.now) {
            Some(self.job(guild, Task::IndexSession { session_id }, class, change.revision))
        } else if admits(change.before) {
            Some(self.job(guild, Task::DeleteSession { session_id }, JobClass::Delete, change.revision))
        } else {
            None
        }
    }
}

/// Sessions that changed, by first message, and whether something was taken from them or rewritten in them.
#[derive(Debug, Default)]
struct Touched(BTreeMap<MessageId, bool>);

impl Touched {
    fn removed(&mut self, first: MessageId) {
        self.0.insert(first, true);
    }

    fn moved(&mut self, from: Option<MessageId>, to: MessageId) {
        if let Some(from) = from {
            self.removed(from);
        }
        self.0.entry(to).or_insert(false);
    }
}

/// A stored message that takes its place now.
fn arrival(message: &Message) -> Placed {
    Placed {
        id: message.id,
        author: message.author.id,
        sent_at: message.sent_at,
        links: message.links.clone(),
        session_first: None,
    }
}

fn position(placed: &Placed) -> Position {
    (placed.sent_at, placed.id)
}

fn turn(placed: &Placed) -> Turn<'_> {
    Turn {
        id: placed.id,
        author: placed.author,
        sent_at: placed.sent_at,
        reply_to: placed.links.reply_to,
        mentions: &placed.links.mentions,
    }
}

/// Merges a page of stored messages with the arrivals that stand up to `end` (all of them without one), in order.
fn merge(
    stored: Vec<Placed>,
    arrivals: &mut std::iter::Peekable<std::vec::IntoIter<Placed>>,
    end: Option<Position>,
) -> Vec<Placed> {
    let mut merged = stored;
    while let Some(next) = arrivals.next_if(|a| end.is_none_or(|end| position(a) <= end)) {
        merged.push(next);
    }
    // Two sorted runs: the standard sort finds and merges them.
    merged.sort_by_key(position);
    merged
}
