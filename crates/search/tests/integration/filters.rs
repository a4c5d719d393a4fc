//! Filters and pages, compared with a simple scan of all sessions.

use std::collections::BTreeSet;

use crate::support::{HERE, IndexBehavior, Place, TestMessage, World, cases, minute, search_request};
use guildex_index::{Mode, VectorIndex};
use guildex_search::{MAX_DEPTH, SearchRequest};
use guildex_store::MIGRATOR;
use guildex_types::SessionId;
use proptest::prelude::*;
use proptest::{collection::vec, option, sample::select};
use sqlx::PgPool;

/// A session: its channel and its messages.
type Conversation = (Place, Vec<TestMessage<'static>>);

/// Sessions of one to five messages in three channels, among four authors.
fn conversations() -> Vec<Conversation> {
    let conversation = (
        select(&[8_i64, 9, 10][..]),
        0..200_i64,
        vec((1..=4_i64, 0..15_i64, select(&["oak lathe", "oak glue", "iron"][..])), 1..=5),
    );
    // A channel, a start time, and messages: author, pause before it, text.
    type Drawn = (i64, i64, Vec<(i64, i64, &'static str)>);
    let one = |(place, (channel, start, messages)): (i64, Drawn)| {
        let first = 100 * (place + 1);
        let mut at = start;
        let messages = messages.into_iter().zip(first..).map(|((author, pause, text), number)| {
            at += pause;
            (number, author, at, text)
        });
        (Place { channel, ..HERE }, messages.collect())
    };
    (0..).zip(cases(40, conversation)).map(one).collect()
}

/// Stores the conversations and indexes them in chunks of two messages.
async fn store_and_index_all(world: &World, conversations: &[Conversation]) {
    for (place, messages) in conversations {
        world.store_session(*place, messages).await;
    }
    let all: Vec<_> = conversations.iter().map(|(place, messages)| (*place, messages[0].0, 2)).collect();
    world.index_sessions(&all).await;
}

/// Splits a conversation into the units that a search filters: chunks in the index, whole sessions in Postgres.
fn split(conversation: &[TestMessage<'static>], chunk: usize) -> Vec<Vec<TestMessage<'static>>> {
    conversation.chunks(chunk).map(<[_]>::to_vec).collect()
}

fn fits(request: &SearchRequest, part: &[TestMessage<'_>]) -> bool {
    let (first, last) = (minute(part[0].2), minute(part[part.len() - 1].2));
    let speaks = |id: &guildex_types::UserId| part.iter().any(|message| message.1 == id.get());
    request.authors.as_ref().is_none_or(|authors| authors.iter().any(speaks))
        && request.since.is_none_or(|since| last >= since)
        && request.until.is_none_or(|until| first < until)
}

fn requests() -> impl Strategy<Value = SearchRequest> {
    let channels = option::of(vec(select(&[8_i64, 9, 10, 11][..]), 0..3));
    let authors = option::of(vec(1..=5_i64, 0..3));
    let times = (option::of(0..280_i64), option::of(0..280_i64));
    (channels, authors, times).prop_map(|(channels, authors, (since, until))| {
        let mut request = search_request(1, "oak");
        request.channels = channels.map(|ids| ids.into_iter().map(|id| id.try_into().unwrap()).collect());
        request.authors = authors.map(|ids| ids.into_iter().map(|id| id.try_into().unwrap()).collect());
        request.since = since.map(minute);
        request.until = until.filter(|until| since.is_none_or(|since| since < *until)).map(minute);
        request.limit = 100;
        request
    })
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn filters_give_the_same_sessions_as_a_full_scan(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    let conversations = conversations();
    store_and_index_all(&world, &conversations).await;
    let has_oak = |part: &[TestMessage<'_>]| part.iter().any(|message| message.3.contains("oak"));
    let mut sizes = BTreeSet::new();
    for request in cases(60, requests()) {
        let expected = |chunk: usize, has_words: &dyn Fn(&[TestMessage<'_>]) -> bool| {
            let here = |place: &Place| {
                request.channels.as_ref().is_none_or(|channels| channels.contains(&place.channel()))
            };
            let fitting = conversations.iter().filter(|(place, conversation)| {
                here(place)
                    && split(conversation, chunk).iter().any(|part| fits(&request, part) && has_words(part))
            });
            fitting
                .map(|(place, conversation)| place.session(conversation[0].0))
                .collect::<BTreeSet<SessionId>>()
        };
        let found = async |mode| {
            let request = SearchRequest { mode: Some(mode), ..request.clone() };
            world.search_ids(&request).await.into_iter().collect::<BTreeSet<_>>()
        };
        world.index.set_behavior(IndexBehavior::Normal);
        let all = expected(2, &|_| true);
        assert_eq!(found(Mode::Dense).await, all, "{request:?}");
        assert_eq!(found(Mode::Hybrid).await, all, "{request:?}");
        assert_eq!(found(Mode::Sparse).await, expected(2, &has_oak), "{request:?}");
        world.index.set_behavior(IndexBehavior::Unavailable);
        assert_eq!(found(Mode::Hybrid).await, expected(usize::MAX, &has_oak), "{request:?}");
        sizes.insert(all.len());
    }
    assert!(sizes.len() > 5, "all filters gave the same number of sessions: {sizes:?}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn hits_outside_the_filter_are_removed(pool: PgPool) {
    let world = World::new(pool).await;
    world.store_and_index(HERE, &[(1, 1, 1, "oak"), (2, 2, 2, "oak")]).await;
    let late = world.store_and_index(HERE, &[(11, 3, 11, "oak"), (12, 4, 12, "oak")]).await;
    world.index.set_behavior(IndexBehavior::Unfiltered);
    let since = SearchRequest { since: Some(minute(12)), ..search_request(1, "oak") };
    let until = SearchRequest { until: Some(minute(1)), ..search_request(1, "oak") };
    let by = SearchRequest { authors: Some(vec![4.try_into().unwrap()]), ..search_request(1, "oak") };
    assert_eq!(world.search_ids(&since).await, [late]);
    assert_eq!(world.search_ids(&until).await, []);
    assert_eq!(world.search_ids(&by).await, [late]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn min_score_removes_lower_scores_only(pool: PgPool) {
    let world = World::new(pool).await;
    store_and_index_all(&world, &conversations()).await;
    for mode in [Mode::Hybrid, Mode::Dense, Mode::Sparse] {
        let request = SearchRequest { mode: Some(mode), limit: 100, ..search_request(1, "oak lathe") };
        let scores: Vec<f32> = world.search(&request).await.results.iter().map(|hit| hit.score).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{mode:?}");
        let least = scores[scores.len() / 2];
        let above = world.search(&SearchRequest { min_score: Some(least), ..request }).await.results;
        assert_eq!(above.len(), scores.iter().filter(|score| **score >= least).count(), "{mode:?}");
        assert!(above.len() < scores.len() || scores[0] == least, "{mode:?}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn pages_of_any_size_join_into_the_same_list(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    let sentences =
        ["oak lathe and glue", "glue on the oak lathe", "an iron lathe", "oak", "the lathe is of oak"];
    let texts: Vec<String> =
        (0..230).map(|n| format!("{} {}", sentences[n % 5], "and so on ".repeat(n % 7))).collect();
    let mut all = vec![];
    for (text, number) in texts.iter().zip(0..) {
        let first = 10 * (number + 1);
        world.store_session(HERE, &[(first, 1, number, text), (first + 1, 2, number, "oak it is")]).await;
        all.push((HERE, first, 1 + number as usize % 2));
    }
    world.index_sessions(&all).await;
    // Some are out of date.
    for first in (100..1_000).step_by(100) {
        world.edit(HERE, first, (first, 1, first, "something else altogether")).await;
    }
    let request = |mode, offset, limit| SearchRequest {
        mode: Some(mode),
        offset,
        limit,
        ..search_request(1, "oak or lathe")
    };
    for (behavior, mode) in [
        (IndexBehavior::Normal, Mode::Hybrid),
        (IndexBehavior::Normal, Mode::Dense),
        (IndexBehavior::Normal, Mode::Sparse),
        (IndexBehavior::Unavailable, Mode::Hybrid),
    ] {
        world.index.set_behavior(behavior);
        let mut whole = world.search_ids(&request(mode, 0, 100)).await;
        whole.extend(world.search_ids(&request(mode, 100, 100)).await);
        assert_eq!(
            whole.iter().collect::<BTreeSet<_>>().len(),
            whole.len(),
            "{behavior:?} {mode:?}: a session is repeated"
        );
        assert_eq!(whole.len(), MAX_DEPTH, "{behavior:?} {mode:?}");
        for page in [7, 31, 100] {
            let mut joined = vec![];
            while joined.len() < MAX_DEPTH {
                let limit = page.min(MAX_DEPTH - joined.len());
                let next = world.search_ids(&request(mode, joined.len(), limit)).await;
                assert_eq!(next.len(), limit, "{mode:?}");
                joined.extend(next);
            }
            assert_eq!(joined, whole, "{behavior:?} {mode:?} by pages of {page}");
        }
    }
    world.index.set_behavior(IndexBehavior::Normal);
    assert_eq!(world.index.count(&world.collection(&world.slug()), HERE.guild()).await.unwrap(), 345);
    let beyond = SearchRequest { min_score: Some(0.9), ..request(Mode::Dense, 150, 10) };
    assert!(world.search_ids(&beyond).await.is_empty(), "there is nothing after the last page");
}
