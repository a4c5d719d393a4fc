use guildex_store::sessions::SessionMessage;
use unicode_segmentation::UnicodeSegmentation;

/// Query of at least two words as an exact phrase: the same words in order, ignoring case and punctuation.
pub(crate) struct Phrase(Option<String>);

impl Phrase {
    pub fn new(query: &str) -> Self {
        let words = normalize(query);
        Self((words.matches(' ').count() > 2).then_some(words))
    }

    /// Whether the query has enough words to be a phrase.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the message contains the phrase.
    pub fn matches(&self, message: &SessionMessage) -> bool {
        self.0.as_ref().is_some_and(|phrase| normalize(message.text.as_str()).contains(phrase))
    }
}

/// Lowercase words, each between spaces, so that phrases match whole words only.
fn normalize(text: &str) -> String {
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
    use crate::excerpt::tests::messages;

    #[test]
    fn phrases_ignore_case_and_punctuation() {
        let message = &messages(&["Well: the BED, temperature is wrong!"])[0];
        assert!(Phrase::new("bed temperature").matches(message));
        assert!(Phrase::new("The bed temperature is WRONG").matches(message));
        assert!(!Phrase::new("temperature bed").matches(message));
        assert!(!Phrase::new("ed temperature").matches(message), "part of a word matched");
    }

    #[test]
    fn single_words_are_not_phrases() {
        let message = &messages(&["the bed"])[0];
        for query in ["bed", "  "] {
            assert!(!Phrase::new(query).is_some() && !Phrase::new(query).matches(message));
        }
    }
}
