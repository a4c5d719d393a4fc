//! Backfill: brings whole channels in step, whatever put their messages there.
//!
//! Planning asks for one job a channel. The job works in pages, each a transaction of its own that only takes
//! up what is not done yet, so it can be stopped, started again and run beside live ingest.

use guildex_store::{StoreError, channels, jobs, models, sessions, status};
use guildex_types::{ChannelId, GuildId, JobQueue, MessageId, ModelSlug, Task};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::ingest::{Ingest, IngestError};

/// Messages placed in a transaction.
const MESSAGE_PAGE: i64 = 1_000;
/// Sessions asked for in a transaction.
const SESSION_PAGE: i64 = 500;

/// Asks for a backfill of one channel, or of every channel of the guild; returns how many channels that is.
///
/// # Errors
/// If Postgres fails.
pub async fn plan(ingest: &Ingest, guild: GuildId, only: Option<ChannelId>) -> Result<usize, IngestError> {
    let mut tx = ingest.pool().begin().await?;
    let planned = plan_in(&mut tx, ingest, guild, only).await?;
    tx.commit().await?;
    Ok(planned)
}

async fn plan_in(
    tx: &mut PgConnection,
    ingest: &Ingest,
    guild: GuildId,
    only: Option<ChannelId>,
) -> Result<usize, StoreError> {
    let mut known = channels::list(tx, guild).await?;
    known.retain(|channel| only.is_none_or(|only| only == *channel));
    // A fresh number: a backfill that runs already has passed some of the channel, so it runs once more.
    let wanted = sessions::next_revision(tx).await?;
    let planned: Vec<_> = known
        .iter()
        .map(|&channel_id| {
            ingest.job(guild, Task::BackfillChannel { channel_id }, JobQueue::Backfill, wanted)
        })
        .collect();
    jobs::enqueue(tx, &planned, ingest.config().max_attempts).await?;
    Ok(planned.len())
}

/// Takes the index `index_id` for the model's, in place of one that was lost, and asks for a backfill of
/// everything that the books say was in that one. Returns how many sessions that is.
///
/// # Errors
/// If Postgres fails; nothing has changed then.
pub async fn start_over(ingest: &Ingest, model: &ModelSlug, index_id: Uuid) -> Result<u64, IngestError> {
    let mut tx = ingest.pool().begin().await?;
    let lost = models::replace_index(&mut tx, model, index_id).await?;
    if lost > 0 {
        for guild in channels::guilds(&mut tx).await? {
            plan_in(&mut tx, ingest, guild, None).await?;
        }
    }
    tx.commit().await?;
    Ok(lost)
}

/// The work of one backfill job: places what is in no session, then asks for every session that the collection of
/// one of the models lacks.
///
/// # Errors
/// If Postgres fails; what was done until then stays done.
pub async fn run(
    ingest: &Ingest,
    guild: GuildId,
    channel: ChannelId,
    models: &[ModelSlug],
) -> Result<(), IngestError> {
    while ingest.place_stored(guild, channel, MESSAGE_PAGE).await? > 0 {}
    for model in models {
        let mut after = None;
        while let Some(last) = ask_for_missing(ingest, guild, channel, model, after).await? {
            after = Some(last);
        }
    }
    Ok(())
}

async fn ask_for_missing(
    ingest: &Ingest,
    guild: GuildId,
    channel: ChannelId,
    model: &ModelSlug,
    after: Option<MessageId>,
) -> Result<Option<MessageId>, IngestError> {
    let mut tx = ingest.pool().begin().await?;
    let eligible = ingest.config().eligible;
    let missing = sessions::missing(&mut tx, guild, channel, model, eligible, after, SESSION_PAGE).await?;
    // A number above the sessions' revisions: a job that runs already may have told the books before they were
    // struck, and then has to run once more.
    let number = sessions::next_revision(&mut tx).await?;
    let wanted: Vec<_> = missing
        .iter()
        .map(|&(_, session_id)| {
            ingest.job(guild, Task::IndexSession { session_id }, JobQueue::Backfill, number)
        })
        .collect();
    jobs::enqueue(&mut tx, &wanted, ingest.config().max_attempts).await?;
    tx.commit().await?;
    Ok(missing.last().map(|(first, _)| *first))
}

/// What a backfill has before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// Messages that are in no session and may belong in one.
    pub messages: u64,
    /// Eligible sessions that the model's collection lacks.
    pub sessions: u64,
    /// Backfill jobs that are not finished.
    pub backfills: u64,
    /// Unfinished jobs of the whole guild, live ones too.
    pub jobs: u64,
}

impl Remaining {
    /// Whether all is done that can be done: what is missing still has no job that could bring it.
    pub fn is_over(&self) -> bool {
        self.backfills == 0 && (self.messages + self.sessions == 0 || self.jobs == 0)
    }
}

/// How much is left to do, in one channel or in all of the guild's.
///
/// # Errors
/// If Postgres fails.
pub async fn remaining(
    ingest: &Ingest,
    guild: GuildId,
    only: Option<ChannelId>,
    model: &ModelSlug,
) -> Result<Remaining, StoreError> {
    let config = ingest.config();
    let (messages, sessions) =
        status::backlog(ingest.pool(), guild, only, model, config.eligible, config.include_bots).await?;
    let backfills = jobs::unfinished_backfills(ingest.pool(), guild, only).await?;
    Ok(Remaining { messages, sessions, backfills, jobs: jobs::unfinished(ingest.pool(), Some(guild)).await? })
}
