//! How a consumer lives through an outage of Redis: it says once that Redis is gone and once that it is back,
//! and tries again with growing pauses in between.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use guildex_types::JobQueue;
use tracing::{info, warn};

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(2_500);

pub(crate) struct Outage {
    class: JobQueue,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    up_since: Option<Instant>,
    /// The pauses of the outage, kept after it until Redis has held out for long enough to be trusted again.
    pauses: Option<ExponentialBackoff>,
}

impl Outage {
    /// Nothing is known yet.
    pub(crate) fn new(class: JobQueue) -> Self {
        Self { class, state: Mutex::default() }
    }

    /// The worker ended with an error.
    pub(crate) fn begins(&self, error: &impl Display) {
        let mut state = self.state();
        let up_since = state.up_since.take();
        if up_since.is_some_and(|since| since.elapsed() >= LONGEST_PAUSE) {
            state.pauses = None;
        }
        if up_since.is_some() || state.pauses.is_none() {
            warn!(class = %self.class, %error, "the queue is out of reach; trying again until it is back");
        }
        state.pauses.get_or_insert_with(pauses_between_tries);
    }

    /// The worker is registered and alive.
    pub(crate) fn ends(&self) {
        let mut state = self.state();
        if state.up_since.is_none() {
            state.up_since = Some(Instant::now());
            if state.pauses.is_some() {
                info!(class = %self.class, "the queue is back");
            }
        }
    }

    /// How long to wait before the next try; nothing before the first.
    pub(crate) fn pause(&self) -> Duration {
        self.state().pauses.as_mut().and_then(Iterator::next).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// With jitter, so that a fleet does not come back in step.
fn pauses_between_tries() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(SHORTEST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_try_does_not_wait() {
        assert_eq!(Outage::new(JobQueue::Live).pause(), Duration::ZERO);
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let outage = Outage::new(JobQueue::Live);
        let pauses: Vec<_> = std::iter::repeat_with(|| {
            outage.begins(&"gone");
            outage.pause()
        })
        .take(20)
        .collect();
        assert!(pauses[0] >= SHORTEST_PAUSE && pauses[0] <= 2 * SHORTEST_PAUSE, "{pauses:?}");
        assert!(pauses[4] > pauses[0] && pauses[19] >= LONGEST_PAUSE, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= 2 * LONGEST_PAUSE), "{pauses:?}");
    }

    #[test]
    fn a_worker_that_dies_as_soon_as_it_is_back_waits_longer_still() {
        let outage = Outage::new(JobQueue::Live);
        for _ in 0..8 {
            outage.begins(&"gone");
            outage.pause();
            outage.ends();
        }
        outage.begins(&"gone again");
        assert!(outage.pause() >= LONGEST_PAUSE);
    }
}
