//! What speaks for a session: signs, their weights, and the choice of the best.
//!
//! The weights are those of a conditional logit (McFadden 1974): of the sessions that a turn may join, and one of
//! its own, the right one is chosen with a probability that grows with its score. They are fitted on `train` of
//! irc-disentanglement (Kummerfeld et al., ACL 2019), 59,217 annotated messages, with sessions as the sessionizer
//! itself had made them so far (DAgger: Ross et al., AISTATS 2011), so that they know its mistakes.
//! `docs/sessions.md` tells more.

use guildex_types::{MessageId, UserId};

use super::Turn;
use super::window::{Member, Seq, Session, Trace, Window};

/// A session counts as busy if somebody spoke in it within so many milliseconds.
const BUSY: u64 = 5 * 60_000;
const MINUTE: u64 = 60_000;

/// What each sign is worth, in hundredths of log-odds. Signs that are yes or no count once; signs that are
/// amounts count as often as they double, from one on: `log2(1 + amount)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// The author's newest turn stands in the session.
    pub own: i64,
    /// The author spoke in it, but elsewhere since.
    pub own_before: i64,
    /// The author began it.
    pub own_founded: i64,
    /// The newest turn of a mentioned member stands in it.
    pub mentioned: i64,
    /// A mentioned member spoke in it, but elsewhere since.
    pub mentioned_before: i64,
    /// A mentioned member began it.
    pub mentioned_founded: i64,
    /// The newest turn that mentions the author stands in it.
    pub addressed: i64,
    /// Its newest turn mentions the author.
    pub to_author: i64,
    /// Its newest turn, by somebody else, mentions others alone.
    pub to_others: i64,
    /// Turns in the channel since its newest.
    pub turns: i64,
    /// Minutes since its newest turn.
    pub minutes: i64,
    /// For a session of its own: always.
    pub begin: i64,
    /// For a session of its own: minutes since anybody spoke.
    pub pause: i64,
    /// For a session of its own: how many sessions were active in the last five minutes.
    pub busy: i64,
    /// For a session of its own: the author began the session of his newest turn.
    pub founder: i64,
}

/// The weights, by what is known of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// It mentions somebody.
    pub mentioning: Weights,
    /// It mentions nobody, and its author has spoken within the horizon.
    pub speaking: Weights,
    /// It mentions nobody, and its author has not.
    pub newcomer: Weights,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            mentioning: Weights {
                own: 119,
                own_before: 134,
                own_founded: 166,
                mentioned: 253,
                mentioned_before: 234,
                mentioned_founded: 153,
                addressed: -27,
                to_author: 34,
                to_others: -1,
                turns: -13,
                minutes: -56,
                begin: 167,
                pause: -75,
                busy: 14,
                founder: -26,
            },
            speaking: Weights {
                own: 199,
                own_before: 199,
                own_founded: 72,
                mentioned: 0,
                mentioned_before: 0,
                mentioned_founded: 0,
                addressed: 31,
                to_author: 55,
                to_others: -40,
                turns: -39,
                minutes: -32,
                begin: 23,
                pause: 5,
                busy: 15,
                founder: 27,
            },
            newcomer: Weights {
                own: 0,
                own_before: 0,
                own_founded: 0,
                mentioned: 0,
                mentioned_before: 0,
                mentioned_founded: 0,
                addressed: 166,
                to_author: 137,
                to_others: -49,
                turns: -53,
                minutes: -46,
                begin: 138,
                pause: 42,
                busy: 41,
                founder: 0,
            },
        }
    }
}

/// A turn that listens for its session.
pub(super) struct Listener<'a> {
    window: &'a Window,
    weights: &'a Weights,
    author: UserId,
    member: Member,
    mentioned: Vec<(UserId, Member)>,
}

impl<'a> Listener<'a> {
    /// `answered` is whom the turn answers, beside its mentions.
    pub fn new(window: &'a Window, model: &'a Model, turn: &Turn<'_>, answered: Option<UserId>) -> Self {
        let member = window.member(turn.author);
        let mentioned: Vec<_> = turn
            .mentions
            .iter()
            .copied()
            .chain(answered)
            .filter(|id| *id != turn.author)
            .map(|id| (id, window.member(id)))
            .collect();
        let weights = match (mentioned.is_empty(), member.spoke) {
            (false, _) => &model.mentioning,
            (true, Some(_)) => &model.speaking,
            (true, None) => &model.newcomer,
        };
        Self { window, weights, author: turn.author, member, mentioned }
    }

    /// The best of the `breadth` latest sessions and of those that links lead to; `None` if a session of its own
    /// is better than all of them. Of equals, the latest active wins.
    pub fn choose(&self, breadth: usize) -> Option<MessageId> {
        self.candidates(breadth)
            .filter(|(_, session)| self.window.is_open(session))
            .map(|(newest, session)| (self.join(newest, session), newest, session.first))
            .max()
            .filter(|(score, ..)| *score >= self.begin(breadth))
            .map(|(.., first)| first)
    }

    fn candidates(&self, breadth: usize) -> impl Iterator<Item = (Seq, &'a Session)> {
        let linked = [self.member.spoke, self.member.addressed];
        let linked = linked.into_iter().chain(self.mentioned.iter().map(|(_, member)| member.spoke));
        let linked = linked.flatten().filter_map(|trace| self.window.session(trace.session));
        self.window.latest().take(breadth).chain(linked)
    }

    /// What speaks for joining `session`, in ten-thousandths of log-odds.
    fn join(&self, newest: Seq, session: &Session) -> i64 {
        let Some(last) = self.window.nth(newest) else { return i64::MIN };
        let w = self.weights;
        let own = match self.member.spoke {
            Some(spoke) if self.is_in(spoke.session, session) => w.own,
            Some(_) if session.members.contains(&self.author) => w.own_before,
            _ => 0,
        };
        let addressed = self.member.addressed.is_some_and(|trace| self.is_in(trace.session, session));
        let to_author = last.mentions.contains(&self.author);
        let to_others = !to_author && !last.mentions.is_empty() && last.author != self.author;
        let signs = own
            + self.mentions(session)
            + once(session.founder == self.author, w.own_founded)
            + once(addressed, w.addressed)
            + once(to_author, w.to_author)
            + once(to_others, w.to_others);
        100 * signs
            + w.turns * log2(self.window.turns_since(newest) + 1)
            + w.minutes * log2_minutes(self.window.since(last.at))
    }

    fn mentions(&self, session: &Session) -> i64 {
        let w = self.weights;
        let in_it = |spoke: Option<Trace>| spoke.is_some_and(|t| self.is_in(t.session, session));
        let link = if self.mentioned.iter().any(|(_, member)| in_it(member.spoke)) {
            w.mentioned
        } else {
            once(self.mentioned.iter().any(|(id, _)| session.members.contains(id)), w.mentioned_before)
        };
        link + once(self.mentioned.iter().any(|(id, _)| session.founder == *id), w.mentioned_founded)
    }

    /// Whether a trace left in `first` leads to `session`: they are one, or the second goes on with the first.
    fn is_in(&self, first: MessageId, session: &Session) -> bool {
        first == session.first || self.window.continues(session, first)
    }

    /// What speaks for a session of its own.
    fn begin(&self, breadth: usize) -> i64 {
        let w = self.weights;
        let founder = self
            .member
            .spoke
            .and_then(|trace| self.window.session(trace.session))
            .is_some_and(|(_, session)| session.founder == self.author);
        let busy = self
            .window
            .latest()
            .take(breadth)
            .filter_map(|(newest, _)| self.window.nth(newest))
            .take_while(|last| self.window.since(last.at) <= BUSY)
            .count();
        100 * (w.begin + once(founder, w.founder))
            + w.pause * self.window.pause().map_or(0, log2_minutes)
            + w.busy * log2(busy as u64 + 1)
    }
}

fn once(sign: bool, weight: i64) -> i64 {
    if sign { weight } else { 0 }
}

/// Hundredths of `log2(1 + minutes)`.
fn log2_minutes(milliseconds: u64) -> i64 {
    log2(MINUTE + milliseconds) - log2(MINUTE)
}

/// Hundredths of the binary logarithm, on a straight line between powers of two. In whole numbers, since the
/// floating one may differ from machine to machine. 0 counts as 1.
fn log2(n: u64) -> i64 {
    let n = u128::from(n.max(1));
    let power = n.ilog2();
    let rest = ((n - (1 << power)) * 100) >> power;
    i64::from(power) * 100 + i64::try_from(rest).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_exact_at_powers_of_two_and_grows_between() {
        for power in 0..64 {
            assert_eq!(log2(1 << power), 100 * i64::from(power));
        }
        assert_eq!(log2(0), 0);
        assert_eq!(log2(6), 250);
        assert!((1..5_000).all(|n| log2(n) <= log2(n + 1)));
        assert_eq!(log2(u64::MAX), 6_399);
    }

    #[test]
    fn minutes_count_from_one() {
        assert_eq!(log2_minutes(0), 0);
        assert!((log2_minutes(MINUTE) - 100).abs() <= 1);
        assert!((log2_minutes(7 * MINUTE) - 300).abs() <= 1);
    }
}
