//! Why a model could not be loaded.

use std::io;
use std::path::PathBuf;

use crate::tokenizer::TokenizerError;

/// Why a model could not be loaded: the message names what is wrong, the sources tell the reasons.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// ONNX Runtime is missing, too old or something else.
    #[error(
        "cannot load ONNX Runtime from {path}: point ORT_DYLIB_PATH to libonnxruntime 1.{minor} or later, or run \
         scripts/setup",
        path = path.display(), minor = ort::MINOR_VERSION
    )]
    Runtime {
        /// The library tried.
        path: PathBuf,
        /// What was wrong with it.
        source: Box<ort::LoadDynamicError>,
    },
    /// A file of the model cannot be read.
    #[error("cannot read {path} of the model", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file was read and is no tokenizer.
    #[error("{path} is not a tokenizer.json: {reason}", path = path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        reason: String,
    },
    /// No model of that name can be downloaded.
    #[error("no model is called {name}: {hint}")]
    Name {
        /// As configured.
        name: String,
        /// Names like it, or all.
        hint: String,
    },
    /// The files were read and are not a model, or cannot be downloaded.
    #[error("cannot load the model {origin}")]
    Model {
        /// The folder, or the model to download.
        origin: String,
        /// fastembed's reason.
        source: Box<fastembed::Error>,
    },
    /// The model reads fewer tokens than configured.
    #[error("the model reads at most {limit} tokens, fewer than the configured window of {window}")]
    Window {
        /// As configured.
        window: usize,
        /// What `tokenizer_config.json` allows.
        limit: usize,
    },
    /// The configured window or prefix cannot be, or the tokenizer fails.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model does not embed a trial text.
    #[error("the model fails on a trial text: {0}")]
    Trial(String),
    /// The model's vectors have another length than configured.
    #[error("the model's vectors have {found} dimensions, not the configured {expected}")]
    Dimensions {
        /// As configured.
        expected: usize,
        /// As the model gives.
        found: usize,
    },
    /// No thread could be started.
    #[error("cannot start a thread for the model")]
    Thread(#[source] io::Error),
    /// A setting of a model behind HTTP cannot be.
    #[error("{setting} of the model {problem}")]
    Setting {
        /// The field of [`HttpConfig`](crate::HttpConfig).
        setting: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}
