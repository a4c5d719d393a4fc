//! Points and queries for the tests of indexes.
#![allow(dead_code, reason = "each test binary uses its part")]

#[cfg(feature = "server")]
pub mod server;

use chrono::{DateTime, TimeDelta, Utc};
use guildex_index::bm25::{self, Language};
use guildex_index::{
    Collection, Filter, Fusion, Hit, Mode, Payload, Point, Preview, Query, Scope, SparseVector, VectorIndex,
};
use guildex_types::{ChannelId, GuildId, ModelSlug, PointId, Revision, SessionId, UserId};

pub const DIMS: usize = 4;

/// The fields of a point; a test sets those that it is about.
#[derive(Debug, Clone)]
pub struct Chunk<'a> {
    pub guild: i64,
    pub channel: i64,
    /// The first message of the session and of the point; message ids are consecutive.
    pub first: i64,
    pub chunk: u32,
    pub messages: u32,
    pub revision: i64,
    pub dense: Vec<f32>,
    pub text: &'a str,
    pub authors: Vec<i64>,
    /// The time of the first message; the last one was sent five minutes later.
    pub start: DateTime<Utc>,
}

impl Default for Chunk<'_> {
    fn default() -> Self {
        Self {
            guild: 7,
            channel: 70,
            first: 700,
            chunk: 0,
            messages: 2,
            revision: 1,
            dense: DEFAULT_VECTOR.to_vec(),
            text: "hello there",
            authors: vec![1, i64::MAX],
            start: DateTime::from_timestamp_nanos(1_700_000_000_123_456_789),
        }
    }
}

impl Chunk<'_> {
    pub fn id(&self) -> PointId {
        let (guild, channel, first) = self.names();
        PointId::new(guild, channel, first, &model(), self.chunk)
    }

    pub fn session(&self) -> SessionId {
        let (guild, channel, first) = self.names();
        SessionId::new(guild, channel, first)
    }

    pub fn end(&self) -> DateTime<Utc> {
        self.start + TimeDelta::minutes(5)
    }

    fn names(&self) -> (GuildId, ChannelId, guildex_types::MessageId) {
        let Self { guild, channel, first, .. } = *self;
        (guild.try_into().unwrap(), channel.try_into().unwrap(), first.try_into().unwrap())
    }

    pub fn point(&self) -> Point {
        let (guild_id, channel_id, _) = self.names();
        let payload = Payload {
            guild_id,
            channel_id,
            author_ids: self.authors.iter().map(|&id| author(id)).collect(),
            message_ids: (0..i64::from(self.messages))
                .map(|n| (self.first + n).try_into().unwrap())
                .collect(),
            start_time: self.start,
            end_time: self.end(),
            session_id: self.session(),
            chunk: self.chunk,
            revision: self.revision.into(),
            message_count: self.messages,
            preview: Some(Preview::new(self.text)),
        };
        Point {
            id: self.id(),
            dense: self.dense.clone(),
            bm25: bm25::document(self.text, Language::None),
            payload,
        }
    }
}

pub fn model() -> ModelSlug {
    "model-fp32".parse().unwrap()
}

pub fn guild(id: i64) -> GuildId {
    id.try_into().unwrap()
}

pub fn channel(id: i64) -> ChannelId {
    id.try_into().unwrap()
}

pub fn author(id: i64) -> UserId {
    id.try_into().unwrap()
}

pub fn revision(number: i64) -> Revision {
    number.into()
}

/// A query for the ten nearest points to `dense` and `text`.
pub fn query(mode: Mode, dense: &[f32], text: &str) -> Query {
    Query {
        dense: dense.to_vec(),
        bm25: bm25::query(text, Language::None),
        mode,
        fusion: Fusion::default(),
        filter: Filter::default(),
        min_score: None,
        limit: 10,
        exact: false,
    }
}

pub fn dense_query(dense: &[f32], limit: usize) -> Query {
    Query { bm25: SparseVector::default(), limit, exact: true, ..query(Mode::Dense, dense, "") }
}

/// The default vector of a chunk.
pub const DEFAULT_VECTOR: [f32; DIMS] = [1.0, 0.0, 0.0, 0.0];

pub const MODES: [Mode; 3] = [Mode::Dense, Mode::Sparse, Mode::Hybrid];

/// Searches a whole guild.
pub async fn search(index: &dyn VectorIndex, collection: &Collection, guild: i64, query: Query) -> Vec<Hit> {
    let scope = Scope::guild(guild.try_into().unwrap());
    index.search(&collection.name, &scope, query).await.unwrap()
}

pub fn ids(hits: &[Hit]) -> Vec<PointId> {
    hits.iter().map(|hit| hit.id).collect()
}

pub async fn upsert(index: &dyn VectorIndex, collection: &Collection, chunks: &[Chunk<'_>]) {
    index.upsert(&collection.name, chunks.iter().map(Chunk::point).collect()).await.unwrap();
}

/// All points of a guild, read in pages of two.
pub async fn all(index: &dyn VectorIndex, collection: &Collection, guild: GuildId) -> Vec<Point> {
    let mut points = vec![];
    let mut after = None;
    loop {
        let page = index.scroll(&collection.name, guild, after, 2).await.unwrap();
        points.extend(page.points);
        after = page.next;
        if after.is_none() {
            return points;
        }
    }
}

/// A deterministic pseudo-random sequence.
pub fn noise(seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        // SplitMix64, by Steele, Lea and Flood.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}
