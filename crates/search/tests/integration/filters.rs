//! Filters and pages, against what a slow and simple search would say.

use std::collections::BTreeSet;

use crate::support::{HERE, Mood, Place, Said, World, ask, cases, minute};
use guildex_index::{Mode, VectorIndex};
use guildex_search::{MAX_DEPTH, SearchRequest};
use guildex_store::MIGRATOR;
use guildex_types::SessionId;
use proptest::prelude::*;
use proptest::{collection::vec, option, sample::select};
use sqlx::PgPool;

/// A session: where, and what was said.
type Talk = (Place, Vec<Said<'static>>);

/// Sessions of one to five messages in three channels, among four authors.
fn talks() -> Vec<Talk> {
    let talk = (
        select(&[8_i64, 9, 10][..]),
        0..200_i64,
        vec((1..=4_i64, 0..15_i64, select(&["oak lathe", "oak glue", "iron"][..])), 1..=5),
    );
    // A channel, a time, and what is said: by whom, after how long, and what.
    type Drawn = (i64, i64, Vec<(i64, i64, &'static str)>);
    let one = |(place, (channel, start, said)): (i64, Drawn)| {
        let first = 100 * (place + 1);
        let mut at = start;
        let said = said.into_iter().zip(first..).map(|((author, pause, text), number)| {
            at += pause;
            (number, author, at, text)
        });
        (Place { channel, ..HERE }, said.collect())
    };
    (0..).zip(cases(40, talk)).map(one).collect()
}

/// Stores the talks and indexes them in chunks of two messages.
async fn hold(world: &World, talks: &[Talk]) {
    for (place, said) in talks {
        world.say(*place, said).await;
    }
    let all: Vec<_> = talks.iter().map(|(place, said)| (*place, said[0].0, 2)).collect();
    world.index_all(&all).await;
}

/// What of a talk is looked at at once: the index looks at chunks, Postgres at sessions.
fn parts(talk: &[Said<'static>], chunk: usize) -> Vec<Vec<Said<'static>>> {
    talk.chunks(chunk).map(<[_]>::to_vec).collect()
}

fn fits(request: &SearchRequest, part: &[Said<'_>]) -> bool {
    let (first, last) = (minute(part[0].2), minute(part[part.len() - 1].2));
    let speaks = |id: &guildex_types::UserId| part.iter().any(|said| said.1 == id.get());
    request.authors.as_ref().is_none_or(|authors| authors.iter().any(speaks))
        && request.since.is_none_or(|since| last >= since)
        && request.until.is_none_or(|until| first < until)
}

fn requests() -> impl Strategy<Value = SearchRequest> {
    let channels = option::of(vec(select(&[8_i64, 9, 10, 11][..]), 0..3));
    let authors = option::of(vec(1..=5_i64, 0..3));
    let times = (option::of(0..280_i64), option::of(0..280_i64));
    (channels, authors, times).prop_map(|(channels, authors, (since, until))| {
        let mut request = ask(1, "oak");
        request.channels = channels.map(|ids| ids.into_iter().map(|id| id.try_into().unwrap()).collect());
        request.authors = authors.map(|ids| ids.into_iter().map(|id| id.try_into().unwrap()).collect());
        request.since = since.map(minute);
        request.until = until.filter(|until| since.is_none_or(|since| since < *until)).map(minute);
        request.limit = 100;
        request
    })
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn filters_leave_what_a_look_at_every_session_would(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    let talks = talks();
    hold(&world, &talks).await;
    let has_oak = |part: &[Said<'_>]| part.iter().any(|said| said.3.contains("oak"));
    let mut sizes = BTreeSet::new();
    for request in cases(60, requests()) {
        let expected = |chunk: usize, has_words: &dyn Fn(&[Said<'_>]) -> bool| {
            let here = |place: &Place| {
                request.channels.as_ref().is_none_or(|channels| channels.contains(&place.channel()))
            };
            let fitting = talks.iter().filter(|(place, talk)| {
                here(place) && parts(talk, chunk).iter().any(|part| fits(&request, part) && has_words(part))
            });
            fitting.map(|(place, talk)| place.session(talk[0].0)).collect::<BTreeSet<SessionId>>()
        };
        let found = async |mode| {
            let request = SearchRequest { mode: Some(mode), ..request.clone() };
            world.found(&request).await.into_iter().collect::<BTreeSet<_>>()
        };
        world.view.set(Mood::Honest);
        let all = expected(2, &|_| true);
        assert_eq!(found(Mode::Dense).await, all, "{request:?}");
        assert_eq!(found(Mode::Hybrid).await, all, "{request:?}");
        assert_eq!(found(Mode::Sparse).await, expected(2, &has_oak), "{request:?}");
        world.view.set(Mood::Away);
        assert_eq!(found(Mode::Hybrid).await, expected(usize::MAX, &has_oak), "{request:?}");
        sizes.insert(all.len());
    }
    assert!(sizes.len() > 5, "the filters made no difference: {sizes:?}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_index_that_forgets_the_filter_is_corrected(pool: PgPool) {
    let world = World::new(pool).await;
    world.talk(HERE, &[(1, 1, 1, "oak"), (2, 2, 2, "oak")]).await;
    let late = world.talk(HERE, &[(11, 3, 11, "oak"), (12, 4, 12, "oak")]).await;
    world.view.set(Mood::Blabbing);
    let since = SearchRequest { since: Some(minute(12)), ..ask(1, "oak") };
    let until = SearchRequest { until: Some(minute(1)), ..ask(1, "oak") };
    let by = SearchRequest { authors: Some(vec![4.try_into().unwrap()]), ..ask(1, "oak") };
    assert_eq!(world.found(&since).await, [late]);
    assert_eq!(world.found(&until).await, []);
    assert_eq!(world.found(&by).await, [late]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_least_score_leaves_out_what_is_below(pool: PgPool) {
    let world = World::new(pool).await;
    hold(&world, &talks()).await;
    for mode in [Mode::Hybrid, Mode::Dense, Mode::Sparse] {
        let request = SearchRequest { mode: Some(mode), limit: 100, ..ask(1, "oak lathe") };
        let scores: Vec<f32> = world.search(&request).await.results.iter().map(|found| found.score).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{mode:?}");
        let least = scores[scores.len() / 2];
        let above = world.search(&SearchRequest { min_score: Some(least), ..request }).await.results;
        assert_eq!(above.len(), scores.iter().filter(|score| **score >= least).count(), "{mode:?}");
        assert!(above.len() < scores.len() || scores[0] == least, "{mode:?}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn pages_joined_are_one_list(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    let sentences =
        ["oak lathe and glue", "glue on the oak lathe", "an iron lathe", "oak", "the lathe is of oak"];
    let texts: Vec<String> =
        (0..230).map(|n| format!("{} {}", sentences[n % 5], "and so on ".repeat(n % 7))).collect();
    let mut all = vec![];
    for (text, number) in texts.iter().zip(0..) {
        let first = 10 * (number + 1);
        world.say(HERE, &[(first, 1, number, text), (first + 1, 2, number, "oak it is")]).await;
        all.push((HERE, first, 1 + number as usize % 2));
    }
    world.index_all(&all).await;
    // Some are out of date.
    for first in (100..1_000).step_by(100) {
        world.edit(HERE, first, (first, 1, first, "something else altogether")).await;
    }
    let request =
        |mode, offset, limit| SearchRequest { mode: Some(mode), offset, limit, ..ask(1, "oak or lathe") };
    for (mood, mode) in [
        (Mood::Honest, Mode::Hybrid),
        (Mood::Honest, Mode::Dense),
        (Mood::Honest, Mode::Sparse),
        (Mood::Away, Mode::Hybrid),
    ] {
        world.view.set(mood);
        let mut whole = world.found(&request(mode, 0, 100)).await;
        whole.extend(world.found(&request(mode, 100, 100)).await);
        assert_eq!(
            whole.iter().collect::<BTreeSet<_>>().len(),
            whole.len(),
            "{mood:?} {mode:?}: a session comes twice"
        );
        assert_eq!(whole.len(), MAX_DEPTH, "{mood:?} {mode:?}");
        for page in [7, 31, 100] {
            let mut joined = vec![];
            while joined.len() < MAX_DEPTH {
                let limit = page.min(MAX_DEPTH - joined.len());
                let next = world.found(&request(mode, joined.len(), limit)).await;
                assert_eq!(next.len(), limit, "{mode:?}");
                joined.extend(next);
            }
            assert_eq!(joined, whole, "{mood:?} {mode:?} by pages of {page}");
        }
    }
    world.view.set(Mood::Honest);
    assert_eq!(world.view.count(&world.collection(&world.slug()), HERE.guild()).await.unwrap(), 345);
    let beyond = SearchRequest { min_score: Some(0.9), ..request(Mode::Dense, 150, 10) };
    assert!(world.found(&beyond).await.is_empty(), "behind the last page there is nothing");
}
