//! Messages and authors with defaults: a test sets only the fields that it is about.

use chrono::{DateTime, TimeDelta, Utc};
use guildex_types::{Author, Links, Message, MessageId, MessageKind, SearchText, UserId};

/// An id of any kind.
///
/// # Panics
/// If the number is not positive.
pub fn id<T: TryFrom<i64>>(number: i64) -> T {
    T::try_from(number).ok().unwrap_or_else(|| panic!("{number} is not an id"))
}

/// The time `number` minutes after the Unix epoch.
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

/// Changes of a message; each returns it.
pub trait MessageExt {
    /// Sets the author "author N".
    fn by(self, author: i64) -> Self;
    /// Sets the author's name.
    fn named(self, name: &str) -> Self;
    /// Makes the author a bot.
    fn by_bot(self) -> Self;
    /// Sets the time at which it was sent.
    fn at(self, sent_at: DateTime<Utc>) -> Self;
    /// Sets the text.
    fn saying(self, text: &str) -> Self;
    /// Makes it a reply to the message of this id.
    fn reply_to(self, parent: i64) -> Self;
    /// Adds a mention of a member.
    fn mentioning(self, member: i64) -> Self;
    /// Applies an edit with this time and text.
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
