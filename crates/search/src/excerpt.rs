//! Which lines of a session to show.

use std::collections::HashSet;

use guildex_store::sessions::SessionMessage;
use unicode_segmentation::UnicodeSegmentation;

/// The longest excerpt, in characters.
const MAX_CHARS: usize = 300;

/// The message that shares most words with the query, and those after it, as far as there is room. Among equals
/// the earliest; without any shared word, the beginning of the session.
pub(crate) fn excerpt(messages: &[SessionMessage], query: &str) -> String {
    let asked = words(query);
    let shared = |message: &SessionMessage| words(message.text.as_str()).intersection(&asked).count();
    // `max_by_key` keeps the last of equals; reversed, the first.
    let best = messages.iter().enumerate().rev().max_by_key(|(_, message)| shared(message));
    let lines = messages
        .iter()
        .skip(best.map_or(0, |(place, _)| place))
        .map(|message| format!("{}: {}", message.author_name, message.text.as_str().replace('\n', " ")));
    let mut text = String::new();
    for line in lines {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&line);
        if text.chars().count() > MAX_CHARS {
            return text.chars().take(MAX_CHARS).chain(['…']).collect();
        }
    }
    text
}

fn words(text: &str) -> HashSet<String> {
    text.unicode_words().map(str::to_lowercase).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use guildex_types::SearchText;

    pub(crate) fn said(texts: &[&str]) -> Vec<SessionMessage> {
        (1..)
            .zip(texts)
            .map(|(id, text)| SessionMessage {
                id: id.try_into().unwrap(),
                author_id: 7.try_into().unwrap(),
                author_name: "ann".into(),
                sent_at: chrono::DateTime::UNIX_EPOCH,
                text: SearchText::from_parts([*text]),
                words: 1,
            })
            .collect()
    }

    #[test]
    fn an_excerpt_begins_with_the_line_that_fits_best() {
        let messages = said(&["hello all", "the Bed temperature is wrong", "set it to 60\ndegrees"]);
        assert_eq!(
            excerpt(&messages, "bed temperature"),
            "ann: the Bed temperature is wrong\nann: set it to 60 degrees"
        );
        assert_eq!(excerpt(&messages, "quarterly figures").lines().next(), Some("ann: hello all"));
        assert_eq!(excerpt(&[], "x"), "");
    }

    #[test]
    fn an_excerpt_is_cut_between_characters() {
        let text = excerpt(&said(&[&"é".repeat(1_000)]), "x");
        assert_eq!(text.chars().count(), MAX_CHARS + 1);
        assert!(text.ends_with('…'));
    }
}
