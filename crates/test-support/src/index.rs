//! An embedded index in a temporary folder, some calls of which a test intercepts.

use std::ops::Deref;
use std::path::Path;

use async_trait::async_trait;
use guildex_index::{
    BulkLoad, Collection, CollectionName, Difference, EmbeddedIndex, Ensured, Error, Hit, Identity, Page,
    Point, PointHeader, PointSelector, Query, Scope, VectorIndex,
};
use guildex_types::{GuildId, MessageId, PointId, Revision, SessionId};
use tempfile::TempDir;

/// Calls that a test may observe, delay or fail. Each reaches the index unless it is overridden.
#[async_trait]
#[allow(missing_docs, reason = "the calls of VectorIndex")]
pub trait Interceptor: Send + Sync {
    async fn upsert(
        &self,
        index: &EmbeddedIndex,
        collection: &CollectionName,
        points: Vec<Point>,
    ) -> Result<(), Error> {
        index.upsert(collection, points).await
    }

    async fn delete_below(
        &self,
        index: &EmbeddedIndex,
        collection: &CollectionName,
        guild: GuildId,
        sessions: &[(SessionId, Revision)],
    ) -> Result<(), Error> {
        index.delete_below(collection, guild, sessions).await
    }

    async fn delete_messages(
        &self,
        index: &EmbeddedIndex,
        collection: &CollectionName,
        guild: GuildId,
        messages: &[MessageId],
        below: Revision,
    ) -> Result<(), Error> {
        index.delete_messages(collection, guild, messages, below).await
    }

    async fn search(
        &self,
        index: &EmbeddedIndex,
        collection: &CollectionName,
        scope: &Scope,
        query: Query,
    ) -> Result<Vec<Hit>, Error> {
        index.search(collection, scope, query).await
    }
}

/// An embedded index behind an [`Interceptor`], to which it dereferences.
pub struct InterceptedIndex<I> {
    index: EmbeddedIndex,
    interceptor: I,
    /// Removed after the index is dropped.
    _folder: TempDir,
}

impl<I> InterceptedIndex<I> {
    /// Opens an empty index.
    ///
    /// # Panics
    /// If the folder or the index cannot be created.
    pub fn open(interceptor: I) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { index: EmbeddedIndex::open(folder.path()).unwrap(), interceptor, _folder: folder }
    }
}

impl<I> Deref for InterceptedIndex<I> {
    type Target = I;

    fn deref(&self) -> &I {
        &self.interceptor
    }
}

#[async_trait]
impl<I: Interceptor> VectorIndex for InterceptedIndex<I> {
    async fn ensure(&self, collection: &Collection) -> Result<Ensured, Error> {
        self.index.ensure(collection).await
    }

    async fn differences(&self, collection: &Collection) -> Result<Vec<Difference>, Error> {
        self.index.differences(collection).await
    }

    async fn update_in_place(&self, collection: &Collection) -> Result<Vec<Difference>, Error> {
        self.index.update_in_place(collection).await
    }

    async fn identity(&self, collection: &CollectionName) -> Result<Option<Identity>, Error> {
        self.index.identity(collection).await
    }

    async fn set_identity(&self, collection: &CollectionName, identity: Identity) -> Result<(), Error> {
        self.index.set_identity(collection, identity).await
    }

    async fn drop_collection(&self, collection: &CollectionName) -> Result<(), Error> {
        self.index.drop_collection(collection).await
    }

    async fn set_alias(&self, alias: &str, collection: &CollectionName) -> Result<(), Error> {
        self.index.set_alias(alias, collection).await
    }

    async fn bulk_load(&self, collection: &CollectionName, bulk_load: BulkLoad) -> Result<(), Error> {
        self.index.bulk_load(collection, bulk_load).await
    }

    async fn optimize(&self, collection: &CollectionName) -> Result<(), Error> {
        self.index.optimize(collection).await
    }

    async fn snapshot(&self, collection: &CollectionName, folder: &Path) -> Result<(), Error> {
        self.index.snapshot(collection, folder).await
    }

    async fn restore(&self, collection: &Collection, folder: &Path) -> Result<(), Error> {
        self.index.restore(collection, folder).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.index.ping().await
    }

    async fn upsert(&self, collection: &CollectionName, points: Vec<Point>) -> Result<(), Error> {
        self.interceptor.upsert(&self.index, collection, points).await
    }

    async fn delete_below(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        sessions: &[(SessionId, Revision)],
    ) -> Result<(), Error> {
        self.interceptor.delete_below(&self.index, collection, guild, sessions).await
    }

    async fn delete_messages(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        messages: &[MessageId],
        below: Revision,
    ) -> Result<(), Error> {
        self.interceptor.delete_messages(&self.index, collection, guild, messages, below).await
    }

    async fn search(
        &self,
        collection: &CollectionName,
        scope: &Scope,
        query: Query,
    ) -> Result<Vec<Hit>, Error> {
        self.interceptor.search(&self.index, collection, scope, query).await
    }

    async fn scroll(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        after: Option<PointId>,
        limit: usize,
    ) -> Result<Page, Error> {
        self.index.scroll(collection, guild, after, limit).await
    }

    async fn headers(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        which: PointSelector<'_>,
    ) -> Result<Vec<PointHeader>, Error> {
        self.index.headers(collection, guild, which).await
    }

    async fn count(&self, collection: &CollectionName, guild: GuildId) -> Result<usize, Error> {
        self.index.count(collection, guild).await
    }

    async fn guilds(&self, collection: &CollectionName) -> Result<Vec<GuildId>, Error> {
        self.index.guilds(collection).await
    }
}
