//! Benchmarks: how fast the parts and the whole are, in figures that anyone can have again.
//!
//! Each module is one benchmark and gives a [`Report`], which is text and JSON. Whatever is measured is the program
//! itself: [`Program`]s run as processes of their own, so that their memory and processor time are theirs alone, on a
//! [`Scratch`] that nobody else has: a database, a prefix in Redis, and a folder.
//!
//! - [`embed`]: texts through the model, and nothing else.
//! - [`ingest`]: exports into Postgres, and messages into sessions.
//! - [`queue`]: jobs that do nothing, through ledger and Redis.
//! - [`pipeline`]: a backfill, from queued jobs to recorded points, beside the model alone.
//! - [`freshness`]: how soon a search finds what somebody just wrote.
//! - [`search`]: searches among many sessions.
//!
//! [`generate`] makes as much chat as they want.

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
mod scratch;
pub mod search;

pub use error::BenchError;
pub use program::{Program, Running, Spent};
pub use report::{Report, round};
pub use scratch::{Scratch, Servers};
