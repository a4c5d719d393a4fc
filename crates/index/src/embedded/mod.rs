//! The embedded engine: Qdrant's, in this process, on a folder of its own.

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

use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_types::{GuildId, MessageId, PointId, Revision, SessionId};
use tokio::sync::{mpsc, oneshot};

use crate::{
    BulkLoad, Collection, CollectionName, Collections, Difference, Ensured, Error, Hit, Identity, MAX_LIMIT,
    Page, Point, PointHeader, PointSelector, Query, Scope, VectorIndex,
};
use collection_registry::CollectionRegistry;
use shard::Shard;
use writer::{Change, CollectionOp, Request};

/// A [`VectorIndex`] in a folder that one process holds at a time.
///
/// The engine is synchronous. Reads run on tokio's blocking threads, beside each other and beside the writes;
/// writes run one after another on a thread of their own, which flushes once for all that wait and
/// reorganises a collection whenever enough was written. Dropping the index finishes what was asked for and closes it.
pub struct EmbeddedIndex {
    registry: Arc<CollectionRegistry>,
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl EmbeddedIndex {
    /// Opens the index in a folder, which is made if it is missing.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process (or this one) holds the folder; [`Error::Io`] if it cannot be
    /// written.
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

    fn write<'a>(&'a self, collection: &CollectionName, change: Change) -> BoxFuture<'a, Result<(), Error>> {
        let (done, outcome) = oneshot::channel();
        let request = Request { collection: collection.clone(), change, done };
        async move {
            let requests = self.requests.as_ref().ok_or(Error::Closed)?;
            requests.send(request).await.map_err(|_| Error::Closed)?;
            outcome.await.map_err(|_| Error::Closed)?
        }
        .boxed()
    }

    fn read<'a, T: Send + 'static>(
        &'a self,
        collection: &CollectionName,
        read: impl Fn(&Shard) -> Result<T, Error> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, Error>> {
        let collection = collection.clone();
        blocking(Arc::clone(&self.registry), move |registry| {
            loop {
                let shard = registry.shard(&collection)?;
                let outcome = read(&shard);
                // Dropped or replaced under the read: what is there now has the answer.
                if outcome.is_ok() || !shard.is_closed() {
                    return outcome;
                }
            }
        })
    }
}

fn blocking<T: Send + 'static>(
    registry: Arc<CollectionRegistry>,
    work: impl FnOnce(&CollectionRegistry) -> Result<T, Error> + Send + 'static,
) -> BoxFuture<'static, Result<T, Error>> {
    async move {
        tokio::task::spawn_blocking(move || work(&registry))
            .await
            .unwrap_or_else(|panic| Err(Error::Engine(panic.to_string())))
    }
    .boxed()
}

impl Drop for EmbeddedIndex {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the index's writer had panicked");
        }
    }
}

impl Collections for EmbeddedIndex {
    fn ensure<'a>(&'a self, collection: &'a Collection) -> BoxFuture<'a, Result<Ensured, Error>> {
        let collection = collection.clone();
        blocking(Arc::clone(&self.registry), move |registry| registry.ensure(&collection))
    }

    fn differences<'a>(
        &'a self,
        collection: &'a Collection,
    ) -> BoxFuture<'a, Result<Vec<Difference>, Error>> {
        let dims = collection.dims;
        self.read(&collection.name, move |shard| shard.differences(dims))
    }

    fn update_in_place<'a>(
        &'a self,
        collection: &'a Collection,
    ) -> BoxFuture<'a, Result<Vec<Difference>, Error>> {
        let dims = collection.dims;
        async move {
            self.write(&collection.name, Change::Collection(CollectionOp::UpdateInPlace)).await?;
            self.read(&collection.name, move |shard| shard.differences(dims)).await
        }
        .boxed()
    }

    fn identity<'a>(
        &'a self,
        collection: &'a CollectionName,
    ) -> BoxFuture<'a, Result<Option<Identity>, Error>> {
        let collection = collection.clone();
        blocking(Arc::clone(&self.registry), move |registry| registry.identity(&collection))
    }

    fn set_identity<'a>(
        &'a self,
        collection: &'a CollectionName,
        identity: Identity,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let collection = collection.clone();
        blocking(Arc::clone(&self.registry), move |registry| registry.set_identity(&collection, identity))
    }

    fn drop_collection<'a>(&'a self, collection: &'a CollectionName) -> BoxFuture<'a, Result<(), Error>> {
        self.write(collection, Change::Collection(CollectionOp::Drop))
    }

    fn set_alias<'a>(
        &'a self,
        _alias: &'a str,
        _collection: &'a CollectionName,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async { Ok(()) }.boxed()
    }

    fn bulk_load<'a>(
        &'a self,
        _collection: &'a CollectionName,
        _bulk: BulkLoad,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async { Ok(()) }.boxed()
    }

    fn optimize<'a>(&'a self, collection: &'a CollectionName) -> BoxFuture<'a, Result<(), Error>> {
        self.write(collection, Change::Collection(CollectionOp::Optimize))
    }

    fn snapshot<'a>(
        &'a self,
        collection: &'a CollectionName,
        folder: &'a Path,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.write(collection, Change::Collection(CollectionOp::Snapshot(folder.to_owned())))
    }

    fn restore<'a>(
        &'a self,
        collection: &'a Collection,
        folder: &'a Path,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.write(
            &collection.name,
            Change::Collection(CollectionOp::Restore(collection.dims, folder.to_owned())),
        )
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), Error>> {
        async { if self.requests.is_some() { Ok(()) } else { Err(Error::Closed) } }.boxed()
    }
}

impl VectorIndex for EmbeddedIndex {
    fn collections(&self) -> &dyn Collections {
        self
    }

    fn upsert<'a>(
        &'a self,
        collection: &'a CollectionName,
        points: Vec<Point>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.write(collection, Change::Upsert(points))
    }

    fn delete_below<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        sessions: &'a [(SessionId, Revision)],
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.write(collection, Change::DeleteBelow(guild, sessions.to_vec()))
    }

    fn delete_messages<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        messages: &'a [MessageId],
        below: Revision,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.write(collection, Change::DeleteMessages(guild, messages.to_vec(), below))
    }

    fn search<'a>(
        &'a self,
        collection: &'a CollectionName,
        scope: &'a Scope,
        query: Query,
    ) -> BoxFuture<'a, Result<Vec<Hit>, Error>> {
        let scope = scope.clone();
        self.read(collection, move |shard| shard.search(&scope, &query))
    }

    fn scroll<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        after: Option<PointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, Error>> {
        self.read(collection, move |shard| shard.scroll(guild, after, limit.min(MAX_LIMIT)))
    }

    fn headers<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        which: PointSelector<'a>,
    ) -> BoxFuture<'a, Result<Vec<PointHeader>, Error>> {
        match which {
            PointSelector::After(after, limit) => {
                self.read(collection, move |shard| shard.headers(guild, after, limit.min(MAX_LIMIT)))
            }
            PointSelector::Ids(ids) => {
                let ids: Vec<PointId> = ids.iter().copied().take(MAX_LIMIT).collect();
                self.read(collection, move |shard| shard.headers_by_id(guild, &ids))
            }
        }
    }

    fn count<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
    ) -> BoxFuture<'a, Result<usize, Error>> {
        self.read(collection, move |shard| shard.count(guild))
    }

    fn guilds<'a>(&'a self, collection: &'a CollectionName) -> BoxFuture<'a, Result<Vec<GuildId>, Error>> {
        self.read(collection, Shard::guilds)
    }
}
