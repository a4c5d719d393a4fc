//! Tests of the whole program: its processes, with a real Postgres, Redis, model and embedded index.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]
#![cfg(feature = "embedded")]

mod export;
mod feed;
mod points;
mod world;

mod backfill;
mod backup;
mod bench;
mod crashes;
mod doctor;
mod forget;
mod hostile;
mod index_folder;
mod init;
mod jobs;
mod models;
mod order;
mod outages;
mod privacy;
mod removal;
mod reports;
mod retrieval;
mod samples;
mod scale;
mod server;
mod serving;
mod verify;
