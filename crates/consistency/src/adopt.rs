//! Making sure that a collection and the books belong together.
//!
//! Database and collection remember each other: the database names the collection that its books tell of, and the
//! collection names both (its [`Identity`]). So a collection of another database is refused, and so is one that
//! another has replaced; and one that is gone is noticed, and made anew.

use guildex_index::{Collection, CollectionName, Ensured, Identity, InvalidCollectionName, VectorIndex};
use guildex_producer::backfill;
use guildex_producer::{Ingest, IngestError};
use guildex_store::models::{self, IndexModel};
use guildex_store::{StoreError, database_identity};
use uuid::Uuid;

/// Why a collection cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// It holds another database's sessions.
    #[error(
        "the collection {0} was made from another database: set index.collection_prefix or data_dir to another, or \
         replace it with `guildex init --recreate`"
    )]
    Foreign(CollectionName),
    /// It is not the one that the database's books tell of.
    #[error(
        "the collection {0} is out of date, since another took its place: point Guildex to that one, or replace \
         this one with `guildex init --recreate`"
    )]
    Replaced(CollectionName),
    /// It was never finished.
    #[error("there is no index of the model {0} yet: `guildex up` or `guildex worker` makes it")]
    Unfinished(guildex_types::ModelSlug),
    /// The model's name and the configured one make no collection's name.
    #[error(transparent)]
    Name(#[from] InvalidCollectionName),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] guildex_index::Error),
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is lost could not be asked for again.
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

impl AdoptError {
    /// Whether only the index's being away is in the way.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Index(error) if error.is_away())
    }
}

/// The collection that belongs to a model.
///
/// # Errors
/// If the two names do not go together.
pub fn collection_of(base: &str, model: &IndexModel) -> Result<Collection, InvalidCollectionName> {
    Ok(Collection { name: CollectionName::new(base, &model.slug)?, dims: model.dimensions })
}

/// Makes the model's collection if there is none, and makes sure that it is this database's. Where it is new
/// and the books tell of an older one, everything is asked for again. Safe beside itself, in any process.
///
/// # Errors
/// If the collection is another's, or index or Postgres fail.
pub async fn adopt(
    ingest: &Ingest,
    index: &dyn VectorIndex,
    base: &str,
    model: &IndexModel,
) -> Result<CollectionName, AdoptError> {
    let collection = collection_of(base, model)?;
    // One at a time: two would both find it new. The lock has a connection of its own.
    let mut lock = ingest.pool().begin().await.map_err(StoreError::from)?;
    models::lock(&mut lock).await?;
    let collections = index.collections();
    let is_new = collections.ensure(&collection).await? == Ensured::Created;
    match collections.identity(&collection.name).await?.filter(|_| !is_new) {
        Some(identity) => check(ingest, &collection.name, model, identity).await?,
        None => drop(start_over(ingest, index, &collection.name, model).await?),
    }
    lock.commit().await.map_err(StoreError::from)?;
    Ok(collection.name)
}

/// Drops the model's collection and makes it anew; all that was in it is asked for again. Returns how many sessions
/// that is.
///
/// # Errors
/// If index or Postgres fail.
pub async fn recreate(
    ingest: &Ingest,
    index: &dyn VectorIndex,
    base: &str,
    model: &IndexModel,
) -> Result<u64, AdoptError> {
    let collection = collection_of(base, model)?;
    let mut lock = ingest.pool().begin().await.map_err(StoreError::from)?;
    models::lock(&mut lock).await?;
    index.collections().drop_collection(&collection.name).await?;
    index.collections().ensure(&collection).await?;
    let lost = start_over(ingest, index, &collection.name, model).await?;
    lock.commit().await.map_err(StoreError::from)?;
    Ok(lost)
}

/// The model's collection, if it is there, whole and this database's.
///
/// # Errors
/// If it is not, or index or Postgres fail.
pub async fn verify(
    ingest: &Ingest,
    index: &dyn VectorIndex,
    base: &str,
    model: &IndexModel,
) -> Result<CollectionName, AdoptError> {
    let name = collection_of(base, model)?.name;
    let unfinished = || AdoptError::Unfinished(model.slug.clone());
    let identity = match index.collections().identity(&name).await {
        Err(guildex_index::Error::NoCollection(_)) => return Err(unfinished()),
        identity => identity?.ok_or_else(unfinished)?,
    };
    check(ingest, &name, model, identity).await?;
    Ok(name)
}

async fn check(
    ingest: &Ingest,
    name: &CollectionName,
    model: &IndexModel,
    identity: Identity,
) -> Result<(), AdoptError> {
    if identity.database != database_identity(ingest.pool()).await? {
        return Err(AdoptError::Foreign(name.clone()));
    }
    if models::index_id(ingest.pool(), &model.slug).await? != Some(identity.index) {
        return Err(AdoptError::Replaced(name.clone()));
    }
    Ok(())
}

/// Takes a collection that nobody has worked with for the model's: what the books say of an older one is void, and
/// is indexed again. The identity comes last: until it is written, the collection counts as new.
///
/// # Errors
/// If index or Postgres fail.
pub(crate) async fn start_over(
    ingest: &Ingest,
    index: &dyn VectorIndex,
    name: &CollectionName,
    model: &IndexModel,
) -> Result<u64, AdoptError> {
    let identity = Identity { database: database_identity(ingest.pool()).await?, index: Uuid::new_v4() };
    let lost = backfill::replace_index(ingest.pool(), ingest.enqueuer(), &model.slug, identity.index).await?;
    if lost > 0 {
        tracing::warn!(
            sessions = lost, model = %model.slug,
            "the collection is new, but the database knows of an older one: indexing all again"
        );
    }
    index.collections().set_identity(name, identity).await?;
    Ok(lost)
}
