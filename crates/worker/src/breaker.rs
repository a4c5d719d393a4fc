//! Waiting for a service that is away, instead of failing jobs that are not at fault.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::retry::backoff;

/// The first and the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// A circuit breaker (Nygard, "Release It!", 2007) for what a worker cannot work without: the index, or a model
/// that is elsewhere. While it is open nothing is claimed. What is claimed already waits with its lease renewed,
/// tries again by and by, and the first of them that succeeds closes the breaker: nothing costs an attempt. That
/// something else succeeds does not: an index whose disk is full still reads and removes.
#[derive(Debug, Clone)]
pub(crate) struct Breaker {
    state: watch::Sender<State>,
    stop: CancellationToken,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    away: bool,
    /// How many try again by and by. Without one of them nobody would find out that it is back.
    waiting: usize,
}

/// Somebody tries again, until this is dropped.
struct Waiting<'a>(&'a Breaker);

impl<'a> Waiting<'a> {
    fn begin(breaker: &'a Breaker) -> Self {
        breaker.state.send_modify(|state| state.waiting += 1);
        Self(breaker)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| {
            state.waiting -= 1;
            state.away &= state.waiting > 0;
        });
    }
}

/// The worker stopped before the service came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped;

impl Breaker {
    /// A closed breaker; nobody waits behind it after `stop`.
    pub fn new(stop: CancellationToken) -> Self {
        Self { state: watch::Sender::default(), stop }
    }

    /// Until the breaker is closed, or the worker stops.
    pub async fn closed(&self) {
        let mut state = self.state.subscribe();
        let _ = self.stop.run_until_cancelled(state.wait_for(|state| !state.away)).await;
    }

    /// Says whether that is new.
    fn set(&self, away: bool) -> bool {
        self.state.send_if_modified(|state| std::mem::replace(&mut state.away, away) != away)
    }

    /// Repeats what is done to a service for as long as that is away; any other outcome is handed on.
    pub async fn guard<T, E, F>(
        &self,
        service: &'static str,
        mut work: impl FnMut() -> F,
        is_unavailable: impl Fn(&E) -> bool,
    ) -> Result<Result<T, E>, Stopped>
    where
        E: std::fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        let (mut tries, mut waiting) = (0, None);
        loop {
            match work().await {
                Err(error) if is_unavailable(&error) => {
                    waiting.get_or_insert_with(|| Waiting::begin(self));
                    if self.set(true) {
                        tracing::warn!(service, %error, "away: nothing is claimed until it is back");
                    }
                    tries += 1;
                    let pause = tokio::time::sleep(backoff(tries, PAUSES.0, PAUSES.1));
                    // Whoever comes through first wakes the others.
                    let mut state = self.state.subscribe();
                    let back = async {
                        let _ = state.wait_for(|state| !state.away).await;
                    };
                    let waited = async {
                        tokio::select! { () = pause => {}, () = back => {} }
                    };
                    self.stop.run_until_cancelled(waited).await.ok_or(Stopped)?;
                }
                outcome => {
                    if waiting.is_some() && self.set(false) {
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

    fn is_unavailable(fault: &Fault) -> bool {
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
        assert_eq!(breaker.guard("it", work, is_unavailable).await, Ok(Ok(5)));
        breaker.closed().await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_passes_while_it_is_away_and_all_do_when_one_came_through() {
        let breaker = Breaker::new(CancellationToken::new());
        let there = watch::Sender::new(false);
        let work = async || if *there.borrow() { Ok(()) } else { Err(Fault::Away) };
        let guarded = breaker.guard("it", work, is_unavailable);
        let passing = breaker.closed();
        tokio::pin!(guarded, passing);
        assert!(futures::poll!(&mut guarded).is_pending());
        assert!(futures::poll!(&mut passing).is_pending());
        there.send_replace(true);
        assert_eq!(guarded.await, Ok(Ok(())));
        passing.await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_works_meanwhile_does_not_close_it_and_who_gives_up_does() {
        let breaker = Breaker::new(CancellationToken::new());
        let mut waits = Box::pin(breaker.guard("it", async || Err::<(), _>(Fault::Away), is_unavailable));
        assert!(futures::poll!(&mut waits).is_pending());
        assert_eq!(breaker.guard("it", async || Ok(()), is_unavailable).await, Ok(Ok(())));
        let passing = breaker.closed();
        tokio::pin!(passing);
        assert!(futures::poll!(&mut passing).is_pending());
        drop(waits);
        passing.await;
    }

    #[tokio::test]
    async fn another_failure_is_handed_on_at_once() {
        let breaker = Breaker::new(CancellationToken::new());
        let outcome = breaker.guard("it", async || Err::<(), _>(Fault::Wrong), is_unavailable).await;
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
            is_unavailable,
        );
        assert_eq!(outcome.await, Err(Stopped));
        breaker.closed().await;
    }
}
