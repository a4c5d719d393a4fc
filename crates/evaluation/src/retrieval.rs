//! Measures searches: the first message of each annotated conversation is withheld and searched for.
//!
//! - [`Corpus`]: the channels and their questions.
//! - [`Evaluation`]: one collection per model and method of making sessions, searched in every mode.
//! - [`Scores`]: the measures.
//!
//! Results and conclusions are in `docs/retrieval.md`.

mod corpus;
mod error;
mod evaluation;
mod report;
mod scores;

pub use crate::sessions::Method;
pub use corpus::{Corpus, Question};
pub use error::RetrievalError;
pub use evaluation::{EmbeddingProgress, Evaluation};
pub use report::{Report, Row};
pub use scores::{Scores, Tally};
