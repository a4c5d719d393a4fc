//! Sessions: revisions, content for index jobs, and records of what was indexed.

mod load;
mod missing;
mod record;
mod revisions;

pub use self::load::{Indexed, Session, SessionMessage, load};
pub use self::missing::missing;
pub use self::record::{Record, Recorded, begin_rewrite, record, superseded};
pub use self::revisions::{Changed, MAX_REVISION, bump_revisions, lock, next_revision, raise_sequence_above};
