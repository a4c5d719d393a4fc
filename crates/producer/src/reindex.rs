//! Fills the collection of a new model while the old one serves searches.

use guildex_store::{StoreError, channels, jobs, models, status};
use guildex_types::{Eligibility, ModelSlug};
use sqlx::PgPool;

use crate::backfill;
use crate::enqueue::Enqueuer;

/// Makes index jobs write to the model's collection from now on, and enqueues everything that is missing in it. Sessions
/// that it already holds, for example from an interrupted run, are not embedded again. Returns the number of channels.
///
/// # Errors
/// If the model's collection is being deleted, or Postgres fails.
pub async fn start(
    pool: &PgPool,
    enqueuer: &Enqueuer,
    model: &ModelSlug,
    dimensions: usize,
) -> Result<usize, StoreError> {
    models::start_filling(pool, model, dimensions).await?;
    plan_all(pool, enqueuer).await
}

/// Enqueues a backfill of every channel of every guild, for all models; returns the number of channels.
pub async fn plan_all(pool: &PgPool, enqueuer: &Enqueuer) -> Result<usize, StoreError> {
    let mut db = pool.acquire().await?;
    let guilds = channels::guilds(&mut db).await?;
    drop(db);
    let mut channels = 0;
    for guild in guilds {
        channels += backfill::plan(pool, enqueuer, guild, None).await?;
    }
    Ok(channels)
}

/// Progress of filling a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Eligible sessions.
    pub eligible: u64,
    /// Eligible sessions that are missing at their latest revision.
    pub missing: u64,
    /// Unfinished jobs of every kind.
    pub jobs: u64,
}

/// Returns the progress of filling the model's collection.
pub async fn progress(
    pool: &PgPool,
    eligibility: Eligibility,
    model: &ModelSlug,
) -> Result<Progress, StoreError> {
    let (eligible, missing) = status::coverage(pool, model, eligibility).await?;
    Ok(Progress { eligible, missing, jobs: jobs::unfinished(pool, None).await? })
}
