use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, MessageId, ModelSlug, SessionId, UserId};
use serde::{Deserialize, Serialize};

use crate::excerpt::Excerpt;

/// Response to a [`SearchRequest`](crate::SearchRequest), also as JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SearchResponse {
    /// Matching sessions, each once, best first.
    pub results: Vec<SearchHit>,
    /// Model whose collection was searched; `None` if the response is degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSlug>,
    /// Whether the index or the model was unavailable and Postgres full-text search was used.
    #[serde(default)]
    pub degraded: bool,
    /// Why the response is degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Session that matches a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SearchHit {
    /// Score of the best chunk. Scores are comparable within one response only, because each mode has its own scale:
    ///
    /// - hybrid: `weight / (k + rank)`, summed over the dense and sparse rankings (reciprocal rank fusion), plus
    ///   `1 / (k + 1)`, the weight of one more first place, if a message of the chunk contains the exact query;
    /// - dense: cosine similarity of query and chunk, -1 to 1;
    /// - sparse: BM25, from 0, without an upper bound;
    /// - degraded: Postgres' cover density rank of the best message, from 0; `min_score` is not applied.
    pub score: f32,
    /// Session.
    pub session_id: SessionId,
    /// Guild.
    pub guild_id: GuildId,
    /// Channel or thread.
    pub channel_id: ChannelId,
    /// Channel name, without the `#`.
    pub channel_name: String,
    /// Time of the first message.
    pub start_time: DateTime<Utc>,
    /// Time of the last message.
    pub end_time: DateTime<Utc>,
    /// Number of messages in the session.
    pub message_count: usize,
    /// First message of the session that is not deleted.
    pub first_message_id: MessageId,
    /// Discord link to the first message.
    pub link: String,
    /// Best chunk of the session.
    pub chunk: Chunk,
    /// Best lines of the chunk, from Postgres, truncated at about 300 characters.
    pub preview: Excerpt,
    /// Messages around the chunk, if requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surrounding: Option<Surrounding>,
}

/// Best chunk of a session. Long sessions have several chunks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Chunk {
    /// Number of the chunk in the session, from 0; `None` if the response is degraded: then the chunk is one message.
    pub number: Option<u32>,
    /// First message of the chunk that is not deleted.
    pub first_message_id: MessageId,
    /// Discord link to that message.
    pub link: String,
    /// Messages of the chunk that are not deleted, in order.
    pub message_ids: Vec<MessageId>,
}

/// Messages of the channel around a chunk, of the same session or of others.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Surrounding {
    /// Last messages before the chunk, in order.
    pub before: Vec<SurroundingMessage>,
    /// First messages after the chunk, in order.
    pub after: Vec<SurroundingMessage>,
}

/// Message near a chunk. Deleted messages, those of opted-out members and those in no session (of bots or Discord) are
/// excluded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SurroundingMessage {
    /// Message.
    pub message_id: MessageId,
    /// Author.
    pub author_id: UserId,
    /// Name of the author.
    pub author_name: String,
    /// Time the message was sent.
    pub sent_at: DateTime<Utc>,
    /// Text, truncated at 1,000 characters.
    pub text: Excerpt,
    /// Whether the message belongs to the session of the hit.
    pub in_session: bool,
}
