//! Tests of searches, on Postgres, an index and a model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod consistency;
mod filters;
mod isolation;
mod names;
mod outage;
mod support;
