//! No search, whatever it asks and whatever the index answers, shows anything of another guild or channel.

use std::collections::BTreeSet;

use crate::support::{Mood, Place, World, cases, id, minute};
use guildex_index::{Mode, Point, VectorIndex};
use guildex_search::{Fallback, SearchRequest, SearchResponse};
use guildex_store::MIGRATOR;
use guildex_types::{ModelSlug, PointId};
use proptest::prelude::*;
use proptest::{collection::vec, option, sample::select};
use sqlx::PgPool;

/// Ids that are prefixes of each other, surrounding where floats have a gap, and the last of all. They serve as guilds,
/// channels, authors and messages alike, so that all kinds have the same.
const TRICKY: [i64; 6] = [1, 11, 111, 9_007_199_254_740_992, 9_007_199_254_740_993, i64::MAX];

/// What everybody says in a place, and nobody elsewhere.
fn mark(place: Place) -> String {
    format!("mark{}x{}x", place.guild, place.channel)
}

fn places() -> impl Iterator<Item = Place> {
    TRICKY.into_iter().flat_map(|guild| TRICKY.into_iter().map(move |channel| Place { guild, channel }))
}

/// Every place has a session that begins with each of two ids; they say the same, but for their marks.
async fn world(pool: PgPool) -> World {
    let world = World::with_models(pool, &["letters", "filling"]).await;
    let mut all = vec![];
    for place in places() {
        for (first, next) in [(1, 11), (9_007_199_254_740_992, 9_007_199_254_740_993)] {
            let text = format!("the shared secret {}", mark(place));
            let said = [(first, 1, first % 97, &*text), (next, i64::MAX, first % 97 + 1, &*text)];
            world.say(place, &said).await;
            all.push((place, first, 1));
        }
    }
    world.index_all(&all).await;
    poison(&world).await;
    world
}

/// Points in every guild and channel that claim to be there, and are of sessions elsewhere: with these sessions'
/// revisions, and with the messages of either.
async fn poison(world: &World) {
    let [victim, thief] =
        [Place { guild: 111, channel: 111 }, Place { guild: 11, channel: 9_007_199_254_740_993 }];
    for model in &world.letters {
        let stolen = world.points(victim, 1, 1, &model.slug).await;
        let own = world.points(thief, 1, 1, &model.slug).await;
        let forged: Vec<Point> = places()
            .zip(1_u128..)
            .flat_map(|(place, number)| {
                let claim = |point: &Point, copy: u128| {
                    let mut point = point.clone();
                    point.id = PointId::from(uuid::Uuid::from_u128(number << 64 | copy));
                    (point.payload.guild_id, point.payload.channel_id) = (place.guild(), place.channel());
                    point
                };
                let mut mixed = claim(&own[0], 2);
                mixed.payload.message_ids = stolen[0].payload.message_ids.clone();
                [claim(&stolen[0], 1), mixed]
            })
            .collect();
        let collection = world.collection(&model.slug);
        world.view.upsert(&collection, forged).await.unwrap();
    }
}

fn requests() -> impl Strategy<Value = SearchRequest> {
    let ids = || prop_oneof![4 => select(&TRICKY[..]), 1 => 1..i64::MAX];
    let place = (ids(), option::of(vec(ids(), 0..4)), option::of(vec(ids(), 0..3)));
    let times = (option::of(0..100_i64), option::of(0..100_i64));
    let modes = option::of(select(&[Mode::Dense, Mode::Sparse, Mode::Hybrid][..]));
    let queries =
        select(&["the shared secret", "secret or shared", "mark1x1x", "mark111x111x mark11x1x"][..]);
    let models = option::of(select(&["letters", "filling"][..]));
    let page = (1..=100_usize, prop_oneof![3 => Just(0), 1 => 1..=100_usize], 0..=20_usize);
    (place, times, modes, queries, models, page, option::of(-1.0..1.0_f32)).prop_map(
        |((guild, channels, authors), (since, until), mode, query, model, page, min_score)| {
            let mut request = crate::support::ask(guild, query);
            request.channels = channels.map(|ids| ids.into_iter().map(|id| id.try_into().unwrap()).collect());
            request.authors = authors.map(|ids| ids.into_iter().map(|id| id.try_into().unwrap()).collect());
            request.since = since.map(minute);
            request.until = until.filter(|until| since.is_none_or(|since| since < *until)).map(minute);
            (request.mode, request.min_score) = (mode, min_score);
            request.model = model.map(|slug: &str| slug.parse::<ModelSlug>().unwrap());
            (request.limit, request.offset, request.surrounding) = page;
            request
        },
    )
}

/// That nothing in the answer is of elsewhere; returns how many sessions it has.
fn assert_within(request: &SearchRequest, results: &SearchResponse) -> usize {
    let told = serde_json::to_string(results).unwrap();
    let allowed = |place: Place| {
        request.guild_id == place.guild()
            && request.channels.as_ref().is_none_or(|ids| ids.contains(&place.channel()))
    };
    for place in places().filter(|place| !allowed(*place)) {
        assert!(!told.contains(&mark(place)), "{place:?} leaked: {request:?}");
    }
    for found in &results.results {
        let place = Place { guild: found.guild_id.get(), channel: found.channel_id.get() };
        assert!(allowed(place), "{place:?} leaked: {request:?}");
        assert!([1, 9_007_199_254_740_992].map(|first| place.session(first)).contains(&found.session_id));
        assert!(found.preview.contains(&mark(place)), "an excerpt of elsewhere: {request:?}");
        assert_eq!(found.channel_name, format!("channel-{}", place.channel));
        for neighbour in found.surrounding.iter().flat_map(|n| n.before.iter().chain(&n.after)) {
            assert!(neighbour.text.contains(&mark(place)), "a neighbour from elsewhere: {request:?}");
        }
    }
    results.results.len()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn nothing_of_another_guild_or_channel_is_shown_whatever_the_index_says(pool: PgPool) {
    let world = world(pool).await;
    let mut found = BTreeSet::new();
    for mood in [Mood::Honest, Mood::Blabbing, Mood::Lying] {
        world.view.set(mood);
        for request in cases(80, requests()) {
            if assert_within(&request, &world.search(&request).await) > 0 {
                found.insert(mood as u8);
            }
        }
    }
    assert_eq!(found.len(), 3, "a mood in which nothing is found shows nothing");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn postgres_stays_in_the_scope_as_well(pool: PgPool) {
    let mut world = world(pool).await;
    world.config.fallback = Fallback::Postgres;
    world.view.set(Mood::Away);
    let mut found = 0;
    for request in cases(150, requests()) {
        let results = world.search(&SearchRequest { mode: Some(Mode::Hybrid), ..request.clone() }).await;
        assert!(results.degraded);
        found += assert_within(&request, &results);
    }
    assert!(found > 0, "a search that finds nothing shows nothing");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_session_of_the_scope_is_found_and_no_other(pool: PgPool) {
    let world = world(pool).await.with_fallback();
    for mood in [Mood::Honest, Mood::Away] {
        world.view.set(mood);
        for (guild, channel) in
            [(1, 11), (9_007_199_254_740_993, 9_007_199_254_740_992), (i64::MAX, i64::MAX)]
        {
            let place = Place { guild, channel };
            let mut request = crate::support::ask(guild, "shared secret");
            request.limit = 100;
            let whole = world.found(&request).await;
            assert_eq!(whole.len(), 2 * TRICKY.len(), "{mood:?}");
            request.channels = Some(vec![place.channel()]);
            let here: BTreeSet<_> = world.found(&request).await.into_iter().collect();
            assert_eq!(here, BTreeSet::from([1, 9_007_199_254_740_992].map(|first| place.session(first))));
            request.channels = Some(vec![]);
            assert!(world.found(&request).await.is_empty());
        }
    }
    assert_eq!(id(i64::MAX).get(), i64::MAX);
}
