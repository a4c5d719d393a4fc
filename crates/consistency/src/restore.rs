//! The way back of a backup.

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

use crate::adopt::{AdoptError, collection_of};
use crate::backup::{BackupError, Line};
use crate::manifest::{self, Manifest, Saved};
use crate::repair::{Repaired, repair};
use crate::verify::VerifyError;

/// Books written at a time.
const PAGE: usize = 1_000;

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder holds no backup.
    #[error(transparent)]
    Folder(#[from] BackupError),
    /// It holds another database's sessions.
    #[error("the backup was made from another database: its collections do not fit this one's sessions")]
    Foreign,
    /// It was made under another schema.
    #[error(
        "the backup was made under schema {theirs}, the database has {ours}: use the release that made it"
    )]
    Schema {
        /// The backup's.
        theirs: i64,
        /// The database's.
        ours: i64,
    },
    /// It holds no model that the database keeps.
    #[error(
        "the backup holds the models {theirs}, the database keeps {ours}: `guildex reindex --to` changes that"
    )]
    Models {
        /// The backup's.
        theirs: String,
        /// The database's.
        ours: String,
    },
    /// What workers write meanwhile would be lost.
    #[error("{0} jobs are running: stop all workers first")]
    Busy(u64),
    /// The collection cannot be worked with.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] guildex_index::Error),
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The repair failed; it can be repeated.
    #[error(transparent)]
    Repair(#[from] VerifyError),
    /// What is missing could not be asked for.
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

/// Puts the backup's collections in the place of those of the same models, and repairs them: what was deleted or
/// changed since the backup is taken out and indexed again. Stopped at any point, it can be run again; until then the
/// collection counts as out of date, and nobody works with it.
///
/// # Errors
/// If the backup is not whole or does not fit the database, workers are running, or index or Postgres fail.
pub async fn restore(
    ingest: &Ingest,
    index: &dyn VectorIndex,
    base: &str,
    folder: &Path,
) -> Result<Vec<(ModelSlug, Repaired)>, Error> {
    let manifest = Manifest::read(folder)?;
    let pool = ingest.pool();
    if manifest.database != database_identity(pool).await? {
        return Err(Error::Foreign);
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
        let repaired = one(ingest, index, base, folder, (saved, &model)).await?;
        restored.push((model.slug, repaired));
    }
    lock.commit().await.map_err(StoreError::from)?;
    Ok(restored)
}

/// The models that the backup and the database both have.
fn pair(manifest: &Manifest, kept: Vec<IndexModel>) -> Result<Vec<(&Saved, IndexModel)>, Error> {
    let names = |slugs: Vec<String>| if slugs.is_empty() { "none".to_owned() } else { slugs.join(", ") };
    let theirs = names(manifest.collections.iter().map(|saved| saved.model.to_string()).collect());
    let ours = names(kept.iter().map(|model| model.slug.to_string()).collect());
    let in_step = kept.into_iter().filter(|model| model.state.is_maintained());
    let pairs: Vec<_> = in_step
        .filter_map(|model| {
            let fits = |saved: &&Saved| saved.model == model.slug && saved.dimensions == model.dimensions;
            Some((manifest.collections.iter().find(fits)?, model))
        })
        .collect();
    if pairs.is_empty() { Err(Error::Models { theirs, ours }) } else { Ok(pairs) }
}

/// The books are struck first and written last but one, the identity last: whoever looks in between finds a
/// collection that is not the books'.
async fn one(
    ingest: &Ingest,
    index: &dyn VectorIndex,
    base: &str,
    folder: &Path,
    (saved, model): (&Saved, &IndexModel),
) -> Result<Repaired, Error> {
    let collection = collection_of(base, model).map_err(AdoptError::from)?;
    let identity = Identity { database: database_identity(ingest.pool()).await?, index: Uuid::new_v4() };
    let mut tx = ingest.pool().begin().await.map_err(StoreError::from)?;
    models::replace_index(&mut tx, &model.slug, identity.index).await?;
    tx.commit().await.map_err(StoreError::from)?;

    index.collections().restore(&collection, &manifest::points(folder, &saved.collection)).await?;
    read_books(ingest, &model.slug, &manifest::books(folder, &saved.collection)).await?;
    let repaired = repair(ingest, index, &collection.name, &model.slug).await?;
    index.collections().set_identity(&collection.name, identity).await?;
    Ok(repaired)
}

async fn read_books(ingest: &Ingest, model: &ModelSlug, path: &Path) -> Result<(), Error> {
    let io = |source| BackupError::Io { path: path.to_owned(), source };
    let mut page: (Option<GuildId>, Vec<IndexedSession>) = (None, Vec::new());
    for line in BufReader::new(File::open(path).map_err(io)?).lines() {
        let Line { guild, book } =
            serde_json::from_str(&line.map_err(io)?).map_err(|error| io(error.into()))?;
        if page.0 != Some(guild) || page.1.len() >= PAGE {
            put(ingest, model, &mut page).await?;
            page.0 = Some(guild);
        }
        page.1.push(book);
    }
    put(ingest, model, &mut page).await
}

async fn put(
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
