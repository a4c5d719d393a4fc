#![doc = include_str!("../README.md")]

mod error;
mod fields;
mod find;
mod header;
mod message;
mod page;
mod parser;
mod reader;
mod source;

pub use error::{ErrorKind, ExportError, RejectReason};
pub use find::{FindError, find_exports};
pub use header::{ChannelInfo, ChannelKind, Header, Parent};
pub use page::{Outcome, Page, Rejected};
pub use reader::read_export;
