use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;

use guildex_store::sessions::SessionMessage;
use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

/// Maximum length of a chunk's excerpt, in characters.
const MAX_CHARS: usize = 300;

/// Excerpt of message texts.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Excerpt(String);

impl Excerpt {
    /// Formats messages as lines from the first on, truncated to the maximum length.
    pub(crate) fn lines(messages: &[&SessionMessage]) -> Self {
        let mut text = String::new();
        for message in messages {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("{}: {}", message.author_name, message.text.as_str().replace('\n', " ")));
            if text.chars().count() > MAX_CHARS {
                break;
            }
        }
        Self::truncated(&text, MAX_CHARS)
    }

    /// Formats messages from the one that shares most words with the query on. Of equal ones the earliest wins; without
    /// a shared word the excerpt starts at the first message.
    pub(crate) fn best_lines(messages: &[&SessionMessage], query: &str) -> Self {
        let query = words(query);
        let shared = |message: &SessionMessage| words(message.text.as_str()).intersection(&query).count();
        // `max_by_key` returns the last of equals, so the order is reversed.
        let best = messages.iter().enumerate().rev().max_by_key(|(_, message)| shared(message));
        Self::lines(messages.get(best.map_or(0, |(position, _)| position)..).unwrap_or_default())
    }

    /// Truncates a text to a number of characters.
    pub(crate) fn truncated(text: &str, max_chars: usize) -> Self {
        match text.char_indices().nth(max_chars) {
            Some((end, _)) => Self(format!("{}…", text.get(..end).unwrap_or_default())),
            None => Self(text.to_owned()),
        }
    }
}

impl Deref for Excerpt {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Shows the length only: content is private.
impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Excerpt({} bytes)", self.0.len())
    }
}

fn words(text: &str) -> HashSet<String> {
    text.unicode_words().map(str::to_lowercase).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use guildex_types::SearchText;

    pub(crate) fn messages(texts: &[&str]) -> Vec<SessionMessage> {
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

    fn best_lines(texts: &[&str], query: &str) -> String {
        let messages = messages(texts);
        Excerpt::best_lines(&messages.iter().collect::<Vec<_>>(), query).to_string()
    }

    #[test]
    fn excerpts_begin_at_the_best_line() {
        let talk = ["hello all", "the Bed temperature is wrong", "set it to 60\ndegrees"];
        assert_eq!(
            best_lines(&talk, "bed temperature"),
            "ann: the Bed temperature is wrong\nann: set it to 60 degrees"
        );
        assert_eq!(best_lines(&talk, "quarterly figures").lines().next(), Some("ann: hello all"));
        assert_eq!(best_lines(&[], "x"), "");
    }

    #[test]
    fn excerpts_are_truncated_at_character_boundaries() {
        let text = best_lines(&[&"é".repeat(1_000)], "x");
        assert_eq!(text.chars().count(), MAX_CHARS + 1);
        assert!(text.ends_with('…'));
        assert_eq!(&*Excerpt::truncated("🦀🦀", 2), "🦀🦀");
        assert_eq!(&*Excerpt::truncated("🦀🦀🦀", 2), "🦀🦀…");
    }

    #[test]
    fn debug_output_omits_the_text() {
        assert!(!format!("{:?}", Excerpt::truncated("my secret", 100)).contains("secret"));
    }
}
