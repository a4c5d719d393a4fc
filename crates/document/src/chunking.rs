//! Chunks of a session, and which of them are neighbors.

use guildex_embed::{Split, Tokenizer, TokenizerError};

use crate::session_text::SessionText;

/// Most tokens in a chunk. Of 64 to 250, smaller chunks find more and show less of a conversation; this size does
/// well at both (`docs/retrieval.md`).
pub const CHUNK_TOKENS: usize = 96;

/// Chunks before and after a chunk that count as its neighbors. Searches find no more with the whole session, which
/// would store a long session's words with each of its chunks.
pub(crate) const NEIGHBORS: usize = 3;

impl SessionText {
    /// Splits the messages into chunks of at most [`CHUNK_TOKENS`].
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn chunk(&self, tokenizer: &Tokenizer) -> Result<Split, TokenizerError> {
        self.chunk_by(tokenizer, CHUNK_TOKENS)
    }

    /// Splits the messages into chunks of at most `max_tokens`, for experiments with the size.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn chunk_by(&self, tokenizer: &Tokenizer, max_tokens: usize) -> Result<Split, TokenizerError> {
        guildex_embed::split(&tokenizer.at_most(max_tokens), "", &self.spoken)
    }
}

/// The chunk at `position` with its neighbors.
pub(crate) fn neighborhood<T>(chunks: &[T], position: usize) -> &[T] {
    let end = chunks.len().min(position + NEIGHBORS + 1);
    chunks.get(position.saturating_sub(NEIGHBORS)..end).unwrap_or_default()
}
