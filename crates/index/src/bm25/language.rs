use std::borrow::Cow;

use qdrant_rust_stemmers::{Algorithm, Stemmer};
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// Language of the stemmer (Porter, "Snowball: A language for stemming algorithms", 2001). Documents and queries must
/// use the same language: otherwise inflected words do not match.
///
/// There are no stop words. Inverse document frequency gives a word that occurs in most texts almost no weight, measured
/// in the chat itself, whatever its language. A list would remove words that people search for ("IT", "The Who", "to be")
/// and, in chats of several languages, words that are frequent in only one of them (German "die").
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownLanguage, parse_err_fn = unknown)]
#[expect(missing_docs, reason = "the names of languages are clear")]
pub enum Language {
    /// No stemming: for chats in many languages, or in one that is not listed.
    #[default]
    None,
    Arabic,
    Armenian,
    Danish,
    Dutch,
    English,
    Finnish,
    French,
    German,
    Greek,
    Hungarian,
    Italian,
    Norwegian,
    Portuguese,
    Romanian,
    Russian,
    Spanish,
    Swedish,
    Tamil,
    Turkish,
}

/// Text that is not a [`Language`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a supported language: use {}", names())]
pub struct UnknownLanguage {
    given: String,
}

fn unknown(text: &str) -> UnknownLanguage {
    UnknownLanguage { given: text.chars().take(40).collect() }
}

fn names() -> String {
    Language::ALL.iter().map(<&str>::from).collect::<Vec<_>>().join(", ")
}

impl Language {
    /// All languages: [`None`](Self::None), then by name.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Stems a lowercase word.
    pub(super) fn stem(self, word: String) -> String {
        let Some(algorithm) = self.algorithm() else { return word };
        match Stemmer::create(algorithm).stem(&word) {
            // A word of endings only is kept, so that different words do not get the same empty stem.
            stem if stem.is_empty() => word,
            Cow::Owned(stem) => stem,
            Cow::Borrowed(stem) => stem.to_owned(),
        }
    }

    fn algorithm(self) -> Option<Algorithm> {
        Some(match self {
            Self::None => return None,
            Self::Arabic => Algorithm::Arabic,
            Self::Armenian => Algorithm::Armenian,
            Self::Danish => Algorithm::Danish,
            Self::Dutch => Algorithm::Dutch,
            Self::English => Algorithm::English,
            Self::Finnish => Algorithm::Finnish,
            Self::French => Algorithm::French,
            Self::German => Algorithm::German,
            Self::Greek => Algorithm::Greek,
            Self::Hungarian => Algorithm::Hungarian,
            Self::Italian => Algorithm::Italian,
            Self::Norwegian => Algorithm::Norwegian,
            Self::Portuguese => Algorithm::Portuguese,
            Self::Romanian => Algorithm::Romanian,
            Self::Russian => Algorithm::Russian,
            Self::Spanish => Algorithm::Spanish,
            Self::Swedish => Algorithm::Swedish,
            Self::Tamil => Algorithm::Tamil,
            Self::Turkish => Algorithm::Turkish,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_round_trip() {
        for &language in Language::ALL {
            let name = language.to_string();
            assert_eq!(name.parse(), Ok(language));
            assert_eq!(serde_json::to_value(language).unwrap(), name);
            assert_eq!(serde_json::from_value::<Language>(name.into()).unwrap(), language);
        }
        assert_eq!(Language::default().to_string(), "none");
    }

    #[test]
    fn unknown_languages_are_rejected_with_the_known_ones() {
        for given in ["klingon", "English", "", " english"] {
            let error = given.parse::<Language>().unwrap_err().to_string();
            assert!(error.contains("none, arabic") && error.ends_with("turkish"), "{error}");
        }
    }

    #[test]
    fn inflections_share_a_stem() {
        for (language, [one, other]) in [
            (Language::English, ["connections", "connected"]),
            (Language::German, ["häuser", "häusern"]),
            (Language::French, ["continuer", "continuation"]),
            (Language::Russian, ["книги", "книгами"]),
            (Language::Turkish, ["kitaplar", "kitap"]),
        ] {
            let stem = |word: &str| language.stem(word.to_owned());
            assert_eq!(stem(one), stem(other), "{language}");
            assert_ne!(Language::None.stem(one.to_owned()), Language::None.stem(other.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn stems_are_never_empty(
            word in "[\\p{Latin}\\p{Greek}\\p{Cyrillic}\\p{Arabic}\\p{Armenian}\\p{Tamil}\\p{Alphabetic}]{1,30}",
        ) {
            let word = word.to_lowercase();
            for &language in Language::ALL {
                prop_assert!(!language.stem(word.clone()).is_empty(), "{}", language);
            }
        }
    }
}
