//! Turns texts into vectors: tokenising, chunking and batching by token budget.
//!
//! [`Embedder`] is what the rest of the program sees; [`LocalEmbedder`] runs all-MiniLM-L6-v2 (or a model of
//! its kind) on this machine's cores with fastembed and ONNX Runtime. [`split`] cuts a conversation into
//! chunks that the model can read whole.
//!
//! A text goes this way:
//!
//! 1. [`split`] cuts conversations at line boundaries into chunks of at most one window.
//! 2. [`LocalEmbedder`] counts each text's tokens, and [`plan`] groups texts of like length under a budget of
//!    padded tokens. A batch is padded to its longest text, and a large one leaves the processor's caches, so
//!    small even batches are several times as fast as large mixed ones.
//! 3. Model sessions, each of one thread, take the batches from one bounded queue.

mod batch;
mod chunk;
mod embedder;
mod local;
mod models;
mod runtime;
mod sessions;
mod tokenizer;

pub use batch::plan;
pub use chunk::{Chunk, Split, split};
pub use embedder::{EmbedError, Embedder};
pub use local::{LoadError, LocalConfig, LocalEmbedder};
pub use models::{ModelError, Models, Provider};
pub use tokenizer::{Tokenizer, TokenizerError};
