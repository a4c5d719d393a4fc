//! Annotated channels and the questions taken from them.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use guildex_index::bm25::Language;
use guildex_store::sessions::Session;
use guildex_types::{Eligibility, GuildId, MessageId};

use crate::sessions::{AnnotatedChannel, CorpusError, Method, find_channels};

/// Minimum length of a conversation whose first message becomes a question.
const MIN_MESSAGES: usize = 4;

/// First message of a conversation, and the messages to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Text of the first message.
    pub text: String,
    /// Remaining messages of the conversation.
    pub rest: HashSet<MessageId>,
}

/// Channels as parts of one guild, without the questions.
pub struct Corpus {
    guild: GuildId,
    channels: Vec<AnnotatedChannel>,
    questions: Vec<Question>,
}

impl Corpus {
    /// Reads the channels and withholds the first message of each conversation of at least four messages. Messages of
    /// bots are included, because they are annotated too; messages without text are excluded.
    ///
    /// # Errors
    /// If a file is missing or invalid; the error names it.
    pub fn read(exports: &Path, annotations: &Path) -> Result<Self, CorpusError> {
        let files = find_channels(exports, annotations)?;
        let channels = files.iter().map(|files| files.read()).collect::<Result<_, _>>()?;
        Self::new(channels).ok_or_else(|| CorpusError::NoAnnotations(annotations.to_owned()))
    }

    fn new(mut channels: Vec<AnnotatedChannel>) -> Option<Self> {
        let guild = channels.first()?.guild_id;
        let questions = channels.iter_mut().flat_map(withhold).collect();
        Some(Self { guild, channels, questions })
    }

    /// Returns the guild that all channels are searched in.
    pub fn guild(&self) -> GuildId {
        self.guild
    }

    /// Returns the questions.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Returns the number of channels.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Returns the number of messages, without the questions.
    pub fn messages(&self) -> usize {
        self.channels.iter().map(|channel| channel.messages.len()).sum()
    }

    /// Returns the sessions to index, as the store returns them to a worker.
    pub fn sessions(&self, method: &Method, eligible: Eligibility, language: Language) -> Vec<Session> {
        let of_channel =
            |channel: &AnnotatedChannel| channel.sessions(self.guild, method, &language.to_string());
        let is_eligible = |session: &Session| {
            let messages = u32::try_from(session.messages.len()).unwrap_or(u32::MAX);
            let words = session.messages.iter().fold(0_u32, |sum, m| sum.saturating_add(m.words));
            eligible.admits(messages, words)
        };
        self.channels.iter().flat_map(of_channel).filter(is_eligible).collect()
    }
}

/// Removes the questions and the excluded messages from a channel.
fn withhold(channel: &mut AnnotatedChannel) -> Vec<Question> {
    let mut first_messages = HashMap::new();
    for conversation in channel.conversations.iter().filter(|ids| ids.len() >= MIN_MESSAGES) {
        // The annotation may be out of order; the messages are not.
        let mut rest: HashSet<MessageId> = conversation.iter().copied().collect();
        if let Some(first) = channel.messages.iter().find(|message| rest.contains(&message.id)) {
            rest.remove(&first.id);
            first_messages.insert(first.id, rest);
        }
    }
    let mut questions = Vec::new();
    channel.messages.retain(|message| match first_messages.remove(&message.id) {
        Some(rest) => {
            questions.push(Question { text: message.text.as_str().to_owned(), rest });
            false
        }
        None => message.excluded_reason(true).is_none(),
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

    fn message(n: i64, author: i64, text: &str, is_bot: bool) -> Message {
        Message {
            guild_id: GuildId::try_from(1).unwrap(),
            channel_id: 2.try_into().unwrap(),
            id: id(n),
            author: Author { is_bot, ..Author::member(author.try_into().unwrap(), format!("m{author}")) },
            kind: MessageKind::Conversation,
            sent_at: DateTime::UNIX_EPOCH + TimeDelta::minutes(n),
            edited_at: None,
            links: Links::default(),
            text: SearchText::from_parts([text]),
        }
    }

    fn channel(messages: Vec<Message>, conversations: &[&[i64]]) -> AnnotatedChannel {
        AnnotatedChannel {
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
    fn the_first_message_of_a_conversation_of_four_becomes_a_question() {
        let messages = ["a", "b", "c", "d", "e", "f", "g"].iter().zip(1..);
        let messages = messages.map(|(text, n)| message(n, n, text, false)).collect();
        // Annotations may be out of order.
        let corpus = Corpus::new(vec![channel(messages, &[&[4, 6, 2, 7], &[1, 3, 5]])]).unwrap();
        let rest = [4, 6, 7].map(id).into_iter().collect();
        assert_eq!(corpus.questions(), [Question { text: "b".into(), rest }]);
        assert_eq!(texts(&corpus), ["a", "c", "d", "e", "f", "g"]);
    }

    #[test]
    fn messages_without_text_are_excluded_and_bots_are_included() {
        let messages =
            || [(1, ""), (2, "x"), (3, "beep"), (4, "")].map(|(n, text)| message(n, n, text, n == 3));
        let corpus = Corpus::new(vec![channel(messages().into(), &[&[1, 2, 3, 4]])]).unwrap();
        assert_eq!(texts(&corpus), ["x", "beep"]);
        assert!(corpus.questions().is_empty());
        let corpus = Corpus::new(vec![channel(messages().into(), &[&[2, 1, 3, 4]])]).unwrap();
        assert!(corpus.questions().is_empty(), "the first message is the first one sent");
    }

    #[test]
    fn sessions_follow_the_method() {
        let messages =
            vec![message(1, 1, "one", false), message(5, 2, "two", false), message(99, 1, "three", false)];
        let corpus = Corpus::new(vec![channel(messages, &[])]).unwrap();
        let all = Eligibility { min_messages: 1, lone_message_min_words: 0 };
        let ids = |method, eligible| {
            let sessions = corpus.sessions(&method, eligible, Language::None);
            let ids = |s: &Session| (s.first_message_id, s.messages.iter().map(|m| m.id).collect::<Vec<_>>());
            sessions.iter().map(ids).collect::<Vec<_>>()
        };
        let gap = (id(1), vec![id(1), id(5)]);
        assert_eq!(ids(Method::Gap, all), [gap.clone(), (id(99), vec![id(99)])]);
        assert_eq!(ids(Method::Gap, Eligibility::default()), [gap], "a single short message is not indexed");
        assert_eq!(ids(Method::Plain, all).len(), 3);
    }
}
