//! Patience: with the database, and with jobs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use guildex_store::StoreError;
use rand::Rng;

/// Postgres, which everything in this process waits for when it is away.
static POSTGRES: Outage = Outage::of("postgres");

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
        // Twice that with jitter: what waits is to go on soon after Postgres does.
        .with_max_delay(Duration::from_millis(2_500))
        .with_jitter()
        .without_max_times();
    let mut waiting = None;
    let outcome = statement
        .retry(patience)
        .when(StoreError::is_transient)
        .notify(|error, _| {
            waiting.get_or_insert_with(|| POSTGRES.begins(what, error));
        })
        .await;
    match &outcome {
        Ok(_) => waiting.into_iter().for_each(Waiting::ends),
        Err(error) => tracing::error!(%error, what, "postgres refused"),
    }
    outcome
}

/// Says of what is tried on a beat, and not repeated, whether Postgres takes it.
#[derive(Default)]
pub(crate) struct Beat(Option<Waiting>);

impl Beat {
    /// Nothing waits any more.
    pub fn rest(&mut self) {
        self.0.take().into_iter().for_each(Waiting::ends);
    }

    /// Takes note of an outcome.
    pub fn take<T>(&mut self, what: &'static str, outcome: Result<T, StoreError>) -> Option<T> {
        match outcome {
            Ok(value) => {
                self.rest();
                Some(value)
            }
            Err(error) => {
                self.0.get_or_insert_with(|| POSTGRES.begins(what, &error));
                None
            }
        }
    }
}

/// A service that is away for many at once: the first who has to wait says so, and the last who gets through
/// says that it is over. With a full disk some statements work and some do not, so one success proves nothing.
struct Outage {
    service: &'static str,
    waiting: AtomicUsize,
}

/// Somebody waits; for no longer than this lives.
struct Waiting(&'static Outage);

impl Outage {
    const fn of(service: &'static str) -> Self {
        Self { service, waiting: AtomicUsize::new(0) }
    }

    fn begins(&'static self, what: &'static str, error: &StoreError) -> Waiting {
        if self.waiting.fetch_add(1, Ordering::SeqCst) == 0 {
            tracing::warn!(%error, what, "{} fails; trying until it works", self.service);
        }
        Waiting(self)
    }
}

impl Waiting {
    fn ends(self) {
        if self.0.waiting.load(Ordering::SeqCst) == 1 {
            tracing::info!("{} works again", self.0.service);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
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
