//! Learns from real chat.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use guildex_types::{Message, MessageId, MessageKind, UserId};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::BenchError;

/// Maximum number of messages to learn from.
const MAX_MESSAGES: usize = 500_000;

/// Message without its text.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// Number of the member in the channel, from 0.
    pub author: u32,
    /// Milliseconds since the previous message.
    pub gap: u64,
    /// Distance in messages to the one that it replies to.
    pub reply: Option<u32>,
    /// Numbers of the mentioned members in the channel.
    pub mentions: Vec<u32>,
    /// Range in [`Chat::words`].
    words: (u32, u32),
}

/// Channels of messages, and all their words in sequence.
#[derive(Debug, Default)]
pub(super) struct Chat {
    pub channels: Vec<Vec<Said>>,
    /// Numbers of all words in sequence.
    words: Vec<u32>,
    /// Word of each number.
    vocabulary: Vec<String>,
    /// Occurrences of each word.
    places: Vec<Vec<u32>>,
    /// End of the message of each occurrence.
    ends: Vec<u32>,
    pub names: Vec<String>,
}

impl Chat {
    /// Reads exports.
    pub fn learn(paths: &[PathBuf]) -> Result<Self, BenchError> {
        let nothing = || BenchError::Nothing { path: paths.first().cloned().unwrap_or_default() };
        let mut learner = Learner::default();
        for path in guildex_discord_export::find_exports(paths).0 {
            let mut messages = Vec::new();
            // A damaged export is used up to the damage.
            let _ = guildex_discord_export::read_export(&path, 5_000, &mut |page| {
                messages.extend(page.messages.into_iter().filter(|m| m.kind == MessageKind::Conversation));
                ControlFlow::Continue(())
            });
            learner.channel(messages);
            if learner.chat.words.len() > MAX_MESSAGES * 12 || learner.messages > MAX_MESSAGES {
                break;
            }
        }
        if learner.messages < 2 { Err(nothing()) } else { Ok(learner.chat) }
    }

    /// Generates a text like that of `said`: starts like the message, and at a random word continues like another message
    /// with that word.
    pub fn splice(&self, said: &Said, rng: &mut ChaCha8Rng, into: &mut String) {
        into.clear();
        let (from, to) = (said.words.0 as usize, said.words.1 as usize);
        let begin = self.words.get(from..to).unwrap_or_default();
        if begin.is_empty() {
            return;
        }
        let turn = rng.random_range(0..begin.len());
        for word in begin.iter().take(turn + 1) {
            self.append(*word, into);
        }
        let Some(places) = begin.get(turn).and_then(|word| self.places.get(*word as usize)) else { return };
        let Some(place) = places.choose(rng) else { return };
        let end = self.ends.get(*place as usize).copied().unwrap_or_default() as usize;
        for word in self.words.get(*place as usize + 1..end).unwrap_or_default() {
            self.append(*word, into);
        }
    }

    fn append(&self, word: u32, into: &mut String) {
        if !into.is_empty() {
            into.push(' ');
        }
        into.push_str(self.vocabulary.get(word as usize).map_or("", String::as_str));
    }
}

#[derive(Default)]
struct Learner {
    chat: Chat,
    messages: usize,
    numbers: HashMap<String, u32>,
}

impl Learner {
    fn channel(&mut self, mut messages: Vec<Message>) {
        messages.sort_by_key(|message| (message.sent_at, message.id));
        let mut members: HashMap<UserId, u32> = HashMap::new();
        let mut places: HashMap<MessageId, usize> = HashMap::new();
        let mut said = Vec::with_capacity(messages.len());
        let mut before = messages.first().map(|message| message.sent_at);
        for (place, message) in messages.iter().enumerate() {
            places.insert(message.id, place);
            let names = &mut self.chat.names;
            let mut member = |id: UserId, name: Option<&str>| {
                let count = members.len() as u32;
                *members.entry(id).or_insert_with(|| {
                    names.extend(name.map(str::to_owned));
                    count
                })
            };
            let gap = before
                .replace(message.sent_at)
                .map_or(0, |before| (message.sent_at - before).num_milliseconds());
            let author = member(message.author.id, Some(message.author.name()));
            let mentions = message.links.mentions.iter().map(|id| member(*id, None)).collect();
            let replied = message.links.reply_to.and_then(|id| places.get(&id));
            let reply =
                replied.and_then(|replied| u32::try_from(place - replied).ok()).filter(|back| *back > 0);
            let words = self.text(message.text.as_str());
            said.push(Said { author, gap: u64::try_from(gap).unwrap_or(0), reply, mentions, words });
        }
        self.messages += said.len();
        if !said.is_empty() {
            self.chat.channels.push(said);
        }
    }

    /// Adds the words of a text and returns their range.
    fn text(&mut self, text: &str) -> (u32, u32) {
        let chat = &mut self.chat;
        let from = chat.words.len() as u32;
        for word in text.split_whitespace() {
            let number = match self.numbers.get(word) {
                Some(number) => *number,
                None => {
                    let number = chat.vocabulary.len() as u32;
                    chat.vocabulary.push(word.to_owned());
                    chat.places.push(Vec::new());
                    self.numbers.insert(word.to_owned(), number);
                    number
                }
            };
            if let Some(places) = chat.places.get_mut(number as usize) {
                places.push(chat.words.len() as u32);
            }
            chat.words.push(number);
        }
        let to = chat.words.len() as u32;
        chat.ends.resize(chat.words.len(), to);
        (from, to)
    }
}
