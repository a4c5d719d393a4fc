//! `delete_session`: remove all points of a deleted session, or of one that became too small.
//!
//! Runs like [`index_session`], through the same pipeline: the session is read as it is when the
//! job runs, and its points are removed or, if it exists again, updated.

use guildex_types::{GuildId, JobKind, JobQueue, SessionId};

use super::index_session;
use crate::time_limits::TimeLimit;

/// Kind of these jobs.
pub const KIND: JobKind = JobKind::DeleteSession;
/// Queue of these jobs.
pub const QUEUE: JobQueue = JobQueue::Delete;
/// Version of the payload.
pub const VERSION: u16 = JobKind::VERSION;
/// Unlimited attempts: a deletion is never given up.
pub const RETRIES_FOREVER: bool = true;
/// Default time limit of each step, set by `worker.time_limits.delete`.
pub const TIME_LIMIT: TimeLimit = TimeLimit::from_mins(2, 5);

/// Deduplication key, shared with `index_session`: a session has at most one unfinished job.
pub fn dedup_key(guild: GuildId, session: SessionId) -> String {
    index_session::dedup_key(guild, session)
}
