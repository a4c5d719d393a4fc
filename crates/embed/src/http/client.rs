//! One request to the service.
//!
//! A client of its own, rather than reqwest: with TLS switched on, every reqwest client of the program, even that of
//! a Unix socket, panics unless somebody has chosen a TLS provider for the whole process.

use std::error::Error;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;

use super::config::HttpConfig;
use crate::error::LoadError;

/// How long a connection may take; the request's own limit holds too.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks one endpoint, over connections that it keeps.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Uri,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

/// What the service answered.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Client {
    pub(super) fn new(config: &HttpConfig) -> Result<Self, LoadError> {
        let refuse = |setting, problem| LoadError::Setting { setting, problem };
        let endpoint = config.base_url.embeddings().as_str().parse();
        let authorization = config.api_key.as_ref().map(|key| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose_secret()))?;
            value.set_sensitive(true);
            Ok::<_, http::header::InvalidHeaderValue>(value)
        });
        let tls = tls().map_err(|_| refuse("TLS", "cannot be set up"))?;

        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self {
            http: legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .build(connector),
            endpoint: endpoint.map_err(|_| refuse("base_url", "is not an address that can be asked"))?,
            authorization: authorization
                .transpose()
                .map_err(|_| refuse("api_key", "has characters that no key has, such as a line break"))?,
            timeout: config.timeout,
        })
    }

    /// Sends `body`, JSON, and reads an answer of at most `limit` bytes. What went wrong is told without address,
    /// headers or texts.
    pub(super) async fn post(&self, body: Vec<u8>, limit: usize) -> Result<Reply, String> {
        let mut request = Request::post(self.endpoint.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("guildex/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::from(body)).map_err(|error| chain(&error))?;
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| chain(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, limit).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    format!("the response is longer than {limit} bytes")
                } else {
                    chain(error.as_ref())
                }
            })?;
            Ok(Reply { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        let late = || format!("no response within {:?}", self.timeout);
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or_else(|_| Err(late()))
    }
}

/// The system's certificates, where it has any, and Mozilla's: a service of one's own is as good as a public one,
/// and a container without certificates will do.
fn tls() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// An error and its sources.
fn chain(error: &(dyn Error + 'static)) -> String {
    iter::successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
