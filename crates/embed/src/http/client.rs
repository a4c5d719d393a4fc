//! Sends one request to the embeddings API.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use guildex_types::{ErrorChain, tls};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Certificate, StatusCode, Url, redirect};
use secrecy::ExposeSecret;

use super::config::HttpConfig;
use crate::error::LoadError;

/// Limit for opening a connection; the timeout of the request applies too.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// HTTP client for one endpoint.
pub(super) struct Client {
    http: reqwest::Client,
    endpoint: Url,
    timeout: Duration,
}

/// Response of the API, read completely.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Client {
    pub(super) fn new(config: &HttpConfig) -> Result<Self, LoadError> {
        let invalid = |setting, problem| LoadError::Setting { setting, problem };
        let mut headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        if let Some(key) = &config.api_key {
            let mut value =
                HeaderValue::try_from(format!("Bearer {}", key.expose_secret())).map_err(|_| {
                    invalid("api_key", "contains characters that are not allowed, such as a line break")
                })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        tls::ensure_provider();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .default_headers(headers)
            .user_agent(concat!("guildex/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .tls_certs_merge(mozilla_roots())
            .build()
            .map_err(|_| invalid("TLS", "cannot be set up"))?;
        Ok(Self { http, endpoint: config.base_url.embeddings(), timeout: config.timeout })
    }

    /// Posts a JSON `body` and reads a response of at most `limit` bytes. Errors contain no URL, headers or texts.
    pub(super) async fn post(&self, body: Vec<u8>, limit: usize) -> Result<Reply, String> {
        let exchange = async {
            let request = self.http.post(self.endpoint.clone()).body(body);
            let mut response = request.send().await.map_err(describe)?;
            let (status, headers) = (response.status(), response.headers().clone());
            let mut body = BytesMut::new();
            while let Some(chunk) = response.chunk().await.map_err(describe)? {
                if body.len().saturating_add(chunk.len()) > limit {
                    return Err(format!("the response is longer than {limit} bytes"));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Reply { status, headers, body: body.freeze() })
        };
        let late = || format!("no response within {:?}", self.timeout);
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or_else(|_| Err(late()))
    }
}

/// Mozilla's root certificates, in addition to the system's: containers often have none.
fn mozilla_roots() -> impl Iterator<Item = Certificate> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter_map(|root| Certificate::from_der(root).ok())
}

/// Describes an error with its sources but without the URL, whose query may hold a secret.
fn describe(error: reqwest::Error) -> String {
    ErrorChain(&error.without_url()).to_string()
}
