//! Reassigns sessions after late messages and detects where their effect ends.

use chrono::{DateTime, Utc};
use guildex_types::MessageId;

use super::online::Sessionizer;
use super::rules::Rules;
use super::turn::Turn;

/// Repeats the decisions of a channel from its first new turn on, until later decisions cannot change.
///
/// Usage: [`replay`](Self::replay) the decided turns of one lookback before the first new turn, then
/// [`push`](Self::push) every turn from there on, old and new, in order. Stop when no new turn is left and the partition
/// [`is_stable`](Self::is_stable). The result equals that of processing the whole channel.
///
/// Proof sketch: the decision for a turn depends only on the turns within one lookback before it and on their sessions. If
/// these are unchanged, the decision is unchanged; by induction so are all later ones. A session is identified by its first
/// message, so a new first message counts as a change of every turn in it.
#[derive(Debug, Clone)]
pub struct IncrementalSessionizer {
    sessionizer: Sessionizer,
    /// Milliseconds.
    lookback: i64,
    /// Time of the latest turn that is new or changed its session, in Unix milliseconds.
    last_change: Option<i64>,
}

impl IncrementalSessionizer {
    /// Creates a sessionizer without history.
    pub fn new(rules: Rules) -> Self {
        let lookback = rules.lookback.num_milliseconds();
        Self { sessionizer: Sessionizer::new(rules), lookback, last_change: None }
    }

    /// Adds a turn before the first new one; `session` is the first message of its session.
    pub fn replay(&mut self, turn: &Turn<'_>, session: MessageId) {
        self.sessionizer.replay(turn, session);
    }

    /// Decides the session of a turn and returns its first message. `previous` is the first message of its current
    /// session, or `None` if the turn is new.
    pub fn push(&mut self, turn: &Turn<'_>, previous: Option<MessageId>) -> MessageId {
        let session = self.sessionizer.push(turn);
        if previous != Some(session) {
            self.last_change = Some(turn.sent_at.timestamp_millis());
        }
        session
    }

    /// Returns true if turns sent at `now` or later keep their sessions, provided that none of them is new.
    pub fn is_stable(&self, now: DateTime<Utc>) -> bool {
        self.last_change.is_none_or(|change| now.timestamp_millis().saturating_sub(self.lookback) >= change)
    }
}
