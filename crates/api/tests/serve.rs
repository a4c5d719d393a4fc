//! Search over the socket: statuses, bodies and the client's errors.

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
use support::{HERE, IndexBehavior, TEST_TIMEOUT, World, search_request};
use tokio_util::sync::CancellationToken;

/// Serves the searches of a world while a test runs.
async fn with_server(world: &World, test: impl AsyncFnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = socket_path(folder.path());
    let stop = CancellationToken::new();
    let serving = tokio::spawn({
        let (path, searcher, stop) = (path.clone(), world.searcher(), stop.clone());
        let verifier = Verifier {
            ingest: Ingest::new(world.pool.clone(), IngestConfig::default()),
            index: world.index.clone(),
            prefix: "test".to_owned(),
        };
        async move { serve(&path, searcher, verifier, stop).await }
    });
    let bound = async {
        while !path.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, bound).await.expect("a socket");
    test(&path).await;
    stop.cancel();
    serving.await.unwrap().unwrap();
    assert!(!path.exists(), "the socket was not removed");
}

async fn post(path: &Path, body: String) -> (u16, Value) {
    guildex_types::tls::ensure_provider();
    let client = reqwest::Client::builder().unix_socket(path).build().unwrap();
    let request = client.post("http://guildex/search").header("content-type", "application/json").body(body);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_request_body_with_every_parameter_is_searched(pool: PgPool) {
    let world = World::new(pool).await;
    world.store_and_index(HERE, &[(1, 1, 1, "walnut and oak"), (2, 2, 2, "both are fine")]).await;
    with_server(&world, async |path| {
        let body = json!({
            "guild_id": "1", "query": "walnut", "channels": ["9"], "authors": ["2"], "mode": "hybrid",
            "since": "1970-01-01T00:00:00Z", "until": "1970-01-02T00:00:00+02:00", "min_score": 0.001,
            "limit": 3, "offset": 0, "surrounding": 2, "model": "letters",
        });
        let (status, response) = post(path, body.to_string()).await;
        assert_eq!(
            (status, &response["degraded"], &response["model"]),
            (200, &json!(false), &json!("letters"))
        );
        let hit = &response["results"][0];
        assert_eq!(hit["session_id"], HERE.session(1).to_string());
        assert_eq!(hit["chunk"]["number"], 0);
        assert_eq!(hit["chunk"]["message_ids"], json!(["1", "2"]));
        assert_eq!(hit["surrounding"], json!({"before": [], "after": []}));
        assert_eq!(hit["preview"], "author 1: walnut and oak\nauthor 2: both are fine");
    })
    .await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn each_kind_of_error_has_its_status_and_a_reason(pool: PgPool) {
    let mut world = World::new(pool).await;
    world.store_and_index(HERE, &[(1, 1, 1, "walnut and oak"), (2, 2, 2, "both are fine")]).await;
    world.config.timeout = Duration::from_millis(300);
    let good = json!({"guild_id": "1", "query": "walnut"}).to_string();
    with_server(&world, async |path| {
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
            let (status, response) = post(path, body).await;
            assert_eq!(status, 422, "{response}");
            assert!(response["error"].as_str().unwrap().contains(reason), "{response}");
        }
        let error = client.search(&SearchRequest { limit: 0, ..search_request(1, "x") }).await.unwrap_err();
        assert!(matches!(error, ClientError::Request(_)), "{error}");

        world.index.set_behavior(IndexBehavior::Unavailable);
        let (status, response) = post(path, good.clone()).await;
        assert_eq!(status, 503, "{response}");
        let error = client.search(&search_request(1, "walnut")).await.unwrap_err();
        assert!(matches!(&error, ClientError::Unavailable(why) if why.contains("restarted")), "{error}");

        world.index.set_behavior(IndexBehavior::Normal);
        world.index.searches.close();
        let (status, response) = post(path, good).await;
        assert_eq!(status, 504, "{response}");
        let error = client.search(&search_request(1, "walnut")).await.unwrap_err();
        assert!(matches!(&error, ClientError::Timeout(why) if why.contains("the index")), "{error}");

        world.index.searches.open();
        world.index.set_behavior(IndexBehavior::Normal);
    })
    .await;
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_degraded_response_reaches_the_client(pool: PgPool) {
    let world = World::new(pool).await.with_fallback();
    world.store_and_index(HERE, &[(1, 1, 1, "walnut and oak"), (2, 2, 2, "both are fine")]).await;
    world.index.set_behavior(IndexBehavior::Unavailable);
    with_server(&world, async |path| {
        let client = Client::connect(path, TEST_TIMEOUT).await.unwrap().unwrap();
        let results = client.search(&search_request(1, "walnut")).await.unwrap();
        assert!(results.degraded && results.reason.is_some_and(|reason| reason.contains("restarted")));
        assert_eq!(results.results[0].session_id, HERE.session(1));
    })
    .await;
}

#[tokio::test]
async fn connecting_without_a_server_returns_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Client::connect(&socket_path(folder.path()), TEST_TIMEOUT).await.unwrap().is_none());
}
