//! Writes the truth.
//!
//! - [`export`]: reads DiscordChatExporter's files.
//! - [`import`]: files into Postgres.
//! - [`ingest`]: a message, its session and its job, in one transaction. A bot calls this for live messages.
//! - [`removal`]: what somebody deleted in Discord; [`forget`]: whole members, channels and guilds, opting out, and
//!   receipts; [`retention`]: what is kept no longer.
//! - [`sessionizer`]: which messages belong together.
//! - [`eval`]: how well the sessionizer does.
//! - [`dispatcher`]: due jobs from Postgres into Redis.
//! - [`backfill`]: whole channels.
//! - [`reindex`]: a new model's collection, for all of them.

pub mod backfill;
pub mod dispatcher;
pub mod forget;
pub mod import;
pub mod ingest;
pub mod reindex;
pub mod removal;
pub mod retention;
pub mod sessionizer;
