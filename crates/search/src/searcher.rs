//! The search as a whole: in time, and by whoever can answer.

use std::sync::Arc;
use std::time::Duration;

use guildex_embed::ModelRegistry;
use guildex_index::VectorIndex;
use sqlx::PgPool;
use tokio::time::{Instant, timeout};

use crate::config::{Fallback, SearchConfig};
use crate::error::{Dependency, SearchError};
use crate::request::SearchRequest;
use crate::response::SearchResponse;

/// What part of the deadline model and index may use up where Postgres is to answer after them.
const INDEX_SHARE: f64 = 0.6;

/// Answers searches. Cheap to clone.
#[derive(Clone)]
pub struct Searcher {
    /// The truth.
    pub pool: PgPool,
    /// The models at hand.
    pub models: Arc<ModelRegistry>,
    /// The index.
    pub index: Arc<dyn VectorIndex>,
    /// What the names of collections begin with; a model's name follows.
    pub base: String,
    /// How searches are answered.
    pub config: SearchConfig,
}

impl Searcher {
    /// The sessions that answer the request best, best first. There is an answer or an error when the configured
    /// deadline is over, whoever is away; nothing has to be started anew when they come back.
    ///
    /// # Errors
    /// [`SearchError::Request`] if it cannot be answered as it was asked; [`SearchError::Timeout`] or
    /// [`SearchError::Unavailable`] if it may be repeated as it is; others if model, index or Postgres fail.
    pub async fn search(&self, request: &SearchRequest) -> Result<SearchResponse, SearchError> {
        let request = request.check(self.config.mode)?;
        let deadline = Deadline::start(&self.config);
        match self.vector_search(&request, &deadline).await {
            Err(error) if self.config.fallback == Fallback::Postgres && error.allows_fallback() => {
                tracing::warn!(guild = %request.scope.tenant(), %error, "a search is left to Postgres");
                self.fallback_search(&request, &deadline, error.to_string()).await
            }
            outcome => outcome,
        }
    }
}

/// How long a search may go on.
pub(crate) struct Deadline {
    begun: Instant,
    /// For all of it.
    whole: Duration,
    /// For what model and index are waited for.
    index: Duration,
}

impl Deadline {
    fn start(config: &SearchConfig) -> Self {
        let whole = config.timeout;
        let index = match config.fallback {
            Fallback::None => whole,
            Fallback::Postgres => whole.mul_f64(INDEX_SHARE),
        };
        Self { begun: Instant::now(), whole, index }
    }

    /// Waits for a part as long as there is time.
    pub async fn within<T, E>(
        &self,
        dependency: Dependency,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, SearchError>
    where
        SearchError: From<E>,
    {
        match timeout(self.left(dependency), work).await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => {
                let waited =
                    Duration::from_millis(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(0));
                Err(SearchError::Timeout { dependency, waited })
            }
        }
    }

    /// How long a part may still take.
    pub fn left(&self, dependency: Dependency) -> Duration {
        let share = if dependency == Dependency::Postgres { self.whole } else { self.index };
        share.saturating_sub(self.begun.elapsed())
    }
}
