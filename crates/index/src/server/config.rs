use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::{Position, Url};

/// How to reach a Qdrant server, and how to treat it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where it takes gRPC: `http://host:6334`, or `https://` for TLS. Certificates are checked against the
    /// system's, or those in the file that the environment's `SSL_CERT_FILE` names.
    pub url: String,
    /// Where it takes HTTP, for snapshots; `None` for port 6333 of the same host.
    pub http_url: Option<String>,
    /// What it wants to see before it answers.
    pub api_key: Option<ApiKey>,
    /// How long a call may take, its one repetition included. Those that change a whole collection get six times
    /// that, and those that build or copy something [`LONG`](Self::LONG).
    pub timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How many connections there are at most.
    pub pool_size: usize,
    /// How many points one request carries.
    pub upsert_batch_size: usize,
    /// How many requests of one upsert run side by side.
    pub max_concurrent_upserts: usize,
    /// How dense vectors are kept in memory.
    pub quantization: Quantization,
}

impl ServerConfig {
    /// How long one call may take that builds or copies something: payload indexes, snapshots.
    pub const LONG: Duration = Duration::from_secs(30 * 60);
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            url: "http://localhost:6334".to_owned(),
            http_url: None,
            api_key: None,
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            pool_size: 3,
            upsert_batch_size: 128,
            max_concurrent_upserts: 2,
            quantization: Quantization::None,
        }
    }
}

/// How dense vectors are kept in memory. Whatever is chosen, the vectors themselves are on disk, and the best by
/// the smaller ones are compared anew by them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantization {
    /// As they are, as far as the system caches them.
    #[default]
    None,
    /// A byte a dimension.
    Scalar,
    /// A bit a dimension: for models of many dimensions.
    Binary,
}

/// A secret that no print shows.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key itself.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for ApiKey {
    fn from(key: String) -> Self {
        Self(key)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// A configuration that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum InvalidServerConfig {
    /// Not an address. It is not repeated here, since it may hold a password.
    #[error("the Qdrant server's address is no http:// or https:// URL with a host: {0}")]
    Url(&'static str),
    /// A password in the address would be shown with it.
    #[error("the Qdrant server's address must not hold a user or password: set the API key instead")]
    Credentials,
    /// A number that must not be what it is.
    #[error("the Qdrant server's {0} must be at least 1 and at most {1}")]
    Number(&'static str, usize),
    /// A key that cannot be sent.
    #[error("the Qdrant server's API key has characters that cannot be sent")]
    ApiKey,
    /// The client cannot be set up.
    #[error("the client of the Qdrant server cannot be set up: {0}")]
    Client(String),
}

/// The largest batch: above it requests only grow.
const MAX_BATCH: usize = 1_000;

impl ServerConfig {
    /// Checks what can be checked without the server; the addresses for gRPC and HTTP.
    pub(super) fn addresses(&self) -> Result<(Url, Url), InvalidServerConfig> {
        for (name, value, most) in [
            ("upsert_batch_size", self.upsert_batch_size, MAX_BATCH),
            ("max_concurrent_upserts", self.max_concurrent_upserts, 64),
            ("pool_size", self.pool_size, 64),
        ] {
            if !(1..=most).contains(&value) {
                return Err(InvalidServerConfig::Number(name, most));
            }
        }
        let sendable = |key: &ApiKey| key.0.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if !self.api_key.as_ref().is_none_or(sendable) {
            return Err(InvalidServerConfig::ApiKey);
        }
        let grpc = address(&self.url)?;
        let http = match &self.http_url {
            Some(url) => address(url)?,
            None => {
                let mut same = grpc.clone();
                same.set_port(Some(6333)).map_err(|()| InvalidServerConfig::Url("it has no host"))?;
                same
            }
        };
        Ok((grpc, http))
    }
}

fn address(text: &str) -> Result<Url, InvalidServerConfig> {
    let url = Url::parse(text).map_err(|_| InvalidServerConfig::Url("it cannot be read"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(InvalidServerConfig::Url("it has another scheme"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidServerConfig::Credentials);
    }
    if !url[Position::AfterPath..].is_empty() {
        return Err(InvalidServerConfig::Url("it has a query or fragment"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> ServerConfig {
        ServerConfig { url: url.to_owned(), ..ServerConfig::default() }
    }

    #[test]
    fn http_is_next_to_grpc_unless_it_is_named() {
        let (grpc, http) = config("https://qdrant.example.org:6334").addresses().unwrap();
        assert_eq!(
            (grpc.as_str(), http.as_str()),
            ("https://qdrant.example.org:6334/", "https://qdrant.example.org:6333/")
        );
        let named = ServerConfig { http_url: Some("http://other/qdrant".to_owned()), ..config("http://a") };
        assert_eq!(named.addresses().unwrap().1.as_str(), "http://other/qdrant");
    }

    #[test]
    fn what_cannot_work_is_refused_before_anything_is_sent() {
        for url in ["", "qdrant:6334", "redis://a", "http://", "http://a?b"] {
            assert!(matches!(config(url).addresses(), Err(InvalidServerConfig::Url(_))), "{url:?}");
        }
        assert!(matches!(config("http://me@a").addresses(), Err(InvalidServerConfig::Credentials)));
        for broken in [
            ServerConfig { upsert_batch_size: 0, ..ServerConfig::default() },
            ServerConfig { max_concurrent_upserts: 0, ..ServerConfig::default() },
            ServerConfig { pool_size: 1_000, ..ServerConfig::default() },
        ] {
            assert!(matches!(broken.addresses(), Err(InvalidServerConfig::Number(..))), "{broken:?}");
        }
        let key = ServerConfig { api_key: Some("a\nb".to_owned().into()), ..ServerConfig::default() };
        assert!(matches!(key.addresses(), Err(InvalidServerConfig::ApiKey)));
    }

    #[test]
    fn no_print_shows_a_secret() {
        let keyed =
            ServerConfig { api_key: Some("hunter2".to_owned().into()), ..config("http://a:hunter2@b") };
        assert!(!format!("{:?}", keyed.api_key).contains("hunter2"));
        let refused = keyed.addresses().unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    }
}
