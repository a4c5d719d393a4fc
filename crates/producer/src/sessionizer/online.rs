//! Decides the session of each turn, in the order of the channel.

use guildex_types::MessageId;

use super::rules::Rules;
use super::score::Scorer;
use super::turn::Turn;
use super::window::Window;

/// Assigns sessions to the turns of one channel, given in the order of `(sent_at, id)`.
///
/// Memory is bounded by the turns of one lookback.
#[derive(Debug, Clone)]
pub struct Sessionizer {
    rules: Rules,
    window: Window,
}

impl Sessionizer {
    /// Creates a sessionizer without history.
    pub fn new(rules: Rules) -> Self {
        let window = Window::new(&rules);
        Self { rules, window }
    }

    /// Adds a turn whose session was decided before; `session` is the first message of that session. All turns of the
    /// last lookback must be replayed, older ones need not be.
    pub fn replay(&mut self, turn: &Turn<'_>, session: MessageId) {
        self.window.advance(turn.sent_at);
        self.window.record(turn, session);
    }

    /// Decides the session of a turn and returns its first message, which is the turn itself if it starts a session.
    /// A message within the lookback keeps its session if it is pushed again.
    pub fn push(&mut self, turn: &Turn<'_>) -> MessageId {
        self.window.advance(turn.sent_at);
        let session = self.window.session_of(turn.id).or_else(|| self.join(turn)).unwrap_or(turn.id);
        self.window.record(turn, session);
        session
    }

    /// Returns the existing session that the turn joins, if any.
    fn join(&self, turn: &Turn<'_>) -> Option<MessageId> {
        let answered = turn.reply_to.and_then(|id| self.window.turn(id));
        if let Some(session) = answered.and_then(|answered| self.window.open(answered.session)) {
            return Some(session.first);
        }
        // The session of the answered message is closed, so the reply only counts as a mention of its author.
        let answered = answered.map(|answered| answered.author);
        let scorer = Scorer::new(&self.window, &self.rules.model, turn, answered);
        scorer.choose(self.rules.max_candidates).or_else(|| self.join_without_links(turn))
    }

    /// Joins the latest session in a channel without links. Where links are common, a turn without one that fits no session
    /// starts a session; where they are not, it most likely continues the current one.
    fn join_without_links(&self, turn: &Turn<'_>) -> Option<MessageId> {
        if turn.has_link() || !self.window.is_without_links(self.rules.min_link_share) {
            return None;
        }
        let latest = self.window.latest_within(self.rules.join_gap)?;
        self.window.open(latest).map(|session| session.first)
    }
}
