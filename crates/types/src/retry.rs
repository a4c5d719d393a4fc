//! Delays between retries.

use std::time::Duration;

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::config::{DAY, HOUR, MILLISECOND, allowed_if, duration, duration_between};

/// Exponential backoff: the delay doubles with each failure, up to a maximum.
///
/// ```
/// # use std::time::Duration;
/// # use guildex_types::RetryPolicy;
/// let policy = RetryPolicy::new(Duration::from_secs(1), Duration::from_secs(60)).without_jitter();
/// let delays: Vec<_> = policy.delays().take(3).collect();
/// assert_eq!(delays, [1, 2, 4].map(Duration::from_secs));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, garde::Validate)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Delay after the first failure. Default: 1 s.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(MILLISECOND..=HOUR)))]
    pub initial_delay: Duration,
    /// Longest delay. Default: 5 min.
    #[serde(with = "duration")]
    #[garde(
        custom(duration_between(MILLISECOND..=DAY)),
        custom(|max: &Duration, _| allowed_if(*max >= self.initial_delay, duration::text(*max), "at least `initial_delay`"))
    )]
    pub max_delay: Duration,
    /// Whether a random share of each delay, up to half of it, is left out, so that callers that failed together
    /// do not retry together.
    #[serde(skip, default = "jitter")]
    #[garde(skip)]
    pub jitter: bool,
}

impl Default for RetryPolicy {
    /// The policy for failed jobs: 1 s to 5 min.
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_mins(5))
    }
}

fn jitter() -> bool {
    true
}

impl RetryPolicy {
    /// A policy with jitter.
    pub const fn new(initial_delay: Duration, max_delay: Duration) -> Self {
        Self { initial_delay, max_delay, jitter: true }
    }

    /// The same policy with exact delays.
    #[must_use]
    pub const fn without_jitter(self) -> Self {
        Self { jitter: false, ..self }
    }

    /// Delay after the `failures`th failure in a row; zero before the first.
    pub fn delay(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let full = self.initial_delay.saturating_mul(2_u32.saturating_pow(doublings)).min(self.max_delay);
        if self.jitter { full.mul_f64(rand::rng().random_range(0.5..=1.0)) } else { full }
    }

    /// Delays after the first failure, the second and so on, without end. Usable as a `backon` backoff.
    pub fn delays(&self) -> RetryDelays {
        RetryDelays { policy: *self, failures: 0 }
    }
}

/// Iterator over the delays of a [`RetryPolicy`]; it never ends.
#[derive(Debug, Clone)]
pub struct RetryDelays {
    policy: RetryPolicy,
    failures: u32,
}

impl RetryDelays {
    /// Counts one more failure and returns the delay after it.
    pub fn next_delay(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.policy.delay(self.failures)
    }
}

impl Iterator for RetryDelays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.next_delay())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy::new(Duration::from_secs(1), Duration::from_secs(60));

    #[test]
    fn delays_double_up_to_the_maximum() {
        let policy = POLICY.without_jitter();
        let seconds = [0, 1, 2, 3, 6, 7, u32::MAX].map(|failures| policy.delay(failures).as_secs());
        assert_eq!(seconds, [0, 1, 2, 4, 32, 60, 60]);
    }

    #[test]
    fn jitter_leaves_out_up_to_half() {
        for (failures, full) in [(1, 1), (2, 2), (3, 4), (7, 60), (u32::MAX, 60)] {
            let full = Duration::from_secs(full);
            let delays: Vec<_> = (0..100).map(|_| POLICY.delay(failures)).collect();
            assert!(delays.iter().all(|delay| (full / 2..=full).contains(delay)), "{failures}: {delays:?}");
            assert!(delays.iter().any(|delay| *delay != delays[0]), "{failures}: no jitter");
        }
    }

    #[test]
    fn the_iterator_yields_the_delay_of_each_failure() {
        let policy = POLICY.without_jitter();
        let seconds: Vec<_> = policy.delays().take(8).map(|delay| delay.as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
