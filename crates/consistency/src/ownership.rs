//! Collection ownership: ensures that a collection and a database belong together.
//!
//! Database and collection refer to each other:
//!
//! - the collection stores the [`Identity`] of its database and its own id;
//! - the database stores the id of the collection that its `indexed_sessions` rows describe.
//!
//! | collection | id in the database | result of [`ensure_owned`] |
//! |---|---|---|
//! | missing, or without identity | any | created; all recorded sessions are enqueued again |
//! | of this database | the same | used as it is |
//! | of this database | another | [`OwnershipError::Replaced`] |
//! | of another database | any | [`OwnershipError::WrongDatabase`] |
//!
//! The identity is written last. A process that stops earlier leaves a collection without identity, which the next call
//! treats as new.

use guildex_index::{Collection, CollectionName, Ensured, Identity, InvalidCollectionName, VectorIndex};
use guildex_producer::backfill;
use guildex_producer::{Ingest, IngestError};
use guildex_store::models::{self, IndexModel};
use guildex_store::{StoreError, database_identity};
use guildex_types::ModelSlug;
use uuid::Uuid;

/// Error of checking or creating a collection.
#[derive(Debug, thiserror::Error)]
pub enum OwnershipError {
    /// The collection contains sessions of another database.
    #[error(
        "the collection {0} belongs to another database: change index.collection_prefix or data_dir, or recreate the \
         collection with `guildex init --recreate`"
    )]
    WrongDatabase(CollectionName),
    /// It was replaced by another collection.
    #[error(
        "the collection {0} is out of date because another collection has replaced it: use that one, or recreate this \
         one with `guildex init --recreate`"
    )]
    Replaced(CollectionName),
    /// The collection does not exist or was never completed.
    #[error("the model {0} has no index yet: `guildex up` or `guildex worker` creates it")]
    NotInitialized(ModelSlug),
    /// The prefix and the model's name do not form a valid collection name.
    #[error(transparent)]
    Name(#[from] InvalidCollectionName),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] guildex_index::Error),
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Recorded sessions could not be enqueued.
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

impl OwnershipError {
    /// Whether the index is unavailable.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Index(error) if error.is_unavailable())
    }
}

/// Collection of a model.
///
/// # Errors
/// If `prefix` and the model's name do not form a valid name.
pub fn model_collection(prefix: &str, model: &IndexModel) -> Result<Collection, InvalidCollectionName> {
    Ok(Collection { name: CollectionName::new(prefix, &model.slug)?, dims: model.dimensions })
}

/// Creates the model's collection if it does not exist, and ensures that it belongs to this database. If it is new but the
/// database has records of an older one, all sessions are enqueued again. Safe to call concurrently from any process.
///
/// # Errors
/// If the collection belongs to another database or was replaced, or the index fails.
pub async fn ensure_owned(
    ingest: &Ingest,
    index: &dyn VectorIndex,
    prefix: &str,
    model: &IndexModel,
) -> Result<CollectionName, OwnershipError> {
    let collection = model_collection(prefix, model)?;
    // Serializes concurrent callers, which would both find the collection new. The lock has its own connection.
    let mut lock = ingest.pool().begin().await.map_err(StoreError::from)?;
    models::lock(&mut lock).await?;
    let is_new = index.ensure(&collection).await? == Ensured::Created;
    match index.identity(&collection.name).await?.filter(|_| !is_new) {
        Some(identity) => check_identity(ingest, &collection.name, model, identity).await?,
        None => drop(rebuild(ingest, index, &collection.name, model).await?),
    }
    lock.commit().await.map_err(StoreError::from)?;
    Ok(collection.name)
}

/// Drops and recreates the model's collection, and enqueues all its sessions. Returns their number.
///
/// # Errors
/// If the index fails.
pub async fn recreate(
    ingest: &Ingest,
    index: &dyn VectorIndex,
    prefix: &str,
    model: &IndexModel,
) -> Result<u64, OwnershipError> {
    let collection = model_collection(prefix, model)?;
    let mut lock = ingest.pool().begin().await.map_err(StoreError::from)?;
    models::lock(&mut lock).await?;
    index.drop_collection(&collection.name).await?;
    index.ensure(&collection).await?;
    let enqueued = rebuild(ingest, index, &collection.name, model).await?;
    lock.commit().await.map_err(StoreError::from)?;
    Ok(enqueued)
}

/// Returns the model's collection if it is complete and belongs to this database. Changes nothing.
///
/// # Errors
/// If it is missing, incomplete, replaced or of another database, or the index fails.
pub async fn find_owned(
    ingest: &Ingest,
    index: &dyn VectorIndex,
    prefix: &str,
    model: &IndexModel,
) -> Result<CollectionName, OwnershipError> {
    let name = model_collection(prefix, model)?.name;
    let not_initialized = || OwnershipError::NotInitialized(model.slug.clone());
    let identity = match index.identity(&name).await {
        Err(guildex_index::Error::NoCollection(_)) => return Err(not_initialized()),
        identity => identity?.ok_or_else(not_initialized)?,
    };
    check_identity(ingest, &name, model, identity).await?;
    Ok(name)
}

async fn check_identity(
    ingest: &Ingest,
    name: &CollectionName,
    model: &IndexModel,
    identity: Identity,
) -> Result<(), OwnershipError> {
    if identity.database != database_identity(ingest.pool()).await? {
        return Err(OwnershipError::WrongDatabase(name.clone()));
    }
    if models::index_id(ingest.pool(), &model.slug).await? != Some(identity.index) {
        return Err(OwnershipError::Replaced(name.clone()));
    }
    Ok(())
}

/// Assigns a new collection to the model: discards the records of an older one, enqueues its sessions again, and writes
/// the identity.
async fn rebuild(
    ingest: &Ingest,
    index: &dyn VectorIndex,
    name: &CollectionName,
    model: &IndexModel,
) -> Result<u64, OwnershipError> {
    let identity = Identity { database: database_identity(ingest.pool()).await?, index: Uuid::new_v4() };
    let enqueued =
        backfill::replace_index(ingest.pool(), ingest.enqueuer(), &model.slug, identity.index).await?;
    if enqueued > 0 {
        tracing::warn!(
            sessions = enqueued, model = %model.slug, collection = %name,
            "collection is new but the database has records of an older one; reindexing all sessions"
        );
    }
    index.set_identity(name, identity).await?;
    Ok(enqueued)
}
