use std::fmt;

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, MessageId, PointId, Revision, SessionId, UserId};
use serde::{Deserialize, Serialize};

use crate::SparseVector;

/// One chunk of a session in the index.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Where it lives; the same chunk of the same session keeps its id through all revisions.
    pub id: PointId,
    /// Its embedding. Compared by cosine, so its length does not matter.
    pub dense: Vec<f32>,
    /// Its words, from [`bm25::document`](crate::bm25::document).
    pub bm25: SparseVector,
    /// What it is.
    pub payload: Payload,
}

/// What is stored beside the vectors: everything that filters need. Ids are strings in it, since JSON numbers
/// lose snowflakes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// The tenant.
    pub guild_id: GuildId,
    /// The channel or thread.
    pub channel_id: ChannelId,
    /// Who speaks in the chunk.
    pub author_ids: Vec<UserId>,
    /// The messages of the chunk, in order.
    pub message_ids: Vec<MessageId>,
    /// When its first message was sent.
    pub start_time: DateTime<Utc>,
    /// When its last message was sent.
    pub end_time: DateTime<Utc>,
    /// The session that it is a part of.
    pub session_id: SessionId,
    /// Its number among the chunks of the session, from 0.
    pub chunk: u32,
    /// The state of the session that it shows.
    pub revision: Revision,
    /// How many messages it has.
    pub message_count: u32,
    /// The beginning of its text, for other readers of the collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
}

/// Where a point says that it belongs, and what it shows: all that a comparison with the truth needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointHeader {
    /// The point.
    pub id: PointId,
    /// The channel or thread.
    pub channel_id: ChannelId,
    /// The session that it is a part of.
    pub session_id: SessionId,
    /// Its number among the chunks of the session, from 0.
    pub chunk: u32,
    /// The state of the session that it shows.
    pub revision: Revision,
}

/// The part of a payload that a [`PointHeader`] is made from.
#[cfg(any(feature = "embedded", feature = "server"))]
#[derive(Deserialize)]
pub(crate) struct StoredHeader {
    pub guild_id: GuildId,
    channel_id: ChannelId,
    session_id: SessionId,
    chunk: u32,
    revision: Revision,
}

#[cfg(any(feature = "embedded", feature = "server"))]
impl StoredHeader {
    pub const FIELDS: [&str; 5] = ["guild_id", "channel_id", "session_id", "chunk", "revision"];

    pub fn of(self, id: PointId) -> PointHeader {
        let Self { guild_id: _, channel_id, session_id, chunk, revision } = self;
        PointHeader { id, channel_id, session_id, chunk, revision }
    }
}

/// The beginning of a text: at most 1,000 characters.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Preview(String);

impl Preview {
    const MAX_CHARS: usize = 1_000;

    /// The beginning of `text`.
    pub fn new(text: &str) -> Self {
        Self(text.chars().take(Self::MAX_CHARS).collect())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Content is private: a debug print shows its length alone.
impl fmt::Debug for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Preview({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_is_cut_between_characters() {
        let long = "🦀é".repeat(600);
        let preview = Preview::new(&long);
        assert_eq!(preview.as_str().chars().count(), 1_000);
        assert!(long.starts_with(preview.as_str()));
        assert_eq!(Preview::new("short").as_str(), "short");
    }

    #[test]
    fn a_debug_print_does_not_show_the_preview() {
        assert!(!format!("{:?}", Preview::new("my secret")).contains("secret"));
    }
}
