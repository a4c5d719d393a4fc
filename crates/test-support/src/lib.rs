//! Support that the tests of several crates share. For tests alone: it may panic.
//!
//! - [`damage`]: damaged and altered input, for tests of what reads from outside.
//! - [`builders`]: messages and authors.
//! - [`export_document`] and others: exports as DiscordChatExporter writes them.
//! - `channels` (feature `store`): channels and threads.
//! - `sync` (feature `sync`): waiting for another task, and holding it up.
//! - `servers` (feature `servers`): a PostgreSQL and a Redis of the test's own, which it may kill and freeze.
//! - `qdrant` (feature `qdrant`): a stand-in for a Qdrant server, with faults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::time::Duration;

pub use export::{export_document, export_json, export_message};

pub mod builders;
#[cfg(feature = "store")]
pub mod channels;
pub mod damage;
mod export;
#[cfg(feature = "qdrant")]
pub mod qdrant;
#[cfg(feature = "servers")]
pub mod servers;
#[cfg(feature = "sync")]
pub mod sync;

/// The longest that a test waits for something. Ample for a busy machine; a passing test never waits that long.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);
