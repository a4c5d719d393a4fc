//! Where Redis is, and how patient to be with it and with workers.

use std::fmt;
use std::time::Duration;

use guildex_types::JobQueue;

use crate::QueueError;

/// Settings of all queues. Every process of an installation needs the same `prefix`, `heartbeat_interval` and
/// `missed_heartbeats`.
#[derive(Clone)]
pub struct Config {
    /// `redis://[user:password@]host:port[/db]`; never printed.
    pub url: String,
    /// The namespace of all keys: letters, digits, `_`, `-`, `.` and `:`.
    pub prefix: String,
    /// How often an idle consumer looks for work.
    pub poll_interval: Duration,
    /// How often a consumer says that it lives.
    pub heartbeat_interval: Duration,
    /// After how many silent heartbeats a consumer counts as dead and its deliveries go to others. The product
    /// of the two is the time to redelivery; it counts in whole seconds and is two seconds at least.
    pub missed_heartbeats: u32,
    /// How long Redis may take to answer.
    pub response_timeout: Duration,
    /// How long a consumer that was told to stop waits for its running handlers before it drops them.
    pub stop_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".to_owned(),
            prefix: "guildex".to_owned(),
            poll_interval: Duration::from_millis(50),
            heartbeat_interval: Duration::from_secs(2),
            missed_heartbeats: 4,
            response_timeout: Duration::from_secs(10),
            stop_grace: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("prefix", &self.prefix)
            .field("poll_interval", &self.poll_interval)
            .field("heartbeat_interval", &self.heartbeat_interval)
            .field("missed_heartbeats", &self.missed_heartbeats)
            .field("response_timeout", &self.response_timeout)
            .field("stop_grace", &self.stop_grace)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// # Errors
    /// If a setting would make apalis panic, spin or take living workers for dead ones.
    pub(crate) fn validate(&self) -> Result<(), QueueError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
        let redelivery = self.heartbeat_interval.saturating_mul(self.missed_heartbeats);
        let complaint = if self.prefix.is_empty() || !self.prefix.chars().all(plain) {
            "the prefix must be of letters, digits, '_', '-', '.' and ':'"
        } else if self.poll_interval.is_zero() || self.response_timeout.is_zero() {
            "the poll interval and the response timeout must be above zero"
        } else if redelivery < Duration::from_secs(2) || self.missed_heartbeats < 2 {
            // Heartbeats are stored in whole seconds: with less, a living worker looks dead at a second's turn.
            "heartbeat_interval x missed_heartbeats must be two seconds and two heartbeats at least"
        } else {
            return Ok(());
        };
        Err(QueueError::Config(complaint))
    }

    /// The envelope in which apalis-redis 1.0.0 works.
    pub(crate) fn queue(&self, class: JobQueue) -> apalis_redis::Config {
        apalis_redis::Config::default()
            .queue(format!("{}:{class}", self.prefix))
            // Prefetched jobs get no heartbeat and run twice.
            .batch_size(1)
            // A lock is an O(n) `LREM` a job; the ledger has the locks that count.
            .lock_tasks(false)
            // Nobody listens.
            .emit_events(false)
            .heartbeat_interval(self.heartbeat_interval)
            .missed_heartbeats(self.missed_heartbeats as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_redeliver_after_eight_seconds() {
        let config = Config::default();
        config.validate().unwrap();
        assert_eq!(config.queue(JobQueue::Live).orphaned_duration(), Duration::from_secs(8));
    }

    #[test]
    fn the_url_is_not_printed() {
        let config = Config { url: "redis://:hunter2@localhost".to_owned(), ..Config::default() };
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn settings_that_would_hurt_are_refused() {
        let ok = Config::default;
        for bad in [
            Config { prefix: String::new(), ..ok() },
            Config { prefix: "guild*".to_owned(), ..ok() },
            Config { poll_interval: Duration::ZERO, ..ok() },
            Config { response_timeout: Duration::ZERO, ..ok() },
            Config { heartbeat_interval: Duration::from_millis(400), ..ok() },
            Config { missed_heartbeats: 1, ..ok() },
        ] {
            assert!(matches!(bad.validate(), Err(QueueError::Config(_))), "{bad:?} was taken");
        }
    }
}
