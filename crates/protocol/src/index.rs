//! The index, as `guildex_index::VectorIndex` promises it.

use std::collections::BTreeMap;

use crate::{Config, Content, Flaw, GuildId, Revision, SessionId};

/// The collection.
pub(crate) type Points = BTreeMap<PointId, Point>;

/// What `PointId::of` is made of; there is one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PointId {
    pub(crate) guild: GuildId,
    pub(crate) session: SessionId,
    pub(crate) chunk: usize,
}

/// A point's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point {
    /// `revision`.
    pub revision: Revision,
    /// What it was made from.
    pub content: Content,
}

/// `VectorIndex::upsert`: an older revision changes nothing.
pub(crate) fn upsert(config: &Config, index: &mut Points, id: PointId, point: Point) {
    let stored = index.entry(id).or_insert(point);
    if stored.revision <= point.revision || config.has(Flaw::UpsertOfAnyRevision) {
        *stored = point;
    }
}

/// `VectorIndex::delete_below`.
pub(crate) fn delete_below(
    config: &Config,
    index: &mut Points,
    guild: GuildId,
    session: SessionId,
    revision: Revision,
) {
    if config.has(Flaw::NothingDeletedBelow) {
        return;
    }
    index.retain(|id, point| {
        (id.guild, id.session) != (guild, session)
            || (point.revision >= revision && !config.has(Flaw::DeleteOfAnyRevision))
    });
}
