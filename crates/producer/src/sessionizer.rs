//! Which messages of a channel belong together: a partition into conversation sessions, made online.
//!
//! A busy channel holds several conversations at once, so that gaps in time say little. What tells them apart is
//! whom a message speaks to and who has spoken where. An explicit reply decides alone. Any other message weighs
//! the sessions that it could join, and beginning one of its own, by a [linear score](Weights) of links, authors,
//! order and times; the best wins. See `docs/sessions.md` for how well this does.
//!
//! The decision for a turn at time `t` is a pure function of the turns within `(t - horizon, t]` and their
//! sessions. Every link reaches back over the horizon at most, a session's span is within it, and nothing older
//! is remembered. So a [`Sessionizer`] that is told the last horizon goes on exactly like one that saw the whole
//! channel, and a late message moves only what [`Repartition`] can find. Scores are whole numbers, so that every
//! machine decides alike.

mod repartition;
mod score;
mod window;

#[cfg(test)]
mod tests;

use chrono::{DateTime, TimeDelta, Utc};
use guildex_types::{MessageId, UserId};

pub use repartition::Repartition;
pub use score::{Model, Weights};

use score::Listener;
use window::Window;

/// A message as the sessionizer sees it: content does not matter, nor does the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn<'a> {
    /// The message.
    pub id: MessageId,
    /// Who wrote it.
    pub author: UserId,
    /// When it was sent; counted in whole milliseconds, as Discord does.
    pub sent_at: DateTime<Utc>,
    /// The message that it answers.
    pub reply_to: Option<MessageId>,
    /// The members that it mentions.
    pub mentions: &'a [UserId],
}

/// How turns become sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// How far back a decision looks. Reading this much is what a live message costs.
    pub horizon: TimeDelta,
    /// The longest time from a session's first message to its last; at most the horizon.
    pub max_span: TimeDelta,
    /// The most messages in a session.
    pub max_messages: usize,
    /// How many sessions, the latest active, are weighed beside those that the turn's links lead to.
    pub breadth: usize,
    /// In a channel without links, a turn that would begin a session joins the latest one if that spoke within
    /// this time.
    pub gap: TimeDelta,
    /// A channel where fewer than one turn in so many has a link counts as one without links: there, a turn
    /// without a link says nothing. At 0 every channel counts as such.
    pub linkless_below: usize,
    /// What the signs are worth.
    pub model: Model,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            horizon: TimeDelta::hours(2),
            max_span: TimeDelta::hours(2),
            max_messages: 250,
            breadth: 16,
            gap: TimeDelta::minutes(10),
            linkless_below: 8,
            model: Model::default(),
        }
    }
}

/// Rules that cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Every message would stand alone.
    #[error("the sessions' horizon must be a second at least")]
    NoHorizon,
    /// A session would reach out of what is remembered.
    #[error("a session's longest span must be between zero and the horizon")]
    SpanBeyondHorizon,
    /// No message could join any session.
    #[error("a session must be allowed one message at least")]
    NoMessages,
    /// The gap points into the future, or out of what is remembered.
    #[error("the sessions' gap must be between zero and the horizon")]
    GapBeyondHorizon,
}

impl Rules {
    /// How far back a decision looks.
    pub fn horizon(&self) -> TimeDelta {
        self.horizon
    }

    /// Checks that the rules can be followed. [`Sessionizer`] does not check again; it never panics, but rules
    /// that fail here give no useful sessions.
    ///
    /// # Errors
    /// If they contradict each other.
    pub fn validate(&self) -> Result<(), RulesError> {
        if self.horizon < TimeDelta::seconds(1) {
            Err(RulesError::NoHorizon)
        } else if self.max_span < TimeDelta::zero() || self.max_span > self.horizon {
            Err(RulesError::SpanBeyondHorizon)
        } else if self.max_messages == 0 {
            Err(RulesError::NoMessages)
        } else if self.gap < TimeDelta::zero() || self.gap > self.horizon {
            Err(RulesError::GapBeyondHorizon)
        } else {
            Ok(())
        }
    }
}

/// Gives the turns of one channel, in the order of `(sent_at, id)`, their sessions.
///
/// Memory is bounded by the turns of one horizon.
#[derive(Debug, Clone)]
pub struct Sessionizer {
    rules: Rules,
    window: Window,
}

impl Sessionizer {
    /// One that has seen nothing.
    pub fn new(rules: Rules) -> Self {
        let window = Window::new(&rules);
        Self { rules, window }
    }

    /// Tells it a turn decided before, and the first message of its session. Turns older than the horizon are
    /// not needed; those within it are needed all.
    pub fn replay(&mut self, turn: &Turn<'_>, session: MessageId) {
        self.window.advance(turn.sent_at);
        self.window.record(turn, session);
    }

    /// Decides: returns the first message of the session that the turn joins, its own id if it begins one.
    /// A message that is still remembered keeps its session, however often it comes.
    pub fn push(&mut self, turn: &Turn<'_>) -> MessageId {
        self.window.advance(turn.sent_at);
        let session = self.window.session_of(turn.id).or_else(|| self.join(turn)).unwrap_or(turn.id);
        self.window.record(turn, session);
        session
    }

    /// The session that the turn joins, if it joins one.
    fn join(&self, turn: &Turn<'_>) -> Option<MessageId> {
        let answered = turn.reply_to.and_then(|id| self.window.turn(id));
        if let Some(session) = answered.and_then(|answered| self.window.open(answered.session)) {
            return Some(session.first);
        }
        // The answered session is full or over: what is left of the reply is that it speaks to somebody.
        let answered = answered.map(|answered| answered.author);
        let listener = Listener::new(&self.window, &self.rules.model, turn, answered);
        listener.choose(self.rules.breadth).or_else(|| self.linkless(turn))
    }

    /// Where links are usual, a turn without one that fits nowhere begins something. Where they are not, it most
    /// likely goes on with what is being said.
    fn linkless(&self, turn: &Turn<'_>) -> Option<MessageId> {
        let has_link = turn.reply_to.is_some() || !turn.mentions.is_empty();
        if has_link || !self.window.is_linkless(self.rules.linkless_below) {
            return None;
        }
        let latest = self.window.latest_within(self.rules.gap)?;
        self.window.open(latest).map(|session| session.first)
    }
}
