//! Methods to partition a channel: the sessionizer and two baselines.

use std::collections::HashMap;

use chrono::TimeDelta;
use guildex_types::{Message, MessageId, UserId};

use guildex_producer::sessionizer::{Rules, Sessionizer, Turn};

/// Method to partition the messages of a channel into sessions.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// The sessionizer, as used in production.
    Sessionizer(Box<Rules>),
    /// A reply joins the message it answers. Else a mention joins the newest message of a mentioned member within
    /// 60 minutes, and any other message joins its author's last one within 5 minutes. The rest start sessions.
    Plain,
    /// A new session after each pause of more than 30 minutes.
    Gap,
}

impl Method {
    /// Returns the name used on the command line and in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sessionizer(_) => "sessionizer",
            Self::Plain => "plain",
            Self::Gap => "gap",
        }
    }

    /// Returns the session of each message, identified by its first message. The messages must be in order.
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
