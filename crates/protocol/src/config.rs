//! How much of the world is looked at, and with which guard taken away.

use crate::{Content, GuildId, State};

/// The bounds of a model.
#[derive(Debug, Clone)]
pub struct Config {
    /// The sessions that there are, by their guilds.
    pub sessions: Vec<GuildId>,
    /// What stands in each of them at the beginning.
    pub content: Content,
    /// Workers; each does one job at a time.
    pub workers: usize,
    /// How many changes producers make: messages, edits, deletions.
    pub changes: u8,
    /// How many faults happen: crashes, lapses, failures, losses, duplicates.
    pub faults: u8,
    /// How many sessions a repair looks at while everything else goes on.
    pub repairs: u8,
    /// Attempts before a job is dead that may die.
    pub max_attempts: u8,
    /// The guard that is missing.
    pub flaw: Option<Flaw>,
}

impl Default for Config {
    /// One session, two workers: small enough to be looked through in seconds.
    fn default() -> Self {
        Self {
            sessions: vec![1],
            content: Content::A,
            workers: 2,
            changes: 2,
            faults: 1,
            repairs: 0,
            max_attempts: 2,
            flaw: None,
        }
    }
}

impl Config {
    /// Whether this guard is missing.
    pub fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// The states that the world begins with: sessions that were just made, and the same when all is done.
    pub(crate) fn beginnings(&self) -> Vec<State> {
        let new = State::new(self);
        let done = crate::drain(&Self { flaw: None, ..self.clone() }, new.clone());
        std::iter::once(new).chain(done).collect()
    }
}

/// A guard of the code that is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// `claim` takes a running job, too.
    ClaimOfRunning,
    /// What a worker says of a job counts without the token of its claim.
    NoToken,
    /// A change and its job are two transactions.
    JobApart,
    /// `enqueue` leaves the wanted revision of a job that is there as it is.
    WantedNotRaised,
    /// A change to a session that is too small, and was, does not raise what its job has to reach.
    SmallNotRaised,
    /// `complete` does not look at what is wanted by now.
    NoAgain,
    /// A job dies of its last attempt though more is wanted by now.
    DiesWithNewer,
    /// An `index_session` that takes a removal's place may die.
    RemovalForgotten,
    /// Nobody returns jobs whose lease is over.
    NoSweeper,
    /// `load` does not ask whose session it is.
    LoadOfAnyGuild,
    /// `begin_rewrite` leaves the content hash.
    HashKept,
    /// `begin_rewrite` does not ask whether the session moved on.
    RewriteOfAnyRevision,
    /// `upsert` overwrites newer points.
    UpsertOfAnyRevision,
    /// `delete_below` does not spare points of the revision given and of later ones.
    DeleteOfAnyRevision,
    /// Points of lower revisions are left.
    NothingDeletedBelow,
    /// `record` does not ask whether the session moved on.
    RecordOfAnyRevision,
    /// `record` of an older revision does not ask whether something was removed since.
    RecordOfRemoved,
    /// `record` of an older revision does not ask whether the books know as much or more.
    RecordOfKnown,
    /// `record` of an older revision keeps the content hash.
    HashOfOlder,
    /// `record` does not ask whether the index is the one that was written.
    RecordOfAnyIndex,
    /// A deletion gives its session no new revision.
    TombstoneWithoutRevision,
    /// A deletion does not raise `removed_revision`.
    RemovalNotNoted,
    /// A deletion asks for the index job alone.
    NoRemoval,
    /// A deletion leaves the content hash: points that its removal takes may be taken for unchanged.
    HashKeptByRemoval,
    /// Search shows points of whatever revision.
    ShowsAnyPoint,
    /// Search does not ask whether something was removed since.
    ShowsRemoved,
    /// Search does not ask whether the session lives.
    ShowsDead,
    /// What the books lack is asked for at the session's revision, and not at a number of its own.
    NoNumberOfItsOwn,
    /// A new index leaves the books of the lost one.
    BooksOfLostIndex,
}
