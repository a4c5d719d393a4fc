//! The truth in Postgres.
//!
//! One module an aggregate: [`channels`], [`messages`], [`sessions`], [`models`], their [`indexed_sessions`] (and [`reconcile_view`],
//! which compares), and [`jobs`], the ledger; what a search reads of them is in [`search`]. What is taken away goes
//! through [`soft_delete`], what may not come back is in [`suppressions`], and the receipts are [`erasures`]. [`processes`] are those
//! of the program, [`statistics`] are what the server plans by, and [`health`] tells whether it does its part.
//! Every call that reads or deletes a tenant's data takes its [`GuildId`](guildex_types::GuildId); only the
//! ledger's own machinery (dispatch, claim, sweep) works across guilds, on job ids.
//!
//! Functions take a [`PgConnection`](sqlx::PgConnection) where the caller owns the transaction, and a
//! [`PgPool`](sqlx::PgPool) where they are a whole step of their own.

pub mod channels;
mod copy;
mod db;
pub mod erasures;
pub mod health;
pub mod indexed_sessions;
pub mod jobs;
pub mod messages;
pub mod models;
pub mod processes;
pub mod reconcile_view;
pub mod scheduler_tasks;
pub mod search;
pub mod sessions;
pub mod soft_delete;
pub mod statistics;
pub mod status;
pub mod suppressions;

pub use db::{
    MIGRATOR, StoreError, check_schema, connect, database_identity, lock_channel, lock_guild, migrate,
    schema_version, try_lock_retention, use_generic_plans,
};
