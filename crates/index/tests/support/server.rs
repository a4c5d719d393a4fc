//! A real server that others may use too: each test has a corner of its own, which is cleared when it ends.

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

/// How many tests run at once.
const AT_ONCE: usize = 4;

/// A test of the contract.
pub type Test = for<'a> fn(&'a dyn VectorIndex, &'a Collection) -> BoxFuture<'a, ()>;

#[derive(Clone)]
pub struct Server {
    pub config: ServerConfig,
}

/// Where a server takes gRPC.
pub fn url_of(config: &ServerConfig) -> &str {
    config.url.as_ref().unwrap().expose()
}

/// The server that the environment names.
pub fn named() -> Option<Server> {
    let url = Some(std::env::var("QDRANT_URL").ok()?.parse().unwrap());
    let api_key = std::env::var("QDRANT_API_KEY").ok().map(Into::into);
    let http_url = std::env::var("QDRANT_HTTP_URL").ok().map(|url| url.parse().unwrap());
    let timeout = Duration::from_secs(60);
    let config = ServerConfig { url, http_url, api_key, timeout, ..ServerConfig::default() };
    Some(Server { config })
}

/// Says in one line, past the test runner's capture, that there is none.
pub fn say_that_none_is_named() {
    let line = "QDRANT_URL is not set: no real Qdrant server is tested, the stand-in alone";
    let mut past_capture = std::io::stderr();
    writeln!(past_capture, "{line}").unwrap();
}

impl Server {
    /// Runs the tests and names those that fail.
    pub async fn hold(self, tests: Vec<(&'static str, Test)>) {
        let count = tests.len();
        let server = Arc::new(self);
        let run = |(name, test)| {
            let server = Arc::clone(&server);
            async move { (name, tokio::spawn(async move { server.run(test).await }).await.is_err()) }
        };
        let outcomes: Vec<(&str, bool)> =
            stream::iter(tests).map(run).buffer_unordered(AT_ONCE).collect().await;
        assert_eq!(outcomes.len(), count);
        let failed: Vec<_> = outcomes.iter().filter(|(_, failed)| *failed).map(|(name, _)| name).collect();
        assert!(failed.is_empty(), "on the server fail: {failed:?}");
    }

    /// Runs one test in a corner of its own.
    pub async fn run(&self, test: Test) {
        let corner = self.corner();
        let collection = Collection { name: CollectionName::new("test", &model()).unwrap(), dims: DIMS };
        let outcome = AssertUnwindSafe(async {
            corner.ensure(&collection).await.unwrap();
            test(&corner, &collection).await;
        })
        .catch_unwind()
        .await;
        corner.clear().await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }

    pub fn corner(&self) -> Corner {
        Corner {
            prefix: format!("t{}-", Uuid::new_v4().simple()),
            index: QdrantServer::connect(self.config.clone()).unwrap(),
            url: url_of(&self.config).to_owned(),
        }
    }
}

/// The server, with a prefix before the name of everything.
pub struct Corner {
    prefix: String,
    pub index: QdrantServer,
    url: String,
}

impl Corner {
    /// Removes all that is in it.
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

    fn whole(&self, collection: &Collection) -> Collection {
        Collection { name: self.name(&collection.name), dims: collection.dims }
    }
}

/// Errors name what was asked for.
fn outside<T>(name: &CollectionName, outcome: Result<T, Error>) -> Result<T, Error> {
    outcome.map_err(|error| match error {
        Error::NoCollection(_) => Error::NoCollection(name.clone()),
        Error::Mismatch { difference, .. } => Error::Mismatch { collection: name.clone(), difference },
        other => other,
    })
}

#[async_trait]
impl VectorIndex for Corner {
    async fn ensure(&self, collection: &Collection) -> Result<Ensured, Error> {
        outside(&collection.name, self.index.ensure(&self.whole(collection)).await)
    }

    async fn differences(&self, collection: &Collection) -> Result<Vec<Difference>, Error> {
        outside(&collection.name, self.index.differences(&self.whole(collection)).await)
    }

    async fn update_in_place(&self, collection: &Collection) -> Result<Vec<Difference>, Error> {
        outside(&collection.name, self.index.update_in_place(&self.whole(collection)).await)
    }

    async fn identity(&self, name: &CollectionName) -> Result<Option<Identity>, Error> {
        outside(name, self.index.identity(&self.name(name)).await)
    }

    async fn set_identity(&self, name: &CollectionName, identity: Identity) -> Result<(), Error> {
        outside(name, self.index.set_identity(&self.name(name), identity).await)
    }

    async fn drop_collection(&self, name: &CollectionName) -> Result<(), Error> {
        outside(name, self.index.drop_collection(&self.name(name)).await)
    }

    async fn set_alias(&self, alias: &str, name: &CollectionName) -> Result<(), Error> {
        let alias = format!("{}alias-{alias}", self.prefix);
        outside(name, self.index.set_alias(&alias, &self.name(name)).await)
    }

    async fn bulk_load(&self, name: &CollectionName, bulk: BulkLoad) -> Result<(), Error> {
        outside(name, self.index.bulk_load(&self.name(name), bulk).await)
    }

    async fn optimize(&self, name: &CollectionName) -> Result<(), Error> {
        outside(name, self.index.optimize(&self.name(name)).await)
    }

    async fn snapshot(&self, name: &CollectionName, folder: &Path) -> Result<(), Error> {
        outside(name, self.index.snapshot(&self.name(name), folder).await)
    }

    async fn restore(&self, collection: &Collection, folder: &Path) -> Result<(), Error> {
        outside(&collection.name, self.index.restore(&self.whole(collection), folder).await)
    }

    async fn ping(&self) -> Result<(), Error> {
        self.index.ping().await
    }

    async fn upsert(&self, name: &CollectionName, points: Vec<Point>) -> Result<(), Error> {
        outside(name, self.index.upsert(&self.name(name), points).await)
    }

    async fn delete_below(
        &self,
        name: &CollectionName,
        guild: GuildId,
        sessions: &[(SessionId, Revision)],
    ) -> Result<(), Error> {
        outside(name, self.index.delete_below(&self.name(name), guild, sessions).await)
    }

    async fn delete_messages(
        &self,
        name: &CollectionName,
        guild: GuildId,
        messages: &[MessageId],
        below: Revision,
    ) -> Result<(), Error> {
        let inside = self.name(name);
        outside(name, self.index.delete_messages(&inside, guild, messages, below).await)
    }

    async fn search(&self, name: &CollectionName, scope: &Scope, query: Query) -> Result<Vec<Hit>, Error> {
        outside(name, self.index.search(&self.name(name), scope, query).await)
    }

    async fn scroll(
        &self,
        name: &CollectionName,
        guild: GuildId,
        after: Option<PointId>,
        limit: usize,
    ) -> Result<Page, Error> {
        outside(name, self.index.scroll(&self.name(name), guild, after, limit).await)
    }

    async fn headers(
        &self,
        name: &CollectionName,
        guild: GuildId,
        which: PointSelector<'_>,
    ) -> Result<Vec<PointHeader>, Error> {
        outside(name, self.index.headers(&self.name(name), guild, which).await)
    }

    async fn count(&self, name: &CollectionName, guild: GuildId) -> Result<usize, Error> {
        outside(name, self.index.count(&self.name(name), guild).await)
    }

    async fn guilds(&self, name: &CollectionName) -> Result<Vec<GuildId>, Error> {
        outside(name, self.index.guilds(&self.name(name)).await)
    }
}
