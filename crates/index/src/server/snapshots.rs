//! Whole collections as files, over HTTP: gRPC does not carry them. Nothing holds a file in memory.

use std::io;
use std::path::Path;
use std::pin::pin;

use futures::TryStreamExt;
use qdrant_client::qdrant::{DeleteSnapshotRequest, SnapshotDescription};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

use super::client::Client;
use super::collections;
use super::http::Http;
use crate::{Collection, CollectionName, Error};

/// The server's file in a snapshot's folder.
const FILE: &str = "collection.snapshot";
/// What we say of it. It is written last: a folder without it is no snapshot.
const MANIFEST: &str = "manifest.json";

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
    let http = Http::for_file(client, bytes)?;
    let sent = http.upload(&wanted.name, name.clone(), file, bytes, &manifest.sha256).await;
    tidy(client, &wanted.name, &name).await;
    sent?;

    client.invalidate(&wanted.name);
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
    let path = folder.join(FILE);
    let broken = |source| Error::Io { path: path.clone(), source };
    let mut file = File::create(&path).await.map_err(broken)?;
    let (mut bytes, mut digest) = (0, Sha256::new());
    let http = Http::for_file(client, made.size.unsigned_abs())?;
    http.within(async {
        let mut pieces = pin!(http.download(collection, &made.name).await?);
        while let Some(piece) = pieces.try_next().await? {
            bytes += piece.len() as u64;
            digest.update(&piece);
            file.write_all(&piece).await.map_err(broken)?;
        }
        Ok(())
    })
    .await?;
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
    let deleted = client.change_collection(collection, |qdrant| qdrant.delete_snapshot(request)).await;
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
