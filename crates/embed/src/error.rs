//! Errors of loading a model.

use std::io;
use std::path::PathBuf;

use crate::tokenizer::TokenizerError;

/// Error of loading a model. The message names the problem, the sources give the reasons.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// ONNX Runtime is missing, too old, or not a usable library.
    #[error(
        "cannot load ONNX Runtime from {path}: set ORT_DYLIB_PATH to libonnxruntime 1.{minor} or later, or run \
         scripts/setup",
        path = path.display(), minor = ort::MINOR_VERSION
    )]
    Runtime {
        /// Path of the library.
        path: PathBuf,
        /// Reason.
        source: Box<ort::LoadDynamicError>,
    },
    /// A file of the model cannot be read.
    #[error("cannot read {path} of the model", path = path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Reason.
        source: io::Error,
    },
    /// The file is not a tokenizer.
    #[error("{path} is not a tokenizer.json: {reason}", path = path.display())]
    TokenizerFile {
        /// Path of the file.
        path: PathBuf,
        /// Reason.
        reason: String,
    },
    /// No downloadable model has that name.
    #[error("unknown model {name}: {hint}")]
    Name {
        /// Configured name.
        name: String,
        /// Similar names, or all.
        hint: String,
    },
    /// The files are not a model or cannot be downloaded.
    #[error("cannot load the model {origin}")]
    Model {
        /// Directory, or name of the model to download.
        origin: String,
        /// Reason given by fastembed.
        source: Box<fastembed::Error>,
    },
    /// The model reads fewer tokens than configured.
    #[error("the model reads at most {limit} tokens, less than the configured max_tokens of {max_tokens}")]
    MaxTokens {
        /// Configured number.
        max_tokens: usize,
        /// Limit of `tokenizer_config.json`.
        limit: usize,
    },
    /// The configured `max_tokens` or prefix is invalid, or the tokenizer fails.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model fails on a test text.
    #[error("the model fails on a test text: {0}")]
    TestText(String),
    /// The model's vectors do not have the configured length.
    #[error("the model's vectors have {found} dimensions, not the configured {expected}")]
    Dimensions {
        /// Configured length.
        expected: usize,
        /// Length of the model's vectors.
        found: usize,
    },
    /// A thread could not be started.
    #[error("cannot start a thread for the model")]
    Thread(#[source] io::Error),
    /// A setting of a remote model is invalid.
    #[error("{setting} of the model {problem}")]
    Setting {
        /// Field of [`HttpConfig`](crate::HttpConfig).
        setting: &'static str,
        /// Problem with the value.
        problem: &'static str,
    },
}
