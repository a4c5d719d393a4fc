//! A job that a worker has claimed, and its progress.

use crate::ids::{GuildId, JobId, Revision, SessionId};
use crate::jobs::JobKind;
use crate::postgres::LoadedSession;

/// Job that a worker has claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimedJob {
    /// Job id.
    pub id: JobId,
    /// Claim token; invalid once another worker claims the job.
    pub token: u8,
    /// Guild of the payload.
    pub guild: GuildId,
    /// Session of the payload.
    pub session: SessionId,
    /// Kind of the payload.
    pub kind: JobKind,
    /// Target revision at the claim.
    pub target_revision: Revision,
    /// Whether the index was replaced since the claim.
    pub index_replaced: bool,
    /// Progress.
    pub stage: Stage,
}

/// Progress of a claimed job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing is done.
    Claimed,
    /// The session is loaded.
    Loaded(LoadedSession),
    /// `begin_rewrite` is done, and this many chunks are written.
    Upserting(LoadedSession, usize),
    /// All chunks are written; points of lower revisions are to be deleted.
    DeletingBelow(LoadedSession),
    /// The index is up to date; the record is to be written.
    Recording(LoadedSession),
    /// The job is to be completed or released.
    Ending(Outcome),
}

/// Result of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The index has reached this revision.
    Reached(Revision),
    /// The job is released and runs again.
    Released,
}
