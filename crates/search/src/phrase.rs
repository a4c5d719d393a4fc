//! Whether somebody said exactly what is asked.

use guildex_store::sessions::SessionMessage;
use unicode_segmentation::UnicodeSegmentation;

/// A query of at least two words, as it would stand in a message: words in order, whatever their case and
/// punctuation.
pub(crate) struct Phrase(Option<String>);

impl Phrase {
    pub fn of(query: &str) -> Self {
        let words = words(query);
        Self((words.matches(' ').count() > 2).then_some(words))
    }

    /// Whether the query has words enough to be a phrase.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the message holds the whole phrase.
    pub fn is_in(&self, message: &SessionMessage) -> bool {
        self.0.as_ref().is_some_and(|phrase| words(message.text.as_str()).contains(phrase))
    }
}

/// The words, each between blanks, so that a phrase is not found inside of words.
fn words(text: &str) -> String {
    let mut line = String::from(" ");
    for word in text.unicode_words() {
        line.extend(word.chars().flat_map(char::to_lowercase));
        line.push(' ');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::excerpt::tests::said;

    #[test]
    fn a_phrase_is_found_whatever_its_case_and_punctuation() {
        let message = &said(&["Well: the BED, temperature is wrong!"])[0];
        assert!(Phrase::of("bed temperature").is_in(message));
        assert!(Phrase::of("The bed temperature is WRONG").is_in(message));
        assert!(!Phrase::of("temperature bed").is_in(message));
        assert!(!Phrase::of("ed temperature").is_in(message), "half a word is no word");
    }

    #[test]
    fn a_single_word_is_no_phrase() {
        let message = &said(&["the bed"])[0];
        for query in ["bed", "  "] {
            assert!(!Phrase::of(query).is_some() && !Phrase::of(query).is_in(message));
        }
    }
}
