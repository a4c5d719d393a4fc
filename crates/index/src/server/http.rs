//! Files to and from the server, a piece at a time.
//!
//! A client of its own, rather than reqwest: with TLS switched on, every reqwest client of the program, even that
//! of a Unix socket, panics unless somebody has chosen a TLS provider for the whole process.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyDataStream, BodyExt, Empty, Limited, StreamBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use url::Url;

use super::client::Client;
use super::{ServerConfig, error};
use crate::{CollectionName, Error};

/// How much of a file is held in memory.
const PIECE: usize = 256 * 1024;

/// The slowest connection that a large file is sent over, in bytes a second.
const SLOWEST: u64 = 1024 * 1024;

/// How much of a refusal is read.
const REFUSAL: usize = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(super) struct Http<'a> {
    client: &'a Client,
    http: legacy::Client<HttpsConnector<HttpConnector>, Body>,
    api_key: Option<HeaderValue>,
    /// What a file of so many bytes takes at most.
    time: Duration,
}

impl<'a> Http<'a> {
    /// A client for one file.
    pub(super) fn for_file(client: &'a Client, bytes: u64) -> Result<Self, Error> {
        let failed = |what: &str| Error::Engine(format!("the client for snapshots cannot be set up: {what}"));
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(client.config.connect_timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls().map_err(|error| failed(&error.to_string()))?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let api_key = client.config.api_key.as_ref().map(|key| {
            let mut value = HeaderValue::try_from(key.reveal())?;
            value.set_sensitive(true);
            Ok::<_, http::header::InvalidHeaderValue>(value)
        });
        Ok(Self {
            client,
            http: legacy::Client::builder(TokioExecutor::new()).build(connector),
            api_key: api_key
                .transpose()
                .map_err(|_| failed("the API key has characters that cannot be sent"))?,
            time: ServerConfig::LONG + Duration::from_secs(bytes / SLOWEST),
        })
    }

    /// A file, piece by piece. The deadline for all of it is with whoever reads it: [`within`](Self::within).
    pub(super) async fn download(
        &self,
        collection: &CollectionName,
        name: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + use<'a>, Error> {
        let request = Request::get(self.address(collection, &["snapshots", name])?.as_str());
        let body = self.send(collection, request, nothing()).await?;
        let client = self.client;
        Ok(BodyDataStream::new(body).map_err(move |error| away(client, &error)))
    }

    /// Sends a file as a form's field and waits until the server has made the collection of it.
    pub(super) async fn upload(
        &self,
        collection: &CollectionName,
        name: &str,
        file: File,
        bytes: u64,
        sha256: &str,
    ) -> Result<(), Error> {
        let mut url = self.address(collection, &["snapshots", "upload"])?;
        url.query_pairs_mut().extend_pairs([
            ("wait", "true"),
            ("priority", "snapshot"),
            ("checksum", sha256),
        ]);
        let boundary = uuid::Uuid::new_v4().simple();
        let before = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"snapshot\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let after = format!("\r\n--{boundary}--\r\n");
        let request = Request::post(url.as_str())
            .header(CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"))
            .header(CONTENT_LENGTH, before.len() as u64 + bytes + after.len() as u64);
        let text = |text: String| stream::iter([Ok(Bytes::from(text))]);
        let pieces = text(before).chain(pieces(file)).chain(text(after));
        let body = StreamBody::new(pieces.map_ok(http_body::Frame::data)).boxed_unsync();
        self.within(self.send(collection, request, body)).await.map(drop)
    }

    /// Ends what takes longer than a file may.
    pub(super) async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let late = || Error::Unavailable(format!("a snapshot is not over in {:?}", self.time));
        tokio::time::timeout(self.time, work).await.unwrap_or_else(|_| Err(late()))
    }

    async fn send(
        &self,
        collection: &CollectionName,
        mut request: http::request::Builder,
        body: Body,
    ) -> Result<hyper::body::Incoming, Error> {
        if let Some(key) = &self.api_key {
            request = request.header("api-key", key);
        }
        let request = request.body(body).map_err(|error| Error::Engine(error.to_string()))?;
        let response = self.http.request(request).await.map_err(|error| away(self.client, &error))?;
        let (head, body) = response.into_parts();
        match head.status {
            status if status.is_success() => Ok(body),
            StatusCode::NOT_FOUND => Err(Error::NoCollection(collection.clone())),
            status => {
                let refusal = Limited::new(body, REFUSAL).collect().await.map(|text| text.to_bytes());
                let text = refusal.unwrap_or_default();
                Err(error::from_http_status(
                    status.as_u16(),
                    &String::from_utf8_lossy(&text),
                    host(self.client),
                ))
            }
        }
    }

    fn address(&self, collection: &CollectionName, path: &[&str]) -> Result<Url, Error> {
        let mut url = self.client.http_url.clone();
        url.path_segments_mut()
            .map_err(|()| Error::Engine("the server's address takes no path".to_owned()))?
            .pop_if_empty()
            .extend(["collections", collection.as_str()])
            .extend(path);
        Ok(url)
    }
}

fn pieces(file: File) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(file, |mut file| async {
        let mut piece = BytesMut::with_capacity(PIECE);
        let read = file.read_buf(&mut piece).await?;
        Ok((read > 0).then(|| (piece.freeze(), file)))
    })
}

fn nothing() -> Body {
    Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// The system's certificates, as on the way by gRPC.
fn tls() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn away(client: &Client, error: &(dyn std::error::Error + 'static)) -> Error {
    let reasons: Vec<_> =
        iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    Error::Unavailable(format!("snapshots over HTTP from {}: {}", host(client), reasons.join(": ")))
}

fn host(client: &Client) -> &str {
    client.http_url.host_str().unwrap_or_default()
}
