//! Bounds of a run, and mutations.

use crate::content::Content;
use crate::ids::GuildId;

/// Bounds of a model.
#[derive(Debug, Clone)]
pub struct Config {
    /// Guild of each session.
    pub sessions: Vec<GuildId>,
    /// Initial content of each session.
    pub content: Content,
    /// Number of workers; each runs one job at a time.
    pub workers: usize,
    /// Number of changes that producers make: messages, edits, deletions.
    pub changes: u8,
    /// Number of faults: crashes, expired leases, failures, losses, duplicate deliveries.
    pub faults: u8,
    /// Number of sessions that a repair scans while all other work continues.
    pub repairs: u8,
    /// Attempts of a job, unless its kind retries forever.
    pub max_attempts: u8,
    /// Guard that is removed.
    pub mutation: Option<Mutation>,
}

impl Default for Config {
    /// One session and two workers: small enough to explore in seconds.
    fn default() -> Self {
        Self {
            sessions: vec![1],
            content: Content::A,
            workers: 2,
            changes: 2,
            faults: 1,
            repairs: 0,
            max_attempts: 2,
            mutation: None,
        }
    }
}

impl Config {
    /// Returns whether this mutation applies.
    pub fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

/// Removal of one guard of the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// `claim` also claims running jobs.
    ClaimRunning,
    /// Completing, failing, renewing and releasing ignore the claim token.
    IgnoreClaimToken,
    /// A change and its job commit in two transactions.
    EnqueueSeparately,
    /// `enqueue` does not raise the target revision of an existing job.
    KeepTargetRevision,
    /// A change to a session that stays ineligible does not raise its job's target revision.
    SkipTargetRevisionOfIneligible,
    /// `complete` ignores the target revision.
    CompleteBelowTarget,
    /// A job whose attempts are spent dies although its target revision has risen since its claim.
    DieBelowTarget,
    /// An `index_session` that replaces a removal may die.
    RemovalMayDie,
    /// Expired leases are never rescued.
    NeverRescue,
    /// `load` ignores the guild.
    LoadAnyGuild,
    /// `begin_rewrite` keeps the content hash.
    RewriteKeepsHash,
    /// `begin_rewrite` ignores the session's revision.
    RewriteAnyRevision,
    /// `upsert` overwrites newer points.
    UpsertAnyRevision,
    /// `delete_below` also deletes points of the given and of later revisions.
    DeleteAnyRevision,
    /// `delete_below` deletes nothing.
    DeleteNothing,
    /// `record` ignores the session's revision.
    RecordAnyRevision,
    /// `record` of an older revision ignores removals since then.
    RecordDespiteRemoval,
    /// `record` of an older revision overwrites a newer record.
    RecordOverNewer,
    /// `record` of an older revision keeps the content hash.
    RecordKeepsHash,
    /// `record` ignores that the index was replaced since the claim.
    RecordAnyIndex,
    /// A deletion does not raise its session's revision.
    DeleteKeepsRevision,
    /// A deletion does not set `last_removal_revision`.
    DeleteKeepsRemovalRevision,
    /// A deletion does not enqueue `remove_points`.
    DeleteWithoutRemoval,
    /// A deletion keeps the content hash, so points that its removal deletes may be taken for unchanged.
    DeleteKeepsHash,
    /// Search shows points of any revision.
    ShowAnyRevision,
    /// Search ignores removals since the indexed revision.
    ShowRemoved,
    /// Search ignores that a session is deleted.
    ShowDeleted,
    /// A session that has no record is enqueued at its own revision instead of a new one.
    ReindexAtSessionRevision,
    /// A repair deletes a record and keeps the session's revision.
    InvalidateKeepsRevision,
    /// A new index keeps the records of the lost one.
    RebuildKeepsRecords,
}
