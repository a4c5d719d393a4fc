//! What is learned of real chat.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use guildex_types::{Message, MessageId, MessageKind, UserId};

use super::random::Random;
use crate::BenchError;

/// As many messages are learned from at most.
const ENOUGH: usize = 500_000;

/// A message without its text.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// PointSelector of the channel's members, from 0.
    pub author: u32,
    /// Since the message before, in milliseconds.
    pub gap: u64,
    /// How many messages back the one is that it answers.
    pub reply: Option<u32>,
    /// PointSelector of the channel's members it mentions.
    pub mentions: Vec<u32>,
    /// Its words in [`Chat::words`].
    words: (u32, u32),
}

/// Real chat: channels of messages, and all of their words in a row.
#[derive(Debug, Default)]
pub(super) struct Chat {
    pub channels: Vec<Vec<Said>>,
    /// Every occurrence of every word.
    words: Vec<u32>,
    /// The word behind each number.
    vocabulary: Vec<String>,
    /// Where each word occurs.
    places: Vec<Vec<u32>>,
    /// Where the message ends that holds an occurrence.
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
            // What is broken ends where it is broken.
            let _ = guildex_discord_export::read_export(&path, 5_000, &mut |page| {
                messages.extend(page.messages.into_iter().filter(|m| m.kind == MessageKind::Conversation));
                ControlFlow::Continue(())
            });
            learner.channel(messages);
            if learner.chat.words.len() > ENOUGH * 12 || learner.messages > ENOUGH {
                break;
            }
        }
        if learner.messages < 2 { Err(nothing()) } else { Ok(learner.chat) }
    }

    /// A text like that of `said`: it begins as the message does, and at a word of it goes on as another message that
    /// has the word goes on.
    pub fn splice(&self, said: &Said, random: &mut Random, into: &mut String) {
        into.clear();
        let (from, to) = (said.words.0 as usize, said.words.1 as usize);
        let begin = self.words.get(from..to).unwrap_or_default();
        let turn = random.below(begin.len());
        for word in begin.iter().take(turn + 1) {
            self.put(*word, into);
        }
        let Some(places) = begin.get(turn).and_then(|word| self.places.get(*word as usize)) else { return };
        let Some(place) = random.of_these(places) else { return };
        let end = self.ends.get(*place as usize).copied().unwrap_or_default() as usize;
        for word in self.words.get(*place as usize + 1..end).unwrap_or_default() {
            self.put(*word, into);
        }
    }

    fn put(&self, word: u32, into: &mut String) {
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
            let answered = message.links.reply_to.and_then(|id| places.get(&id));
            let reply =
                answered.and_then(|answered| u32::try_from(place - answered).ok()).filter(|back| *back > 0);
            let words = self.text(message.text.as_str());
            said.push(Said { author, gap: u64::try_from(gap).unwrap_or(0), reply, mentions, words });
        }
        self.messages += said.len();
        if !said.is_empty() {
            self.chat.channels.push(said);
        }
    }

    /// Takes in a text's words; between which of them they stand.
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
