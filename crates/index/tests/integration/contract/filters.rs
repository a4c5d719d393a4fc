//! Contract tests of filters, scores, fusion and deletions.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use guildex_index::{Collection, Filter, Fusion, Mode, Query, Scope, VectorIndex};
use guildex_types::{PointId, Revision, SessionId};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::*;

/// All hits that the filter admits, in a guild whose chunks all match the query.
async fn found(
    index: &dyn VectorIndex,
    collection: &Collection,
    mode: Mode,
    filter: &Filter,
) -> BTreeSet<PointId> {
    let query = Query { filter: filter.clone(), limit: 100, ..query(mode, &DEFAULT_VECTOR, "hello") };
    ids(&search(index, collection, 7, query).await).into_iter().collect()
}

pub async fn an_author_filter_matches_any_of_its_authors(index: &dyn VectorIndex, collection: &Collection) {
    let by = |first, authors: &[i64]| Chunk { first, authors: authors.to_vec(), ..Chunk::default() };
    let chunks = [by(1, &[1, 11]), by(2, &[11, 111]), by(3, &[9_007_199_254_740_993])];
    upsert(index, collection, &chunks).await;

    for (authors, expected) in [
        (vec![1], vec![0]),
        (vec![11], vec![0, 1]),
        (vec![1, 111], vec![0, 1]),
        (vec![9_007_199_254_740_992], vec![]),
        (vec![9_007_199_254_740_993, 5], vec![2]),
        (vec![], vec![]),
    ] {
        let filter = Filter { authors: Some(authors.into_iter().map(author).collect()), ..Filter::default() };
        let expected: BTreeSet<_> = expected.into_iter().map(|n: usize| chunks[n].id()).collect();
        for mode in MODES {
            assert_eq!(found(index, collection, mode, &filter).await, expected, "{mode:?} {filter:?}");
        }
    }
}

pub async fn time_filters_are_exact_at_their_limits(index: &dyn VectorIndex, collection: &Collection) {
    let chunk = Chunk::default();
    upsert(index, collection, std::slice::from_ref(&chunk)).await;
    let tick = TimeDelta::microseconds(1);
    let since = |since| Filter { since: Some(since), ..Filter::default() };
    let until = |until| Filter { until: Some(until), ..Filter::default() };
    for (filter, expected) in [
        (since(chunk.end()), true),
        (since(chunk.end() - tick), true),
        (since(chunk.end() + tick), false),
        (until(chunk.start), false),
        (until(chunk.start - tick), false),
        (until(chunk.start + tick), true),
        // Nanoseconds are truncated.
        (since(chunk.end() + TimeDelta::nanoseconds(200)), true),
        (until(chunk.start + TimeDelta::nanoseconds(200)), false),
        // Before and after all times of Discord.
        (since(DateTime::UNIX_EPOCH), true),
        (until(DateTime::UNIX_EPOCH), false),
        (Filter { since: Some(chunk.end()), until: Some(chunk.start + tick), authors: None }, true),
        (Filter { since: Some(chunk.start), until: Some(chunk.start), authors: None }, false),
    ] {
        for mode in MODES {
            let found = found(index, collection, mode, &filter).await;
            assert_eq!(!found.is_empty(), expected, "{mode:?} {filter:?}");
        }
    }
}

/// The start of the n-th chunk.
fn at(hour: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::hours(500_000 + hour)
}

/// A search in chunks of three guilds, channels and days.
#[derive(Debug)]
struct SearchCase {
    guild: i64,
    /// Channels of the scope, narrowed twice.
    channels: [Option<Vec<i64>>; 2],
    authors: Option<Vec<i64>>,
    since: Option<i64>,
    until: Option<i64>,
    mode: Mode,
    exact: bool,
}

fn search_cases() -> impl Strategy<Value = SearchCase> {
    let some = |range: std::ops::Range<i64>| prop::option::of(prop::collection::vec(range, 0..3));
    let time = || prop::option::of(0..9i64);
    let mode = prop::sample::select(&MODES[..]);
    (1..5i64, [some(1..5), some(1..5)], some(1..6), time(), time(), mode, any::<bool>()).prop_map(
        |(guild, channels, authors, since, until, mode, exact)| SearchCase {
            guild,
            channels,
            authors,
            since,
            until,
            mode,
            exact,
        },
    )
}

pub async fn filters_apply_in_every_mode(index: &dyn VectorIndex, collection: &Collection) {
    let places = (1..=3).flat_map(|guild| (1..=3).map(move |channel| (guild, channel)));
    let chunks: Vec<_> = places
        .flat_map(|(guild, channel)| {
            (1..=4).map(move |first| Chunk {
                guild,
                channel,
                first,
                authors: vec![first, 1 + (guild + channel) % 4],
                start: at(first + channel),
                ..Chunk::default()
            })
        })
        .collect();
    upsert(index, collection, &chunks).await;

    let narrows = |question: SearchCase| {
        let SearchCase { guild: wanted, channels: [channels, again], authors, since, until, mode, exact } =
            question;
        let within = |list: &Option<Vec<i64>>, id| list.as_ref().is_none_or(|list| list.contains(&id));
        let expected = chunks
            .iter()
            .filter(|chunk| chunk.guild == wanted)
            .filter(|chunk| within(&channels, chunk.channel) && within(&again, chunk.channel))
            .filter(|chunk| chunk.authors.iter().any(|&id| within(&authors, id)))
            .filter(|chunk| since.is_none_or(|since| chunk.end() >= at(since)))
            .filter(|chunk| until.is_none_or(|until| chunk.start < at(until)));
        let expected: BTreeSet<PointId> = expected.map(Chunk::id).collect();

        let lists = [channels, again].into_iter().flatten();
        let scope = lists.fold(Scope::guild(guild(wanted)), |scope, list| {
            scope.only(list.into_iter().map(channel).collect())
        });
        let filter = Filter {
            authors: authors.map(|list| list.into_iter().map(author).collect()),
            since: since.map(at),
            until: until.map(at),
        };
        let query = Query { filter, limit: 100, exact, ..query(mode, &DEFAULT_VECTOR, "hello") };
        let hits = futures::executor::block_on(index.search(&collection.name, &scope, query)).unwrap();
        prop_assert_eq!(ids(&hits).into_iter().collect::<BTreeSet<_>>(), expected);
        Ok(())
    };
    tokio::task::block_in_place(|| TestRunner::default().run(&search_cases(), narrows).unwrap());
}

/// Chunks with different vectors and words, and some equal ones.
fn varied(count: i64) -> Vec<Chunk<'static>> {
    const TEXTS: [&str; 4] = ["hello", "hello hello world", "world", "the wide world says hello"];
    let mut noise = noise(7);
    (1..=count)
        .map(|first| {
            let dense = noise.by_ref().take(DIMS).map(|x| (x * 8.0).round() / 8.0 + 0.01).collect();
            Chunk { first, dense, text: TEXTS[(first % 4) as usize], ..Chunk::default() }
        })
        .collect()
}

pub async fn results_below_min_score_are_omitted(index: &dyn VectorIndex, collection: &Collection) {
    upsert(index, collection, &varied(40)).await;
    for mode in MODES {
        let target = Query { limit: 100, ..query(mode, &DEFAULT_VECTOR, "wide hello") };
        let all = search(index, collection, 7, target.clone()).await;
        let least = all[all.len() / 2].score;
        let new_query = |min_score| Query { min_score: Some(min_score), ..target.clone() };

        let good: Vec<_> = all.iter().filter(|hit| hit.score >= least).cloned().collect();
        assert!(good.len() < all.len(), "{mode:?}");
        assert_eq!(search(index, collection, 7, new_query(least)).await, good, "{mode:?}");
        let above = all[0].score + 1e-3;
        assert_eq!(search(index, collection, 7, new_query(above)).await, [], "{mode:?}");
    }
}

pub async fn weights_order_the_fused_rankings(index: &dyn VectorIndex, collection: &Collection) {
    let near = Chunk { first: 1, text: "apples", ..Chunk::default() };
    let worded = Chunk { first: 2, text: "pears", dense: vec![0.0, 1.0, 0.0, 0.0], ..Chunk::default() };
    upsert(index, collection, &[near.clone(), worded.clone()]).await;
    let found = async |dense, bm25| {
        let fusion = Fusion { dense, bm25, ..Fusion::default() };
        search(index, collection, 7, Query { fusion, ..query(Mode::Hybrid, &DEFAULT_VECTOR, "pears") }).await
    };
    // `near` is first in one ranking; `worded` is second there and first in the other.
    assert_eq!(ids(&found(1.0, 1.0).await), [worded.id(), near.id()]);
    assert_eq!(ids(&found(100.0, 1.0).await), [near.id(), worded.id()]);
    assert_eq!(ids(&found(1.0, 0.0).await), [near.id(), worded.id()]);
    assert_eq!(ids(&found(0.0, 1.0).await), [worded.id()], "a ranking of weight 0 adds nothing");
    let score = found(2.0, 3.0).await[0].score;
    let k = Fusion::default().k;
    assert!((f64::from(score) - (2.0 / (k + 2.0) + 3.0 / (k + 1.0))).abs() < 1e-6, "{score}");
}

pub async fn a_page_is_a_prefix_of_a_longer_page(index: &dyn VectorIndex, collection: &Collection) {
    // More than the depth of any ranking, with many ties.
    upsert(index, collection, &varied(1_200)).await;
    for mode in MODES {
        let new_query = |limit| Query { limit, ..query(mode, &[0.3, -0.5, 0.7, 0.1], "wide world") };
        let longest = search(index, collection, 7, new_query(400)).await;
        assert_eq!(longest.len(), 400);
        for limit in [1, 5, 10, 50, 100, 399] {
            let page = search(index, collection, 7, new_query(limit)).await;
            assert_eq!(page, longest[..limit], "{mode:?}, {limit}");
        }
        let longest = search(index, collection, 7, new_query(900)).await;
        let page = search(index, collection, 7, new_query(401)).await;
        assert_eq!(page, longest[..401], "{mode:?}");
    }
}

/// A deletion: guild, sessions with revision limits, messages, and their limit.
type Deletion = (i64, Vec<(usize, i64)>, Vec<i64>, i64);

pub async fn arbitrary_deletions_apply_to_their_guild_only(index: &dyn VectorIndex, collection: &Collection) {
    // Each guild has the same channels and message ids, which Discord never issues.
    let chunks: Vec<_> = (1..=3)
        .flat_map(|guild| (0..4).map(move |n| (guild, n)))
        .map(|(guild, n)| Chunk {
            guild,
            first: 10 * (1 + n / 2),
            chunk: n as u32 % 2,
            messages: 2 + n as u32 % 2,
            revision: 1 + n % 3,
            ..Chunk::default()
        })
        .collect();
    let stored = || {
        let guilds = (1..=3).map(|id| all(index, collection, guild(id)));
        futures::executor::block_on(futures::future::join_all(guilds)).concat()
    };
    let keeps = |(wanted, sessions, messages, below): Deletion| {
        let everything: Vec<_> = chunks.iter().map(Chunk::point).collect();
        futures::executor::block_on(index.upsert(&collection.name, everything.clone())).unwrap();

        let named: Vec<(SessionId, Revision)> =
            sessions.iter().map(|&(n, below)| (chunks[n].session(), revision(below))).collect();
        let holds = |id: &i64| messages.contains(id);
        let kept = everything.into_iter().filter(|point| {
            let payload = &point.payload;
            let by_session =
                named.iter().any(|&(id, below)| id == payload.session_id && payload.revision < below);
            let by_message =
                payload.message_ids.iter().any(|id| holds(&id.get())) && payload.revision < revision(below);
            payload.guild_id != guild(wanted) || !(by_session || by_message)
        });
        let mut kept: Vec<_> = kept.collect();
        kept.sort_by_key(|point| (point.payload.guild_id, point.id));

        let messages: Vec<_> = messages.iter().map(|&id| id.try_into().unwrap()).collect();
        futures::executor::block_on(async {
            index.delete_below(&collection.name, guild(wanted), &named).await.unwrap();
            index.delete_messages(&collection.name, guild(wanted), &messages, revision(below)).await.unwrap();
        });
        prop_assert_eq!(stored(), kept);
        Ok(())
    };
    let deletions = (
        1..5i64,
        prop::collection::vec((0..chunks.len(), 0..5i64), 0..4),
        prop::collection::vec(prop::sample::select(&[1i64, 10, 11, 12, 20, 21, 22][..]), 0..3),
        0..5i64,
    );
    let mut runner = TestRunner::new(Config::with_cases(32));
    tokio::task::block_in_place(|| runner.run(&deletions, keeps).unwrap());
}
