//! What the model and the index get to see of a session: `eval` measures with this very code.

use guildex_embed::{Split, Tokenizer, TokenizerError};
use guildex_index::bm25::{self, Language};
use guildex_index::{Payload, Point, Preview, SparseVector};
use guildex_store::sessions::{Session, SessionMessage};
use guildex_types::{ModelSlug, PointId};
use sha2::{Digest, Sha256};

/// Raised whenever the text below is made differently, so that everything is embedded anew.
const TEMPLATE: &str = "1";

/// A session as text: a line that says where, and one for each message.
#[derive(Clone)]
pub struct Enriched {
    header: String,
    lines: Vec<String>,
}

impl Enriched {
    /// The text of a session as it is.
    pub fn of(session: &Session) -> Self {
        Self {
            header: format!("Conversation in #{}:", session.channel_name),
            lines: session.messages.iter().map(line).collect(),
        }
    }

    /// Tells whether two states of a session would make the same points.
    pub fn content_hash(&self, session: &Session, model: &ModelSlug) -> Vec<u8> {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        };
        part(TEMPLATE);
        part(model.as_str());
        part(&self.header);
        part(session.language.as_deref().unwrap_or_default());
        for (line, message) in self.lines.iter().zip(&session.messages) {
            part(line);
            part(&message.id.to_string());
        }
        hash.finalize().to_vec()
    }

    /// Cuts the text into chunks that the model reads whole.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn split(&self, tokenizer: &Tokenizer) -> Result<Split, TokenizerError> {
        guildex_embed::split(tokenizer, &self.header, &self.lines)
    }
}

/// The language of the session's words.
fn language(session: &Session) -> Language {
    let named = session.language.as_deref().unwrap_or_default();
    // A name that only a later release knows: words are what they are then.
    named.parse().unwrap_or_default()
}

fn line(message: &SessionMessage) -> String {
    format!(
        "[{} @ {}]: {}",
        message.author_name,
        message.sent_at.format("%Y-%m-%d %H:%M"),
        message.text.as_str()
    )
}

/// A chunk that waits for its vector.
pub struct Draft {
    /// What is embedded.
    pub text: String,
    bm25: SparseVector,
    payload: Payload,
    id: PointId,
}

impl Draft {
    /// The chunks of a session, as points without their dense vectors.
    pub fn all(session: &Session, split: Split, model: &ModelSlug, previews: bool) -> Vec<Self> {
        split
            .chunks
            .into_iter()
            .zip(0..)
            .filter_map(|(chunk, number)| {
                let messages = session.messages.get(chunk.lines)?;
                Self::new(session, messages, chunk.text, number, model, previews)
            })
            .collect()
    }

    fn new(
        session: &Session,
        messages: &[SessionMessage],
        text: String,
        chunk: u32,
        model: &ModelSlug,
        previews: bool,
    ) -> Option<Self> {
        let (first, last) = (messages.first()?, messages.last()?);
        let mut author_ids: Vec<_> = messages.iter().map(|m| m.author_id).collect();
        author_ids.sort_unstable();
        author_ids.dedup();
        // Words are looked for in what was said, not in names and dates.
        let said: Vec<&str> = messages.iter().map(|m| m.text.as_str()).collect();
        Some(Self {
            bm25: bm25::document(&said.join("\n"), language(session)),
            id: PointId::of(session.guild_id, session.channel_id, session.first_message_id, model, chunk),
            payload: Payload {
                guild_id: session.guild_id,
                channel_id: session.channel_id,
                author_ids,
                message_ids: messages.iter().map(|m| m.id).collect(),
                start_time: first.sent_at,
                end_time: last.sent_at,
                session_id: session.id,
                chunk,
                revision: session.revision,
                message_count: u32::try_from(messages.len()).unwrap_or(u32::MAX),
                preview: previews.then(|| Preview::of(&text)),
            },
            text,
        })
    }

    /// The point, with the vector of its text.
    pub fn into_point(self, dense: Vec<f32>) -> Point {
        Point { id: self.id, dense, bm25: self.bm25, payload: self.payload }
    }
}
