//! Searches while the index or the model is unavailable, slow or replaced: a response or an error in time, and
//! recovery without a restart.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{HERE, IndexBehavior, World, search_request};
use guildex_index::VectorIndex;
use guildex_search::{Dependency, InvalidRequest, SearchError, SearchRequest};
use guildex_store::MIGRATOR;
use guildex_types::ModelSlug;
use sqlx::PgPool;

/// A short timeout for responses that never arrive.
const SHORT: Duration = Duration::from_millis(300);

async fn store_two_sessions(world: &World) {
    world.store_and_index(HERE, &[(1, 1, 1, "walnut and oak"), (2, 2, 2, "both are fine")]).await;
    world.store_and_index(HERE, &[(11, 1, 11, "iron and zinc"), (12, 2, 12, "both rust")]).await;
}

fn named(slug: &str) -> SearchRequest {
    SearchRequest { model: Some(slug.parse().unwrap()), ..search_request(1, "walnut") }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_search_fails_while_the_index_is_unavailable_and_succeeds_afterwards(pool: PgPool) {
    let world = World::new(pool).await;
    store_two_sessions(&world).await;
    let searcher = world.searcher();
    world.index.set_behavior(IndexBehavior::Unavailable);
    let error = searcher.search(&search_request(1, "walnut")).await.unwrap_err();
    assert!(matches!(error, SearchError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("it is being restarted"), "{error}");
    world.index.set_behavior(IndexBehavior::Normal);
    assert_eq!(
        searcher.search(&search_request(1, "walnut")).await.unwrap().results[0].session_id,
        HERE.session(1)
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn with_a_fallback_an_unavailable_index_gives_degraded_responses(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    store_two_sessions(&world).await;
    let searcher = world.searcher();
    for behavior in [IndexBehavior::Unavailable, IndexBehavior::Broken] {
        world.index.set_behavior(behavior);
        let results = searcher.search(&search_request(1, "walnut")).await.unwrap();
        assert!(results.degraded && results.model.is_none());
        let reason =
            if behavior == IndexBehavior::Unavailable { "it is being restarted" } else { "it broke" };
        assert!(results.reason.unwrap().contains(reason));
        let [hit] = &results.results[..] else { panic!("one session has the word") };
        assert_eq!((hit.session_id, hit.chunk.number), (HERE.session(1), None));
        assert_eq!(&*hit.preview, "author 1: walnut and oak\nauthor 2: both are fine");
    }
    world.index.set_behavior(IndexBehavior::Normal);
    let results = searcher.search(&search_request(1, "walnut")).await.unwrap();
    assert!(!results.degraded && results.model.is_some());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn fallback_search_matches_all_words_in_a_message_or_else_any(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    store_two_sessions(&world).await;
    world.index.set_behavior(IndexBehavior::Unavailable);
    assert_eq!(world.search_ids(&search_request(1, "iron zinc")).await, [HERE.session(11)]);
    assert_eq!(world.search_ids(&search_request(1, "does iron go with walnut?")).await.len(), 2);
    assert_eq!(world.search_ids(&search_request(1, "\"both rust\"")).await, [HERE.session(11)]);
    assert_eq!(world.search_ids(&search_request(1, "both -rust")).await, [HERE.session(1)]);
    assert!(world.search_ids(&search_request(1, "platinum")).await.is_empty());
    assert!(world.search_ids(&search_request(2, "walnut")).await.is_empty());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn fallback_search_for_any_word_ignores_very_frequent_words(pool: PgPool) {
    // The statistics of the word index show which words are frequent.
    guildex_store::search::ensure_word_index(&pool).await.unwrap();
    let world = World::new(pool).await.with_fallback();
    store_two_sessions(&world).await;
    for statement in [
        "INSERT INTO messages (guild_id, channel_id, id, author_id, sent_at, text, first_message_id)
         SELECT 1, 9, 1000 + n, 1, '1970-02-01Z'::timestamptz + n * interval '1 minute', 'we like it and so on', 1001
         FROM generate_series(1, 6000) n",
        "INSERT INTO sessions (id, guild_id, channel_id, first_message_id, revision, message_count, word_count)
         VALUES (gen_random_uuid(), 1, 9, 1001, 1, 6000, 36000)",
        "ANALYZE messages",
    ] {
        sqlx::query(statement).execute(&world.pool).await.unwrap();
    }
    world.index.set_behavior(IndexBehavior::Unavailable);
    assert_eq!(world.search_ids(&search_request(1, "do we like walnut")).await, [HERE.session(1)]);
    assert_eq!(
        world.search_ids(&search_request(1, "we like it")).await.len(),
        1,
        "a search for all words uses frequent ones"
    );
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_hung_index_times_out(pool: PgPool) {
    let mut world = World::new(pool).await;
    store_two_sessions(&world).await;
    world.config.timeout = SHORT;
    world.index.searches.close();
    let error = world.try_search(&search_request(1, "walnut")).await.unwrap_err();
    assert!(
        matches!(error, SearchError::Timeout { dependency: Dependency::Index, waited } if waited >= SHORT),
        "{error}"
    );
    assert!(error.to_string().contains("waiting for the index"), "{error}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_hung_model_times_out(pool: PgPool) {
    let mut world = World::new(pool).await;
    store_two_sessions(&world).await;
    world.config.timeout = SHORT;
    world.embedders[0].calls.close();
    let error = world.try_search(&search_request(1, "walnut")).await.unwrap_err();
    assert!(matches!(error, SearchError::Timeout { dependency: Dependency::Model, .. }), "{error}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_blocked_query_of_postgres_times_out(pool: PgPool) {
    let mut world = World::new(pool).await.with_fallback();
    store_two_sessions(&world).await;
    world.config.timeout = SHORT;
    let mut tx = world.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE sessions").execute(&mut *tx).await.unwrap();
    let error = world.try_search(&search_request(1, "walnut")).await.unwrap_err();
    assert!(matches!(error, SearchError::Timeout { dependency: Dependency::Postgres, .. }), "{error}");
    world.index.set_behavior(IndexBehavior::Unavailable);
    let error = world.try_search(&search_request(1, "walnut")).await.unwrap_err();
    assert!(matches!(error, SearchError::Timeout { dependency: Dependency::Postgres, .. }), "{error}");
    tx.rollback().await.unwrap();
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_hung_index_or_model_leaves_time_for_the_fallback(pool: PgPool) {
    let mut world = World::new(pool).await.with_fallback();
    store_two_sessions(&world).await;
    world.config.timeout = Duration::from_secs(5);
    for gate in [&world.index.searches, &world.embedders[0].calls] {
        gate.close();
        let results = world.search(&search_request(1, "walnut")).await;
        assert!(results.degraded);
        assert_eq!(results.results[0].session_id, HERE.session(1));
        gate.open();
        assert!(!world.search(&search_request(1, "walnut")).await.degraded, "it did not recover");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn sparse_search_needs_no_model(pool: PgPool) {
    let world = World::new(pool).await;
    store_two_sessions(&world).await;
    world.embedders[0].calls.close();
    let sparse = SearchRequest { mode: Some(guildex_index::Mode::Sparse), ..search_request(1, "walnut") };
    assert_eq!(world.search_ids(&sparse).await, [HERE.session(1)]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn each_search_uses_the_currently_active_model(pool: PgPool) {
    let world = World::with_models(pool, &["one", "two"]).await;
    store_two_sessions(&world).await;
    let searcher = world.searcher();
    let model = async || searcher.search(&search_request(1, "walnut")).await.unwrap().model.unwrap();
    assert_eq!(model().await.as_str(), "one");
    switch(&world, "one", "retired", "two").await;
    assert_eq!(model().await.as_str(), "two");
}

/// Makes the model `to` active and gives `from` the state.
async fn switch(world: &World, from: &str, state: &str, to: &str) {
    world.set_state(from, state).await;
    world.set_state(to, "active").await;
}

/// Deletes a model and its collection.
async fn drop_model(world: &World, slug: &str) {
    let slug: ModelSlug = slug.parse().unwrap();
    sqlx::query("DELETE FROM models WHERE slug = $1").bind(slug.as_str()).execute(&world.pool).await.unwrap();
    world.index.drop_collection(&world.collection(&slug)).await.unwrap();
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_search_restarts_if_its_collection_is_dropped_meanwhile(pool: PgPool) {
    let world = Arc::new(World::with_models(pool, &["one", "two"]).await);
    store_two_sessions(&world).await;
    world.index.searches.close();
    let searching = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.search(&search_request(1, "walnut")).await }
    });
    world.index.searches.until_waiting(1).await;
    switch(&world, "one", "retired", "two").await;
    drop_model(&world, "one").await;
    world.index.searches.open();
    let results = searching.await.unwrap();
    assert_eq!(results.model.unwrap().as_str(), "two");
    assert_eq!(results.results[0].session_id, HERE.session(1));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_search_restarts_if_its_model_is_deleted_meanwhile(pool: PgPool) {
    let world = World::with_models(pool, &["one", "two"]).await;
    store_two_sessions(&world).await;
    world.embedders[0].calls.close();
    let world = Arc::new(world);
    let searching = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.search(&search_request(1, "walnut")).await }
    });
    world.embedders[0].calls.until_waiting(1).await;
    switch(&world, "one", "retired", "two").await;
    // The collection still exists: it is dropped only after the model's row.
    sqlx::query("DELETE FROM models WHERE slug = 'one'").execute(&world.pool).await.unwrap();
    world.embedders[0].calls.open();
    let results = searching.await.unwrap();
    assert_eq!(results.model.unwrap().as_str(), "two");
    assert_eq!(results.results[0].session_id, HERE.session(1));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_missing_collection_is_an_error_not_an_empty_result(pool: PgPool) {
    let mut world = World::new(pool).await;
    store_two_sessions(&world).await;
    world.index.drop_collection(&world.collection(&world.slug())).await.unwrap();
    let error = world.try_search(&search_request(1, "walnut")).await.unwrap_err();
    assert!(error.to_string().contains("no collection test_letters"), "{error}");
    world.config.fallback = guildex_search::Fallback::Postgres;
    assert_eq!(world.search_ids(&search_request(1, "walnut")).await, [HERE.session(1)]);

    sqlx::query("DELETE FROM models").execute(&world.pool).await.unwrap();
    world.config.fallback = guildex_search::Fallback::None;
    let error = world.try_search(&search_request(1, "walnut")).await.unwrap_err();
    assert!(matches!(error, SearchError::NothingIndexed), "{error}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_named_model_is_searched_if_it_is_active_or_filling(pool: PgPool) {
    let mut world = World::with_models(pool, &["one", "two", "old"]).await;
    store_two_sessions(&world).await;
    world.set_state("old", "retired").await;
    // Only the second model has this session.
    world.store_session(HERE, &[(21, 1, 21, "walnut shells"), (22, 2, 22, "make dye")]).await;
    world.index_in(&[(HERE, 21, 2)], &"two".parse().unwrap()).await;
    let shells = |slug: &str| SearchRequest { query: "walnut shells".to_owned(), ..named(slug) };
    let results = world.search(&shells("two")).await;
    assert_eq!((results.model.unwrap().as_str(), results.results.len()), ("two", 3));
    assert_eq!(results.results[0].session_id, HERE.session(21));
    let results = world.search(&shells("one")).await;
    assert_eq!((results.model.unwrap().as_str(), results.results.len()), ("one", 2));

    world.config.fallback = guildex_search::Fallback::Postgres;
    for slug in ["old", "three"] {
        let error = world.try_search(&named(slug)).await.unwrap_err();
        let expected =
            InvalidRequest::Model { model: slug.parse().unwrap(), available: "one, two".to_owned() };
        assert!(matches!(&error, SearchError::Request(refusal) if *refusal == expected), "{error}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn invalid_requests_are_rejected_while_the_index_is_unavailable(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    world.index.set_behavior(IndexBehavior::Unavailable);
    let error = world.try_search(&search_request(1, " ")).await.unwrap_err();
    assert!(matches!(error, SearchError::Request(InvalidRequest::EmptyQuery)), "{error}");
}
