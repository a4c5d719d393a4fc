use chrono::{DateTime, Utc};
use guildex_types::{Author, ChannelId, GuildId, Links, Message, MessageId, MessageKind, SearchText, UserId};
use sqlx::FromRow;

/// A message as the sessionizer reads it: its links and its current session. Deleted messages are included,
/// since a deletion does not move others into another session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedMessage {
    /// Message id.
    pub id: MessageId,
    /// Author.
    pub author: UserId,
    /// Time of sending.
    pub sent_at: DateTime<Utc>,
    /// References to other messages and members.
    pub links: Links,
    /// First message of its session; `None` if it is not assigned yet.
    pub first_message_id: Option<MessageId>,
}

#[derive(FromRow)]
pub(super) struct AssignedRow {
    id: MessageId,
    author_id: UserId,
    sent_at: DateTime<Utc>,
    reply_to: Option<i64>,
    mentions: Vec<i64>,
    first_message_id: Option<MessageId>,
}

impl From<AssignedRow> for AssignedMessage {
    fn from(row: AssignedRow) -> Self {
        Self {
            id: row.id,
            author: row.author_id,
            sent_at: row.sent_at,
            links: links(row.reply_to, row.mentions),
            first_message_id: row.first_message_id,
        }
    }
}

#[derive(FromRow)]
pub(super) struct MessageRow {
    id: MessageId,
    author_id: UserId,
    webhook_name: Option<String>,
    username: Option<String>,
    global_name: Option<String>,
    display_name: Option<String>,
    is_bot: bool,
    is_system: bool,
    sent_at: DateTime<Utc>,
    edited_at: Option<DateTime<Utc>>,
    reply_to: Option<i64>,
    mentions: Vec<i64>,
    text: SearchText,
}

impl MessageRow {
    pub(super) fn into_message(self, guild_id: GuildId, channel_id: ChannelId) -> Message {
        Message {
            guild_id,
            channel_id,
            id: self.id,
            author: Author {
                id: self.author_id,
                is_webhook: self.webhook_name.is_some(),
                username: self.webhook_name.or(self.username).unwrap_or_default(),
                global_name: self.global_name,
                display_name: self.display_name,
                is_bot: self.is_bot,
            },
            kind: if self.is_system { MessageKind::System } else { MessageKind::Conversation },
            sent_at: self.sent_at,
            edited_at: self.edited_at,
            links: links(self.reply_to, self.mentions),
            text: self.text,
        }
    }
}

/// Ignores invalid ids, which another program may have inserted.
fn links(reply_to: Option<i64>, mentions: Vec<i64>) -> Links {
    Links {
        reply_to: reply_to.and_then(|id| MessageId::try_from(id).ok()),
        mentions: mentions.into_iter().filter_map(|id| UserId::try_from(id).ok()).collect(),
    }
}
