//! Sessions and their index records, as `guildex_store::sessions` and `guildex_store::indexed_sessions` keep them.

use crate::config::{Config, Mutation};
use crate::content::Content;
use crate::ids::{GuildId, Revision};

/// Row of `sessions`, with its row of `indexed_sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Session {
    /// Tenant.
    pub guild: GuildId,
    /// Live messages; a session without any is a tombstone.
    pub content: Content,
    /// `revision`.
    pub revision: Revision,
    /// `last_removal_revision`.
    pub last_removal_revision: Revision,
    /// Row of `indexed_sessions`.
    pub indexed: Option<IndexedSession>,
    /// Whether a backfill is going to check this session.
    pub awaits_backfill: bool,
    /// Highest target revision of a dead job; 0 if there is none.
    pub dead_revision: Revision,
}

/// Row of `indexed_sessions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IndexedSession {
    /// `point_revision`.
    pub point_revision: Revision,
    /// `indexed_revision`.
    pub indexed_revision: Revision,
    /// `content_hash`.
    pub content_hash: Option<Content>,
    /// Number of points.
    pub points: u8,
}

/// Result of `sessions::load`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoadedSession {
    pub(crate) revision: Revision,
    pub(crate) content: Content,
    pub(crate) indexed: Option<IndexedSession>,
}

impl Session {
    /// Models `sessions::load`; none if the guild has no such session.
    pub(crate) fn load(&self, config: &Config, guild: GuildId) -> Option<LoadedSession> {
        let is_visible = self.guild == guild || config.has(Mutation::LoadAnyGuild);
        is_visible.then_some(LoadedSession {
            revision: self.revision,
            content: self.content,
            indexed: self.indexed,
        })
    }

    /// Models `sessions::begin_rewrite`; returns whether the session is still at the loaded revision.
    pub(crate) fn begin_rewrite(&mut self, config: &Config, revision: Revision) -> bool {
        let is_current = self.revision == revision || config.has(Mutation::RewriteAnyRevision);
        if is_current && !config.has(Mutation::RewriteKeepsHash) {
            self.clear_content_hash();
        }
        is_current
    }

    /// Models `indexed_sessions::clear_content_hashes`.
    pub(crate) fn clear_content_hash(&mut self) {
        if let Some(indexed) = &mut self.indexed {
            indexed.content_hash = None;
        }
    }

    /// Models `sessions::record`; `None` deletes the record.
    pub(crate) fn record(&mut self, config: &Config, revision: Revision, indexed: Option<IndexedSession>) {
        let is_current = self.revision == revision || config.has(Mutation::RecordAnyRevision);
        if is_current && (indexed.is_none() || !self.content.is_empty()) {
            self.indexed = indexed;
        } else if let Some(indexed) = indexed.filter(|indexed| self.accepts_older(config, indexed)) {
            self.indexed = Some(IndexedSession {
                content_hash: indexed.content_hash.filter(|_| config.has(Mutation::RecordKeepsHash)),
                ..indexed
            });
        }
    }

    /// Returns whether points of an earlier revision may be recorded: nothing was removed since, and no newer record
    /// exists.
    fn accepts_older(&self, config: &Config, new: &IndexedSession) -> bool {
        let has_newer = self.indexed.is_some_and(|old| old.indexed_revision >= new.indexed_revision);
        new.point_revision == new.indexed_revision
            && (self.last_removal_revision <= new.indexed_revision
                || config.has(Mutation::RecordDespiteRemoval))
            && (!has_newer || config.has(Mutation::RecordOverNewer))
            && !self.content.is_empty()
    }

    /// Returns whether `sessions::missing` selects it.
    pub(crate) fn is_missing(&self) -> bool {
        self.content.is_eligible()
            && self.indexed.is_none_or(|indexed| indexed.indexed_revision != self.revision)
    }

    /// Returns whether a search of the guild shows a point of this session.
    pub(crate) fn admits(&self, config: &Config, guild: GuildId, point_revision: Revision) -> bool {
        let (any_revision, removed, deleted) = (
            config.has(Mutation::ShowAnyRevision),
            config.has(Mutation::ShowRemoved),
            config.has(Mutation::ShowDeleted),
        );
        self.guild == guild
            && (!self.content.is_empty() || deleted)
            && self.indexed.is_some_and(|indexed| {
                (indexed.point_revision == point_revision || any_revision)
                    && (indexed.indexed_revision >= self.last_removal_revision || removed)
            })
    }

    /// Models `sessions::bump_revisions` in the transaction of a change; returns the session's revision.
    pub(crate) fn bump_revision(
        &mut self,
        config: &Config,
        next: Revision,
        content: Content,
        removed: bool,
    ) -> Revision {
        self.content = content;
        if !(content.is_empty() && config.has(Mutation::DeleteKeepsRevision)) {
            self.revision = next;
        }
        if removed && !config.has(Mutation::DeleteKeepsRemovalRevision) {
            self.last_removal_revision = self.revision;
        }
        self.revision
    }
}
