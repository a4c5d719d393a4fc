//! Errors of a comparison.

use guildex_store::StoreError;

use crate::ownership::OwnershipError;

/// Error of a comparison, which can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A collection belongs to another database or is out of date.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] guildex_index::Error),
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
