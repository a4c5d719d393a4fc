//! Tests of both indexes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod agreement;
mod contract;
mod embedded;
mod server;
mod support;
