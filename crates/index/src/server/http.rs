//! Snapshot files over HTTP, streamed in both directions.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use guildex_types::tls;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::multipart::{Form, Part};
use reqwest::{RequestBuilder, Response, StatusCode, redirect};
use secrecy::ExposeSecret;
use tokio::fs::File;
use url::Url;

use super::ServerConfig;
use super::client::Client;
use super::error::{self, error_chain};
use crate::{CollectionName, Error};

/// Slowest transfer rate that a large file is allowed, in bytes per second.
const MIN_BYTES_PER_SECOND: u64 = 1024 * 1024;

/// How much of an error response is read.
const MAX_ERROR_BYTES: usize = 64 * 1024;

pub(super) struct Http<'a> {
    client: &'a Client,
    http: reqwest::Client,
    timeout: Duration,
}

impl<'a> Http<'a> {
    /// Creates a client for the transfer of one file.
    pub(super) fn for_file(client: &'a Client, bytes: u64) -> Result<Self, Error> {
        let failed =
            |why: String| Error::Engine(format!("cannot create the HTTP client for snapshots: {why}"));
        let mut headers = HeaderMap::new();
        if let Some(key) = &client.config.api_key {
            let mut value = HeaderValue::try_from(key.expose_secret())
                .map_err(|_| failed("the API key contains characters that cannot be sent".to_owned()))?;
            value.set_sensitive(true);
            headers.insert("api-key", value);
        }
        tls::ensure_provider();
        let http = reqwest::Client::builder()
            .connect_timeout(client.config.connect_timeout)
            .default_headers(headers)
            // As over gRPC.
            .no_proxy()
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| failed(error_chain(&error)))?;
        Ok(Self {
            client,
            http,
            timeout: ServerConfig::LONG + Duration::from_secs(bytes / MIN_BYTES_PER_SECOND),
        })
    }

    /// Starts a download. The caller applies the timeout to all of it with [`within`](Self::within).
    pub(super) async fn download(
        &self,
        collection: &CollectionName,
        name: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + use<'a>, Error> {
        let url = self.url(collection, &["snapshots", name])?;
        let response = self.send(collection, self.http.get(url)).await?;
        let client = self.client;
        Ok(response.bytes_stream().map_err(move |error| unavailable(client, error)))
    }

    /// Uploads a file and waits until the server has restored the collection from it.
    pub(super) async fn upload(
        &self,
        collection: &CollectionName,
        name: String,
        file: File,
        bytes: u64,
        sha256: &str,
    ) -> Result<(), Error> {
        let mut url = self.url(collection, &["snapshots", "upload"])?;
        url.query_pairs_mut().extend_pairs([
            ("wait", "true"),
            ("priority", "snapshot"),
            ("checksum", sha256),
        ]);
        let snapshot = Part::stream_with_length(file, bytes).file_name(name);
        let request = self.http.post(url).multipart(Form::new().part("snapshot", snapshot));
        self.within(self.send(collection, request)).await.map(drop)
    }

    /// Applies the file's timeout to a transfer.
    pub(super) async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let late = || Error::Unavailable(format!("a snapshot was not transferred within {:?}", self.timeout));
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| Err(late()))
    }

    async fn send(&self, collection: &CollectionName, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|error| unavailable(self.client, error))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND => Err(Error::NoCollection(collection.clone())),
            status => {
                let message = error_body(response).await;
                Err(error::from_http_status(status.as_u16(), &message, host(self.client)))
            }
        }
    }

    fn url(&self, collection: &CollectionName, path: &[&str]) -> Result<Url, Error> {
        let mut url = self.client.http_url.clone();
        url.path_segments_mut()
            .map_err(|()| Error::Engine("the server's URL cannot have a path".to_owned()))?
            .pop_if_empty()
            .extend(["collections", collection.as_str()])
            .extend(path);
        Ok(url)
    }
}

/// Reads the beginning of an error response.
async fn error_body(mut response: Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ERROR_BYTES {
            break;
        }
    }
    body.truncate(MAX_ERROR_BYTES);
    String::from_utf8_lossy(&body).into_owned()
}

fn unavailable(client: &Client, error: reqwest::Error) -> Error {
    let reason = error_chain(&error.without_url());
    Error::Unavailable(format!("snapshots over HTTP from {}: {reason}", host(client)))
}

fn host(client: &Client) -> &str {
    client.http_url.host_str().unwrap_or_default()
}
