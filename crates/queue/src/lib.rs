//! Guildex's queues in Redis, and the one place that knows apalis-redis and its traps.
//!
//! Redis only wakes and feeds workers with the *ids* of jobs. What a job is, how often it was tried and who
//! holds it is the ledger's to know, in Postgres; so Redis may lose everything at any time, and a delivery may
//! come twice or for a job that is long done. There is one queue a [`JobQueue`](guildex_types::JobQueue).
//!
//! - [`Queues`]: push, consume, count, and keep tidy.
//! - [`Delivery`]: what a handler gets.
//! - [`Config`]: where Redis is and how patient to be.
//!
//! ```no_run
//! # use guildex_queue::{Config, Delivery, Queues};
//! # use guildex_types::{JobQueue, JobId};
//! # use tokio_util::sync::CancellationToken;
//! # async fn example() -> Result<(), guildex_queue::QueueError> {
//! let queues = Queues::connect(&Config::default()).await?;
//! queues.push(JobQueue::Live, &[JobId::new()]).await?;
//!
//! let stop = CancellationToken::new();
//! let handler = |delivery: Delivery| async move { tracing::info!(?delivery, "at work") };
//! queues.consume(JobQueue::Live, 4, "worker", handler, stop).await;
//! # Ok(())
//! # }
//! ```

mod config;
mod consume;
mod delivery;
mod error;
mod health;
mod janitor;
mod known;
mod outage;
mod queues;
#[cfg(feature = "testing")]
pub mod testing;

pub use config::Config;
pub use delivery::Delivery;
pub use error::QueueError;
pub use health::Checkup;
pub use janitor::Trimmed;
pub use queues::{Queues, WINDOW};
