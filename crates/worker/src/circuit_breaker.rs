//! Waiting for an unavailable service instead of failing jobs.

use std::fmt::{Debug, Display};
use std::time::Duration;

use guildex_types::RetryPolicy;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const DELAYS: RetryPolicy = RetryPolicy::new(Duration::from_millis(200), Duration::from_secs(5));

/// A circuit breaker (Nygard, "Release It!", 2007) for the services that jobs need: the index, and remote models.
///
/// While it is open nothing is claimed. Claimed jobs keep their leases and retry with backoff; the first retry that
/// succeeds closes the breaker. No attempt is consumed. The success of another operation does not close it: an index
/// whose disk is full still reads and deletes.
#[derive(Debug, Clone)]
pub(crate) struct CircuitBreaker {
    state: watch::Sender<State>,
    stop: CancellationToken,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    open: bool,
    /// Operations that retry. The breaker closes with the last of them, since only they notice a recovery.
    retrying: usize,
}

/// An operation that retries, until this is dropped.
struct Retrying<'a>(&'a CircuitBreaker);

impl<'a> Retrying<'a> {
    fn begin(breaker: &'a CircuitBreaker) -> Self {
        breaker.state.send_modify(|state| state.retrying += 1);
        Self(breaker)
    }
}

impl Drop for Retrying<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| {
            state.retrying -= 1;
            state.open &= state.retrying > 0;
        });
    }
}

/// Failure of an operation behind a breaker.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GuardError<E: Debug + Display> {
    /// The worker stopped before the service recovered.
    #[error("the worker stopped before the service recovered")]
    Stopped,
    /// The service is available and the operation failed.
    #[error("{0}")]
    Failed(E),
}

impl CircuitBreaker {
    /// A closed breaker. Nothing waits behind it once `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self { state: watch::Sender::default(), stop }
    }

    /// Waits until the breaker is closed or the worker stops.
    pub async fn closed(&self) {
        let mut state = self.state.subscribe();
        let _ = self.stop.run_until_cancelled(state.wait_for(|state| !state.open)).await;
    }

    /// Opens or closes the breaker. Returns whether that changed it.
    fn set_open(&self, open: bool) -> bool {
        self.state.send_if_modified(|state| std::mem::replace(&mut state.open, open) != open)
    }

    /// Repeats an operation for as long as its service is unavailable, and returns any other result.
    pub async fn guard<T, E, F>(
        &self,
        service: &'static str,
        mut operation: impl FnMut() -> F,
        is_unavailable: impl Fn(&E) -> bool,
    ) -> Result<T, GuardError<E>>
    where
        E: Debug + Display,
        F: Future<Output = Result<T, E>>,
    {
        let (mut delays, mut retrying) = (DELAYS.delays(), None);
        loop {
            match operation().await {
                Err(error) if is_unavailable(&error) => {
                    retrying.get_or_insert_with(|| Retrying::begin(self));
                    if self.set_open(true) {
                        tracing::warn!(service, %error, "{service} unavailable; claiming paused");
                    }
                    self.wait(delays.next_delay()).await.ok_or(GuardError::Stopped)?;
                }
                result => {
                    if retrying.is_some() && self.set_open(false) {
                        tracing::info!(service, "service recovered");
                    }
                    return result.map_err(GuardError::Failed);
                }
            }
        }
    }

    /// Waits for a delay to pass or for another operation to close the breaker. `None` if the worker stops first.
    async fn wait(&self, delay: Duration) -> Option<()> {
        let mut state = self.state.subscribe();
        let closed = async {
            let _ = state.wait_for(|state| !state.open).await;
        };
        let waiting = async {
            tokio::select! { () = tokio::time::sleep(delay) => {}, () = closed => {} }
        };
        self.stop.run_until_cancelled(waiting).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug, PartialEq, thiserror::Error)]
    enum Fault {
        #[error("unavailable")]
        Unavailable,
        #[error("wrong")]
        Wrong,
    }

    fn is_unavailable(fault: &Fault) -> bool {
        *fault == Fault::Unavailable
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_is_repeated_until_its_service_recovers() {
        let breaker = CircuitBreaker::new(CancellationToken::new());
        let calls = AtomicUsize::new(0);
        let operation = async || match calls.fetch_add(1, Ordering::Relaxed) {
            0..5 => Err(Fault::Unavailable),
            calls => Ok(calls),
        };
        assert_eq!(breaker.guard("index", operation, is_unavailable).await, Ok(5));
        breaker.closed().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_breaker_is_open_until_a_retry_succeeds() {
        let breaker = CircuitBreaker::new(CancellationToken::new());
        let available = watch::Sender::new(false);
        let operation = async || if *available.borrow() { Ok(()) } else { Err(Fault::Unavailable) };
        let guarded = breaker.guard("index", operation, is_unavailable);
        let closed = breaker.closed();
        tokio::pin!(guarded, closed);
        assert!(futures::poll!(&mut guarded).is_pending());
        assert!(futures::poll!(&mut closed).is_pending());
        available.send_replace(true);
        assert_eq!(guarded.await, Ok(()));
        closed.await;
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_operation_that_retries_closes_the_breaker() {
        let breaker = CircuitBreaker::new(CancellationToken::new());
        let unavailable = async || Err::<(), _>(Fault::Unavailable);
        let mut retrying = Box::pin(breaker.guard("index", unavailable, is_unavailable));
        assert!(futures::poll!(&mut retrying).is_pending());
        assert_eq!(breaker.guard("index", async || Ok(()), is_unavailable).await, Ok(()));
        let closed = breaker.closed();
        tokio::pin!(closed);
        assert!(futures::poll!(&mut closed).is_pending());
        drop(retrying);
        closed.await;
    }

    #[tokio::test]
    async fn other_failures_are_returned_at_once() {
        let breaker = CircuitBreaker::new(CancellationToken::new());
        let result = breaker.guard("index", async || Err::<(), _>(Fault::Wrong), is_unavailable).await;
        assert_eq!(result, Err(GuardError::Failed(Fault::Wrong)));
    }

    #[tokio::test]
    async fn a_stop_ends_the_wait() {
        let stop = CancellationToken::new();
        let breaker = CircuitBreaker::new(stop.clone());
        let operation = async || {
            stop.cancel();
            Err::<(), _>(Fault::Unavailable)
        };
        let result = breaker.guard("index", operation, is_unavailable).await;
        assert_eq!(result, Err(GuardError::Stopped));
        breaker.closed().await;
    }
}
