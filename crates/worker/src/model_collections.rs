//! Collections that index jobs write, one for each model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guildex_consistency::ownership::{OwnershipError, ensure_owned};
use guildex_index::{CollectionName, VectorIndex};
use guildex_producer::Ingest;
use guildex_store::models::{self, IndexModel, ModelState};
use guildex_types::ModelSlug;
use tokio::sync::Mutex;
use uuid::Uuid;

/// Maximum age of the cached models. Records are checked against the current ones.
const MAX_AGE: Duration = Duration::from_secs(1);

/// A model's collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelCollection {
    pub model: ModelSlug,
    pub state: ModelState,
    pub collection: CollectionName,
}

/// Models and collections at one time.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// All models in the database.
    pub models: Arc<[IndexModel]>,
    /// Collections to write.
    pub collections: Arc<[ModelCollection]>,
}

/// Creates and drops collections as models are added to and removed from the database, and moves the alias to the
/// active model's.
pub(crate) struct ModelCollections {
    ingest: Ingest,
    index: Arc<dyn VectorIndex>,
    prefix: String,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    latest: Option<(Instant, Snapshot)>,
    /// Collections known to belong to this database, by the index id that it records for them.
    owned: BTreeMap<ModelSlug, (Option<Uuid>, CollectionName)>,
    /// Model whose collection the alias points to.
    alias: Option<ModelSlug>,
}

impl ModelCollections {
    /// Models of the database behind `ingest`, in collections whose names begin with `prefix`.
    pub fn new(ingest: Ingest, index: Arc<dyn VectorIndex>, prefix: String) -> Self {
        Self { ingest, index, prefix, cache: Mutex::default() }
    }

    /// Applies changes of models while there are no jobs, without end.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(2 * MAX_AGE).await;
            if let Err(error) = self.current().await {
                tracing::debug!(%error, "failed to update the models' collections");
            }
        }
    }

    /// Current models and collections, at most [`MAX_AGE`] old.
    pub async fn current(&self) -> Result<Snapshot, OwnershipError> {
        let mut cache = self.cache.lock().await;
        if let Some((at, snapshot)) = &cache.latest
            && at.elapsed() < MAX_AGE
        {
            return Ok(snapshot.clone());
        }
        let read_at = Instant::now();
        let mut models = models::list(self.ingest.pool()).await?;
        let mut collections = Vec::with_capacity(models.len());
        for model in &mut models {
            if model.state == ModelState::Dropping {
                self.drop_collection(&mut cache, model).await?;
                continue;
            }
            let collection = self.owned(&mut cache, model).await?;
            // The index that is written from now on, which may be newer than the row.
            model.index_id = cache.owned.get(&model.slug).and_then(|(index_id, _)| *index_id);
            if model.state == ModelState::Active {
                self.set_alias(&mut cache, model, &collection).await;
            }
            collections.push(ModelCollection { model: model.slug.clone(), state: model.state, collection });
        }
        let snapshot = Snapshot { models: models.into(), collections: collections.into() };
        cache.latest = Some((read_at, snapshot.clone()));
        Ok(snapshot)
    }

    async fn owned(&self, cache: &mut Cache, model: &IndexModel) -> Result<CollectionName, OwnershipError> {
        if let Some((index_id, name)) = cache.owned.get(&model.slug)
            && model.index_id.is_some()
            && *index_id == model.index_id
        {
            return Ok(name.clone());
        }
        let name = ensure_owned(&self.ingest, self.index.as_ref(), &self.prefix, model).await?;
        let index_id = models::index_id(self.ingest.pool(), &model.slug).await?;
        cache.owned.insert(model.slug.clone(), (index_id, name.clone()));
        Ok(name)
    }

    async fn drop_collection(&self, cache: &mut Cache, model: &IndexModel) -> Result<(), OwnershipError> {
        let name = CollectionName::new(&self.prefix, &model.slug)?;
        self.index.drop_collection(&name).await?;
        models::delete(self.ingest.pool(), &model.slug).await?;
        cache.owned.remove(&model.slug);
        tracing::info!(model = %model.slug, collection = %name, "collection dropped");
        Ok(())
    }

    /// Only other readers use the alias, so that a failure is no reason to stop.
    async fn set_alias(&self, cache: &mut Cache, model: &IndexModel, collection: &CollectionName) {
        if cache.alias.as_ref() == Some(&model.slug) {
            return;
        }
        match self.index.set_alias(&self.prefix, collection).await {
            Ok(()) => cache.alias = Some(model.slug.clone()),
            Err(error) => tracing::warn!(%error, alias = %self.prefix, "failed to set the collection alias"),
        }
    }
}
