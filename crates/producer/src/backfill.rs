//! Backfill: assigns and indexes whole channels, however their messages were stored.
//!
//! Planning enqueues one job per channel. The job works in pages; each is a transaction that only does what is missing, so
//! a backfill can be interrupted, repeated and run beside live ingest.

use guildex_store::{StoreError, channels, jobs, models, sessions, status};
use guildex_types::{ChannelId, GuildId, JobQueue, MessageId, ModelSlug, Task};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::config::SessionsConfig;
use crate::enqueue::Enqueuer;
use crate::ingest::{Ingest, IngestError};

/// Messages assigned per transaction.
const MESSAGE_PAGE: i64 = 1_000;
/// Sessions enqueued per transaction.
const SESSION_PAGE: i64 = 500;

/// Enqueues a backfill of one channel, or of every channel of the guild; returns the number of channels.
pub async fn plan(
    pool: &PgPool,
    enqueuer: &Enqueuer,
    guild: GuildId,
    only: Option<ChannelId>,
) -> Result<usize, StoreError> {
    let mut tx = pool.begin().await?;
    let planned = plan_in(&mut tx, enqueuer, guild, only).await?;
    tx.commit().await?;
    Ok(planned)
}

async fn plan_in(
    tx: &mut PgConnection,
    enqueuer: &Enqueuer,
    guild: GuildId,
    only: Option<ChannelId>,
) -> Result<usize, StoreError> {
    let mut channels = channels::list(tx, guild).await?;
    channels.retain(|channel| only.is_none_or(|only| only == *channel));
    // A new revision: a backfill that is already running has passed part of the channel, so it must run again.
    let revision = sessions::next_revision(tx).await?;
    let job = |&channel_id: &ChannelId| {
        enqueuer.new_job(guild, Task::BackfillChannel { channel_id }, JobQueue::Backfill, revision)
    };
    enqueuer.enqueue(tx, channels.iter().map(job).collect()).await?;
    Ok(channels.len())
}

/// Replaces the index of a model by the new index `index_id`, and enqueues a backfill of everything recorded in the old
/// one. Returns the number of sessions that were recorded.
pub async fn replace_index(
    pool: &PgPool,
    enqueuer: &Enqueuer,
    model: &ModelSlug,
    index_id: Uuid,
) -> Result<u64, StoreError> {
    let mut tx = pool.begin().await?;
    let lost = models::replace_index(&mut tx, model, index_id).await?;
    if lost > 0 {
        for guild in channels::guilds(&mut tx).await? {
            plan_in(&mut tx, enqueuer, guild, None).await?;
        }
    }
    tx.commit().await?;
    Ok(lost)
}

/// Runs a backfill job: assigns messages without a session, then enqueues every session that is missing in the collection
/// of one of the models.
///
/// # Errors
/// If Postgres fails; completed pages remain.
pub async fn run(
    ingest: &Ingest,
    guild: GuildId,
    channel: ChannelId,
    models: &[ModelSlug],
) -> Result<(), IngestError> {
    while ingest.assign_stored(guild, channel, MESSAGE_PAGE).await? > 0 {}
    for model in models {
        let mut after = None;
        while let Some(last) =
            enqueue_missing(&ingest.pool, &ingest.enqueuer, guild, channel, model, after).await?
        {
            after = Some(last);
        }
    }
    Ok(())
}

/// Enqueues a page of missing sessions and returns the first message of the last one.
async fn enqueue_missing(
    pool: &PgPool,
    enqueuer: &Enqueuer,
    guild: GuildId,
    channel: ChannelId,
    model: &ModelSlug,
    after: Option<MessageId>,
) -> Result<Option<MessageId>, StoreError> {
    let mut tx = pool.begin().await?;
    let eligibility = enqueuer.eligibility();
    let missing = sessions::missing(&mut tx, guild, channel, model, eligibility, after, SESSION_PAGE).await?;
    // A revision above those of the sessions: a job that is already running may have recorded its session before that was
    // invalidated, and must run again.
    let revision = sessions::next_revision(&mut tx).await?;
    let job = |&(_, session_id): &(MessageId, _)| {
        enqueuer.new_job(guild, Task::IndexSession { session_id }, JobQueue::Backfill, revision)
    };
    enqueuer.enqueue(&mut tx, missing.iter().map(job).collect()).await?;
    tx.commit().await?;
    Ok(missing.last().map(|(first, _)| *first))
}

/// Remaining work of a backfill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// Messages that may belong in a session but have none.
    pub messages: u64,
    /// Eligible sessions that are missing in the model's collection.
    pub sessions: u64,
    /// Unfinished backfill jobs.
    pub backfills: u64,
    /// Unfinished jobs of the guild, including live ones.
    pub jobs: u64,
}

impl Remaining {
    /// Returns true if nothing more will be done: nothing is missing, or no job is left that could add it.
    pub fn is_over(&self) -> bool {
        self.backfills == 0 && (self.messages + self.sessions == 0 || self.jobs == 0)
    }
}

/// Counts the remaining work in one channel or in the whole guild.
pub async fn remaining(
    pool: &PgPool,
    config: &SessionsConfig,
    guild: GuildId,
    only: Option<ChannelId>,
    model: &ModelSlug,
) -> Result<Remaining, StoreError> {
    let (messages, sessions) =
        status::backlog(pool, guild, only, model, config.eligibility(), config.include_bots).await?;
    let backfills = jobs::unfinished_backfills(pool, guild, only).await?;
    Ok(Remaining { messages, sessions, backfills, jobs: jobs::unfinished(pool, Some(guild)).await? })
}
