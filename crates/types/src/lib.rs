//! Guildex's vocabulary: what every other crate talks about, and nothing that does I/O.
//!
//! - [`id`]: Discord's snowflakes, one type a kind of thing, so that a channel never passes for a guild.
//! - [`message`]: a message as a source hands it over, and why some are left out of sessions.
//! - [`session`]: conversation sessions, their identity, revisions and who is worth indexing.
//! - [`job`]: the work that the ledger keeps, as versioned payloads.
//! - [`config`]: how configuration structs write and check their values.
//! - [`point`]: where a chunk of a session lives in the vector index.
//! - [`retry`]: retry delays; [`outage`]: log lines for outages.

pub mod config;
mod error_chain;
pub mod id;
pub mod job;
pub mod message;
pub mod outage;
pub mod point;
pub mod retry;
pub mod session;

pub use error_chain::ErrorChain;
pub use id::{ChannelId, GuildId, InvalidId, MessageId, UserId};
pub use job::{Job, JobClass, JobId, JobKind, MAX_REMOVALS, Outdated, PayloadError, Task};
pub use message::{Author, Links, Message, MessageKind, SearchText, Skip};
pub use outage::{Outage, OutageLog};
pub use point::{InvalidModelSlug, ModelSlug, PointId};
pub use retry::{RetryDelays, RetryPolicy};
pub use session::{Eligibility, Revision, SessionId};
