//! Tests of ingest, import, erasure and the scheduler, on Postgres and Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod erase;
mod import;
mod ingest;
mod names;
mod pages;
mod scheduler;
