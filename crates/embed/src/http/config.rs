//! Which service to ask, and how.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use guildex_types::ModelSlug;
use secrecy::SecretString;
use url::Url;

use crate::error::LoadError;

/// A model behind an OpenAI-compatible service, and how to ask it.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// The model's name in the index, its precision included.
    pub slug: ModelSlug,
    /// The service, without `/embeddings`: for OpenAI `https://api.openai.com/v1`.
    pub base_url: BaseUrl,
    /// The key, sent as a bearer token. `None` for a service that wants none.
    pub api_key: Option<SecretString>,
    /// What the service calls the model.
    pub model: String,
    /// The length of the model's vectors.
    pub dimensions: usize,
    /// Whether to ask for vectors of that length. Most models have but one length, and refuse to be asked.
    pub send_dimensions: bool,
    /// The tokens that the model reads of a text, prefix and special ones included.
    pub window: usize,
    /// The most texts in a request.
    pub max_batch_texts: usize,
    /// The most tokens in a request, each text counted as long as the longest. A longer text goes alone.
    pub max_batch_tokens: usize,
    /// The most requests at a time, of all callers together.
    pub concurrency: usize,
    /// How long one request may take, its answer included.
    pub timeout: Duration,
    /// How often a request is tried again.
    pub max_retries: usize,
    /// How long after a request's first try another may begin. A service that wants a longer pause counts as away.
    pub patience: Duration,
    /// The model's `tokenizer.json`. Without it tokens are guessed, on the high side.
    pub tokenizer: Option<PathBuf>,
    /// What the model wants before a text that is stored, as e5 wants `"passage: "`. Usually empty.
    pub passage_prefix: String,
    /// What the model wants before a question, as e5 wants `"query: "`. Usually empty.
    pub query_prefix: String,
}

impl HttpConfig {
    /// A model without key or prefixes, with a window of 512 tokens: at most four requests at a time, each of up
    /// to 64 texts and 16,384 tokens, of 30 s at most, tried again up to five times within 60 s.
    pub fn new(slug: ModelSlug, base_url: BaseUrl, model: String, dimensions: usize) -> Self {
        Self {
            slug,
            base_url,
            api_key: None,
            model,
            dimensions,
            send_dimensions: false,
            window: 512,
            max_batch_texts: 64,
            max_batch_tokens: 16_384,
            concurrency: 4,
            timeout: Duration::from_secs(30),
            max_retries: 5,
            patience: Duration::from_secs(60),
            tokenizer: None,
            passage_prefix: String::new(),
            query_prefix: String::new(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), LoadError> {
        let refuse = |setting, problem| Err(LoadError::Setting { setting, problem });
        match self {
            Self { model, .. } if model.trim().is_empty() => refuse("model", "is empty"),
            Self { dimensions: 0, .. } => refuse("dimensions", "must be 1 or more"),
            Self { max_batch_texts: 0, .. } => refuse("max_batch_texts", "must be 1 or more"),
            Self { concurrency: 0, .. } => refuse("concurrency", "must be 1 or more"),
            Self { timeout: Duration::ZERO, .. } => refuse("timeout", "must be more than nothing"),
            _ => Ok(()),
        }
    }
}

/// The address of a service. It has no user and no password; its query, where it has one, is sent and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

/// Why an address cannot be a [`BaseUrl`]. The address is not shown: it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No address at all.
    #[error("base_url is not an address: write it like https://api.openai.com/v1")]
    Malformed,
    /// Another protocol.
    #[error("base_url must begin with http:// or https://")]
    Scheme,
    /// A user or a password in it.
    #[error("base_url must not hold a user or a password: put the key into api_key")]
    Credentials,
}

impl BaseUrl {
    /// Where embeddings are asked for.
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

/// Without the query.
impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        shown.set_query(None);
        f.write_str(shown.as_str().trim_end_matches('/'))
    }
}

/// Without the query.
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
    fn the_endpoint_is_below_the_base() {
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
    fn what_is_no_address_of_a_service_is_refused_and_not_shown() {
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
    fn no_print_shows_key_or_query() {
        let config = HttpConfig {
            base_url: "https://a.example/v1?key=hidden".parse().unwrap(),
            api_key: Some("hidden".into()),
            ..config()
        };
        let print = format!("{config:?} {}", config.base_url);
        assert!(print.contains("https://a.example/v1") && !print.contains("hidden"), "{print}");
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
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
