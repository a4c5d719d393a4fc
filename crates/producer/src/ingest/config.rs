//! What ingest goes by.

use std::collections::HashSet;
use std::time::Duration;

use guildex_types::{ChannelId, Eligibility, UserId};

use crate::sessionizer::Rules;

/// What the configuration says about ingest.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// How messages become sessions.
    pub rules: Rules,
    /// Which sessions are indexed.
    pub eligible: Eligibility,
    /// Whether bots and webhooks take part in sessions.
    pub include_bots: bool,
    /// Members who opted out: nothing of theirs is stored. Others do by [`Ingest::opt_out`](super::Ingest::opt_out).
    pub opted_out_users: HashSet<UserId>,
    /// Channels and threads that are left out: nothing in them is stored.
    pub opted_out_channels: HashSet<ChannelId>,
    /// How long messages are kept, from when they were sent; `None` for ever. See [`retention`](crate::retention).
    pub retention: Option<Duration>,
    /// How long a job waits for further changes to its session.
    pub debounce: Duration,
    /// Attempts before a job is dead.
    pub max_attempts: u32,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            eligible: Eligibility::default(),
            include_bots: false,
            opted_out_users: HashSet::new(),
            opted_out_channels: HashSet::new(),
            retention: None,
            debounce: Duration::from_millis(300),
            max_attempts: 5,
        }
    }
}
