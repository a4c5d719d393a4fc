//! The real index, watched.

use std::sync::Mutex;

use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_index::{
    CollectionName, Collections, EmbeddedIndex, Error, Hit, Page, Point, PointHeader, PointSelector, Query,
    Scope, VectorIndex,
};
use guildex_types::{GuildId, MessageId, PointId, Revision, SessionId};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

use super::PATIENCE;

/// Where those who pass can be held up, and counted.
pub struct Gate {
    open: watch::Sender<bool>,
    held_up: watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { open: watch::Sender::new(true), held_up: watch::Sender::new(0) }
    }
}

impl Gate {
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    pub async fn pass(&self) {
        if !*self.open.borrow() {
            self.held_up.send_modify(|count| *count += 1);
            self.open.subscribe().wait_for(|open| *open).await.unwrap();
        }
    }

    /// Until so many were held up.
    pub async fn until_waiting(&self, count: usize) {
        let mut held_up = self.held_up.subscribe();
        let waiting = held_up.wait_for(|held_up| *held_up >= count);
        timeout(PATIENCE, waiting).await.expect("somebody at the gate").unwrap();
    }
}

/// How searches are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Honest,
    /// The server is away.
    Away,
    /// The engine fails.
    Broken,
    /// Everything there is, of all guilds.
    Blabbing,
    /// Everything there is, as if it were of the guild and channel asked for.
    Lying,
}

pub struct View {
    real: EmbeddedIndex,
    /// Every search passes here.
    pub searches: Gate,
    mood: Mutex<Mood>,
    /// Outlives the index in it.
    _folder: TempDir,
}

impl View {
    pub fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            real: EmbeddedIndex::open(folder.path()).unwrap(),
            searches: Gate::default(),
            mood: Mutex::new(Mood::Honest),
            _folder: folder,
        }
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Every point of a collection as a hit, whatever was asked for.
    async fn everything(&self, collection: &CollectionName) -> Result<Vec<Hit>, Error> {
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

impl VectorIndex for View {
    fn collections(&self) -> &dyn Collections {
        self.real.collections()
    }

    fn upsert<'a>(
        &'a self,
        collection: &'a CollectionName,
        points: Vec<Point>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.real.upsert(collection, points)
    }

    fn delete_below<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        sessions: &'a [(SessionId, Revision)],
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.real.delete_below(collection, guild, sessions)
    }

    fn delete_messages<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        messages: &'a [MessageId],
        below: Revision,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.real.delete_messages(collection, guild, messages, below)
    }

    fn search<'a>(
        &'a self,
        collection: &'a CollectionName,
        scope: &'a Scope,
        query: Query,
    ) -> BoxFuture<'a, Result<Vec<Hit>, Error>> {
        async move {
            self.searches.pass().await;
            let mood = *self.mood.lock().unwrap();
            match mood {
                Mood::Honest => self.real.search(collection, scope, query).await,
                Mood::Away => Err(Error::Unavailable("it is being restarted".to_owned())),
                Mood::Broken => Err(Error::Engine("it broke".to_owned())),
                Mood::Blabbing => self.everything(collection).await,
                Mood::Lying => {
                    let mut hits = self.everything(collection).await?;
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
        .boxed()
    }

    fn scroll<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        after: Option<PointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, Error>> {
        self.real.scroll(collection, guild, after, limit)
    }

    fn headers<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
        which: PointSelector<'a>,
    ) -> BoxFuture<'a, Result<Vec<PointHeader>, Error>> {
        self.real.headers(collection, guild, which)
    }

    fn count<'a>(
        &'a self,
        collection: &'a CollectionName,
        guild: GuildId,
    ) -> BoxFuture<'a, Result<usize, Error>> {
        self.real.count(collection, guild)
    }

    fn guilds<'a>(&'a self, collection: &'a CollectionName) -> BoxFuture<'a, Result<Vec<GuildId>, Error>> {
        self.real.guilds(collection)
    }
}
