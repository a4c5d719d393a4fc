//! Tenant isolation: for any request and any response of the index, nothing of another guild or channel is shown.

use std::collections::BTreeSet;

use crate::support::{IndexBehavior, Place, World, cases, id, minute};
use guildex_index::{Mode, Point, VectorIndex};
use guildex_search::{Fallback, SearchRequest, SearchResponse};
use guildex_store::MIGRATOR;
use guildex_types::{ModelSlug, PointId};
use proptest::prelude::*;
use proptest::{collection::vec, option, sample::select};
use sqlx::PgPool;

/// Ids that are prefixes of each other, that a float rounds to the same value, and the highest. Guilds, channels,
/// authors and messages all use them, so that ids of different kinds are equal.
const TRICKY: [i64; 6] = [1, 11, 111, 9_007_199_254_740_992, 9_007_199_254_740_993, i64::MAX];

/// A word in every message of a place and in no other.
fn marker(place: Place) -> String {
    format!("mark{}x{}x", place.guild, place.channel)
}

fn places() -> impl Iterator<Item = Place> {
    TRICKY.into_iter().flat_map(|guild| TRICKY.into_iter().map(move |channel| Place { guild, channel }))
}

/// Every place has two sessions, with the same texts except for the place's marker.
async fn world(pool: PgPool) -> World {
    let world = World::with_models(pool, &["letters", "filling"]).await;
    let mut all = vec![];
    for place in places() {
        for (first, next) in [(1, 11), (9_007_199_254_740_992, 9_007_199_254_740_993)] {
            let text = format!("the shared secret {}", marker(place));
            let messages = [(first, 1, first % 97, &*text), (next, i64::MAX, first % 97 + 1, &*text)];
            world.store_session(place, &messages).await;
            all.push((place, first, 1));
        }
    }
    world.index_sessions(&all).await;
    upsert_forged_points(&world).await;
    world
}

/// Inserts points into every guild and channel whose payload belongs to sessions of other places: with those
/// sessions' revisions, and with the messages of either.
async fn upsert_forged_points(world: &World) {
    let [victim, thief] =
        [Place { guild: 111, channel: 111 }, Place { guild: 11, channel: 9_007_199_254_740_993 }];
    for model in &world.embedders {
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
        world.index.upsert(&collection, forged).await.unwrap();
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
            let mut request = crate::support::search_request(guild, query);
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

/// Asserts that the response has nothing of other places; returns its number of sessions.
fn assert_within(request: &SearchRequest, results: &SearchResponse) -> usize {
    let json = serde_json::to_string(results).unwrap();
    let allowed = |place: Place| {
        request.guild_id == place.guild()
            && request.channels.as_ref().is_none_or(|ids| ids.contains(&place.channel()))
    };
    for place in places().filter(|place| !allowed(*place)) {
        assert!(!json.contains(&marker(place)), "{place:?} leaked: {request:?}");
    }
    for hit in &results.results {
        let place = Place { guild: hit.guild_id.get(), channel: hit.channel_id.get() };
        assert!(allowed(place), "{place:?} leaked: {request:?}");
        assert!([1, 9_007_199_254_740_992].map(|first| place.session(first)).contains(&hit.session_id));
        assert!(hit.preview.contains(&marker(place)), "an excerpt of another place: {request:?}");
        assert_eq!(hit.channel_name, format!("channel-{}", place.channel));
        for message in hit.surrounding.iter().flat_map(|n| n.before.iter().chain(&n.after)) {
            assert!(message.text.contains(&marker(place)), "a message of another place: {request:?}");
        }
    }
    results.results.len()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn wrong_hits_of_the_index_show_nothing_of_other_guilds_or_channels(pool: PgPool) {
    let world = world(pool).await;
    let mut found = BTreeSet::new();
    for behavior in [IndexBehavior::Normal, IndexBehavior::Unfiltered, IndexBehavior::Forged] {
        world.index.set_behavior(behavior);
        for request in cases(80, requests()) {
            if assert_within(&request, &world.search(&request).await) > 0 {
                found.insert(behavior as u8);
            }
        }
    }
    assert_eq!(found.len(), 3, "with some behavior nothing was found");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn fallback_search_shows_nothing_of_other_guilds_or_channels(pool: PgPool) {
    let mut world = world(pool).await;
    world.config.fallback = Fallback::Postgres;
    world.index.set_behavior(IndexBehavior::Unavailable);
    let mut found = 0;
    for request in cases(150, requests()) {
        let results = world.search(&SearchRequest { mode: Some(Mode::Hybrid), ..request.clone() }).await;
        assert!(results.degraded);
        found += assert_within(&request, &results);
    }
    assert!(found > 0, "nothing was found");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn exactly_the_sessions_in_scope_are_found(pool: PgPool) {
    let world = world(pool).await.with_fallback();
    for behavior in [IndexBehavior::Normal, IndexBehavior::Unavailable] {
        world.index.set_behavior(behavior);
        for (guild, channel) in
            [(1, 11), (9_007_199_254_740_993, 9_007_199_254_740_992), (i64::MAX, i64::MAX)]
        {
            let place = Place { guild, channel };
            let mut request = crate::support::search_request(guild, "shared secret");
            request.limit = 100;
            let whole = world.search_ids(&request).await;
            assert_eq!(whole.len(), 2 * TRICKY.len(), "{behavior:?}");
            request.channels = Some(vec![place.channel()]);
            let here: BTreeSet<_> = world.search_ids(&request).await.into_iter().collect();
            assert_eq!(here, BTreeSet::from([1, 9_007_199_254_740_992].map(|first| place.session(first))));
            request.channels = Some(vec![]);
            assert!(world.search_ids(&request).await.is_empty());
        }
    }
    assert_eq!(id(i64::MAX).get(), i64::MAX);
}
