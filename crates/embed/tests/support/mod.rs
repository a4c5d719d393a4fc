//! An OpenAI-compatible service on the loopback, of which a test says how it answers.

use std::future::Future;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_embed::BaseUrl;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    pub number: usize,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Asked {
    pub fn texts(&self) -> Vec<String> {
        self.body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }
}

type Answer = Arc<dyn Fn(Asked) -> BoxFuture<'static, Response> + Send + Sync>;

#[derive(Clone)]
struct Shared {
    answer: Answer,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// Serves until it is dropped.
pub struct Service {
    base_url: BaseUrl,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Service {
    pub async fn start<F, R>(answer: impl Fn(Asked) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = R> + Send + 'static,
        R: IntoResponse + 'static,
    {
        let answer: Answer = Arc::new(move |asked| answer(asked).map(IntoResponse::into_response).boxed());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared { answer, asked: asked.clone() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1/", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().route("/v1/embeddings", post(answer_one)).with_state(shared);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { base_url, asked, task }
    }

    pub fn base_url(&self) -> BaseUrl {
        self.base_url.clone()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer_one(State(shared): State<Shared>, headers: HeaderMap, body: String) -> Response {
    let asked = {
        let mut all = shared.asked.lock().unwrap();
        let asked = Asked { number: all.len(), headers, body: serde_json::from_str(&body).unwrap() };
        all.push(asked.clone());
        asked
    };
    (shared.answer)(asked).await
}

/// A vector of four numbers that tells its text from others, not of length one.
pub fn vector(text: &str) -> Vec<f32> {
    let sum = |step: usize| text.bytes().step_by(step).map(f32::from).sum::<f32>();
    vec![1.0 + text.len() as f32, sum(1), sum(2), sum(3)]
}

/// The answer that such a service gives: vectors by index, in whatever order.
pub fn answer(vectors: impl IntoIterator<Item = Vec<f32>>) -> Value {
    let data = vectors
        .into_iter()
        .enumerate()
        .map(|(index, embedding)| json!({"object": "embedding", "index": index, "embedding": embedding}));
    let mut data: Vec<Value> = data.collect();
    data.reverse();
    json!({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}})
}

/// The vectors of what was asked.
pub fn vectors(asked: &Asked) -> Response {
    axum::Json(answer(asked.texts().iter().map(|text| vector(text)))).into_response()
}

/// A refusal that repeats the texts, as some services do.
pub fn refusal(status: StatusCode, asked: &Asked) -> Response {
    let message = format!("cannot embed: {}", asked.texts().join(" "));
    let error =
        json!({"error": {"message": message, "type": "some_error", "param": asked.texts(), "code": message}});
    (status, axum::Json(error)).into_response()
}
