//! Configuration of a remote model.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use guildex_types::ModelSlug;
use secrecy::SecretString;
use url::Url;

use crate::error::LoadError;

/// Configuration of a model behind an OpenAI-compatible API.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Name of the model in the index, including its precision.
    pub slug: ModelSlug,
    /// URL of the API without `/embeddings`: for OpenAI `https://api.openai.com/v1`.
    pub base_url: BaseUrl,
    /// API key, sent as a bearer token.
    pub api_key: Option<SecretString>,
    /// Name of the model in the API.
    pub model: String,
    /// Length of the model's vectors.
    pub dimensions: usize,
    /// Whether to send `dimensions`. Most models have only one length and reject the parameter.
    pub send_dimensions: bool,
    /// Tokens that the model reads of a text, including prefix and special tokens.
    pub max_tokens: usize,
    /// Maximum texts of a request.
    pub max_batch_texts: usize,
    /// Maximum tokens of a request, with each text counted as long as the longest. A longer text gets its own request.
    pub max_batch_tokens: usize,
    /// Maximum concurrent requests of all callers.
    pub concurrency: usize,
    /// Timeout of a request, including its response.
    pub timeout: Duration,
    /// Maximum retries of a request.
    pub max_retries: usize,
    /// Time after the first attempt in which retries may start. An API that requests a longer pause counts as unavailable.
    pub retry_timeout: Duration,
    /// Path of the model's `tokenizer.json`. Without it tokens are overestimated.
    pub tokenizer: Option<PathBuf>,
    /// Prefix of stored texts, such as `"passage: "` for e5 models. Usually empty.
    pub passage_prefix: String,
    /// Prefix of queries, such as `"query: "` for e5 models. Usually empty.
    pub query_prefix: String,
}

impl HttpConfig {
    /// Creates a configuration without key or prefixes and with 512 tokens of a text: at most four concurrent requests of
    /// up to 64 texts and 16,384 tokens, with a timeout of 30 s, and up to five retries within 60 s.
    pub fn new(slug: ModelSlug, base_url: BaseUrl, model: String, dimensions: usize) -> Self {
        Self {
            slug,
            base_url,
            api_key: None,
            model,
            dimensions,
            send_dimensions: false,
            max_tokens: 512,
            max_batch_texts: 64,
            max_batch_tokens: 16_384,
            concurrency: 4,
            timeout: Duration::from_secs(30),
            max_retries: 5,
            retry_timeout: Duration::from_secs(60),
            tokenizer: None,
            passage_prefix: String::new(),
            query_prefix: String::new(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), LoadError> {
        let invalid = |setting, problem| Err(LoadError::Setting { setting, problem });
        match self {
            Self { model, .. } if model.trim().is_empty() => invalid("model", "is empty"),
            Self { dimensions: 0, .. } => invalid("dimensions", "must be 1 or more"),
            Self { max_batch_texts: 0, .. } => invalid("max_batch_texts", "must be 1 or more"),
            Self { concurrency: 0, .. } => invalid("concurrency", "must be 1 or more"),
            Self { timeout: Duration::ZERO, .. } => invalid("timeout", "must be greater than zero"),
            _ => Ok(()),
        }
    }
}

/// URL of an API, without user and password. Its query is sent but never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

/// Error of parsing a [`BaseUrl`]. Does not show the URL, which may contain a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL.
    #[error("base_url is not a URL: write it like https://api.openai.com/v1")]
    Malformed,
    /// Unsupported scheme.
    #[error("base_url must start with http:// or https://")]
    Scheme,
    /// User or password in the URL.
    #[error("base_url must not contain a user or password: set api_key instead")]
    Credentials,
}

impl BaseUrl {
    /// URL of the embeddings endpoint.
    pub(crate) fn embeddings(&self) -> Url {
        let mut url = self.0.clone();
        let path = format!("{}/embeddings", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url
    }
}

impl FromStr for BaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let mut url = Url::parse(text.trim()).map_err(|_| UrlError::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UrlError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Credentials);
        }
        url.set_fragment(None);
        Ok(Self(url))
    }
}

/// Omits the query.
impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        shown.set_query(None);
        f.write_str(shown.as_str().trim_end_matches('/'))
    }
}

/// Omits the query.
impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> HttpConfig {
        let base_url = "http://localhost:8080/v1".parse().unwrap();
        HttpConfig::new("some-model".parse().unwrap(), base_url, "some-model".into(), 4)
    }

    #[test]
    fn the_endpoint_is_appended_to_the_base_url() {
        for (base, endpoint) in [
            ("https://api.openai.com/v1", "https://api.openai.com/v1/embeddings"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1/embeddings"),
            ("http://[::1]:8080", "http://[::1]:8080/embeddings"),
            (" https://a.example/b?version=1#c ", "https://a.example/b/embeddings?version=1"),
        ] {
            assert_eq!(base.parse::<BaseUrl>().unwrap().embeddings().as_str(), endpoint);
        }
    }

    #[test]
    fn invalid_urls_are_rejected_and_not_shown() {
        for (text, error) in [
            ("", UrlError::Malformed),
            ("api.openai.com/v1", UrlError::Malformed),
            ("http://", UrlError::Malformed),
            ("localhost:8080", UrlError::Scheme),
            ("ftp://hidden.example", UrlError::Scheme),
            ("https://hidden@a.example", UrlError::Credentials),
            ("https://a:hidden@a.example", UrlError::Credentials),
        ] {
            assert_eq!(text.parse::<BaseUrl>(), Err(error), "{text}");
            assert!(!format!("{error} {error:?}").contains("hidden"));
        }
    }

    #[test]
    fn output_shows_neither_key_nor_query() {
        let config = HttpConfig {
            base_url: "https://a.example/v1?key=hidden".parse().unwrap(),
            api_key: Some("hidden".into()),
            ..config()
        };
        let output = format!("{config:?} {}", config.base_url);
        assert!(output.contains("https://a.example/v1") && !output.contains("hidden"), "{output}");
    }

    #[test]
    fn invalid_settings_are_named() {
        let cases = [
            ("model", HttpConfig { model: " ".into(), ..config() }),
            ("dimensions", HttpConfig { dimensions: 0, ..config() }),
            ("max_batch_texts", HttpConfig { max_batch_texts: 0, ..config() }),
            ("concurrency", HttpConfig { concurrency: 0, ..config() }),
            ("timeout", HttpConfig { timeout: Duration::ZERO, ..config() }),
        ];
        assert!(config().check().is_ok());
        for (setting, config) in cases {
            let error = config.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{setting} of the model ")), "{error}");
        }
    }
}
