//! Answers a query: embeds it, asks the index, and joins the hits with the truth.
//!
//! The index is a view that may lag behind. So nothing is shown on its word alone: every hit is joined with
//! Postgres, which says whether the session lives, whether the point shows its recorded state, and what its
//! text is. What was deleted is not found from the moment its deletion commits.

mod excerpt;
mod phrase;
mod request;
mod searcher;

pub use request::{Found, Request, Results};
pub use searcher::{SearchError, Searcher};
