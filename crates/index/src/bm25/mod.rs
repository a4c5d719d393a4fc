//! Sparse vectors of texts. With the index's inverse document frequencies, searching them is Okapi BM25 (Robertson and
//! Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009).
//!
//! For alphabetic scripts the vectors equal those of Qdrant's model `qdrant/bm25` without stop words, with the stemmer
//! of a [`Language`] if one is given. In scripts without spaces between words, each ideograph counts as a word, so
//! that words are found inside sentences.

mod language;

use murmur3_32::Murmur3;
use unicode_segmentation::UnicodeSegmentation;

use crate::SparseVector;

pub use language::{Language, UnknownLanguage};

/// Saturation of repeated words.
const K1: f32 = 1.2;
/// Length normalization.
const B: f32 = 0.75;
/// Assumed average length of a text, in words: Qdrant's default, and about the window of the embedding models.
const AVERAGE_WORDS: f32 = 256.0;

/// Converts a stored text: its words, weighted by frequency. Empty for a text without words.
pub fn document(text: &str, language: Language) -> SparseVector {
    weighted(words(text, language).collect())
}

/// Converts a query: its words, each with weight 1. Empty for a query without words.
pub fn query(text: &str, language: Language) -> SparseVector {
    counted(words(text, language).collect()).into_iter().map(|(word, _)| (word, 1.0)).collect()
}

/// Splits a text into words, with repetitions, as dimensions of sparse vectors.
///
/// A word is the stem of a lowercase run of letters and digits; ideographs are separate words. A line break ends a word,
/// so the words of a text are those of its lines.
pub fn words(text: &str, language: Language) -> impl Iterator<Item = u32> {
    text.unicode_words()
        .flat_map(|segment| segment.split(|c: char| !c.is_alphanumeric()))
        .filter(|word| !word.is_empty())
        .map(move |word| dimension(&language.stem(word.to_lowercase())))
}

/// Builds the [`document`] vector of these words.
pub fn weighted(words: Vec<u32>) -> SparseVector {
    let norm = K1 * (1.0 - B + B * words.len() as f32 / AVERAGE_WORDS);
    let weight = |count: f32| count * (K1 + 1.0) / (norm + count);
    counted(words).into_iter().map(|(word, count)| (word, weight(count as f32))).collect()
}

/// Counts words, in ascending order.
fn counted(mut words: Vec<u32>) -> Vec<(u32, usize)> {
    words.sort_unstable();
    let same = words.chunk_by(|a, b| a == b);
    same.filter_map(|same| Some((*same.first()?, same.len()))).collect()
}

/// Hashes a word to a dimension, as Qdrant does.
fn dimension(word: &str) -> u32 {
    (Murmur3::hash(0, word.as_bytes()) as i32).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shared(question: &str, text: &str) -> usize {
        shared_in(Language::None, question, text)
    }

    fn shared_in(language: Language, question: &str, text: &str) -> usize {
        let (question, text) = (query(question, language), document(text, language));
        question.indices().iter().filter(|index| text.indices().contains(index)).count()
    }

    #[test]
    fn matching_ignores_case_and_punctuation() {
        assert_eq!(shared("SUDO", "try `sudo apt-get`, or not"), 1);
        assert_eq!(shared("8080", "it listens on localhost:8080"), 1);
        assert_eq!(shared("ΣΊΣΥΦΟΣ", "ο Σίσυφος"), 1);
        assert_eq!(shared("cat", "concatenate"), 0);
    }

    #[test]
    fn words_match_in_scripts_without_spaces() {
        assert_eq!(shared("数据库", "我们的数据库坏了"), 3);
        assert!(shared("ข้อมูล", "ฐานข้อมูลของเรา") > 0);
        assert_eq!(shared("데이터", "데이터 베이스"), 1);
    }

    #[test]
    fn texts_without_words_are_empty() {
        for text in ["", " \n\t", "🦀🎉", "!?…", "\u{200d}\u{fe0f}"] {
            assert!(
                document(text, Language::None).is_empty() && query(text, Language::None).is_empty(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn repeated_words_saturate_and_query_words_count_once() {
        let weight = |text: &str| document(text, Language::None).values()[0];
        let (one, two, three) = (weight("go"), weight("go go"), weight("go go go"));
        assert!(one < two && two < three && three - two < two - one);
        assert_eq!(query("go go go", Language::None).values(), [1.0]);
    }

    proptest! {
        #[test]
        fn queries_match_their_own_text(
            text in "\\PC{0,60}",
            language in prop::sample::select(Language::ALL),
        ) {
            let (document, query) = (document(&text, language), query(&text, language));
            prop_assert_eq!(query.indices(), document.indices());
            prop_assert!(document.values().iter().all(|value| value.is_finite() && *value > 0.0));
        }
    }

    proptest! {
        #[test]
        fn words_of_a_text_are_those_of_its_lines(
            lines in prop::collection::vec("\\PC{0,30}", 0..5),
            language in prop::sample::select(Language::ALL),
        ) {
            let of_each = lines.iter().flat_map(|line| words(line, language)).collect();
            prop_assert_eq!(weighted(of_each), document(&lines.join("\n"), language));
        }
    }

    #[test]
    fn stemming_matches_inflected_words() {
        let (question, text) = ("connecting pipes", "the pipe connects");
        assert_eq!(shared(question, text), 0);
        assert_eq!(shared_in(Language::English, question, text), 2);
        assert_eq!(shared_in(Language::German, "Häusern", "das Haus, die Häuser"), 1);
        // Other scripts are not stemmed.
        assert_eq!(shared_in(Language::English, "数据库", "我们的数据库坏了"), 3);
    }

    #[cfg(feature = "embedded")]
    #[test]
    fn vectors_equal_those_of_qdrants_model() {
        let none = serde_json::json!({"languages": null, "custom": []});
        // The engine cannot disable stemming, but has no stemmer for Chinese.
        let named = |language| match language {
            Language::None => "chinese".to_owned(),
            language => language.to_string(),
        };
        for language in [Language::None, Language::English, Language::German, Language::Russian] {
            let config = serde_json::json!({"language": named(language), "stopwords": none});
            let config = serde_json::from_value(config).unwrap();
            let model = qdrant_edge::bm25_embed::EdgeBm25::new(config).unwrap();
            for text in [
                "the quick brown foxes weren't the laziest dogs; the endings ended",
                "apt-get install libfoo_1.2-dev && ./run --port=8080",
                "Привет, миры! Çok güzel. Ünïcode ŒUVRE, die Häuser der Städte",
                "mail me@example.org or see https://example.org/a?b=c 🦀",
            ] {
                let theirs = model.embed_document(text);
                let ours = document(text, language);
                assert_eq!(ours.indices(), theirs.indices, "{language}: {text}");
                let differs = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-6;
                assert!(!ours.values().iter().zip(&theirs.values).any(differs), "{language}: {text}");
                assert_eq!(query(text, language).indices(), model.embed_query(text).indices, "{text}");
            }
        }
    }
}
