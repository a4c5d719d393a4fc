//! Waiting for a service that is away, instead of failing jobs that are not at fault.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::retry::backoff;

/// The first and the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// A circuit breaker (Nygard, "Release It!", 2007) for what a worker cannot work without: the index, or a model
/// that is elsewhere. While it is open nothing is claimed. What is claimed already waits with its lease renewed,
/// tries again by and by, and the first success closes the breaker: nothing costs an attempt.
#[derive(Debug, Clone)]
pub(crate) struct Breaker {
    away: watch::Sender<bool>,
    stop: CancellationToken,
}

/// The worker stopped before the service came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped;

impl Breaker {
    /// A closed breaker; nobody waits behind it after `stop`.
    pub fn new(stop: CancellationToken) -> Self {
        Self { away: watch::Sender::new(false), stop }
    }

    /// Until the breaker is closed, or the worker stops.
    pub async fn closed(&self) {
        let mut away = self.away.subscribe();
        let _ = self.stop.run_until_cancelled(away.wait_for(|away| !away)).await;
    }

    /// Repeats what is done to a service for as long as that is away; any other outcome is handed on.
    pub async fn guard<T, E, F>(
        &self,
        service: &'static str,
        mut work: impl FnMut() -> F,
        is_away: impl Fn(&E) -> bool,
    ) -> Result<Result<T, E>, Stopped>
    where
        E: std::fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        let mut tries = 0;
        loop {
            let outcome = work().await;
            match outcome {
                Err(error) if is_away(&error) => {
                    if !self.away.send_replace(true) {
                        tracing::warn!(service, %error, "away: nothing is claimed until it is back");
                    }
                    tries += 1;
                    let pause = tokio::time::sleep(backoff(tries, PAUSES.0, PAUSES.1));
                    // Whoever comes through first wakes the others.
                    let mut away = self.away.subscribe();
                    let back = async {
                        let _ = away.wait_for(|away| !away).await;
                    };
                    let waited = async {
                        tokio::select! { () = pause => {}, () = back => {} }
                    };
                    self.stop.run_until_cancelled(waited).await.ok_or(Stopped)?;
                }
                outcome => {
                    if self.away.send_replace(false) {
                        tracing::info!(service, "back");
                    }
                    return Ok(outcome);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug, PartialEq, thiserror::Error)]
    enum Fault {
        #[error("away")]
        Away,
        #[error("wrong")]
        Wrong,
    }

    fn is_away(fault: &Fault) -> bool {
        *fault == Fault::Away
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_away_is_tried_until_it_is_back() {
        let breaker = Breaker::new(CancellationToken::new());
        let tries = AtomicUsize::new(0);
        let work = async || match tries.fetch_add(1, Ordering::Relaxed) {
            0..5 => Err(Fault::Away),
            tries => Ok(tries),
        };
        assert_eq!(breaker.guard("it", work, is_away).await, Ok(Ok(5)));
        breaker.closed().await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_passes_while_it_is_away_and_all_do_when_one_came_through() {
        let breaker = Breaker::new(CancellationToken::new());
        let there = watch::Sender::new(false);
        let work = async || if *there.borrow() { Ok(()) } else { Err(Fault::Away) };
        let guarded = breaker.guard("it", work, is_away);
        let passing = breaker.closed();
        tokio::pin!(guarded, passing);
        assert!(futures::poll!(&mut guarded).is_pending());
        assert!(futures::poll!(&mut passing).is_pending());
        there.send_replace(true);
        assert_eq!(guarded.await, Ok(Ok(())));
        passing.await;
    }

    #[tokio::test]
    async fn another_failure_is_handed_on_at_once() {
        let breaker = Breaker::new(CancellationToken::new());
        let outcome = breaker.guard("it", async || Err::<(), _>(Fault::Wrong), is_away).await;
        assert_eq!(outcome, Ok(Err(Fault::Wrong)));
    }

    #[tokio::test]
    async fn a_stop_ends_the_waiting() {
        let stop = CancellationToken::new();
        let breaker = Breaker::new(stop.clone());
        let outcome = breaker.guard(
            "it",
            async || {
                stop.cancel();
                Err::<(), _>(Fault::Away)
            },
            is_away,
        );
        assert_eq!(outcome.await, Err(Stopped));
        breaker.closed().await;
    }
}
