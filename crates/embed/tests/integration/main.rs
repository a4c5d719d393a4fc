//! Tests of models and of the HTTP client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod http;
mod model;
mod runtime;
mod support;
