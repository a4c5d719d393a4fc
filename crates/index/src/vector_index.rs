use std::path::Path;

use async_trait::async_trait;
use guildex_types::{GuildId, MessageId, PointId, Revision, SessionId};

use crate::{
    BulkLoad, Collection, CollectionName, Difference, Ensured, Error, Hit, Identity, Page, Point,
    PointHeader, PointSelector, Query, Scope,
};

/// A vector index: collections, and the points in them. Every read or delete of points names a guild.
///
/// Writes are durable when they return. They may be repeated and may arrive in any order: a revision older than
/// the stored one changes nothing.
///
/// Methods that take a collection fail with [`Error::NoCollection`] if it does not exist, except [`ensure`],
/// [`drop_collection`] and [`restore`].
///
/// [`ensure`]: Self::ensure
/// [`drop_collection`]: Self::drop_collection
/// [`restore`]: Self::restore
#[async_trait]
pub trait VectorIndex: Send + Sync {
    /// Creates the collection with its payload indexes, unless it exists.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if it exists with other vectors; [`Error::Damaged`] if it cannot be opened.
    async fn ensure(&self, collection: &Collection) -> Result<Ensured, Error>;

    /// Lists where the collection differs from what [`ensure`](Self::ensure) creates.
    async fn differences(&self, collection: &Collection) -> Result<Vec<Difference>, Error>;

    /// Updates everything that can be changed in place (payload indexes, graphs, thresholds, limits, quantization)
    /// and returns the remaining [`differences`](Self::differences). Searches continue meanwhile.
    async fn update_in_place(&self, collection: &Collection) -> Result<Vec<Difference>, Error>;

    /// Reads the collection's identity; `None` if [`set_identity`](Self::set_identity) was never called on it.
    async fn identity(&self, collection: &CollectionName) -> Result<Option<Identity>, Error>;

    /// Writes the collection's identity atomically.
    async fn set_identity(&self, collection: &CollectionName, identity: Identity) -> Result<(), Error>;

    /// Deletes the collection with its points; succeeds if it does not exist.
    async fn drop_collection(&self, collection: &CollectionName) -> Result<(), Error>;

    /// Points the alias at the collection, atomically replacing any other target, for other clients of the server.
    /// The embedded engine has no other clients and does nothing.
    async fn set_alias(&self, alias: &str, collection: &CollectionName) -> Result<(), Error>;

    /// Suspends ([`BulkLoad::Begin`]) or resumes ([`BulkLoad::End`]) building search graphs during a bulk load.
    /// Searches stay correct throughout. The embedded engine builds no graphs and does nothing.
    async fn bulk_load(&self, collection: &CollectionName, bulk_load: BulkLoad) -> Result<(), Error>;

    /// Optimizes the collection for fast searches. Indexes also do so on their own after enough changes. Searches
    /// stay correct throughout; writes may wait.
    async fn optimize(&self, collection: &CollectionName) -> Result<(), Error>;

    /// Writes a consistent snapshot of the collection into `folder`, an existing empty one. Searches continue
    /// meanwhile; writes may wait. An interrupted snapshot cannot be restored.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be written.
    async fn snapshot(&self, collection: &CollectionName, folder: &Path) -> Result<(), Error>;

    /// Replaces the collection, which need not exist, with a [`snapshot`](Self::snapshot). The restored collection
    /// has no identity until [`set_identity`](Self::set_identity). The snapshot is not modified; a second copy has
    /// to fit on the disk.
    ///
    /// # Errors
    /// [`Error::NotASnapshot`] or [`Error::Mismatch`] if the folder holds no snapshot of such a collection. On any
    /// error the existing collection is unchanged.
    async fn restore(&self, collection: &Collection, folder: &Path) -> Result<(), Error>;

    /// Checks that the index responds.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it does not.
    async fn ping(&self) -> Result<(), Error>;

    /// Writes points. Points whose stored revision is higher are skipped silently.
    ///
    /// # Errors
    /// [`Error::Vector`] for a dense vector with the wrong number of dimensions or values that are not finite; then
    /// nothing of the batch is written.
    async fn upsert(&self, collection: &CollectionName, points: Vec<Point>) -> Result<(), Error>;

    /// Deletes each session's points below the given revision. A tombstone's revision deletes all of them.
    async fn delete_below(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        sessions: &[(SessionId, Revision)],
    ) -> Result<(), Error>;

    /// Deletes the points below `below` that contain any of the messages.
    async fn delete_messages(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        messages: &[MessageId],
        below: Revision,
    ) -> Result<(), Error>;

    /// Returns the best points of the scope, best first, ties ordered by id.
    ///
    /// # Errors
    /// [`Error::Vector`] for a dense vector with the wrong number of dimensions or values that are not finite.
    async fn search(
        &self,
        collection: &CollectionName,
        scope: &Scope,
        query: Query,
    ) -> Result<Vec<Hit>, Error>;

    /// Returns the guild's points after `after` in id order: at most `limit` and at most
    /// [`MAX_LIMIT`](crate::MAX_LIMIT). Dense vectors are normalized.
    async fn scroll(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        after: Option<PointId>,
        limit: usize,
    ) -> Result<Page, Error>;

    /// Returns the headers of selected points of the guild in id order. Missing points and those of other guilds are
    /// omitted. For [`PointSelector::After`], fewer than requested means that there are no more.
    async fn headers(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        points: PointSelector<'_>,
    ) -> Result<Vec<PointHeader>, Error>;

    /// Counts the guild's points.
    async fn count(&self, collection: &CollectionName, guild: GuildId) -> Result<usize, Error>;

    /// Lists the guilds that have points, by id. `verify` uses it to find guilds that Postgres does not know.
    async fn guilds(&self, collection: &CollectionName) -> Result<Vec<GuildId>, Error>;
}
