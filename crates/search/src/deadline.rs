use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::config::{Fallback, SearchConfig};
use crate::error::{Dependency, SearchError};

/// Share of the timeout that the model and the index may use if Postgres is the fallback.
const INDEX_SHARE: f64 = 0.6;

/// Deadline of one search.
pub(crate) struct Deadline {
    start: Instant,
    timeout: Duration,
    /// Timeout of the model and the index.
    index_timeout: Duration,
}

impl Deadline {
    pub fn start(config: &SearchConfig) -> Self {
        let timeout = config.timeout;
        let index_timeout = match config.fallback {
            Fallback::None => timeout,
            Fallback::Postgres => timeout.mul_f64(INDEX_SHARE),
        };
        Self { start: Instant::now(), timeout, index_timeout }
    }

    /// Waits for a dependency until its deadline.
    pub async fn within<T, E>(
        &self,
        dependency: Dependency,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, SearchError>
    where
        SearchError: From<E>,
    {
        match timeout(self.remaining(dependency), work).await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => {
                // Whole milliseconds, for the error's text.
                let waited =
                    Duration::from_millis(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(0));
                Err(SearchError::Timeout { dependency, waited })
            }
        }
    }

    /// Time left for a dependency.
    pub fn remaining(&self, dependency: Dependency) -> Duration {
        let timeout = match dependency {
            Dependency::Postgres => self.timeout,
            Dependency::Model | Dependency::Index => self.index_timeout,
        };
        timeout.saturating_sub(self.start.elapsed())
    }
}
