//! Client of the local API.

use std::path::Path;
use std::time::Duration;

use guildex_consistency::verify;
use guildex_search::{SearchRequest, SearchResponse};
use guildex_types::{ModelSlug, tls};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::BackupRequest;

/// Added to a search's own timeout for the transfer, and the timeout of the health check.
const GRACE: Duration = Duration::from_secs(5);

/// Timeout of backups and comparisons, which read the whole index.
const LONG_TIMEOUT: Duration = Duration::from_hours(24);

/// Error of a request to the process that holds the index.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The request is invalid.
    #[error("{0}")]
    Request(String),
    /// The search timed out; the request may be retried.
    #[error("{0}")]
    Timeout(String),
    /// A dependency is unavailable; the request may be retried later.
    #[error("{0}")]
    Unavailable(String),
    /// The process did not answer, or its response is invalid.
    #[error("the process that holds the index did not answer: {0}")]
    Http(#[from] reqwest::Error),
}

/// Client of the process that holds a data folder.
#[derive(Debug, Clone)]
pub struct Client(reqwest::Client);

impl Client {
    /// Connects to the process that listens at `path`; returns `None` if none does. `search_timeout` is the timeout of
    /// searches in that process; the client waits a little longer.
    ///
    /// # Errors
    /// If the client cannot be created.
    pub async fn connect(path: &Path, search_timeout: Duration) -> Result<Option<Self>, ClientError> {
        tls::ensure_provider();
        let client = reqwest::Client::builder()
            .unix_socket(path)
            .timeout(search_timeout.saturating_add(GRACE))
            .build()?;
        let health = client.get("http://guildex/health").timeout(GRACE).send().await;
        Ok(health.is_ok_and(|response| response.status().is_success()).then_some(Self(client)))
    }

    /// Searches.
    ///
    /// # Errors
    /// If the process rejects the request or does not answer.
    pub async fn search(&self, request: &SearchRequest) -> Result<SearchResponse, ClientError> {
        read(self.0.post("http://guildex/search").json(request).send().await?).await
    }

    /// Compares the index with Postgres, and repairs it if requested.
    ///
    /// # Errors
    /// If the process rejects the request or does not answer.
    pub async fn verify(&self, request: &verify::Request) -> Result<verify::Report, ClientError> {
        read(self.0.post("http://guildex/verify").timeout(LONG_TIMEOUT).json(request).send().await?).await
    }

    /// Writes a backup of all collections into `folder`, an absolute path. Returns the models of the collections.
    ///
    /// # Errors
    /// If the process rejects the request or does not answer.
    pub async fn backup(&self, folder: &Path) -> Result<Vec<ModelSlug>, ClientError> {
        let request = BackupRequest { folder: folder.to_owned() };
        let response =
            self.0.post("http://guildex/backup").timeout(LONG_TIMEOUT).json(&request).send().await?;
        read(response).await
    }
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: String,
    }
    let status = response.status();
    if status.is_success() {
        return Ok(response.json().await?);
    }
    let ErrorBody { error } = response.json().await?;
    Err(match status {
        StatusCode::UNPROCESSABLE_ENTITY => ClientError::Request(error),
        StatusCode::GATEWAY_TIMEOUT => ClientError::Timeout(error),
        _ => ClientError::Unavailable(error),
    })
}
