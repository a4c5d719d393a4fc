//! A Qdrant server, over gRPC, shared by any number of processes.

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

use async_trait::async_trait;
use guildex_types::{GuildId, MessageId, PointId, Revision, SessionId};

use crate::{
    BulkLoad, Collection, CollectionName, Difference, Ensured, Error, Hit, Identity, Page, Point,
    PointHeader, PointSelector, Query, Scope, VectorIndex,
};
use client::Client;
pub use config::{InvalidServerConfig, Quantization, ServerConfig};

/// A [`VectorIndex`] on a Qdrant server, version 1.16 or later.
///
/// Every call has a timeout. If the server is unreachable, too slow or out of disk space, the error returns true from
/// [`Error::is_unavailable`]. Connections are opened on demand and reopened when they break. When a write returns, the
/// server has applied it and has it in its write-ahead log.
pub struct QdrantServer {
    client: Client,
}

impl QdrantServer {
    /// Creates the client. The first call connects, and checks the server's version.
    ///
    /// # Errors
    /// If the configuration is invalid.
    pub fn connect(config: ServerConfig) -> Result<Self, InvalidServerConfig> {
        Ok(Self { client: Client::new(config)? })
    }
}

#[async_trait]
impl VectorIndex for QdrantServer {
    async fn ensure(&self, collection: &Collection) -> Result<Ensured, Error> {
        collections::ensure(&self.client, collection).await
    }

    async fn differences(&self, collection: &Collection) -> Result<Vec<Difference>, Error> {
        collections::differences(&self.client, collection).await
    }

    async fn update_in_place(&self, collection: &Collection) -> Result<Vec<Difference>, Error> {
        collections::update_in_place(&self.client, collection).await
    }

    async fn identity(&self, collection: &CollectionName) -> Result<Option<Identity>, Error> {
        collections::identity(&self.client, collection).await
    }

    async fn set_identity(&self, collection: &CollectionName, identity: Identity) -> Result<(), Error> {
        collections::set_identity(&self.client, collection, identity).await
    }

    async fn drop_collection(&self, collection: &CollectionName) -> Result<(), Error> {
        collections::drop_collection(&self.client, collection).await
    }

    async fn set_alias(&self, alias: &str, collection: &CollectionName) -> Result<(), Error> {
        collections::set_alias(&self.client, alias, collection).await
    }

    async fn bulk_load(&self, collection: &CollectionName, bulk_load: BulkLoad) -> Result<(), Error> {
        collections::bulk_load(&self.client, collection, bulk_load).await
    }

    async fn optimize(&self, collection: &CollectionName) -> Result<(), Error> {
        collections::optimize(&self.client, collection).await
    }

    async fn snapshot(&self, collection: &CollectionName, folder: &Path) -> Result<(), Error> {
        snapshots::snapshot(&self.client, collection, folder).await
    }

    async fn restore(&self, collection: &Collection, folder: &Path) -> Result<(), Error> {
        snapshots::restore(&self.client, collection, folder).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.client.ping().await
    }

    async fn upsert(&self, collection: &CollectionName, points: Vec<Point>) -> Result<(), Error> {
        points::upsert(&self.client, collection, points).await
    }

    async fn delete_below(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        sessions: &[(SessionId, Revision)],
    ) -> Result<(), Error> {
        points::delete_below(&self.client, collection, guild, sessions).await
    }

    async fn delete_messages(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        messages: &[MessageId],
        below: Revision,
    ) -> Result<(), Error> {
        points::delete_messages(&self.client, collection, guild, messages, below).await
    }

    async fn search(
        &self,
        collection: &CollectionName,
        scope: &Scope,
        query: Query,
    ) -> Result<Vec<Hit>, Error> {
        search::search(&self.client, collection, scope, query).await
    }

    async fn scroll(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        after: Option<PointId>,
        limit: usize,
    ) -> Result<Page, Error> {
        points::scroll(&self.client, collection, guild, after, limit).await
    }

    async fn headers(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        points: PointSelector<'_>,
    ) -> Result<Vec<PointHeader>, Error> {
        points::headers(&self.client, collection, guild, points).await
    }

    async fn count(&self, collection: &CollectionName, guild: GuildId) -> Result<usize, Error> {
        points::count(&self.client, collection, guild).await
    }

    async fn guilds(&self, collection: &CollectionName) -> Result<Vec<GuildId>, Error> {
        points::guilds(&self.client, collection).await
    }
}
