//! A task on its way through the pipeline.

use guildex_document::PointDraft;
use guildex_index::Point;
use guildex_store::sessions::Session;

use crate::fan_out::ModelTask;

/// A task with its session as it was loaded, and the change to make. `P` are the points to write: drafts before they are
/// embedded, complete points after it.
pub(super) struct IndexTask<P> {
    pub task: ModelTask,
    pub session: Session,
    pub plan: Plan<P>,
}

/// Change to a session's points.
pub(super) enum Plan<P> {
    /// Remove all points: the session is deleted or too small.
    Remove,
    /// Keep the points, which are up to date, and record the revision.
    Keep,
    /// Replace the points.
    Write { points: Vec<P>, content_hash: Vec<u8> },
}

pub(super) type Loaded = Vec<IndexTask<PointDraft>>;
pub(super) type Embedded = Vec<IndexTask<Point>>;
