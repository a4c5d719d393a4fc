//! Messages: insert, edit and read them in channel order.

mod read;
mod row;
mod write;

pub use self::read::{Position, assigned_after, assigned_before, stored, unassigned};
pub use self::row::AssignedMessage;
pub use self::write::{NewMessage, apply_edits, insert, set_exclusions, set_session};
