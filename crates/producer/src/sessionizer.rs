//! Partitions the messages of a channel into conversation sessions, online and without I/O.
//!
//! A busy channel holds several conversations at once, so pauses alone do not separate them. An explicit reply decides by
//! itself. Any other message scores the sessions it could join, and a new session, with a [linear model](Weights)
//! of links, authors, order and times; the best score wins. `docs/sessions.md` has the measured quality.
//!
//! The decision for a turn at time `t` is a pure function of the turns within `(t - lookback, t]` and their sessions:
//! links reach back at most one lookback, a session spans at most one, and nothing older is kept. So a [`Sessionizer`]
//! that replays the last lookback continues exactly like one that processed the whole channel, and
//! [`IncrementalSessionizer`] can bound the effect of a late message. Scores are integers, so every machine decides alike.

mod incremental;
mod online;
mod rules;
mod score;
mod turn;
mod weights;
mod window;

#[cfg(test)]
mod tests;

pub use incremental::IncrementalSessionizer;
pub use online::Sessionizer;
pub use rules::{Rules, RulesError};
pub use turn::Turn;
pub use weights::{Model, Weights};
