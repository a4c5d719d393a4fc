#![doc = include_str!("../README.md")]

mod circuit_breaker;
mod claimed_job;
mod claimer;
mod completer;
mod config;
mod fan_out;
mod job_context;
mod job_router;
pub mod jobs;
mod lease_keeper;
mod model_collections;
mod pipeline;
mod retry;
mod time_limits;
mod watchdog;
mod worker;

pub use config::{Concurrency, WorkerConfig};
pub use time_limits::{TimeLimit, TimeLimits};
pub use watchdog::{EXIT_HUNG, HangHandler, exit_hung};
pub use worker::Worker;
