//! Compares the collections of all models, or one collection, with Postgres.

use std::sync::Arc;

use guildex_index::{CollectionName, VectorIndex};
use guildex_producer::Ingest;
use guildex_store::models::{self, IndexModel, ModelState};
use guildex_types::{GuildId, ModelSlug};
use serde::{Deserialize, Serialize};

use super::error::VerifyError;
use super::progress::{Progress, ProgressCounter};
use super::report::{ModelReport, Report};
use super::scan::CollectionScan;
use crate::ownership::{OwnershipError, ensure_owned, find_owned};

/// Compares the collections of a database with Postgres.
#[derive(Clone)]
pub struct Verifier {
    /// Postgres, and the settings of jobs.
    pub ingest: Ingest,
    /// Index with the collections.
    pub index: Arc<dyn VectorIndex>,
    /// Prefix of the collections' names.
    pub prefix: String,
}

/// Parameters of a comparison.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Request {
    /// Guild to compare; default all.
    pub guild: Option<GuildId>,
    /// Whether to enqueue jobs that repair differences.
    pub repair: bool,
    /// Maximum number of examples per guild, model and kind of difference.
    pub examples: usize,
}

impl Verifier {
    /// Compares every model's collection with Postgres. A missing collection counts as empty; a repair creates it.
    ///
    /// # Errors
    /// If a collection belongs to another database, or the index fails.
    pub async fn verify(
        &self,
        request: &Request,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Report, VerifyError> {
        let mut models = models::list(self.ingest.pool()).await?;
        models.retain(|model| model.state != ModelState::Dropping);
        let counter = ProgressCounter::new(progress);
        let mut report = Report::default();
        for model in models {
            let name = self.collection(&model, request.repair).await?;
            let scan = CollectionScan {
                ingest: &self.ingest,
                collection: name.as_ref().map(|name| (self.index.as_ref(), name)),
                model: &model.slug,
                is_maintained: model.state.is_maintained(),
                repair: request.repair,
                examples: request.examples,
            };
            let guilds = scan.run(request.guild, &counter).await?;
            report.push(ModelReport { model: model.slug, state: model.state, guilds });
        }
        Ok(report)
    }

    /// The model's collection, if it exists.
    async fn collection(
        &self,
        model: &IndexModel,
        repair: bool,
    ) -> Result<Option<CollectionName>, OwnershipError> {
        let (index, prefix) = (self.index.as_ref(), self.prefix.as_str());
        if repair && model.state.is_maintained() {
            return ensure_owned(&self.ingest, index, prefix, model).await.map(Some);
        }
        match find_owned(&self.ingest, index, prefix, model).await {
            Err(OwnershipError::NotInitialized(_)) => Ok(None),
            name => name.map(Some),
        }
    }
}

/// Result of a repair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// Sessions whose points are correct.
    pub consistent: u64,
    /// Sessions enqueued for indexing.
    pub reindexed: u64,
    /// Sessions that no longer exist and whose points are enqueued for removal.
    pub orphaned: u64,
}

/// Compares one collection with Postgres for all guilds, without checking its ownership, and enqueues jobs that repair
/// differences. Can be repeated.
///
/// # Errors
/// If the index fails.
pub async fn repair_collection(
    ingest: &Ingest,
    index: &dyn VectorIndex,
    collection: &CollectionName,
    model: &ModelSlug,
) -> Result<Repaired, VerifyError> {
    let scan = CollectionScan {
        ingest,
        collection: Some((index, collection)),
        model,
        is_maintained: true,
        repair: true,
        examples: 0,
    };
    let mut repaired = Repaired::default();
    for guild in scan.run(None, &ProgressCounter::new(&|_| {})).await? {
        repaired.consistent += guild.consistent;
        repaired.reindexed += guild.to_index;
        repaired.orphaned += guild.to_remove;
    }
    Ok(repaired)
}
