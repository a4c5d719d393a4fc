//! Where a chunk of a session lives in the vector index.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{ChannelId, GuildId, MessageId};
use crate::session::NAMESPACE;

/// The name of an embedding model as it stands in collection names: precision included, since fp32 and int8
/// vectors of one model do not mix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelSlug(String);

/// A text that cannot name a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} cannot name a model: use 1 to 64 of a-z, 0-9, '-', '_' and '.', a letter or digit first")]
pub struct InvalidModelSlug {
    given: String,
}

impl ModelSlug {
    /// The slug.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

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

/// The id of a point. The same chunk of the same session under the same model is the same point, so a job that
/// runs twice overwrites its own work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PointId(Uuid);

impl PointId {
    /// The point of chunk number `chunk` of the session that begins with `first`.
    pub fn of(guild: GuildId, channel: ChannelId, first: MessageId, model: &ModelSlug, chunk: u32) -> Self {
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
    fn a_point_id_depends_on_every_part_of_its_name() {
        let id = |g: i64, c: i64, m: i64, model: &str, chunk| {
            let model = model.parse().unwrap();
            PointId::of(g.try_into().unwrap(), c.try_into().unwrap(), m.try_into().unwrap(), &model, chunk)
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
    fn a_slug_is_safe_in_a_file_name() {
        for bad in ["", "../x", "A", "-a", "a b", "é", &"a".repeat(65)] {
            assert!(bad.parse::<ModelSlug>().is_err(), "{bad:?} was taken");
        }
        assert!("all-minilm-l6-v2-fp32".parse::<ModelSlug>().is_ok());
    }
}
