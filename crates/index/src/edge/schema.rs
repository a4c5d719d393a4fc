//! What a collection looks like in the engine: its vectors, its payload indexes, and filters over them.

use std::collections::HashMap;
use std::fmt::Display;

use chrono::{DateTime, SubsecRound, Utc};
use guildex_types::{GuildId, MessageId, SessionId};
use qdrant_edge::{
    AnyVariants, Condition, CreateIndex, DateTimeWrapper, DatetimeIndexParams, Distance, EdgeConfig,
    EdgeOptimizersConfig, EdgeSparseVectorParams, EdgeVectorParams, FieldCondition, FieldIndexOperations,
    Filter, HnswIndexConfig, IntegerIndexParams, JsonPath, KeywordIndexParams, Match, Modifier,
    PayloadFieldSchema, PayloadIndexInfo, PayloadSchemaParams, Range, UpdateOperation, WalOptions,
};

use crate::{Difference, Error, Filter as Wanted, Scope};

/// The name of the dense vectors.
pub(super) const DENSE: &str = "dense";
/// The name of the sparse vectors.
pub(super) const BM25: &str = "bm25";

/// The payload's field that names the tenant.
const GUILD: &str = "guild_id";

const KIB: usize = 1024;

/// The decimals of a second that the engine's index of times keeps. The payload keeps all, and the engine looks
/// there where it has no index: bounds of whole microseconds come to the same in both.
const MICROS: u16 = 6;

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

/// In what ways a collection cannot hold what is to be written, or ranks it wrongly.
pub(super) fn mismatches(found: &EdgeConfig, dims: usize) -> Vec<Difference> {
    let fatal = |what: &str, found: String, wanted: String| Difference {
        what: what.to_owned(),
        found,
        wanted,
        fatal: true,
    };
    let mut differences = vec![];
    match found.vectors.get(DENSE) {
        None => {
            differences.push(fatal("the dense vectors", "missing".to_owned(), format!("{dims} dimensions")))
        }
        Some(dense) => {
            if dense.size != dims {
                let what = "the number of dimensions";
                differences.push(fatal(what, dense.size.to_string(), dims.to_string()));
            }
            if dense.distance != Distance::Cosine {
                let found = format!("{:?}", dense.distance);
                differences.push(fatal("the comparison of dense vectors", found, "Cosine".to_owned()));
            }
        }
    }
    match found.sparse_vectors.get(BM25).map(|sparse| sparse.modifier) {
        Some(Some(Modifier::Idf)) => {}
        Some(_) => {
            let (found, wanted) = ("none".to_owned(), "inverse document frequency".to_owned());
            differences.push(fatal("the weight of words", found, wanted));
        }
        None => {
            differences.push(fatal("the vectors of words", "missing".to_owned(), BM25.to_owned()));
        }
    }
    differences
}

/// In what ways the collection is set up to be slower than it could be.
pub(super) fn slowdowns(found: &EdgeConfig, dims: usize) -> Vec<Difference> {
    let wanted = config(dims);
    let dense = found.vectors.get(DENSE).and_then(|dense| dense.hnsw_config);
    let graph = dense.unwrap_or(found.hnsw_config);
    [
        ("the graph's m", Some(graph.m), Some(wanted.hnsw_config.m)),
        ("the graph's payload_m", graph.payload_m, wanted.hnsw_config.payload_m),
        (
            "the KiB from which on graphs are built",
            found.optimizers.indexing_threshold,
            wanted.optimizers.indexing_threshold,
        ),
    ]
    .into_iter()
    .filter(|(_, found, wanted)| found != wanted)
    .map(|(what, found, wanted)| Difference {
        what: what.to_owned(),
        found: found.map_or_else(|| "the engine's choice".to_owned(), |number| number.to_string()),
        wanted: wanted.map_or_else(|| "the engine's choice".to_owned(), |number| number.to_string()),
        fatal: false,
    })
    .collect()
}

/// In what ways the payload indexes are not those of [`payload_schema`]. Filters work without, slowly; but what
/// guilds there are is known from the index alone.
pub(super) fn index_differences(
    found: &HashMap<JsonPath, PayloadIndexInfo>,
) -> Result<Vec<Difference>, Error> {
    let mut differences = vec![];
    for (name, wanted) in payload_schema() {
        let found = found.get(&field(name)?);
        if found.and_then(|index| index.params.as_ref()) != Some(&wanted) {
            differences.push(Difference {
                what: format!("the payload index {name}"),
                found: found.map_or_else(|| "missing".to_owned(), describe),
                wanted: describe(&PayloadIndexInfo::new(PayloadFieldSchema::FieldParams(wanted.clone()), 0)),
                fatal: name == GUILD && found.is_none_or(|index| index.data_type != wanted.kind()),
            });
        }
    }
    Ok(differences)
}

fn describe(index: &PayloadIndexInfo) -> String {
    let schema = index.params.clone().map(PayloadFieldSchema::FieldParams);
    let graph = schema.is_none_or(|schema| schema.enable_hnsw());
    format!("{:?} {} a graph", index.data_type, if graph { "with" } else { "without" }).to_lowercase()
}

/// What is indexed of a payload. Searches stay in a guild, and channels are what they are narrowed to: these have
/// graphs. Authors and times have none, since they are filters within a guild. Where a filter leaves less than
/// 10,000 KiB of vectors, about 6,700, the engine compares with all of them; where it leaves more than about one
/// in 16 (`payload_m`), the guild's graph still hangs together. Between the two lie guilds of more than 100,000
/// points alone, in which a filtered search may miss some unless it is exact. That is not worth a graph for each
/// of tens of authors a point, built anew at every reorganisation. Deletions need no graphs at all.
fn payload_schema() -> [(&'static str, PayloadSchemaParams); 8] {
    let tenant = KeywordIndexParams { is_tenant: Some(true), enable_hnsw: Some(true), ..Default::default() };
    let channel = KeywordIndexParams { enable_hnsw: Some(true), ..Default::default() };
    let keyword = KeywordIndexParams { enable_hnsw: Some(false), ..Default::default() };
    let time = DatetimeIndexParams { enable_hnsw: Some(false), ..Default::default() };
    let number = IntegerIndexParams { enable_hnsw: Some(false), ..Default::default() };
    [
        (GUILD, PayloadSchemaParams::Keyword(tenant)),
        ("channel_id", PayloadSchemaParams::Keyword(channel)),
        ("author_ids", PayloadSchemaParams::Keyword(keyword.clone())),
        ("message_ids", PayloadSchemaParams::Keyword(keyword.clone())),
        ("session_id", PayloadSchemaParams::Keyword(keyword)),
        ("start_time", PayloadSchemaParams::Datetime(time.clone())),
        ("end_time", PayloadSchemaParams::Datetime(time)),
        ("revision", PayloadSchemaParams::Integer(number)),
    ]
}

/// The operations that make the payload indexes. Making one again changes nothing.
pub(super) fn payload_indexes() -> Result<Vec<UpdateOperation>, Error> {
    let operations = payload_schema().into_iter().map(|(name, params)| {
        let field_schema = Some(PayloadFieldSchema::FieldParams(params));
        let index = CreateIndex { field_name: field(name)?, field_schema };
        Ok(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(index)))
    });
    operations.collect()
}

/// A payload field by its name.
pub(super) fn field(name: &str) -> Result<JsonPath, Error> {
    name.parse().map_err(|()| Error::Engine(format!("{name} names no payload field")))
}

/// All of a guild.
pub(super) fn in_guild(guild: GuildId) -> Result<Filter, Error> {
    Ok(all(vec![is(GUILD, guild)?]))
}

/// What of a scope is looked at.
pub(super) fn in_scope(scope: &Scope, wanted: &Wanted) -> Result<Filter, Error> {
    let mut conditions = vec![is(GUILD, scope.tenant())?];
    if let Some(channels) = scope.channels() {
        conditions.push(is_any("channel_id", channels)?);
    }
    if let Some(authors) = &wanted.authors {
        conditions.push(is_any("author_ids", authors)?);
    }
    let whole = |time: DateTime<Utc>| DateTimeWrapper::from(time.trunc_subsecs(MICROS));
    if let Some(since) = wanted.since {
        conditions
            .push(in_time("end_time", Range { gte: Some(whole(since)), gt: None, lt: None, lte: None })?);
    }
    if let Some(until) = wanted.until {
        conditions
            .push(in_time("start_time", Range { lt: Some(whole(until)), lte: None, gt: None, gte: None })?);
    }
    Ok(all(conditions))
}

/// All of some sessions of a guild.
pub(super) fn in_sessions<'a>(
    guild: GuildId,
    sessions: impl IntoIterator<Item = &'a SessionId>,
) -> Result<Filter, Error> {
    Ok(all(vec![is(GUILD, guild)?, is_any("session_id", sessions)?]))
}

/// Everything of a guild that holds one of the messages.
pub(super) fn with_messages(guild: GuildId, messages: &[MessageId]) -> Result<Filter, Error> {
    Ok(all(vec![is(GUILD, guild)?, is_any("message_ids", messages)?]))
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
