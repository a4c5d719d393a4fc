//! Search over the socket: what is answered, with which status, and what a client makes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

#[path = "../../search/tests/integration/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use guildex_api::{Client, ClientError, serve, socket_path};
use guildex_consistency::verify::Verifier;
use guildex_producer::{Ingest, IngestConfig};
use guildex_search::SearchRequest;
use guildex_store::MIGRATOR;
use serde_json::{Value, json};
use sqlx::PgPool;
use support::{HERE, Mood, PATIENCE, World, ask};
use tokio_util::sync::CancellationToken;

/// Serves a world's searches while a test runs.
async fn served(world: &World, test: impl AsyncFnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = socket_path(folder.path());
    let stop = CancellationToken::new();
    let serving = tokio::spawn({
        let (path, searcher, stop) = (path.clone(), world.searcher(), stop.clone());
        let verifier = Verifier {
            ingest: Ingest::new(world.pool.clone(), IngestConfig::default()),
            index: world.view.clone(),
            prefix: "test".to_owned(),
        };
        async move { serve(&path, searcher, verifier, stop).await }
    });
    let bound = async {
        while !path.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, bound).await.expect("a socket");
    test(&path).await;
    stop.cancel();
    serving.await.unwrap().unwrap();
    assert!(!path.exists(), "the socket is left behind");
}

async fn post(path: &Path, body: String) -> (u16, Value) {
    guildex_types::tls::ensure_provider();
    let client = reqwest::Client::builder().unix_socket(path).build().unwrap();
    let request = client.post("http://guildex/search").header("content-type", "application/json").body(body);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_body_is_a_request_and_its_answer_the_searchers(pool: PgPool) {
    let world = World::new(pool).await;
    world.talk(HERE, &[(1, 1, 1, "walnut and oak"), (2, 2, 2, "both are fine")]).await;
    served(&world, async |path| {
        let body = json!({
            "guild_id": "1", "query": "walnut", "channels": ["9"], "authors": ["2"], "mode": "hybrid",
            "since": "1970-01-01T00:00:00Z", "until": "1970-01-02T00:00:00+02:00", "min_score": 0.001,
            "limit": 3, "offset": 0, "surrounding": 2, "model": "letters",
        });
        let (status, answer) = post(path, body.to_string()).await;
        assert_eq!((status, &answer["degraded"], &answer["model"]), (200, &json!(false), &json!("letters")));
        let found = &answer["results"][0];
        assert_eq!(found["session_id"], HERE.session(1).to_string());
        assert_eq!(found["chunk"]["number"], 0);
        assert_eq!(found["chunk"]["message_ids"], json!(["1", "2"]));
        assert_eq!(found["surrounding"], json!({"before": [], "after": []}));
        assert_eq!(found["preview"], "author 1: walnut and oak\nauthor 2: both are fine");
    })
    .await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_cannot_be_answered_has_a_status_of_its_own_and_says_why(pool: PgPool) {
    let mut world = World::new(pool).await;
    world.talk(HERE, &[(1, 1, 1, "walnut and oak"), (2, 2, 2, "both are fine")]).await;
    world.config.timeout = Duration::from_millis(300);
    let good = json!({"guild_id": "1", "query": "walnut"}).to_string();
    served(&world, async |path| {
        let client = Client::connect(path, world.config.timeout).await.unwrap().unwrap();
        for (body, reason) in [
            (json!({"guild_id": "1", "query": " "}).to_string(), "the query is empty"),
            (json!({"guild_id": "1", "query": "x", "limit": 101}).to_string(), "use 1 to 100"),
            (
                json!({"guild_id": "1", "query": "x", "model": "none"}).to_string(),
                "model none has no collection",
            ),
            (json!({"guild_id": "1", "query": "x", "chanels": []}).to_string(), "chanels"),
            (json!({"query": "x"}).to_string(), "guild_id"),
            ("{".to_owned(), "JSON"),
        ] {
            let (status, answer) = post(path, body).await;
            assert_eq!(status, 422, "{answer}");
            assert!(answer["error"].as_str().unwrap().contains(reason), "{answer}");
        }
        let refused = client.search(&SearchRequest { limit: 0, ..ask(1, "x") }).await.unwrap_err();
        assert!(matches!(refused, ClientError::Request(_)), "{refused}");

        world.view.set(Mood::Away);
        let (status, answer) = post(path, good.clone()).await;
        assert_eq!(status, 503, "{answer}");
        let refused = client.search(&ask(1, "walnut")).await.unwrap_err();
        assert!(matches!(&refused, ClientError::Unavailable(why) if why.contains("restarted")), "{refused}");

        world.view.set(Mood::Honest);
        world.view.searches.close();
        let (status, answer) = post(path, good).await;
        assert_eq!(status, 504, "{answer}");
        let refused = client.search(&ask(1, "walnut")).await.unwrap_err();
        assert!(matches!(&refused, ClientError::Timeout(why) if why.contains("the index")), "{refused}");

        world.view.searches.open();
        world.view.set(Mood::Honest);
    })
    .await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_client_is_told_that_a_response_is_degraded(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    world.talk(HERE, &[(1, 1, 1, "walnut and oak"), (2, 2, 2, "both are fine")]).await;
    world.view.set(Mood::Away);
    served(&world, async |path| {
        let client = Client::connect(path, PATIENCE).await.unwrap().unwrap();
        let results = client.search(&ask(1, "walnut")).await.unwrap();
        assert!(results.degraded && results.reason.is_some_and(|reason| reason.contains("restarted")));
        assert_eq!(results.results[0].session_id, HERE.session(1));
    })
    .await;
}

#[tokio::test]
async fn connecting_without_a_server_returns_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Client::connect(&socket_path(folder.path()), PATIENCE).await.unwrap().is_none());
}
