//! What the sessionizer remembers: the turns of one horizon, and what follows from them alone.

use std::collections::{BTreeMap, HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use guildex_types::{MessageId, UserId};

use super::{Rules, Turn};

/// A turn's number in the order of the channel. Only differences matter.
pub(super) type Seq = u64;

/// A remembered turn.
#[derive(Debug, Clone)]
pub(super) struct Spoken {
    pub id: MessageId,
    pub author: UserId,
    /// Unix milliseconds.
    pub at: i64,
    pub mentions: Box<[UserId]>,
    pub session: MessageId,
    has_link: bool,
}

/// Where a member left a trace: spoke, or was spoken to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trace {
    seq: Seq,
    at: i64,
    pub session: MessageId,
}

/// A member's newest traces.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Member {
    pub spoke: Option<Trace>,
    pub addressed: Option<Trace>,
}

/// A session whose first turn is remembered, and therefore all of it.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub first: MessageId,
    pub founder: UserId,
    pub members: Vec<UserId>,
    began_at: i64,
    messages: usize,
    /// Where its founder spoke last before.
    came_from: Option<Trace>,
}

/// The turns of the last horizon, and what follows from them.
#[derive(Debug, Clone)]
pub(super) struct Window {
    horizon: i64,
    max_span: i64,
    max_messages: usize,
    now: i64,
    turns: VecDeque<Spoken>,
    /// The number of the oldest remembered turn.
    oldest: Seq,
    /// How many of the turns mention or answer somebody.
    links: usize,
    places: HashMap<MessageId, Seq>,
    members: HashMap<UserId, Member>,
    /// Sessions by their newest turn.
    active: BTreeMap<Seq, Session>,
    newest_of: HashMap<MessageId, Seq>,
}

impl Window {
    pub fn new(rules: &Rules) -> Self {
        Self {
            horizon: rules.horizon.num_milliseconds(),
            max_span: rules.max_span.num_milliseconds(),
            max_messages: rules.max_messages,
            now: i64::MIN,
            turns: VecDeque::new(),
            oldest: 0,
            links: 0,
            places: HashMap::new(),
            members: HashMap::new(),
            active: BTreeMap::new(),
            newest_of: HashMap::new(),
        }
    }

    /// Moves on to `now`, and forgets what is a horizon old.
    pub fn advance(&mut self, now: DateTime<Utc>) {
        self.now = now.timestamp_millis();
        while let Some(turn) =
            self.turns.pop_front_if(|turn| turn.at <= self.now.saturating_sub(self.horizon))
        {
            self.forget(&turn);
            self.oldest += 1;
        }
    }

    fn forget(&mut self, turn: &Spoken) {
        let seq = self.oldest;
        self.links -= usize::from(turn.has_link);
        self.places.remove(&turn.id);
        self.lose(turn.author, |member| &mut member.spoke, seq);
        for mentioned in &turn.mentions {
            self.lose(*mentioned, |member| &mut member.addressed, seq);
        }
        if turn.session == turn.id
            && let Some(newest) = self.newest_of.remove(&turn.id)
        {
            self.active.remove(&newest);
        }
    }

    fn lose(&mut self, id: UserId, trace: impl Fn(&mut Member) -> &mut Option<Trace>, seq: Seq) {
        let Some(member) = self.members.get_mut(&id) else { return };
        trace(member).take_if(|trace| trace.seq == seq);
        if member.spoke.is_none() && member.addressed.is_none() {
            self.members.remove(&id);
        }
    }

    /// Takes in a turn of `session` at the present time, unless it is remembered already.
    pub fn record(&mut self, turn: &Turn<'_>, session: MessageId) {
        if self.places.contains_key(&turn.id) {
            return;
        }
        let seq = self.next();
        let trace = Trace { seq, at: self.now, session };
        self.place(turn, trace);
        self.members.entry(turn.author).or_default().spoke = Some(trace);
        for mentioned in turn.mentions {
            self.members.entry(*mentioned).or_default().addressed = Some(trace);
        }
        let has_link = turn.reply_to.is_some() || !turn.mentions.is_empty();
        self.links += usize::from(has_link);
        self.places.insert(turn.id, seq);
        let mentions = turn.mentions.into();
        self.turns.push_back(Spoken {
            id: turn.id,
            author: turn.author,
            at: self.now,
            mentions,
            session,
            has_link,
        });
    }

    /// Begins the session, or adds to it. A session whose first turn is forgotten can never be joined again, so
    /// nothing is kept of it.
    fn place(&mut self, turn: &Turn<'_>, Trace { seq, at, session }: Trace) {
        if session == turn.id {
            let came_from = self.members.get(&turn.author).and_then(|member| member.spoke);
            let members = vec![turn.author];
            let begun = Session {
                first: session,
                founder: turn.author,
                members,
                began_at: at,
                messages: 1,
                came_from,
            };
            self.newest_of.insert(session, seq);
            self.active.insert(seq, begun);
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

    /// The session of a remembered turn.
    pub fn session_of(&self, id: MessageId) -> Option<MessageId> {
        self.turn(id).map(|turn| turn.session)
    }

    /// A remembered turn.
    pub fn turn(&self, id: MessageId) -> Option<&Spoken> {
        self.places.get(&id).and_then(|seq| self.nth(*seq))
    }

    /// A remembered turn, by its number.
    pub fn nth(&self, seq: Seq) -> Option<&Spoken> {
        self.turns.get(usize::try_from(seq.checked_sub(self.oldest)?).ok()?)
    }

    /// A session that is remembered whole.
    pub fn session(&self, first: MessageId) -> Option<(Seq, &Session)> {
        let newest = *self.newest_of.get(&first)?;
        self.active.get(&newest).map(|session| (newest, session))
    }

    /// A session that can be joined now.
    pub fn open(&self, first: MessageId) -> Option<&Session> {
        self.session(first).map(|(_, session)| session).filter(|session| self.is_open(session))
    }

    /// Whether a session can be joined now.
    pub fn is_open(&self, session: &Session) -> bool {
        session.messages < self.max_messages && self.now.saturating_sub(session.began_at) <= self.max_span
    }

    /// Whether `session` goes on with what `closed` can hold no more: its founder came from there.
    pub fn continues(&self, session: &Session, closed: MessageId) -> bool {
        session.came_from.is_some_and(|from| {
            from.session == closed
                && from.at > self.now.saturating_sub(self.horizon)
                && self.open(closed).is_none()
        })
    }

    /// The sessions remembered whole, by their newest turn, the latest first.
    pub fn latest(&self) -> impl Iterator<Item = (Seq, &Session)> {
        self.active.iter().rev().map(|(newest, session)| (*newest, session))
    }

    /// A member's newest traces, if there are any.
    pub fn member(&self, id: UserId) -> Member {
        self.members.get(&id).copied().unwrap_or_default()
    }

    /// How many turns stand between this one and the present.
    pub fn turns_since(&self, seq: Seq) -> u64 {
        self.next().saturating_sub(seq + 1)
    }

    /// Milliseconds from `at` to the present.
    pub fn since(&self, at: i64) -> u64 {
        u64::try_from(self.now.saturating_sub(at)).unwrap_or(0)
    }

    /// Milliseconds since anybody spoke.
    pub fn pause(&self) -> Option<u64> {
        self.turns.back().map(|turn| self.since(turn.at))
    }

    /// Whether fewer than one turn in `below` has a link.
    pub fn is_linkless(&self, below: usize) -> bool {
        self.links.saturating_mul(below) < self.turns.len()
    }

    /// The session of the newest turn, if that was said within `gap`.
    pub fn latest_within(&self, gap: TimeDelta) -> Option<MessageId> {
        let newest = self.turns.back()?;
        (self.now.saturating_sub(newest.at) <= gap.num_milliseconds()).then_some(newest.session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_horizon_old_leaves_nothing_behind() {
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
            assert!(window.members.len() <= 80 && window.active.len() <= 120 && window.places.len() <= 120);
        }
        window.advance(now + rules.horizon);
        assert!(window.turns.is_empty() && window.places.is_empty() && window.members.is_empty());
        assert!(window.active.is_empty() && window.newest_of.is_empty());
        assert_eq!(window.links, 0);
    }

    #[test]
    fn a_session_goes_on_with_a_full_one_as_long_as_its_founders_way_is_remembered() {
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
        let mut goes_on = |at| {
            window.advance(minute(at));
            let (_, session) = window.session(id(3)).unwrap();
            window.continues(session, id(1))
        };
        assert!(goes_on(119));
        assert!(!goes_on(120), "this would depend on what is out of the horizon");
    }
}
