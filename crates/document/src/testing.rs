//! A session for unit tests.

use chrono::DateTime;
use guildex_store::sessions::{Session, SessionMessage};
use guildex_types::{Revision, SearchText, SessionId};

/// A session with one message for each text, all by one author.
pub fn session(texts: &[&str]) -> Session {
    let message = |(text, n): (&&str, i64)| SessionMessage {
        id: n.try_into().unwrap(),
        author_id: 7.try_into().unwrap(),
        author_name: "Ada".into(),
        sent_at: DateTime::UNIX_EPOCH,
        text: SearchText::from_parts([*text]),
        words: 1,
    };
    let (guild, channel, first) = (1.try_into().unwrap(), 2.try_into().unwrap(), 1.try_into().unwrap());
    Session {
        id: SessionId::new(guild, channel, first),
        guild_id: guild,
        channel_id: channel,
        channel_name: "help".into(),
        language: None,
        first_message_id: first,
        revision: Revision::NONE,
        messages: texts.iter().zip(1..).map(message).collect(),
        indexed: None,
    }
}
