//! What a collection looks like in the engine: its vectors, its payload indexes, and filters over them.

use std::collections::HashMap;
use std::fmt::Display;

use chrono::{DateTime, SubsecRound, Utc};
use guildex_types::{GuildId, MessageId, SessionId};
use qdrant_edge::{
    AnyVariants, Condition, CreateIndex, DateTimeWrapper, DatetimeIndexParams, Distance, EdgeConfig,
    EdgeOptimizersConfig, EdgeSparseVectorParams, EdgeVectorParams, FieldCondition, FieldIndexOperations,
    Filter, HnswIndexConfig, JsonPath, KeywordIndexParams, Match, Modifier, PayloadFieldSchema,
    PayloadIndexInfo, PayloadSchemaParams, Range, UpdateOperation, WalOptions,
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
    let dense = EdgeVectorParams::builder(dims, Distance::Cosine).on_disk(true).build();
    let words = EdgeSparseVectorParams::builder().modifier(Modifier::Idf).on_disk(true).build();
    // The engine never reads its log back and keeps all of it: small files let it be cut soon.
    let log = WalOptions { segment_capacity: 8 * KIB * KIB, ..WalOptions::default() };
    EdgeConfig::builder()
        .vector(DENSE, dense)
        .sparse_vector(BM25, words)
        .hnsw_config(graphs())
        .optimizers(segments(dims, 0))
        .wal_options(log)
        .build()
}

/// The configuration of a collection that is there, as far as it can be changed, brought to today's. What its
/// vectors are stays, and so does how it is cut into segments, which is decided whenever it is reorganised.
pub(super) fn renewed(mut found: EdgeConfig) -> EdgeConfig {
    let dims = found.vectors.get(DENSE).map_or(0, |dense| dense.size);
    let wanted = config(dims);
    for (name, dense) in &mut found.vectors {
        dense.on_disk = wanted.vectors.get(name).and_then(|wanted| wanted.on_disk);
        dense.hnsw_config = None;
    }
    for (name, words) in &mut found.sparse_vectors {
        words.on_disk = wanted.sparse_vectors.get(name).and_then(|wanted| wanted.on_disk);
    }
    let EdgeConfig { vectors, sparse_vectors, optimizers, .. } = found;
    EdgeConfig { vectors, sparse_vectors, optimizers, ..wanted }
}

/// No graphs: a search compares with all vectors of its guild, and finds the best. That takes 6 ms of a core for
/// 36,000 of them, while graphs for 40,000 take half a minute to build, in which writes wait. Where a guild has a
/// million, there is Qdrant.
fn graphs() -> HnswIndexConfig {
    HnswIndexConfig { m: 0, payload_m: None, ..HnswIndexConfig::default() }
}

/// How a collection of so many points is cut into segments. New points go to one that is sealed when it has
/// [`SEALED_FROM`], since what it costs to sort words into a segment grows with it. [`MERGED`] of these are merged
/// into one, which stays as it is: a flush costs some milliseconds a segment, and a merger the memory of what is
/// merged, twice.
pub(super) fn segments(dims: usize, points: usize) -> EdgeOptimizersConfig {
    let kib = |points: usize| (points * dims * size_of::<f32>() / KIB).max(1);
    let sealed = points / SEALED_FROM;
    let for_what_comes = 1;
    EdgeOptimizersConfig {
        indexing_threshold: Some(kib(SEALED_FROM / 2)),
        max_segment_size: Some(kib(SEALED_FROM * (MERGED + 2))),
        default_segment_number: Some(sealed / MERGED + sealed % MERGED + for_what_comes),
        ..EdgeOptimizersConfig::default()
    }
}

/// How many points written or deleted make it worth to seal the segment that takes new ones. A test can only write
/// so many.
pub(super) const SEALED_FROM: usize = if cfg!(test) { 40 } else { 4_000 };
/// How many sealed segments become one.
const MERGED: usize = 6;

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
    let on_disk = index.params.as_ref().is_some_and(PayloadSchemaParams::is_on_disk);
    format!("{:?} {}", index.data_type, if on_disk { "on disk" } else { "in memory" }).to_lowercase()
}

/// What is indexed of a payload: what is filtered by. Every index costs a reading of all payloads whenever segments
/// are merged, so revisions have none: the engine would compare them as floats, and they are read instead.
fn payload_schema() -> [(&'static str, PayloadSchemaParams); 7] {
    let on_disk = Some(true);
    let keyword = KeywordIndexParams { on_disk, ..Default::default() };
    let tenant = KeywordIndexParams { is_tenant: Some(true), ..keyword.clone() };
    let time = DatetimeIndexParams { on_disk, ..Default::default() };
    [
        (GUILD, PayloadSchemaParams::Keyword(tenant)),
        ("channel_id", PayloadSchemaParams::Keyword(keyword.clone())),
        ("author_ids", PayloadSchemaParams::Keyword(keyword.clone())),
        ("message_ids", PayloadSchemaParams::Keyword(keyword.clone())),
        ("session_id", PayloadSchemaParams::Keyword(keyword)),
        ("start_time", PayloadSchemaParams::Datetime(time.clone())),
        ("end_time", PayloadSchemaParams::Datetime(time)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_segments_are_merged_and_large_ones_stay() {
        let number = |sealed: usize| segments(4, sealed * SEALED_FROM).default_segment_number;
        assert_eq!([0, 1, 5].map(number), [Some(1), Some(2), Some(6)]);
        assert_eq!([6, 7, 11].map(number), [Some(2), Some(3), Some(7)], "six have become one");
        assert_eq!([12, 73].map(number), [Some(3), Some(12 + 1 + 1)]);
    }
}
