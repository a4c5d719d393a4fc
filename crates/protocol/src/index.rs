//! The vector index, with the guarantees of `guildex_index::VectorIndex`.

use std::collections::BTreeMap;

use crate::config::{Config, Mutation};
use crate::content::Content;
use crate::ids::{GuildId, Revision, SessionId};

/// Points of the collection.
pub(crate) type Points = BTreeMap<PointId, Point>;

/// Parts of a point id; there is one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PointId {
    pub(crate) guild: GuildId,
    pub(crate) session: SessionId,
    pub(crate) chunk: usize,
}

/// Payload of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point {
    /// `revision`.
    pub revision: Revision,
    /// Content that it was made from.
    pub content: Content,
}

/// Models `VectorIndex::upsert`: a point of an older revision is ignored.
pub(crate) fn upsert(config: &Config, index: &mut Points, id: PointId, point: Point) {
    let stored = index.entry(id).or_insert(point);
    if stored.revision <= point.revision || config.has(Mutation::UpsertAnyRevision) {
        *stored = point;
    }
}

/// Models `VectorIndex::delete_below`.
pub(crate) fn delete_below(
    config: &Config,
    index: &mut Points,
    guild: GuildId,
    session: SessionId,
    revision: Revision,
) {
    if config.has(Mutation::DeleteNothing) {
        return;
    }
    index.retain(|id, point| {
        (id.guild, id.session) != (guild, session)
            || (point.revision >= revision && !config.has(Mutation::DeleteAnyRevision))
    });
}
