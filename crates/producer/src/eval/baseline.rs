//! Simple partitions to compare with.

use std::collections::HashMap;

use chrono::TimeDelta;
use guildex_types::{Message, MessageId, UserId};

/// A new session after each pause of more than 30 minutes.
pub(super) fn gap(messages: &[Message]) -> Vec<MessageId> {
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

/// A mention joins the newest message of a mentioned member, within 60 minutes; any other message joins its
/// author's last one within 5 minutes; the rest begin sessions.
pub(super) fn plain(messages: &[Message]) -> Vec<MessageId> {
    let mut last: HashMap<UserId, (usize, MessageId)> = HashMap::new();
    let join = |(i, message): (usize, &Message)| {
        let within = |member: &UserId, minutes| {
            let (at, session) = *last.get(member)?;
            let sent_at = messages.get(at)?.sent_at;
            (message.sent_at - sent_at <= TimeDelta::minutes(minutes)).then_some((at, session))
        };
        let author = message.author.id;
        let others = message.links.mentions.iter().filter(|id| **id != author);
        let session = others
            .filter_map(|id| within(id, 60))
            .max()
            .or_else(|| within(&author, 5))
            .map_or(message.id, |(_, session)| session);
        last.insert(author, (i, session));
        session
    };
    messages.iter().enumerate().map(join).collect()
}
