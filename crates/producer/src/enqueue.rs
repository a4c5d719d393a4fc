//! Enqueues the jobs that follow from changed sessions.

use std::collections::BTreeMap;
use std::time::Duration;

use guildex_store::jobs::{self, NewJob};
use guildex_store::sessions::{self, Changed};
use guildex_store::{StoreError, indexed_sessions};
use guildex_types::{
    ChannelId, Eligibility, GuildId, Job, JobId, JobQueue, MAX_REMOVALS, MessageId, OutdatedSession,
    Revision, SessionId, Task,
};
use sqlx::PgConnection;

use crate::config::{EnqueueConfig, IngestConfig};

/// Jobs inserted by one statement.
const BATCH: usize = 5_000;

/// Inserts jobs into the `jobs` table, in the transaction of the change that causes them.
#[derive(Debug, Clone)]
pub struct Enqueuer {
    eligibility: Eligibility,
    debounce: Duration,
    max_attempts: u32,
}

impl Enqueuer {
    /// Creates an enqueuer with the debounce and attempts of `config`.
    pub fn new(config: &IngestConfig) -> Self {
        let IngestConfig { sessions, enqueue: EnqueueConfig { max_attempts, debounce }, .. } = config;
        Self { eligibility: sessions.eligibility(), debounce: *debounce, max_attempts: *max_attempts }
    }

    /// Returns the size that a session needs to be indexed.
    pub fn eligibility(&self) -> Eligibility {
        self.eligibility
    }

    /// Builds a job. Jobs of the delete queue are due at once, others after the debounce.
    pub fn new_job(
        &self,
        guild_id: GuildId,
        task: Task,
        queue: JobQueue,
        target_revision: Revision,
    ) -> NewJob {
        let debounce = if queue == JobQueue::Delete { Duration::ZERO } else { self.debounce };
        NewJob { job: Job { guild_id, task }, queue, target_revision, debounce }
    }

    /// Inserts jobs, or raises the target revision of unfinished jobs with the same dedup keys.
    ///
    /// Rows are locked in the order of the dedup keys, as in every statement that locks several, to avoid deadlocks.
    pub async fn enqueue(
        &self,
        tx: &mut PgConnection,
        mut jobs: Vec<NewJob>,
    ) -> Result<Vec<JobId>, StoreError> {
        jobs.sort_by_cached_key(|new| new.job.dedup_key());
        let mut ids = Vec::with_capacity(jobs.len());
        for batch in jobs.chunks(BATCH) {
            ids.extend(jobs::enqueue(tx, batch, self.max_attempts).await?);
        }
        Ok(ids)
    }

    /// Enqueues an index job for each changed session, or a delete job if the session became too small.
    pub(crate) async fn enqueue_index_jobs(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        changed: &[Changed],
        queue: JobQueue,
    ) -> Result<Vec<JobId>, StoreError> {
        let jobs: Vec<NewJob> =
            changed.iter().filter_map(|change| self.index_job(guild, change, queue)).collect();
        if jobs.len() < changed.len() {
            // A session that remains too small needs no job. But a job that removes its points may already have loaded
            // it and must load it again. All changed sessions are raised, in key order.
            let of = |session_id| Job { guild_id: guild, task: Task::IndexSession { session_id } };
            let raised: Vec<_> = changed.iter().map(|change| (of(change.id), change.revision)).collect();
            jobs::raise_target_revision(tx, &raised).await?;
        }
        self.enqueue(tx, jobs).await
    }

    /// Enqueues the removal of all points of deleted sessions. An unfinished job of such a session takes this over.
    pub(crate) async fn enqueue_session_deletions(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        sessions: &[(SessionId, Revision)],
    ) -> Result<Vec<JobId>, StoreError> {
        let deletions = sessions.iter().map(|&(session_id, revision)| {
            self.new_job(guild, Task::DeleteSession { session_id }, JobQueue::Delete, revision)
        });
        self.enqueue(tx, deletions.collect()).await
    }

    /// Enqueues the immediate removal of the points of sessions that lost a message; unlike indexing, removal does not
    /// wait for a model. Returns the number of points and the jobs.
    pub(crate) async fn enqueue_point_removals(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        outdated: &[OutdatedSession],
    ) -> Result<(u64, Vec<JobId>), StoreError> {
        let ids: Vec<SessionId> = outdated.iter().map(|outdated| outdated.session_id).collect();
        let points = indexed_sessions::clear_content_hashes(tx, guild, &ids).await?;
        let removals = outdated.chunks(MAX_REMOVALS).map(|sessions| {
            let latest = sessions.iter().map(|outdated| outdated.below).max().unwrap_or(Revision::NONE);
            self.new_job(guild, Task::RemovePoints { sessions: sessions.to_vec() }, JobQueue::Delete, latest)
        });
        Ok((points, self.enqueue(tx, removals.collect()).await?))
    }

    fn index_job(&self, guild: GuildId, change: &Changed, queue: JobQueue) -> Option<NewJob> {
        let admits = |(messages, words)| self.eligibility.admits(messages, words);
        let session_id = change.id;
        if admits(change.now) {
            Some(self.new_job(guild, Task::IndexSession { session_id }, queue, change.revision))
        } else if admits(change.before) {
            Some(self.new_job(guild, Task::DeleteSession { session_id }, JobQueue::Delete, change.revision))
        } else {
            None
        }
    }
}

/// Changed sessions of one channel: the first message of each, and true if it lost or rewrote a message.
#[derive(Debug, Default)]
pub(crate) struct ChangedSessions(BTreeMap<MessageId, bool>);

impl ChangedSessions {
    /// Adds a session that lost or rewrote a message.
    pub fn message_removed(&mut self, first: MessageId) {
        self.0.insert(first, true);
    }

    /// Adds the sessions that a message moved from and to.
    pub fn message_moved(&mut self, from: Option<MessageId>, to: MessageId) {
        if let Some(from) = from {
            self.message_removed(from);
        }
        self.0.entry(to).or_insert(false);
    }

    /// Gives the sessions a new revision.
    pub async fn bump_revisions(
        self,
        tx: &mut PgConnection,
        guild: GuildId,
        channel: ChannelId,
    ) -> Result<Vec<Changed>, StoreError> {
        let sessions: Vec<(MessageId, bool)> = self.0.into_iter().collect();
        if sessions.is_empty() {
            Ok(Vec::new())
        } else {
            sessions::bump_revisions(tx, guild, channel, &sessions).await
        }
    }
}

/// Returns the sessions with their new revisions: points below these are outdated.
pub(crate) fn outdated<'a>(changed: impl IntoIterator<Item = &'a Changed>) -> Vec<OutdatedSession> {
    changed
        .into_iter()
        .map(|change| OutdatedSession { session_id: change.id, below: change.revision })
        .collect()
}
