//! Statements that wait for Postgres.

use std::time::Duration;

use backon::Retryable;
use guildex_store::StoreError;
use guildex_types::{Outage, OutageLog, RetryPolicy};

/// Outages of Postgres, which everything in this process waits for.
pub(crate) static POSTGRES: OutageLog = OutageLog::new("postgres");

/// Short, so that work resumes soon after Postgres recovers.
const DELAYS: RetryPolicy = RetryPolicy::new(Duration::from_millis(200), Duration::from_secs(5));

/// Repeats a statement for as long as it fails with a transient error, without end. Every statement of this crate may
/// run any number of times.
pub(crate) async fn retry_transient<T, F>(
    operation: &'static str,
    statement: impl FnMut() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut outage: Option<Outage> = None;
    let result = statement
        .retry(DELAYS.delays())
        .when(StoreError::is_transient)
        .notify(|error, _| {
            outage.get_or_insert_with(|| POSTGRES.begin(operation, error));
        })
        .await;
    match &result {
        Ok(_) => outage.into_iter().for_each(Outage::recovered),
        Err(error) => tracing::error!(operation, %error, "database operation failed"),
    }
    result
}
