//! Errors of reading annotated channels.

use std::io;
use std::path::PathBuf;

use guildex_discord_export::ExportError;
use guildex_types::MessageId;

/// An annotated channel cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A file or folder cannot be read.
    #[error("{}: {source}", .path.display())]
    Read {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The folder holds no annotations.
    #[error("{}: no annotations (*.json) in this folder", .0.display())]
    NoAnnotations(PathBuf),
    /// The file is not an annotation file.
    #[error("{}: not an annotation file: {source}", .path.display())]
    Invalid {
        /// Annotation file.
        path: PathBuf,
        /// Cause.
        source: serde_json::Error,
    },
    /// A message is annotated twice.
    #[error("{}: message {id} is annotated twice", .path.display())]
    Repeated {
        /// Annotation file.
        path: PathBuf,
        /// Repeated message.
        id: MessageId,
    },
    /// A channel has an export but no annotations, or the other way round.
    #[error("{}: missing {missing}", .path.display())]
    Unpaired {
        /// Existing file.
        path: PathBuf,
        /// Path of the missing file.
        missing: String,
    },
    /// The export cannot be read.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Annotations and export belong to different channels.
    #[error("{}: belongs to another channel than {}", .annotations.display(), .export.display())]
    OtherChannel {
        /// Annotation file.
        annotations: PathBuf,
        /// Export file.
        export: PathBuf,
    },
    /// An annotated message is missing in the export, or is a system message.
    #[error("{}: message {id} is not a conversation message of {}", .annotations.display(), .export.display())]
    NoSuchMessage {
        /// Annotation file.
        annotations: PathBuf,
        /// Export file.
        export: PathBuf,
        /// Annotated message.
        id: MessageId,
    },
}
