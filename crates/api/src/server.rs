//! Server of the local API.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::BackupRequest;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use guildex_consistency::backup::{self, backup};
use guildex_consistency::verify::{self, Verifier, VerifyError};
use guildex_search::{SearchError, SearchRequest, Searcher};
use serde_json::json;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

/// The socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {path}: {source} (socket paths are limited to about 100 bytes; try a shorter data_dir)"
)]
pub struct ServeError {
    path: PathBuf,
    source: io::Error,
}

/// Serves the API on the socket until `stop` is cancelled, then removes the socket. The caller holds the lock of the
/// data folder, so an existing socket is a leftover of a killed process.
///
/// # Errors
/// If the socket cannot be opened.
pub async fn serve(
    path: &Path,
    searcher: Searcher,
    verifier: Verifier,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let failed = |source| ServeError { path: path.to_owned(), source };
    let listener = listen(path).map_err(failed)?;
    let app = Router::new()
        .route("/health", get(async || "ok\n"))
        .route("/search", post(search))
        .route("/backup", post(handle_backup))
        .with_state(searcher)
        .merge(Router::new().route("/verify", post(compare)).with_state(verifier));
    let served = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await;
    let _ = std::fs::remove_file(path);
    served.map_err(failed)
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

async fn search(
    State(searcher): State<Searcher>,
    request: Result<Json<SearchRequest>, JsonRejection>,
) -> Response {
    let Json(request) = match request {
        Ok(request) => request,
        Err(rejection) => return error_response(StatusCode::UNPROCESSABLE_ENTITY, rejection.body_text()),
    };
    match searcher.search(&request).await {
        Ok(results) => Json(results).into_response(),
        Err(error) => error_response(status(&error), error.to_string()),
    }
}

/// Writes a backup wherever this process may write: only the owner of the socket can send requests.
async fn handle_backup(
    State(searcher): State<Searcher>,
    request: Result<Json<BackupRequest>, JsonRejection>,
) -> Response {
    let Json(BackupRequest { folder }) = match request {
        Ok(request) => request,
        Err(rejection) => return error_response(StatusCode::UNPROCESSABLE_ENTITY, rejection.body_text()),
    };
    let Searcher { pool, index, collection_prefix, .. } = &searcher;
    match backup(pool, index.as_ref(), collection_prefix, &folder).await {
        Ok(models) => Json(models).into_response(),
        Err(error @ backup::Error::Folder(_)) => {
            error_response(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
        }
        Err(error) => error_response(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

/// Stops early if the client disconnects.
async fn compare(
    State(verifier): State<Verifier>,
    request: Result<Json<verify::Request>, JsonRejection>,
) -> Response {
    let Json(request) = match request {
        Ok(request) => request,
        Err(rejection) => return error_response(StatusCode::UNPROCESSABLE_ENTITY, rejection.body_text()),
    };
    match verifier.verify(&request, &|_| {}).await {
        Ok(report) => Json(report).into_response(),
        Err(error @ VerifyError::Ownership(_)) => {
            error_response(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
        }
        Err(error) => error_response(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

/// Status that says what the client can do: change the request, retry with a longer timeout, or retry later.
fn status(error: &SearchError) -> StatusCode {
    match error {
        SearchError::Request(_) => StatusCode::UNPROCESSABLE_ENTITY,
        SearchError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn error_response(status: StatusCode, error: String) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}
