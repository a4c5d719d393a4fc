//! What can be wrong with an export. Nothing here repeats what the file says.

use std::io;
use std::path::PathBuf;

use serde_json::error::Category;

use super::source::MAX_ELEMENT;

/// An export that could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault} (byte {offset} of the uncompressed JSON)", .path.display())]
pub struct ExportError {
    /// The file.
    pub path: PathBuf,
    /// How far the reading came, in bytes of the JSON after decompression.
    pub offset: u64,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The operating system does not let it be read: missing, a directory, no permission, a bad disk.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The compressed data is damaged or cut short.
    #[error("its gzip data is damaged or cut short: {0}")]
    Gzip(io::Error),
    /// There is nothing in it.
    #[error("is empty")]
    Empty,
    /// It ends in the middle of the JSON.
    #[error("its JSON is cut short")]
    CutShort,
    /// It is not JSON from some point on.
    #[error("its JSON is broken: {0}")]
    Syntax(serde_json::Error),
    /// One message, or one field beside the messages, is larger than any that Discord has.
    #[error("a single message or field in it is larger than {} MiB", MAX_ELEMENT >> 20)]
    TooLarge,
    /// It is some other file.
    #[error("is no DiscordChatExporter JSON export, where `guild` and `channel` come before `messages`")]
    NotAnExport,
    /// The guild or channel cannot be told.
    #[error("its `{part}` cannot be read: {reason}")]
    Header {
        /// `guild` or `channel`.
        part: &'static str,
        /// What is wrong with it.
        reason: Reason,
    },
    /// It holds direct messages, which belong to no guild.
    #[error("holds direct messages; only the channels of a guild can be taken in")]
    DirectMessages,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::FileTooLarge => Self::TooLarge,
            // What the system did not report, the decompressor did.
            _ if error.raw_os_error().is_none() => Self::Gzip(error),
            _ => Self::Unreadable(error),
        }
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        match error.classify() {
            Category::Io => Self::from(io::Error::from(error)),
            Category::Eof => Self::CutShort,
            Category::Syntax => Self::Syntax(error),
            // Its own words would quote the value that was found.
            Category::Data => Self::NotAnExport,
        }
    }
}

/// What is wrong with a message, or with the guild or channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A string in it is not Unicode (half a surrogate pair), a number is out of range, or it nests too deeply.
    #[error("a string or number in it has no value, or it nests too deeply")]
    Unsound,
    /// It has more text than any message of Discord's.
    #[error("it has more than 32,000 characters of text")]
    TooLong,
    /// A field is missing or has the wrong type.
    #[error("at `{path}`: a field is missing or has the wrong type")]
    Shape {
        /// The field or its parent, like `author.id`; `.` for the whole.
        path: String,
    },
    /// What should be an id is none.
    #[error("`{field}` is no id")]
    Id {
        /// The field, like `author.id`.
        field: &'static str,
    },
    /// What should be a time is none, or is not of Discord's days.
    #[error("`{field}` is no time between 2015 and 2200")]
    Time {
        /// The field, like `timestamp`.
        field: &'static str,
    },
}
