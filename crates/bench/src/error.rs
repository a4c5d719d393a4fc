use std::io;
use std::path::PathBuf;

use guildex_store::StoreError;

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
    /// Ctrl-C.
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
