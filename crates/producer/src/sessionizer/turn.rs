//! Input of the sessionizer.

use chrono::{DateTime, Utc};
use guildex_types::{MessageId, UserId};

/// A message as the sessionizer sees it. Neither its content nor its order of arrival matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn<'a> {
    /// Message id.
    pub id: MessageId,
    /// Author.
    pub author: UserId,
    /// Time of sending, used in whole milliseconds as Discord does.
    pub sent_at: DateTime<Utc>,
    /// Message that this one replies to.
    pub reply_to: Option<MessageId>,
    /// Mentioned members.
    pub mentions: &'a [UserId],
}

impl Turn<'_> {
    /// Returns true if the turn replies to a message or mentions a member.
    pub(super) fn has_link(&self) -> bool {
        self.reply_to.is_some() || !self.mentions.is_empty()
    }
}
