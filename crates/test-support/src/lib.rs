//! Support shared by the tests of several crates. It may panic.
//!
//! - [`damage`]: damaged and altered input, for tests of parsers.
//! - [`builders`]: messages and authors.
//! - [`export_document`] and others: exports as DiscordChatExporter writes them.
//! - `channels` (feature `store`): channels and threads.
//! - `sync` (feature `sync`): waiting for and blocking other tasks.
//! - `locks` (feature `locks`): waiting for statements that Postgres' locks block.
//! - `index` (feature `index`): an embedded index, some calls of which a test intercepts.
//! - `servers` (feature `servers`): a private PostgreSQL and Redis, which a test may kill and freeze.
//! - `qdrant` (feature `qdrant`): a stand-in for a Qdrant server, with faults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::time::Duration;

pub use export::{export_document, export_json, export_message};

pub mod builders;
#[cfg(feature = "store")]
pub mod channels;
pub mod damage;
mod export;
#[cfg(feature = "index")]
pub mod index;
#[cfg(feature = "locks")]
pub mod locks;
#[cfg(feature = "qdrant")]
pub mod qdrant;
#[cfg(feature = "servers")]
pub mod servers;
#[cfg(feature = "sync")]
pub mod sync;

/// A timeout that only a hung test reaches.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);
