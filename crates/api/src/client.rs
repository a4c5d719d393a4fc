use std::path::Path;
use std::time::Duration;

use guildex_consistency::verify;
use guildex_search::{SearchRequest, SearchResponse};
use guildex_types::ModelSlug;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::BackUp;

/// What a search's own deadline may be exceeded by on its way, and the longest wait for a sign of life.
const GRACE: Duration = Duration::from_secs(5);

/// How long a backup or a comparison may take: it goes through everything.
const LONG: Duration = Duration::from_hours(24);

/// Why another process gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It does not answer what was asked: ask otherwise.
    #[error("{0}")]
    Request(String),
    /// It gave up when its deadline was over: ask again.
    #[error("{0}")]
    Timeout(String),
    /// It cannot answer for the moment: ask again later.
    #[error("{0}")]
    Unavailable(String),
    /// It did not answer as it should.
    #[error("the process that holds the index did not answer: {0}")]
    Http(#[from] reqwest::Error),
}

/// Asks the process that holds a data folder.
#[derive(Debug, Clone)]
pub struct Client(reqwest::Client);

impl Client {
    /// A client of the process that listens at `path`; `None` if none does. `deadline` is the one that a search has
    /// there: the client waits a little longer.
    ///
    /// # Errors
    /// If the client cannot be made.
    pub async fn connect(path: &Path, deadline: Duration) -> Result<Option<Self>, ClientError> {
        let client =
            reqwest::Client::builder().unix_socket(path).timeout(deadline.saturating_add(GRACE)).build()?;
        let health = client.get("http://guildex/health").timeout(GRACE).send().await;
        Ok(health.is_ok_and(|answer| answer.status().is_success()).then_some(Self(client)))
    }

    /// Searches there.
    ///
    /// # Errors
    /// If the other process refuses or does not answer.
    pub async fn search(&self, request: &SearchRequest) -> Result<SearchResponse, ClientError> {
        answer(self.0.post("http://guildex/search").json(request).send().await?).await
    }

    /// Has it compare the truth with its index.
    ///
    /// # Errors
    /// If the other process refuses or does not answer.
    pub async fn verify(&self, request: &verify::Request) -> Result<verify::Report, ClientError> {
        answer(self.0.post("http://guildex/verify").timeout(LONG).json(request).send().await?).await
    }

    /// Has it write a backup of its collections into a folder, which it names from the root. Returns the models.
    ///
    /// # Errors
    /// If the other process refuses or does not answer.
    pub async fn backup(&self, folder: &Path) -> Result<Vec<ModelSlug>, ClientError> {
        let request = BackUp { folder: folder.to_owned() };
        let response = self.0.post("http://guildex/backup").timeout(LONG).json(&request).send().await?;
        answer(response).await
    }
}

async fn answer<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let status = response.status();
    if status.is_success() {
        return Ok(response.json().await?);
    }
    let Refusal { error } = response.json().await?;
    Err(match status {
        StatusCode::UNPROCESSABLE_ENTITY => ClientError::Request(error),
        StatusCode::GATEWAY_TIMEOUT => ClientError::Timeout(error),
        _ => ClientError::Unavailable(error),
    })
}
