//! Copies collections together with their `indexed_sessions` rows.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use guildex_index::{CollectionName, InvalidCollectionName, VectorIndex};
use guildex_store::indexed_sessions::{self, IndexedSession};
use guildex_store::models::{self, IndexModel};
use guildex_store::{StoreError, channels, database_identity, schema_version};
use guildex_types::{GuildId, ModelSlug};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

pub use crate::manifest::BackupError;
use crate::manifest::{self, Manifest, Saved};

/// Rows per page.
const PAGE: i64 = 5_000;

/// Error of writing a backup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be used.
    #[error(transparent)]
    Folder(#[from] BackupError),
    /// A collection's name is invalid.
    #[error(transparent)]
    Name(#[from] InvalidCollectionName),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] guildex_index::Error),
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One line of the file with a collection's `indexed_sessions` rows.
#[derive(Serialize, Deserialize)]
pub(crate) struct Line {
    pub guild: GuildId,
    #[serde(rename = "book")]
    pub record: IndexedSession,
}

/// Writes the collections of all maintained models with their rows into a new or empty directory, and returns the models.
/// Jobs may run at the same time: restoring reindexes what they change between the two copies.
///
/// # Errors
/// If the directory is not empty or cannot be written, or the index fails. An incomplete directory is not a backup.
pub async fn backup(
    pool: &PgPool,
    index: &dyn VectorIndex,
    prefix: &str,
    folder: &Path,
) -> Result<Vec<ModelSlug>, Error> {
    make_empty(folder)?;
    let mut saved = Vec::new();
    for model in models::list(pool).await? {
        if model.state.is_maintained() {
            saved.push(save(pool, index, prefix, &model, folder).await?);
        }
    }
    let models = saved.iter().map(|saved| saved.model.clone()).collect();
    Manifest::new(database_identity(pool).await?, schema_version(pool).await?, saved).write(folder)?;
    Ok(models)
}

async fn save(
    pool: &PgPool,
    index: &dyn VectorIndex,
    prefix: &str,
    model: &IndexModel,
    folder: &Path,
) -> Result<Saved, Error> {
    let name = CollectionName::new(prefix, &model.slug)?;
    let (points, rows) = (manifest::points(folder, name.as_str()), manifest::rows(folder, name.as_str()));
    fs::create_dir(&points).map_err(|source| BackupError::Io { path: points.clone(), source })?;
    write_rows(pool, &model.slug, &rows).await?;
    index.snapshot(&name, &points).await?;
    Ok(Saved {
        model: model.slug.clone(),
        dimensions: model.dimensions,
        rows_sha256: manifest::hash(&rows)?,
        collection: name.to_string(),
    })
}

async fn write_rows(pool: &PgPool, model: &ModelSlug, path: &Path) -> Result<(), Error> {
    let io = |source| BackupError::Io { path: path.to_owned(), source };
    let mut file = BufWriter::new(File::create(path).map_err(io)?);
    let mut db = pool.acquire().await.map_err(StoreError::from)?;
    for guild in channels::guilds(&mut db).await? {
        let mut after = None;
        loop {
            let page = indexed_sessions::list(&mut *db, guild, model, after, PAGE).await?;
            let Some(last) = page.last().map(|record| record.session_id) else { break };
            for record in page {
                serde_json::to_writer(&mut file, &Line { guild, record })
                    .map_err(|error| io(error.into()))?;
                file.write_all(b"\n").map_err(io)?;
            }
            after = Some(last);
        }
    }
    let file = file.into_inner().map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(io)?;
    Ok(())
}

fn make_empty(folder: &Path) -> Result<(), BackupError> {
    let io = |source| BackupError::Io { path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(io)?;
    if folder.read_dir().map_err(io)?.next().is_some() {
        return Err(BackupError::NotEmpty(folder.to_owned()));
    }
    Ok(())
}
