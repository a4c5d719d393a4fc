#![doc = include_str!("../README.md")]

mod config;
mod deadline;
mod error;
mod excerpt;
mod fallback_search;
mod phrase;
mod present;
mod request;
mod response;
mod searcher;
mod vector_search;

pub use config::{Fallback, SearchConfig};
pub use error::{Dependency, SearchError};
pub use excerpt::Excerpt;
pub use request::{InvalidRequest, MAX_DEPTH, MAX_LIMIT, MAX_QUERY, MAX_SURROUNDING, SearchRequest};
pub use response::{Chunk, SearchHit, SearchResponse, Surrounding, SurroundingMessage};
pub use searcher::Searcher;
