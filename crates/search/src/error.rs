//! Why a search has no answer.

use std::fmt;
use std::time::Duration;

use guildex_embed::{EmbedError, ModelError};
use guildex_index::InvalidCollectionName;
use guildex_store::StoreError;

use crate::request::InvalidRequest;

/// Why a search has no answer. Carries names and ids, never what was asked or said.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// It cannot be answered as it was asked.
    #[error(transparent)]
    Request(#[from] InvalidRequest),
    /// It took too long.
    #[error(
        "the search was given up after {waited:?}, while {dependency} had not answered: try again in a moment"
    )]
    Timeout {
        /// Who was waited for.
        dependency: Dependency,
        /// For how long the search ran.
        waited: Duration,
    },
    /// The index does not answer.
    #[error("search is away for the moment ({0}): try again in a moment")]
    Unavailable(#[source] guildex_index::Error),
    /// No model is active: nothing was ever indexed.
    #[error("nothing is indexed yet: start `guildex up` or a worker")]
    NothingIndexed,
    /// The base name and the model's do not make a collection's name.
    #[error(transparent)]
    Collection(#[from] InvalidCollectionName),
    /// The model is not to be had.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The question could not be embedded.
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
    /// Whether Postgres could still answer: index or model are at fault, and not the request.
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

/// What a search waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependency {
    /// The embedding model.
    Model,
    /// The vector index.
    Index,
    /// The truth.
    Postgres,
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "the embedding model",
            Self::Index => "the index",
            Self::Postgres => "Postgres",
        })
    }
}
