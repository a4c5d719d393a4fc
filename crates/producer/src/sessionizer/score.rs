//! Scores the sessions that a turn may join and chooses the best.

use guildex_types::{MessageId, UserId};

use super::turn::Turn;
use super::weights::{Model, Weights};
use super::window::{LastSeen, Member, Seq, Session, Window};

/// Milliseconds within which a session counts as active.
const ACTIVE: u64 = 5 * 60_000;
const MINUTE: u64 = 60_000;

/// Scores sessions for one turn.
pub(super) struct Scorer<'a> {
    window: &'a Window,
    weights: &'a Weights,
    author: UserId,
    member: Member,
    mentioned: Vec<(UserId, Member)>,
}

impl<'a> Scorer<'a> {
    /// Creates a scorer. `answered` is the author of the message that the turn replies to; it counts as a mention.
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
        let weights = match (mentioned.is_empty(), member.wrote) {
            (false, _) => &model.mentioning,
            (true, Some(_)) => &model.active_author,
            (true, None) => &model.new_author,
        };
        Self { window, weights, author: turn.author, member, mentioned }
    }

    /// Returns the best of the `max_candidates` latest sessions and of those that links lead to, or `None` if a new
    /// session scores higher. Ties go to the most recently active session.
    pub fn choose(&self, max_candidates: usize) -> Option<MessageId> {
        self.candidates(max_candidates)
            .filter(|(_, session)| self.window.is_open(session))
            .map(|(newest, session)| (self.score(newest, session), newest, session.first))
            .max()
            .filter(|(score, ..)| *score >= self.score_new(max_candidates))
            .map(|(.., first)| first)
    }

    fn candidates(&self, max_candidates: usize) -> impl Iterator<Item = (Seq, &'a Session)> {
        let linked = [self.member.wrote, self.member.addressed];
        let linked = linked.into_iter().chain(self.mentioned.iter().map(|(_, member)| member.wrote));
        let linked = linked.flatten().filter_map(|seen| self.window.session(seen.session));
        self.window.latest().take(max_candidates).chain(linked)
    }

    /// Scores joining `session`, in ten-thousandths of log-odds.
    fn score(&self, newest: Seq, session: &Session) -> i64 {
        let Some(last) = self.window.nth(newest) else { return i64::MIN };
        let w = self.weights;
        let own = match self.member.wrote {
            Some(wrote) if self.is_in(wrote.session, session) => w.own,
            Some(_) if session.members.contains(&self.author) => w.own_before,
            _ => 0,
        };
        let addressed = self.member.addressed.is_some_and(|seen| self.is_in(seen.session, session));
        let to_author = last.mentions.contains(&self.author);
        let to_others = !to_author && !last.mentions.is_empty() && last.author != self.author;
        let features = own
            + self.score_mentions(session)
            + flag(session.starter == self.author, w.own_started)
            + flag(addressed, w.addressed)
            + flag(to_author, w.to_author)
            + flag(to_others, w.to_others);
        100 * features
            + w.turns * log2(self.window.turns_since(newest) + 1)
            + w.minutes * log2_minutes(self.window.since(last.at))
    }

    fn score_mentions(&self, session: &Session) -> i64 {
        let w = self.weights;
        let in_session =
            |wrote: Option<LastSeen>| wrote.is_some_and(|seen| self.is_in(seen.session, session));
        let link = if self.mentioned.iter().any(|(_, member)| in_session(member.wrote)) {
            w.mentioned
        } else {
            flag(self.mentioned.iter().any(|(id, _)| session.members.contains(id)), w.mentioned_before)
        };
        link + flag(self.mentioned.iter().any(|(id, _)| session.starter == *id), w.mentioned_started)
    }

    /// Returns true if `session` starts with `first` or continues the session that does.
    fn is_in(&self, first: MessageId, session: &Session) -> bool {
        first == session.first || self.window.continues(session, first)
    }

    /// Scores a new session.
    fn score_new(&self, max_candidates: usize) -> i64 {
        let w = self.weights;
        let starter = self
            .member
            .wrote
            .and_then(|seen| self.window.session(seen.session))
            .is_some_and(|(_, session)| session.starter == self.author);
        let busy = self
            .window
            .latest()
            .take(max_candidates)
            .filter_map(|(newest, _)| self.window.nth(newest))
            .take_while(|last| self.window.since(last.at) <= ACTIVE)
            .count();
        100 * (w.start + flag(starter, w.starter))
            + w.pause * self.window.pause().map_or(0, log2_minutes)
            + w.busy * log2(busy as u64 + 1)
    }
}

fn flag(feature: bool, weight: i64) -> i64 {
    if feature { weight } else { 0 }
}

/// Returns hundredths of `log2(1 + minutes)`.
fn log2_minutes(milliseconds: u64) -> i64 {
    log2(MINUTE + milliseconds) - log2(MINUTE)
}

/// Returns hundredths of the binary logarithm, interpolated linearly between powers of two; 0 counts as 1. Integer
/// arithmetic, because the floating-point logarithm may differ between machines.
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
    fn the_logarithm_is_exact_at_powers_of_two_and_monotonic() {
        for power in 0..64 {
            assert_eq!(log2(1 << power), 100 * i64::from(power));
        }
        assert_eq!(log2(0), 0);
        assert_eq!(log2(6), 250);
        assert!((1..5_000).all(|n| log2(n) <= log2(n + 1)));
        assert_eq!(log2(u64::MAX), 6_399);
    }

    #[test]
    fn log2_minutes_starts_at_zero() {
        assert_eq!(log2_minutes(0), 0);
        assert!((log2_minutes(MINUTE) - 100).abs() <= 1);
        assert!((log2_minutes(7 * MINUTE) - 300).abs() <= 1);
    }
}
