//! Ways to make sessions: the sessionizer, and simple partitions to compare it with.

use std::collections::HashMap;

use chrono::TimeDelta;
use guildex_types::{Message, MessageId, UserId};

use crate::sessionizer::{Rules, Sessionizer, Turn};

/// A way to make sessions of a channel's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// The one in use.
    Sessionizer(Box<Rules>),
    /// A reply joins what it answers. Else a mention joins the newest message of a mentioned member, within 60
    /// minutes; any other message joins its author's last one within 5 minutes; the rest begin sessions.
    Plain,
    /// A new session after each pause of more than 30 minutes.
    Gap,
}

impl Method {
    /// The session of each of the messages, which are in order: its first message.
    pub fn partition(&self, messages: &[Message]) -> Vec<MessageId> {
        match self {
            Self::Sessionizer(rules) => sessionizer(messages, rules),
            Self::Plain => plain(messages),
            Self::Gap => gap(messages),
        }
    }
}

fn sessionizer(messages: &[Message], rules: &Rules) -> Vec<MessageId> {
    let mut sessionizer = Sessionizer::new(rules.clone());
    let turn = |message: &Message| {
        sessionizer.push(&Turn {
            id: message.id,
            author: message.author.id,
            sent_at: message.sent_at,
            reply_to: message.links.reply_to,
            mentions: &message.links.mentions,
        })
    };
    messages.iter().map(turn).collect()
}

fn gap(messages: &[Message]) -> Vec<MessageId> {
    let mut last = None;
    let join = |message: &Message| {
        let session = last
            .filter(|(at, _)| message.sent_at - at <= TimeDelta::minutes(30))
            .map_or(message.id, |(_, session)| session);
        last = Some((message.sent_at, session));
        session
    };
    messages.iter().map(join).collect()
}

fn plain(messages: &[Message]) -> Vec<MessageId> {
    let mut sessions: HashMap<MessageId, MessageId> = HashMap::new();
    let mut last: HashMap<UserId, (usize, MessageId)> = HashMap::new();
    let join = |(i, message): (usize, &Message)| {
        let within = |member: &UserId, minutes| {
            let (at, session) = *last.get(member)?;
            let sent_at = messages.get(at)?.sent_at;
            (message.sent_at - sent_at <= TimeDelta::minutes(minutes)).then_some((at, session))
        };
        let author = message.author.id;
        let answered = message.links.reply_to.and_then(|id| sessions.get(&id)).copied();
        let others = message.links.mentions.iter().filter(|id| **id != author);
        let mentioned = || others.filter_map(|id| within(id, 60)).max();
        let linked = || mentioned().or_else(|| within(&author, 5)).map(|(_, session)| session);
        let session = answered.or_else(linked).unwrap_or(message.id);
        sessions.insert(message.id, session);
        last.insert(author, (i, session));
        session
    };
    messages.iter().enumerate().map(join).collect()
}
