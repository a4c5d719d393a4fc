#![doc = include_str!("../README.md")]

mod chunking;
mod content_hash;
mod point_draft;
mod session_text;
#[cfg(test)]
mod testing;

pub use chunking::CHUNK_TOKENS;
pub use content_hash::content_hash;
pub use point_draft::PointDraft;
pub use session_text::SessionText;
