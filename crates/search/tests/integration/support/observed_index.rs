//! An embedded index whose searches can be blocked and given another behavior.

use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use guildex_index::{
    BulkLoad, Collection, CollectionName, Difference, EmbeddedIndex, Ensured, Error, Hit, Identity, Page,
    Point, PointHeader, PointSelector, Query, Scope, VectorIndex,
};
pub use guildex_test_support::sync::Gate;
use guildex_types::{GuildId, MessageId, PointId, Revision, SessionId};
use tempfile::TempDir;

/// The response of the index to searches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexBehavior {
    Normal,
    /// Fails as a server that cannot be reached.
    Unavailable,
    /// Fails with an error of the engine.
    Broken,
    /// Returns all points of all guilds.
    Unfiltered,
    /// Returns all points, with the guild and channel of the request instead of their own.
    Forged,
}

pub struct ObservedIndex {
    real: EmbeddedIndex,
    /// Every search passes this gate.
    pub searches: Gate,
    behavior: Mutex<IndexBehavior>,
    /// Removed after the index is dropped.
    _folder: TempDir,
}

impl ObservedIndex {
    pub fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            real: EmbeddedIndex::open(folder.path()).unwrap(),
            searches: Gate::default(),
            behavior: Mutex::new(IndexBehavior::Normal),
            _folder: folder,
        }
    }

    pub fn set_behavior(&self, behavior: IndexBehavior) {
        *self.behavior.lock().unwrap() = behavior;
    }

    /// All points of a collection as hits.
    async fn all_points(&self, collection: &CollectionName) -> Result<Vec<Hit>, Error> {
        let mut hits = vec![];
        for guild in self.real.guilds(collection).await? {
            for Point { id, payload, .. } in self.real.scroll(collection, guild, None, 1_000).await?.points {
                hits.push(Hit {
                    id,
                    score: 1.0,
                    guild_id: payload.guild_id,
                    channel_id: payload.channel_id,
                    session_id: payload.session_id,
                    chunk: payload.chunk,
                    message_ids: payload.message_ids,
                    revision: payload.revision,
                });
            }
        }
        Ok(hits)
    }
}

#[async_trait]
impl VectorIndex for ObservedIndex {
    async fn ensure(&self, collection: &Collection) -> Result<Ensured, Error> {
        self.real.ensure(collection).await
    }

    async fn differences(&self, collection: &Collection) -> Result<Vec<Difference>, Error> {
        self.real.differences(collection).await
    }

    async fn update_in_place(&self, collection: &Collection) -> Result<Vec<Difference>, Error> {
        self.real.update_in_place(collection).await
    }

    async fn identity(&self, collection: &CollectionName) -> Result<Option<Identity>, Error> {
        self.real.identity(collection).await
    }

    async fn set_identity(&self, collection: &CollectionName, identity: Identity) -> Result<(), Error> {
        self.real.set_identity(collection, identity).await
    }

    async fn drop_collection(&self, collection: &CollectionName) -> Result<(), Error> {
        self.real.drop_collection(collection).await
    }

    async fn set_alias(&self, alias: &str, collection: &CollectionName) -> Result<(), Error> {
        self.real.set_alias(alias, collection).await
    }

    async fn bulk_load(&self, collection: &CollectionName, bulk_load: BulkLoad) -> Result<(), Error> {
        self.real.bulk_load(collection, bulk_load).await
    }

    async fn optimize(&self, collection: &CollectionName) -> Result<(), Error> {
        self.real.optimize(collection).await
    }

    async fn snapshot(&self, collection: &CollectionName, folder: &Path) -> Result<(), Error> {
        self.real.snapshot(collection, folder).await
    }

    async fn restore(&self, collection: &Collection, folder: &Path) -> Result<(), Error> {
        self.real.restore(collection, folder).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.real.ping().await
    }

    async fn upsert(&self, collection: &CollectionName, points: Vec<Point>) -> Result<(), Error> {
        self.real.upsert(collection, points).await
    }

    async fn delete_below(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        sessions: &[(SessionId, Revision)],
    ) -> Result<(), Error> {
        self.real.delete_below(collection, guild, sessions).await
    }

    async fn delete_messages(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        messages: &[MessageId],
        below: Revision,
    ) -> Result<(), Error> {
        self.real.delete_messages(collection, guild, messages, below).await
    }

    async fn search(
        &self,
        collection: &CollectionName,
        scope: &Scope,
        query: Query,
    ) -> Result<Vec<Hit>, Error> {
        self.searches.pass().await;
        let behavior = *self.behavior.lock().unwrap();
        match behavior {
            IndexBehavior::Normal => self.real.search(collection, scope, query).await,
            IndexBehavior::Unavailable => Err(Error::Unavailable("it is being restarted".to_owned())),
            IndexBehavior::Broken => Err(Error::Engine("it broke".to_owned())),
            IndexBehavior::Unfiltered => self.all_points(collection).await,
            IndexBehavior::Forged => {
                let mut hits = self.all_points(collection).await?;
                for hit in &mut hits {
                    hit.guild_id = scope.tenant();
                    if let Some([channel, ..]) = scope.channels() {
                        hit.channel_id = *channel;
                    }
                }
                Ok(hits)
            }
        }
    }

    async fn scroll(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        after: Option<PointId>,
        limit: usize,
    ) -> Result<Page, Error> {
        self.real.scroll(collection, guild, after, limit).await
    }

    async fn headers(
        &self,
        collection: &CollectionName,
        guild: GuildId,
        which: PointSelector<'_>,
    ) -> Result<Vec<PointHeader>, Error> {
        self.real.headers(collection, guild, which).await
    }

    async fn count(&self, collection: &CollectionName, guild: GuildId) -> Result<usize, Error> {
        self.real.count(collection, guild).await
    }

    async fn guilds(&self, collection: &CollectionName) -> Result<Vec<GuildId>, Error> {
        self.real.guilds(collection).await
    }
}
