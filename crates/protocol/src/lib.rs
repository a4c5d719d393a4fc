#![doc = include_str!("../README.md")]

mod canonical;
mod claimed_job;
mod config;
mod content;
mod drain;
mod ids;
mod index;
pub mod invariants;
mod jobs;
mod model;
mod postgres;
mod producer;
mod repair;
mod scheduler;
mod state;
mod steps;
mod worker;

pub use claimed_job::{ClaimedJob, Outcome, Stage};
pub use config::{Config, Mutation};
pub use content::Content;
pub use drain::drain;
pub use ids::{GuildId, JobId, Revision, SessionId};
pub use index::{Point, PointId};
pub use jobs::{Job, JobKind, JobQueue, JobState};
pub use postgres::{IndexedSession, LoadedSession, Session};
pub use state::{Remaining, RepairProgress, State};
pub use steps::{Change, Step};
