//! Neither key nor texts are logged, at any level and by any crate. In a binary of its own because a process has one logger.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "integration/support/mod.rs"]
mod support;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use guildex_embed::{Embedder, HttpConfig, HttpEmbedder};
use support::{ApiRequest, TestApi, error_response, vectors};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt;

const KEY: &str = "sk-very-hidden";
const TEXT: &str = "confidential words";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_key_nor_texts_are_logged() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(move || writer.clone());
    subscriber.finish().init();

    let api = TestApi::start(async |request: ApiRequest| match request.number {
        0 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        1 => vectors(&request),
        2 => error_response(StatusCode::BAD_REQUEST, &request),
        _ => error_response(StatusCode::UNAUTHORIZED, &request),
    })
    .await;
    let config = HttpConfig {
        api_key: Some(KEY.into()),
        max_tokens: 32,
        ..HttpConfig::new("some-model".parse().unwrap(), api.base_url(), "m".into(), 4)
    };
    let embedder = HttpEmbedder::new(config).unwrap();
    embedder.embed(vec![TEXT.repeat(10)]).await.unwrap();
    embedder.embed(vec![TEXT.into()]).await.unwrap_err();
    embedder.embed_query(TEXT.into()).await.unwrap_err();
    assert!(api.requests().iter().all(|request| request.headers["authorization"] == format!("Bearer {KEY}")));
    assert!(api.requests().len() >= 4);

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for expected in
        ["retrying embeddings request", "texts longer than the model's input were truncated", "DEBUG"]
    {
        assert!(log.contains(expected), "{expected} is not in the log:\n{log}");
    }
    assert!(!log.contains(KEY) && !log.contains("confidential"), "{log}");
}
