//! What is asked and what is answered, as it also goes over the wire.

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, MessageId, SessionId};
use serde::{Deserialize, Serialize};

/// A question to one guild's memory.
#[derive(Clone, Serialize, Deserialize)]
pub struct Request {
    /// The tenant. Nothing of another guild is ever found.
    pub guild_id: GuildId,
    /// The channels and threads to look in; `None` for all of the guild's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<ChannelId>>,
    /// The question, in anybody's words.
    pub query: String,
    /// How many sessions to find, at most 100.
    pub limit: usize,
}

/// Who asks what is private: a debug print leaves the question out.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("guild_id", &self.guild_id)
            .field("channels", &self.channels)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// What was found, best first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Results {
    /// The sessions, each once.
    pub results: Vec<Found>,
}

/// A session that answers the question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// How well it fits: the sum of the reciprocal ranks of its best chunk, by vectors and by words, and of one
    /// more first place where somebody said exactly what is asked. Comparable within one answer only.
    pub score: f32,
    /// The session.
    pub session_id: SessionId,
    /// The tenant.
    pub guild_id: GuildId,
    /// The channel or thread.
    pub channel_id: ChannelId,
    /// Its name, without the `#`.
    pub channel_name: String,
    /// When the first message was sent.
    pub start_time: DateTime<Utc>,
    /// When the last message was sent.
    pub end_time: DateTime<Utc>,
    /// Messages in the session.
    pub message_count: usize,
    /// The first message of the session that still stands.
    pub first_message_id: MessageId,
    /// Opens the first message in Discord.
    pub link: String,
    /// The lines that fit the question best, from Postgres, cut at about 300 characters.
    pub preview: String,
}
