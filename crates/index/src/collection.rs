use std::fmt;
use std::str::FromStr;

use guildex_types::ModelSlug;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Expected shape of a collection. Each model has one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Name.
    pub name: CollectionName,
    /// Dimensions of the dense vectors; at least 1.
    pub dims: usize,
}

/// Collection name, `{prefix}_{model slug}`; safe in file names and URLs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionName(String);

/// Text that is not a valid [`CollectionName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is not a valid collection name: use 1 to 128 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit"
)]
pub struct InvalidCollectionName {
    given: String,
}

impl CollectionName {
    /// Joins a prefix and a model's slug.
    ///
    /// # Errors
    /// If `prefix` has characters that slugs do not have, or the name is too long.
    pub fn new(prefix: &str, model: &ModelSlug) -> Result<Self, InvalidCollectionName> {
        format!("{prefix}_{model}").parse()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CollectionName {
    type Err = InvalidCollectionName;

    fn from_str(text: &str) -> Result<Self, InvalidCollectionName> {
        let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let is_allowed = |b: u8| is_alphanumeric(b) || b"-_.".contains(&b);
        let starts_well = text.bytes().next().is_some_and(is_alphanumeric);
        if starts_well && text.len() <= 128 && text.bytes().all(is_allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidCollectionName { given: text.chars().take(140).collect() })
        }
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Result of [`VectorIndex::ensure`](crate::VectorIndex::ensure).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// The collection existed.
    Existing,
    /// The collection was created empty. Sessions recorded as indexed in it have to be indexed again.
    Created,
}

/// Phase of a bulk load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkLoad {
    /// Many writes follow.
    Begin,
    /// The writes are finished.
    End,
}

/// Owner of a collection. Revisions of two databases cannot be compared, and a collection that was replaced under
/// the same name has lost its points, so both are identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Identity of the Postgres database.
    pub database: Uuid,
    /// Identity of this collection; new for each one created or restored.
    pub index: Uuid,
}

/// One difference between a collection and its expected configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Setting that differs, such as `payload index guild_id`.
    pub what: String,
    /// Actual value.
    pub found: String,
    /// Expected value.
    pub wanted: String,
    /// Whether searches and writes are wrong because of it, and not only slow.
    pub fatal: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, expected {}", self.what, self.found, self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_joins_prefix_and_model() {
        let model = "all-minilm-l6-v2-fp32".parse().unwrap();
        let name = CollectionName::new("guildex", &model).unwrap();
        assert_eq!(name.as_str(), "guildex_all-minilm-l6-v2-fp32");
        assert_eq!(name.as_str().parse(), Ok(name));
    }

    #[test]
    fn name_cannot_escape_its_folder() {
        let model = "m".parse().unwrap();
        for prefix in ["", "..", ".new-a", "a/b", "A", "é", "a b", &"a".repeat(127)] {
            assert!(CollectionName::new(prefix, &model).is_err(), "{prefix:?} was accepted");
        }
    }
}
