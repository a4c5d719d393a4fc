//! `index_session`: update a session's points in the collection of every model.
//!
//! Batches of these jobs run through the pipeline: load the sessions, embed their chunks, upsert the
//! points and record the result. `docs/protocol.md` explains the order of the steps, and why a crash between any two of
//! them is harmless.

use guildex_types::{GuildId, JobKind, JobQueue, SessionId};

use crate::claimed_job::ClaimedJob;
use crate::fan_out::ModelTask;
use crate::model_collections::Snapshot;
use crate::pipeline::Pipelines;
use crate::time_limits::TimeLimit;

/// Kind of these jobs.
pub const KIND: JobKind = JobKind::IndexSession;
/// Queue for messages as they arrive. Imports and backfills use [`JobQueue::Backfill`].
pub const QUEUE: JobQueue = JobQueue::Live;
/// Version of the payload.
pub const VERSION: u16 = JobKind::VERSION;
/// Unlimited attempts; otherwise `worker.max_attempts` applies.
pub const RETRIES_FOREVER: bool = false;
/// Default time limit of each step, set by `worker.time_limits.index_session`.
pub const TIME_LIMIT: TimeLimit = TimeLimit::from_mins(2, 5);

/// Deduplication key: a session has at most one unfinished job, an update or a deletion. Changes raise its target
/// revision.
pub fn dedup_key(guild: GuildId, session: SessionId) -> String {
    format!("session/{guild}/{session}")
}

/// Starts a batch of session jobs, deletions among them: splits each into a task for each model's pipeline.
pub(crate) async fn run(pipelines: &mut Pipelines, batch: Vec<ClaimedJob>, snapshot: &Snapshot) {
    if batch.is_empty() {
        return;
    }
    let count = snapshot.collections.len();
    let mut by_model: Vec<Vec<ModelTask>> = (0..count).map(|_| Vec::new()).collect();
    for claimed in batch {
        let tasks = ModelTask::split(claimed, snapshot.models.clone(), count);
        by_model.iter_mut().zip(tasks).for_each(|(model, task)| model.push(task));
    }
    pipelines.push(&snapshot.collections, by_model).await;
}
