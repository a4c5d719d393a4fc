//! Changing the model: fills a new collection with what it lacks while the old one serves.

use guildex_store::{StoreError, channels, jobs, models, status};
use guildex_types::ModelSlug;

use crate::backfill;
use crate::ingest::{Ingest, IngestError};

/// Lets every index job write the model's collection from now on, and asks for everything that it lacks: what it
/// holds already, from an earlier time or a run that was cut short, is not embedded again. Returns how many
/// channels are looked through.
///
/// # Errors
/// If the model's collection is being dropped, or Postgres fails.
pub async fn begin(ingest: &Ingest, model: &ModelSlug, dimensions: usize) -> Result<usize, IngestError> {
    models::start_filling(ingest.pool(), model, dimensions).await?;
    ask(ingest).await
}

/// Asks for all that any model lacks, in every guild.
///
/// # Errors
/// If Postgres fails.
pub async fn ask(ingest: &Ingest) -> Result<usize, IngestError> {
    let mut db = ingest.pool().acquire().await.map_err(StoreError::from)?;
    let guilds = channels::guilds(&mut db).await?;
    drop(db);
    let mut channels = 0;
    for guild in guilds {
        channels += backfill::plan(ingest, guild, None).await?;
    }
    Ok(channels)
}

/// How far a new model's collection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Sessions that are worth a place in it.
    pub eligible: u64,
    /// Those of them that it lacks at their latest revision.
    pub missing: u64,
    /// Unfinished jobs, of every kind.
    pub jobs: u64,
}

/// How far the model's collection is.
///
/// # Errors
/// If Postgres fails.
pub async fn progress(ingest: &Ingest, model: &ModelSlug) -> Result<Progress, StoreError> {
    let (eligible, missing) = status::coverage(ingest.pool(), model, ingest.config().eligible).await?;
    Ok(Progress { eligible, missing, jobs: jobs::unfinished(ingest.pool(), None).await? })
}
