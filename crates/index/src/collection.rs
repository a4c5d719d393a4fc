use std::fmt;
use std::str::FromStr;

use guildex_types::ModelSlug;

/// A collection as it ought to be: one for each model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Its name.
    pub name: CollectionName,
    /// The dimensions of its dense vectors; at least 1.
    pub dims: usize,
}

/// A collection's name, `{base}_{model slug}`: safe in file names and URLs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionName(String);

/// A text that cannot name a collection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} cannot name a collection: use 1 to 128 of a-z, 0-9, '-', '_' and '.', a letter or digit first"
)]
pub struct InvalidCollectionName {
    given: String,
}

impl CollectionName {
    /// The collection of a model under a base name.
    ///
    /// # Errors
    /// If `base` has characters other than those of slugs, or both together are too long.
    pub fn new(base: &str, model: &ModelSlug) -> Result<Self, InvalidCollectionName> {
        format!("{base}_{model}").parse()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CollectionName {
    type Err = InvalidCollectionName;

    fn from_str(text: &str) -> Result<Self, InvalidCollectionName> {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if starts_well && text.len() <= 128 && text.bytes().all(known) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_joins_base_and_model() {
        let model = "all-minilm-l6-v2-fp32".parse().unwrap();
        let name = CollectionName::new("guildex", &model).unwrap();
        assert_eq!(name.as_str(), "guildex_all-minilm-l6-v2-fp32");
        assert_eq!(name.as_str().parse(), Ok(name));
    }

    #[test]
    fn a_name_never_leaves_its_folder() {
        let model = "m".parse().unwrap();
        for base in ["", "..", ".new-a", "a/b", "A", "é", "a b", &"a".repeat(127)] {
            assert!(CollectionName::new(base, &model).is_err(), "{base:?} was taken");
        }
    }
}
