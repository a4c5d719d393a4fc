//! What is answered, as it also goes over the wire.

use chrono::{DateTime, Utc};
use guildex_types::{ChannelId, GuildId, MessageId, ModelSlug, SessionId, UserId};
use serde::{Deserialize, Serialize};

use crate::excerpt::Excerpt;

/// What was found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SearchResponse {
    /// The sessions, each once, best first.
    pub results: Vec<SearchHit>,
    /// The model whose collection was searched; `None` where Postgres answered by words alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSlug>,
    /// Whether this is a makeshift: index or model was away, and Postgres answered by words alone.
    #[serde(default)]
    pub degraded: bool,
    /// Why it is a makeshift, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A session that answers the question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SearchHit {
    /// How well its best chunk fits; comparable within one answer only, since each mode has its own scale:
    ///
    /// - hybrid: `weight / (k + rank)`, summed over the rankings by vectors and by words (reciprocal rank fusion),
    ///   and `1 / (k + 1)` more, as for one more first place, where somebody in the chunk said exactly what is
    ///   asked;
    /// - dense: the cosine of question and chunk, -1 to 1;
    /// - sparse: BM25, from 0, without an upper end;
    /// - degraded: Postgres' cover density rank of the best message, from 0. `min_score` leaves out nothing then.
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
    /// The part of the session that fits best.
    pub chunk: Chunk,
    /// The lines of the chunk that fit best, from Postgres, cut at about 300 characters.
    pub preview: Excerpt,
    /// What was said around the chunk, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surrounding: Option<Surrounding>,
}

/// The part of a session that fits best. A long session is more than one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Chunk {
    /// Its number in the session, from 0; `None` where Postgres answered: it is the best message then.
    pub number: Option<u32>,
    /// Its first message that still stands.
    pub first_message_id: MessageId,
    /// Opens that message in Discord.
    pub link: String,
    /// All of its messages that still stand, in order.
    pub message_ids: Vec<MessageId>,
}

/// What was said in the channel around a chunk, of the same session or of others.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Surrounding {
    /// The last messages before its first, in order.
    pub before: Vec<SurroundingMessage>,
    /// The first messages after its last, in order.
    pub after: Vec<SurroundingMessage>,
}

/// A message near a chunk. Deleted ones, those of members who opted out, and those that are in no session (bots',
/// the system's) are none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SurroundingMessage {
    /// The message.
    pub message_id: MessageId,
    /// Who wrote it.
    pub author_id: UserId,
    /// By which name.
    pub author_name: String,
    /// When it was sent.
    pub sent_at: DateTime<Utc>,
    /// What it says, cut after 1,000 characters.
    pub text: Excerpt,
    /// Whether it is of the session that was found.
    pub in_session: bool,
}
