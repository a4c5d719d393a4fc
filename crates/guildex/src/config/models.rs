//! Sections of named models, `[models.NAME]`.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use garde::util::nested_path;
use guildex_embed::Pooling;
use guildex_types::config::{
    MILLISECOND, MINUTE, SecretUrl, allowed_if, between, duration, duration_between, optional_secret,
    scheme_of, unset,
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::check;

/// Section `models`: models by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Models(pub BTreeMap<String, NamedModel>);

impl Deref for Models {
    type Target = BTreeMap<String, NamedModel>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Written out because garde does not check the keys of maps.
impl garde::Validate for Models {
    type Context = ();

    fn validate_into(
        &self,
        (): &(),
        mut parent: &mut dyn FnMut() -> garde::Path,
        report: &mut garde::Report,
    ) {
        for (name, model) in &self.0 {
            let mut path = nested_path!(parent, name);
            if let Err(error) = check::model_name(name) {
                report.append(path(), error);
            }
            model.validate_into(&(), &mut path, report);
        }
    }
}

/// Where a model runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// This machine, with the settings of `[model]`.
    #[default]
    Local,
    /// An OpenAI-compatible server.
    Http,
    /// No model: vectors are computed from hashes of the texts, for measurements. Searches by meaning find nothing.
    Hash,
}

/// Section `models.NAME`: a model for `guildex reindex --to NAME`.
#[derive(Debug, Clone, Serialize, Deserialize, garde::Validate)]
#[serde(default, deny_unknown_fields)]
pub struct NamedModel {
    /// Where the model runs. Default: `local`.
    #[garde(skip)]
    pub provider: Provider,
    /// Local: folder of the model's files. Not set by default.
    #[serde(with = "unset")]
    #[garde(custom(|_, _| self.has_files()))]
    pub dir: Option<PathBuf>,
    /// Local, without `dir`: a model that fastembed knows, downloaded at first use. Not set by default.
    #[serde(with = "unset")]
    #[garde(skip)]
    pub source: Option<String>,
    /// Local, with `dir`: pooling of the tokens' vectors. Default: `mean`.
    #[garde(skip)]
    pub pooling: Pooling,
    /// Length of the vectors. Default: 384.
    #[garde(custom(between(1..=65_536)))]
    pub dimensions: usize,
    /// Maximum tokens of one text. Default: 256.
    #[garde(custom(between(32..=8192)))]
    pub max_tokens: usize,
    /// Prefix of queries, for models that need it. Default: none.
    #[garde(skip)]
    pub query_prefix: String,
    /// Prefix of stored texts, for models that need it. Default: none.
    #[garde(skip)]
    pub passage_prefix: String,
    /// HTTP: URL of the API without `/embeddings`, such as `https://api.openai.com/v1`. Not set by default.
    #[serde(with = "unset")]
    #[garde(custom(scheme_of(&["http", "https"])), custom(|url, _| self.required(url, "the server's URL")))]
    pub base_url: Option<SecretUrl>,
    /// HTTP: API key. Secret. Not set by default.
    #[serde(with = "optional_secret")]
    #[garde(skip)]
    pub api_key: Option<SecretString>,
    /// HTTP: name of the model at the server. Not set by default.
    #[serde(with = "unset")]
    #[garde(custom(|name, _| self.required(name, "the model's name at the server")))]
    pub model: Option<String>,
    /// HTTP: send `dimensions` in requests. Default: `false`.
    #[garde(skip)]
    pub send_dimensions: bool,
    /// HTTP, hash: path of a `tokenizer.json` to count tokens with. Not set by default: tokens are estimated.
    #[serde(with = "unset")]
    #[garde(skip)]
    pub tokenizer: Option<PathBuf>,
    /// HTTP: maximum texts of one request. Default: 64.
    #[garde(custom(between(1..=4096)))]
    pub max_batch_texts: usize,
    /// HTTP: maximum tokens of one request. Default: 8192.
    #[garde(custom(between(32..=1_048_576)), custom(|max: &usize, _| check::fits_text(*max, self.max_tokens)))]
    pub max_batch_tokens: usize,
    /// HTTP: maximum concurrent requests. Default: 4.
    #[garde(custom(between(1..=256)))]
    pub concurrency: usize,
    /// HTTP: timeout of one request. Default: 30 s.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(100 * MILLISECOND..=10 * MINUTE)))]
    pub timeout: Duration,
}

impl NamedModel {
    fn has_files(&self) -> garde::Result {
        let has_files = self.dir.is_some() || self.source.is_some();
        let allowed = "the model's folder, or `source`";
        allowed_if(self.provider != Provider::Local || has_files, "nothing", allowed)
    }

    fn required<T>(&self, value: &Option<T>, allowed: &str) -> garde::Result {
        allowed_if(self.provider != Provider::Http || value.is_some(), "nothing", allowed)
    }
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
