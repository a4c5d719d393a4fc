//! Late messages: what they move, and where their effect ends.

use chrono::{DateTime, Utc};
use guildex_types::MessageId;

use super::{Rules, Sessionizer, Turn};

/// Decides a channel anew from its first new turn on, and tells when the rest stays as it is.
///
/// Feed it in order: the decided turns of one horizon before the first new turn by [`replay`](Self::replay), then
/// every turn from there on, old and new, by [`push`](Self::push), and stop when no new turn is left and it has
/// [`converged`](Self::converged). That gives what deciding the whole channel from its beginning would give.
///
/// Why: the decision for a turn depends on the turns within one horizon before it, and on their sessions. If all
/// of those are as they were when the turn was decided before, it is decided alike; then the same holds for the
/// turn after it, and so on to the end. A session bears the name of its first message, so it counts as a change
/// for each of its turns if an earlier message becomes its first.
#[derive(Debug, Clone)]
pub struct Repartition {
    sessionizer: Sessionizer,
    horizon: i64,
    /// When the latest turn that is new or moved was sent, in Unix milliseconds.
    last_change: Option<i64>,
}

impl Repartition {
    /// One that has seen nothing.
    pub fn new(rules: Rules) -> Self {
        let horizon = rules.horizon().num_milliseconds();
        Self { sessionizer: Sessionizer::new(rules), horizon, last_change: None }
    }

    /// Tells it a turn before the first new one, and the first message of its session.
    pub fn replay(&mut self, turn: &Turn<'_>, session: MessageId) {
        self.sessionizer.replay(turn, session);
    }

    /// Decides a turn; `previous` is the first message of the session that it had, `None` if it is new. Returns
    /// the first message of the session that it has now.
    pub fn push(&mut self, turn: &Turn<'_>, previous: Option<MessageId>) -> MessageId {
        let session = self.sessionizer.push(turn);
        if previous != Some(session) {
            self.last_change = Some(turn.sent_at.timestamp_millis());
        }
        session
    }

    /// Whether turns sent at `now` or later keep the sessions that they have, given that none of them is new.
    pub fn converged(&self, now: DateTime<Utc>) -> bool {
        self.last_change.is_none_or(|change| now.timestamp_millis().saturating_sub(self.horizon) >= change)
    }
}
