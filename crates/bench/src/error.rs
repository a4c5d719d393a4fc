use std::io;
use std::path::PathBuf;

use guildex_api::ClientError;
use guildex_discord_export::{ExportError, FindError};
use guildex_embed::{EmbedError, LoadError, TokenizerError};
use guildex_index::InvalidCollectionName;
use guildex_producer::IngestError;
use guildex_search::SearchError;
use guildex_store::StoreError;
use guildex_types::InvalidId;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The database that was made for the benchmark, or the making of it, failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Redis failed.
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// There is no room for a benchmark's files.
    #[error("cannot make a folder for the benchmark")]
    Folder(#[source] io::Error),
    /// The program that is measured cannot be started or looked at.
    #[error("the program that is measured cannot be run")]
    Process(#[source] io::Error),
    /// The program that is measured failed; the end of what it said.
    #[error("`guildex {command}` failed: {told}")]
    Failed {
        /// Its arguments.
        command: String,
        /// The last lines of its log.
        told: String,
    },
    /// What is to be measured did not come about in a time that is beyond all expectation.
    #[error("waited in vain: {0}")]
    Stuck(&'static str),
    /// The exports cannot be found.
    #[error(transparent)]
    Find(#[from] FindError),
    /// An export cannot be read.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The model cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// fastembed, which is measured beside the program, failed.
    #[error("fastembed: {0}")]
    Fastembed(String),
    /// ONNX Runtime, whose products of matrices are measured, failed.
    #[error("ONNX Runtime: {0}")]
    Onnx(#[from] ort::Error),
    /// A thread of a measurement panicked.
    #[error("a measurement panicked")]
    Panicked(#[from] tokio::task::JoinError),
    /// The model failed.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// A session could not be cut into chunks.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A message could not be stored.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] guildex_index::Error),
    /// The model's name is too long for a collection's.
    #[error(transparent)]
    Name(#[from] InvalidCollectionName),
    /// A search failed.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// The program that is measured did not answer a search.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An id that was made up is none.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// There is nothing to measure.
    #[error("{path} holds no export that could be measured on")]
    Nothing {
        /// Where it was looked for.
        path: PathBuf,
    },
}

impl From<sqlx::Error> for BenchError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
