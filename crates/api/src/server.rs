use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::BackUp;
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
    "cannot listen on {path}: {source} (a socket's path may have about 100 bytes: a shorter data_dir helps)"
)]
pub struct ServeError {
    path: PathBuf,
    source: io::Error,
}

/// Answers on the socket until `stop`, and removes it then. The caller holds the data folder's lock, so a socket
/// that is there already is one that a killed process left.
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
        .route("/backup", post(back_up))
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
        Err(rejection) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, rejection.body_text()),
    };
    match searcher.search(&request).await {
        Ok(results) => Json(results).into_response(),
        Err(error) => refuse(status(&error), error.to_string()),
    }
}

/// Only who may use the socket gets here, and so may write where this process may.
async fn back_up(State(searcher): State<Searcher>, request: Result<Json<BackUp>, JsonRejection>) -> Response {
    let Json(BackUp { folder }) = match request {
        Ok(request) => request,
        Err(rejection) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, rejection.body_text()),
    };
    let Searcher { pool, index, collection_prefix, .. } = &searcher;
    match backup(pool, index.as_ref(), collection_prefix, &folder).await {
        Ok(models) => Json(models).into_response(),
        Err(error @ backup::Error::Folder(_)) => refuse(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

/// Ends early where the asker goes away.
async fn compare(
    State(verifier): State<Verifier>,
    request: Result<Json<verify::Request>, JsonRejection>,
) -> Response {
    let Json(request) = match request {
        Ok(request) => request,
        Err(rejection) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, rejection.body_text()),
    };
    match verifier.verify(&request, &|_| {}).await {
        Ok(report) => Json(report).into_response(),
        Err(error @ VerifyError::Ownership(_)) => refuse(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

/// What the asker can do about it: ask otherwise, ask again with more patience, or wait.
fn status(error: &SearchError) -> StatusCode {
    match error {
        SearchError::Request(_) => StatusCode::UNPROCESSABLE_ENTITY,
        SearchError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn refuse(status: StatusCode, error: String) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}
