//! Ids and revisions.

/// Value of the sequence `session_revisions`; 0 means none.
pub type Revision = u8;
/// Id of a row of `jobs`.
pub type JobId = u8;
/// Position of a session in [`State::sessions`](crate::State::sessions).
pub type SessionId = usize;
/// Tenant id.
pub type GuildId = u8;
