#![doc = include_str!("../README.md")]

mod assign_sessions;
pub mod backfill;
mod config;
mod delete;
mod enqueue;
mod erase;
pub mod import;
mod ingest;
pub mod reindex;
pub mod scheduler;
pub mod sessionizer;

pub use config::{EnqueueConfig, IngestConfig, OptOutConfig, SchedulerConfig, SessionsConfig};
pub use enqueue::Enqueuer;
pub use ingest::{Ingest, IngestError, Ingested};
pub use scheduler::Scheduler;
