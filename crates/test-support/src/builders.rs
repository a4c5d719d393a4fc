//! Messages and authors with sensible defaults: a test names only what it is about.

use chrono::{DateTime, TimeDelta, Utc};
use guildex_types::{Author, Links, Message, MessageId, MessageKind, SearchText, UserId};

/// An id of any kind.
///
/// # Panics
/// If the number is not positive.
pub fn id<T: TryFrom<i64>>(number: i64) -> T {
    T::try_from(number).ok().unwrap_or_else(|| panic!("{number} is not an id"))
}

/// The instant that many minutes after the Unix epoch.
pub fn minute(number: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(number)
}

/// A member named "author N".
pub fn author(number: i64) -> Author {
    Author::member(id(number), format!("author {number}"))
}

/// An ordinary message of a channel, by author 1, sent in the minute of its id, without text.
pub fn message(guild: i64, channel: i64, number: i64) -> Message {
    Message {
        guild_id: id(guild),
        channel_id: id(channel),
        id: id(number),
        author: author(1),
        kind: MessageKind::Conversation,
        sent_at: minute(number),
        edited_at: None,
        links: Links::default(),
        text: SearchText::default(),
    }
}

/// Changes to a message, each of which returns it.
pub trait MessageExt {
    /// The author "author N".
    fn by(self, author: i64) -> Self;
    /// An author of this name; the id stays.
    fn named(self, name: &str) -> Self;
    /// A bot as its author.
    fn by_bot(self) -> Self;
    /// The time at which it was sent.
    fn at(self, sent_at: DateTime<Utc>) -> Self;
    /// Its text.
    fn saying(self, text: &str) -> Self;
    /// A reply to the message of this id.
    fn reply_to(self, parent: i64) -> Self;
    /// A mention of one member.
    fn mentioning(self, member: i64) -> Self;
    /// A later edit, at this time, to this text.
    fn edited(self, at: DateTime<Utc>, text: &str) -> Self;
}

impl MessageExt for Message {
    fn by(mut self, number: i64) -> Self {
        self.author = author(number);
        self
    }

    fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.author.username);
        self
    }

    fn by_bot(mut self) -> Self {
        self.author.is_bot = true;
        self
    }

    fn at(mut self, sent_at: DateTime<Utc>) -> Self {
        self.sent_at = sent_at;
        self
    }

    fn saying(mut self, text: &str) -> Self {
        self.text = SearchText::from_parts([text]);
        self
    }

    fn reply_to(mut self, parent: i64) -> Self {
        self.links.reply_to = Some(id::<MessageId>(parent));
        self
    }

    fn mentioning(mut self, member: i64) -> Self {
        self.links.mentions = vec![id::<UserId>(member)];
        self
    }

    fn edited(mut self, at: DateTime<Utc>, text: &str) -> Self {
        self.edited_at = Some(at);
        self.saying(text)
    }
}
