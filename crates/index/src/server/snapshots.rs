//! Whole collections as files, over HTTP: gRPC does not carry them. Nothing holds a file in memory.

use std::io;
use std::path::Path;
use std::time::Duration;

use qdrant_client::qdrant::{DeleteSnapshotRequest, SnapshotDescription};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Body, Client as Http, RequestBuilder, Response, StatusCode, multipart};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;
use url::Url;

use super::client::Client;
use super::{ServerConfig, collections, fault};
use crate::{Collection, CollectionName, Error};

/// The server's file in a snapshot's folder.
const FILE: &str = "collection.snapshot";
/// What we say of it. It is written last: a folder without it is no snapshot.
const MANIFEST: &str = "manifest.json";

/// The slowest connection that a large file is sent over, in bytes a second.
const SLOWEST: u64 = 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Manifest {
    dims: usize,
    bytes: u64,
    sha256: String,
}

pub(super) async fn snapshot(
    client: &Client,
    collection: &CollectionName,
    folder: &Path,
) -> Result<(), Error> {
    let dims = client.dims(collection).await?;
    let made = client.long_call(collection, |qdrant| qdrant.create_snapshot(collection.as_str())).await?;
    let made =
        made.snapshot_description.ok_or_else(|| Error::Engine("it says nothing of a snapshot".to_owned()))?;

    let outcome = download(client, collection, &made, folder).await;
    tidy(client, collection, &made.name).await;
    let (bytes, sha256) = outcome?;

    let manifest = Manifest { dims, bytes, sha256 };
    let text = serde_json::to_vec(&manifest).map_err(|error| Error::Engine(error.to_string()))?;
    let path = folder.join(MANIFEST);
    fs::write(&path, text).await.map_err(|source| Error::Io { path, source })
}

/// Takes the place of the collection only once the server has the whole file and its checksum is right.
pub(super) async fn restore(client: &Client, wanted: &Collection, folder: &Path) -> Result<(), Error> {
    let manifest = read_manifest(folder).await?;
    if manifest.dims != wanted.dims {
        let difference =
            format!("the snapshot has dense vectors of {} dimensions, not {}", manifest.dims, wanted.dims);
        return Err(Error::Mismatch { collection: wanted.name.clone(), difference });
    }
    let path = folder.join(FILE);
    let broken = |source| Error::Io { path: path.clone(), source };
    let file = match File::open(&path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(not_one(folder, "its file is missing"));
        }
        file => file.map_err(broken)?,
    };
    let bytes = file.metadata().await.map_err(broken)?.len();
    if bytes != manifest.bytes {
        return Err(not_one(folder, "its file has another length"));
    }

    // A name of its own, so that what the server keeps of it can be deleted.
    let name = format!("guildex-{}.snapshot", uuid::Uuid::new_v4());
    let part = multipart::Part::stream_with_length(Body::from(file), bytes).file_name(name.clone());
    let mut url = address(client, &wanted.name, &["snapshots", "upload"])?;
    url.query_pairs_mut().extend_pairs([
        ("wait", "true"),
        ("priority", "snapshot"),
        ("checksum", &manifest.sha256),
    ]);
    let request = http(client)?
        .post(url)
        .multipart(multipart::Form::new().part("snapshot", part))
        .timeout(time_for(bytes));
    let sent = send(client, &wanted.name, request).await;
    tidy(client, &wanted.name, &name).await;
    sent?;

    client.forget(&wanted.name);
    // A snapshot brings the settings of its time with it, and whose it was then: nobody's until somebody says so.
    collections::ensure(client, wanted).await?;
    collections::clear_identity(client, &wanted.name).await
}

/// Fetches the file; its length and checksum, which are as the server said.
async fn download(
    client: &Client,
    collection: &CollectionName,
    made: &SnapshotDescription,
    folder: &Path,
) -> Result<(u64, String), Error> {
    let url = address(client, collection, &["snapshots", &made.name])?;
    let request = http(client)?.get(url).timeout(time_for(made.size.unsigned_abs()));
    let mut response = send(client, collection, request).await?;

    let path = folder.join(FILE);
    let broken = |source| Error::Io { path: path.clone(), source };
    let mut file = File::create(&path).await.map_err(broken)?;
    let (mut bytes, mut digest) = (0, Sha256::new());
    while let Some(chunk) = response.chunk().await.map_err(|error| away(client, error))? {
        bytes += chunk.len() as u64;
        digest.update(&chunk);
        file.write_all(&chunk).await.map_err(broken)?;
    }
    file.sync_all().await.map_err(broken)?;

    let sha256: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if made.checksum.as_ref().is_some_and(|checksum| *checksum != sha256) {
        return Err(Error::Unavailable("a snapshot arrived with another checksum".to_owned()));
    }
    Ok((bytes, sha256))
}

/// Deletes a file of ours on the server; whether that works does not change what was done with it.
async fn tidy(client: &Client, collection: &CollectionName, name: &str) {
    let request =
        DeleteSnapshotRequest { collection_name: collection.to_string(), snapshot_name: name.to_owned() };
    let deleted = client.long_call(collection, |qdrant| qdrant.delete_snapshot(request)).await;
    if let Err(error) = deleted {
        tracing::debug!(%collection, snapshot = name, %error, "a snapshot is not on the server to delete");
    }
}

async fn read_manifest(folder: &Path) -> Result<Manifest, Error> {
    let path = folder.join(MANIFEST);
    match fs::read(&path).await {
        Ok(text) => serde_json::from_slice(&text).map_err(|_| not_one(folder, "its manifest cannot be read")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(not_one(folder, "it has no manifest")),
        Err(source) => Err(Error::Io { path, source }),
    }
}

fn not_one(folder: &Path, why: &str) -> Error {
    Error::NotASnapshot { folder: folder.to_owned(), reason: why.to_owned() }
}

fn time_for(bytes: u64) -> Duration {
    ServerConfig::LONG + Duration::from_secs(bytes / SLOWEST)
}

fn http(client: &Client) -> Result<Http, Error> {
    if client.http_url.scheme() == "https" {
        // The client comes without one; that of the gRPC side serves both. Somebody may have chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let mut headers = HeaderMap::new();
    if let Some(key) = &client.config.api_key {
        let mut value =
            HeaderValue::from_str(key.reveal()).map_err(|error| Error::Engine(error.to_string()))?;
        value.set_sensitive(true);
        headers.insert("api-key", value);
    }
    Http::builder()
        // As gRPC does.
        .no_proxy()
        .connect_timeout(client.config.connect_timeout)
        .default_headers(headers)
        .build()
        .map_err(|error| Error::Engine(error.to_string()))
}

fn address(client: &Client, collection: &CollectionName, path: &[&str]) -> Result<Url, Error> {
    let mut url = client.http_url.clone();
    url.path_segments_mut()
        .map_err(|()| Error::Engine("the server's address takes no path".to_owned()))?
        .pop_if_empty()
        .extend(["collections", collection.as_str()])
        .extend(path);
    Ok(url)
}

async fn send(
    client: &Client,
    collection: &CollectionName,
    request: RequestBuilder,
) -> Result<Response, Error> {
    let response = request.send().await.map_err(|error| away(client, error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let message = response.text().await.unwrap_or_default();
    Err(match status {
        StatusCode::NOT_FOUND => Error::NoCollection(collection.clone()),
        status => fault::of_http(status.as_u16(), &message, client.http_url.host_str().unwrap_or_default()),
    })
}

fn away(client: &Client, error: reqwest::Error) -> Error {
    let host = client.http_url.host_str().unwrap_or_default();
    // Its address is not for everybody's eyes.
    Error::Unavailable(format!("snapshots over HTTP from {host}: {}", error.without_url()))
}
