//! Searching: one request for a ranking by each vector, fused here as the embedded engine's are, and one for what
//! is known of the few best. The rankings are long, so that they carry nothing but ids.

use std::collections::HashMap;

use guildex_types::{ChannelId, GuildId, MessageId, Revision, SessionId};
use qdrant_client::qdrant::{
    BatchResult, DenseVector, Filter, GetPoints, QuantizationSearchParams, Query as ServerQuery,
    QueryBatchPoints, QueryPoints, SearchParams, VectorInput, query, vector_input,
};
use serde::Deserialize;

use super::client::Client;
use super::schema::{BM25, DENSE, OVERSAMPLING};
use super::{convert, filter};
use crate::fusion::{Scored, depth, rank};
use crate::{CollectionName, Error, Hit, MAX_LIMIT, Mode, Query, Scope};

/// What a hit needs of the payload.
#[derive(Deserialize)]
struct Place {
    guild_id: GuildId,
    channel_id: ChannelId,
    session_id: SessionId,
    chunk: u32,
    message_ids: Vec<MessageId>,
    revision: Revision,
}

const FIELDS: [&str; 6] = ["guild_id", "channel_id", "session_id", "chunk", "message_ids", "revision"];

pub(super) async fn search(
    client: &Client,
    collection: &CollectionName,
    scope: &Scope,
    query: Query,
) -> Result<Vec<Hit>, Error> {
    let dense = (query.mode != Mode::Sparse).then_some(query.dense.as_slice());
    client.check_dense(collection, dense).await?;
    let limit = query.limit.min(MAX_LIMIT);
    if limit == 0
        || scope.channels().is_some_and(<[_]>::is_empty)
        || query.filter.authors.as_ref().is_some_and(Vec::is_empty)
    {
        return Ok(vec![]);
    }

    let filter = filter::in_scope(scope, &query.filter);
    let dense = dense.map(|dense| {
        let vector = vector_input::Variant::Dense(DenseVector { data: dense.to_vec() });
        nearest(collection, DENSE, vector, &filter, &query)
    });
    let words = (query.mode != Mode::Dense && !query.bm25.is_empty()).then(|| {
        let vector = vector_input::Variant::Sparse(convert::sparse(&query.bm25));
        nearest(collection, BM25, vector, &filter, &query)
    });
    let (by_dense, by_words) = (dense.is_some(), words.is_some());
    let query_points: Vec<_> = dense.into_iter().chain(words).collect();
    if query_points.is_empty() {
        return Ok(vec![]);
    }
    let request = QueryBatchPoints {
        collection_name: collection.to_string(),
        query_points,
        ..QueryBatchPoints::default()
    };
    let found = client.call(collection, |qdrant| qdrant.query_batch(request)).await?;
    let mut rankings = found.result.into_iter();
    let mut next = |wanted: bool| if wanted { ranking(rankings.next()) } else { Ok(vec![]) };
    let (dense, words) = (next(by_dense)?, next(by_words)?);
    let mut ranking = match query.mode {
        Mode::Dense => dense,
        Mode::Sparse => words,
        Mode::Hybrid => query.fusion.fuse(dense, words),
    };
    if let Some(least) = query.min_score {
        ranking.retain(|(_, score)| *score >= least);
    }
    ranking.truncate(limit);
    hits(client, collection, scope, ranking).await
}

fn nearest(
    collection: &CollectionName,
    name: &str,
    vector: vector_input::Variant,
    filter: &Filter,
    query: &Query,
) -> QueryPoints {
    let vector = VectorInput { variant: Some(vector) };
    // Without quantized vectors this changes nothing.
    let quantization = QuantizationSearchParams {
        ignore: Some(query.exact),
        rescore: Some(true),
        oversampling: (!query.exact).then_some(OVERSAMPLING),
    };
    QueryPoints {
        collection_name: collection.to_string(),
        query: Some(ServerQuery { variant: Some(query::Variant::Nearest(vector)) }),
        using: Some(name.to_owned()),
        filter: Some(filter.clone()),
        params: Some(SearchParams {
            exact: Some(query.exact),
            quantization: Some(quantization),
            ..SearchParams::default()
        }),
        limit: Some(depth(query.limit) as u64),
        ..QueryPoints::default()
    }
}

/// One ranking, best first.
fn ranking(found: Option<BatchResult>) -> Result<Vec<Scored>, Error> {
    let found = found.ok_or_else(|| Error::Engine("a ranking is missing".to_owned()))?;
    let scored = found.result.into_iter().map(|point| Ok((convert::id_from_server(point.id)?, point.score)));
    Ok(rank(scored.collect::<Result<_, Error>>()?))
}

/// The ranked points with what is known of them now; one that was deleted meanwhile is left out.
async fn hits(
    client: &Client,
    collection: &CollectionName,
    scope: &Scope,
    ranking: Vec<Scored>,
) -> Result<Vec<Hit>, Error> {
    if ranking.is_empty() {
        return Ok(vec![]);
    }
    let request = GetPoints {
        collection_name: collection.to_string(),
        ids: ranking.iter().map(|(id, _)| convert::id_to_server(*id)).collect(),
        with_payload: Some(convert::fields(&FIELDS)),
        ..GetPoints::default()
    };
    let found = client.call(collection, |qdrant| qdrant.get_points(request)).await?.result;
    let mut payloads = found
        .into_iter()
        .map(|point| Ok((convert::id_from_server(point.id)?, point.payload)))
        .collect::<Result<HashMap<_, _>, Error>>()?;
    let mut hits = vec![];
    for (id, score) in ranking {
        let Some(payload) = payloads.remove(&id) else { continue };
        let Place { guild_id, channel_id, session_id, chunk, message_ids, revision } =
            convert::payload(id, payload)?;
        // The filter saw to this; a leak between tenants is worth a second look.
        if scope.admits(guild_id, channel_id) {
            hits.push(Hit { id, score, guild_id, channel_id, session_id, chunk, message_ids, revision });
        }
    }
    Ok(hits)
}
