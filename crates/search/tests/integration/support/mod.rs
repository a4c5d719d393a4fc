//! Stored and indexed sessions, an embedder by words, and an index whose searches can be blocked, fail or be forged.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

mod observed_index;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_embed::{EmbedError, Embedder, ModelRegistry, Tokenizer};
use guildex_index::{Collection, CollectionName, Payload, Point, VectorIndex, bm25};
use guildex_search::{Fallback, SearchConfig, SearchError, SearchRequest, SearchResponse, Searcher};
use guildex_store::channels::{self, Channel};
use guildex_store::sessions::{self, Record};
use guildex_store::{messages, models, soft_delete, users};
use guildex_types::{
    Author, ChannelId, GuildId, Links, Message, MessageId, MessageKind, ModelSlug, PointId, Revision,
    SearchText, SessionId,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sqlx::PgPool;
use tokio::time::timeout;

pub use observed_index::{Gate, IndexBehavior, ObservedIndex, ObservedSearches};

pub use guildex_test_support::TEST_TIMEOUT;

const DIMS: usize = 32;

/// An embedder that hashes words into dimensions: texts with the same words are near each other.
pub struct WordEmbedder {
    pub slug: ModelSlug,
    tokenizer: Tokenizer,
    /// Every call of `embed` passes this gate.
    pub calls: Gate,
}

impl WordEmbedder {
    pub fn new(slug: &str) -> Self {
        let words = tokenizers::Tokenizer::new(tokenizers::models::wordlevel::WordLevel::default());
        let tokenizer = Tokenizer::new(words, 256).unwrap();
        Self { slug: slug.parse().unwrap(), tokenizer, calls: Gate::default() }
    }

    pub fn vector(text: &str) -> Vec<f32> {
        let mut vector = vec![0.05; DIMS];
        for word in text.to_lowercase().split_whitespace() {
            let place = word.bytes().fold(7_usize, |hash, byte| hash * 31 % 1_009 + usize::from(byte));
            vector[place % DIMS] += 1.0;
        }
        vector
    }
}

impl Embedder for WordEmbedder {
    fn slug(&self) -> &ModelSlug {
        &self.slug
    }

    fn dimensions(&self) -> usize {
        DIMS
    }

    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EmbedError>> {
        async move {
            self.calls.pass().await;
            Ok(texts.iter().map(|text| Self::vector(text)).collect())
        }
        .boxed()
    }

    fn truncated(&self) -> u64 {
        0
    }
}

/// A channel of a guild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub guild: i64,
    pub channel: i64,
}

impl Place {
    pub fn guild(self) -> GuildId {
        self.guild.try_into().unwrap()
    }

    pub fn channel(self) -> ChannelId {
        self.channel.try_into().unwrap()
    }

    pub fn session(self, first: i64) -> SessionId {
        SessionId::new(self.guild(), self.channel(), id(first))
    }
}

pub const HERE: Place = Place { guild: 1, channel: 9 };

pub fn id(number: i64) -> MessageId {
    number.try_into().unwrap()
}

pub fn minute(number: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(number)
}

/// A message: id, author, minute and text.
pub type TestMessage<'a> = (i64, i64, i64, &'a str);

/// A database, an index, and an embedder for each collection.
pub struct World {
    pub pool: PgPool,
    pub index: Arc<ObservedIndex>,
    pub embedders: Vec<Arc<WordEmbedder>>,
    pub config: SearchConfig,
}

impl World {
    /// A world with one active model, `letters`.
    pub async fn new(pool: PgPool) -> Self {
        Self::with_models(pool, &["letters"]).await
    }

    /// A world with these models, each with an empty collection; the first is active, the others are filling.
    pub async fn with_models(pool: PgPool, slugs: &[&str]) -> Self {
        let embedders: Vec<_> = slugs.iter().map(|slug| Arc::new(WordEmbedder::new(slug))).collect();
        let world = Self {
            pool,
            index: Arc::new(ObservedIndex::open(ObservedSearches::default())),
            embedders,
            config: SearchConfig { timeout: TEST_TIMEOUT, ..SearchConfig::default() },
        };
        for model in &world.embedders {
            let collection = Collection { name: world.collection(&model.slug), dims: DIMS };
            world.index.ensure(&collection).await.unwrap();
        }
        models::ensure_active(&world.pool, &world.embedders[0].slug, DIMS).await.unwrap();
        for slug in slugs.iter().skip(1) {
            world.set_state(slug, "filling").await;
        }
        world
    }

    /// Enables the fallback to Postgres.
    pub fn with_fallback(mut self) -> Self {
        self.config.fallback = Fallback::Postgres;
        self
    }

    pub fn collection(&self, model: &ModelSlug) -> CollectionName {
        CollectionName::new("test", model).unwrap()
    }

    /// Sets the state of a model.
    pub async fn set_state(&self, slug: &str, state: &str) {
        sqlx::query(
            "INSERT INTO models (slug, dimensions, state) VALUES ($1, $2, $3)
             ON CONFLICT (slug) DO UPDATE SET state = excluded.state",
        )
        .bind(slug)
        .bind(DIMS as i32)
        .bind(state)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// The slug of the active model.
    pub fn slug(&self) -> ModelSlug {
        self.embedders[0].slug.clone()
    }

    pub fn searcher(&self) -> Searcher {
        Searcher {
            pool: self.pool.clone(),
            models: Arc::new(ModelRegistry::preloaded(
                self.embedders.iter().map(|model| Arc::clone(model) as Arc<dyn Embedder>),
            )),
            index: self.index.clone(),
            collection_prefix: "test".to_owned(),
            config: self.config.clone(),
        }
    }

    /// Searches; panics without a response within the highest timeout.
    pub async fn try_search(&self, request: &SearchRequest) -> Result<SearchResponse, SearchError> {
        timeout(2 * TEST_TIMEOUT, self.searcher().search(request)).await.expect("a response in time")
    }

    pub async fn search(&self, request: &SearchRequest) -> SearchResponse {
        self.try_search(request).await.unwrap()
    }

    /// The ids of the sessions found, best first.
    pub async fn search_ids(&self, request: &SearchRequest) -> Vec<SessionId> {
        self.search(request).await.results.iter().map(|hit| hit.session_id).collect()
    }

    /// Stores a session, identified by its first message.
    pub async fn store_session(&self, place: Place, messages: &[TestMessage<'_>]) -> Revision {
        let first = messages[0].0;
        self.insert(place, first, messages).await;
        self.bump_revision(place, first, false).await
    }

    /// Stores messages of the session that begins with `first`, without raising its revision.
    async fn insert(&self, place: Place, first: i64, messages: &[TestMessage<'_>]) {
        let channel = Channel {
            guild_id: place.guild(),
            guild_name: format!("guild {}", place.guild),
            id: place.channel(),
            name: format!("channel-{}", place.channel),
            parent_id: None,
        };
        let messages: Vec<_> = messages.iter().map(|message| build_message(place, *message)).collect();
        let all: Vec<_> = messages
            .iter()
            .map(|message| messages::NewMessage {
                message,
                excluded_reason: None,
                first_message_id: Some(id(first)),
            })
            .collect();
        let mut tx = self.pool.begin().await.unwrap();
        channels::upsert(&mut tx, &channel).await.unwrap();
        messages::insert(&mut tx, place.guild(), place.channel(), &all).await.unwrap();
        let authors = messages.iter().map(|message| (&message.author, message.sent_at));
        users::upsert(&mut tx, place.guild(), authors).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Adds messages to a session.
    pub async fn extend_session(&self, place: Place, first: i64, messages: &[TestMessage<'_>]) -> Revision {
        self.insert(place, first, messages).await;
        self.bump_revision(place, first, false).await
    }

    /// Edits a message.
    pub async fn edit(&self, place: Place, first: i64, message: TestMessage<'_>) {
        let edited = Message { edited_at: Some(minute(message.2 + 1)), ..build_message(place, message) };
        let mut tx = self.pool.begin().await.unwrap();
        messages::apply_edits(&mut tx, place.guild(), place.channel(), &[(&edited, None)]).await.unwrap();
        sessions::bump_revisions(&mut tx, place.guild(), place.channel(), &[(id(first), true)])
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    /// Deletes messages of a session.
    pub async fn delete(&self, place: Place, first: i64, messages: &[i64]) {
        let messages: Vec<_> = messages.iter().map(|number| id(*number)).collect();
        let mut tx = self.pool.begin().await.unwrap();
        soft_delete::messages(&mut tx, place.guild(), place.channel(), &messages).await.unwrap();
        sessions::bump_revisions(&mut tx, place.guild(), place.channel(), &[(id(first), true)])
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    async fn bump_revision(&self, place: Place, first: i64, removed: bool) -> Revision {
        let mut tx = self.pool.begin().await.unwrap();
        let changed =
            sessions::bump_revisions(&mut tx, place.guild(), place.channel(), &[(id(first), removed)])
                .await
                .unwrap();
        tx.commit().await.unwrap();
        changed[0].revision
    }

    /// The points of the session's current content, in chunks of `chunk` messages.
    pub async fn points(&self, place: Place, first: i64, chunk: usize, model: &ModelSlug) -> Vec<Point> {
        let wanted = [(place.guild(), place.session(first))];
        let session = sessions::load(&self.pool, &wanted, model).await.unwrap().remove(0);
        let chunks = session.messages.chunks(chunk).zip(0..);
        let point = |(messages, number): (&[sessions::SessionMessage], u32)| {
            let texts: Vec<_> = messages.iter().map(|message| message.text.as_str()).collect();
            let text = texts.join(" ");
            Point {
                id: PointId::new(place.guild(), place.channel(), id(first), model, number),
                dense: WordEmbedder::vector(&text),
                bm25: bm25::document(&text, bm25::Language::None),
                payload: Payload {
                    guild_id: place.guild(),
                    channel_id: place.channel(),
                    author_ids: messages.iter().map(|message| message.author_id).collect(),
                    message_ids: messages.iter().map(|message| message.id).collect(),
                    start_time: messages[0].sent_at,
                    end_time: messages[messages.len() - 1].sent_at,
                    session_id: session.id,
                    chunk: number,
                    revision: session.revision,
                    message_count: messages.len() as u32,
                    preview: None,
                },
            }
        };
        chunks.map(point).collect()
    }

    /// Indexes the session in every collection, in chunks of `chunk` messages.
    pub async fn index_session(&self, place: Place, first: i64, chunk: usize) {
        self.index_sessions(&[(place, first, chunk)]).await;
    }

    /// Indexes several sessions in every collection.
    pub async fn index_sessions(&self, wanted: &[(Place, i64, usize)]) {
        for model in &self.embedders {
            self.index_in(wanted, &model.slug).await;
        }
    }

    /// Indexes sessions in the collection of one model.
    pub async fn index_in(&self, wanted: &[(Place, i64, usize)], model: &ModelSlug) {
        let (mut all, mut records) = (vec![], vec![]);
        for (place, first, chunk) in wanted {
            let points = self.points(*place, *first, *chunk, model).await;
            let revision = points[0].payload.revision;
            records.push(Record {
                guild_id: place.guild(),
                session_id: place.session(*first),
                revision,
                point_revision: revision,
                content_hash: vec![7],
                point_ids: points.iter().map(|point| point.id).collect(),
            });
            all.extend(points);
        }
        self.index.upsert(&self.collection(model), all).await.unwrap();
        sessions::record(&self.pool, &records, model, &models::list(&self.pool).await.unwrap())
            .await
            .unwrap();
    }

    /// Stores a session and indexes it as one chunk.
    pub async fn store_and_index(&self, place: Place, messages: &[TestMessage<'_>]) -> SessionId {
        self.store_session(place, messages).await;
        self.index_session(place, messages[0].0, usize::MAX).await;
        place.session(messages[0].0)
    }

    /// Upserts unrecorded points into every collection.
    pub async fn upsert_everywhere(&self, points: impl Fn(&ModelSlug) -> Vec<Point>) {
        for model in &self.embedders {
            self.index.upsert(&self.collection(&model.slug), points(&model.slug)).await.unwrap();
        }
    }
}

fn build_message(place: Place, (number, author, at, text): TestMessage<'_>) -> Message {
    Message {
        guild_id: place.guild(),
        channel_id: place.channel(),
        id: id(number),
        author: Author::member(author.try_into().unwrap(), format!("author {author}")),
        kind: MessageKind::Conversation,
        sent_at: minute(at),
        edited_at: None,
        links: Links::default(),
        text: SearchText::from_parts([text]),
    }
}

/// A request with defaults.
pub fn search_request(guild: i64, query: &str) -> SearchRequest {
    SearchRequest::new(guild.try_into().unwrap(), query)
}

/// `count` random cases of a strategy, different in each run.
pub fn cases<S: Strategy>(count: usize, strategy: S) -> impl Iterator<Item = S::Value> {
    let mut runner = TestRunner::default();
    (0..count).map(move |_| strategy.new_tree(&mut runner).unwrap().current())
}
