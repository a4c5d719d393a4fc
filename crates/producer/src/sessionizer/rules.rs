//! Settings of the sessionizer.

use chrono::TimeDelta;

use super::weights::Model;

/// Rules that partition turns into sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Time that a decision looks back. A live message costs a read of this much of its channel.
    pub lookback: TimeDelta,
    /// Maximum time from the first message of a session to its last; at most the lookback.
    pub max_span: TimeDelta,
    /// Maximum number of messages in a session.
    pub max_messages: usize,
    /// Number of most recently active sessions that are scored, in addition to those that the turn's links lead to.
    pub max_candidates: usize,
    /// In a channel without links, a turn that would start a session joins the latest one if that was active within
    /// this time.
    pub join_gap: TimeDelta,
    /// Share of turns with a link, from 0 to 1, below which a channel counts as one without links. There, the absence
    /// of a link means nothing.
    pub min_link_share: f64,
    /// Weights of the score.
    pub model: Model,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            lookback: TimeDelta::hours(2),
            max_span: TimeDelta::hours(2),
            max_messages: 250,
            max_candidates: 16,
            join_gap: TimeDelta::minutes(10),
            min_link_share: 0.125,
            model: Model::default(),
        }
    }
}

/// Contradiction in [`Rules`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// The lookback is too short: every message would be a session.
    #[error("lookback must be at least one second")]
    LookbackTooShort,
    /// A session would extend beyond the lookback.
    #[error("max_span must be between zero and lookback")]
    InvalidMaxSpan,
    /// No message could join any session.
    #[error("max_messages must be at least 1")]
    NoMessages,
    /// The join gap is negative or exceeds the lookback.
    #[error("join_gap must be between zero and lookback")]
    InvalidJoinGap,
    /// The link share is not a share.
    #[error("min_link_share must be between 0 and 1")]
    InvalidLinkShare,
}

impl Rules {
    /// Checks the rules for contradictions. [`Sessionizer`](super::Sessionizer) does not check again; with invalid rules
    /// it does not panic, but its sessions are useless.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn validate(&self) -> Result<(), RulesError> {
        if self.lookback < TimeDelta::seconds(1) {
            Err(RulesError::LookbackTooShort)
        } else if self.max_span < TimeDelta::zero() || self.max_span > self.lookback {
            Err(RulesError::InvalidMaxSpan)
        } else if self.max_messages == 0 {
            Err(RulesError::NoMessages)
        } else if self.join_gap < TimeDelta::zero() || self.join_gap > self.lookback {
            Err(RulesError::InvalidJoinGap)
        } else if !(0.0..=1.0).contains(&self.min_link_share) {
            Err(RulesError::InvalidLinkShare)
        } else {
            Ok(())
        }
    }
}
