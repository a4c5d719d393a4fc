//! A real server that others may use: the collections of each test have a prefix, and are deleted when it ends.

use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use guildex_index::{
    BulkLoad, Collection, CollectionName, Difference, Ensured, Error, Hit, Identity, Page, Point,
    PointHeader, PointSelector, QdrantServer, Query, Scope, ServerConfig, VectorIndex,
};
use guildex_types::{GuildId, MessageId, PointId, Revision, SessionId};
use qdrant_client::Qdrant;
use uuid::Uuid;

use super::{DIMS, model};

/// The number of tests that run concurrently.
const CONCURRENCY: usize = 4;

/// A contract test.
pub type Test = for<'a> fn(&'a dyn VectorIndex, &'a Collection) -> BoxFuture<'a, ()>;

#[derive(Clone)]
pub struct Server {
    pub config: ServerConfig,
}

/// gRPC URL of a server.
pub fn url_of(config: &ServerConfig) -> &str {
    config.url.as_ref().unwrap().expose()
}

/// The server that `QDRANT_URL` names.
pub fn from_env() -> Option<Server> {
    let url = Some(std::env::var("QDRANT_URL").ok()?.parse().unwrap());
    let api_key = std::env::var("QDRANT_API_KEY").ok().map(Into::into);
    let http_url = std::env::var("QDRANT_HTTP_URL").ok().map(|url| url.parse().unwrap());
    let timeout = Duration::from_secs(60);
    let config = ServerConfig { url, http_url, api_key, timeout, ..ServerConfig::default() };
    Some(Server { config })
}

/// Prints, past the test runner's capture, that `QDRANT_URL` is not set.
pub fn report_unset_url() {
    let line = "QDRANT_URL is not set: no real Qdrant server is tested, the stand-in alone";
    let mut past_capture = std::io::stderr();
    writeln!(past_capture, "{line}").unwrap();
}

impl Server {
    /// Runs the tests and reports those that fail.
    pub async fn run_all(self, tests: Vec<(&'static str, Test)>) {
        let count = tests.len();
        let server = Arc::new(self);
        let run = |(name, test)| {
            let server = Arc::clone(&server);
            async move { (name, tokio::spawn(async move { server.run(test).await }).await.is_err()) }
        };
        let outcomes: Vec<(&str, bool)> =
            stream::iter(tests).map(run).buffer_unordered(CONCURRENCY).collect().await;
        assert_eq!(outcomes.len(), count);
        let failed: Vec<_> = outcomes.iter().filter(|(_, failed)| *failed).map(|(name, _)| name).collect();
        assert!(failed.is_empty(), "failed on the server: {failed:?}");
    }

    /// Runs one test with a prefix.
    pub async fn run(&self, test: Test) {
        let prefixed = self.prefixed();
        let collection = Collection { name: CollectionName::new("test", &model()).unwrap(), dims: DIMS };
        let outcome = AssertUnwindSafe(async {
            prefixed.ensure(&collection).await.unwrap();
            test(&prefixed, &collection).await;
        })
        .catch_unwind()
        .await;
        prefixed.clear().await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }

    pub fn prefixed(&self) -> PrefixedServer {
        PrefixedServer {
            prefix: format!("t{}-", Uuid::new_v4().simple()),
            index: QdrantServer::connect(self.config.clone()).unwrap(),
            url: url_of(&self.config).to_owned(),
        }
    }
}

/// The server, with a prefix before the names of collections and aliases.
pub struct PrefixedServer {
    prefix: String,
    pub index: QdrantServer,
    url: String,
}

impl PrefixedServer {
    /// Deletes all collections with the prefix.
    pub async fn clear(&self) {
        let key = std::env::var("QDRANT_API_KEY").ok();
        let client = Qdrant::from_url(&self.url).api_key(key).skip_compatibility_check().build().unwrap();
        for collection in client.list_collections().await.unwrap().collections {
            if collection.name.starts_with(&self.prefix) {
                client.delete_collection(collection.name).await.unwrap();
            }
        }
    }

    pub fn name(&self, name: &CollectionName) -> CollectionName {
        format!("{}{name}", self.prefix).parse().unwrap()
    }

    fn prefixed_collection(&self, collection: &Collection) -> Collection {
        Collection { name: self.name(&collection.name), dims: collection.dims }
    }
}

/// Replaces the prefixed name in errors.
fn with_outer_name<T>(name: &CollectionName, outcome: Result<T, Error>) -> Result<T, Error> {
    outcome.map_err(|error| match error {
        Error::NoCollection(_) => Error::NoCollection(name.clone()),
        Error::Mismatch { difference, .. } => Error::Mismatch { collection: name.clone(), difference },
        other => other,
    })
}

#[async_trait]
impl VectorIndex for PrefixedServer {
    async fn ensure(&self, collection: &Collection) -> Result<Ensured, Error> {
        with_outer_name(&collection.name, self.index.ensure(&self.prefixed_collection(collection)).await)
    }

    async fn differences(&self, collection: &Collection) -> Result<Vec<Difference>, Error> {
        with_outer_name(&collection.name, self.index.differences(&self.prefixed_collection(collection)).await)
    }

    async fn update_in_place(&self, collection: &Collection) -> Result<Vec<Difference>, Error> {
        with_outer_name(
            &collection.name,
            self.index.update_in_place(&self.prefixed_collection(collection)).await,
        )
    }

    async fn identity(&self, name: &CollectionName) -> Result<Option<Identity>, Error> {
        with_outer_name(name, self.index.identity(&self.name(name)).await)
    }

    async fn set_identity(&self, name: &CollectionName, identity: Identity) -> Result<(), Error> {
        with_outer_name(name, self.index.set_identity(&self.name(name), identity).await)
    }

    async fn drop_collection(&self, name: &CollectionName) -> Result<(), Error> {
        with_outer_name(name, self.index.drop_collection(&self.name(name)).await)
    }

    async fn set_alias(&self, alias: &str, name: &CollectionName) -> Result<(), Error> {
        let alias = format!("{}alias-{alias}", self.prefix);
        with_outer_name(name, self.index.set_alias(&alias, &self.name(name)).await)
    }

    async fn bulk_load(&self, name: &CollectionName, bulk: BulkLoad) -> Result<(), Error> {
        with_outer_name(name, self.index.bulk_load(&self.name(name), bulk).await)
    }

    async fn optimize(&self, name: &CollectionName) -> Result<(), Error> {
        with_outer_name(name, self.index.optimize(&self.name(name)).await)
    }

    async fn snapshot(&self, name: &CollectionName, folder: &Path) -> Result<(), Error> {
        with_outer_name(name, self.index.snapshot(&self.name(name), folder).await)
    }

    async fn restore(&self, collection: &Collection, folder: &Path) -> Result<(), Error> {
        with_outer_name(
            &collection.name,
            self.index.restore(&self.prefixed_collection(collection), folder).await,
        )
    }

    async fn ping(&self) -> Result<(), Error> {
        self.index.ping().await
    }

    async fn upsert(&self, name: &CollectionName, points: Vec<Point>) -> Result<(), Error> {
        with_outer_name(name, self.index.upsert(&self.name(name), points).await)
    }

    async fn delete_below(
        &self,
        name: &CollectionName,
        guild: GuildId,
        sessions: &[(SessionId, Revision)],
    ) -> Result<(), Error> {
        with_outer_name(name, self.index.delete_below(&self.name(name), guild, sessions).await)
    }

    async fn delete_messages(
        &self,
        name: &CollectionName,
        guild: GuildId,
        messages: &[MessageId],
        below: Revision,
    ) -> Result<(), Error> {
        let inside = self.name(name);
        with_outer_name(name, self.index.delete_messages(&inside, guild, messages, below).await)
    }

    async fn search(&self, name: &CollectionName, scope: &Scope, query: Query) -> Result<Vec<Hit>, Error> {
        with_outer_name(name, self.index.search(&self.name(name), scope, query).await)
    }

    async fn scroll(
        &self,
        name: &CollectionName,
        guild: GuildId,
        after: Option<PointId>,
        limit: usize,
    ) -> Result<Page, Error> {
        with_outer_name(name, self.index.scroll(&self.name(name), guild, after, limit).await)
    }

    async fn headers(
        &self,
        name: &CollectionName,
        guild: GuildId,
        which: PointSelector<'_>,
    ) -> Result<Vec<PointHeader>, Error> {
        with_outer_name(name, self.index.headers(&self.name(name), guild, which).await)
    }

    async fn count(&self, name: &CollectionName, guild: GuildId) -> Result<usize, Error> {
        with_outer_name(name, self.index.count(&self.name(name), guild).await)
    }

    async fn guilds(&self, name: &CollectionName) -> Result<Vec<GuildId>, Error> {
        with_outer_name(name, self.index.guilds(&self.name(name)).await)
    }
}
