//! Which lines of a session to show.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;

use guildex_store::sessions::SessionMessage;
use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

/// The longest excerpt of a chunk, in characters.
const MAX_CHARS: usize = 300;

/// A part of what was said.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Excerpt(String);

impl Excerpt {
    /// The lines of the messages, from the first on, as far as there is room.
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
        Self::cut(&text, MAX_CHARS)
    }

    /// The message that shares most words with the query, and those after it, as far as there is room. Among
    /// equals the earliest; without any shared word, the beginning.
    pub(crate) fn fitting(messages: &[&SessionMessage], query: &str) -> Self {
        let asked = words(query);
        let shared = |message: &SessionMessage| words(message.text.as_str()).intersection(&asked).count();
        // `max_by_key` keeps the last of equals; reversed, the first.
        let best = messages.iter().enumerate().rev().max_by_key(|(_, message)| shared(message));
        Self::lines(messages.get(best.map_or(0, |(place, _)| place)..).unwrap_or_default())
    }

    /// The first so many characters of a text.
    pub(crate) fn cut(text: &str, max_chars: usize) -> Self {
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

/// Content is private: a debug print shows its length alone.
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

    fn fitting(texts: &[&str], query: &str) -> String {
        let messages = said(texts);
        Excerpt::fitting(&messages.iter().collect::<Vec<_>>(), query).to_string()
    }

    #[test]
    fn an_excerpt_begins_with_the_line_that_fits_best() {
        let talk = ["hello all", "the Bed temperature is wrong", "set it to 60\ndegrees"];
        assert_eq!(
            fitting(&talk, "bed temperature"),
            "ann: the Bed temperature is wrong\nann: set it to 60 degrees"
        );
        assert_eq!(fitting(&talk, "quarterly figures").lines().next(), Some("ann: hello all"));
        assert_eq!(fitting(&[], "x"), "");
    }

    #[test]
    fn an_excerpt_is_cut_between_characters() {
        let text = fitting(&[&"é".repeat(1_000)], "x");
        assert_eq!(text.chars().count(), MAX_CHARS + 1);
        assert!(text.ends_with('…'));
        assert_eq!(&*Excerpt::cut("🦀🦀", 2), "🦀🦀");
        assert_eq!(&*Excerpt::cut("🦀🦀🦀", 2), "🦀🦀…");
    }

    #[test]
    fn a_debug_print_does_not_show_the_text() {
        assert!(!format!("{:?}", Excerpt::cut("my secret", 100)).contains("secret"));
    }
}
