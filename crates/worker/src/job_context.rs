//! Services that jobs use.

use std::sync::Arc;

use guildex_embed::ModelRegistry;
use guildex_index::{Error, VectorIndex};
use guildex_producer::Ingest;
use guildex_types::{Eligibility, JobId};
use tokio_util::sync::CancellationToken;

use crate::circuit_breaker::{CircuitBreaker, GuardError};
use crate::completer::Outcome;
use crate::model_collections::ModelCollections;
use crate::time_limits::{OnTimeout, TimeLimit, TimeLimiter, TimedOut};

/// Name of the index in the log.
pub(crate) const INDEX: &str = "index";

/// Services that all jobs of a worker use.
#[derive(Clone)]
pub(crate) struct JobContext {
    pub ingest: Ingest,
    pub models: Arc<ModelRegistry>,
    pub index: Arc<dyn VectorIndex>,
    pub collections: Arc<ModelCollections>,
    pub breaker: CircuitBreaker,
    pub limiter: TimeLimiter,
    pub eligible: Eligibility,
    pub previews: bool,
    /// Cancelled when no more work may begin.
    pub stop: CancellationToken,
}

/// Failure of a change to the index.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexChangeError {
    #[error(transparent)]
    Index(#[from] Error),
    #[error("{0}")]
    TimedOut(TimedOut),
}

impl IndexChangeError {
    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Index(error) if error.is_unavailable())
    }

    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Index(error) => Outcome::Failed(error.to_string()),
            Self::TimedOut(timed_out) => Outcome::TimedOut(timed_out.to_string()),
        }
    }
}

impl JobContext {
    /// Changes the index under a time limit; waits while it is unavailable. A change past its limit may still be applied
    /// later, which is harmless: it is no newer than the next attempt's.
    pub async fn change_index<F>(
        &self,
        operation: &'static str,
        limit: TimeLimit,
        jobs: Arc<[JobId]>,
        change: impl Fn() -> F,
    ) -> Result<(), GuardError<IndexChangeError>>
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let attempt = || async {
            let changed = self.limiter.run(operation, limit, jobs.clone(), OnTimeout::Detach, change());
            Ok(changed.await.map_err(IndexChangeError::TimedOut)??)
        };
        self.breaker.guard(INDEX, attempt, IndexChangeError::is_unavailable).await
    }
}
