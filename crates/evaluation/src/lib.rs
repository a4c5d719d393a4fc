//! Measures how well searches find conversations that people marked.
//!
//! Of each marked conversation the first message is withheld and asked: what finds the rest? The parts are those
//! of production, from the export's reader to the fusion of ranks, so that a change to any of them shows here.
//! What is measured, and what it led to, is told in `docs/retrieval.md`.
//!
//! - [`Corpus`]: the channels, and the questions that they hold.
//! - [`Method`]: ways to make sessions, the one in use and two to compare it with.
//! - [`Bench`]: one model's collection of one method's sessions, asked in every mode.
//! - [`Scores`]: the measures.

mod bench;
mod corpus;
mod measure;
mod report;

pub use bench::{Bench, EvalError, Stage};
pub use corpus::{Corpus, Question};
pub use guildex_producer::eval::Method;
pub use measure::{Scores, Tally};
pub use report::{Report, Row, name_of};
