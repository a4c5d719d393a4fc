//! Tests of the queues, on Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod cleanup;
mod delivery;
mod outage;
mod support;
