//! Delays and log lines while a consumer cannot reach Redis.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use guildex_types::{Outage, OutageLog, RetryDelays, RetryPolicy};

/// Outages of Redis, for all consumers of the process.
static REDIS: OutageLog = OutageLog::new("redis");

const DELAYS: RetryPolicy = RetryPolicy::new(Duration::from_millis(200), Duration::from_secs(5));

/// Time connected after which the next outage starts with the shortest delay again.
const STABLE_AFTER: Duration = Duration::from_millis(2_500);

/// Connection state of a consumer.
#[derive(Default)]
pub(crate) struct Reconnect(Mutex<State>);

#[derive(Default)]
struct State {
    connected_since: Option<Instant>,
    /// Kept after an outage until the connection is stable.
    delays: Option<RetryDelays>,
    outage: Option<Outage<'static>>,
}

impl Reconnect {
    /// Records that the consumer ended with an error.
    pub fn failed(&self, error: &dyn Display) {
        let mut state = self.state();
        if state.connected_since.take().is_some_and(|since| since.elapsed() >= STABLE_AFTER) {
            state.delays = None;
        }
        state.outage.get_or_insert_with(|| REDIS.begin("consuming", error));
        state.delays.get_or_insert_with(|| DELAYS.delays());
    }

    /// Records that the consumer is registered and alive.
    pub fn connected(&self) {
        let mut state = self.state();
        state.connected_since.get_or_insert_with(Instant::now);
        state.outage.take().into_iter().for_each(Outage::recovered);
    }

    /// Delay before the next attempt; zero before the first.
    pub fn delay(&self) -> Duration {
        self.state().delays.as_mut().map(RetryDelays::next_delay).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_not_delayed() {
        assert_eq!(Reconnect::default().delay(), Duration::ZERO);
    }

    #[test]
    fn delays_grow_during_an_outage() {
        let reconnect = Reconnect::default();
        let delays: Vec<_> = std::iter::repeat_with(|| {
            reconnect.failed(&"connection refused");
            reconnect.delay()
        })
        .take(20)
        .collect();
        assert!(delays[0] <= DELAYS.initial_delay, "{delays:?}");
        assert!(delays[4] > delays[0] && delays[19] >= DELAYS.max_delay / 2, "{delays:?}");
        assert!(delays.iter().all(|delay| *delay <= DELAYS.max_delay), "{delays:?}");
    }

    #[test]
    fn delays_keep_growing_if_the_connection_is_lost_at_once() {
        let reconnect = Reconnect::default();
        for _ in 0..8 {
            reconnect.failed(&"connection refused");
            reconnect.delay();
            reconnect.connected();
        }
        reconnect.failed(&"connection reset");
        assert!(reconnect.delay() >= DELAYS.max_delay / 2);
    }
}
