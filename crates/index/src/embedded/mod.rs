//! The Qdrant engine embedded in this process, with a folder of its own.

mod collection_registry;
mod convert;
mod engine;
mod files;
mod identity;
mod lock;
mod schema;
mod shard;
mod snapshot;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use guildex_types::{GuildId, MessageId, PointId, Revision, SessionId};
use tokio::sync::{mpsc, oneshot};

use crate::{
    BulkLoad, Collection, CollectionName, Difference, Ensured, Error, Hit, Identity, MAX_LIMIT, Page, Point,
    PointHeader, PointSelector, Query, Scope, VectorIndex,
};
use collection_registry::CollectionRegistry;
use shard::Shard;
use writer::{Change, CollectionOp, Request};

/// A [`VectorIndex`] in a folder that one process opens at a time.
///
/// The engine is synchronous. Reads run on tokio's blocking threads, concurrently with each other and with writes.
/// Writes run one at a time on a dedicated thread, which flushes once for all waiting writes and optimizes a
/// collection after enough changes. Dropping the index finishes pending writes and closes it.
pub struct EmbeddedIndex {
    registry: Arc<CollectionRegistry>,
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl EmbeddedIndex {
    /// Opens the index in a folder, creating the folder if it is missing.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process (or this one) has it open; [`Error::Io`] if it cannot be written.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let registry = Arc::new(CollectionRegistry::open(dir)?);
        let (requests, inbox) = mpsc::channel(writer::MAX_GROUP);
        let writer = std::thread::Builder::new()
            .name("index-writer".to_owned())
            .spawn({
                let registry = Arc::clone(&registry);
                move || writer::run(&registry, inbox)
            })
            .map_err(|source| Error::Io { path: dir.to_owned(), source })?;
        Ok(Self { registry, requests: Some(requests), writer: Some(writer) })
    }

    async fn write(&self, collection: &CollectionName, change: Change) -> Result<(), Error> {
        let (done, outcome) = oneshot::channel();
        let request = Request { collection: collection.clone(), change, done };
        let requests = self.requests.as_ref().ok_or(Error::Closed)?;
        requests.send(request).await.map_err(|_| Error::Closed)?;
        outcome.await.map_err(|_| Error::Closed)?
    }

    async fn read<T: Send + 'static>(
        &self,
        collection: &CollectionName,
        read: impl Fn(&Shard) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let collection = collection.clone();
        self.blocking(move |registry| {
            loop {
                let shard = registry.shard(&collection)?;
                let outcome = read(&shard);
                // If the collection was dropped or replaced during the read, retry on its successor.
                if outcome.is_ok() || !shard.is_closed() {
                    return outcome;
                }
            }
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CollectionRegistry) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let registry = Arc::clone(&self.registry);
        tokio::task::spawn_blocking(move || work(&registry))
            .await
            .unwrap_or_else(|panic| Err(Error::Engine(panic.to_string())))
    }
}

impl Drop for EmbeddedIndex {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("index writer thread panicked");
        }
    }
}

#[async_trait]
impl VectorIndex for EmbeddedIndex {
    async fn ensure(&self, collection: &Collection) -> Result<Ensured, Error> {
        let collection = collection.clone();
        self.blocking(move |registry| registry.ensure(&collection)).await
    }

    async fn differences(&self, collection: &Collection) -> Result<Vec<Difference>, Error> {
        let dims = collection.dims;
        self.read(&collection.name, move |shard| shard.differences(dims)).await
    }

    async fn update_in_place(&self, collection: &Collection) -> Result<Vec<Difference>, Error> {
        self.write(&collection.name, Change::Collection(CollectionOp::UpdateInPlace)).await?;
        self.differences(collection).await
    }

    async fn identity(&self, collection: &CollectionName) -> Result<Option<Identity>, Error> {
        let collection = collection.clone();
        self.blocking(move |registry| registry.identity(&collection)).await
    }

    async fn set_identity(&self, collection: &CollectionName, identity: Identity) -> Result<(), Error> {
        let collection = collection.clone();
        self.blocking(move |registry| registry.set_identity(&collection, identity)).await
    }

    async fn drop_collection(&self, collection: &CollectionName) -> Result<(), Error> {
        self.write(collection, Change::Collection(CollectionOp::Drop)).await
    }

    async fn set_alias(&self, _alias: &str, _collection: &CollectionName) -> Result<(), Error> {
        Ok(())
    }

    async fn bulk_load(&self, _collection: &CollectionName, _bulk_load: BulkLoad) -> Result<(), Error> {
        Ok(())
    }

    async fn optimize(&self, collection: &CollectionName) -> Result<(), Error> {
        self.write(collection, Change::Collection(CollectionOp::Optimize)).await
    }

    async fn snapshot(&self, collection: &CollectionName, folder: &Path) -> Result<(), Error> {
        self.write(collection, Change::Collection(CollectionOp::Snapshot(folder.to_owned()))).await
    }

    async fn restore(&self, collection: &Collection, folder: &Path) -> Result<(), Error> {
        let restore = CollectionOp::Restore { dims: collection.dims, folder: folder.to_owned() };
        self.write(&collection.name, Change::Collection(restore)).await
    }

    async fn ping(&self) -> Result<(), Error> {
        if self.requests.is_some() { Ok(()) } else { Err(Error::Closed) }
    }

    async fn upsert(&self, collection: &CollectionName, points: Vec<Point>) -> Result<(), Error> {
        self.write(collection, Change::Upsert(points)).await
    }

    async fn delete_below(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        sessions: &[(SessionId, Revision)],
    ) -> Result<(), Error> {
        self.write(collection, Change::DeleteBelow(guild, sessions.to_vec())).await
    }

    async fn delete_messages(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        messages: &[MessageId],
        below: Revision,
    ) -> Result<(), Error> {
        self.write(collection, Change::DeleteMessages(guild, messages.to_vec(), below)).await
    }

    async fn search(
        &self,
        collection: &CollectionName,
        scope: &Scope,
        query: Query,
    ) -> Result<Vec<Hit>, Error> {
        let scope = scope.clone();
        self.read(collection, move |shard| shard.search(&scope, &query)).await
    }

    async fn scroll(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        after: Option<PointId>,
        limit: usize,
    ) -> Result<Page, Error> {
        self.read(collection, move |shard| shard.scroll(guild, after, limit.min(MAX_LIMIT))).await
    }

    async fn headers(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        points: PointSelector<'_>,
    ) -> Result<Vec<PointHeader>, Error> {
        match points {
            PointSelector::After(after, limit) => {
                self.read(collection, move |shard| shard.headers_after(guild, after, limit.min(MAX_LIMIT)))
                    .await
            }
            PointSelector::Ids(ids) => {
                let ids: Vec<PointId> = ids.iter().copied().take(MAX_LIMIT).collect();
                self.read(collection, move |shard| shard.headers_by_id(guild, &ids)).await
            }
        }
    }

    async fn count(&self, collection: &CollectionName, guild: GuildId) -> Result<usize, Error> {
        self.read(collection, move |shard| shard.count(guild)).await
    }

    async fn guilds(&self, collection: &CollectionName) -> Result<Vec<GuildId>, Error> {
        self.read(collection, Shard::guilds).await
    }
}
