//! The contract of every [`VectorIndex`]. Each test gets an index and an empty collection. The tests run against the
//! embedded engine, a stand-in for a server, and a real server if the environment names one (`QDRANT_URL`, and
//! optionally `QDRANT_API_KEY` and `QDRANT_HTTP_URL`).

mod collections;
mod filters;

use std::collections::BTreeSet;

use crate::support::*;
use collections::*;
use filters::*;
use guildex_index::{
    Collection, CollectionName, Ensured, Error, Fusion, Mode, Payload, Point, PointHeader, PointSelector,
    Query, Scope, VectorIndex,
};
use guildex_types::PointId;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Passes the names of all contract tests to a macro.
macro_rules! for_each_contract_test {
    ($run:ident!($($how:tt)*)) => {
        $run! {
    $($how)*;
    points_round_trip,
    upserts_are_idempotent,
    an_older_revision_is_not_written,
    the_highest_revision_of_a_batch_is_written,
    delete_below_keeps_the_revision_and_newer_ones,
    delete_below_removes_the_chunks_of_a_longer_version,
    delete_messages_removes_older_points_that_contain_them,
    deletions_apply_to_their_guild_only,
    searches_find_exactly_the_points_of_their_scope,
    hybrid_search_matches_rare_words_and_vectors,
    each_mode_ranks_by_its_vector,
    ties_are_broken_by_id,
    scrolling_returns_each_point_once,
    headers_are_read_by_page_and_by_id_within_a_guild,
    empty_collections_scopes_and_limits_give_no_results,
    invalid_vectors_are_rejected,
    ensure_keeps_an_existing_collection_and_rejects_other_dimensions,
    an_exact_search_equals_a_brute_force_scan,
    optimizing_does_not_change_results,
    an_author_filter_matches_any_of_its_authors,
    time_filters_are_exact_at_their_limits,
    filters_apply_in_every_mode,
    results_below_min_score_are_omitted,
    weights_order_the_fused_rankings,
    a_page_is_a_prefix_of_a_longer_page,
    arbitrary_deletions_apply_to_their_guild_only,
    an_identity_round_trips,
    a_dropped_collection_is_created_again_empty,
    a_snapshot_restores_its_points,
    a_snapshot_restores_a_missing_collection,
    an_invalid_snapshot_is_rejected_and_changes_nothing,
    a_bulk_load_does_not_change_results,
    a_new_collection_has_no_differences,
    a_running_index_answers_a_ping,
        }
    };
}

/// Runs each test separately, on a new index in `$home`.
#[cfg(any(feature = "embedded", feature = "server"))]
macro_rules! on_new_index {
    ($implementation:ident, $home:expr; $($test:ident),* $(,)?) => {
        mod $implementation {
            use guildex_index::VectorIndex;

            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    let home = $home;
                    let index = super::$implementation(&home);
                    let collection = super::collection();
                    index.ensure(&collection).await.unwrap();
                    super::$test(&index, &collection).await;
                }
            )*
        }
    };
}

/// Runs all tests concurrently on a server that others may use, and deletes the collections of each.
#[cfg(feature = "server")]
macro_rules! on_shared_server {
    ($server:expr; $($test:ident),* $(,)?) => {
        $server.run_all(vec![$((stringify!($test), |index, collection| Box::pin($test(index, collection)))),*]).await
    };
}

fn collection() -> Collection {
    Collection { name: CollectionName::new("test", &model()).unwrap(), dims: DIMS }
}

#[cfg(feature = "embedded")]
for_each_contract_test!(on_new_index!(embedded, tempfile::tempdir().unwrap()));

#[cfg(feature = "embedded")]
fn embedded(dir: &tempfile::TempDir) -> guildex_index::EmbeddedIndex {
    guildex_index::EmbeddedIndex::open(dir.path()).unwrap()
}

#[cfg(feature = "server")]
for_each_contract_test!(on_new_index!(stand_in, guildex_test_support::qdrant::StandIn::start().await));

#[cfg(feature = "server")]
fn stand_in(server: &guildex_test_support::qdrant::StandIn) -> guildex_index::QdrantServer {
    server.index()
}

#[cfg(feature = "server")]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_tested_where_qdrant_url_is_set() {
    match server::from_env() {
        Some(server) => for_each_contract_test!(on_shared_server!(server)),
        None => server::report_unset_url(),
    }
}

async fn points_round_trip(index: &dyn VectorIndex, collection: &Collection) {
    let chunks = [
        // Beyond 2^53, where floats skip numbers.
        Chunk { guild: 9_007_199_254_740_993, first: i64::MAX - 2, revision: 3, ..Chunk::default() },
        Chunk {
            guild: 9_007_199_254_740_993,
            text: "🦀",
            dense: vec![0.6, 0.0, 0.8, 0.0],
            ..Chunk::default()
        },
        Chunk { guild: 9_007_199_254_740_993, text: "", chunk: 1, ..Chunk::default() },
    ];
    upsert(index, collection, &chunks).await;

    let mut expected: Vec<_> = chunks.iter().map(Chunk::point).collect();
    expected.sort_by_key(|point| point.id);
    assert_eq!(all(index, collection, guild(9_007_199_254_740_993)).await, expected);
    assert_eq!(index.count(&collection.name, guild(9_007_199_254_740_993)).await.unwrap(), 3);
    assert_eq!(index.count(&collection.name, guild(9_007_199_254_740_992)).await.unwrap(), 0);
    assert_eq!(index.guilds(&collection.name).await.unwrap(), [guild(9_007_199_254_740_993)]);
}

async fn upserts_are_idempotent(index: &dyn VectorIndex, collection: &Collection) {
    let chunk = Chunk::default();
    upsert(index, collection, std::slice::from_ref(&chunk)).await;
    upsert(index, collection, &[chunk.clone(), chunk.clone()]).await;
    assert_eq!(all(index, collection, guild(7)).await, [chunk.point()]);
    let hits = index
        .search(&collection.name, &Scope::guild(guild(7)), query(Mode::Hybrid, &chunk.dense, "hello"))
        .await
        .unwrap();
    assert_eq!(ids(&hits), [chunk.id()]);
}

async fn an_older_revision_is_not_written(index: &dyn VectorIndex, collection: &Collection) {
    // Beyond 2^53, where floats are equal.
    let new = Chunk { revision: (1 << 53) + 1, text: "new", ..Chunk::default() };
    let old = Chunk { revision: 1 << 53, text: "old", ..Chunk::default() };
    let fresh = Chunk { first: 900, text: "fresh", ..Chunk::default() };
    upsert(index, collection, std::slice::from_ref(&old)).await;
    upsert(index, collection, std::slice::from_ref(&new)).await;
    upsert(index, collection, &[old, fresh.clone()]).await;

    let mut expected = vec![new.point(), fresh.point()];
    expected.sort_by_key(|point| point.id);
    assert_eq!(all(index, collection, guild(7)).await, expected);
}

async fn the_highest_revision_of_a_batch_is_written(index: &dyn VectorIndex, collection: &Collection) {
    let at = |revision, text| Chunk { revision, text, ..Chunk::default() };
    upsert(index, collection, &[at(2, "two"), at(3, "three"), at(1, "one")]).await;
    assert_eq!(all(index, collection, guild(7)).await, [at(3, "three").point()]);
}

async fn delete_below_keeps_the_revision_and_newer_ones(index: &dyn VectorIndex, collection: &Collection) {
    let below = 1 << 53;
    let at = |chunk, revision| Chunk { chunk, revision, ..Chunk::default() };
    let unrelated = Chunk { first: 900, ..Chunk::default() };
    let chunks = [at(0, 1), at(1, below - 1), at(2, below), at(3, below + 1), unrelated.clone()];
    upsert(index, collection, &chunks).await;

    let sessions = [(chunks[0].session(), revision(below)), (chunks[0].session(), revision(2))];
    index.delete_below(&collection.name, guild(7), &sessions).await.unwrap();

    let left: BTreeSet<PointId> = all(index, collection, guild(7)).await.iter().map(|p| p.id).collect();
    assert_eq!(left, BTreeSet::from([at(2, 0).id(), at(3, 0).id(), unrelated.id()]));
    index.delete_below(&collection.name, guild(7), &[]).await.unwrap();
    index.delete_below(&collection.name, guild(7), &[(unrelated.session(), revision(1))]).await.unwrap();
    assert_eq!(index.count(&collection.name, guild(7)).await.unwrap(), 3);
}

async fn delete_below_removes_the_chunks_of_a_longer_version(
    index: &dyn VectorIndex,
    collection: &Collection,
) {
    let at = |chunk, revision| Chunk { chunk, revision, ..Chunk::default() };
    upsert(index, collection, &[at(0, 1), at(1, 1), at(2, 1)]).await;
    upsert(index, collection, &[at(0, 2)]).await;
    index.delete_below(&collection.name, guild(7), &[(at(0, 0).session(), revision(2))]).await.unwrap();
    assert_eq!(all(index, collection, guild(7)).await, [at(0, 2).point()]);
}

async fn delete_messages_removes_older_points_that_contain_them(
    index: &dyn VectorIndex,
    collection: &Collection,
) {
    let holds = Chunk { first: 100, messages: 3, revision: 5, ..Chunk::default() };
    let newer = Chunk { first: 101, messages: 3, revision: 6, ..Chunk::default() };
    let other = Chunk { first: 200, revision: 5, ..Chunk::default() };
    upsert(index, collection, &[holds, newer.clone(), other.clone()]).await;

    let deleted = [102.try_into().unwrap(), 999.try_into().unwrap()];
    index.delete_messages(&collection.name, guild(7), &deleted, revision(6)).await.unwrap();
    index.delete_messages(&collection.name, guild(7), &[], revision(6)).await.unwrap();

    let left: BTreeSet<PointId> = all(index, collection, guild(7)).await.iter().map(|p| p.id).collect();
    assert_eq!(left, BTreeSet::from([newer.id(), other.id()]));
}

async fn deletions_apply_to_their_guild_only(index: &dyn VectorIndex, collection: &Collection) {
    let (one, two) = (Chunk { guild: 1, ..Chunk::default() }, Chunk { guild: 11, ..Chunk::default() });
    upsert(index, collection, &[one.clone(), two.clone()]).await;
    let sessions = [(one.session(), revision(9)), (two.session(), revision(9))];
    index.delete_below(&collection.name, guild(1), &sessions).await.unwrap();
    let messages = [one.first.try_into().unwrap()];
    index.delete_messages(&collection.name, guild(1), &messages, revision(9)).await.unwrap();
    assert_eq!(index.guilds(&collection.name).await.unwrap(), [guild(11)]);
    assert_eq!(all(index, collection, guild(11)).await, [two.point()]);
}

/// Ids that are prefixes of each other, equal across kinds, or rounded by floats to the same value.
const TRICKY: [i64; 5] = [1, 11, 111, 9_007_199_254_740_992, 9_007_199_254_740_993];

async fn searches_find_exactly_the_points_of_their_scope(index: &dyn VectorIndex, collection: &Collection) {
    let chunks: Vec<_> = TRICKY
        .iter()
        .flat_map(|&guild| TRICKY.iter().map(move |&channel| (guild, channel)))
        .flat_map(|(guild, channel)| {
            (1..=3).map(move |first| Chunk { guild, channel, first, ..Chunk::default() })
        })
        .collect();
    upsert(index, collection, &chunks).await;

    let scopes = (
        prop::sample::select(&TRICKY[..]),
        prop::option::of(prop::collection::vec(prop::sample::select(&TRICKY[..]), 0..3)),
        prop::sample::select(&[Mode::Dense, Mode::Sparse, Mode::Hybrid][..]),
        any::<bool>(),
    );
    let found = |(wanted, channels, mode, exact): (i64, Option<Vec<i64>>, Mode, bool)| {
        let ours = chunks.iter().filter(|chunk| {
            chunk.guild == wanted && channels.as_ref().is_none_or(|list| list.contains(&chunk.channel))
        });
        let expected: BTreeSet<PointId> = ours.map(Chunk::id).collect();
        let scope = Scope::guild(guild(wanted));
        let scope = match channels {
            Some(list) => scope.only(list.into_iter().map(channel).collect()),
            None => scope,
        };
        let mut query = query(mode, &[1.0, 0.0, 0.0, 0.0], "hello");
        (query.limit, query.exact) = (100, exact);
        let search = futures::executor::block_on(index.search(&collection.name, &scope, query));
        let hits = search.unwrap();
        prop_assert_eq!(ids(&hits).into_iter().collect::<BTreeSet<_>>(), expected);
        prop_assert!(hits.iter().all(|hit| scope.admits(hit.guild_id, hit.channel_id)));
        Ok(())
    };
    tokio::task::block_in_place(|| TestRunner::default().run(&scopes, found)).unwrap();
}

async fn hybrid_search_matches_rare_words_and_vectors(index: &dyn VectorIndex, collection: &Collection) {
    let target = [1.0, 0.0, 0.0, 0.0];
    let by_word =
        Chunk { first: 1, text: "the zyzzyva manual", dense: vec![0.0, 0.0, 0.0, 1.0], ..Chunk::default() };
    let by_meaning = Chunk { first: 2, text: "beetle guide", dense: target.to_vec(), ..Chunk::default() };
    let noise = (10..40).map(|first| Chunk {
        first,
        text: "the weather today",
        dense: vec![0.0, 1.0, 0.02 * first as f32, 0.0],
        ..Chunk::default()
    });
    let chunks: Vec<_> = noise.chain([by_word.clone(), by_meaning.clone()]).collect();
    upsert(index, collection, &chunks).await;

    let fusion = Fusion { k: 60.0, dense: 1.0, bm25: 1.0 };
    let query = Query { fusion, ..query(Mode::Hybrid, &target, "ZYZZYVA?") };
    let hits = index.search(&collection.name, &Scope::guild(guild(7)), query).await.unwrap();
    let found: BTreeSet<_> = ids(&hits).into_iter().take(2).collect();
    assert_eq!(found, BTreeSet::from([by_word.id(), by_meaning.id()]));
}

async fn each_mode_ranks_by_its_vector(index: &dyn VectorIndex, collection: &Collection) {
    let near = Chunk { first: 1, text: "apples", ..Chunk::default() };
    let worded = Chunk { first: 2, text: "rare pears", dense: vec![0.0, 1.0, 0.0, 0.0], ..Chunk::default() };
    upsert(index, collection, &[near.clone(), worded.clone()]).await;
    let scope = Scope::guild(guild(7));
    let search = |mode, text| index.search(&collection.name, &scope, query(mode, &near.dense, text));

    let dense = search(Mode::Dense, "pears").await.unwrap();
    assert_eq!(ids(&dense), [near.id(), worded.id()]);
    assert!((dense[0].score - 1.0).abs() < 1e-5 && dense[1].score.abs() < 1e-5, "cosines: {dense:?}");
    assert_eq!(ids(&search(Mode::Sparse, "pears").await.unwrap()), [worded.id()]);
    assert_eq!(search(Mode::Sparse, "🦀").await.unwrap(), []);
    assert_eq!(search(Mode::Hybrid, "🦀").await.unwrap().len(), 2);
}

async fn ties_are_broken_by_id(index: &dyn VectorIndex, collection: &Collection) {
    let chunks: Vec<_> = (1..=30).map(|first| Chunk { first, ..Chunk::default() }).collect();
    upsert(index, collection, &chunks).await;
    let mut expected: Vec<_> = chunks.iter().map(Chunk::id).collect();
    expected.sort_unstable();
    for mode in [Mode::Dense, Mode::Sparse, Mode::Hybrid] {
        let query = query(mode, &chunks[0].dense, "hello");
        let hits = index.search(&collection.name, &Scope::guild(guild(7)), query).await.unwrap();
        assert_eq!(ids(&hits), expected[..10], "{mode:?}");
    }
}

async fn scrolling_returns_each_point_once(index: &dyn VectorIndex, collection: &Collection) {
    let chunks: Vec<_> = (1..=23).map(|first| Chunk { first, ..Chunk::default() }).collect();
    upsert(index, collection, &chunks).await;
    upsert(index, collection, &[Chunk { guild: 8, ..Chunk::default() }]).await;
    let mut expected: Vec<_> = chunks.iter().map(Chunk::id).collect();
    expected.sort_unstable();
    for limit in [1, 5, 23, 24, usize::MAX] {
        let (mut found, mut after) = (vec![], None);
        loop {
            let page = index.scroll(&collection.name, guild(7), after, limit).await.unwrap();
            assert!(page.points.len() <= limit);
            found.extend(page.points.iter().map(|point| point.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "pages of {limit}");
    }
    let last = PointId::from(uuid::Uuid::from_u128(u128::MAX));
    let beyond = index.scroll(&collection.name, guild(7), Some(last), 5).await.unwrap();
    assert!(beyond.points.is_empty() && beyond.next.is_none());
}

async fn headers_are_read_by_page_and_by_id_within_a_guild(index: &dyn VectorIndex, collection: &Collection) {
    let chunks: Vec<_> = (0..9).map(|chunk| Chunk { chunk, revision: 5, ..Chunk::default() }).collect();
    let other_guild = Chunk { guild: 8, ..Chunk::default() };
    upsert(index, collection, &chunks).await;
    upsert(index, collection, std::slice::from_ref(&other_guild)).await;
    let header = |chunk: &Chunk<'_>| {
        let Point { id, payload, .. } = chunk.point();
        let Payload { channel_id, session_id, chunk, revision, .. } = payload;
        PointHeader { id, channel_id, session_id, chunk, revision }
    };
    let mut expected: Vec<_> = chunks.iter().map(header).collect();
    expected.sort_unstable_by_key(|header| header.id);
    for limit in [1, 4, 9, usize::MAX] {
        let mut found: Vec<PointHeader> = vec![];
        loop {
            let after = found.last().map(|header| header.id);
            let page =
                index.headers(&collection.name, guild(7), PointSelector::After(after, limit)).await.unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(found, expected, "pages of {limit}");
    }
    let unknown = PointId::from(uuid::Uuid::nil());
    let target = [expected[3].id, unknown, other_guild.id(), expected[1].id];
    let found = index.headers(&collection.name, guild(7), PointSelector::Ids(&target)).await.unwrap();
    assert_eq!(found, [expected[1].clone(), expected[3].clone()]);
    assert_eq!(index.headers(&collection.name, guild(7), PointSelector::Ids(&[])).await.unwrap(), []);
}

async fn empty_collections_scopes_and_limits_give_no_results(
    index: &dyn VectorIndex,
    collection: &Collection,
) {
    let (name, scope) = (&collection.name, Scope::guild(guild(7)));
    let new_query = || query(Mode::Hybrid, &[1.0, 0.0, 0.0, 0.0], "hello");
    assert_eq!(index.search(name, &scope, new_query()).await.unwrap(), []);
    assert_eq!(index.count(name, guild(7)).await.unwrap(), 0);
    assert_eq!(index.guilds(name).await.unwrap(), []);
    assert_eq!(all(index, collection, guild(7)).await, []);
    index.upsert(name, vec![]).await.unwrap();

    upsert(index, collection, &[Chunk::default()]).await;
    let mut none = new_query();
    none.limit = 0;
    assert_eq!(index.search(name, &scope, none).await.unwrap(), []);
    assert_eq!(index.scroll(name, guild(7), None, 0).await.unwrap().points, []);
    let empty_scope = Scope::guild(guild(7)).only(vec![]);
    assert_eq!(index.search(name, &empty_scope, new_query()).await.unwrap(), []);
    let mut unlimited = new_query();
    unlimited.limit = usize::MAX;
    assert_eq!(index.search(name, &scope, unlimited).await.unwrap().len(), 1);
}

async fn invalid_vectors_are_rejected(index: &dyn VectorIndex, collection: &Collection) {
    for bad in [vec![], vec![1.0; 3], vec![1.0; 5], vec![1.0, f32::NAN, 0.0, 0.0], vec![f32::INFINITY; 4]] {
        let batch = vec![
            Chunk::default().point(),
            Chunk { first: 9, dense: bad.clone(), ..Chunk::default() }.point(),
        ];
        let rejected = index.upsert(&collection.name, batch).await;
        assert!(matches!(rejected, Err(Error::Vector { expected: DIMS, .. })), "{bad:?}: {rejected:?}");
        let scope = Scope::guild(guild(7));
        let rejected = index.search(&collection.name, &scope, dense_query(&bad, 3)).await;
        assert!(matches!(rejected, Err(Error::Vector { .. })), "{bad:?}: {rejected:?}");
    }
    assert_eq!(index.count(&collection.name, guild(7)).await.unwrap(), 0, "part of a batch was written");
}

async fn ensure_keeps_an_existing_collection_and_rejects_other_dimensions(
    index: &dyn VectorIndex,
    collection: &Collection,
) {
    upsert(index, collection, &[Chunk::default()]).await;
    assert_eq!(index.ensure(collection).await.unwrap(), Ensured::Existing);
    let wider = Collection { dims: DIMS + 1, ..collection.clone() };
    let rejected = index.ensure(&wider).await;
    assert!(matches!(&rejected, Err(Error::Mismatch { .. })), "{rejected:?}");
    assert_eq!(index.count(&collection.name, guild(7)).await.unwrap(), 1);

    let other: CollectionName = "test_other".parse().unwrap();
    for outcome in [
        index.upsert(&other, vec![Chunk::default().point()]).await,
        index.count(&other, guild(7)).await.map(drop),
        index.search(&other, &Scope::guild(guild(7)), dense_query(&[1.0; 4], 1)).await.map(drop),
    ] {
        assert!(matches!(&outcome, Err(Error::NoCollection(name)) if *name == other), "{outcome:?}");
    }
    let other = Collection { name: other, dims: 2 };
    assert_eq!(index.ensure(&other).await.unwrap(), Ensured::Created);
    assert_eq!(index.count(&other.name, guild(7)).await.unwrap(), 0);
}

/// The cosine of each chunk of a guild with the vector, best first, ties by id.
fn brute_force(chunks: &[Chunk<'_>], wanted: i64, target: &[f32]) -> Vec<PointId> {
    let length = |vector: &[f32]| vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let cosine = |vector: &[f32]| {
        let dot: f64 = vector.iter().zip(target).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        dot / length(vector) / length(target)
    };
    let mut ranking: Vec<_> = chunks
        .iter()
        .filter(|chunk| chunk.guild == wanted)
        .map(|chunk| (cosine(&chunk.dense), chunk.id()))
        .collect();
    ranking.sort_by(|(a, a_id), (b, b_id)| b.total_cmp(a).then(a_id.cmp(b_id)));
    ranking.into_iter().map(|(_, id)| id).collect()
}

fn scattered(count: i64) -> Vec<Chunk<'static>> {
    let mut noise = noise(42);
    (1..=count)
        .map(|first| Chunk {
            guild: 1 + first % 2,
            first,
            dense: noise.by_ref().take(DIMS).collect(),
            ..Chunk::default()
        })
        .collect()
}

async fn an_exact_search_equals_a_brute_force_scan(index: &dyn VectorIndex, collection: &Collection) {
    let chunks = scattered(200);
    upsert(index, collection, &chunks).await;
    for seed in 0..10 {
        let target: Vec<f32> = noise(seed).take(DIMS).collect();
        let scope = Scope::guild(guild(1));
        let hits = index.search(&collection.name, &scope, dense_query(&target, 20)).await.unwrap();
        assert_eq!(ids(&hits), brute_force(&chunks, 1, &target)[..20]);
    }
}

async fn optimizing_does_not_change_results(index: &dyn VectorIndex, collection: &Collection) {
    let mut chunks = scattered(60);
    upsert(index, collection, &chunks).await;
    index.optimize(&collection.name).await.unwrap();
    for chunk in &mut chunks[..20] {
        chunk.revision = 2;
        chunk.dense.reverse();
    }
    upsert(index, collection, &chunks[..20]).await;
    let deleted = chunks.split_off(50);
    for chunk in &deleted {
        let sessions = [(chunk.session(), revision(2))];
        index.delete_below(&collection.name, guild(chunk.guild), &sessions).await.unwrap();
    }
    for round in 0..2 {
        let target: Vec<f32> = noise(round).take(DIMS).collect();
        for wanted in [1, 2] {
            let mut query = dense_query(&target, 100);
            query.exact = false;
            let hits = index.search(&collection.name, &Scope::guild(guild(wanted)), query).await.unwrap();
            assert_eq!(ids(&hits), brute_force(&chunks, wanted, &target));
            assert_eq!(index.count(&collection.name, guild(wanted)).await.unwrap(), 25);
        }
        assert_eq!(index.guilds(&collection.name).await.unwrap(), [guild(1), guild(2)]);
        index.optimize(&collection.name).await.unwrap();
    }
}
