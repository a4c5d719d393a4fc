//! The sections `[models.NAME]` of named models.

use std::path::PathBuf;
use std::time::Duration;

use guildex_embed::Pooling;
use guildex_types::config::{SecretUrl, duration, optional_secret, unset};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// Implementation of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Runs on this machine, with the settings of `[model]` for local models.
    #[default]
    Local,
    /// Calls a server with an API compatible with OpenAI's.
    Http,
    /// Derives vectors from hashes of texts, to measure everything except the model. Dense search does not work.
    Hash,
}

/// A model to which `guildex reindex --to NAME` can switch.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamedModel {
    /// Implementation. Default: `local`.
    pub provider: Provider,
    /// Local: folder of the model's files. Not set by default.
    #[serde(with = "unset")]
    pub dir: Option<PathBuf>,
    /// Local, without a folder: name of a model of fastembed, downloaded on first use. Not set by default.
    #[serde(with = "unset")]
    pub source: Option<String>,
    /// Local, from a folder: pooling of token vectors. Default: `mean`.
    pub pooling: Pooling,
    /// Length of vectors. Default: 384.
    pub dimensions: usize,
    /// Maximum tokens of a text. Default: 256.
    pub max_tokens: usize,
    /// Prefix of queries. Default: empty.
    pub query_prefix: String,
    /// Prefix of stored texts. Default: empty.
    pub passage_prefix: String,
    /// HTTP: URL of the API without `/embeddings`, such as `https://api.openai.com/v1`. Not set by default.
    #[serde(with = "unset")]
    pub base_url: Option<SecretUrl>,
    /// HTTP: API key. Secret; not set by default.
    #[serde(with = "optional_secret")]
    pub api_key: Option<SecretString>,
    /// HTTP: name of the model in the API. Not set by default.
    #[serde(with = "unset")]
    pub model: Option<String>,
    /// HTTP: whether to send `dimensions`. Default: `false`.
    pub send_dimensions: bool,
    /// HTTP, hash: path of a `tokenizer.json`. Without it tokens are estimated. Not set by default.
    #[serde(with = "unset")]
    pub tokenizer: Option<PathBuf>,
    /// HTTP: maximum texts of a request. Default: 64.
    pub max_batch_texts: usize,
    /// HTTP: maximum tokens of a request. Default: 8192.
    pub max_batch_tokens: usize,
    /// HTTP: maximum concurrent requests. Default: 4.
    pub concurrency: usize,
    /// HTTP: timeout of a request. Default: 30 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

impl Default for NamedModel {
    fn default() -> Self {
        Self {
            provider: Provider::Local,
            dir: None,
            source: None,
            pooling: Pooling::Mean,
            dimensions: 384,
            max_tokens: 256,
            query_prefix: String::new(),
            passage_prefix: String::new(),
            base_url: None,
            api_key: None,
            model: None,
            send_dimensions: false,
            tokenizer: None,
            max_batch_texts: 64,
            max_batch_tokens: 8192,
            concurrency: 4,
            timeout: Duration::from_secs(30),
        }
    }
}
