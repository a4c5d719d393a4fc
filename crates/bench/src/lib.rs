#![doc = include_str!("../README.md")]

pub mod embed;
mod error;
pub mod freshness;
pub mod generate;
pub mod ingest;
pub mod measure;
pub mod pipeline;
mod program;
pub mod queue;
mod report;
mod sandbox;
pub mod search;

pub use error::BenchError;
pub use program::{Program, Running, Spent};
pub use report::{Report, round};
pub use sandbox::{Sandbox, Servers};
