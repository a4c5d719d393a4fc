//! Writing, deleting, listing and counting points.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt, stream};
use guildex_types::{GuildId, MessageId, PointId, Revision, SessionId};
use qdrant_client::qdrant::facet_value::Variant;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::{
    Condition, CountPoints, DeletePoints, FacetCounts, Filter, PointsSelector, RetrievedPoint, ScrollPoints,
    UpsertPoints, WriteOrdering, WriteOrderingType,
};

use super::client::Client;
use super::schema::MAX_QUERY_LIMIT;
use super::{convert, filter};
use crate::point::StoredHeader;
use crate::{CollectionName, Error, MAX_LIMIT, Page, Point, PointHeader, PointSelector};

/// How many sessions or messages one deletion names.
const MAX_NAMED: usize = 1_000;

/// Writes the points that are not older than what is stored.
///
/// Other processes write too, so what is read before a write may be outdated when it lands. The condition
/// therefore goes with the write: the server applies the changes of a shard one after another, and checks there
/// which of the stored points the filter admits; those that it does not are left alone, missing ones are made.
/// [`filter::overwritten_by`] gives each point its own condition, exact for all revisions.
pub(super) async fn upsert(
    client: &Client,
    collection: &CollectionName,
    points: Vec<Point>,
) -> Result<(), Error> {
    client.check_dense(collection, points.iter().map(|point| point.dense.as_slice())).await?;
    let mut newest: HashMap<PointId, Point> = HashMap::with_capacity(points.len());
    for point in points {
        match newest.get(&point.id) {
            Some(other) if other.payload.revision > point.payload.revision => {}
            _ => drop(newest.insert(point.id, point)),
        }
    }
    let points: Vec<Point> = newest.into_values().collect();
    let requests = points
        .chunks(client.config.upsert_batch_size)
        .map(|points| {
            Ok(UpsertPoints {
                collection_name: collection.to_string(),
                wait: Some(true),
                points: points.iter().map(convert::to_server).collect::<Result<_, _>>()?,
                ordering: Some(one_after_another()),
                update_filter: Some(filter::overwritten_by(points)),
                ..UpsertPoints::default()
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    stream::iter(requests)
        .map(|request| client.write(collection, |qdrant| qdrant.upsert_points(request)))
        .buffer_unordered(client.config.max_concurrent_upserts)
        .try_collect()
        .await
}

pub(super) async fn delete_below(
    client: &Client,
    collection: &CollectionName,
    guild: GuildId,
    sessions: &[(SessionId, Revision)],
) -> Result<(), Error> {
    for sessions in sessions.chunks(MAX_NAMED) {
        delete(client, collection, filter::older(guild, sessions)).await?;
    }
    Ok(())
}

pub(super) async fn delete_messages(
    client: &Client,
    collection: &CollectionName,
    guild: GuildId,
    messages: &[MessageId],
    below: Revision,
) -> Result<(), Error> {
    for messages in messages.chunks(MAX_NAMED) {
        delete(client, collection, filter::older_with(guild, messages, below)).await?;
    }
    Ok(())
}

/// Deletes what the filter finds when its turn comes: what was written meanwhile is judged by its own revision.
async fn delete(client: &Client, collection: &CollectionName, filter: Filter) -> Result<(), Error> {
    let request = DeletePoints {
        collection_name: collection.to_string(),
        wait: Some(true),
        points: Some(PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Filter(filter)) }),
        ordering: Some(one_after_another()),
        ..DeletePoints::default()
    };
    client.delete(collection, |qdrant| qdrant.delete_points(request)).await
}

pub(super) async fn scroll(
    client: &Client,
    collection: &CollectionName,
    guild: GuildId,
    after: Option<PointId>,
    limit: usize,
) -> Result<Page, Error> {
    let Some(page) = page(collection, guild, after, limit) else {
        return Ok(Page { points: vec![], next: None });
    };
    let request = ScrollPoints {
        with_payload: Some(convert::all_fields()),
        with_vectors: Some(convert::all_vectors()),
        ..page
    };
    let found = client.call(collection, |qdrant| qdrant.scroll(request)).await?;
    let points = found.result.into_iter().map(convert::from_server).collect::<Result<Vec<_>, _>>()?;
    let next = points.last().filter(|_| found.next_page_offset.is_some()).map(|last| last.id);
    Ok(Page { points, next })
}

pub(super) async fn headers(
    client: &Client,
    collection: &CollectionName,
    guild: GuildId,
    which: PointSelector<'_>,
) -> Result<Vec<PointHeader>, Error> {
    let page = match which {
        PointSelector::After(after, limit) => page(collection, guild, after, limit),
        PointSelector::Ids(ids) => {
            let ids: Vec<_> = ids.iter().take(MAX_LIMIT).map(|id| id.get().to_string()).collect();
            let count = ids.len();
            let filter = filter::these_in_guild(guild, ids);
            page(collection, guild, None, count).map(|page| ScrollPoints { filter: Some(filter), ..page })
        }
    };
    let Some(page) = page else { return Ok(vec![]) };
    let request = ScrollPoints {
        with_payload: Some(convert::fields(&StoredHeader::FIELDS)),
        with_vectors: Some(false.into()),
        ..page
    };
    let found = client.call(collection, |qdrant| qdrant.scroll(request)).await?;
    let mark = |point: RetrievedPoint| {
        let id = convert::id_from_server(point.id)?;
        Ok(convert::payload::<StoredHeader>(id, point.payload)?.of(id))
    };
    found.result.into_iter().map(mark).collect()
}

/// A request for the points of a guild behind `after`; `None` if there are none to ask for.
fn page(
    collection: &CollectionName,
    guild: GuildId,
    after: Option<PointId>,
    limit: usize,
) -> Option<ScrollPoints> {
    let first = match after {
        None => None,
        Some(id) => Some(uuid::Uuid::from_u128(id.get().as_u128().checked_add(1)?)),
    };
    let limit = limit.min(MAX_LIMIT);
    (limit > 0).then(|| ScrollPoints {
        collection_name: collection.to_string(),
        filter: Some(filter::in_guild(guild)),
        offset: first.map(|id| convert::id_to_server(id.into())),
        limit: Some(limit as u32),
        ..ScrollPoints::default()
    })
}

pub(super) async fn count(
    client: &Client,
    collection: &CollectionName,
    guild: GuildId,
) -> Result<usize, Error> {
    let request = CountPoints {
        collection_name: collection.to_string(),
        filter: Some(filter::in_guild(guild)),
        exact: Some(true),
        ..CountPoints::default()
    };
    let found = client.call(collection, |qdrant| qdrant.count(request)).await?;
    Ok(found.result.map_or(0, |result| result.count as usize))
}

pub(super) async fn guilds(client: &Client, collection: &CollectionName) -> Result<Vec<GuildId>, Error> {
    let mut seen: Vec<String> = vec![];
    loop {
        // Facets have no pages: the next are those that are none of these.
        let others =
            (!seen.is_empty()).then(|| Filter::must_not([Condition::matches("guild_id", seen.clone())]));
        let request = FacetCounts {
            collection_name: collection.to_string(),
            key: "guild_id".to_owned(),
            filter: others,
            limit: Some(MAX_QUERY_LIMIT.into()),
            exact: Some(true),
            ..FacetCounts::default()
        };
        let found = client.call(collection, |qdrant| qdrant.facet(request)).await?;
        let more = found.hits.len() >= MAX_QUERY_LIMIT as usize;
        seen.extend(found.hits.into_iter().filter(|hit| hit.count > 0).filter_map(|hit| {
            match hit.value.and_then(|value| value.variant) {
                Some(Variant::StringValue(id)) => Some(id),
                _ => None,
            }
        }));
        if !more {
            break;
        }
    }
    let mut guilds: Vec<GuildId> = seen.into_iter().filter_map(|id| id.parse().ok()).collect();
    guilds.sort_unstable();
    guilds.dedup();
    Ok(guilds)
}

/// All replicas see the changes of a shard in one order, so that conditions come out the same on each.
fn one_after_another() -> WriteOrdering {
    WriteOrdering { r#type: WriteOrderingType::Medium.into() }
}
