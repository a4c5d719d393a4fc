#![doc = include_str!("../README.md")]

pub mod bm25;
mod collection;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod fusion;
mod point;
mod query;
#[cfg(feature = "server")]
mod server;
mod sparse;
mod vector_index;

pub use collection::{
    BulkLoad, Collection, CollectionName, Difference, Ensured, Identity, InvalidCollectionName,
};
#[cfg(feature = "embedded")]
pub use embedded::EmbeddedIndex;
pub use error::Error;
pub use fusion::Fusion;
pub use point::{Payload, Point, PointHeader, Preview};
pub use query::{Filter, Hit, MAX_LIMIT, Mode, Page, PointSelector, Query, Scope};
#[cfg(feature = "server")]
pub use server::{InvalidServerConfig, QdrantServer, Quantization, ServerConfig};
pub use sparse::SparseVector;
pub use vector_index::VectorIndex;
