use std::sync::Arc;

use guildex_embed::ModelRegistry;
use guildex_index::VectorIndex;
use sqlx::PgPool;
use tracing::{Instrument, info_span};

use crate::config::{Fallback, SearchConfig};
use crate::deadline::Deadline;
use crate::error::SearchError;
use crate::request::{SearchRequest, ValidatedRequest};
use crate::response::SearchResponse;

/// Executes searches. Cheap to clone.
#[derive(Clone)]
pub struct Searcher {
    /// Postgres.
    pub pool: PgPool,
    /// Embedding models.
    pub models: Arc<ModelRegistry>,
    /// Vector index.
    pub index: Arc<dyn VectorIndex>,
    /// Prefix of collection names.
    pub collection_prefix: String,
    /// Configuration.
    pub config: SearchConfig,
}

impl Searcher {
    /// Returns the sessions that match the request, best first, or fails within the configured timeout.
    ///
    /// # Errors
    /// [`SearchError::Request`] if the request is invalid; [`SearchError::Timeout`] or [`SearchError::Unavailable`] if
    /// it may be retried; others if the model, the index or Postgres fail.
    pub async fn search(&self, request: &SearchRequest) -> Result<SearchResponse, SearchError> {
        let request = request.validate(self.config.mode)?;
        // Never the query: it is private.
        let span = info_span!("search", guild = %request.scope.tenant(), mode = %request.mode);
        self.run(&request).instrument(span).await
    }

    async fn run(&self, request: &ValidatedRequest) -> Result<SearchResponse, SearchError> {
        let deadline = Deadline::start(&self.config);
        match self.vector_search(request, &deadline).await {
            Err(error) if self.config.fallback == Fallback::Postgres && error.allows_fallback() => {
                tracing::warn!(%error, "falling back to Postgres full-text search");
                self.fallback_search(request, &deadline, error.to_string()).await
            }
            outcome => outcome,
        }
    }
}
