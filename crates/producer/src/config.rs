//! Settings of the producer, as sections of Guildex's configuration.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use guildex_types::config::{
    DAY, HOUR, MILLISECOND, MINUTE, SECOND, allowed_if, between, duration, duration_between,
};
use guildex_types::{ChannelId, Eligibility, UserId};
use serde::{Deserialize, Serialize};

use crate::sessionizer::Rules;

/// Settings of [`Ingest`](crate::Ingest).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IngestConfig {
    /// Rules for sessions.
    pub sessions: SessionsConfig,
    /// Members and channels that are not stored.
    pub optout: OptOutConfig,
    /// Time that messages are kept after they were sent; `None` keeps them forever.
    pub retention: Option<Duration>,
    /// Settings of the jobs that ingest enqueues.
    pub enqueue: EnqueueConfig,
}

/// Keys of section `worker` that apply when a job is enqueued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, garde::Validate)]
#[serde(default)]
pub struct EnqueueConfig {
    /// Attempts before a job is dead. Deletions are retried forever. Default: 5.
    #[garde(custom(between(1..=100)))]
    pub max_attempts: u32,
    /// Delay of an index job, so that several changes of a session are indexed together. Default: 300 ms.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(Duration::ZERO..=HOUR)))]
    pub debounce: Duration,
}

impl Default for EnqueueConfig {
    fn default() -> Self {
        Self { max_attempts: 5, debounce: Duration::from_millis(300) }
    }
}

/// Section `sessions`: how messages are grouped into sessions, and which sessions are indexed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, garde::Validate)]
#[serde(default, deny_unknown_fields)]
pub struct SessionsConfig {
    /// Minimum number of messages of an indexed session. A single long message is indexed, too.
    #[garde(custom(between(1..=1000)))]
    pub min_messages: u32,
    /// Minimum number of words of a single message that is indexed.
    #[garde(custom(between(1..=10_000)))]
    pub lone_message_min_words: u32,
    /// Include messages of bots and webhooks.
    #[garde(skip)]
    pub include_bots: bool,
    /// Time that the choice of a session looks back. The cost of a live message grows with it.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(MINUTE..=DAY)))]
    pub lookback: Duration,
    /// Maximum time from the first message of a session to its last; at most `lookback`.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(MINUTE..=DAY)), custom(|span: &Duration, _| self.within_lookback(*span)))]
    pub max_span: Duration,
    /// Maximum number of messages in a session.
    #[garde(custom(between(1..=10_000)))]
    pub max_messages: usize,
    /// Number of most recently active sessions that are scored, in addition to those that links lead to.
    #[garde(custom(between(1..=1000)))]
    pub max_candidates: usize,
    /// In a channel without links, a message joins the latest session if that was active within this time.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(Duration::ZERO..=DAY)), custom(|gap: &Duration, _| self.within_lookback(*gap)))]
    pub join_gap: Duration,
    /// Share of messages with a reply or mention, from 0 to 1, below which a channel counts as one without links.
    #[garde(custom(between(0.0..=1.0)))]
    pub min_link_share: f64,
}

impl Default for SessionsConfig {
    fn default() -> Self {
        let Eligibility { min_messages, lone_message_min_words } = Eligibility::default();
        let rules = Rules::default();
        Self {
            min_messages,
            lone_message_min_words,
            include_bots: false,
            lookback: rules.lookback.to_std().unwrap_or_default(),
            max_span: rules.max_span.to_std().unwrap_or_default(),
            max_messages: rules.max_messages,
            max_candidates: rules.max_candidates,
            join_gap: rules.join_gap.to_std().unwrap_or_default(),
            min_link_share: rules.min_link_share,
        }
    }
}

impl SessionsConfig {
    fn within_lookback(&self, found: Duration) -> garde::Result {
        allowed_if(found <= self.lookback, duration::text(found), "at most `lookback`")
    }

    /// Returns the size that a session needs to be indexed.
    pub fn eligibility(&self) -> Eligibility {
        Eligibility { min_messages: self.min_messages, lone_message_min_words: self.lone_message_min_words }
    }

    /// Returns the rules of the sessionizer.
    pub fn rules(&self) -> Rules {
        let delta = |duration| TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
        Rules {
            lookback: delta(self.lookback),
            max_span: delta(self.max_span),
            max_messages: self.max_messages,
            max_candidates: self.max_candidates,
            join_gap: delta(self.join_gap),
            min_link_share: self.min_link_share,
            ..Rules::default()
        }
    }
}

/// Section `optout`: members and channels whose messages are not stored. [`Ingest::opt_out`] adds others at runtime.
///
/// [`Ingest::opt_out`]: crate::Ingest::opt_out
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptOutConfig {
    /// Member ids.
    pub users: BTreeSet<UserId>,
    /// Channel and thread ids.
    pub channels: BTreeSet<ChannelId>,
}

/// Section `dispatcher`: how jobs move to Redis, and how long completed ones are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, garde::Validate)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulerConfig {
    /// Maximum number of jobs of one queue in Redis, at most [`WINDOW`](guildex_queue::WINDOW); fewer of the live queue.
    // Beyond this a Redis queue of apalis-redis 1.0 can fail for good.
    #[garde(custom(between(1..=1000)))]
    pub max_queued: usize,
    /// Interval of polling for due jobs, in addition to notifications.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(10 * MILLISECOND..=MINUTE)))]
    pub poll_interval: Duration,
    /// Time after which a job that still waits in Redis is pushed again.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(5 * SECOND..=HOUR)))]
    pub queue_timeout: Duration,
    /// Time that completed jobs are kept.
    #[serde(with = "duration")]
    #[garde(custom(duration_between(Duration::ZERO..=365 * DAY)))]
    pub completed_retention: Duration,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            max_queued: 256,
            poll_interval: Duration::from_secs(1),
            queue_timeout: Duration::from_secs(120),
            completed_retention: Duration::from_hours(24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_sessions_are_those_of_the_sessionizer() {
        assert_eq!(SessionsConfig::default().rules(), Rules::default());
        assert_eq!(SessionsConfig::default().eligibility(), Eligibility::default());
    }

    #[test]
    fn sections_read_durations_as_text_and_reject_unknown_keys() {
        let read = |text: &str| serde_json::from_str::<SessionsConfig>(text);
        let expected = SessionsConfig { lookback: Duration::from_mins(90), ..SessionsConfig::default() };
        assert_eq!(read(r#"{"lookback": "1h 30m"}"#).unwrap(), expected);
        assert!(read(r#"{"horizon": "1h"}"#).is_err());
        let dispatcher: SchedulerConfig = serde_json::from_str(r#"{"poll_interval": "250ms"}"#).unwrap();
        assert_eq!(dispatcher.poll_interval, Duration::from_millis(250));
    }
}
