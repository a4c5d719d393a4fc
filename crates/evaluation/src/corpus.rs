//! Channels with marked conversations, and the questions that they hold.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use guildex_index::bm25::Language;
use guildex_producer::eval::{self, Channel, Method};
use guildex_store::sessions::Session;
use guildex_types::{Eligibility, GuildId, MessageId};

/// The messages that a conversation needs for its first to be a question about the rest.
const MIN_MESSAGES: usize = 4;

/// Somebody's first message, and what it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What was written.
    pub text: String,
    /// The rest of the conversation.
    pub rest: HashSet<MessageId>,
}

/// All channels as those of one guild, without the messages that are asked.
pub struct Corpus {
    guild: GuildId,
    channels: Vec<Channel>,
    questions: Vec<Question>,
}

impl Corpus {
    /// Reads the channels, and withholds the first message of each conversation of four messages or more.
    /// Bots take part, since people marked what they say too; messages without text do not, and ask nothing.
    ///
    /// # Errors
    /// If a file is missing or broken; the error names it.
    pub fn read(exports: &Path, gold: &Path) -> Result<Self, eval::EvalError> {
        let pairs = eval::pairs(exports, gold)?;
        let channels = pairs.iter().map(|pair| pair.read()).collect::<Result<_, _>>()?;
        Self::of(channels).ok_or_else(|| eval::EvalError::NoGold(gold.to_owned()))
    }

    fn of(mut channels: Vec<Channel>) -> Option<Self> {
        let guild = channels.first()?.guild_id;
        let questions = channels.iter_mut().flat_map(withhold).collect();
        Some(Self { guild, channels, questions })
    }

    /// The guild that all channels are in.
    pub fn guild(&self) -> GuildId {
        self.guild
    }

    /// What is asked.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// How many messages are left to be found.
    pub fn messages(&self) -> usize {
        self.channels.iter().map(|channel| channel.messages.len()).sum()
    }

    /// The sessions worth a place in the index, as the store would give them to a worker.
    pub fn sessions(&self, method: &Method, eligible: Eligibility, language: Language) -> Vec<Session> {
        let of_channel = |channel: &Channel| channel.sessions(self.guild, method, &language.to_string());
        let is_eligible = |session: &Session| {
            let messages = u32::try_from(session.messages.len()).unwrap_or(u32::MAX);
            let words = session.messages.iter().fold(0_u32, |sum, m| sum.saturating_add(m.words));
            eligible.admits(messages, words)
        };
        self.channels.iter().flat_map(of_channel).filter(is_eligible).collect()
    }
}

/// Takes the questions out of a channel, and what takes no part.
fn withhold(channel: &mut Channel) -> Vec<Question> {
    let mut asked = HashMap::new();
    for conversation in channel.conversations.iter().filter(|ids| ids.len() >= MIN_MESSAGES) {
        // Messages are in order, so the first that is met is the conversation's first.
        let mut rest: HashSet<MessageId> = conversation.iter().copied().collect();
        if let Some(first) = channel.messages.iter().find(|message| rest.contains(&message.id)) {
            rest.remove(&first.id);
            asked.insert(first.id, rest);
        }
    }
    let mut questions = Vec::new();
    channel.messages.retain(|message| match asked.remove(&message.id) {
        Some(rest) => {
            questions.push(Question { text: message.text.as_str().to_owned(), rest });
            false
        }
        None => message.skip(true).is_none(),
    });
    questions.retain(|question| !question.text.is_empty());
    questions
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use guildex_types::{Author, Links, Message, MessageKind, SearchText};

    use super::*;

    fn id(n: i64) -> MessageId {
        MessageId::try_from(n).unwrap()
    }

    fn said(n: i64, author: i64, text: &str, is_bot: bool) -> Message {
        Message {
            guild_id: GuildId::try_from(1).unwrap(),
            channel_id: 2.try_into().unwrap(),
            id: id(n),
            author: Author { id: author.try_into().unwrap(), name: format!("m{author}"), is_bot },
            kind: MessageKind::Conversation,
            sent_at: DateTime::UNIX_EPOCH + TimeDelta::minutes(n),
            edited_at: None,
            links: Links::default(),
            text: SearchText::from_parts([text]),
        }
    }

    fn channel(messages: Vec<Message>, conversations: &[&[i64]]) -> Channel {
        Channel {
            name: "help".into(),
            guild_id: GuildId::try_from(1).unwrap(),
            channel_id: 2.try_into().unwrap(),
            channel_name: "help".into(),
            messages,
            conversations: conversations.iter().map(|ids| ids.iter().copied().map(id).collect()).collect(),
        }
    }

    fn texts(corpus: &Corpus) -> Vec<&str> {
        corpus.channels.iter().flat_map(|c| &c.messages).map(|m| m.text.as_str()).collect()
    }

    #[test]
    fn the_first_message_of_a_conversation_of_four_is_asked_and_not_to_be_found() {
        let messages = ["a", "b", "c", "d", "e", "f", "g"].iter().zip(1..);
        let messages = messages.map(|(text, n)| said(n, n, text, false)).collect();
        // The annotation need not be in order.
        let corpus = Corpus::of(vec![channel(messages, &[&[4, 6, 2, 7], &[1, 3, 5]])]).unwrap();
        let rest = [4, 6, 7].map(id).into_iter().collect();
        assert_eq!(corpus.questions(), [Question { text: "b".into(), rest }]);
        assert_eq!(texts(&corpus), ["a", "c", "d", "e", "f", "g"]);
    }

    #[test]
    fn what_says_nothing_is_left_out_and_asks_nothing_and_bots_take_part() {
        let messages = || [(1, ""), (2, "x"), (3, "beep"), (4, "")].map(|(n, text)| said(n, n, text, n == 3));
        let corpus = Corpus::of(vec![channel(messages().into(), &[&[1, 2, 3, 4]])]).unwrap();
        assert_eq!(texts(&corpus), ["x", "beep"]);
        assert!(corpus.questions().is_empty());
        let corpus = Corpus::of(vec![channel(messages().into(), &[&[2, 1, 3, 4]])]).unwrap();
        assert!(corpus.questions().is_empty(), "the first message is the first that was sent");
    }

    #[test]
    fn sessions_hold_the_messages_that_the_method_puts_together() {
        let messages = vec![said(1, 1, "one", false), said(5, 2, "two", false), said(99, 1, "three", false)];
        let corpus = Corpus::of(vec![channel(messages, &[])]).unwrap();
        let all = Eligibility { min_messages: 1, lone_message_min_words: 0 };
        let ids = |method, eligible| {
            let sessions = corpus.sessions(&method, eligible, Language::None);
            let ids = |s: &Session| (s.first_message_id, s.messages.iter().map(|m| m.id).collect::<Vec<_>>());
            sessions.iter().map(ids).collect::<Vec<_>>()
        };
        let gap = (id(1), vec![id(1), id(5)]);
        assert_eq!(ids(Method::Gap, all), [gap.clone(), (id(99), vec![id(99)])]);
        assert_eq!(ids(Method::Gap, Eligibility::default()), [gap], "a lone short message is not indexed");
        assert_eq!(ids(Method::Plain, all).len(), 3);
    }
}
