//! Ids of points in the vector index, and names of embedding models.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{ChannelId, GuildId, MessageId};
use crate::session::NAMESPACE;

/// Name of an embedding model in collection names. Includes the precision, since fp32 and int8 vectors of one
/// model are not comparable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelSlug(String);

/// A string that is not a valid model name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid model name {given:?}: expected 1 to 64 characters of a-z, 0-9, '-', '_' and '.', starting with a letter or digit"
)]
pub struct InvalidModelSlug {
    given: String,
}

impl ModelSlug {
    /// The slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(feature = "sqlx")]
crate::sql_text!(ModelSlug);

impl FromStr for ModelSlug {
    type Err = InvalidModelSlug;

    fn from_str(text: &str) -> Result<Self, InvalidModelSlug> {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if starts_well && text.len() <= 64 && text.bytes().all(known) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidModelSlug { given: text.chars().take(80).collect() })
        }
    }
}

impl TryFrom<String> for ModelSlug {
    type Error = InvalidModelSlug;

    fn try_from(text: String) -> Result<Self, InvalidModelSlug> {
        text.parse()
    }
}

impl From<ModelSlug> for String {
    fn from(slug: ModelSlug) -> Self {
        slug.0
    }
}

impl fmt::Display for ModelSlug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Point id, derived from session, model and chunk number: a job that runs twice overwrites its own points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
#[serde(transparent)]
pub struct PointId(Uuid);

impl PointId {
    /// Derives the id of chunk `chunk` of the session that starts with message `first`.
    pub fn new(guild: GuildId, channel: ChannelId, first: MessageId, model: &ModelSlug, chunk: u32) -> Self {
        let name = format!("point/{guild}/{channel}/{first}/{model}/{chunk}");
        Self(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
    }

    /// The id as the index stores it.
    pub fn get(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for PointId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_ids_depend_on_guild_channel_message_model_and_chunk() {
        let id = |g: i64, c: i64, m: i64, model: &str, chunk| {
            let model = model.parse().unwrap();
            PointId::new(g.try_into().unwrap(), c.try_into().unwrap(), m.try_into().unwrap(), &model, chunk)
        };
        let one = id(1, 2, 3, "minilm", 0);
        assert_eq!(one, id(1, 2, 3, "minilm", 0));
        let others = [
            id(9, 2, 3, "minilm", 0),
            id(1, 9, 3, "minilm", 0),
            id(1, 2, 9, "minilm", 0),
            id(1, 2, 3, "e5", 0),
            id(1, 2, 3, "minilm", 1),
        ];
        assert!(others.iter().all(|other| *other != one));
    }

    #[test]
    fn slugs_are_safe_as_file_names() {
        for bad in ["", "../x", "A", "-a", "a b", "é", &"a".repeat(65)] {
            assert!(bad.parse::<ModelSlug>().is_err(), "{bad:?} was accepted");
        }
        assert!("all-minilm-l6-v2-fp32".parse::<ModelSlug>().is_ok());
    }
}
