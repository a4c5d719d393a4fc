//! State of the sessionizer: the turns of one lookback and what is derived from them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use guildex_types::{MessageId, UserId};

use super::rules::Rules;
use super::turn::Turn;

/// Position of a turn in the channel. Only differences are meaningful.
pub(super) type Seq = u64;

/// A turn within the lookback.
#[derive(Debug, Clone)]
pub(super) struct SeenMessage {
    pub id: MessageId,
    pub author: UserId,
    /// Unix milliseconds.
    pub at: i64,
    pub mentions: Box<[UserId]>,
    pub session: MessageId,
    has_link: bool,
}

/// Turn in which a member wrote or was mentioned.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastSeen {
    seq: Seq,
    at: i64,
    pub session: MessageId,
}

/// Latest turns of a member.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Member {
    pub wrote: Option<LastSeen>,
    pub addressed: Option<LastSeen>,
}

/// A session whose first turn, and therefore every turn, is within the lookback.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub first: MessageId,
    pub starter: UserId,
    pub members: Vec<UserId>,
    started_at: i64,
    messages: usize,
    /// Turn that its starter wrote before.
    came_from: Option<LastSeen>,
}

/// Turns of the last lookback, with indexes.
#[derive(Debug, Clone)]
pub(super) struct Window {
    lookback: i64,
    max_span: i64,
    max_messages: usize,
    now: i64,
    turns: VecDeque<SeenMessage>,
    /// Position of the oldest turn.
    oldest: Seq,
    /// Number of turns with a link.
    links: usize,
    positions: HashMap<MessageId, Seq>,
    members: HashMap<UserId, Member>,
    /// Sessions by the position of their latest turn.
    active: BTreeMap<Seq, Session>,
    newest_of: HashMap<MessageId, Seq>,
}

impl Window {
    pub fn new(rules: &Rules) -> Self {
        Self {
            lookback: rules.lookback.num_milliseconds(),
            max_span: rules.max_span.num_milliseconds(),
            max_messages: rules.max_messages,
            now: i64::MIN,
            turns: VecDeque::new(),
            oldest: 0,
            links: 0,
            positions: HashMap::new(),
            members: HashMap::new(),
            active: BTreeMap::new(),
            newest_of: HashMap::new(),
        }
    }

    /// Advances to `now` and drops turns that are one lookback old.
    pub fn advance(&mut self, now: DateTime<Utc>) {
        self.now = now.timestamp_millis();
        while let Some(turn) =
            self.turns.pop_front_if(|turn| turn.at <= self.now.saturating_sub(self.lookback))
        {
            self.drop_turn(&turn);
            self.oldest += 1;
        }
    }

    fn drop_turn(&mut self, turn: &SeenMessage) {
        let seq = self.oldest;
        self.links -= usize::from(turn.has_link);
        self.positions.remove(&turn.id);
        self.drop_last_seen(turn.author, |member| &mut member.wrote, seq);
        for mentioned in &turn.mentions {
            self.drop_last_seen(*mentioned, |member| &mut member.addressed, seq);
        }
        if turn.session == turn.id
            && let Some(newest) = self.newest_of.remove(&turn.id)
        {
            self.active.remove(&newest);
        }
    }

    fn drop_last_seen(
        &mut self,
        id: UserId,
        last_seen: impl Fn(&mut Member) -> &mut Option<LastSeen>,
        seq: Seq,
    ) {
        let Some(member) = self.members.get_mut(&id) else { return };
        last_seen(member).take_if(|seen| seen.seq == seq);
        if member.wrote.is_none() && member.addressed.is_none() {
            self.members.remove(&id);
        }
    }

    /// Adds a turn of `session` at the current time, unless it is already present.
    pub fn record(&mut self, turn: &Turn<'_>, session: MessageId) {
        if self.positions.contains_key(&turn.id) {
            return;
        }
        let seq = self.next();
        let seen = LastSeen { seq, at: self.now, session };
        self.add_to_session(turn, seen);
        self.members.entry(turn.author).or_default().wrote = Some(seen);
        for mentioned in turn.mentions {
            self.members.entry(*mentioned).or_default().addressed = Some(seen);
        }
        let has_link = turn.has_link();
        self.links += usize::from(has_link);
        self.positions.insert(turn.id, seq);
        let mentions = turn.mentions.into();
        self.turns.push_back(SeenMessage {
            id: turn.id,
            author: turn.author,
            at: self.now,
            mentions,
            session,
            has_link,
        });
    }

    /// Starts the session or adds to it. A session whose first turn is out of the lookback cannot be joined again and is
    /// not tracked.
    fn add_to_session(&mut self, turn: &Turn<'_>, LastSeen { seq, at, session }: LastSeen) {
        if session == turn.id {
            let came_from = self.members.get(&turn.author).and_then(|member| member.wrote);
            let members = vec![turn.author];
            let started = Session {
                first: session,
                starter: turn.author,
                members,
                started_at: at,
                messages: 1,
                came_from,
            };
            self.newest_of.insert(session, seq);
            self.active.insert(seq, started);
        } else if let Some(newest) = self.newest_of.get_mut(&session)
            && let Some(mut joined) = self.active.remove(newest)
        {
            joined.messages += 1;
            if !joined.members.contains(&turn.author) {
                joined.members.push(turn.author);
            }
            *newest = seq;
            self.active.insert(seq, joined);
        }
    }

    fn next(&self) -> Seq {
        self.oldest + self.turns.len() as Seq
    }

    /// Returns the session of a turn.
    pub fn session_of(&self, id: MessageId) -> Option<MessageId> {
        self.turn(id).map(|turn| turn.session)
    }

    /// Returns a turn by its message id.
    pub fn turn(&self, id: MessageId) -> Option<&SeenMessage> {
        self.positions.get(&id).and_then(|seq| self.nth(*seq))
    }

    /// Returns a turn by its position.
    pub fn nth(&self, seq: Seq) -> Option<&SeenMessage> {
        self.turns.get(usize::try_from(seq.checked_sub(self.oldest)?).ok()?)
    }

    /// Returns a tracked session and the position of its latest turn.
    pub fn session(&self, first: MessageId) -> Option<(Seq, &Session)> {
        let newest = *self.newest_of.get(&first)?;
        self.active.get(&newest).map(|session| (newest, session))
    }

    /// Returns a session if it can be joined now.
    pub fn open(&self, first: MessageId) -> Option<&Session> {
        self.session(first).map(|(_, session)| session).filter(|session| self.is_open(session))
    }

    /// Returns true if a session can be joined now.
    pub fn is_open(&self, session: &Session) -> bool {
        session.messages < self.max_messages && self.now.saturating_sub(session.started_at) <= self.max_span
    }

    /// Returns true if `session` continues the closed session `closed`: its starter wrote there before.
    pub fn continues(&self, session: &Session, closed: MessageId) -> bool {
        session.came_from.is_some_and(|from| {
            from.session == closed
                && from.at > self.now.saturating_sub(self.lookback)
                && self.open(closed).is_none()
        })
    }

    /// Iterates over the tracked sessions, most recently active first.
    pub fn latest(&self) -> impl Iterator<Item = (Seq, &Session)> {
        self.active.iter().rev().map(|(newest, session)| (*newest, session))
    }

    /// Returns the latest turns of a member.
    pub fn member(&self, id: UserId) -> Member {
        self.members.get(&id).copied().unwrap_or_default()
    }

    /// Counts the turns after this one.
    pub fn turns_since(&self, seq: Seq) -> u64 {
        self.next().saturating_sub(seq + 1)
    }

    /// Returns the milliseconds since `at`.
    pub fn since(&self, at: i64) -> u64 {
        u64::try_from(self.now.saturating_sub(at)).unwrap_or(0)
    }

    /// Returns the milliseconds since the last turn.
    pub fn pause(&self) -> Option<u64> {
        self.turns.back().map(|turn| self.since(turn.at))
    }

    /// Returns true if the share of turns with a link is below `min_link_share`.
    pub fn is_without_links(&self, min_link_share: f64) -> bool {
        // A product and a comparison are exact or rounded alike on every machine.
        (self.links as f64) < min_link_share * self.turns.len() as f64
    }

    /// Returns the session of the last turn, if that was sent within `gap`.
    pub fn latest_within(&self, gap: TimeDelta) -> Option<MessageId> {
        let newest = self.turns.back()?;
        (self.now.saturating_sub(newest.at) <= gap.num_milliseconds()).then_some(newest.session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_older_than_the_lookback_leave_no_state() {
        let rules = Rules::default();
        let mut window = Window::new(&rules);
        let id = |n: i64| MessageId::try_from(n).unwrap();
        let mut now = DateTime::UNIX_EPOCH;
        for n in 1..500 {
            let mentions = [UserId::try_from(1000 + n % 50).unwrap()];
            let author = UserId::try_from(1 + n % 30).unwrap();
            let reply_to = (n % 3 == 0).then(|| id(1));
            let turn =
                Turn { id: id(n), author, sent_at: now, reply_to, mentions: &mentions[..(n % 2) as usize] };
            window.advance(now);
            window.record(&turn, id(n - n % 7 % n));
            now += TimeDelta::minutes(1);
            assert!(window.turns.len() <= 120);
            assert!(
                window.members.len() <= 80 && window.active.len() <= 120 && window.positions.len() <= 120
            );
        }
        window.advance(now + rules.lookback);
        assert!(window.turns.is_empty() && window.positions.is_empty() && window.members.is_empty());
        assert!(window.active.is_empty() && window.newest_of.is_empty());
        assert_eq!(window.links, 0);
    }

    #[test]
    fn a_session_continues_a_full_one_while_its_starters_previous_turn_is_in_the_lookback() {
        let rules = Rules { max_messages: 2, ..Rules::default() };
        let mut window = Window::new(&rules);
        let minute = |n: i64| DateTime::UNIX_EPOCH + TimeDelta::minutes(n);
        let id = |n: i64| MessageId::try_from(n).unwrap();
        for (n, author, session, at) in [(1, 7, 1, 0), (2, 8, 1, 60), (3, 7, 3, 100)] {
            let author = UserId::try_from(author).unwrap();
            let turn = Turn { id: id(n), author, sent_at: minute(at), reply_to: None, mentions: &[] };
            window.advance(turn.sent_at);
            window.record(&turn, id(session));
        }
        let mut continues = |at| {
            window.advance(minute(at));
            let (_, session) = window.session(id(3)).unwrap();
            window.continues(session, id(1))
        };
        assert!(continues(119));
        assert!(!continues(120), "the decision must not depend on turns out of the lookback");
    }
}
