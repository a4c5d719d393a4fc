//! Answers a question to a guild's memory: for a bot, an API or a command line, by one call, [`Searcher::search`].
//!
//! The index is a view that may lag behind. So nothing is shown on its word alone: every hit is joined with
//! Postgres, which says whether the session lives, whether the point shows its recorded state, and what its
//! text is. What was deleted is not found from the moment its deletion commits.
//!
//! Each search reads from Postgres which model is the active one, so that the question is embedded by the model
//! whose collection it is put to. If index or model is away, a search fails in time, or, where the configuration
//! says so, is answered from Postgres by words alone ([`SearchResponse::degraded`]).

mod config;
mod error;
mod excerpt;
mod fallback_search;
mod phrase;
mod request;
mod response;
mod searcher;
mod show;
mod vector_search;

pub use config::{Fallback, SearchConfig};
pub use error::{Dependency, SearchError};
pub use excerpt::Excerpt;
pub use request::{InvalidRequest, MAX_DEPTH, MAX_LIMIT, MAX_QUERY, MAX_SURROUNDING, SearchRequest};
pub use response::{Chunk, SearchHit, SearchResponse, Surrounding, SurroundingMessage};
pub use searcher::Searcher;
