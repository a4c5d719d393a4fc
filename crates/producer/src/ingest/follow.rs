//! What follows from a change of messages: revisions of sessions, and jobs.

use std::collections::BTreeMap;

use guildex_store::jobs::{self, NewJob};
use guildex_store::sessions::{self, Changed};
use guildex_store::{StoreError, indexed_sessions};
use guildex_types::{
    ChannelId, GuildId, Job, JobId, JobQueue, MAX_REMOVALS, MessageId, OutdatedSession, Revision, SessionId,
    Task,
};
use sqlx::PgConnection;

use super::Ingest;

/// Jobs written down in one statement.
const BATCH: usize = 5_000;

impl Ingest {
    /// Gives the touched sessions a new revision.
    pub(crate) async fn touch(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        channel: ChannelId,
        touched: Touched,
    ) -> Result<Vec<Changed>, StoreError> {
        let touched: Vec<(MessageId, bool)> = touched.0.into_iter().collect();
        if touched.is_empty() {
            Ok(Vec::new())
        } else {
            sessions::bump_revisions(tx, guild, channel, &touched).await
        }
    }

    /// Asks for the jobs that follow from changes to sessions.
    pub(crate) async fn ask(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        changed: &[Changed],
        queue: JobQueue,
    ) -> Result<Vec<JobId>, StoreError> {
        let jobs: Vec<NewJob> =
            changed.iter().filter_map(|change| self.job_for(guild, change, queue)).collect();
        if jobs.len() < changed.len() {
            // A session that stays too small needs no job. The one that removes its points may have read it
            // already, though, and is to read it again. All at once: rows are locked in the order of their keys.
            let of = |session_id| Job { guild_id: guild, task: Task::IndexSession { session_id } };
            let raised: Vec<_> = changed.iter().map(|change| (of(change.id), change.revision)).collect();
            jobs::raise_target_revision(tx, &raised).await?;
        }
        self.enqueue(tx, jobs).await
    }

    /// Asks for the removal of all points of razed sessions. A job of such a session that is under way takes this
    /// over, and so writes none behind it.
    pub(crate) async fn ask_for_deletion(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        sessions: &[(SessionId, Revision)],
    ) -> Result<Vec<JobId>, StoreError> {
        let deletions = sessions.iter().map(|&(session_id, revision)| {
            self.job(guild, Task::DeleteSession { session_id }, JobQueue::Delete, revision)
        });
        self.enqueue(tx, deletions.collect()).await
    }

    /// Has the points of sessions that lost something removed at once: a removal waits for no model. Returns how many
    /// points there are, and the jobs.
    pub(crate) async fn withdraw(
        &self,
        tx: &mut PgConnection,
        guild: GuildId,
        outdated: &[OutdatedSession],
    ) -> Result<(u64, Vec<JobId>), StoreError> {
        let ids: Vec<SessionId> = outdated.iter().map(|outdated| outdated.session_id).collect();
        let points = indexed_sessions::clear_content_hashes(tx, guild, &ids).await?;
        let removals = outdated.chunks(MAX_REMOVALS).map(|sessions| {
            let latest = sessions.iter().map(|outdated| outdated.below).max().unwrap_or(Revision::NONE);
            self.job(guild, Task::RemovePoints { sessions: sessions.to_vec() }, JobQueue::Delete, latest)
        });
        Ok((points, self.enqueue(tx, removals.collect()).await?))
    }

    /// Jobs of one transaction are written in the order of their keys, as all who lock several do: these differ in
    /// the session alone.
    async fn enqueue(&self, tx: &mut PgConnection, mut jobs: Vec<NewJob>) -> Result<Vec<JobId>, StoreError> {
        jobs.sort_by_cached_key(|new| new.job.dedup_key());
        let mut ids = Vec::with_capacity(jobs.len());
        for batch in jobs.chunks(BATCH) {
            ids.extend(jobs::enqueue(tx, batch, self.config.max_attempts).await?);
        }
        Ok(ids)
    }

    fn job_for(&self, guild: GuildId, change: &Changed, queue: JobQueue) -> Option<NewJob> {
        let admits = |(messages, words)| self.config.eligible.admits(messages, words);
        let session_id = change.id;
        if admits(change.now) {
            Some(self.job(guild, Task::IndexSession { session_id }, queue, change.revision))
        } else if admits(change.before) {
            Some(self.job(guild, Task::DeleteSession { session_id }, JobQueue::Delete, change.revision))
        } else {
            None
        }
    }
}

/// Sessions that changed, by first message, and whether something was taken from them or rewritten in them.
#[derive(Debug, Default)]
pub(crate) struct Touched(BTreeMap<MessageId, bool>);

impl Touched {
    pub fn removed(&mut self, first: MessageId) {
        self.0.insert(first, true);
    }

    pub fn moved(&mut self, from: Option<MessageId>, to: MessageId) {
        if let Some(from) = from {
            self.removed(from);
        }
        self.0.entry(to).or_insert(false);
    }
}

/// What these sessions are by now, for those who remove points.
pub(crate) fn outdated<'a>(changed: impl IntoIterator<Item = &'a Changed>) -> Vec<OutdatedSession> {
    changed
        .into_iter()
        .map(|change| OutdatedSession { session_id: change.id, below: change.revision })
        .collect()
}
