//! Errors of a file and of a message. None of them quotes content.

use std::io;
use std::path::PathBuf;

use serde_json::error::Category;

use crate::source::MAX_ELEMENT;

/// An export could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind} (byte {offset} of the uncompressed JSON)", .path.display())]
pub struct ExportError {
    /// File path.
    pub path: PathBuf,
    /// Position of the error, in bytes of the uncompressed JSON.
    pub offset: u64,
    /// Cause.
    pub kind: ErrorKind,
}

/// Cause of an [`ExportError`].
#[derive(Debug, thiserror::Error)]
pub enum ErrorKind {
    /// The operating system cannot read the file: missing, a directory, no permission, a disk error.
    #[error("cannot read the file: {0}")]
    Unreadable(io::Error),
    /// The gzip data is damaged or truncated.
    #[error("the gzip data is damaged or truncated: {0}")]
    Gzip(io::Error),
    /// The file is empty.
    #[error("the file is empty")]
    Empty,
    /// The file ends in the middle of the JSON.
    #[error("the JSON is truncated")]
    Truncated,
    /// The JSON is invalid.
    #[error("invalid JSON: {0}")]
    Syntax(serde_json::Error),
    /// A single message or field is larger than any that Discord has.
    #[error("a single message or field is larger than {} MiB", MAX_ELEMENT >> 20)]
    TooLarge,
    /// The file is not an export.
    #[error("not a DiscordChatExporter JSON export (`guild` and `channel` must come before `messages`)")]
    NotAnExport,
    /// The guild or channel is invalid.
    #[error("invalid `{part}`: {reason}")]
    Header {
        /// `guild` or `channel`.
        part: &'static str,
        /// Cause.
        reason: RejectReason,
    },
    /// The export holds direct messages, which belong to no guild.
    #[error("the export holds direct messages; only guild channels can be imported")]
    DirectMessages,
}

impl From<io::Error> for ErrorKind {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::FileTooLarge => Self::TooLarge,
            // An error without an OS code comes from the decompressor.
            _ if error.raw_os_error().is_none() => Self::Gzip(error),
            _ => Self::Unreadable(error),
        }
    }
}

impl From<serde_json::Error> for ErrorKind {
    fn from(error: serde_json::Error) -> Self {
        match error.classify() {
            Category::Io => Self::from(io::Error::from(error)),
            Category::Eof => Self::Truncated,
            Category::Syntax => Self::Syntax(error),
            // The error's own text would quote the value.
            Category::Data => Self::NotAnExport,
        }
    }
}

/// Reason why a message, guild or channel is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// A string is not Unicode (half a surrogate pair), a number is out of range, or the value nests too deeply.
    #[error("a string is not valid Unicode, a number is out of range, or the value is nested too deeply")]
    InvalidValue,
    /// The message is longer than any that Discord has.
    #[error("more than 32,000 characters of text")]
    TooLong,
    /// A field is missing or has the wrong type.
    #[error("`{path}`: a field is missing or has the wrong type")]
    InvalidField {
        /// Path of the field or of its parent, such as `author.id`; `.` for the whole value.
        path: String,
    },
    /// A field is not an id.
    #[error("`{field}` is not an id")]
    InvalidId {
        /// Field path, such as `author.id`.
        field: &'static str,
    },
    /// A field is not a time, or lies outside the years of Discord.
    #[error("`{field}` is not a time between 2015 and 2200")]
    InvalidTime {
        /// Field name, such as `timestamp`.
        field: &'static str,
    },
}
