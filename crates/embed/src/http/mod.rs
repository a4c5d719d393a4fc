//! A model behind an OpenAI-compatible service.

mod answer;
mod client;
mod config;
mod failure;

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use guildex_types::ModelSlug;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use self::client::Client;
pub use self::config::{BaseUrl, HttpConfig, UrlError};
use self::failure::{Failure, Kind};
use crate::batch::plan;
use crate::embedder::{EmbedError, Embedder, Passage};
use crate::error::LoadError;
use crate::reader::{Measured, Reader};
use crate::tokenizer::{self, Tokenizer};

/// The pause before the first retry; each further one is up to twice as long, at random.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between tries, unless the service asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// More patience than this is as good as any.
const LONGEST_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// A text that no service can object to: where it is refused too, the fault is not with the texts.
const TRIAL: &str = "a trial";
/// The most bytes of an answer: a number of a vector takes about 20.
const BYTES_A_NUMBER: usize = 32;
/// Vectors longer than configured are still read, so that the error can say so.
const NUMBERS_A_VECTOR: usize = 8192;
/// Room in an answer for all that is not numbers.
const BYTES_BESIDES: usize = 64 * 1024;

/// A model that a service runs, asked with `POST {base_url}/embeddings`.
///
/// What the service cannot do now ([`EmbedError::is_unavailable`]) is told apart from what it cannot do with these texts.
/// Where its answer leaves that open (400, 413, 422, 424, 500), it is asked about a harmless text: if it embeds
/// that, the texts are at fault.
///
/// Redirections are not followed, lest the key go elsewhere. Proxies of the environment (`HTTPS_PROXY`) are not used.
pub struct HttpEmbedder {
    config: HttpConfig,
    client: Client,
    reader: Reader,
    /// One for each request at a time.
    slots: Semaphore,
    /// Until when the service wants to be left alone, by whomever.
    quiet_until: watch::Sender<Instant>,
}

#[derive(Serialize)]
struct Question<'t> {
    model: &'t str,
    input: &'t [String],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

type Vectors = Vec<Vec<f32>>;

impl HttpEmbedder {
    /// Makes a client; nothing is asked yet, so that a service that is away does not keep a process from starting.
    /// Reads the tokenizer, where there is one, which may take a second.
    ///
    /// # Errors
    /// If a setting cannot be, or the tokenizer cannot be read.
    pub fn new(config: HttpConfig) -> Result<Self, LoadError> {
        config.check()?;
        let tokenizer = match &config.tokenizer {
            Some(path) => tokenizer::read(path, config.window)?,
            None => Tokenizer::approximate(config.window)?,
        };
        Ok(Self {
            client: Client::new(&config)?,
            reader: Reader::new(tokenizer, config.passage_prefix.clone(), config.query_prefix.clone())?,
            slots: Semaphore::new(config.concurrency.min(Semaphore::MAX_PERMITS)),
            quiet_until: watch::Sender::new(Instant::now()),
            config,
        })
    }

    async fn run(&self, measured: Measured) -> Result<Vectors, EmbedError> {
        let Measured { texts, tokens } = measured;
        let batches = plan(&tokens, self.config.max_batch_tokens);
        let batches = batches.iter().flat_map(|batch| batch.chunks(self.config.max_batch_texts));
        let work = batches.map(|batch| {
            let texts: Vec<String> = batch.iter().filter_map(|&index| texts.get(index).cloned()).collect();
            async move {
                let vectors = self.request(&texts).await?;
                Ok::<_, EmbedError>(batch.iter().copied().zip(vectors).collect::<Vec<_>>())
            }
        });
        let work: Vec<_> = work.collect();
        tracing::debug!(texts = texts.len(), requests = work.len(), "embedding");
        let mut vectors = stream::iter(work).buffer_unordered(self.config.concurrency).try_concat().await?;
        vectors.sort_unstable_by_key(|&(index, _)| index);
        Ok(vectors.into_iter().map(|(_, vector)| vector).collect())
    }

    /// One batch: asks again while that may help, and then tells whose fault it is.
    async fn request(&self, texts: &[String]) -> Result<Vectors, EmbedError> {
        let deadline = Instant::now() + self.config.patience.min(LONGEST_PATIENCE);
        let backoff = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_max_times(self.config.max_retries)
            .with_jitter();
        let asked = (|| self.ask(texts, deadline))
            .retry(backoff)
            .when(|failure| failure.kind.may_pass())
            .adjust(|failure, pause| {
                // Beyond what the service asks for, so that not all who wait come back at once.
                let pause = pause? + failure.retry_after.unwrap_or_default();
                (Instant::now() + pause < deadline).then_some(pause)
            })
            .notify(|failure, pause| {
                tracing::warn!(model = %self.config.slug, reason = failure.reason, ?pause, "asking for embeddings again");
            });
        let Failure { kind, reason, retry_after } = match asked.await {
            Ok(vectors) => return Ok(vectors),
            Err(failure) => failure,
        };
        let texts_at_fault = match kind {
            Kind::Away | Kind::Setting => false,
            Kind::Unusable => true,
            Kind::Broken | Kind::Refused => self.ask(&[TRIAL.to_owned()], deadline).await.is_ok(),
        };
        if texts_at_fault {
            return Err(EmbedError::Model(reason));
        }
        Err(EmbedError::Unavailable { reason: format!("{}: {reason}", self.config.base_url), retry_after })
    }

    /// One try.
    async fn ask(&self, texts: &[String], deadline: Instant) -> Result<Vectors, Failure> {
        let HttpConfig { model, dimensions, send_dimensions, .. } = &self.config;
        let question = Question {
            model,
            input: texts,
            encoding_format: "float",
            dimensions: send_dimensions.then_some(*dimensions),
        };
        let body =
            serde_json::to_vec(&question).map_err(|_| Failure::new(Kind::Unusable, "it cannot be asked"))?;
        let numbers = texts.len().saturating_mul(NUMBERS_A_VECTOR.max(*dimensions));
        let limit = numbers.saturating_mul(BYTES_A_NUMBER).saturating_add(BYTES_BESIDES);

        // Held while the service wants to be left alone, since nobody else may ask then either.
        let _slot = self.slots.acquire().await;
        self.keep_quiet(deadline).await?;
        let reply = self.client.post(body, limit).await.map_err(|reason| Failure::new(Kind::Away, reason))?;
        if reply.status.is_success() {
            return answer::vectors(&reply, texts.len(), *dimensions);
        }
        let failure = Failure::of(&reply);
        if let Some(pause) = failure.retry_after {
            let until = Instant::now() + pause;
            self.quiet_until.send_if_modified(|quiet| {
                let longer = until > *quiet;
                *quiet = until.max(*quiet);
                longer
            });
        }
        Err(failure)
    }

    /// Waits while the service wants to be left alone, if that ends before the deadline.
    async fn keep_quiet(&self, deadline: Instant) -> Result<(), Failure> {
        loop {
            let until = *self.quiet_until.borrow();
            let now = Instant::now();
            if until <= now {
                return Ok(());
            }
            if until >= deadline {
                let failure = Failure::new(Kind::Away, "it asked to be left alone");
                return Err(Failure { retry_after: Some(until - now), ..failure });
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
        self.reader.tokenizer()
    }

    /// Wants a tokio runtime. Dropping the future ends the requests under way.
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vectors, EmbedError>> {
        async move { self.run(self.reader.passages(texts).await?).await }.boxed()
    }

    /// Every request has its own limit, [`HttpConfig::timeout`], after which the service counts as away.
    fn embed_within(
        &self,
        passages: Vec<Passage>,
        _: Duration,
    ) -> BoxFuture<'_, Result<Vectors, EmbedError>> {
        async move { self.run(self.reader.counted(passages).await?).await }.boxed()
    }

    /// Wants a tokio runtime.
    fn embed_query(&self, question: String) -> BoxFuture<'_, Result<Vec<f32>, EmbedError>> {
        async move {
            let mut vectors = self.run(self.reader.question(question).await?).await?;
            Ok(vectors.pop().unwrap_or_default())
        }
        .boxed()
    }

    fn truncated(&self) -> u64 {
        self.reader.truncated()
    }
}
