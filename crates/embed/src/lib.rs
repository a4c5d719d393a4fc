//! Turns texts into vectors: tokenising, chunking and batching by token budget.
//!
//! [`Embedder`] is what the rest of the program sees. [`LocalEmbedder`] runs all-MiniLM-L6-v2, or another model by
//! [name or folder](LocalSource), on this machine's cores with fastembed and ONNX Runtime; [`HttpEmbedder`] asks
//! an OpenAI-compatible service. [`Models`] loads those that a configuration names when they are first asked for.
//! [`split`] cuts a conversation into chunks that the model can read whole.
//!
//! A text goes this way:
//!
//! 1. [`split`] cuts conversations at line boundaries into chunks of at most one window. It counts with the model's
//!    own [`Tokenizer`], or guesses on the high side where a service's is not at hand.
//! 2. The embedder puts the model's prefix before it, where the model wants one, and groups texts of like length
//!    under a budget of padded tokens ([`plan_tightly`] on this machine, [`plan`] for a service). A batch is padded to its longest text, and a large one leaves the
//!    processor's caches, so small even batches are several times as fast as large mixed ones.
//! 3. Model sessions, each of one thread, take the batches from one bounded queue; or requests, a bounded number
//!    at a time, take them to the service. A service that is busy or away is asked again within a bound, and told
//!    apart ([`EmbedError::is_unavailable`]) from a model that fails on a text.

mod approximate;
mod batch;
mod bytes;
mod chunk;
mod embedder;
mod error;
mod hash;
mod http;
mod local;
mod models;
mod reader;
mod runtime;
mod sessions;
mod source;
mod tokenizer;

pub use batch::{plan, plan_tightly};
pub use chunk::{Chunk, Split, split};
pub use embedder::{EmbedError, Embedder, Passage};
pub use error::LoadError;
pub use hash::{HashConfig, HashEmbedder};
pub use http::{BaseUrl, HttpConfig, HttpEmbedder, UrlError};
pub use local::{LocalConfig, LocalEmbedder, fastembed_of};
pub use models::{ModelError, Models, Provider};
pub use runtime::{load as load_onnx_runtime, onnx_runtime};
pub use source::{LocalSource, Pooling};
pub use tokenizer::{Tokenizer, TokenizerError};
