//! A model behind an API: requests, and the handling of each kind of response.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::future::ready;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{ApiRequest, TestApi, error_response, response_body, vector, vectors};
use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::response::{Html, IntoResponse, Response};
use futures::future::join_all;
use futures::poll;
use guildex_embed::{
    BaseUrl, EmbedError, Embedder, HttpConfig, HttpEmbedder, LoadError, LocalConfig, LocalEmbedder,
};
use serde_json::json;
use tokio::sync::{Barrier, Semaphore};

const KEY: &str = "sk-very-hidden";
const TEXT: &str = "confidential words";

fn config(base_url: BaseUrl) -> HttpConfig {
    HttpConfig {
        api_key: Some(KEY.into()),
        ..HttpConfig::new("some-model".parse().unwrap(), base_url, "provider/some-model".into(), 4)
    }
}

fn embedder(api: &TestApi) -> HttpEmbedder {
    HttpEmbedder::new(config(api.base_url())).unwrap()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

/// Normalized vector of a text.
fn unit(text: &str) -> Vec<f32> {
    let vector = vector(text);
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / length).collect()
}

fn assert_near(found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len());
        let furthest = found.iter().zip(expected).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(furthest <= tolerance, "{furthest}");
    }
}

/// Error of embedding the confidential text. Checks that neither text nor key are in it.
async fn failure(embedder: &HttpEmbedder) -> EmbedError {
    let error = embedder.embed(texts(&[TEXT])).await.unwrap_err();
    let print = format!("{error} {error:?} {:?}", std::error::Error::source(&error));
    assert!(!print.contains(KEY) && !print.contains("confidential"), "{print}");
    error
}

fn reason(error: &EmbedError) -> &str {
    match error {
        EmbedError::Unavailable { reason, .. } | EmbedError::Model(reason) => reason,
        _ => panic!("another error: {error:?}"),
    }
}

// Requests.

#[tokio::test]
async fn vectors_are_normalized_and_in_the_order_of_the_texts() {
    let api = TestApi::start(async |request| vectors(&request)).await;
    let texts =
        ["long ".repeat(50), "日本語 한국어".into(), "👩‍👩‍👧 \"\\ \u{0}\n".into(), "שלום".into(), "x".into()];
    let found = embedder(&api).embed(texts.to_vec()).await.unwrap();
    assert_near(&found, &texts.iter().map(|text| unit(text)).collect::<Vec<_>>(), 1e-6);

    let requests = api.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(requests[0].headers["content-type"], "application/json");
    let body = requests[0].body.as_object().unwrap();
    let keys: BTreeSet<&str> = body.keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["encoding_format", "input", "model"]));
    assert_eq!((&body["model"], &body["encoding_format"]), (&json!("provider/some-model"), &json!("float")));
}

#[tokio::test]
async fn dimensions_and_key_are_sent_as_configured() {
    let api = TestApi::start(async |request| vectors(&request)).await;
    let config = HttpConfig { api_key: None, send_dimensions: true, ..config(api.base_url()) };
    HttpEmbedder::new(config).unwrap().embed(texts(&["x"])).await.unwrap();
    let request = api.requests().remove(0);
    assert_eq!(request.body["dimensions"], 4);
    assert!(!request.headers.contains_key("authorization"));
}

#[tokio::test]
async fn requests_respect_both_limits() {
    let api = TestApi::start(async |request: ApiRequest| vectors(&request)).await;
    let config = HttpConfig { max_batch_texts: 5, max_batch_tokens: 60, ..config(api.base_url()) };
    let embedder = HttpEmbedder::new(config).unwrap();
    let long = (0..40).map(|n| format!("{n} {}", "word ".repeat(n * 7 % 45)));
    let all: Vec<String> = long.chain(vec!["short".to_owned(); 12]).collect();
    let found = embedder.embed(all.clone()).await.unwrap();
    assert_near(&found, &all.iter().map(|text| unit(text)).collect::<Vec<_>>(), 1e-6);

    let mut most = 0;
    for request in api.requests() {
        let texts = request.texts();
        let longest = texts.iter().map(|text| embedder.tokenizer().count(text).unwrap()).max().unwrap();
        assert!(texts.len() <= 5 && (texts.len() == 1 || texts.len() * longest <= 60), "{texts:?}");
        most = most.max(texts.len());
    }
    assert_eq!(most, 5, "requests were smaller than necessary");
}

#[tokio::test]
async fn requests_run_concurrently_up_to_the_limit() {
    let (pairs, under_way) = (Arc::new(Barrier::new(2)), Arc::new(AtomicUsize::new(0)));
    let api = TestApi::start({
        let under_way = under_way.clone();
        move |request| {
            let (pairs, under_way) = (pairs.clone(), under_way.clone());
            async move {
                assert!(under_way.fetch_add(1, Ordering::SeqCst) < 2);
                pairs.wait().await;
                under_way.fetch_sub(1, Ordering::SeqCst);
                vectors(&request)
            }
        }
    })
    .await;
    let config = HttpConfig { max_batch_texts: 1, concurrency: 2, ..config(api.base_url()) };
    let embedder = HttpEmbedder::new(config).unwrap();
    let calls = (0..4).map(|n| embedder.embed(vec![format!("{n}"), format!("and {n}")]));
    for (n, found) in join_all(calls).await.into_iter().enumerate() {
        assert_near(&found.unwrap(), &[unit(&format!("{n}")), unit(&format!("and {n}"))], 1e-6);
    }
    assert_eq!(api.requests().len(), 8);
}

#[tokio::test]
async fn no_texts_send_no_request() {
    let api = TestApi::start(async |request| vectors(&request)).await;
    assert!(embedder(&api).embed(vec![]).await.unwrap().is_empty());
    assert!(api.requests().is_empty());
}

#[tokio::test]
async fn prefixes_are_added_and_long_texts_truncated_and_counted() {
    let api = TestApi::start(async |request| vectors(&request)).await;
    let config = HttpConfig {
        max_tokens: 32,
        passage_prefix: "passage: ".into(),
        query_prefix: "query: ".into(),
        ..config(api.base_url())
    };
    let embedder = HttpEmbedder::new(config).unwrap();
    assert_near(&[embedder.embed_query("who?".into()).await.unwrap()], &[unit("query: who?")], 1e-6);
    embedder.embed(vec!["x ".repeat(500)]).await.unwrap();
    assert_eq!(embedder.truncated(), 1);
    let sent = api.requests().pop().unwrap().texts().remove(0);
    assert!(sent.starts_with("passage: x x"));
    assert_eq!(embedder.tokenizer().count(sent.strip_prefix("passage: ").unwrap()).unwrap(), 32);
}

#[tokio::test]
async fn a_dropped_caller_frees_its_slot() {
    let gate = Arc::new(Semaphore::new(0));
    let api = TestApi::start({
        let gate = gate.clone();
        move |request| {
            let gate = gate.clone();
            async move {
                if request.texts() == ["dropped"] {
                    gate.acquire().await.unwrap().forget();
                }
                vectors(&request)
            }
        }
    })
    .await;
    let embedder = HttpEmbedder::new(HttpConfig { concurrency: 1, ..config(api.base_url()) }).unwrap();
    let mut dropped = embedder.embed(texts(&["dropped"]));
    while api.requests().is_empty() {
        assert!(poll!(&mut dropped).is_pending());
        tokio::task::yield_now().await;
    }
    drop(dropped);
    assert_eq!(embedder.embed(texts(&["here"])).await.unwrap().len(), 1);
}

// Temporary errors.

/// API that rejects the first request and records the time of each.
async fn rejecting_first(
    reject: impl Fn() -> Response + Clone + Send + Sync + 'static,
) -> (TestApi, Arc<Mutex<Vec<(Instant, SystemTime)>>>) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let api = TestApi::start({
        let times = times.clone();
        move |request: ApiRequest| {
            times.lock().unwrap().push((Instant::now(), SystemTime::now()));
            let reject = reject.clone();
            async move { if request.number == 0 { reject() } else { vectors(&request) } }
        }
    })
    .await;
    (api, times)
}

#[tokio::test]
async fn no_request_is_sent_during_the_requested_pause() {
    let (api, times) =
        rejecting_first(|| (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")]).into_response()).await;
    // One at a time, so that the second request is not sent before the first response.
    let embedder = HttpEmbedder::new(HttpConfig { concurrency: 1, ..config(api.base_url()) }).unwrap();
    let (first, second) = tokio::join!(embedder.embed(texts(&["first"])), embedder.embed(texts(&["second"])));
    assert_eq!((first.unwrap().len(), second.unwrap().len()), (1, 1));
    let times = times.lock().unwrap();
    assert_eq!(times.len(), 3);
    for (at, _) in &times[1..] {
        assert!(*at - times[0].0 >= Duration::from_secs(1), "{:?}", *at - times[0].0);
    }
}

#[tokio::test]
async fn no_request_is_sent_before_the_requested_date() {
    let date = SystemTime::now() + Duration::from_secs(2);
    let named = httpdate::fmt_http_date(date);
    let (api, times) = rejecting_first({
        let named = named.clone();
        move || (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, named.clone())]).into_response()
    })
    .await;
    assert_eq!(embedder(&api).embed(texts(&["x"])).await.unwrap().len(), 1);
    assert!(times.lock().unwrap()[1].1 >= httpdate::parse_http_date(&named).unwrap());
}

#[tokio::test]
async fn a_pause_longer_than_the_retry_timeout_fails_every_caller_at_once() {
    let api = TestApi::start(async |_| (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "600")])).await;
    let embedder = embedder(&api);
    for _ in 0..2 {
        let error = failure(&embedder).await;
        assert!(error.is_unavailable(), "{error}");
        let EmbedError::Unavailable { retry_after: Some(pause), .. } = error else { panic!("{error}") };
        assert!(pause <= Duration::from_secs(600) && pause > Duration::from_secs(500), "{pause:?}");
    }
    assert_eq!(api.requests().len(), 1, "a request was sent during the pause");
}

#[tokio::test]
async fn temporary_errors_are_retried() {
    for status in [408, 429, 500, 502, 503, 504] {
        let (api, _) = rejecting_first(move || StatusCode::from_u16(status).unwrap().into_response()).await;
        assert_near(&embedder(&api).embed(texts(&["x"])).await.unwrap(), &[unit("x")], 1e-6);
        assert_eq!(api.requests().len(), 2, "after {status}");
    }
}

#[tokio::test]
async fn the_api_is_unavailable_after_the_last_retry() {
    let api = TestApi::start(async |request| error_response(StatusCode::SERVICE_UNAVAILABLE, &request)).await;
    let embedder = HttpEmbedder::new(HttpConfig { max_retries: 2, ..config(api.base_url()) }).unwrap();
    let error = failure(&embedder).await;
    assert!(error.is_unavailable() && reason(&error).contains("503 (some_error)"), "{error}");
    assert!(reason(&error).contains("/v1"), "the API is not named: {error}");
    assert_eq!(api.requests().len(), 3);
}

#[tokio::test]
async fn the_retry_timeout_ends_retries() {
    let api = TestApi::start(async |_| StatusCode::BAD_GATEWAY).await;
    let config = HttpConfig { retry_timeout: Duration::from_millis(1), ..config(api.base_url()) };
    assert!(failure(&HttpEmbedder::new(config).unwrap()).await.is_unavailable());
    assert_eq!(api.requests().len(), 1);
}

#[tokio::test]
async fn a_refused_connection_is_unavailable() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for scheme in ["http", "https"] {
        let base_url = format!("{scheme}://{closed}/v1").parse().unwrap();
        let embedder = HttpEmbedder::new(HttpConfig { max_retries: 1, ..config(base_url) }).unwrap();
        let error = failure(&embedder).await;
        assert!(error.is_unavailable() && reason(&error).to_lowercase().contains("connect"), "{error}");
    }
}

#[tokio::test]
async fn a_failed_tls_handshake_is_unavailable() {
    let api = TestApi::start(async |request| vectors(&request)).await;
    let base_url = api.base_url().to_string().replace("http://", "https://").parse().unwrap();
    let embedder = HttpEmbedder::new(HttpConfig { max_retries: 0, ..config(base_url) }).unwrap();
    assert!(failure(&embedder).await.is_unavailable());
    assert!(api.requests().is_empty());
}

#[tokio::test]
async fn a_slow_api_is_unavailable() {
    let api = TestApi::start(async |_| std::future::pending::<Response>().await).await;
    let config = HttpConfig { timeout: Duration::from_millis(100), max_retries: 1, ..config(api.base_url()) };
    let error = failure(&HttpEmbedder::new(config).unwrap()).await;
    assert!(error.is_unavailable() && reason(&error).contains("no response within 100ms"), "{error}");
    assert_eq!(api.requests().len(), 2);
}

/// API that closes the first `broken` connections in the middle of a response. Ends with the process.
fn closing_early(broken: usize) -> (BaseUrl, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    thread::spawn(move || {
        let body = response_body([vector(TEXT)]).to_string();
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
        let whole = format!("{head} {}\r\n\r\n{body}", body.len());
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = vec![0; 16];
            connection.read_exact(&mut request).unwrap();
            if count.fetch_add(1, Ordering::SeqCst) < broken {
                // Unread data turns this into a reset.
                connection.write_all(&whole.as_bytes()[..whole.len() / 2]).unwrap();
                continue;
            }
            while !request.ends_with(b"}") {
                let mut more = [0; 1024];
                let read = connection.read(&mut more).unwrap();
                request.extend(&more[..read]);
            }
            connection.write_all(whole.as_bytes()).unwrap();
        }
    });
    (base_url, connections)
}

#[tokio::test]
async fn a_truncated_response_is_retried() {
    let (base_url, connections) = closing_early(1);
    let embedder = HttpEmbedder::new(config(base_url)).unwrap();
    assert_near(&embedder.embed(texts(&[TEXT])).await.unwrap(), &[unit(TEXT)], 1e-6);
    assert!(connections.load(Ordering::SeqCst) >= 2);

    let (base_url, _) = closing_early(usize::MAX);
    let embedder = HttpEmbedder::new(HttpConfig { max_retries: 1, ..config(base_url) }).unwrap();
    assert!(failure(&embedder).await.is_unavailable());
}

// Permanent errors.

#[tokio::test]
async fn configuration_errors_are_not_retried_and_name_the_setting() {
    for (status, setting) in
        [(401, "api_key"), (403, "api_key"), (402, "base_url"), (404, "model"), (405, "base_url")]
    {
        let status = StatusCode::from_u16(status).unwrap();
        let api = TestApi::start(move |request| ready(error_response(status, &request))).await;
        let error = failure(&embedder(&api)).await;
        assert!(error.is_unavailable(), "{error}");
        assert!(reason(&error).contains(&format!("{} (some_error): check", status.as_u16())), "{error}");
        assert!(reason(&error).contains(setting), "{error}");
        assert_eq!(api.requests().len(), 1, "{status} was retried");
    }
}

#[tokio::test]
async fn the_key_is_not_sent_to_a_redirect_target() {
    let other = TestApi::start(async |request| vectors(&request)).await;
    let target = format!("{}/embeddings", other.base_url());
    let api = TestApi::start(move |_| {
        let target = target.clone();
        async move { (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, target)]) }
    })
    .await;
    let error = failure(&embedder(&api)).await;
    assert!(error.is_unavailable() && reason(&error).contains("307: check base_url"), "{error}");
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_rejected_text_does_not_affect_others() {
    for status in [400, 413, 422, 424, 500] {
        let status = StatusCode::from_u16(status).unwrap();
        let api = TestApi::start(move |request: ApiRequest| {
            let poison = request.texts().iter().any(|text| text == TEXT);
            ready(if poison { error_response(status, &request) } else { vectors(&request) })
        })
        .await;
        let embedder = HttpEmbedder::new(HttpConfig { max_retries: 1, ..config(api.base_url()) }).unwrap();
        let error = failure(&embedder).await;
        assert!(matches!(error, EmbedError::Model(_)) && !error.is_unavailable(), "{error}");
        assert_eq!(reason(&error), format!("status {} (some_error)", status.as_u16()));
        assert_eq!(embedder.embed(texts(&["another"])).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn an_api_that_rejects_every_text_is_unavailable() {
    for status in [400, 422, 500] {
        let status = StatusCode::from_u16(status).unwrap();
        let api = TestApi::start(move |request| ready(error_response(status, &request))).await;
        let embedder = HttpEmbedder::new(HttpConfig { max_retries: 1, ..config(api.base_url()) }).unwrap();
        assert!(failure(&embedder).await.is_unavailable());
        assert!(api.requests().last().unwrap().texts() != [TEXT], "no test text was sent");
    }
}

#[tokio::test]
async fn unusable_vectors_are_caused_by_the_texts() {
    let item = |index: usize, embedding: &str| format!(r#"{{"index":{index},"embedding":{embedding}}}"#);
    let cases = [
        vec![],
        vec![item(0, "[1,2,3,4]"), item(1, "[1,2,3,4]")],
        vec![item(1, "[1,2,3,4]")],
        vec![item(0, "[1,2,3,NaN]")],
        vec![item(0, "[1,2,3,null]")],
        vec![item(0, "[1,2,3,1e39]")],
        vec![item(0, "[0,0,0,0]")],
        vec![item(0, r#""confidential""#)],
    ];
    for data in cases {
        let body = format!(r#"{{"data":[{}]}}"#, data.join(","));
        let api = TestApi::start({
            let body = body.clone();
            move |_| {
                let body = body.clone();
                async move { ([("content-type", "application/json")], body) }
            }
        })
        .await;
        let error = failure(&embedder(&api)).await;
        assert!(matches!(error, EmbedError::Model(_)), "{body}: {error:?}");
        assert_eq!(api.requests().len(), 1);
    }
}

#[tokio::test]
async fn wrong_dimensions_and_web_pages_are_configuration_errors() {
    let api = TestApi::start(async |_| Json(response_body([vec![1.0; 3]]))).await;
    let error = failure(&embedder(&api)).await;
    assert!(error.is_unavailable(), "{error}");
    assert!(reason(&error).contains("3 dimensions, not the configured 4"), "{error}");

    let api = TestApi::start(async |_| Html("<p>confidential</p>")).await;
    let error = failure(&embedder(&api)).await;
    assert!(error.is_unavailable() && reason(&error).contains("not JSON: check base_url"), "{error}");
}

#[tokio::test]
async fn a_response_over_the_limit_is_not_read() {
    let api = TestApi::start(async |_| "[1".repeat(1 << 20)).await;
    let embedder = HttpEmbedder::new(HttpConfig { max_retries: 0, ..config(api.base_url()) }).unwrap();
    let error = failure(&embedder).await;
    assert!(error.is_unavailable() && reason(&error).contains("longer than"), "{error}");
}

// Configuration.

#[test]
fn invalid_settings_are_rejected() {
    let config = || config("https://a.example/v1".parse().unwrap());
    let rejected = |config| HttpEmbedder::new(config).err().unwrap();
    let error = rejected(HttpConfig { api_key: Some("a\nb".into()), ..config() }).to_string();
    assert!(error.starts_with("api_key of the model contains characters"), "{error}");
    let error = rejected(HttpConfig { dimensions: 0, ..config() });
    assert!(matches!(error, LoadError::Setting { setting: "dimensions", .. }), "{error}");
    let error = rejected(HttpConfig { max_tokens: 31, ..config() });
    assert!(matches!(error, LoadError::Tokenizer(_)), "{error}");
    let error = rejected(HttpConfig { passage_prefix: "x ".repeat(400), ..config() });
    assert!(matches!(error, LoadError::Tokenizer(_)), "{error}");
    let error = rejected(HttpConfig { tokenizer: Some("/no/such/tokenizer.json".into()), ..config() });
    assert!(error.to_string().contains("/no/such/tokenizer.json"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokenizer.json");
    std::fs::write(&file, "{}").unwrap();
    let error = rejected(HttpConfig { tokenizer: Some(file), ..config() });
    assert!(matches!(error, LoadError::TokenizerFile { .. }), "{error}");
}

// The real model behind an API.

fn variable(name: &str) -> PathBuf {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run scripts/test")).into()
}

#[tokio::test]
async fn the_local_model_gives_the_same_vectors_behind_an_api() {
    let local = LocalEmbedder::load(LocalConfig {
        source: Some(variable("GUILDEX_MODEL_DIR")).into(),
        onnx_runtime: Some(variable("ORT_DYLIB_PATH")),
        instances: 1,
        ..LocalConfig::new("all-minilm-l6-v2-fp32".parse().unwrap())
    });
    let local = Arc::new(local.unwrap());
    let api = TestApi::start({
        let local = local.clone();
        move |request: ApiRequest| {
            let local = local.clone();
            async move { Json(response_body(local.embed(request.texts()).await.unwrap())) }
        }
    })
    .await;
    let served = HttpEmbedder::new(HttpConfig {
        dimensions: local.dimensions(),
        max_tokens: local.tokenizer().max_tokens(),
        tokenizer: Some(variable("GUILDEX_MODEL_DIR").join("tokenizer.json")),
        max_batch_texts: 7,
        ..config(api.base_url())
    })
    .unwrap();

    let mut all: Vec<String> =
        (0..30).map(|n| format!("text {n} {}", "about the weather ".repeat(n % 8))).collect();
    all.extend(texts(&["日本語", "👩‍👩‍👧", "café"]));
    all.push("beyond the window ".repeat(200));
    assert_near(&served.embed(all.clone()).await.unwrap(), &local.embed(all.clone()).await.unwrap(), 1e-6);
    assert_eq!((served.truncated(), local.truncated()), (1, 1));
    for text in &all {
        assert_eq!(served.tokenizer().count(text).unwrap(), local.tokenizer().count(text).unwrap());
    }
    let question = "how is the weather?".to_owned();
    let (served, expected) = (served.embed_query(question.clone()).await, local.embed_query(question).await);
    assert_near(&[served.unwrap()], &[expected.unwrap()], 1e-6);
}
