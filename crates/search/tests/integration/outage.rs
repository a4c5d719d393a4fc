//! Index or model away, slow or exchanged: an answer or an error in time, and no need to start anything anew.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{HERE, Mood, World, ask};
use guildex_index::VectorIndex;
use guildex_search::{Dependency, InvalidRequest, SearchError, SearchRequest};
use guildex_store::MIGRATOR;
use guildex_types::ModelSlug;
use sqlx::PgPool;

/// So short that tests need not wait long, where the answer never comes.
const SHORT: Duration = Duration::from_millis(300);

async fn two_talks(world: &World) {
    world.talk(HERE, &[(1, 1, 1, "walnut and oak"), (2, 2, 2, "both are fine")]).await;
    world.talk(HERE, &[(11, 1, 11, "iron and zinc"), (12, 2, 12, "both rust")]).await;
}

fn named(slug: &str) -> SearchRequest {
    SearchRequest { model: Some(slug.parse().unwrap()), ..ask(1, "walnut") }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn while_the_index_is_away_a_search_says_so_and_then_recovers_by_itself(pool: PgPool) {
    let world = World::new(pool).await;
    two_talks(&world).await;
    let searcher = world.searcher();
    world.view.set(Mood::Away);
    let refused = searcher.search(&ask(1, "walnut")).await.unwrap_err();
    assert!(matches!(refused, SearchError::Unavailable(_)), "{refused}");
    assert!(refused.to_string().contains("it is being restarted"), "{refused}");
    world.view.set(Mood::Honest);
    assert_eq!(searcher.search(&ask(1, "walnut")).await.unwrap().results[0].session_id, HERE.session(1));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn while_the_index_is_away_postgres_answers_if_it_may_and_says_so(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    two_talks(&world).await;
    let searcher = world.searcher();
    for mood in [Mood::Away, Mood::Broken] {
        world.view.set(mood);
        let results = searcher.search(&ask(1, "walnut")).await.unwrap();
        assert!(results.degraded && results.model.is_none());
        let reason = if mood == Mood::Away { "it is being restarted" } else { "it broke" };
        assert!(results.reason.unwrap().contains(reason));
        let [found] = &results.results[..] else { panic!("one session has the word") };
        assert_eq!((found.session_id, found.chunk.number), (HERE.session(1), None));
        assert_eq!(&*found.preview, "author 1: walnut and oak\nauthor 2: both are fine");
    }
    world.view.set(Mood::Honest);
    let results = searcher.search(&ask(1, "walnut")).await.unwrap();
    assert!(!results.degraded && results.model.is_some());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn postgres_finds_all_words_in_a_message_and_if_nobody_said_them_any(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    two_talks(&world).await;
    world.view.set(Mood::Away);
    assert_eq!(world.found(&ask(1, "iron zinc")).await, [HERE.session(11)]);
    assert_eq!(world.found(&ask(1, "does iron go with walnut?")).await.len(), 2);
    assert_eq!(world.found(&ask(1, "\"both rust\"")).await, [HERE.session(11)]);
    assert_eq!(world.found(&ask(1, "both -rust")).await, [HERE.session(1)]);
    assert!(world.found(&ask(1, "platinum")).await.is_empty());
    assert!(world.found(&ask(2, "walnut")).await.is_empty());
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn where_any_word_will_do_those_of_very_many_messages_do_not(pool: PgPool) {
    // Its statistics tell which words these are.
    guildex_store::search::ensure_word_index(&pool).await.unwrap();
    let world = World::new(pool).await.with_fallback();
    two_talks(&world).await;
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
    world.view.set(Mood::Away);
    assert_eq!(world.found(&ask(1, "do we like walnut")).await, [HERE.session(1)]);
    assert_eq!(world.found(&ask(1, "we like it")).await.len(), 1, "all of the words count, however frequent");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_deadline_ends_the_wait_for_an_index_that_hangs(pool: PgPool) {
    let mut world = World::new(pool).await;
    two_talks(&world).await;
    world.config.timeout = SHORT;
    world.view.searches.close();
    let late = world.try_search(&ask(1, "walnut")).await.unwrap_err();
    assert!(
        matches!(late, SearchError::Timeout { dependency: Dependency::Index, waited } if waited >= SHORT),
        "{late}"
    );
    assert!(late.to_string().contains("waiting for the index"), "{late}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_deadline_ends_the_wait_for_a_model_that_hangs(pool: PgPool) {
    let mut world = World::new(pool).await;
    two_talks(&world).await;
    world.config.timeout = SHORT;
    world.letters[0].questions.close();
    let late = world.try_search(&ask(1, "walnut")).await.unwrap_err();
    assert!(matches!(late, SearchError::Timeout { dependency: Dependency::Model, .. }), "{late}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_deadline_ends_the_wait_for_postgres(pool: PgPool) {
    let mut world = World::new(pool).await.with_fallback();
    two_talks(&world).await;
    world.config.timeout = SHORT;
    let mut tx = world.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE sessions").execute(&mut *tx).await.unwrap();
    let late = world.try_search(&ask(1, "walnut")).await.unwrap_err();
    assert!(matches!(late, SearchError::Timeout { dependency: Dependency::Postgres, .. }), "{late}");
    world.view.set(Mood::Away);
    let late = world.try_search(&ask(1, "walnut")).await.unwrap_err();
    assert!(matches!(late, SearchError::Timeout { dependency: Dependency::Postgres, .. }), "{late}");
    tx.rollback().await.unwrap();
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn postgres_has_time_left_when_index_or_model_hangs(pool: PgPool) {
    let mut world = World::new(pool).await.with_fallback();
    two_talks(&world).await;
    world.config.timeout = Duration::from_secs(5);
    for gate in [&world.view.searches, &world.letters[0].questions] {
        gate.close();
        let results = world.search(&ask(1, "walnut")).await;
        assert!(results.degraded);
        assert_eq!(results.results[0].session_id, HERE.session(1));
        gate.open();
        assert!(!world.search(&ask(1, "walnut")).await.degraded, "it did not recover");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn words_alone_need_no_model(pool: PgPool) {
    let world = World::new(pool).await;
    two_talks(&world).await;
    world.letters[0].questions.close();
    let sparse = SearchRequest { mode: Some(guildex_index::Mode::Sparse), ..ask(1, "walnut") };
    assert_eq!(world.found(&sparse).await, [HERE.session(1)]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn each_search_is_put_to_the_model_that_is_active_then(pool: PgPool) {
    let world = World::with_models(pool, &["one", "two"]).await;
    two_talks(&world).await;
    let searcher = world.searcher();
    let model = async || searcher.search(&ask(1, "walnut")).await.unwrap().model.unwrap();
    assert_eq!(model().await.as_str(), "one");
    switch(&world, "one", "retired", "two").await;
    assert_eq!(model().await.as_str(), "two");
}

/// The model `to` becomes the active one, and `from` what is said.
async fn switch(world: &World, from: &str, state: &str, to: &str) {
    world.set_state(from, state).await;
    world.set_state(to, "active").await;
}

/// Takes a model and its collection away.
async fn drop_model(world: &World, slug: &str) {
    let slug: ModelSlug = slug.parse().unwrap();
    sqlx::query("DELETE FROM models WHERE slug = $1").bind(slug.as_str()).execute(&world.pool).await.unwrap();
    world.view.drop_collection(&world.collection(&slug)).await.unwrap();
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_search_starts_over_if_its_collection_is_dropped_under_it(pool: PgPool) {
    let world = Arc::new(World::with_models(pool, &["one", "two"]).await);
    two_talks(&world).await;
    world.view.searches.close();
    let searching = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.search(&ask(1, "walnut")).await }
    });
    world.view.searches.until_waiting(1).await;
    switch(&world, "one", "retired", "two").await;
    drop_model(&world, "one").await;
    world.view.searches.open();
    let results = searching.await.unwrap();
    assert_eq!(results.model.unwrap().as_str(), "two");
    assert_eq!(results.results[0].session_id, HERE.session(1));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_search_starts_over_if_the_books_of_its_collection_are_closed_under_it(pool: PgPool) {
    let world = World::with_models(pool, &["one", "two"]).await;
    two_talks(&world).await;
    world.letters[0].questions.close();
    let world = Arc::new(world);
    let searching = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.search(&ask(1, "walnut")).await }
    });
    world.letters[0].questions.until_waiting(1).await;
    switch(&world, "one", "retired", "two").await;
    // Its collection is still there, and is dropped only after its books.
    sqlx::query("DELETE FROM models WHERE slug = 'one'").execute(&world.pool).await.unwrap();
    world.letters[0].questions.open();
    let results = searching.await.unwrap();
    assert_eq!(results.model.unwrap().as_str(), "two");
    assert_eq!(results.results[0].session_id, HERE.session(1));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_collection_that_is_nowhere_is_an_error_and_not_an_empty_answer(pool: PgPool) {
    let mut world = World::new(pool).await;
    two_talks(&world).await;
    world.view.drop_collection(&world.collection(&world.slug())).await.unwrap();
    let refused = world.try_search(&ask(1, "walnut")).await.unwrap_err();
    assert!(refused.to_string().contains("no collection test_letters"), "{refused}");
    world.config.fallback = guildex_search::Fallback::Postgres;
    assert_eq!(world.found(&ask(1, "walnut")).await, [HERE.session(1)]);

    sqlx::query("DELETE FROM models").execute(&world.pool).await.unwrap();
    world.config.fallback = guildex_search::Fallback::None;
    let refused = world.try_search(&ask(1, "walnut")).await.unwrap_err();
    assert!(matches!(refused, SearchError::NothingIndexed), "{refused}");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_named_model_is_searched_if_it_is_kept_in_step(pool: PgPool) {
    let mut world = World::with_models(pool, &["one", "two", "old"]).await;
    two_talks(&world).await;
    world.set_state("old", "retired").await;
    // Only the second model knows this.
    world.say(HERE, &[(21, 1, 21, "walnut shells"), (22, 2, 22, "make dye")]).await;
    world.index_with(&[(HERE, 21, 2)], &"two".parse().unwrap()).await;
    let shells = |slug: &str| SearchRequest { query: "walnut shells".to_owned(), ..named(slug) };
    let results = world.search(&shells("two")).await;
    assert_eq!((results.model.unwrap().as_str(), results.results.len()), ("two", 3));
    assert_eq!(results.results[0].session_id, HERE.session(21));
    let results = world.search(&shells("one")).await;
    assert_eq!((results.model.unwrap().as_str(), results.results.len()), ("one", 2));

    world.config.fallback = guildex_search::Fallback::Postgres;
    for slug in ["old", "three"] {
        let refused = world.try_search(&named(slug)).await.unwrap_err();
        let expected =
            InvalidRequest::Model { model: slug.parse().unwrap(), available: "one, two".to_owned() };
        assert!(matches!(&refused, SearchError::Request(refusal) if *refusal == expected), "{refused}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_cannot_be_asked_is_refused_even_while_the_index_is_away(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    world.view.set(Mood::Away);
    let refused = world.try_search(&ask(1, " ")).await.unwrap_err();
    assert!(matches!(refused, SearchError::Request(InvalidRequest::EmptyQuery)), "{refused}");
}
