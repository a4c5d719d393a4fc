#![doc = include_str!("../README.md")]

mod batching;
mod chunk;
mod embedder;
mod encoder_input;
mod error;
mod hash_embedder;
mod http;
mod local;
mod model_registry;
mod token_estimate;
mod tokenizer;
mod tokenizer_file;

pub use batching::{plan, plan_min_padding};
pub use chunk::{Chunk, Split, split};
pub use embedder::{EmbedError, Embedder, Passage};
pub use error::LoadError;
pub use hash_embedder::{HashConfig, HashEmbedder};
pub use http::{BaseUrl, HttpConfig, HttpEmbedder, UrlError};
pub use local::onnx_runtime::{load as load_onnx_runtime, version as onnx_runtime_version};
pub use local::source::{LocalSource, Pooling};
pub use local::{LocalConfig, LocalEmbedder, fastembed_model};
pub use model_registry::{ModelError, ModelRegistry, Provider};
pub use tokenizer::{Tokenizer, TokenizerError};
