//! Configuration of the connection to a Qdrant server.

use std::time::Duration;

use garde::Validate;
use guildex_types::config::{
    MILLISECOND, MINUTE, SecretUrl, between, duration, duration_between, optional_secret, scheme_of, unset,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};
use url::{Position, Url};

/// Section `index.server`: the connection to a Qdrant server.
#[derive(Debug, Clone, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// gRPC URL: `http://host:6334`, or `https://` for TLS. Certificates are verified against the system's roots, or
    /// those in the file named by the environment variable `SSL_CERT_FILE`. Required.
    #[serde(with = "unset")]
    #[garde(custom(scheme_of(SCHEMES)))]
    pub url: Option<SecretUrl>,
    /// HTTP URL, for snapshots. Default: port 6333 of the same host.
    #[serde(with = "unset")]
    #[garde(custom(scheme_of(SCHEMES)))]
    pub http_url: Option<SecretUrl>,
    /// API key.
    #[serde(with = "optional_secret")]
    #[garde(skip)]
    pub api_key: Option<SecretString>,
    /// Timeout of a call, including its one retry. Calls that change a whole collection get six times as long, and
    /// those that build or copy something [`LONG`](Self::LONG). Default: 10 s.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(100 * MILLISECOND..=10 * MINUTE)))]
    pub timeout: Duration,
    /// Timeout of connecting. Default: 5 s.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(100 * MILLISECOND..=MINUTE)))]
    pub connect_timeout: Duration,
    /// Maximum number of connections of one process. Default: 3.
    #[garde(custom(between(1..=64)))]
    pub pool_size: usize,
    /// Points per upsert request. Default: 128.
    #[garde(custom(between(1..=1000)))]
    pub upsert_batch_size: usize,
    /// Concurrent requests of one upsert. Default: 2.
    #[garde(custom(between(1..=16)))]
    pub max_concurrent_upserts: usize,
    /// Compression of dense vectors in memory. Default: none.
    #[garde(skip)]
    pub quantization: Quantization,
}

const SCHEMES: &[&str] = &["http", "https"];

impl ServerConfig {
    /// Timeout of one call that builds or copies something: payload indexes, snapshots.
    pub const LONG: Duration = Duration::from_secs(30 * 60);
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            url: None,
            http_url: None,
            api_key: None,
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            pool_size: 3,
            upsert_batch_size: 128,
            max_concurrent_upserts: 2,
            quantization: Quantization::None,
        }
    }
}

/// Compression of dense vectors in memory. The full vectors are on disk, and the best candidates are rescored with
/// them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Display, EnumString, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Quantization {
    /// None: full vectors, as far as the system caches them.
    #[default]
    None,
    /// One byte per dimension.
    Scalar,
    /// One bit per dimension, for models with many dimensions.
    Binary,
}

/// Invalid [`ServerConfig`].
#[derive(Debug, thiserror::Error)]
pub enum InvalidServerConfig {
    /// Not a URL of the server. The text is omitted because it may contain a password.
    #[error("the Qdrant server's URL must be http:// or https:// with a host: {0}")]
    Url(&'static str),
    /// Credentials in the URL, which would appear in errors.
    #[error("the Qdrant server's URL must not contain a user or password: set the API key instead")]
    Credentials,
    /// Value out of range.
    #[error("invalid settings of the Qdrant server: {0}")]
    Setting(#[from] garde::Report),
    /// API key that cannot be sent in a header.
    #[error("the Qdrant server's API key contains characters that cannot be sent")]
    ApiKey,
    /// The client could not be created.
    #[error("cannot create the Qdrant client: {0}")]
    Client(String),
}

impl ServerConfig {
    /// Validates what can be validated without the server, and returns the URLs for gRPC and HTTP.
    pub(super) fn urls(&self) -> Result<(Url, Url), InvalidServerConfig> {
        self.validate()?;
        let is_sendable =
            |key: &SecretString| key.expose_secret().bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if !self.api_key.as_ref().is_none_or(is_sendable) {
            return Err(InvalidServerConfig::ApiKey);
        }
        let grpc = check_url(self.url.as_ref().ok_or(InvalidServerConfig::Url("it is not set"))?)?;
        let http = match &self.http_url {
            Some(url) => check_url(url)?,
            None => {
                let mut same_host = grpc.clone();
                same_host.set_port(Some(6333)).map_err(|()| InvalidServerConfig::Url("it has no host"))?;
                same_host
            }
        };
        Ok((grpc, http))
    }
}

fn check_url(url: &SecretUrl) -> Result<Url, InvalidServerConfig> {
    let url = url.expose_url();
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidServerConfig::Credentials);
    }
    if !url[Position::AfterPath..].is_empty() {
        return Err(InvalidServerConfig::Url("it has a query or fragment"));
    }
    Ok(url.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> ServerConfig {
        ServerConfig { url: Some(url.parse().unwrap()), ..ServerConfig::default() }
    }

    #[test]
    fn http_url_defaults_to_port_6333_of_the_grpc_host() {
        let (grpc, http) = config("https://qdrant.example.org:6334").urls().unwrap();
        assert_eq!(
            (grpc.as_str(), http.as_str()),
            ("https://qdrant.example.org:6334/", "https://qdrant.example.org:6333/")
        );
        let http_url = Some("http://other/qdrant".parse().unwrap());
        let explicit = ServerConfig { http_url, ..config("http://a") };
        assert_eq!(explicit.urls().unwrap().1.as_str(), "http://other/qdrant");
    }

    #[test]
    fn invalid_configurations_are_rejected_before_connecting() {
        for url in ["", "qdrant:6334", "http://"] {
            assert!(url.parse::<SecretUrl>().is_err(), "{url:?}");
        }
        assert!(matches!(ServerConfig::default().urls(), Err(InvalidServerConfig::Url(_))));
        assert!(matches!(config("http://a?b").urls(), Err(InvalidServerConfig::Url(_))));
        assert!(matches!(config("redis://a").urls(), Err(InvalidServerConfig::Setting(_))));
        assert!(matches!(config("http://me@a").urls(), Err(InvalidServerConfig::Credentials)));
        for invalid in [
            ServerConfig { upsert_batch_size: 0, ..config("http://a") },
            ServerConfig { max_concurrent_upserts: 0, ..config("http://a") },
            ServerConfig { pool_size: 1_000, ..config("http://a") },
        ] {
            assert!(matches!(invalid.urls(), Err(InvalidServerConfig::Setting(_))), "{invalid:?}");
        }
        let key = ServerConfig { api_key: Some("a\nb".into()), ..config("http://a") };
        assert!(matches!(key.urls(), Err(InvalidServerConfig::ApiKey)));
    }

    #[test]
    fn debug_output_contains_no_secret() {
        let keyed = ServerConfig { api_key: Some("hunter2".into()), ..config("http://a") };
        assert!(!format!("{keyed:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&keyed).unwrap().contains("hunter2"));
        let rejected = config("http://a:hunter2@b").urls().unwrap_err();
        assert!(!format!("{rejected} {rejected:?}").contains("hunter2"));
    }

    #[test]
    fn missing_keys_get_defaults_and_unknown_keys_are_rejected() {
        let config: ServerConfig =
            serde_json::from_str(r#"{"pool_size": 5, "timeout": "1m", "api_key": "k"}"#).unwrap();
        assert_eq!((config.pool_size, config.timeout), (5, Duration::from_secs(60)));
        assert_eq!(config.upsert_batch_size, ServerConfig::default().upsert_batch_size);
        assert!(serde_json::from_str::<ServerConfig>(r#"{"poolsize": 5}"#).is_err());
    }
}
