//! Texts as sparse vectors of their words, so that the index's inverse document frequencies make a search with
//! them Okapi BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009).
//!
//! For texts in alphabets the vectors equal those of Qdrant's model `qdrant/bm25` without stop words, and with the
//! stemmer of a [`Language`], if one is given: the languages of a chat may be many and unknown. In scripts that put no spaces between words, each
//! character that stands for itself counts as a word, so that a word is found inside a sentence.

mod language;

use murmur3_32::Murmur3;
use unicode_segmentation::UnicodeSegmentation;

use crate::SparseVector;

pub use language::{Language, UnknownLanguage};

/// How soon more of the same word stops counting.
const K1: f32 = 1.2;
/// How much longer texts are held back.
const B: f32 = 0.75;
/// The length, in words, of a text that is neither held back nor favoured. Qdrant's default, and about the
/// window of the models used.
const AVERAGE_WORDS: f32 = 256.0;

/// The words of a stored text, weighted by how often they occur in it. Empty for a text without words.
pub fn document(text: &str, language: Language) -> SparseVector {
    weighted(words(text, language).collect())
}

/// The words of a question, each of weight 1. Empty for a question without words.
pub fn query(text: &str, language: Language) -> SparseVector {
    counted(words(text, language).collect()).into_iter().map(|(word, _)| (word, 1.0)).collect()
}

/// The words of a text, each as often as it occurs, as the dimensions of its sparse vectors.
///
/// A word is the stem of a run of letters and digits in lower case; the segmentation cuts ideographs apart. A line
/// break ends a word, so the words of several lines are those of each.
pub fn words(text: &str, language: Language) -> impl Iterator<Item = u32> {
    text.unicode_words()
        .flat_map(|segment| segment.split(|c: char| !c.is_alphanumeric()))
        .filter(|word| !word.is_empty())
        .map(move |word| dimension(&language.stem(word.to_lowercase())))
}

/// The [`document`] that has these words.
pub fn weighted(words: Vec<u32>) -> SparseVector {
    let norm = K1 * (1.0 - B + B * words.len() as f32 / AVERAGE_WORDS);
    let weight = |count: f32| count * (K1 + 1.0) / (norm + count);
    counted(words).into_iter().map(|(word, count)| (word, weight(count as f32))).collect()
}

/// Each word once, ascending, with how often it occurs.
fn counted(mut words: Vec<u32>) -> Vec<(u32, usize)> {
    words.sort_unstable();
    let same = words.chunk_by(|a, b| a == b);
    same.filter_map(|same| Some((*same.first()?, same.len()))).collect()
}

/// The dimension of a word, by hash, as Qdrant has it.
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
    fn words_are_found_whatever_their_case_and_neighbours() {
        assert_eq!(shared("SUDO", "try `sudo apt-get`, or not"), 1);
        assert_eq!(shared("8080", "it listens on localhost:8080"), 1);
        assert_eq!(shared("ΣΊΣΥΦΟΣ", "ο Σίσυφος"), 1);
        assert_eq!(shared("cat", "concatenate"), 0);
    }

    #[test]
    fn words_are_found_in_scripts_without_spaces() {
        assert_eq!(shared("数据库", "我们的数据库坏了"), 3);
        assert!(shared("ข้อมูล", "ฐานข้อมูลของเรา") > 0);
        assert_eq!(shared("데이터", "데이터 베이스"), 1);
    }

    #[test]
    fn what_has_no_words_is_empty() {
        for text in ["", " \n\t", "🦀🎉", "!?…", "\u{200d}\u{fe0f}"] {
            assert!(
                document(text, Language::None).is_empty() && query(text, Language::None).is_empty(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn repetition_counts_less_and_less_and_a_question_counts_once() {
        let weight = |text: &str| document(text, Language::None).values()[0];
        let (one, two, three) = (weight("go"), weight("go go"), weight("go go go"));
        assert!(one < two && two < three && three - two < two - one);
        assert_eq!(query("go go go", Language::None).values(), [1.0]);
    }

    proptest! {
        #[test]
        fn every_word_of_a_text_finds_it(
            text in "\\PC{0,60}",
            language in prop::sample::select(&Language::ALL[..]),
        ) {
            let (document, query) = (document(&text, language), query(&text, language));
            prop_assert_eq!(query.indices(), document.indices());
            prop_assert!(document.values().iter().all(|value| value.is_finite() && *value > 0.0));
        }
    }

    proptest! {
        #[test]
        fn the_words_of_lines_are_those_of_the_text(
            lines in prop::collection::vec("\\PC{0,30}", 0..5),
            language in prop::sample::select(&Language::ALL[..]),
        ) {
            let of_each = lines.iter().flat_map(|line| words(line, language)).collect();
            prop_assert_eq!(weighted(of_each), document(&lines.join("\n"), language));
        }
    }

    #[test]
    fn a_language_finds_inflected_words() {
        let (question, text) = ("connecting pipes", "the pipe connects");
        assert_eq!(shared(question, text), 0);
        assert_eq!(shared_in(Language::English, question, text), 2);
        assert_eq!(shared_in(Language::German, "Häusern", "das Haus, die Häuser"), 1);
        // Other scripts are left alone.
        assert_eq!(shared_in(Language::English, "数据库", "我们的数据库坏了"), 3);
    }

    #[cfg(feature = "embedded")]
    #[test]
    fn the_vectors_are_those_of_qdrants_model() {
        let none = serde_json::json!({"languages": null, "custom": []});
        // The engine has no name for "no language": one without a stemmer comes to the same.
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
