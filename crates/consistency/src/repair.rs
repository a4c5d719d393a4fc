//! Brings a collection whose books are in doubt back in step.

use guildex_index::{CollectionName, VectorIndex};
use guildex_producer::Ingest;
use guildex_types::ModelSlug;
use serde::{Deserialize, Serialize};

use crate::verify::{Comparison, Counter, VerifyError};

/// What a repair found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// Sessions that the collection holds as they are.
    pub sound: u64,
    /// Sessions that are to be indexed again.
    pub broken: u64,
    /// Sessions that are no more, whose points are to be removed.
    pub strays: u64,
}

/// Compares one collection, whoever's it is, with the truth, for every guild that either knows, and asks for jobs
/// that mend what differs.
///
/// # Errors
/// If index or Postgres fail. It can be repeated.
pub async fn repair(
    ingest: &Ingest,
    index: &dyn VectorIndex,
    collection: &CollectionName,
    model: &ModelSlug,
) -> Result<Repaired, VerifyError> {
    let comparison = Comparison {
        ingest,
        collection: Some((index, collection)),
        model,
        is_maintained: true,
        repair: true,
        examples: 0,
    };
    let mut repaired = Repaired::default();
    for guild in comparison.run(None, &Counter::silent()).await? {
        repaired.sound += guild.in_step;
        repaired.broken += guild.to_index;
        repaired.strays += guild.to_remove;
    }
    Ok(repaired)
}
