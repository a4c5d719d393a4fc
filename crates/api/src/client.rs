use std::path::Path;

use guildex_search::{Request, Results};
use serde::Deserialize;

/// Why another process gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It answered with an error.
    #[error("{0}")]
    Refused(String),
    /// It did not answer as it should.
    #[error("the process that holds the index did not answer: {0}")]
    Http(#[from] reqwest::Error),
}

/// Asks the process that holds a data folder.
#[derive(Debug, Clone)]
pub struct Client(reqwest::Client);

impl Client {
    /// A client of the process that listens at `path`; `None` if none does.
    ///
    /// # Errors
    /// If the client cannot be made.
    pub async fn connect(path: &Path) -> Result<Option<Self>, ClientError> {
        let client = reqwest::Client::builder().unix_socket(path).build()?;
        let alive = client.get("http://guildex/health").send().await.is_ok_and(|r| r.status().is_success());
        Ok(alive.then_some(Self(client)))
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
        if response.status().is_success() {
            Ok(response.json().await?)
        } else {
            Err(ClientError::Refused(response.json::<Refusal>().await?.error))
        }
    }
}
