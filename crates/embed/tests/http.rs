//! A model behind HTTP: what is asked, and what becomes of each kind of answer.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::future::ready;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

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
use support::{Asked, Service, answer, refusal, vector, vectors};
use tokio::sync::{Barrier, Semaphore};

const KEY: &str = "sk-very-hidden";
const TEXT: &str = "confidential words";

fn config(base_url: BaseUrl) -> HttpConfig {
    HttpConfig {
        api_key: Some(KEY.into()),
        ..HttpConfig::new("some-model".parse().unwrap(), base_url, "provider/some-model".into(), 4)
    }
}

fn embedder(service: &Service) -> HttpEmbedder {
    HttpEmbedder::new(config(service.base_url())).unwrap()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

/// The service's vector for a text, of length one.
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

/// The error of embedding the confidential text; neither that nor the key is in it.
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

// What is asked.

#[tokio::test]
async fn vectors_come_in_the_order_of_the_texts_and_of_length_one() {
    let service = Service::start(async |asked| vectors(&asked)).await;
    let asked =
        ["long ".repeat(50), "日本語 한국어".into(), "👩‍👩‍👧 \"\\ \u{0}\n".into(), "שלום".into(), "x".into()];
    let found = embedder(&service).embed(asked.to_vec()).await.unwrap();
    assert_near(&found, &asked.iter().map(|text| unit(text)).collect::<Vec<_>>(), 1e-6);

    let requests = service.asked();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(requests[0].headers["content-type"], "application/json");
    let body = requests[0].body.as_object().unwrap();
    let keys: BTreeSet<&str> = body.keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["encoding_format", "input", "model"]));
    assert_eq!((&body["model"], &body["encoding_format"]), (&json!("provider/some-model"), &json!("float")));
}

#[tokio::test]
async fn dimensions_are_asked_for_and_no_key_is_sent_where_so_configured() {
    let service = Service::start(async |asked| vectors(&asked)).await;
    let config = HttpConfig { api_key: None, send_dimensions: true, ..config(service.base_url()) };
    HttpEmbedder::new(config).unwrap().embed(texts(&["x"])).await.unwrap();
    let asked = service.asked().remove(0);
    assert_eq!(asked.body["dimensions"], 4);
    assert!(!asked.headers.contains_key("authorization"));
}

#[tokio::test]
async fn requests_stay_within_both_limits() {
    let service = Service::start(async |asked: Asked| vectors(&asked)).await;
    let config = HttpConfig { max_batch_texts: 5, max_batch_tokens: 60, ..config(service.base_url()) };
    let embedder = HttpEmbedder::new(config).unwrap();
    let long = (0..40).map(|n| format!("{n} {}", "word ".repeat(n * 7 % 45)));
    let all: Vec<String> = long.chain(vec!["short".to_owned(); 12]).collect();
    let found = embedder.embed(all.clone()).await.unwrap();
    assert_near(&found, &all.iter().map(|text| unit(text)).collect::<Vec<_>>(), 1e-6);

    let mut most = 0;
    for asked in service.asked() {
        let asked = asked.texts();
        let longest = asked.iter().map(|text| embedder.tokenizer().count(text).unwrap()).max().unwrap();
        assert!(asked.len() <= 5 && (asked.len() == 1 || asked.len() * longest <= 60), "{asked:?}");
        most = most.max(asked.len());
    }
    assert_eq!(most, 5, "the requests were smaller than they need be");
}

#[tokio::test]
async fn requests_run_side_by_side_but_no_more_than_allowed() {
    let (pairs, under_way) = (Arc::new(Barrier::new(2)), Arc::new(AtomicUsize::new(0)));
    let service = Service::start({
        let under_way = under_way.clone();
        move |asked| {
            let (pairs, under_way) = (pairs.clone(), under_way.clone());
            async move {
                assert!(under_way.fetch_add(1, Ordering::SeqCst) < 2);
                pairs.wait().await;
                under_way.fetch_sub(1, Ordering::SeqCst);
                vectors(&asked)
            }
        }
    })
    .await;
    let config = HttpConfig { max_batch_texts: 1, concurrency: 2, ..config(service.base_url()) };
    let embedder = HttpEmbedder::new(config).unwrap();
    let calls = (0..4).map(|n| embedder.embed(vec![format!("{n}"), format!("and {n}")]));
    for (n, found) in join_all(calls).await.into_iter().enumerate() {
        assert_near(&found.unwrap(), &[unit(&format!("{n}")), unit(&format!("and {n}"))], 1e-6);
    }
    assert_eq!(service.asked().len(), 8);
}

#[tokio::test]
async fn nothing_asks_nothing() {
    let service = Service::start(async |asked| vectors(&asked)).await;
    assert!(embedder(&service).embed(vec![]).await.unwrap().is_empty());
    assert!(service.asked().is_empty());
}

#[tokio::test]
async fn prefixes_go_before_texts_and_what_is_beyond_the_window_is_cut_and_counted() {
    let service = Service::start(async |asked| vectors(&asked)).await;
    let config = HttpConfig {
        max_tokens: 32,
        passage_prefix: "passage: ".into(),
        query_prefix: "query: ".into(),
        ..config(service.base_url())
    };
    let embedder = HttpEmbedder::new(config).unwrap();
    assert_near(&[embedder.embed_query("who?".into()).await.unwrap()], &[unit("query: who?")], 1e-6);
    embedder.embed(vec!["x ".repeat(500)]).await.unwrap();
    assert_eq!(embedder.truncated(), 1);
    let sent = service.asked().pop().unwrap().texts().remove(0);
    assert!(sent.starts_with("passage: x x"));
    assert_eq!(embedder.tokenizer().count(sent.strip_prefix("passage: ").unwrap()).unwrap(), 32);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_its_place_to_others() {
    let gate = Arc::new(Semaphore::new(0));
    let service = Service::start({
        let gate = gate.clone();
        move |asked| {
            let gate = gate.clone();
            async move {
                if asked.texts() == ["gone"] {
                    gate.acquire().await.unwrap().forget();
                }
                vectors(&asked)
            }
        }
    })
    .await;
    let embedder = HttpEmbedder::new(HttpConfig { concurrency: 1, ..config(service.base_url()) }).unwrap();
    let mut gone = embedder.embed(texts(&["gone"]));
    while service.asked().is_empty() {
        assert!(poll!(&mut gone).is_pending());
        tokio::task::yield_now().await;
    }
    drop(gone);
    assert_eq!(embedder.embed(texts(&["here"])).await.unwrap().len(), 1);
}

// What passes.

/// A service that refuses the first request of all and tells when each came.
async fn refusing_first(
    refuse: impl Fn() -> Response + Clone + Send + Sync + 'static,
) -> (Service, Arc<Mutex<Vec<(Instant, SystemTime)>>>) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let service = Service::start({
        let times = times.clone();
        move |asked: Asked| {
            times.lock().unwrap().push((Instant::now(), SystemTime::now()));
            let refuse = refuse.clone();
            async move { if asked.number == 0 { refuse() } else { vectors(&asked) } }
        }
    })
    .await;
    (service, times)
}

#[tokio::test]
async fn nobody_asks_before_the_seconds_are_over_that_the_service_wants() {
    let (service, times) =
        refusing_first(|| (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")]).into_response()).await;
    // One at a time, so that the second cannot be under way before the refusal is in.
    let embedder = HttpEmbedder::new(HttpConfig { concurrency: 1, ..config(service.base_url()) }).unwrap();
    let (first, second) = tokio::join!(embedder.embed(texts(&["first"])), embedder.embed(texts(&["second"])));
    assert_eq!((first.unwrap().len(), second.unwrap().len()), (1, 1));
    let times = times.lock().unwrap();
    assert_eq!(times.len(), 3);
    for (at, _) in &times[1..] {
        assert!(*at - times[0].0 >= Duration::from_secs(1), "{:?}", *at - times[0].0);
    }
}

#[tokio::test]
async fn nobody_asks_before_the_date_that_the_service_names() {
    let date = SystemTime::now() + Duration::from_secs(2);
    let named = httpdate::fmt_http_date(date);
    let (service, times) = refusing_first({
        let named = named.clone();
        move || (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, named.clone())]).into_response()
    })
    .await;
    assert_eq!(embedder(&service).embed(texts(&["x"])).await.unwrap().len(), 1);
    assert!(times.lock().unwrap()[1].1 >= httpdate::parse_http_date(&named).unwrap());
}

#[tokio::test]
async fn a_pause_beyond_patience_is_told_at_once_to_whoever_asks() {
    let service = Service::start(async |_| (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "600")])).await;
    let embedder = embedder(&service);
    for _ in 0..2 {
        let error = failure(&embedder).await;
        assert!(error.is_unavailable(), "{error}");
        let EmbedError::Unavailable { retry_after: Some(pause), .. } = error else { panic!("{error}") };
        assert!(pause <= Duration::from_secs(600) && pause > Duration::from_secs(500), "{pause:?}");
    }
    assert_eq!(service.asked().len(), 1, "it was asked again though it wanted to be left alone");
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    for status in [408, 429, 500, 502, 503, 504] {
        let (service, _) =
            refusing_first(move || StatusCode::from_u16(status).unwrap().into_response()).await;
        assert_near(&embedder(&service).embed(texts(&["x"])).await.unwrap(), &[unit("x")], 1e-6);
        assert_eq!(service.asked().len(), 2, "after {status}");
    }
}

#[tokio::test]
async fn what_does_not_pass_is_away_after_so_many_tries() {
    let service = Service::start(async |asked| refusal(StatusCode::SERVICE_UNAVAILABLE, &asked)).await;
    let embedder = HttpEmbedder::new(HttpConfig { max_retries: 2, ..config(service.base_url()) }).unwrap();
    let error = failure(&embedder).await;
    assert!(error.is_unavailable() && reason(&error).contains("503 (some_error)"), "{error}");
    assert!(reason(&error).contains("/v1"), "it does not say which service: {error}");
    assert_eq!(service.asked().len(), 3);
}

#[tokio::test]
async fn patience_ends_the_tries_too() {
    let service = Service::start(async |_| StatusCode::BAD_GATEWAY).await;
    let config = HttpConfig { retry_timeout: Duration::from_millis(1), ..config(service.base_url()) };
    assert!(failure(&HttpEmbedder::new(config).unwrap()).await.is_unavailable());
    assert_eq!(service.asked().len(), 1);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_away() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for scheme in ["http", "https"] {
        let base_url = format!("{scheme}://{closed}/v1").parse().unwrap();
        let embedder = HttpEmbedder::new(HttpConfig { max_retries: 1, ..config(base_url) }).unwrap();
        let error = failure(&embedder).await;
        assert!(error.is_unavailable() && reason(&error).to_lowercase().contains("connect"), "{error}");
    }
}

#[tokio::test]
async fn a_service_without_tls_is_away_for_who_wants_it() {
    let service = Service::start(async |asked| vectors(&asked)).await;
    let base_url = service.base_url().to_string().replace("http://", "https://").parse().unwrap();
    let embedder = HttpEmbedder::new(HttpConfig { max_retries: 0, ..config(base_url) }).unwrap();
    assert!(failure(&embedder).await.is_unavailable());
    assert!(service.asked().is_empty());
}

#[tokio::test]
async fn a_service_that_is_too_slow_is_away() {
    let service = Service::start(async |_| std::future::pending::<Response>().await).await;
    let config =
        HttpConfig { timeout: Duration::from_millis(100), max_retries: 1, ..config(service.base_url()) };
    let error = failure(&HttpEmbedder::new(config).unwrap()).await;
    assert!(error.is_unavailable() && reason(&error).contains("no response within 100ms"), "{error}");
    assert_eq!(service.asked().len(), 2);
}

/// Breaks the first `broken` connections off in the middle of an answer. Ends with the process.
fn breaking_off(broken: usize) -> (BaseUrl, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    thread::spawn(move || {
        let body = answer([vector(TEXT)]).to_string();
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
        let whole = format!("{head} {}\r\n\r\n{body}", body.len());
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = vec![0; 16];
            connection.read_exact(&mut request).unwrap();
            if count.fetch_add(1, Ordering::SeqCst) < broken {
                // What was not read makes this a reset.
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
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let (base_url, connections) = breaking_off(1);
    let embedder = HttpEmbedder::new(config(base_url)).unwrap();
    assert_near(&embedder.embed(texts(&[TEXT])).await.unwrap(), &[unit(TEXT)], 1e-6);
    assert!(connections.load(Ordering::SeqCst) >= 2);

    let (base_url, _) = breaking_off(usize::MAX);
    let embedder = HttpEmbedder::new(HttpConfig { max_retries: 1, ..config(base_url) }).unwrap();
    assert!(failure(&embedder).await.is_unavailable());
}

// What does not.

#[tokio::test]
async fn what_the_operator_has_to_mend_is_away_at_once_and_named() {
    for (status, setting) in
        [(401, "api_key"), (403, "api_key"), (402, "base_url"), (404, "model"), (405, "base_url")]
    {
        let status = StatusCode::from_u16(status).unwrap();
        let service = Service::start(move |asked| ready(refusal(status, &asked))).await;
        let error = failure(&embedder(&service)).await;
        assert!(error.is_unavailable(), "{error}");
        assert!(reason(&error).contains(&format!("{} (some_error): check", status.as_u16())), "{error}");
        assert!(reason(&error).contains(setting), "{error}");
        assert_eq!(service.asked().len(), 1, "{status} was tried again");
    }
}

#[tokio::test]
async fn the_key_does_not_follow_a_redirection() {
    let other = Service::start(async |asked| vectors(&asked)).await;
    let target = format!("{}/embeddings", other.base_url());
    let service = Service::start(move |_| {
        let target = target.clone();
        async move { (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, target)]) }
    })
    .await;
    let error = failure(&embedder(&service)).await;
    assert!(error.is_unavailable() && reason(&error).contains("307: check base_url"), "{error}");
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn a_text_that_is_refused_fails_alone() {
    for status in [400, 413, 422, 424, 500] {
        let status = StatusCode::from_u16(status).unwrap();
        let service = Service::start(move |asked: Asked| {
            let poison = asked.texts().iter().any(|text| text == TEXT);
            ready(if poison { refusal(status, &asked) } else { vectors(&asked) })
        })
        .await;
        let embedder =
            HttpEmbedder::new(HttpConfig { max_retries: 1, ..config(service.base_url()) }).unwrap();
        let error = failure(&embedder).await;
        assert!(matches!(error, EmbedError::Model(_)) && !error.is_unavailable(), "{error}");
        assert_eq!(reason(&error), format!("status {} (some_error)", status.as_u16()));
        assert_eq!(embedder.embed(texts(&["another"])).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_service_that_refuses_every_text_is_away() {
    for status in [400, 422, 500] {
        let status = StatusCode::from_u16(status).unwrap();
        let service = Service::start(move |asked| ready(refusal(status, &asked))).await;
        let embedder =
            HttpEmbedder::new(HttpConfig { max_retries: 1, ..config(service.base_url()) }).unwrap();
        assert!(failure(&embedder).await.is_unavailable());
        assert!(service.asked().last().unwrap().texts() != [TEXT], "no harmless text was tried");
    }
}

#[tokio::test]
async fn vectors_that_cannot_be_used_are_the_texts_fault() {
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
        let service = Service::start({
            let body = body.clone();
            move |_| {
                let body = body.clone();
                async move { ([("content-type", "application/json")], body) }
            }
        })
        .await;
        let error = failure(&embedder(&service)).await;
        assert!(matches!(error, EmbedError::Model(_)), "{body}: {error:?}");
        assert_eq!(service.asked().len(), 1);
    }
}

#[tokio::test]
async fn vectors_of_another_length_and_web_pages_are_the_operators_affair() {
    let service = Service::start(async |_| Json(answer([vec![1.0; 3]]))).await;
    let error = failure(&embedder(&service)).await;
    assert!(error.is_unavailable(), "{error}");
    assert!(reason(&error).contains("3 dimensions, not the configured 4"), "{error}");

    let service = Service::start(async |_| Html("<p>confidential</p>")).await;
    let error = failure(&embedder(&service)).await;
    assert!(error.is_unavailable() && reason(&error).contains("not JSON: check base_url"), "{error}");
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_the_end() {
    let service = Service::start(async |_| "[1".repeat(1 << 20)).await;
    let embedder = HttpEmbedder::new(HttpConfig { max_retries: 0, ..config(service.base_url()) }).unwrap();
    let error = failure(&embedder).await;
    assert!(error.is_unavailable() && reason(&error).contains("longer than"), "{error}");
}

// Configuration.

#[test]
fn settings_that_cannot_be_are_refused() {
    let config = || config("https://a.example/v1".parse().unwrap());
    let refusal = |config| HttpEmbedder::new(config).err().unwrap();
    let error = refusal(HttpConfig { api_key: Some("a\nb".into()), ..config() }).to_string();
    assert!(error.starts_with("api_key of the model has characters"), "{error}");
    let error = refusal(HttpConfig { dimensions: 0, ..config() });
    assert!(matches!(error, LoadError::Setting { setting: "dimensions", .. }), "{error}");
    let error = refusal(HttpConfig { max_tokens: 31, ..config() });
    assert!(matches!(error, LoadError::Tokenizer(_)), "{error}");
    let error = refusal(HttpConfig { passage_prefix: "x ".repeat(400), ..config() });
    assert!(matches!(error, LoadError::Tokenizer(_)), "{error}");
    let error = refusal(HttpConfig { tokenizer: Some("/no/such/tokenizer.json".into()), ..config() });
    assert!(error.to_string().contains("/no/such/tokenizer.json"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokenizer.json");
    std::fs::write(&file, "{}").unwrap();
    let error = refusal(HttpConfig { tokenizer: Some(file), ..config() });
    assert!(matches!(error, LoadError::TokenizerFile { .. }), "{error}");
}

// The real model, served.

fn variable(name: &str) -> PathBuf {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run scripts/test")).into()
}

#[tokio::test]
async fn the_local_model_gives_the_same_vectors_when_it_is_served() {
    let local = LocalEmbedder::load(LocalConfig {
        source: Some(variable("GUILDEX_MODEL_DIR")).into(),
        onnx_runtime: Some(variable("ORT_DYLIB_PATH")),
        instances: 1,
        ..LocalConfig::new("all-minilm-l6-v2-fp32".parse().unwrap())
    });
    let local = Arc::new(local.unwrap());
    let service = Service::start({
        let local = local.clone();
        move |asked: Asked| {
            let local = local.clone();
            async move { Json(answer(local.embed(asked.texts()).await.unwrap())) }
        }
    })
    .await;
    let served = HttpEmbedder::new(HttpConfig {
        dimensions: local.dimensions(),
        max_tokens: local.tokenizer().max_tokens(),
        tokenizer: Some(variable("GUILDEX_MODEL_DIR").join("tokenizer.json")),
        max_batch_texts: 7,
        ..config(service.base_url())
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
    let (asked, expected) = (served.embed_query(question.clone()).await, local.embed_query(question).await);
    assert_near(&[asked.unwrap()], &[expected.unwrap()], 1e-6);
}
