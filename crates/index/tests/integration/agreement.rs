//! The embedded engine and a server give the same results: the stand-in, and a real server if `QDRANT_URL` names one.
#![cfg(all(feature = "embedded", feature = "server"))]

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;

use crate::support::*;
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use guildex_index::{
    Collection, CollectionName, EmbeddedIndex, Filter, Fusion, Hit, Mode, Point, Query, Scope, VectorIndex,
    bm25,
};
use guildex_test_support::qdrant::StandIn;
use guildex_types::{PointId, Revision};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const WORDS: [&str; 12] = [
    "sudo",
    "kernel",
    "panic",
    "café",
    "数据库",
    "8080",
    "weather",
    "pizza",
    "deploy",
    "friday",
    "rust",
    "borrow",
];

/// The start of the first point; each next one starts an hour later.
fn epoch() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

/// Points of two guilds with random vectors, words, channels, authors and times. Some short texts have equal scores.
fn points(count: usize) -> Vec<Point> {
    let mut noise = noise(2);
    let mut below = |limit: usize| {
        let number = (noise.next().unwrap() + 1.0) / 2.0 * limit as f32;
        (number as usize).min(limit - 1)
    };
    let texts: Vec<String> = (0..count)
        .map(|_| (0..1 + below(30)).map(|_| WORDS[below(12).min(below(12))]).collect::<Vec<_>>().join(" "))
        .collect();
    let mut vectors = crate::support::noise(3);
    let mut points = vec![];
    for (n, text) in texts.iter().enumerate() {
        let chunk = Chunk {
            guild: 1 + below(2) as i64,
            channel: 1 + below(4) as i64,
            first: 1 + n as i64,
            revision: 1 + below(3) as i64,
            dense: vectors.by_ref().take(DIMS).collect(),
            text,
            ..Chunk::default()
        };
        let mut point = chunk.point();
        point.payload.author_ids =
            (0..1 + below(3)).map(|_| (1 + below(5) as i64).try_into().unwrap()).collect();
        point.payload.start_time = epoch() + TimeDelta::hours(n as i64);
        point.payload.end_time = point.payload.start_time + TimeDelta::minutes(50);
        points.push(point);
    }
    points
}

fn search_cases() -> impl Strategy<Value = (Scope, Query)> {
    let scope = (1..=2_i64, prop::option::of(prop::collection::vec(1..=4_i64, 0..3)));
    let scope = scope.prop_map(|(id, channels)| match channels {
        Some(list) => Scope::guild(guild(id)).only(list.into_iter().map(channel).collect()),
        None => Scope::guild(guild(id)),
    });
    let hour = || prop::option::of((0..300_i64).prop_map(|hour| epoch() + TimeDelta::hours(hour)));
    let authors = prop::option::of(prop::collection::vec(1..=6_i64, 0..3));
    let filter = (authors, hour(), hour()).prop_map(|(authors, since, until)| Filter {
        authors: authors.map(|list| list.into_iter().map(|id| id.try_into().unwrap()).collect()),
        since,
        until,
    });
    let words = prop::collection::vec(prop::sample::select(&WORDS[..]), 0..4);
    let dense = prop::collection::vec(-1.0_f32..1.0, DIMS);
    let mode = prop::sample::select(vec![Mode::Dense, Mode::Sparse, Mode::Hybrid]);
    let weights = (prop::sample::select(vec![0.0_f64, 0.5, 1.0, 2.0]), 1.0_f64..2.0);
    (scope, filter, words, dense, mode, weights, prop::option::of(0.0_f32..0.03), 0..400_usize).prop_map(
        |(scope, filter, words, dense, mode, (weight, other), min_score, limit)| {
            let fusion = Fusion { dense: weight, bm25: other, ..Fusion::default() };
            let bm25 = bm25::query(&words.join(" "), bm25::Language::None);
            (scope, Query { dense, bm25, mode, fusion, filter, min_score, limit, exact: true })
        },
    )
}

/// The difference that another order of additions may cause.
const CLOSE: f32 = 1e-5;

/// Whether no two consecutive hits are so close that the order of additions could swap them. Points with the same
/// words have exactly the same score.
fn is_clear(ranking: &[Hit], points: &HashMap<PointId, &Point>) -> bool {
    ranking.windows(2).all(|two| {
        (two[0].score - two[1].score).abs() > CLOSE || points[&two[0].id].bm25 == points[&two[1].id].bm25
    })
}

fn assert_same_hits(ours: &[Hit], theirs: &[Hit]) -> Result<(), TestCaseError> {
    prop_assert_eq!(ids(ours), ids(theirs));
    for (a, b) in ours.iter().zip(theirs) {
        prop_assert!((a.score - b.score).abs() < 1e-4, "{:?} and {:?}", a, b);
        prop_assert_eq!(
            (a.session_id, a.revision, &a.message_ids),
            (b.session_id, b.revision, &b.message_ids)
        );
    }
    Ok(())
}

async fn compare(other: &dyn VectorIndex) {
    let dir = tempfile::tempdir().unwrap();
    let embedded = EmbeddedIndex::open(dir.path()).unwrap();
    let collection = Collection { name: CollectionName::new("agree", &model()).unwrap(), dims: DIMS };
    let points = points(300);
    for index in [&embedded as &dyn VectorIndex, other] {
        index.ensure(&collection).await.unwrap();
        index.upsert(&collection.name, points.clone()).await.unwrap();
    }
    let known: HashMap<PointId, &Point> = points.iter().map(|point| (point.id, point)).collect();
    let name = &collection.name;
    let check = |(scope, query): (Scope, Query)| {
        let ranked = |mode| Query { mode, min_score: None, limit: points.len(), ..query.clone() };
        let (ours, theirs, dense, sparse) = futures::executor::block_on(async {
            futures::try_join!(
                embedded.search(name, &scope, query.clone()),
                other.search(name, &scope, query.clone()),
                embedded.search(name, &scope, ranked(Mode::Dense)),
                embedded.search(name, &scope, ranked(Mode::Sparse)),
            )
        })
        .unwrap();
        prop_assume!(is_clear(&dense, &known) && is_clear(&sparse, &known));
        assert_same_hits(&ours, &theirs)
    };
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    let run = || TestRunner::new(config).run(&search_cases(), check).map_err(|failed| failed.to_string());
    tokio::task::block_in_place(run).unwrap();

    // The same changes leave the same points.
    let old: Vec<_> = points.iter().map(|p| (p.payload.session_id, Revision::from(2))).collect();
    let messages: Vec<_> = points.iter().step_by(7).map(|p| p.payload.message_ids[0]).collect();
    for index in [&embedded as &dyn VectorIndex, other] {
        index.delete_below(&collection.name, guild(1), &old).await.unwrap();
        index.delete_messages(&collection.name, guild(2), &messages, revision(3)).await.unwrap();
        index.upsert(&collection.name, points[..40].to_vec()).await.unwrap();
    }
    for id in [1, 2] {
        let (ours, theirs) =
            futures::join!(all(&embedded, &collection, guild(id)), all(other, &collection, guild(id)));
        let ids = |points: &[Point]| points.iter().map(|p| p.id).collect::<Vec<PointId>>();
        assert_eq!(ids(&ours), ids(&theirs));
        for (a, b) in ours.iter().zip(&theirs) {
            assert_eq!((&a.payload, &a.bm25), (&b.payload, &b.bm25));
        }
        let counts = futures::join!(
            embedded.count(&collection.name, guild(id)),
            other.count(&collection.name, guild(id))
        );
        assert_eq!((counts.0.unwrap(), counts.1.unwrap()), (ours.len(), ours.len()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_engine_and_a_server_give_the_same_results() {
    compare(&StandIn::start().await.index()).await;

    let Some(server) = server::from_env() else { return };
    let prefixed = server.prefixed();
    let outcome = AssertUnwindSafe(compare(&prefixed)).catch_unwind().await;
    prefixed.clear().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}
