//! Answers a question to a guild's memory: for a bot, an API or a command line, by one call, [`Searcher::search`].
//!
//! The index is a view that may lag behind. So nothing is shown on its word alone: every hit is joined with
//! Postgres, which says whether the session lives, whether the point shows its recorded state, and what its
//! text is. What was deleted is not found from the moment its deletion commits.
//!
//! Each search reads from Postgres which model is the active one, so that the question is embedded by the model
//! whose collection it is put to. If index or model is away, a search fails in time, or, where the configuration
//! says so, is answered from Postgres by words alone ([`Results::degraded`]).

mod by_index;
mod by_words;
mod config;
mod error;
mod excerpt;
mod phrase;
mod request;
mod results;
mod searcher;
mod show;

pub use config::{Fallback, SearchConfig};
pub use error::{Part, SearchError};
pub use excerpt::Excerpt;
pub use request::{InvalidRequest, MAX_DEPTH, MAX_LIMIT, MAX_NEIGHBOURS, MAX_QUERY, Request};
pub use results::{Chunk, Found, Neighbour, Neighbours, Results};
pub use searcher::Searcher;
