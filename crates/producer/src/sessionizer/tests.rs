//! Behavior that does not depend on the weights, and properties of the partition.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use guildex_types::{MessageId, UserId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{IncrementalSessionizer, Model, Rules, RulesError, Sessionizer, Turn};

#[derive(Debug, Clone)]
struct SentMessage {
    id: i64,
    author: i64,
    at: DateTime<Utc>,
    reply_to: Option<i64>,
    mentions: Vec<UserId>,
}

impl SentMessage {
    fn new(id: i64, author: i64, seconds: i64) -> Self {
        let at = DateTime::UNIX_EPOCH + TimeDelta::seconds(1_700_000_000 + seconds);
        Self { id, author, at, reply_to: None, mentions: Vec::new() }
    }

    fn to(mut self, member: i64) -> Self {
        self.mentions.push(user(member));
        self
    }

    fn answering(mut self, id: i64) -> Self {
        self.reply_to = Some(id);
        self
    }

    fn turn(&self) -> Turn<'_> {
        Turn {
            id: message(self.id),
            author: user(self.author),
            sent_at: self.at,
            reply_to: self.reply_to.map(message),
            mentions: &self.mentions,
        }
    }

    fn position(&self) -> (DateTime<Utc>, i64) {
        (self.at, self.id)
    }
}

fn message(id: i64) -> MessageId {
    id.try_into().unwrap()
}

fn user(id: i64) -> UserId {
    id.try_into().unwrap()
}

fn partition(rules: &Rules, said: &[SentMessage]) -> Vec<i64> {
    let mut sessionizer = Sessionizer::new(rules.clone());
    said.iter().map(|said| sessionizer.push(&said.turn()).get()).collect()
}

fn sessions(said: &[SentMessage]) -> Vec<i64> {
    partition(&Rules::default(), said)
}

/// A channel with many links: two members mention each other, long before the turns of a test.
fn linked() -> Vec<SentMessage> {
    (0..10).map(|i| SentMessage::new(1 + i, 91 + i % 2, i).to(92 - i % 2)).collect()
}

fn after_linked(said: impl IntoIterator<Item = SentMessage>) -> Vec<i64> {
    let past = linked();
    let skip = past.len();
    let all: Vec<SentMessage> = past.into_iter().chain(said).collect();
    sessions(&all).split_off(skip)
}

#[test]
fn a_reply_joins_the_session_of_the_message_it_answers() {
    let said = [
        SentMessage::new(21, 1, 3000),
        SentMessage::new(22, 2, 3010),
        SentMessage::new(23, 3, 3020),
        SentMessage::new(24, 4, 4000).answering(21),
    ];
    let sessions = after_linked(said);
    assert_eq!(sessions[3], sessions[0]);
}

#[test]
fn a_reply_to_an_unknown_message_or_beyond_the_lookback_is_ignored() {
    let later = Rules::default().lookback.num_seconds();
    let said = [
        SentMessage::new(1, 1, 0),
        SentMessage::new(2, 2, later).answering(1),
        SentMessage::new(3, 3, later + 3000).answering(77),
    ];
    assert_eq!(sessions(&said), [1, 2, 3]);
}

#[test]
fn a_mention_joins_the_session_of_the_mentioned_member() {
    let said = [
        SentMessage::new(21, 1, 3000),
        SentMessage::new(22, 2, 3002),
        SentMessage::new(23, 3, 3010).to(1),
        SentMessage::new(24, 4, 3012).to(2),
        SentMessage::new(25, 1, 3020).to(3),
        SentMessage::new(26, 2, 3022).to(4),
    ];
    assert_eq!(after_linked(said), [21, 22, 21, 22, 21, 22]);
}

#[test]
fn a_mentioned_member_answers_without_a_mention() {
    let said = [
        SentMessage::new(21, 1, 3000),
        SentMessage::new(22, 2, 3002),
        SentMessage::new(23, 1, 3004).to(3),
        SentMessage::new(24, 3, 3010),
    ];
    assert_eq!(after_linked(said)[3], 21);
}

#[test]
fn two_members_in_a_quiet_channel_without_links_share_a_session() {
    let said: Vec<SentMessage> = (0..12).map(|i| SentMessage::new(1 + i, 1 + i % 2, 40 * i)).collect();
    assert_eq!(sessions(&said), [1; 12]);
}

#[test]
fn a_long_pause_without_links_starts_a_session() {
    let said = [SentMessage::new(1, 1, 0), SentMessage::new(2, 2, 30), SentMessage::new(3, 3, 3600)];
    assert_eq!(sessions(&said), [1, 1, 3]);
}

#[test]
fn a_conversation_beyond_max_messages_continues_in_one_new_session() {
    let rules = Rules { max_messages: 20, ..Rules::default() };
    let said: Vec<SentMessage> = linked()
        .into_iter()
        .chain(
            (0..60)
                .map(|i| SentMessage::new(21 + i, 1 + i % 2, 3000 + 20 * i))
                .map(|said| if said.id == 22 { said.to(1) } else { said }),
        )
        .collect();
    let sizes = partition(&rules, &said).into_iter().skip(10).fold(BTreeMap::new(), |mut sizes, first| {
        *sizes.entry(first).or_insert(0) += 1;
        sizes
    });
    assert_eq!(sizes.into_values().collect::<Vec<_>>(), [20, 20, 20]);
}

#[test]
fn a_message_pushed_twice_counts_once() {
    let mut sessionizer = Sessionizer::new(Rules { max_messages: 2, ..Rules::default() });
    let (one, two) = (SentMessage::new(1, 1, 0), SentMessage::new(2, 1, 1));
    for _ in 0..3 {
        assert_eq!(sessionizer.push(&one.turn()), message(1));
    }
    assert_eq!(sessionizer.push(&two.turn()), message(1));
}

#[test]
fn an_earlier_message_becomes_the_first_of_the_session() {
    let late = SentMessage::new(1, 1, 0);
    let rest: Vec<SentMessage> = (2..6).map(|id| SentMessage::new(id, 1, id)).collect();
    let mut channel = Channel::new(Rules::default());
    channel.add(rest);
    assert_eq!(channel.sessions(), [2; 4]);
    channel.add(vec![late]);
    assert_eq!(channel.sessions(), [1; 5]);
}

#[test]
fn a_late_message_is_assigned_within_one_lookback_of_its_effects() {
    let said: Vec<SentMessage> = (0..5_000).map(|i| SentMessage::new(10 + i, 1 + i % 7, 60 * i)).collect();
    let mut channel = Channel::new(Rules::default());
    channel.add(said);
    let read = channel.add(vec![SentMessage::new(1, 50, 90_001).to(51)]);
    assert!(read < 1_000, "{read} of 5000 decisions were repeated");
}

#[test]
fn contradictory_rules_are_rejected() {
    let good = Rules::default();
    let cases = [
        (good.clone(), Ok(())),
        (Rules { lookback: TimeDelta::zero(), ..good.clone() }, Err(RulesError::LookbackTooShort)),
        (Rules { max_span: TimeDelta::hours(9), ..good.clone() }, Err(RulesError::InvalidMaxSpan)),
        (Rules { max_messages: 0, ..good.clone() }, Err(RulesError::NoMessages)),
        (Rules { join_gap: TimeDelta::seconds(-1), ..good.clone() }, Err(RulesError::InvalidJoinGap)),
        (Rules { min_link_share: 1.5, ..good }, Err(RulesError::InvalidLinkShare)),
    ];
    for (rules, expected) in cases {
        assert_eq!(rules.validate(), expected);
    }
}

/// A stored channel that is updated incrementally.
struct Channel {
    rules: Rules,
    turns: BTreeMap<(DateTime<Utc>, i64), (SentMessage, Option<MessageId>)>,
}

impl Channel {
    fn new(rules: Rules) -> Self {
        Self { rules, turns: BTreeMap::new() }
    }

    /// Adds `arrivals` and returns the number of decisions.
    fn add(&mut self, arrivals: Vec<SentMessage>) -> usize {
        let Some(start) = arrivals.iter().map(SentMessage::position).min() else { return 0 };
        let last = arrivals.iter().map(SentMessage::position).max().unwrap();
        self.turns.extend(arrivals.into_iter().map(|said| (said.position(), (said, None))));

        let mut incremental = IncrementalSessionizer::new(self.rules.clone());
        for (said, session) in
            self.turns.range((start.0 - self.rules.lookback, 0)..start).map(|(_, turn)| turn)
        {
            incremental.replay(&said.turn(), session.unwrap());
        }
        let mut decided = 0;
        for (position, (said, session)) in self.turns.range_mut(start..) {
            if *position > last && incremental.is_stable(said.at) {
                break;
            }
            *session = Some(incremental.push(&said.turn(), *session));
            decided += 1;
        }
        decided
    }

    fn sessions(&self) -> Vec<i64> {
        self.turns.values().map(|(_, session)| session.unwrap().get()).collect()
    }
}

/// Pauses from zero to far beyond any lookback below.
fn pause() -> impl Strategy<Value = i64> {
    prop_oneof![2 => Just(0), 4 => 1..2_000_i64, 6 => 1_000..90_000_i64, 2 => 60_000..1_200_000_i64, 1 => 3_000_000..9_000_000_i64]
}

fn channel() -> impl Strategy<Value = Vec<SentMessage>> {
    let reply = prop_oneof![5 => Just(None), 1 => (1..130_i64).prop_map(Some)];
    let mentions = prop_oneof![3 => Just(vec![]), 2 => vec(1..7_i64, 1..3)];
    vec((pause(), 1..7_i64, reply, mentions, 0..3_i64), 0..120).prop_map(|turns| {
        let mut at = 0;
        let mut said: Vec<SentMessage> = turns
            .into_iter()
            .zip(1..)
            .map(|((pause, author, reply_to, mentions, shift), n)| {
                at += pause;
                let at = DateTime::UNIX_EPOCH + TimeDelta::milliseconds(1_700_000_000_000 + at);
                let mentions = mentions.into_iter().map(user).collect();
                // Ids may be out of order, and replies may refer to later, unknown or their own messages.
                SentMessage { id: 3 * n + 4 * shift, author, at, reply_to, mentions }
            })
            .collect();
        said.sort_by_key(SentMessage::position);
        let mut seen = std::collections::HashSet::new();
        said.retain(|said| seen.insert(said.id));
        said
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let tight = (1..40_i64, 0..=10_i64, 1..9_usize, 0..5_usize, 0..=8_u32).prop_map(
        |(minutes, span, max_messages, max_candidates, eighths)| {
            let lookback = TimeDelta::minutes(minutes);
            let max_span = lookback * i32::try_from(span).unwrap() / 10;
            let join_gap = lookback.min(TimeDelta::minutes(5));
            let min_link_share = f64::from(eighths) / 8.0;
            let model = Model::default();
            Rules { lookback, max_span, max_messages, max_candidates, join_gap, min_link_share, model }
        },
    );
    prop_oneof![1 => Just(Rules::default()), 3 => tight]
}

proptest! {
    #[test]
    fn arrival_order_and_pages_do_not_matter(
        rules in rules(),
        said in channel(),
        keys in vec(any::<u32>(), 120),
        page in 1..130_usize,
    ) {
        let expected = partition(&rules, &said);
        let mut shuffled: Vec<(u32, SentMessage)> = keys.into_iter().zip(said.iter().cloned()).collect();
        shuffled.sort_by_key(|(key, _)| *key);
        for arrivals in [said, shuffled.into_iter().map(|(_, said)| said).collect()] {
            let mut channel = Channel::new(rules.clone());
            for page in arrivals.chunks(page) {
                channel.add(page.to_vec());
            }
            prop_assert_eq!(channel.sessions(), expected.clone());
        }
    }

    #[test]
    fn a_decision_depends_only_on_the_last_lookback(
        rules in rules(),
        said in channel(),
        at in any::<Index>(),
    ) {
        prop_assume!(!said.is_empty());
        let expected = partition(&rules, &said);
        let at = at.index(said.len());
        let since = said[at].at - rules.lookback;
        let mut sessionizer = Sessionizer::new(rules.clone());
        for (said, session) in said.iter().zip(&expected).take(at).filter(|(said, _)| said.at > since) {
            sessionizer.replay(&said.turn(), message(*session));
        }
        let rest: Vec<i64> = said[at..].iter().map(|said| sessionizer.push(&said.turn()).get()).collect();
        prop_assert_eq!(&rest, &expected[at..]);
    }

    #[test]
    fn sessions_are_bounded_and_identified_by_their_first_message(rules in rules(), said in channel()) {
        let mut sessions: HashMap<i64, Vec<&SentMessage>> = HashMap::new();
        for (said, first) in said.iter().zip(partition(&rules, &said)) {
            sessions.entry(first).or_default().push(said);
        }
        for (first, turns) in sessions {
            prop_assert_eq!(turns[0].id, first);
            prop_assert!(turns.len() <= rules.max_messages);
            prop_assert!(turns[turns.len() - 1].at - turns[0].at <= rules.max_span);
        }
    }
}
