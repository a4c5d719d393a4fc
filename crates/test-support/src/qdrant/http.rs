//! Snapshots' files.

use std::collections::HashMap;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Multipart, Path, Query, State as Extract};
use axum::http::StatusCode;
use axum::routing::{get, post};
use sha2::{Digest, Sha256};

use super::State;
use super::store::Stored;

pub fn routes(state: State) -> Router {
    Router::new()
        .route("/collections/{collection}/snapshots/{name}", get(download))
        .route("/collections/{collection}/snapshots/upload", post(upload))
        .layer(DefaultBodyLimit::disable())
        .with_state(state)
}

async fn download(
    Extract(state): Extract<State>,
    Path((collection, name)): Path<(String, String)>,
) -> Result<Vec<u8>, StatusCode> {
    state.memory().snapshots.get(&(collection, name)).cloned().ok_or(StatusCode::NOT_FOUND)
}

async fn upload(
    Extract(state): Extract<State>,
    Path(collection): Path<String>,
    Query(settings): Query<HashMap<String, String>>,
    mut form: Multipart,
) -> Result<(), (StatusCode, &'static str)> {
    let refused = |why| (StatusCode::BAD_REQUEST, why);
    let field = form.next_field().await.ok().flatten().ok_or(refused("no file"))?;
    let name = field.file_name().unwrap_or("unnamed").to_owned();
    let file = field.bytes().await.map_err(|_| refused("half a file"))?;
    let checksum: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    if settings.get("checksum").is_some_and(|wanted| *wanted != checksum) {
        return Err(refused("another checksum"));
    }
    if settings.get("priority").map(String::as_str) != Some("snapshot") {
        return Err(refused("another priority"));
    }
    let stored = Stored::from_file(&file).ok_or(refused("no snapshot"))?;
    let mut memory = state.memory();
    memory.snapshots.insert((collection.clone(), name), file.to_vec());
    memory.collections.insert(collection, stored);
    Ok(())
}
