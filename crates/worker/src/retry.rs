//! Patience: with the database, and with jobs.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use guildex_store::StoreError;
use rand::Rng;

/// Repeats a statement until Postgres takes it; gives up only on what no repetition mends. Every statement here
/// may run any number of times.
pub(crate) async fn until_stored<T, F>(
    what: &'static str,
    statement: impl FnMut() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let patience = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times();
    let mut told = false;
    statement
        .retry(patience)
        .when(StoreError::is_transient)
        .notify(|error, _| {
            if !told {
                tracing::warn!(%error, what, "postgres failed; trying until it works");
                told = true;
            }
        })
        .await
        .inspect_err(|error| tracing::error!(%error, what, "postgres refused"))
}

/// How long to wait after the `attempt`th failure: doubling from `base` up to `max`, of which a random half is
/// left out, so that jobs that failed together do not come back together.
pub(crate) fn backoff(attempt: u32, base: Duration, max: Duration) -> Duration {
    let full = base.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1))).min(max);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_doubles_up_to_its_maximum_and_varies_by_half() {
        let (base, max) = (Duration::from_secs(1), Duration::from_secs(60));
        for (attempt, full) in [(1, 1), (2, 2), (3, 4), (7, 60), (u32::MAX, 60)] {
            let full = Duration::from_secs(full);
            for _ in 0..100 {
                let pause = backoff(attempt, base, max);
                assert!(pause >= full / 2 && pause <= full, "{pause:?} after attempt {attempt}");
            }
        }
    }
}
