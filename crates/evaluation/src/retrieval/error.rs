//! Errors of the retrieval evaluation.

use guildex_embed::{EmbedError, TokenizerError};
use guildex_index::InvalidCollectionName;

use crate::sessions::CorpusError;

/// Retrieval cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum RetrievalError {
    /// The annotated channels cannot be read.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// No annotated conversation yields a question.
    #[error("no annotated conversation has at least four messages and text in its first one")]
    NoQuestions,
    /// A session could not be chunked.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A text could not be embedded.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// The model name is too long for a collection name.
    #[error(transparent)]
    CollectionName(#[from] InvalidCollectionName),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] guildex_index::Error),
    /// The temporary folder for the index could not be created.
    #[error("cannot create a temporary folder for the index")]
    TempDir(#[source] std::io::Error),
    /// Chunking panicked.
    #[error("chunking panicked")]
    Panicked,
}
