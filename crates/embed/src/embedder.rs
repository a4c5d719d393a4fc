//! The interface of an embedding model.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_types::ModelSlug;

use crate::error::LoadError;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Text to store, with the tokens that the model reads of it, including its prefix and special tokens.
#[derive(Clone)]
pub struct Passage {
    /// Text without the model's prefix.
    pub text: String,
    /// Tokens as counted by [`Tokenizer::count`] and stored in [`Chunk::tokens`](crate::Chunk::tokens).
    pub tokens: usize,
}

/// Model that turns texts into vectors. Shared by all tasks of a process as `Arc<dyn Embedder>`.
pub trait Embedder: Send + Sync {
    /// Name of the model as used in collection names, including its precision.
    fn slug(&self) -> &ModelSlug;

    /// Length of every vector.
    fn dimensions(&self) -> usize;

    /// Tokenizer that counts tokens as the model does and knows its limit.
    fn tokenizer(&self) -> &Tokenizer;

    /// Embeds `texts` and returns one vector of Euclidean length one per text, in order.
    ///
    /// A text longer than the model's input is truncated, counted in [`truncated`](Self::truncated) and logged; chunks
    /// made by [`split`](crate::split) never are. The call waits while the model is busy. Dropping the future cancels
    /// batches that have not started.
    ///
    /// # Errors
    /// If the model fails on any of the texts: the call then returns no vectors. Other calls are not affected, so a
    /// caller finds the failing text by embedding the texts one by one, unless the error
    /// [`is_unavailable`](EmbedError::is_unavailable), which is not caused by a text.
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EmbedError>>;

    /// Embeds texts whose tokens are known, and fails if one call to the model takes longer than `limit`. Waiting in the
    /// queue does not count. An API has its own timeouts, so `limit` does not apply to it.
    ///
    /// A call that cannot be interrupted continues after the error and is reported by
    /// [`longest_call`](Self::longest_call).
    ///
    /// # Errors
    /// As [`embed`](Self::embed), and [`EmbedError::TimedOut`].
    fn embed_within(
        &self,
        passages: Vec<Passage>,
        limit: Duration,
    ) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EmbedError>> {
        let texts = passages.into_iter().map(|passage| passage.text).collect();
        let embedding = tokio::time::timeout(limit, self.embed(texts));
        async move { embedding.await.unwrap_or(Err(EmbedError::TimedOut(limit))) }.boxed()
    }

    /// Duration of the longest running call that cannot be interrupted, if there is one.
    fn longest_call(&self) -> Option<Duration> {
        None
    }

    /// Embeds a search query. Some models use another prefix for queries than for stored texts.
    ///
    /// # Errors
    /// As [`embed`](Self::embed).
    fn embed_query(&self, query: String) -> BoxFuture<'_, Result<Vec<f32>, EmbedError>> {
        async move { Ok(self.embed(vec![query]).await?.pop().unwrap_or_default()) }.boxed()
    }

    /// Number of texts truncated since the start.
    fn truncated(&self) -> u64;
}

/// Error of an embedding call.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The tokenizer failed on a text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model rejected the batch or failed on it.
    #[error("the embedding model failed: {0}")]
    Model(String),
    /// The model or the tokenizer panicked. The instance is loaded again for the next batch.
    #[error("the embedding model panicked")]
    Panicked,
    /// The instance had panicked and could not be loaded again. The next batch tries again.
    #[error("the embedding model could not be reloaded after a panic")]
    Reload(#[from] LoadError),
    /// One call to the model took too long; it may hang.
    #[error("the embedding model took more than {}s for one call", .0.as_secs_f32())]
    TimedOut(Duration),
    /// All threads of the model have ended.
    #[error("the embedding model has stopped")]
    Stopped,
    /// The API is unavailable or busy, or rejects every request because of a wrong key or another setting.
    #[error("the embedding API is unavailable: {reason}")]
    Unavailable {
        /// The API, its response, and the setting to check if one may be wrong.
        reason: String,
        /// Pause that the API requested.
        retry_after: Option<Duration>,
    },
}

impl EmbedError {
    /// Whether the error is not caused by a text: the caller waits and tries again without counting an attempt.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether a call took too long. Embedding the texts one by one may take as long for each.
    pub fn is_timed_out(&self) -> bool {
        matches!(self, Self::TimedOut(_))
    }
}
