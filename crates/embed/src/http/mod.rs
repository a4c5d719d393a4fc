//! A model behind an OpenAI-compatible API.

mod client;
mod config;
mod error;
mod response;

use std::time::Duration;

use backon::Retryable;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use guildex_types::{ModelSlug, RetryPolicy};
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use self::client::Client;
pub use self::config::{BaseUrl, HttpConfig, UrlError};
use self::error::{ErrorKind, RequestError};
use crate::batching::plan;
use crate::embedder::{EmbedError, Embedder, Passage};
use crate::encoder_input::{CountedTexts, InputPreparer};
use crate::error::LoadError;
use crate::tokenizer::Tokenizer;
use crate::tokenizer_file;

/// Delays between retries, in addition to a pause that the API requests.
const RETRY: RetryPolicy = RetryPolicy::new(Duration::from_millis(400), Duration::from_secs(10));
/// Upper bound of the retry timeout, so that deadlines do not overflow.
const MAX_RETRY_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// Text that no API objects to: if it is rejected too, the cause is not a text.
const TEST_TEXT: &str = "test";
/// Response bytes allowed per number of a vector; it takes about 20.
const BYTES_PER_NUMBER: usize = 32;
/// Longer vectors than configured are still read, so that the error can name their length.
const MIN_READ_DIMENSIONS: usize = 8192;
/// Response bytes allowed for everything other than numbers.
const EXTRA_RESPONSE_BYTES: usize = 64 * 1024;

/// Model behind an API, called with `POST {base_url}/embeddings`.
///
/// Errors distinguish an API that is unavailable ([`EmbedError::is_unavailable`]) from texts that it cannot embed. If the
/// response does not show which (400, 413, 422, 424, 500), the embedder sends a harmless text: if that succeeds, the texts are
/// the cause.
///
/// Does not follow redirects, which could send the key to another server, and does not use proxies of the environment
/// (`HTTPS_PROXY`).
pub struct HttpEmbedder {
    config: HttpConfig,
    client: Client,
    input: InputPreparer,
    /// Limits concurrent requests.
    slots: Semaphore,
    /// End of the pause that the API requested, shared by all callers.
    paused_until: watch::Sender<Instant>,
}

#[derive(Serialize)]
struct EmbeddingsRequest<'t> {
    model: &'t str,
    input: &'t [String],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

type Vectors = Vec<Vec<f32>>;

impl HttpEmbedder {
    /// Creates the client without sending a request, so that a process can start while the API is unavailable. Reads the
    /// tokenizer if one is configured, which may take a second.
    ///
    /// # Errors
    /// If a setting is invalid or the tokenizer cannot be read.
    pub fn new(config: HttpConfig) -> Result<Self, LoadError> {
        config.check()?;
        let tokenizer = match &config.tokenizer {
            Some(path) => tokenizer_file::read(path, config.max_tokens)?,
            None => Tokenizer::approximate(config.max_tokens)?,
        };
        Ok(Self {
            client: Client::new(&config)?,
            input: InputPreparer::new(tokenizer, config.passage_prefix.clone(), config.query_prefix.clone())?,
            slots: Semaphore::new(config.concurrency.min(Semaphore::MAX_PERMITS)),
            paused_until: watch::Sender::new(Instant::now()),
            config,
        })
    }

    async fn run(&self, input: CountedTexts) -> Result<Vectors, EmbedError> {
        let CountedTexts { texts, tokens } = input;
        let batches = plan(&tokens, self.config.max_batch_tokens);
        let batches = batches.iter().flat_map(|batch| batch.chunks(self.config.max_batch_texts));
        let requests = batches.map(|batch| {
            let texts: Vec<String> = batch.iter().filter_map(|&index| texts.get(index).cloned()).collect();
            async move {
                let vectors = self.request(&texts).await?;
                Ok::<_, EmbedError>(batch.iter().copied().zip(vectors).collect::<Vec<_>>())
            }
        });
        let requests: Vec<_> = requests.collect();
        tracing::debug!(texts = texts.len(), requests = requests.len(), "embedding texts");
        let mut vectors =
            stream::iter(requests).buffer_unordered(self.config.concurrency).try_concat().await?;
        vectors.sort_unstable_by_key(|&(index, _)| index);
        Ok(vectors.into_iter().map(|(_, vector)| vector).collect())
    }

    /// Embeds one batch with retries, then determines whether its texts are the cause of a failure.
    async fn request(&self, texts: &[String]) -> Result<Vectors, EmbedError> {
        let deadline = Instant::now() + self.config.retry_timeout.min(MAX_RETRY_TIMEOUT);
        let result = (|| self.attempt(texts, deadline))
            .retry(RETRY.delays().take(self.config.max_retries))
            .when(|error| error.kind.is_transient())
            .adjust(|error, delay| {
                // Added to the pause that the API requests, so that not all callers return at once.
                let delay = delay? + error.retry_after.unwrap_or_default();
                (Instant::now() + delay < deadline).then_some(delay)
            })
            .notify(|error, delay| {
                tracing::warn!(model = %self.config.slug, reason = error.reason, ?delay, "retrying embeddings request");
            });
        let RequestError { kind, reason, retry_after } = match result.await {
            Ok(vectors) => return Ok(vectors),
            Err(error) => error,
        };
        let caused_by_texts = match kind {
            ErrorKind::Unavailable | ErrorKind::Misconfigured => false,
            ErrorKind::InvalidResponse => true,
            ErrorKind::ServerError | ErrorKind::Rejected => {
                self.attempt(&[TEST_TEXT.to_owned()], deadline).await.is_ok()
            }
        };
        if caused_by_texts {
            return Err(EmbedError::Model(reason));
        }
        Err(EmbedError::Unavailable { reason: format!("{}: {reason}", self.config.base_url), retry_after })
    }

    /// Sends one request.
    async fn attempt(&self, texts: &[String], deadline: Instant) -> Result<Vectors, RequestError> {
        let HttpConfig { model, dimensions, send_dimensions, .. } = &self.config;
        let request = EmbeddingsRequest {
            model,
            input: texts,
            encoding_format: "float",
            dimensions: send_dimensions.then_some(*dimensions),
        };
        let body = serde_json::to_vec(&request).map_err(|_| {
            RequestError::new(ErrorKind::InvalidResponse, "the request cannot be written as JSON")
        })?;
        let numbers = texts.len().saturating_mul(MIN_READ_DIMENSIONS.max(*dimensions));
        let limit = numbers.saturating_mul(BYTES_PER_NUMBER).saturating_add(EXTRA_RESPONSE_BYTES);

        // Held during a pause, in which no other caller may send a request either.
        let _slot = self.slots.acquire().await;
        self.wait_for_pause(deadline).await?;
        let reply = self
            .client
            .post(body, limit)
            .await
            .map_err(|reason| RequestError::new(ErrorKind::Unavailable, reason))?;
        if reply.status.is_success() {
            return response::vectors(&reply, texts.len(), *dimensions);
        }
        let error = RequestError::from_response(&reply);
        if let Some(pause) = error.retry_after {
            let until = Instant::now() + pause;
            self.paused_until.send_if_modified(|paused_until| {
                let is_longer = until > *paused_until;
                *paused_until = until.max(*paused_until);
                is_longer
            });
        }
        Err(error)
    }

    /// Waits until the pause that the API requested is over; fails if that is after the deadline.
    async fn wait_for_pause(&self, deadline: Instant) -> Result<(), RequestError> {
        loop {
            let until = *self.paused_until.borrow();
            let now = Instant::now();
            if until <= now {
                return Ok(());
            }
            if until >= deadline {
                let error = RequestError::new(ErrorKind::Unavailable, "the API asked for a pause");
                return Err(RequestError { retry_after: Some(until - now), ..error });
            }
            sleep_until(until).await;
        }
    }
}

impl Embedder for HttpEmbedder {
    fn slug(&self) -> &ModelSlug {
        &self.config.slug
    }

    fn dimensions(&self) -> usize {
        self.config.dimensions
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.input.tokenizer()
    }

    /// Requires a tokio runtime. Dropping the future aborts running requests.
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vectors, EmbedError>> {
        async move { self.run(self.input.passages(texts).await?).await }.boxed()
    }

    /// Ignores the limit: every request has its own timeout, [`HttpConfig::timeout`], after which the API counts as
    /// unavailable.
    fn embed_within(
        &self,
        passages: Vec<Passage>,
        _: Duration,
    ) -> BoxFuture<'_, Result<Vectors, EmbedError>> {
        async move { self.run(self.input.counted(passages).await?).await }.boxed()
    }

    /// Requires a tokio runtime.
    fn embed_query(&self, query: String) -> BoxFuture<'_, Result<Vec<f32>, EmbedError>> {
        async move {
            let mut vectors = self.run(self.input.query(query).await?).await?;
            Ok(vectors.pop().unwrap_or_default())
        }
        .boxed()
    }

    fn truncated(&self) -> u64 {
        self.input.truncated()
    }
}
