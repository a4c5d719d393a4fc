#![doc = include_str!("../README.md")]

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
mod sql;
pub mod statistics;
pub mod status;
pub mod suppressions;
pub mod users;

pub use db::{
    MIGRATOR, StoreError, check_schema, connect, database_identity, lock_channel, lock_guild, migrate,
    schema_version, try_lock_retention, use_generic_plans,
};
