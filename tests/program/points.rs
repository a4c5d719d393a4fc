//! Points in the index, compared with `indexed_sessions`.

use std::collections::{BTreeMap, BTreeSet};

use guildex_index::{CollectionName, EmbeddedIndex, Point, VectorIndex};
use guildex_types::{GuildId, PointId, Revision};
use uuid::Uuid;

use crate::world::World;

/// All points of a guild. No process may own the index at the time.
pub async fn points(world: &World, guild: i64) -> BTreeMap<PointId, Point> {
    let index = EmbeddedIndex::open(&world.path("d/index")).unwrap();
    points_in(&index, &collection("guildex"), guild).await
}

/// The first model's collection.
pub fn collection(prefix: &str) -> CollectionName {
    CollectionName::new(prefix, &"all-minilm-l6-v2-fp32".parse().unwrap()).unwrap()
}

/// All points of a guild; asserts that there is no other guild.
pub async fn points_in(
    index: &dyn VectorIndex,
    collection: &CollectionName,
    guild: i64,
) -> BTreeMap<PointId, Point> {
    let guild: GuildId = guild.try_into().unwrap();
    let guilds = index.guilds(collection).await.unwrap();
    assert!(guilds.iter().all(|found| *found == guild), "points of other guilds");
    let mut points = BTreeMap::new();
    let mut after = None;
    loop {
        let page = index.scroll(collection, guild, after, 500).await.unwrap();
        points.extend(page.points.into_iter().map(|point| (point.id, point)));
        after = page.next;
        if after.is_none() {
            return points;
        }
    }
}

/// Asserts that every eligible session is indexed at its latest revision, and that there are no other points.
pub async fn assert_consistent(world: &World, points: &BTreeMap<PointId, Point>) {
    let outdated: i64 = world
        .value(
            "SELECT count(*) FROM sessions s LEFT JOIN indexed_sessions i ON i.session_id = s.id
             WHERE s.deleted_at IS NULL AND (s.message_count >= 2 OR s.word_count >= 12)
               AND i.indexed_revision IS DISTINCT FROM s.revision",
        )
        .await;
    assert_eq!(outdated, 0, "sessions are not indexed");
    let booked: Vec<(Uuid, i64, i32)> =
        sqlx::query_as("SELECT session_id, point_revision, points FROM indexed_sessions")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    let booked: BTreeSet<(Uuid, i64, u32)> = booked
        .into_iter()
        .flat_map(|(session, revision, points)| {
            (0..u32::try_from(points).unwrap()).map(move |chunk| (session, revision, chunk))
        })
        .collect();
    let stored: BTreeSet<(Uuid, i64, u32)> = points
        .values()
        .map(|point| (point.payload.session_id.get(), point.payload.revision.get(), point.payload.chunk))
        .collect();
    let orphans: Vec<_> = stored.difference(&booked).collect();
    let missing: Vec<_> = booked.difference(&stored).collect();
    assert!(orphans.is_empty(), "unrecorded points (session, revision, chunk): {orphans:?}");
    assert!(missing.is_empty(), "missing points (session, revision, chunk): {missing:?}");
    assert_eq!(stored.len(), points.len(), "two points for one chunk");
    let deleted = "SELECT count(*) FROM indexed_sessions i JOIN sessions s ON s.id = i.session_id
                WHERE s.deleted_at IS NOT NULL";
    assert_eq!(world.value::<i64>(deleted).await, 0, "deleted sessions have records");
}

/// Asserts equal points, revisions aside.
pub fn assert_same(points: &BTreeMap<PointId, Point>, others: &BTreeMap<PointId, Point>) {
    assert!(points.keys().eq(others.keys()), "other points");
    for (point, other) in points.values().zip(others.values()) {
        let mut payload = point.payload.clone();
        payload.revision = Revision::from(other.payload.revision.get());
        assert_eq!(payload, other.payload);
        assert_eq!(point.bm25, other.bm25);
        for (a, b) in point.dense.iter().zip(&other.dense) {
            assert!((a - b).abs() < 1e-3, "the vectors of point {} differ: {a} and {b}", point.id);
        }
    }
}
