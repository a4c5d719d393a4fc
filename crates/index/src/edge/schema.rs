//! What a collection looks like in the engine: its vectors, its payload indexes, and filters over them.

use std::fmt::Display;

use guildex_types::{GuildId, MessageId, SessionId};
use qdrant_edge::{
    AnyVariants, Condition, CreateIndex, DateTimeWrapper, DatetimeIndexParams, Distance, EdgeConfig,
    EdgeOptimizersConfig, EdgeSparseVectorParams, EdgeVectorParams, FieldCondition, FieldIndexOperations,
    Filter, HnswIndexConfig, IntegerIndexParams, JsonPath, KeywordIndexParams, Match, Modifier,
    PayloadFieldSchema, PayloadSchemaParams, Range, UpdateOperation, WalOptions,
};

use crate::{Error, Filter as Wanted, Scope};

/// The name of the dense vectors.
pub(super) const DENSE: &str = "dense";
/// The name of the sparse vectors.
pub(super) const BM25: &str = "bm25";

const KIB: usize = 1024;

/// The engine's configuration of a collection.
pub(super) fn config(dims: usize) -> EdgeConfig {
    // Searches stay in one guild: graphs are built for guilds and channels, none over all of them.
    let graph = HnswIndexConfig { m: 0, payload_m: Some(16), ..HnswIndexConfig::default() };
    let optimizers = EdgeOptimizersConfig { indexing_threshold: Some(INDEXED_FROM_KB), ..Default::default() };
    // The engine never reads its log back and keeps all of it: small files let it be cut soon.
    let log = WalOptions { segment_capacity: 8 * KIB * KIB, ..WalOptions::default() };
    EdgeConfig::builder()
        .vector(DENSE, EdgeVectorParams::builder(dims, Distance::Cosine).build())
        .sparse_vector(BM25, EdgeSparseVectorParams::builder().modifier(Modifier::Idf).build())
        .hnsw_config(graph)
        .optimizers(optimizers)
        .wal_options(log)
        .build()
}

/// From how many KiB of dense vectors on a segment gets graphs; about 130,000 vectors of 384. Comparing with all
/// of 36,000 takes 6 ms on a core and finds the best, while graphs for 40,000 take half a minute to build, in
/// which writes wait.
const INDEXED_FROM_KB: usize = 200_000;

/// In what way an existing collection differs from the one wanted.
pub(super) fn difference(found: &EdgeConfig, dims: usize) -> Option<String> {
    let Some(dense) = found.vectors.get(DENSE) else {
        return Some(format!("it has no vectors called {DENSE}"));
    };
    let idf = found.sparse_vectors.get(BM25).is_some_and(|sparse| sparse.modifier == Some(Modifier::Idf));
    if dense.size != dims {
        Some(format!("its dense vectors have {} dimensions, {dims} are wanted", dense.size))
    } else if dense.distance != Distance::Cosine {
        Some("its dense vectors are not compared by cosine".to_owned())
    } else if !idf {
        Some(format!("it has no sparse vectors called {BM25} with the IDF modifier"))
    } else {
        None
    }
}

/// The operations that make the payload indexes. Making one again changes nothing.
pub(super) fn payload_indexes() -> Result<Vec<UpdateOperation>, Error> {
    let tenant = KeywordIndexParams { is_tenant: Some(true), enable_hnsw: Some(true), ..Default::default() };
    let channel = KeywordIndexParams { enable_hnsw: Some(true), ..Default::default() };
    // Deletions and verification filter by these; no search does, so they get no graphs.
    let keyword = KeywordIndexParams { enable_hnsw: Some(false), ..Default::default() };
    let time = DatetimeIndexParams { enable_hnsw: Some(false), ..Default::default() };
    let number = IntegerIndexParams { enable_hnsw: Some(false), ..Default::default() };
    [
        ("guild_id", PayloadSchemaParams::Keyword(tenant)),
        ("channel_id", PayloadSchemaParams::Keyword(channel)),
        ("author_ids", PayloadSchemaParams::Keyword(keyword.clone())),
        ("message_ids", PayloadSchemaParams::Keyword(keyword.clone())),
        ("session_id", PayloadSchemaParams::Keyword(keyword)),
        ("start_time", PayloadSchemaParams::Datetime(time.clone())),
        ("end_time", PayloadSchemaParams::Datetime(time)),
        ("revision", PayloadSchemaParams::Integer(number)),
    ]
    .into_iter()
    .map(|(name, params)| {
        let index = CreateIndex {
            field_name: field(name)?,
            field_schema: Some(PayloadFieldSchema::FieldParams(params)),
        };
        Ok(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(index)))
    })
    .collect()
}

/// A payload field by its name.
pub(super) fn field(name: &str) -> Result<JsonPath, Error> {
    name.parse().map_err(|()| Error::Engine(format!("{name} names no payload field")))
}

/// All of a guild.
pub(super) fn in_guild(guild: GuildId) -> Result<Filter, Error> {
    Ok(all(vec![is("guild_id", guild)?]))
}

/// What of a scope is looked at.
pub(super) fn in_scope(scope: &Scope, wanted: &Wanted) -> Result<Filter, Error> {
    let mut conditions = vec![is("guild_id", scope.tenant())?];
    if let Some(channels) = scope.channels() {
        conditions.push(is_any("channel_id", channels)?);
    }
    if let Some(authors) = &wanted.authors {
        conditions.push(is_any("author_ids", authors)?);
    }
    if let Some(since) = wanted.since {
        conditions
            .push(in_time("end_time", Range { gte: Some(since.into()), gt: None, lt: None, lte: None })?);
    }
    if let Some(until) = wanted.until {
        conditions
            .push(in_time("start_time", Range { lt: Some(until.into()), lte: None, gt: None, gte: None })?);
    }
    Ok(all(conditions))
}

/// All of some sessions of a guild.
pub(super) fn in_sessions<'a>(
    guild: GuildId,
    sessions: impl IntoIterator<Item = &'a SessionId>,
) -> Result<Filter, Error> {
    Ok(all(vec![is("guild_id", guild)?, is_any("session_id", sessions)?]))
}

/// Everything of a guild that holds one of the messages.
pub(super) fn with_messages(guild: GuildId, messages: &[MessageId]) -> Result<Filter, Error> {
    Ok(all(vec![is("guild_id", guild)?, is_any("message_ids", messages)?]))
}

fn all(conditions: Vec<Condition>) -> Filter {
    Filter { should: None, min_should: None, must: Some(conditions), must_not: None }
}

fn is(name: &str, id: impl Display) -> Result<Condition, Error> {
    Ok(Condition::Field(FieldCondition::new_match(field(name)?, Match::from(id.to_string()))))
}

fn in_time(name: &str, range: Range<DateTimeWrapper>) -> Result<Condition, Error> {
    Ok(Condition::Field(FieldCondition::new_datetime_range(field(name)?, range)))
}

fn is_any<T: Display>(name: &str, ids: impl IntoIterator<Item = T>) -> Result<Condition, Error> {
    let ids = AnyVariants::Strings(ids.into_iter().map(|id| id.to_string()).collect());
    Ok(Condition::Field(FieldCondition::new_match(field(name)?, Match::new_any(ids))))
}
