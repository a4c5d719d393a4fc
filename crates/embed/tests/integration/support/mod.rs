//! Local OpenAI-compatible API whose responses a test defines.

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

/// Received request.
#[derive(Clone, Debug)]
pub struct ApiRequest {
    pub number: usize,
    pub headers: HeaderMap,
    pub body: Value,
}

impl ApiRequest {
    pub fn texts(&self) -> Vec<String> {
        self.body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }
}

type Handler = Arc<dyn Fn(ApiRequest) -> BoxFuture<'static, Response> + Send + Sync>;

#[derive(Clone)]
struct Shared {
    handler: Handler,
    requests: Arc<Mutex<Vec<ApiRequest>>>,
}

/// Serves until dropped.
pub struct TestApi {
    base_url: BaseUrl,
    requests: Arc<Mutex<Vec<ApiRequest>>>,
    task: JoinHandle<()>,
}

impl TestApi {
    pub async fn start<F, R>(respond: impl Fn(ApiRequest) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = R> + Send + 'static,
        R: IntoResponse + 'static,
    {
        let handler: Handler =
            Arc::new(move |request| respond(request).map(IntoResponse::into_response).boxed());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared { handler, requests: requests.clone() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1/", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().route("/v1/embeddings", post(handle)).with_state(shared);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { base_url, requests, task }
    }

    pub fn base_url(&self) -> BaseUrl {
        self.base_url.clone()
    }

    pub fn requests(&self) -> Vec<ApiRequest> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for TestApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn handle(State(shared): State<Shared>, headers: HeaderMap, body: String) -> Response {
    let request = {
        let mut all = shared.requests.lock().unwrap();
        let request = ApiRequest { number: all.len(), headers, body: serde_json::from_str(&body).unwrap() };
        all.push(request.clone());
        request
    };
    (shared.handler)(request).await
}

/// Vector of four numbers that identifies its text; not of length one.
pub fn vector(text: &str) -> Vec<f32> {
    let sum = |step: usize| text.bytes().step_by(step).map(f32::from).sum::<f32>();
    vec![1.0 + text.len() as f32, sum(1), sum(2), sum(3)]
}

/// Response with vectors by index, in reverse order.
pub fn response_body(vectors: impl IntoIterator<Item = Vec<f32>>) -> Value {
    let data = vectors
        .into_iter()
        .enumerate()
        .map(|(index, embedding)| json!({"object": "embedding", "index": index, "embedding": embedding}));
    let mut data: Vec<Value> = data.collect();
    data.reverse();
    json!({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}})
}

/// Response with the vectors of a request.
pub fn vectors(request: &ApiRequest) -> Response {
    axum::Json(response_body(request.texts().iter().map(|text| vector(text)))).into_response()
}

/// Error response that repeats the texts, as some APIs do.
pub fn error_response(status: StatusCode, request: &ApiRequest) -> Response {
    let message = format!("cannot embed: {}", request.texts().join(" "));
    let error = json!({"error": {"message": message, "type": "some_error", "param": request.texts(), "code": message}});
    (status, axum::Json(error)).into_response()
}
