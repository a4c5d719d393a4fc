//! Restores a backup.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use guildex_index::{Identity, VectorIndex};
use guildex_producer::{Ingest, IngestError};
use guildex_store::indexed_sessions::{self, IndexedSession};
use guildex_store::models::{self, IndexModel};
use guildex_store::{StoreError, database_identity, jobs, schema_version};
use guildex_types::{GuildId, ModelSlug};
use uuid::Uuid;

use crate::backup::{BackupError, Line};
use crate::manifest::{self, Manifest, Saved};
use crate::ownership::{OwnershipError, model_collection};
use crate::verify::{Repaired, VerifyError, repair_collection};

/// Rows written per statement.
const PAGE: usize = 1_000;

/// Error of restoring a backup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory does not contain a valid backup.
    #[error(transparent)]
    Folder(#[from] BackupError),
    /// The backup belongs to another database.
    #[error("the backup was made from another database")]
    WrongDatabase,
    /// The backup was made with another schema version.
    #[error(
        "the backup has schema version {theirs}, the database has {ours}: restore with the release that made the backup"
    )]
    Schema {
        /// Version of the backup.
        theirs: i64,
        /// Version of the database.
        ours: i64,
    },
    /// The backup has no model of the database.
    #[error(
        "the backup has the models {theirs}, the database has {ours}: switch with `guildex reindex --to`"
    )]
    Models {
        /// Models of the backup.
        theirs: String,
        /// Models of the database.
        ours: String,
    },
    /// Jobs are running, whose points would be lost.
    #[error("{0} jobs are running: stop all workers first")]
    Busy(u64),
    /// A collection name is invalid.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] guildex_index::Error),
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The repair failed. Repeat the restore.
    #[error(transparent)]
    Repair(#[from] VerifyError),
    /// Missing sessions could not be enqueued.
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

/// Replaces the collections of all models that the backup contains, and repairs them: sessions deleted or changed since the
/// backup are removed or reindexed. If it is interrupted, the collections count as out of date and are not used until it
/// is run again.
///
/// # Errors
/// If the backup is incomplete or does not fit the database, jobs are running, or the index fails.
pub async fn restore(
    ingest: &Ingest,
    index: &dyn VectorIndex,
    prefix: &str,
    folder: &Path,
) -> Result<Vec<(ModelSlug, Repaired)>, Error> {
    let manifest = Manifest::read(folder)?;
    let pool = ingest.pool();
    if manifest.database != database_identity(pool).await? {
        return Err(Error::WrongDatabase);
    }
    let (theirs, ours) = (manifest.schema, schema_version(pool).await?);
    if theirs != ours {
        return Err(Error::Schema { theirs, ours });
    }
    let mut lock = pool.begin().await.map_err(StoreError::from)?;
    models::lock(&mut lock).await?;
    let pairs = pair(&manifest, models::list(pool).await?)?;
    let running = jobs::running(pool).await?;
    if running > 0 {
        return Err(Error::Busy(running));
    }
    let mut restored = Vec::new();
    for (saved, model) in pairs {
        let repaired = restore_model(ingest, index, prefix, folder, (saved, &model)).await?;
        restored.push((model.slug, repaired));
    }
    lock.commit().await.map_err(StoreError::from)?;
    Ok(restored)
}

/// Models that both the backup and the database have.
fn pair(manifest: &Manifest, kept: Vec<IndexModel>) -> Result<Vec<(&Saved, IndexModel)>, Error> {
    let names = |slugs: Vec<String>| if slugs.is_empty() { "none".to_owned() } else { slugs.join(", ") };
    let theirs = names(manifest.collections.iter().map(|saved| saved.model.to_string()).collect());
    let ours = names(kept.iter().map(|model| model.slug.to_string()).collect());
    let maintained = kept.into_iter().filter(|model| model.state.is_maintained());
    let pairs: Vec<_> = maintained
        .filter_map(|model| {
            let fits = |saved: &&Saved| saved.model == model.slug && saved.dimensions == model.dimensions;
            Some((manifest.collections.iter().find(fits)?, model))
        })
        .collect();
    if pairs.is_empty() { Err(Error::Models { theirs, ours }) } else { Ok(pairs) }
}

/// Assigns a new collection id in the database first and writes the identity last, so that the collection is not used in
/// between.
async fn restore_model(
    ingest: &Ingest,
    index: &dyn VectorIndex,
    prefix: &str,
    folder: &Path,
    (saved, model): (&Saved, &IndexModel),
) -> Result<Repaired, Error> {
    let collection = model_collection(prefix, model).map_err(OwnershipError::from)?;
    let identity = Identity { database: database_identity(ingest.pool()).await?, index: Uuid::new_v4() };
    let mut tx = ingest.pool().begin().await.map_err(StoreError::from)?;
    models::replace_index(&mut tx, &model.slug, identity.index).await?;
    tx.commit().await.map_err(StoreError::from)?;

    index.restore(&collection, &manifest::points(folder, &saved.collection)).await?;
    read_rows(ingest, &model.slug, &manifest::rows(folder, &saved.collection)).await?;
    let repaired = repair_collection(ingest, index, &collection.name, &model.slug).await?;
    index.set_identity(&collection.name, identity).await?;
    Ok(repaired)
}

async fn read_rows(ingest: &Ingest, model: &ModelSlug, path: &Path) -> Result<(), Error> {
    let io = |source| BackupError::Io { path: path.to_owned(), source };
    let mut page: (Option<GuildId>, Vec<IndexedSession>) = (None, Vec::new());
    for line in BufReader::new(File::open(path).map_err(io)?).lines() {
        let Line { guild, record } =
            serde_json::from_str(&line.map_err(io)?).map_err(|error| io(error.into()))?;
        if page.0 != Some(guild) || page.1.len() >= PAGE {
            write_rows(ingest, model, &mut page).await?;
            page.0 = Some(guild);
        }
        page.1.push(record);
    }
    write_rows(ingest, model, &mut page).await
}

async fn write_rows(
    ingest: &Ingest,
    model: &ModelSlug,
    (guild, page): &mut (Option<GuildId>, Vec<IndexedSession>),
) -> Result<(), Error> {
    if let Some(guild) = guild {
        indexed_sessions::restore(ingest.pool(), *guild, model, page).await?;
    }
    page.clear();
    Ok(())
}
