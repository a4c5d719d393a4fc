//! What index jobs write: the collections of all models that are kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guildex_consistency::adopt::{AdoptError, adopt};
use guildex_index::{CollectionName, VectorIndex};
use guildex_producer::Ingest;
use guildex_store::StoreError;
use guildex_store::models::{self, IndexModel, ModelState};
use guildex_types::ModelSlug;
use tokio::sync::Mutex;
use uuid::Uuid;

/// How old the list of models may be. What is recorded is checked against the newest.
const FRESH: Duration = Duration::from_secs(1);

/// A model whose collection is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub model: ModelSlug,
    pub state: ModelState,
    pub collection: CollectionName,
}

/// What a job has to do with all models that there are.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    /// All models, as the database has them.
    pub kept: Arc<[IndexModel]>,
    /// The collections to write.
    pub targets: Arc<[Target]>,
}

/// The models' collections, as they come and go: `guildex reindex` changes the models in the database, and
/// workers make, name and remove their collections.
pub struct Targets {
    ingest: Ingest,
    index: Arc<dyn VectorIndex>,
    base: String,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    latest: Option<(Instant, Current)>,
    /// Collections that are known to be this database's, as long as the books name the same ones.
    adopted: BTreeMap<ModelSlug, (Option<Uuid>, CollectionName)>,
    /// Whose collection the alias names.
    alias: Option<ModelSlug>,
}

impl Targets {
    /// The models of the database behind `ingest`, in collections whose names begin with `base`.
    pub fn new(ingest: Ingest, index: Arc<dyn VectorIndex>, base: String) -> Self {
        Self { ingest, index, base, seen: Mutex::default() }
    }

    /// Looks after the models for ever: makes, names and removes collections while there are no jobs.
    pub(crate) async fn watch(&self) {
        loop {
            tokio::time::sleep(2 * FRESH).await;
            if let Err(error) = self.current().await {
                tracing::debug!(%error, "the models could not be looked after");
            }
        }
    }

    /// The targets of now, or of a moment ago.
    pub(crate) async fn current(&self) -> Result<Current, AdoptError> {
        let mut seen = self.seen.lock().await;
        if let Some((at, current)) = &seen.latest
            && at.elapsed() < FRESH
        {
            return Ok(current.clone());
        }
        let read = Instant::now();
        let mut kept = models::list(self.ingest.pool()).await?;
        let mut targets = Vec::with_capacity(kept.len());
        for model in &mut kept {
            if model.state == ModelState::Dropping {
                self.drop_collection(&mut seen, model).await?;
                continue;
            }
            let collection = self.adopted(&mut seen, model).await?;
            // As of the adoption: what is written goes there.
            model.index_id = seen.adopted.get(&model.slug).and_then(|(index_id, _)| *index_id);
            if model.state == ModelState::Active {
                self.name(&mut seen, model, &collection).await;
            }
            targets.push(Target { model: model.slug.clone(), state: model.state, collection });
        }
        let current = Current { kept: kept.into(), targets: targets.into() };
        seen.latest = Some((read, current.clone()));
        Ok(current)
    }

    async fn adopted(&self, seen: &mut Seen, model: &IndexModel) -> Result<CollectionName, AdoptError> {
        if let Some((index_id, name)) = seen.adopted.get(&model.slug)
            && model.index_id.is_some()
            && *index_id == model.index_id
        {
            return Ok(name.clone());
        }
        let name = adopt(&self.ingest, self.index.as_ref(), &self.base, model).await?;
        let index_id = models::index_id(self.ingest.pool(), &model.slug).await?;
        seen.adopted.insert(model.slug.clone(), (index_id, name.clone()));
        Ok(name)
    }

    async fn drop_collection(&self, seen: &mut Seen, model: &IndexModel) -> Result<(), AdoptError> {
        let name = CollectionName::new(&self.base, &model.slug)?;
        self.index.collections().drop_collection(&name).await?;
        models::delete(self.ingest.pool(), &model.slug).await?;
        seen.adopted.remove(&model.slug);
        tracing::info!(model = %model.slug, "dropped the model's collection");
        Ok(())
    }

    /// Other readers follow the alias. Searches of ours do not, so a failure stops nobody.
    async fn name(&self, seen: &mut Seen, model: &IndexModel, collection: &CollectionName) {
        if seen.alias.as_ref() == Some(&model.slug) {
            return;
        }
        match self.index.collections().point_alias(&self.base, collection).await {
            Ok(()) => seen.alias = Some(model.slug.clone()),
            Err(error) => tracing::warn!(%error, alias = %self.base, "the alias could not be moved"),
        }
    }
}

/// The models that changed sessions are embedded for.
///
/// # Errors
/// If Postgres fails.
pub(crate) async fn kept_in_step(ingest: &Ingest) -> Result<Vec<ModelSlug>, StoreError> {
    let kept = models::list(ingest.pool()).await?;
    Ok(kept.into_iter().filter(|model| model.state.is_maintained()).map(|model| model.slug).collect())
}
