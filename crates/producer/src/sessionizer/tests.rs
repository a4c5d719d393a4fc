//! What holds whatever the weights: the stories of the rules, and the properties of the partition.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use guildex_types::{MessageId, UserId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{Repartition, Rules, RulesError, Sessionizer, Turn};

#[derive(Debug, Clone)]
struct Said {
    id: i64,
    author: i64,
    at: DateTime<Utc>,
    reply_to: Option<i64>,
    mentions: Vec<UserId>,
}

impl Said {
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

fn partition(rules: &Rules, said: &[Said]) -> Vec<i64> {
    let mut sessionizer = Sessionizer::new(rules.clone());
    said.iter().map(|said| sessionizer.push(&said.turn()).get()).collect()
}

fn sessions(said: &[Said]) -> Vec<i64> {
    partition(&Rules::default(), said)
}

/// A channel where links are usual: two members speak to each other, long enough ago to be out of the way.
fn linked() -> Vec<Said> {
    (0..10).map(|i| Said::new(1 + i, 91 + i % 2, i).to(92 - i % 2)).collect()
}

fn after_linked(said: impl IntoIterator<Item = Said>) -> Vec<i64> {
    let past = linked();
    let skip = past.len();
    let all: Vec<Said> = past.into_iter().chain(said).collect();
    sessions(&all).split_off(skip)
}

#[test]
fn a_reply_joins_what_it_answers_whoever_spoke_since() {
    let said = [
        Said::new(21, 1, 3000),
        Said::new(22, 2, 3010),
        Said::new(23, 3, 3020),
        Said::new(24, 4, 4000).answering(21),
    ];
    let sessions = after_linked(said);
    assert_eq!(sessions[3], sessions[0]);
}

#[test]
fn a_reply_to_what_is_out_of_the_horizon_or_unknown_is_no_link() {
    let later = Rules::default().horizon().num_seconds();
    let said = [
        Said::new(1, 1, 0),
        Said::new(2, 2, later).answering(1),
        Said::new(3, 3, later + 3000).answering(77),
    ];
    assert_eq!(sessions(&said), [1, 2, 3]);
}

#[test]
fn a_mention_joins_where_the_mentioned_spoke() {
    let said = [
        Said::new(21, 1, 3000),
        Said::new(22, 2, 3002),
        Said::new(23, 3, 3010).to(1),
        Said::new(24, 4, 3012).to(2),
        Said::new(25, 1, 3020).to(3),
        Said::new(26, 2, 3022).to(4),
    ];
    assert_eq!(after_linked(said), [21, 22, 21, 22, 21, 22]);
}

#[test]
fn who_was_spoken_to_answers_there_without_a_mention() {
    let said = [
        Said::new(21, 1, 3000),
        Said::new(22, 2, 3002),
        Said::new(23, 1, 3004).to(3),
        Said::new(24, 3, 3010),
    ];
    assert_eq!(after_linked(said)[3], 21);
}

#[test]
fn two_who_talk_in_a_quiet_channel_without_links_share_a_session() {
    let said: Vec<Said> = (0..12).map(|i| Said::new(1 + i, 1 + i % 2, 40 * i)).collect();
    assert_eq!(sessions(&said), [1; 12]);
}

#[test]
fn a_long_silence_without_links_begins_anew() {
    let said = [Said::new(1, 1, 0), Said::new(2, 2, 30), Said::new(3, 3, 3600)];
    assert_eq!(sessions(&said), [1, 1, 3]);
}

#[test]
fn a_conversation_that_outgrows_its_session_goes_on_in_one() {
    let rules = Rules { max_messages: 20, ..Rules::default() };
    let said: Vec<Said> = linked()
        .into_iter()
        .chain(
            (0..60)
                .map(|i| Said::new(21 + i, 1 + i % 2, 3000 + 20 * i))
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
fn a_message_told_twice_counts_once() {
    let mut sessionizer = Sessionizer::new(Rules { max_messages: 2, ..Rules::default() });
    let (one, two) = (Said::new(1, 1, 0), Said::new(2, 1, 1));
    for _ in 0..3 {
        assert_eq!(sessionizer.push(&one.turn()), message(1));
    }
    assert_eq!(sessionizer.push(&two.turn()), message(1));
}

#[test]
fn an_earlier_message_gives_the_session_its_name() {
    let late = Said::new(1, 1, 0);
    let rest: Vec<Said> = (2..6).map(|id| Said::new(id, 1, id)).collect();
    let mut channel = Channel::new(Rules::default());
    channel.settle(rest);
    assert_eq!(channel.sessions(), [2; 4]);
    channel.settle(vec![late]);
    assert_eq!(channel.sessions(), [1; 5]);
}

#[test]
fn a_late_message_is_settled_within_a_horizon_of_what_it_moves() {
    let said: Vec<Said> = (0..5_000).map(|i| Said::new(10 + i, 1 + i % 7, 60 * i)).collect();
    let mut channel = Channel::new(Rules::default());
    channel.settle(said);
    let read = channel.settle(vec![Said::new(1, 50, 90_001).to(51)]);
    assert!(read < 1_000, "{read} of 5000 turns were decided again");
}

#[test]
fn rules_that_contradict_each_other_are_refused() {
    let good = Rules::default();
    let cases = [
        (good.clone(), Ok(())),
        (Rules { horizon: TimeDelta::zero(), ..good.clone() }, Err(RulesError::NoHorizon)),
        (Rules { max_span: TimeDelta::hours(9), ..good.clone() }, Err(RulesError::SpanBeyondHorizon)),
        (Rules { max_messages: 0, ..good.clone() }, Err(RulesError::NoMessages)),
        (Rules { gap: TimeDelta::seconds(-1), ..good }, Err(RulesError::GapBeyondHorizon)),
    ];
    for (rules, expected) in cases {
        assert_eq!(rules.validate(), expected);
    }
}

/// A stored channel, kept up by the way that late messages take.
struct Channel {
    rules: Rules,
    turns: BTreeMap<(DateTime<Utc>, i64), (Said, Option<MessageId>)>,
}

impl Channel {
    fn new(rules: Rules) -> Self {
        Self { rules, turns: BTreeMap::new() }
    }

    /// Takes in `arrivals`; returns how many turns were decided.
    fn settle(&mut self, arrivals: Vec<Said>) -> usize {
        let Some(start) = arrivals.iter().map(Said::position).min() else { return 0 };
        let last = arrivals.iter().map(Said::position).max().unwrap();
        self.turns.extend(arrivals.into_iter().map(|said| (said.position(), (said, None))));

        let mut repartition = Repartition::new(self.rules.clone());
        for (said, session) in
            self.turns.range((start.0 - self.rules.horizon(), 0)..start).map(|(_, turn)| turn)
        {
            repartition.replay(&said.turn(), session.unwrap());
        }
        let mut decided = 0;
        for (position, (said, session)) in self.turns.range_mut(start..) {
            if *position > last && repartition.converged(said.at) {
                break;
            }
            *session = Some(repartition.push(&said.turn(), *session));
            decided += 1;
        }
        decided
    }

    fn sessions(&self) -> Vec<i64> {
        self.turns.values().map(|(_, session)| session.unwrap().get()).collect()
    }
}

/// Times from equal to far beyond any horizon below.
fn pause() -> impl Strategy<Value = i64> {
    prop_oneof![2 => Just(0), 4 => 1..2_000_i64, 6 => 1_000..90_000_i64, 2 => 60_000..1_200_000_i64, 1 => 3_000_000..9_000_000_i64]
}

fn channel() -> impl Strategy<Value = Vec<Said>> {
    let reply = prop_oneof![5 => Just(None), 1 => (1..130_i64).prop_map(Some)];
    let mentions = prop_oneof![3 => Just(vec![]), 2 => vec(1..7_i64, 1..3)];
    vec((pause(), 1..7_i64, reply, mentions, 0..3_i64), 0..120).prop_map(|turns| {
        let mut at = 0;
        let mut said: Vec<Said> = turns
            .into_iter()
            .zip(1..)
            .map(|((pause, author, reply_to, mentions, shift), n)| {
                at += pause;
                let at = DateTime::UNIX_EPOCH + TimeDelta::milliseconds(1_700_000_000_000 + at);
                let mentions = mentions.into_iter().map(user).collect();
                // Ids do not follow the times strictly, and replies lead forwards, nowhere and to themselves too.
                Said { id: 3 * n + 4 * shift, author, at, reply_to, mentions }
            })
            .collect();
        said.sort_by_key(Said::position);
        let mut seen = std::collections::HashSet::new();
        said.retain(|said| seen.insert(said.id));
        said
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let tight = (1..40_i64, 0..=10_i64, 1..9_usize, 0..5_usize, 0..9_usize).prop_map(
        |(minutes, span, max_messages, breadth, linkless_below)| {
            let horizon = TimeDelta::minutes(minutes);
            let max_span = horizon * i32::try_from(span).unwrap() / 10;
            let gap = horizon.min(TimeDelta::minutes(5));
            Rules { horizon, max_span, max_messages, breadth, gap, linkless_below, ..Rules::default() }
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
        let mut shuffled: Vec<(u32, Said)> = keys.into_iter().zip(said.iter().cloned()).collect();
        shuffled.sort_by_key(|(key, _)| *key);
        for arrivals in [said, shuffled.into_iter().map(|(_, said)| said).collect()] {
            let mut channel = Channel::new(rules.clone());
            for page in arrivals.chunks(page) {
                channel.settle(page.to_vec());
            }
            prop_assert_eq!(channel.sessions(), expected.clone());
        }
    }

    #[test]
    fn the_last_horizon_says_all_that_a_decision_needs(
        rules in rules(),
        said in channel(),
        at in any::<Index>(),
    ) {
        prop_assume!(!said.is_empty());
        let expected = partition(&rules, &said);
        let at = at.index(said.len());
        let since = said[at].at - rules.horizon();
        let mut sessionizer = Sessionizer::new(rules.clone());
        for (said, session) in said.iter().zip(&expected).take(at).filter(|(said, _)| said.at > since) {
            sessionizer.replay(&said.turn(), message(*session));
        }
        let rest: Vec<i64> = said[at..].iter().map(|said| sessionizer.push(&said.turn()).get()).collect();
        prop_assert_eq!(&rest, &expected[at..]);
    }

    #[test]
    fn sessions_are_bounded_and_named_after_their_first_message(rules in rules(), said in channel()) {
        let mut sessions: HashMap<i64, Vec<&Said>> = HashMap::new();
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
