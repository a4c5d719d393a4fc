//! Traffic of one guild: messages, edits, deletions and searches. Remembers every acknowledged change.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use guildex_api::Client;
use guildex_index::Mode;
use guildex_producer::{Ingest, IngestError};
use guildex_search::SearchRequest;
use guildex_store::channels::Channel;
use guildex_types::{
    Author, ChannelId, GuildId, JobQueue, Links, Message, MessageId, MessageKind, SearchText, UserId,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Discord's epoch, in milliseconds of Unix time.
const EPOCH: i64 = 1_420_070_400_000;
const CHANNELS: i64 = 4;
const MEMBERS: i64 = 8;
/// Interval between retries of a change that was not acknowledged.
const PAUSE: Duration = Duration::from_millis(200);
/// Timeout of a search on a busy machine.
const SEARCH: Duration = Duration::from_secs(5);

/// A message as it should be stored.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    message: Message,
    /// Number of edits.
    version: u32,
    pub is_gone: bool,
}

impl StoredMessage {
    pub fn text(&self) -> &str {
        self.message.text.as_str()
    }

    pub fn channel(&self) -> ChannelId {
        self.message.channel_id
    }
}

/// Counters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub written: usize,
    pub edited: usize,
    pub deleted: usize,
    /// Forgotten channels and members.
    pub forgotten: usize,
    /// Deletions that arrived before their messages.
    pub early: usize,
    /// Messages delivered twice.
    pub repeated: usize,
    /// Searches that succeeded.
    pub searched: usize,
    /// Searches that showed a deleted message or an outdated text.
    pub seen_ghosts: usize,
    /// Searches that showed another guild's messages.
    pub seen_foreign: usize,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.written += other.written;
        self.edited += other.edited;
        self.deleted += other.deleted;
        self.forgotten += other.forgotten;
        self.early += other.early;
        self.repeated += other.repeated;
        self.searched += other.searched;
        self.seen_ghosts += other.seen_ghosts;
        self.seen_foreign += other.seen_foreign;
    }
}

/// One guild and its bot.
pub struct Traffic {
    pub guild: GuildId,
    ingest: Ingest,
    socket: PathBuf,
    random: StdRng,
    /// Changes a second, on average.
    rate: f64,
    pub said: HashMap<MessageId, StoredMessage>,
    /// Messages that can still be edited and deleted.
    live: Vec<MessageId>,
    sequence: i64,
    pub counts: Counts,
}

impl Traffic {
    pub fn new(number: i64, ingest: Ingest, socket: PathBuf, seed: u64, rate: f64) -> Self {
        Self {
            guild: id(number),
            ingest,
            socket,
            random: StdRng::seed_from_u64(seed),
            rate,
            said: HashMap::new(),
            live: Vec::new(),
            sequence: 0,
            counts: Counts::default(),
        }
    }

    /// Runs until `stop`. A change in progress is repeated until it is acknowledged.
    pub async fn run(mut self, stop: CancellationToken) -> Self {
        while !stop.is_cancelled() {
            match self.random.random_range(0..1_000) {
                0..600 => self.converse().await,
                600..720 => self.edit().await,
                720..840 => self.delete(1).await,
                840..880 => self.delete(8).await,
                880..920 => self.delete_early().await,
                920..985 => self.repeat().await,
                985..994 => self.erase_member().await,
                _ => self.delete_channel().await,
            }
            let pause = -self.random.random::<f64>().max(1e-6).ln() / self.rate;
            let _ = stop.run_until_cancelled(sleep(Duration::from_secs_f64(pause.min(5.0)))).await;
        }
        self
    }

    /// Writes a few messages, some of them replies to the one before.
    async fn converse(&mut self) {
        let channel = self.any_channel();
        let mut before = None;
        for _ in 0..self.random.random_range(2..=4) {
            let message = self.compose(channel, before);
            before = Some(message.id);
            self.write(&message).await;
            self.live.push(message.id);
            self.said.insert(message.id, StoredMessage { message, version: 0, is_gone: false });
            self.counts.written += 1;
        }
    }

    async fn edit(&mut self) {
        let Some((_, mut said)) = self.any_live() else { return };
        let old = said.message.text.as_str().to_owned();
        said.version += 1;
        said.message.edited_at = Some(now());
        said.message.text = self.text(said.message.id, said.version);
        self.write(&said.message).await;
        let (id, channel) = (said.message.id, said.message.channel_id);
        self.said.insert(id, said);
        self.counts.edited += 1;
        self.assert_not_found(id, channel, &old).await;
    }

    async fn delete(&mut self, most: usize) {
        let Some((_, first)) = self.any_live() else { return };
        let channel = first.message.channel_id;
        let mut ids = vec![first.message.id];
        for id in self.live.iter().rev() {
            if ids.len() < most && !ids.contains(id) && self.said[id].message.channel_id == channel {
                ids.push(*id);
            }
        }
        let (ingest, guild) = (self.ingest.clone(), self.guild);
        acknowledged(|| ingest.delete(guild, channel, &ids)).await;
        self.mark_deleted(|said| ids.contains(&said.message.id));
        self.counts.deleted += ids.len();
        let text = first.message.text.as_str().to_owned();
        self.assert_not_found(first.message.id, channel, &text).await;
    }

    /// Deletes a message before it arrives.
    async fn delete_early(&mut self) {
        let channel = self.any_channel();
        let message = self.compose(channel, None);
        let (ingest, guild, ids) = (self.ingest.clone(), self.guild, [message.id]);
        acknowledged(|| ingest.delete(guild, channel, &ids)).await;
        self.write(&message).await;
        let text = message.text.as_str().to_owned();
        let id = message.id;
        self.said.insert(id, StoredMessage { message, version: 0, is_gone: true });
        self.counts.early += 1;
        self.assert_not_found(id, channel, &text).await;
    }

    /// Delivers a message again, deleted or not, as an import or a resumed gateway does.
    async fn repeat(&mut self) {
        let ids: Vec<MessageId> = self.said.keys().copied().collect();
        let Some(id) = ids.choose(&mut self.random) else { return };
        let message = self.said[id].message.clone();
        self.write(&message).await;
        self.counts.repeated += 1;
    }

    async fn erase_member(&mut self) {
        let Some((_, said)) = self.any_live() else { return };
        let member = said.message.author.id;
        let (ingest, guild) = (self.ingest.clone(), self.guild);
        acknowledged(|| ingest.erase_member(guild, member)).await;
        self.mark_deleted(|said| said.message.author.id == member);
        self.counts.forgotten += 1;
        let text = said.message.text.as_str().to_owned();
        self.assert_not_found(said.message.id, said.message.channel_id, &text).await;
    }

    async fn delete_channel(&mut self) {
        let Some((_, said)) = self.any_live() else { return };
        let channel = said.message.channel_id;
        let (ingest, guild) = (self.ingest.clone(), self.guild);
        acknowledged(|| ingest.erase_channel(guild, channel)).await;
        self.mark_deleted(|said| said.message.channel_id == channel);
        self.counts.forgotten += 1;
        let text = said.message.text.as_str().to_owned();
        self.assert_not_found(said.message.id, channel, &text).await;
    }

    fn mark_deleted(&mut self, is_deleted: impl Fn(&StoredMessage) -> bool) {
        for said in self.said.values_mut().filter(|said| is_deleted(said)) {
            said.is_gone = true;
        }
        let said = &self.said;
        self.live.retain(|id| !said[id].is_gone);
    }

    /// Searches for a text that a message no longer has.
    async fn assert_not_found(&mut self, message: MessageId, channel: ChannelId, text: &str) {
        let word = text.split(' ').next_back().unwrap_or_default();
        let request =
            SearchRequest { mode: Some(Mode::Sparse), ..SearchRequest::new(self.guild, word.to_owned()) };
        // During an outage the search fails.
        let Ok(Some(client)) = Client::connect(&self.socket, SEARCH).await else { return };
        let Ok(found) = client.search(&request).await else { return };
        self.counts.searched += 1;
        let is_gone = self.said[&message].is_gone;
        for found in found.results {
            let holds = found.channel_id == channel && found.chunk.message_ids.contains(&message);
            if (holds && is_gone) || found.preview.to_string().contains(word) {
                self.counts.seen_ghosts += 1;
                eprintln!("chaos: message {message} of guild {} was found after its deletion", self.guild);
            }
            self.counts.seen_foreign += usize::from(found.guild_id != self.guild);
        }
    }

    async fn write(&self, message: &Message) {
        let channel = Channel {
            guild_id: self.guild,
            guild_name: "Chaos".to_owned(),
            id: message.channel_id,
            name: format!("channel-{}", message.channel_id.get() % 100),
            parent_id: None,
        };
        let once = || self.ingest.messages(&channel, std::slice::from_ref(message), JobQueue::Live);
        acknowledged(once).await;
    }

    fn compose(&mut self, channel: ChannelId, reply_to: Option<MessageId>) -> Message {
        let sent_at = now();
        self.sequence += 1;
        let id = id(((sent_at.timestamp_millis() - EPOCH) << 22) | (self.sequence & 0x3F_FFFF));
        let member = self.random.random_range(1..=MEMBERS);
        let reply_to = reply_to.filter(|_| self.random.random_bool(0.6));
        Message {
            guild_id: self.guild,
            channel_id: channel,
            id,
            author: Author::member(self::id(900 + member), format!("member{member}")),
            kind: MessageKind::Conversation,
            sent_at,
            edited_at: None,
            links: Links { reply_to, mentions: Vec::<UserId>::new() },
            text: self.text(id, 0),
        }
    }

    /// Random words, and at the end a unique one.
    fn text(&mut self, id: MessageId, version: u32) -> SearchText {
        let words: Vec<&str> = (0..self.random.random_range(4..12))
            .filter_map(|_| WORDS.choose(&mut self.random).copied())
            .collect();
        let text = format!("{} {}{}", words.join(" "), letters(id.get()), letters(i64::from(version)));
        SearchText::from_parts([text.as_str()])
    }

    fn any_channel(&mut self) -> ChannelId {
        id(self.guild.get() + 100 + self.random.random_range(0..CHANNELS))
    }

    fn any_live(&mut self) -> Option<(usize, StoredMessage)> {
        if self.live.is_empty() {
            return None;
        }
        let place = self.random.random_range(0..self.live.len());
        Some((place, self.said[&self.live[place]].clone()))
    }
}

/// Repeats a change until it is acknowledged.
async fn acknowledged<T, F: Future<Output = Result<T, IngestError>>>(mut act: impl FnMut() -> F) -> T {
    loop {
        match act().await {
            Ok(done) => return done,
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Postgres keeps microseconds.
fn now() -> DateTime<Utc> {
    let now = Utc::now();
    now - TimeDelta::nanoseconds(i64::from(now.timestamp_subsec_nanos() % 1_000))
}

fn id<T: TryFrom<i64>>(number: i64) -> T {
    T::try_from(number).unwrap_or_else(|_| unreachable!("ids here are positive"))
}

/// Encodes a number as letters.
fn letters(mut number: i64) -> String {
    let mut word = String::from("q");
    loop {
        word.extend(char::from_digit((number % 26) as u32 + 10, 36));
        number /= 26;
        if number == 0 {
            return word;
        }
    }
}

const WORDS: [&str; 32] = [
    "anvil", "basil", "candle", "dovetail", "ember", "fennel", "gasket", "hammer", "indigo", "juniper",
    "kettle", "lantern", "mallet", "nutmeg", "oven", "pebble", "quarry", "rivet", "saddle", "thimble",
    "umber", "varnish", "walnut", "yarrow", "zinc", "bellows", "chisel", "drill", "easel", "flint", "glue",
    "hinge",
];
