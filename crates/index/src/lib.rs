//! The vector index behind one trait, [`VectorIndex`]: a view of the truth in Postgres that can be rebuilt at
//! any time. It knows guilds, channels, sessions and revisions, and neither Discord, SQL nor models.
//!
//! Each chunk of a session is a [`Point`]: a dense vector, a sparse one of its words ([`bm25`]), and a
//! [`Payload`] that says where it belongs and which [`Revision`](guildex_types::Revision) of the session it
//! shows. A search ranks by both vectors under the same tenant filter and fuses the two ranks.
//!
//! With the feature `edge` there is `EmbeddedIndex`, the engine embedded in the process; with the feature `server`
//! there is `QdrantServer`, one that any number of processes share.

pub mod bm25;
mod collection;
mod collections;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod fusion;
mod index;
mod point;
mod query;
#[cfg(feature = "server")]
mod server;
mod sparse;

pub use collection::{Collection, CollectionName, InvalidCollectionName};
pub use collections::{Bulk, Collections, Difference, Ensured, Identity};
#[cfg(feature = "embedded")]
pub use embedded::EmbeddedIndex;
pub use error::Error;
pub use fusion::Fusion;
pub use index::VectorIndex;
pub use point::{Mark, Payload, Point, Preview};
pub use query::{Filter, Hit, MAX_LIMIT, Mode, Page, Query, Scope, Which};
#[cfg(feature = "server")]
pub use server::{ApiKey, InvalidServerConfig, QdrantServer, Quantization, ServerConfig};
pub use sparse::SparseVector;
