//! A channel with annotated conversations.

use std::collections::HashMap;

use guildex_store::sessions::{Session, SessionMessage};
use guildex_types::{ChannelId, GuildId, Message, MessageId, Revision, SessionId};

use super::method::Method;

/// A channel and its annotated conversations.
#[derive(Debug, Clone)]
pub struct AnnotatedChannel {
    /// File name without extension.
    pub name: String,
    /// Guild id.
    pub guild_id: GuildId,
    /// Channel id.
    pub channel_id: ChannelId,
    /// Channel name in Discord.
    pub channel_name: String,
    /// Conversation messages in order, each once; includes all annotated ones.
    pub messages: Vec<Message>,
    /// Annotated conversations, with messages in the order of the annotation.
    pub conversations: Vec<Vec<MessageId>>,
}

impl AnnotatedChannel {
    /// Partitions the messages into sessions as the store returns them to a worker.
    pub fn sessions(&self, guild: GuildId, method: &Method, language: &str) -> Vec<Session> {
        let mut indexes: HashMap<MessageId, usize> = HashMap::new();
        let mut sessions: Vec<Session> = Vec::new();
        for (message, first) in self.messages.iter().zip(method.partition(&self.messages)) {
            let index = *indexes.entry(first).or_insert(sessions.len());
            if index == sessions.len() {
                sessions.push(Session {
                    id: SessionId::new(guild, self.channel_id, first),
                    guild_id: guild,
                    channel_id: self.channel_id,
                    channel_name: self.channel_name.clone(),
                    language: Some(language.to_owned()),
                    first_message_id: first,
                    revision: Revision::NONE,
                    messages: Vec::new(),
                    indexed: None,
                });
            }
            if let Some(session) = sessions.get_mut(index) {
                session.messages.push(session_message(message));
            }
        }
        sessions
    }
}

fn session_message(message: &Message) -> SessionMessage {
    SessionMessage {
        id: message.id,
        author_id: message.author.id,
        author_name: message.author.name().to_owned(),
        sent_at: message.sent_at,
        text: message.text.clone(),
        words: u32::try_from(message.text.words()).unwrap_or(u32::MAX),
    }
}
