//! A Qdrant server, over gRPC, which any number of processes share.

mod client;
mod collections;
mod config;
mod convert;
mod differences;
mod error;
mod filter;
mod http;
mod points;
mod schema;
mod search;
mod snapshots;

use std::path::Path;

use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_types::{GuildId, MessageId, PointId, Revision, SessionId};

use crate::{
    BulkLoad, Collection, CollectionName, Collections, Difference, Ensured, Error, Hit, Identity, Page,
    Point, PointHeader, PointSelector, Query, Scope, VectorIndex,
};
use client::Client;
pub use config::{ApiKey, InvalidServerConfig, Quantization, ServerConfig};

/// A [`VectorIndex`] on a Qdrant server, 1.16 or later.
///
/// Every call has a deadline, and a call that fails because the server is not there, too slow or full says so by
/// [`Error::is_unavailable`]. Connections are made when they are needed and made anew when they break. Writes are done,
/// and on disk in the server's log, when they return.
pub struct QdrantServer {
    client: Client,
}

impl QdrantServer {
    /// Sets the client up. Nothing is sent yet: the first call connects, and learns whether the server is new
    /// enough.
    ///
    /// # Errors
    /// If the configuration cannot work, whatever the server says.
    pub fn connect(config: ServerConfig) -> Result<Self, InvalidServerConfig> {
        Ok(Self { client: Client::new(config)? })
    }
}

impl Collections for QdrantServer {
    fn ensure<'a>(&'a self, collection: &'a Collection) -> BoxFuture<'a, Result<Ensured, Error>> {
        collections::ensure(&self.client, collection).boxed()
    }

    fn differences<'a>(
        &'a self,
        collection: &'a Collection,
    ) -> BoxFuture<'a, Result<Vec<Difference>, Error>> {
        collections::differences(&self.client, collection).boxed()
    }

    fn update_in_place<'a>(
        &'a self,
        collection: &'a Collection,
    ) -> BoxFuture<'a, Result<Vec<Difference>, Error>> {
        collections::update_in_place(&self.client, collection).boxed()
    }

    fn identity<'a>(
        &'a self,
        collection: &'a CollectionName,
    ) -> BoxFuture<'a, Result<Option<Identity>, Error>> {
        collections::identity(&self.client, collection).boxed()
    }

    fn set_identity<'a>(
        &'a self,
        collection: &'a CollectionName,
        identity: Identity,
    ) -> BoxFuture<'a, Result<(), Error>> {
        collections::set_identity(&self.client, collection, identity).boxed()
    }

    fn drop_collection<'a>(&'a self, collection: &'a CollectionName) -> BoxFuture<'a, Result<(), Error>> {
        collections::drop_collection(&self.client, collection).boxed()
    }

    fn set_alias<'a>(
        &'a self,
        alias: &'a str,
        collection: &'a CollectionName,
    ) -> BoxFuture<'a, Result<(), Error>> {
        collections::set_alias(&self.client, alias, collection).boxed()
    }

    fn bulk_load<'a>(
        &'a self,
        collection: &'a CollectionName,
        bulk: BulkLoad,
    ) -> BoxFuture<'a, Result<(), Error>> {
        collections::bulk_load(&self.client, collection, bulk).boxed()
    }

    fn optimize<'a>(&'a self, collection: &'a CollectionName) -> BoxFuture<'a, Result<(), Error>> {
        collections::optimize(&self.client, collection).boxed()
    }

    fn snapshot<'a>(
        &'a self,
        collection: &'a CollectionName,
        folder: &'a Path,
    ) -> BoxFuture<'a, Result<(), Error>> {
        snapshots::snapshot(&self.client, collection, folder).boxed()
    }

    fn restore<'a>(
        &'a self,
        collection: &'a Collection,
        folder: &'a Path,
    ) -> BoxFuture<'a, Result<(), Error>> {
        snapshots::restore(&self.client, collection, folder).boxed()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.client.ping().boxed()
    }
}

impl VectorIndex for QdrantServer {
    fn collections(&self) -> &dyn Collections {
        self
    }

    fn upsert<'a>(
        &'a self,
        collection: &'a CollectionName,
        points: Vec<Point>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        points::upsert(&self.client, collection, points).boxed()
    }

    fn delete_below<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        sessions: &'a [(SessionId, Revision)],
    ) -> BoxFuture<'a, Result<(), Error>> {
        points::delete_below(&self.client, collection, guild, sessions).boxed()
    }

    fn delete_messages<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        messages: &'a [MessageId],
        below: Revision,
    ) -> BoxFuture<'a, Result<(), Error>> {
        points::delete_messages(&self.client, collection, guild, messages, below).boxed()
    }

    fn search<'a>(
        &'a self,
        collection: &'a CollectionName,
        scope: &'a Scope,
        query: Query,
    ) -> BoxFuture<'a, Result<Vec<Hit>, Error>> {
        search::search(&self.client, collection, scope, query).boxed()
    }

    fn scroll<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        after: Option<PointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, Error>> {
        points::scroll(&self.client, collection, guild, after, limit).boxed()
    }

    fn headers<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        which: PointSelector<'a>,
    ) -> BoxFuture<'a, Result<Vec<PointHeader>, Error>> {
        points::headers(&self.client, collection, guild, which).boxed()
    }

    fn count<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
    ) -> BoxFuture<'a, Result<usize, Error>> {
        points::count(&self.client, collection, guild).boxed()
    }

    fn guilds<'a>(&'a self, collection: &'a CollectionName) -> BoxFuture<'a, Result<Vec<GuildId>, Error>> {
        points::guilds(&self.client, collection).boxed()
    }
}
