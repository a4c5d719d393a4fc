#![doc = include_str!("../README.md")]

pub mod config;
mod error_chain;
pub mod id;
pub mod job;
pub mod message;
pub mod outage;
pub mod point;
pub mod retry;
pub mod session;
mod sql;
#[cfg(feature = "tls")]
pub mod tls;

pub use error_chain::ErrorChain;
pub use id::{ChannelId, GuildId, InvalidId, MessageId, UserId};
pub use job::{Job, JobId, JobKind, JobQueue, MAX_REMOVALS, OutdatedSession, PayloadError, Task};
pub use message::{Author, ExcludedReason, Links, Message, MessageKind, SearchText};
pub use outage::{Outage, OutageLog};
pub use point::{InvalidModelSlug, ModelSlug, PointId};
pub use retry::{RetryDelays, RetryPolicy};
pub use session::{Eligibility, Revision, SessionId};
