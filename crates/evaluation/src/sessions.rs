//! Compares sessions with annotated conversations.
//!
//! The whole channel is partitioned, including bots and before any rule on which sessions are indexed. Only annotated
//! messages are scored.

mod annotations;
mod channel;
mod corpus;
mod error;
mod evaluation;
mod method;
mod report;
mod scores;

pub use channel::AnnotatedChannel;
pub use corpus::{ChannelFiles, find_channels};
pub use error::CorpusError;
pub use evaluation::evaluate;
pub use method::Method;
pub use report::{Figures, Report};
pub use scores::{Scores, score};
