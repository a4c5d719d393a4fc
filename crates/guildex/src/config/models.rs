//! The sections of models that are named, `[models.NAME]`.

use std::path::PathBuf;
use std::time::Duration;

use guildex_embed::Pooling;
use guildex_types::config::{SecretUrl, duration, optional_secret, unset};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// Where a model's vectors come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// This machine's cores, as `[model]` says for all models of this kind.
    #[default]
    Local,
    /// A server with OpenAI's way of asking for embeddings.
    Http,
    /// Nobody: vectors are drawn from the texts' hashes, to measure all else. Searches by meaning find nothing.
    Hash,
}

/// A model that `guildex reindex --to NAME` can fill a collection for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamedModel {
    /// Who embeds. Default: `local`.
    pub provider: Provider,
    /// Local: the folder that holds the model's files. Not set by default.
    #[serde(with = "unset")]
    pub dir: Option<PathBuf>,
    /// Local: a model that fastembed knows, downloaded at first use, where there is no folder. Not set by default.
    #[serde(with = "unset")]
    pub source: Option<String>,
    /// Local, from a folder. Default: `mean`.
    pub pooling: Pooling,
    /// The length of its vectors. Default: 384.
    pub dimensions: usize,
    /// The most tokens of one text. Default: 256.
    pub max_tokens: usize,
    /// What is put before a question, for models that want it. Default: nothing.
    pub query_prefix: String,
    /// What is put before a text to be found. Default: nothing.
    pub passage_prefix: String,
    /// HTTP: where `/embeddings` is, such as `https://api.openai.com/v1`. Not set by default.
    #[serde(with = "unset")]
    pub base_url: Option<SecretUrl>,
    /// HTTP: the key. Secret; not set by default.
    #[serde(with = "optional_secret")]
    pub api_key: Option<SecretString>,
    /// HTTP: the model, as the server calls it. Not set by default.
    #[serde(with = "unset")]
    pub model: Option<String>,
    /// HTTP: whether to ask for vectors of `dimensions`. Default: `false`.
    pub send_dimensions: bool,
    /// HTTP, hash: a `tokenizer.json` to count tokens with; without it they are estimated. Not set by default.
    #[serde(with = "unset")]
    pub tokenizer: Option<PathBuf>,
    /// HTTP: the most texts of one call. Default: 64.
    pub max_batch_texts: usize,
    /// HTTP: the most tokens of one call. Default: 8192.
    pub max_batch_tokens: usize,
    /// HTTP: calls at a time. Default: 4.
    pub concurrency: usize,
    /// HTTP: how long one call may take. Default: 30 s.
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
