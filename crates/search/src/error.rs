use std::time::Duration;

use guildex_embed::{EmbedError, ModelError};
use guildex_index::InvalidCollectionName;
use guildex_store::StoreError;
use strum::Display;

use crate::request::InvalidRequest;

/// Failed search. Contains names and ids, never the query or messages.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// Invalid request.
    #[error(transparent)]
    Request(#[from] InvalidRequest),
    /// The timeout expired; the request may be retried.
    #[error("the search timed out after {waited:?} waiting for {dependency}: try again")]
    Timeout {
        /// Dependency that had not responded.
        dependency: Dependency,
        /// Duration of the search.
        waited: Duration,
    },
    /// The index is unavailable; the request may be retried.
    #[error("search is unavailable ({0}): try again")]
    Unavailable(#[source] guildex_index::Error),
    /// No model is active, because nothing was ever indexed.
    #[error("nothing is indexed yet: start `guildex up` or a worker")]
    NothingIndexed,
    /// The collection prefix and the model's slug do not form a valid collection name.
    #[error(transparent)]
    Collection(#[from] InvalidCollectionName),
    /// The model could not be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The query could not be embedded.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// The index failed.
    #[error(transparent)]
    Index(guildex_index::Error),
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SearchError {
    /// Whether the full-text search in Postgres may succeed where this search failed.
    pub(crate) fn allows_fallback(&self) -> bool {
        match self {
            Self::Timeout { dependency, .. } => *dependency != Dependency::Postgres,
            Self::Unavailable(_)
            | Self::NothingIndexed
            | Self::Collection(_)
            | Self::Model(_)
            | Self::Embed(_)
            | Self::Index(_) => true,
            Self::Request(_) | Self::Store(_) => false,
        }
    }
}

impl From<guildex_index::Error> for SearchError {
    fn from(error: guildex_index::Error) -> Self {
        if error.is_unavailable() { Self::Unavailable(error) } else { Self::Index(error) }
    }
}

/// Dependency of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
pub enum Dependency {
    /// The embedding model.
    #[strum(to_string = "the embedding model")]
    Model,
    /// The vector index.
    #[strum(to_string = "the index")]
    Index,
    /// Postgres.
    Postgres,
}
