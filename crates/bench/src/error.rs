//! Errors of benchmarks.

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

/// Error of a benchmark.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Redis failed.
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// Files of the benchmark cannot be written or read.
    #[error("cannot access the files of the benchmark")]
    Folder(#[source] io::Error),
    /// The measured program cannot be run.
    #[error("the measured program cannot be run")]
    Process(#[source] io::Error),
    /// The measured program failed.
    #[error("`guildex {command}` failed: {output}")]
    Failed {
        /// Arguments of the program.
        command: String,
        /// Last lines of its log.
        output: String,
    },
    /// The measured program did not make progress.
    #[error("timed out: {0}")]
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
    /// fastembed failed.
    #[error("fastembed: {0}")]
    Fastembed(String),
    /// ONNX Runtime failed.
    #[error("ONNX Runtime: {0}")]
    Onnx(#[from] ort::Error),
    /// A measuring thread panicked.
    #[error("a measurement panicked")]
    Panicked(#[from] tokio::task::JoinError),
    /// The model failed.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// A session could not be split into chunks.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A message could not be stored.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] guildex_index::Error),
    /// The model's name does not form a valid collection name.
    #[error(transparent)]
    Name(#[from] InvalidCollectionName),
    /// A search failed.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// The measured program did not respond to a search.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A generated id is invalid.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// The exports contain no usable messages.
    #[error("{path} contains no usable export")]
    Nothing {
        /// Searched path.
        path: PathBuf,
    },
}

impl From<sqlx::Error> for BenchError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
