use std::path::PathBuf;

use guildex_types::PointId;

use crate::CollectionName;

/// Why the index could not do what it was asked. Carries names and ids, never content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process works on the folder.
    #[error("the index in {} is in use by process {holder}; only one may hold it", dir.display())]
    InUse {
        /// The index's folder.
        dir: PathBuf,
        /// The process id, or what is known of it.
        holder: String,
    },
    /// No such collection: call [`ensure`](crate::VectorIndex::ensure) first.
    #[error("there is no collection {0}")]
    NoCollection(CollectionName),
    /// The collection holds other vectors than wanted.
    #[error("the collection {collection} does not fit: {difference}")]
    Mismatch {
        /// Which one.
        collection: CollectionName,
        /// Where it differs.
        difference: String,
    },
    /// What is stored cannot be opened or has vanished.
    #[error(
        "the collection in {} is damaged ({reason}): stop the program, delete this folder and start it, and all is indexed again",
        folder.display()
    )]
    Damaged {
        /// The collection's folder.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What was to be restored is not a whole snapshot.
    #[error("{} holds no snapshot that can be restored: {reason}", folder.display())]
    NotASnapshot {
        /// The snapshot's folder.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A dense vector that the collection cannot hold.
    #[error("a dense vector of {given} finite values was given, {expected} are needed")]
    Vector {
        /// The collection's dimensions.
        expected: usize,
        /// How many finite values the vector had.
        given: usize,
    },
    /// A stored payload that this release does not understand.
    #[error("the payload of point {0} cannot be read")]
    Payload(PointId),
    /// The folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The index does not answer, or not in time: the call may be repeated, and fits once it answers again.
    #[error("the index is away: {0}")]
    Unavailable(String),
    /// The index has no room left on its disk: deletions and searches may go on, writes fit once there is some.
    #[error(
        "the index is out of disk space ({0}): free some or give it more; what was refused is tried again"
    )]
    Full(String),
    /// The index server is too old for what is asked of it.
    #[error("the index server is version {found}; {needed} or later is needed")]
    Outdated {
        /// What it says of itself.
        found: String,
        /// The oldest that will do.
        needed: &'static str,
    },
    /// The engine failed; the call may be repeated.
    #[error("the index engine failed: {0}")]
    Engine(String),
    /// The index is being shut down.
    #[error("the index is closed")]
    Closed,
}

impl Error {
    /// Whether the index is away: whatever was asked of it is not at fault, and asking for something else now
    /// would end the same way. One without room takes no writes from anybody, so it counts as away, and nobody
    /// loses attempts to it.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full(_) | Self::Outdated { .. })
    }
}
