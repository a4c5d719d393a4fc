use std::path::Path;
use std::time::Duration;

use guildex_search::{Request, Results};
use reqwest::StatusCode;
use serde::Deserialize;

/// What a search's own deadline may be exceeded by on its way, and the longest wait for a sign of life.
const GRACE: Duration = Duration::from_secs(5);

/// Why another process gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It does not answer what was asked: ask otherwise.
    #[error("{0}")]
    Request(String),
    /// It gave up when its deadline was over: ask again.
    #[error("{0}")]
    Deadline(String),
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
    pub async fn search(&self, request: &Request) -> Result<Results, ClientError> {
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
        }
        let response = self.0.post("http://guildex/search").json(request).send().await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.json().await?);
        }
        let Refusal { error } = response.json().await?;
        Err(match status {
            StatusCode::UNPROCESSABLE_ENTITY => ClientError::Request(error),
            StatusCode::GATEWAY_TIMEOUT => ClientError::Deadline(error),
            _ => ClientError::Unavailable(error),
        })
    }
}
