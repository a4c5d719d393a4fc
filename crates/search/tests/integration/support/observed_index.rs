//! An embedded index whose searches can be blocked and given another behavior.

use std::sync::Mutex;

use async_trait::async_trait;
use guildex_index::{CollectionName, EmbeddedIndex, Error, Hit, Point, Query, Scope, VectorIndex};
use guildex_test_support::index::{InterceptedIndex, Interceptor};
pub use guildex_test_support::sync::Gate;

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

/// Searches, which can be blocked and given another behavior.
pub struct ObservedSearches {
    /// Every search passes this gate.
    pub searches: Gate,
    behavior: Mutex<IndexBehavior>,
}

/// The index, whose searches are observed.
pub type ObservedIndex = InterceptedIndex<ObservedSearches>;

impl Default for ObservedSearches {
    fn default() -> Self {
        Self { searches: Gate::default(), behavior: Mutex::new(IndexBehavior::Normal) }
    }
}

impl ObservedSearches {
    pub fn set_behavior(&self, behavior: IndexBehavior) {
        *self.behavior.lock().unwrap() = behavior;
    }
}

/// All points of a collection as hits.
async fn all_points(index: &EmbeddedIndex, collection: &CollectionName) -> Result<Vec<Hit>, Error> {
    let mut hits = vec![];
    for guild in index.guilds(collection).await? {
        for Point { id, payload, .. } in index.scroll(collection, guild, None, 1_000).await?.points {
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

#[async_trait]
impl Interceptor for ObservedSearches {
    async fn search(
        &self,
        index: &EmbeddedIndex,
        collection: &CollectionName,
        scope: &Scope,
        query: Query,
    ) -> Result<Vec<Hit>, Error> {
        self.searches.pass().await;
        let behavior = *self.behavior.lock().unwrap();
        match behavior {
            IndexBehavior::Normal => index.search(collection, scope, query).await,
            IndexBehavior::Unavailable => Err(Error::Unavailable("it is being restarted".to_owned())),
            IndexBehavior::Broken => Err(Error::Engine("it broke".to_owned())),
            IndexBehavior::Unfiltered => all_points(index, collection).await,
            IndexBehavior::Forged => {
                let mut hits = all_points(index, collection).await?;
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
}
