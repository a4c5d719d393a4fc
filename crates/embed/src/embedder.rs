//! What an embedding model is to the rest of the program.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use guildex_types::ModelSlug;

use crate::error::LoadError;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// A text to be stored, and how many tokens the model reads of it, its prefix and the special ones included.
#[derive(Clone)]
pub struct Passage {
    /// The text, without the model's prefix.
    pub text: String,
    /// As [`Tokenizer::count`] has it, and [`Chunk`](crate::Chunk)s know of themselves.
    pub tokens: usize,
}

/// A model that turns texts into vectors. Shared by all tasks of a process, usually as `Arc<dyn Embedder>`.
pub trait Embedder: Send + Sync {
    /// The model's name as it stands in collection names, its precision included.
    fn slug(&self) -> &ModelSlug;

    /// The length of every vector.
    fn dimensions(&self) -> usize;

    /// Counts tokens as the model does and knows its window.
    fn tokenizer(&self) -> &Tokenizer;

    /// Embeds `texts`: one vector a text, in the order given, each of length one in the Euclidean norm.
    ///
    /// A text beyond the window is cut there, counted in [`truncated`](Self::truncated) and logged; chunks made
    /// by [`split`](crate::split) never are. The call waits while the model is busy. Dropping the future takes
    /// back the work that has not begun.
    ///
    /// # Errors
    /// If the model fails on any of the texts: the call then gives no vectors at all. Other calls are not
    /// affected, so a caller finds the culprit by trying its texts one by one, unless the error
    /// [`is_unavailable`](EmbedError::is_unavailable): then no text is at fault.
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EmbedError>>;

    /// As [`embed`](Self::embed), for texts whose tokens are known already, but an error once the model has been at
    /// one call for longer than `limit`. Waiting for a turn does not count, nor does a service's time, which has
    /// bounds of its own.
    ///
    /// What cannot be interrupted goes on after the error, and shows in [`longest_call`](Self::longest_call).
    ///
    /// # Errors
    /// As [`embed`](Self::embed), and [`EmbedError::Overdue`].
    fn embed_within(
        &self,
        passages: Vec<Passage>,
        limit: Duration,
    ) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EmbedError>> {
        let texts = passages.into_iter().map(|passage| passage.text).collect();
        let embedding = tokio::time::timeout(limit, self.embed(texts));
        async move { embedding.await.unwrap_or(Err(EmbedError::Overdue(limit))) }.boxed()
    }

    /// For how long the model has been at the call that it has been at longest, of those that nobody can
    /// interrupt. None where there is no such call.
    fn longest_call(&self) -> Option<Duration> {
        None
    }

    /// Embeds a question, for a search among what [`embed`](Self::embed) made. Some models read the two
    /// differently.
    ///
    /// # Errors
    /// As [`embed`](Self::embed).
    fn embed_query(&self, question: String) -> BoxFuture<'_, Result<Vec<f32>, EmbedError>> {
        async move { Ok(self.embed(vec![question]).await?.pop().unwrap_or_default()) }.boxed()
    }

    /// How many texts were cut at the window since the start.
    fn truncated(&self) -> u64;
}

/// Why texts got no vectors.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The tokenizer could not read a text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model refused the batch or failed in it.
    #[error("the embedding model failed: {0}")]
    Model(String),
    /// The model or the tokenizer panicked. A panicked session is made anew for the next batch.
    #[error("the embedding model panicked")]
    Panicked,
    /// The session had panicked before and could not be made anew. The next batch tries again.
    #[error("the embedding model could not be loaded again after a panic")]
    Reload(#[from] LoadError),
    /// The model took too long for one call, as if it hung.
    #[error("the embedding model has been at one call for more than {}s", .0.as_secs_f32())]
    Overdue(Duration),
    /// All of the model's threads are gone.
    #[error("the embedding model has stopped")]
    Stopped,
    /// The service that runs the model is away, busy, or refuses everybody: the key or another setting is wrong.
    #[error("the embedding service is unavailable: {reason}")]
    Unavailable {
        /// Which service, what it did, and which setting to check if one may be wrong.
        reason: String,
        /// How long it asked to be left alone, where it did.
        retry_after: Option<Duration>,
    },
}

impl EmbedError {
    /// Whether no text is at fault: whoever asked should wait and ask again, and count no attempt.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether the model took too long: trying its texts one by one may cost as much for each.
    pub fn is_overdue(&self) -> bool {
        matches!(self, Self::Overdue(_))
    }
}
