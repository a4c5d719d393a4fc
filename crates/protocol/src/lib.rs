//! Guildex's protocol as a model that a checker runs in every order of its steps.
//!
//! The program's tests try what somebody thought of. This tries everything that can happen to one or two sessions
//! with two workers, a dispatcher, a sweeper, a repair and a few changes and faults: the truth, the ledger, Redis and
//! the index are plain values here, each [`Step`] does to them what the function of the same name does in the code, and
//! [`invariants`] says what must hold in every state that can be reached. See `docs/protocol.md`.
//!
//! What the model leaves out: time (a lease may end whenever it could), batches (their jobs succeed and fail one by
//! one anyway), several models (each has books and a collection of its own), and how messages become sessions.
//!
//! A [`Flaw`] takes one guard of the code away. A test shows for each that the checker then finds what goes wrong.

mod canonical;
mod config;
mod drain;
mod index;
pub mod invariants;
mod ledger;
mod repair;
mod state;
mod steps;
mod truth;
mod worker;

pub use config::{Config, Flaw};
pub use drain::drain;
pub use index::Point;
pub use ledger::{Job, JobState, Kind};
pub use repair::Repairer;
pub use state::{Left, State};
pub use steps::{Change, Step};
pub use truth::{Book, Content, Session};
pub use worker::{At, Held, Outcome, Plan};

/// A number of the sequence `session_revisions`; 0 is none.
pub type Revision = u8;
/// A row of the ledger.
pub type JobId = u8;
/// The place of a session in [`State::sessions`].
pub type SessionId = usize;
/// A tenant.
pub type GuildId = u8;
