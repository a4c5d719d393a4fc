//! Compares the truth with the index, in both directions, and mends what differs through ordinary jobs.
//!
//! Points are walked by their ids and looked up in Postgres; sessions are walked by channel and looked up in the
//! index, by the ids that their points ought to have. Each walk holds one page in memory, whatever there is in all.
//! Jobs may go on meanwhile: what an unfinished job will put right is told as in progress, and what differs is looked
//! at a second time, so that a change between two reads is not taken for a difference.

mod guild;
mod judge;
mod mend;
mod report;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use guildex_index::{CollectionName, VectorIndex};
use guildex_producer::Ingest;
use guildex_store::models::{self, IndexModel, ModelState};
use guildex_store::{StoreError, channels, reconcile_view};
use guildex_types::{GuildId, ModelSlug};
use serde::{Deserialize, Serialize};

use crate::adopt::{self, AdoptError, adopt};
use guild::Walk;
pub use report::{Example, Found, GuildReport, Kind, ModelReport, Report};

/// What the truth and the index are compared with.
#[derive(Clone)]
pub struct Verifier {
    /// The truth, and the way to ask for jobs.
    pub ingest: Ingest,
    /// The index.
    pub index: Arc<dyn VectorIndex>,
    /// What the names of its collections begin with.
    pub base: String,
}

/// What to compare, and what to do about it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Request {
    /// One guild; `None` for all.
    pub guild: Option<GuildId>,
    /// Whether to ask for jobs that mend what differs.
    pub repair: bool,
    /// How many examples of each kind to tell, for each guild and model.
    pub examples: usize,
}

/// How far a comparison is: points and sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Those that were looked at.
    pub done: u64,
    /// Those that there were at the beginning.
    pub total: u64,
}

/// Why a comparison did not come to its end. It can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A collection is another's, or out of date.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] guildex_index::Error),
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Verifier {
    /// Compares every model's collection with the truth. One that is gone holds nothing; a repair makes it anew.
    ///
    /// # Errors
    /// If a collection is not this database's, or index or Postgres fail.
    pub async fn verify(
        &self,
        request: &Request,
        tell: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Report, VerifyError> {
        let mut models = models::list(self.ingest.pool()).await?;
        models.retain(|model| model.state != ModelState::Dropping);
        let counter = Counter { done: AtomicU64::new(0), total: AtomicU64::new(0), tell };
        let mut report = Report::default();
        for model in models {
            let name = self.collection(&model, request.repair).await?;
            let comparison = Comparison {
                ingest: &self.ingest,
                collection: name.as_ref().map(|name| (self.index.as_ref(), name)),
                model: &model.slug,
                is_maintained: model.state.is_maintained(),
                repair: request.repair,
                examples: request.examples,
            };
            let guilds = comparison.run(request.guild, &counter).await?;
            report.push(ModelReport { model: model.slug, state: model.state, guilds });
        }
        Ok(report)
    }

    /// The model's collection, if there is one.
    async fn collection(
        &self,
        model: &IndexModel,
        repair: bool,
    ) -> Result<Option<CollectionName>, AdoptError> {
        let (index, base) = (self.index.as_ref(), self.base.as_str());
        if repair && model.state.is_maintained() {
            return adopt(&self.ingest, index, base, model).await.map(Some);
        }
        match adopt::verify(&self.ingest, index, base, model).await {
            Err(AdoptError::Unfinished(_)) => Ok(None),
            name => name.map(Some),
        }
    }
}

/// One collection and the truth.
pub(crate) struct Comparison<'a> {
    pub ingest: &'a Ingest,
    /// `None` where there is none: it holds nothing.
    pub collection: Option<(&'a dyn VectorIndex, &'a CollectionName)>,
    pub model: &'a ModelSlug,
    /// Whether anything can be missing. A collection that only shrinks may hold no more than it ought to.
    pub is_maintained: bool,
    pub repair: bool,
    pub examples: usize,
}

impl Comparison<'_> {
    /// Goes through every guild that the index or the database knows, or through one.
    pub async fn run(
        &self,
        only: Option<GuildId>,
        counter: &Counter<'_>,
    ) -> Result<Vec<GuildReport>, VerifyError> {
        let guilds = match only {
            Some(guild) => BTreeSet::from([guild]),
            None => self.guilds().await?,
        };
        for guild in &guilds {
            if let Some((index, name)) = self.collection {
                counter.expect(index.count(name, *guild).await? as u64);
            }
            if self.is_maintained {
                counter.expect(reconcile_view::count_live(self.ingest.pool(), *guild).await?);
            }
        }
        let mut reports = Vec::with_capacity(guilds.len());
        for guild in guilds {
            let mut walk = Walk { of: self, guild, report: GuildReport::new(guild) };
            walk.points(counter).await?;
            if self.is_maintained {
                walk.sessions(counter).await?;
            }
            reports.push(walk.report);
        }
        Ok(reports)
    }

    async fn guilds(&self) -> Result<BTreeSet<GuildId>, VerifyError> {
        let mut guilds = BTreeSet::new();
        if let Some((index, name)) = self.collection {
            guilds.extend(index.guilds(name).await?);
        }
        let mut db = self.ingest.pool().acquire().await.map_err(StoreError::from)?;
        guilds.extend(channels::guilds(&mut db).await?);
        Ok(guilds)
    }
}

/// Tells how far a comparison is.
pub(crate) struct Counter<'a> {
    done: AtomicU64,
    total: AtomicU64,
    tell: &'a (dyn Fn(Progress) + Send + Sync),
}

impl Counter<'_> {
    /// Tells nobody.
    pub fn silent() -> Self {
        Self { done: AtomicU64::new(0), total: AtomicU64::new(0), tell: &|_| {} }
    }

    fn expect(&self, more: u64) {
        self.total.fetch_add(more, Ordering::Relaxed);
    }

    fn count(&self, more: usize) {
        let done = self.done.fetch_add(more as u64, Ordering::Relaxed) + more as u64;
        // What came in meanwhile was not expected.
        let total = self.total.load(Ordering::Relaxed).max(done);
        (self.tell)(Progress { done, total });
    }
}
