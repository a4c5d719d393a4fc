//! Tests of the worker, on Postgres, Redis, an index and a model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod fairness;
mod hang;
mod limits;
mod models;
mod outage;
mod races;
mod records;
mod removal;
mod repair;
mod support;
mod verify;
mod worker;
