//! How fast channels become sessions: `cargo bench -p guildex-producer --bench sessionizer`.
//!
//! The chat is made here. `GUILDEX_BENCH_EXPORTS=FOLDER` adds the exports in a folder; reading them is not timed.

#![expect(clippy::expect_used, reason = "a bench may stop at bad input")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use divan::counter::ItemsCount;
use guildex_producer::export;
use guildex_producer::sessionizer::{Rules, Sessionizer, Turn};
use guildex_types::{ChannelId, MessageId, MessageKind, UserId};

fn main() {
    divan::main();
}

struct Said {
    id: MessageId,
    author: UserId,
    sent_at: DateTime<Utc>,
    reply_to: Option<MessageId>,
    mentions: Vec<UserId>,
}

/// Seconds between messages: a busy evening, a flood.
#[divan::bench(args = [30, 1], sample_count = 20)]
fn made_up(bencher: divan::Bencher, seconds: u64) {
    time(bencher, &[chat(200_000, seconds)]);
}

#[divan::bench(sample_count = 20)]
fn exports(bencher: divan::Bencher) {
    match std::env::var_os("GUILDEX_BENCH_EXPORTS") {
        Some(folder) => time(bencher, &read(folder.into())),
        None => eprintln!("GUILDEX_BENCH_EXPORTS is not set: no exports are read"),
    }
}

fn time(bencher: divan::Bencher, channels: &[Vec<Said>]) {
    let messages: usize = channels.iter().map(Vec::len).sum();
    bencher
        .counter(ItemsCount::new(messages))
        .bench(|| channels.iter().map(|said| partition(said)).sum::<usize>());
}

/// Returns how many sessions there are.
fn partition(said: &[Said]) -> usize {
    let mut sessionizer = Sessionizer::new(Rules::default());
    let begins = |said: &&Said| {
        let Said { id, author, sent_at, reply_to, mentions } = *said;
        let turn = Turn { id: *id, author: *author, sent_at: *sent_at, reply_to: *reply_to, mentions };
        sessionizer.push(&turn) == *id
    };
    said.iter().filter(begins).count()
}

/// A channel of 400 members, a third of whose messages mention somebody and a tenth of which are replies.
fn chat(messages: i64, seconds: u64) -> Vec<Said> {
    let mut state = 1_u64;
    // Knuth's MMIX generator: the same chat for everybody.
    let mut below = move |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let member = |n: u64| UserId::try_from(1 + n.cast_signed()).expect("positive");
    let mut sent_at = DateTime::UNIX_EPOCH;
    (1..=messages)
        .map(|n| {
            sent_at += TimeDelta::milliseconds(below(2_000 * seconds).cast_signed());
            let back = below(30).cast_signed();
            let mentioned = member(below(20) * below(20));
            Said {
                id: MessageId::try_from(n).expect("positive"),
                author: member(below(20) * below(20)),
                sent_at,
                reply_to: MessageId::try_from(n - 1 - back).ok().filter(|_| below(10) == 0),
                mentions: if below(3) == 0 { vec![mentioned] } else { Vec::new() },
            }
        })
        .collect()
}

/// The conversation of each channel in a folder of exports.
fn read(folder: PathBuf) -> Vec<Vec<Said>> {
    let mut channels: BTreeMap<ChannelId, Vec<Said>> = BTreeMap::new();
    for path in export::find(&[folder]).0 {
        export::read(&path, 10_000, &mut |page| {
            for message in page.messages.into_iter().filter(|m| m.kind == MessageKind::Conversation) {
                channels.entry(message.channel_id).or_default().push(Said {
                    id: message.id,
                    author: message.author.id,
                    sent_at: message.sent_at,
                    reply_to: message.links.reply_to,
                    mentions: message.links.mentions,
                });
            }
            ControlFlow::Continue(())
        })
        .expect("a sound export");
    }
    let mut channels: Vec<Vec<Said>> = channels.into_values().collect();
    channels.iter_mut().for_each(|said| said.sort_by_key(|said| (said.sent_at, said.id)));
    channels
}
