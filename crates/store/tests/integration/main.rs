//! Tests of the statements, on Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod connection;
mod job_admin;
mod jobs;
mod migrations;
mod partitions;
mod sessions;
mod users;
