//! Conversation sessions: messages of one channel that belong together.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{ChannelId, GuildId, MessageId};

/// UUID namespace of session and point ids. Must never change.
pub(crate) const NAMESPACE: Uuid = Uuid::from_u128(0x6775_696c_6465_7800_8000_7365_7373_696f);

/// Session id, derived from the session's first message: repeated imports of a channel, in any order, give
/// the same conversation the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
#[serde(transparent)]
pub struct SessionId(Uuid);

impl SessionId {
    /// Derives the id of the session that starts with message `first`.
    pub fn new(guild: GuildId, channel: ChannelId, first: MessageId) -> Self {
        Self(Uuid::new_v5(&NAMESPACE, format!("session/{guild}/{channel}/{first}").as_bytes()))
    }

    /// The id as Postgres stores it.
    pub fn get(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for SessionId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Revision of a session. Every change takes the next value of one database sequence, so revisions never
/// repeat, even if a session is deleted and created again with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
#[serde(transparent)]
pub struct Revision(i64);

impl Revision {
    /// Lower than every revision of a session.
    pub const NONE: Self = Self(0);

    /// The number as Postgres stores it.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl From<i64> for Revision {
    fn from(number: i64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Rule for which sessions are indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eligibility {
    /// Minimum number of live messages.
    pub min_messages: u32,
    /// Minimum number of words (Unicode segmentation) for a session of a single message, which is exempt from
    /// `min_messages`.
    pub lone_message_min_words: u32,
}

impl Default for Eligibility {
    fn default() -> Self {
        Self { min_messages: 2, lone_message_min_words: 12 }
    }
}

impl Eligibility {
    /// Returns whether a session with these numbers of live messages and words is indexed.
    pub fn admits(&self, messages: u32, words: u32) -> bool {
        messages > 0
            && (messages >= self.min_messages || (messages == 1 && words >= self.lone_message_min_words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_depends_on_guild_channel_and_first_message() {
        let id = |g: i64, c: i64, m: i64| {
            SessionId::new(g.try_into().unwrap(), c.try_into().unwrap(), m.try_into().unwrap())
        };
        assert_eq!(id(1, 2, 3), id(1, 2, 3));
        assert_eq!(id(1, 2, 3).to_string(), "3040474a-0a66-5b2a-b17b-bada375dfd67");
        let others = [id(2, 2, 3), id(1, 3, 3), id(1, 2, 4), id(12, 2, 3), id(1, 22, 3)];
        assert!(others.iter().all(|other| *other != id(1, 2, 3)));
    }

    #[test]
    fn single_messages_need_words_and_empty_sessions_are_never_indexed() {
        let rule = Eligibility::default();
        assert!(rule.admits(2, 2));
        assert!(rule.admits(1, 12));
        assert!(!rule.admits(1, 11));
        assert!(!rule.admits(0, 100));
        let strict = Eligibility { min_messages: 4, ..rule };
        assert!(!strict.admits(3, 500), "three messages are too few, and more than one");
    }
}
