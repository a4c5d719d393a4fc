//! Keeps the index's collections and the database's books together. Postgres is the truth; all of this can be done
//! again at any time, and is safe beside itself.
//!
//! - [`adopt`]: whose a collection is, and what to do with one that is new or another's.
//! - [`verify`]: compares collections with the truth, in both directions, and asks for jobs that mend what differs.
//! - [`presence`]: a process tells of itself, and of its memory.
//! - [`repair`]: the same for a single collection whose books are in doubt.
//! - [`backup`] and [`restore`]: copies of collections with their books, and their way back.

pub mod adopt;
pub mod backup;
mod manifest;
pub mod presence;
pub mod repair;
pub mod restore;
pub mod verify;
