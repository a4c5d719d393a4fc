//! Reads for searches: which hits are visible, what is shown of them, and full-text search in Postgres.

mod show;
mod surrounding;
mod word_index;
mod words;

pub use show::{HitKey, Shown, live, show, visible};
pub use surrounding::{Side, Span, SurroundingMessage, surrounding};
pub use word_index::ensure_word_index;
pub use words::{Match, Words, by_words};
