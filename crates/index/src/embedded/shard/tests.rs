use std::collections::HashMap;
use std::path::Path;

use guildex_types::{ChannelId, GuildId, MessageId, ModelSlug, PointId, Revision, SessionId};

use super::Shard;
use crate::bm25::{self, Language};
use crate::embedded::schema::SEALED_FROM;
use crate::{Filter, Fusion, Hit, Mode, Payload, Point, Query, Scope};

/// So many that the engine, which measures in KiB, can tell small segments apart.
const DIMS: usize = 64;

fn guild() -> GuildId {
    7.try_into().unwrap()
}

fn dense(first: i64) -> Vec<f32> {
    let mut dense = vec![1.0; DIMS];
    dense[0] = first as f32;
    dense
}

fn point(first: i64, revision: i64) -> Point {
    let (channel, message): (ChannelId, MessageId) = (70.try_into().unwrap(), first.try_into().unwrap());
    let model: ModelSlug = "model-fp32".parse().unwrap();
    let time = chrono::DateTime::from_timestamp_nanos(1_700_000_000_000_000_000);
    Point {
        id: PointId::new(guild(), channel, message, &model, 0),
        dense: dense(first),
        bm25: bm25::document(&format!("hello {first}"), Language::None),
        payload: Payload {
            guild_id: guild(),
            channel_id: channel,
            author_ids: vec![],
            message_ids: vec![message],
            start_time: time,
            end_time: time,
            session_id: SessionId::new(guild(), channel, message),
            chunk: 0,
            revision: revision.into(),
            message_count: 1,
            preview: None,
        },
    }
}

fn loaded(folder: &Path) -> Shard {
    Shard::load(folder.to_owned()).unwrap()
}

fn revisions(shard: &Shard) -> HashMap<PointId, Revision> {
    let marks = shard.headers_after(guild(), None, 2_000).unwrap();
    marks.into_iter().map(|mark| (mark.id, mark.revision)).collect()
}

fn found(shard: &Shard, first: i64) -> Vec<Hit> {
    let query = Query {
        dense: dense(first),
        bm25: bm25::query(&format!("hello {first}"), Language::None),
        mode: Mode::Hybrid,
        fusion: Fusion::default(),
        filter: Filter::default(),
        min_score: None,
        limit: 10,
        exact: false,
    };
    shard.search(&Scope::guild(guild()), &query).unwrap()
}

/// Writes to a collection as the writer's thread does, so often that segments are sealed and merged; what it holds in
/// the end, and how many segments it had after each time.
fn grow(shard: &Shard, folder: &Path, rounds: i64) -> (HashMap<PointId, Revision>, Vec<usize>) {
    let (mut wanted, mut segments) = (HashMap::new(), vec![]);
    for round in 0..rounds {
        let mut points: Vec<_> = (1..=20).map(|number| point(round * 20 + number, 1)).collect();
        // One that was sealed long ago is written anew, and another goes.
        points.push(point(1, round + 2));
        wanted.extend(points.iter().map(|point| (point.id, point.payload.revision)));
        shard.upsert(points).unwrap();
        let gone = point(round * 10 + 2, 1);
        shard.delete_below(guild(), vec![(gone.payload.session_id, 2.into())]).unwrap();
        wanted.remove(&gone.id);
        shard.flush().unwrap();
        shard.tend();
        segments.push(std::fs::read_dir(folder.join("segments")).unwrap().count());
    }
    (wanted, segments)
}

#[test]
fn segments_are_sealed_and_merged_while_points_are_written_and_nobody_notices() {
    let dir = tempfile::tempdir().unwrap();
    Shard::create(dir.path(), DIMS).unwrap();
    let shard = loaded(dir.path());
    let (wanted, segments) = grow(&shard, dir.path(), 14);
    let most = segments.iter().max().unwrap();
    assert!(*most > 3 && segments.last().unwrap() < most, "{segments:?}");

    assert_eq!(revisions(&shard), wanted);
    let hits = [1, 100, 279].map(|first| found(&shard, first));
    assert_eq!(hits[1][0].id, point(100, 1).id);
    drop(shard);
    let shard = loaded(dir.path());
    assert_eq!(revisions(&shard), wanted);
    assert_eq!([1, 100, 279].map(|first| found(&shard, first)), hits);
}

#[test]
fn a_collection_that_is_opened_again_is_not_reorganised_anew() {
    let dir = tempfile::tempdir().unwrap();
    Shard::create(dir.path(), DIMS).unwrap();
    grow(&loaded(dir.path()), dir.path(), 10);
    let shard = loaded(dir.path());
    let left = shard.changed.load(std::sync::atomic::Ordering::Relaxed);
    assert!(left < SEALED_FROM, "{left} points count as changed");
}
