use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use qdrant_rust_stemmers::{Algorithm, Stemmer};
use serde::{Deserialize, Serialize};

/// The language whose inflections make no difference to words, by the Snowball stemmers (Porter, "Snowball: A
/// language for stemming algorithms", 2001). Texts and questions have to have the same: an index that is written
/// with one language and asked with another finds no inflected words.
///
/// There are no lists of stop words. A word that is in most texts weighs next to nothing by its inverse document
/// frequency alone, and measures how common it is in the chat at hand, in whatever language; a list would drop
/// what is asked for ("IT", "The Who", "to be") and, where languages mix, what is common in one of them only
/// (German "die").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "languages say what they are")]
pub enum Language {
    /// Words are what they are: for chats in many languages, or one that is not here.
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

/// A text that names no [`Language`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no language whose words can be reduced to stems: use {}", names())]
pub struct UnknownLanguage {
    given: String,
}

impl Language {
    /// All languages, by name after [`None`](Self::None).
    pub const ALL: [Self; 20] = [
        Self::None,
        Self::Arabic,
        Self::Armenian,
        Self::Danish,
        Self::Dutch,
        Self::English,
        Self::Finnish,
        Self::French,
        Self::German,
        Self::Greek,
        Self::Hungarian,
        Self::Italian,
        Self::Norwegian,
        Self::Portuguese,
        Self::Romanian,
        Self::Russian,
        Self::Spanish,
        Self::Swedish,
        Self::Tamil,
        Self::Turkish,
    ];

    /// The stem of a word in lower case.
    pub(super) fn stem(self, word: String) -> String {
        let Some(algorithm) = self.parts().1 else { return word };
        match Stemmer::create(algorithm).stem(&word) {
            // Nothing but endings: what is left of different words must not be the same.
            stem if stem.is_empty() => word,
            Cow::Owned(stem) => stem,
            Cow::Borrowed(stem) => stem.to_owned(),
        }
    }

    fn parts(self) -> (&'static str, Option<Algorithm>) {
        match self {
            Self::None => ("none", None),
            Self::Arabic => ("arabic", Some(Algorithm::Arabic)),
            Self::Armenian => ("armenian", Some(Algorithm::Armenian)),
            Self::Danish => ("danish", Some(Algorithm::Danish)),
            Self::Dutch => ("dutch", Some(Algorithm::Dutch)),
            Self::English => ("english", Some(Algorithm::English)),
            Self::Finnish => ("finnish", Some(Algorithm::Finnish)),
            Self::French => ("french", Some(Algorithm::French)),
            Self::German => ("german", Some(Algorithm::German)),
            Self::Greek => ("greek", Some(Algorithm::Greek)),
            Self::Hungarian => ("hungarian", Some(Algorithm::Hungarian)),
            Self::Italian => ("italian", Some(Algorithm::Italian)),
            Self::Norwegian => ("norwegian", Some(Algorithm::Norwegian)),
            Self::Portuguese => ("portuguese", Some(Algorithm::Portuguese)),
            Self::Romanian => ("romanian", Some(Algorithm::Romanian)),
            Self::Russian => ("russian", Some(Algorithm::Russian)),
            Self::Spanish => ("spanish", Some(Algorithm::Spanish)),
            Self::Swedish => ("swedish", Some(Algorithm::Swedish)),
            Self::Tamil => ("tamil", Some(Algorithm::Tamil)),
            Self::Turkish => ("turkish", Some(Algorithm::Turkish)),
        }
    }
}

fn names() -> String {
    Language::ALL.map(|language| language.parts().0).join(", ")
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.parts().0)
    }
}

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(text: &str) -> Result<Self, UnknownLanguage> {
        let named = Self::ALL.into_iter().find(|language| language.parts().0 == text);
        named.ok_or_else(|| UnknownLanguage { given: text.chars().take(40).collect() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_language_is_read_as_it_is_written() {
        for language in Language::ALL {
            let name = language.to_string();
            assert_eq!(name.parse(), Ok(language));
            assert_eq!(serde_json::to_value(language).unwrap(), name);
            assert_eq!(serde_json::from_value::<Language>(name.into()).unwrap(), language);
        }
        assert_eq!(Language::default().to_string(), "none");
    }

    #[test]
    fn a_language_that_is_not_there_is_told_which_are() {
        for given in ["klingon", "English", "", " english"] {
            let error = given.parse::<Language>().unwrap_err().to_string();
            assert!(error.contains("none, arabic") && error.ends_with("turkish"), "{error}");
        }
    }

    #[test]
    fn inflections_have_one_stem() {
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
        fn every_word_has_a_stem_in_every_language(
            word in "[\\p{Latin}\\p{Greek}\\p{Cyrillic}\\p{Arabic}\\p{Armenian}\\p{Tamil}\\p{Alphabetic}]{1,30}",
        ) {
            let word = word.to_lowercase();
            for language in Language::ALL {
                prop_assert!(!language.stem(word.clone()).is_empty(), "{}", language);
            }
        }
    }
}
