//! Opening the model and the embedded index, and making sure that the index is this database's.
//!
//! Database and index remember each other: the database names the index that its books tell of, and the index's
//! folder names both in [`IDENTITY`]. So an index of another database is refused, and so is one that another has
//! replaced; and an index that is gone is noticed, and made anew.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use backon::{ConstantBuilder, Retryable};
use guildex_embed::{Embedder, LocalConfig, LocalEmbedder};
use guildex_index::{Collection, CollectionName, EdgeIndex, VectorIndex};
use guildex_producer::backfill;
use guildex_store::models;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

use crate::app::App;
use crate::config::Model;

/// The length of the default model's vectors.
const DIMENSIONS: usize = 384;
/// The file in the index's folder that says whose it is.
const IDENTITY: &str = "identity.json";
/// How often a folder that is in use is tried again: a `search` holds it for a moment.
const PATIENCE: (Duration, usize) = (Duration::from_millis(250), 20);

/// A model and its collection, held by this process.
pub struct OpenIndex {
    /// The model.
    pub embedder: Arc<dyn Embedder>,
    /// The index.
    pub index: Arc<dyn VectorIndex>,
    /// The model's collection in it.
    pub collection: CollectionName,
}

/// What the index is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be kept in step: it is made if there is none.
    Keep,
    /// To be read: there must be one.
    Read,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    database: Uuid,
    index: Uuid,
}

/// Loads the model and opens its collection.
pub async fn open(app: &App, pool: &PgPool, purpose: Purpose) -> anyhow::Result<OpenIndex> {
    let folder = app.config().data_dir.join("index");
    if purpose == Purpose::Read && !folder.join(IDENTITY).exists() {
        bail!(
            "there is no index in {}: `guildex up` makes one, or set data_dir to where it is",
            folder.display()
        );
    }
    let model = app.config().model.clone();
    let embedder = tokio::task::spawn_blocking(move || LocalEmbedder::load(local(&model))).await??;
    models::ensure_active(pool, embedder.slug(), embedder.dimensions()).await?;

    let index = hold(&folder).await?;
    let name = CollectionName::new(&app.config().index.collection, embedder.slug())?;
    let collection = Collection { name, dims: embedder.dimensions() };
    let database = guildex_store::installation(pool).await?;
    match read(&folder)?.filter(|_| folder.join(collection.name.as_str()).exists()) {
        Some(identity) => {
            check(app, pool, &folder, database, identity).await?;
            index.collections().ensure(&collection).await?;
        }
        None if purpose == Purpose::Read => {
            bail!("the index in {} is not complete: run `guildex up`", folder.display())
        }
        None => {
            forget(&folder)?;
            index.collections().ensure(&collection).await?;
            start_over(app, pool, &folder, database).await?;
        }
    }
    Ok(OpenIndex { embedder: Arc::new(embedder), index: Arc::new(index), collection: collection.name })
}

/// How the configured model is loaded.
pub fn local(model: &Model) -> LocalConfig {
    let defaults = LocalConfig::new(model.name.clone());
    LocalConfig {
        model_dir: model.dir.clone(),
        onnx_runtime: model.onnxruntime.clone(),
        window: model.window,
        max_batch_tokens: model.max_batch_tokens,
        dimensions: DIMENSIONS,
        sessions: if model.sessions == 0 { defaults.sessions } else { model.sessions },
        ..defaults
    }
}

/// Another process may hold the folder for the moment of a search.
async fn hold(folder: &Path) -> anyhow::Result<EdgeIndex> {
    let open = || async {
        let folder = folder.to_owned();
        let opened = tokio::task::spawn_blocking(move || EdgeIndex::open(&folder)).await?;
        anyhow::Ok(opened?)
    };
    let in_use =
        |error: &anyhow::Error| matches!(error.downcast_ref(), Some(guildex_index::Error::InUse { .. }));
    let (pause, tries) = PATIENCE;
    open.retry(ConstantBuilder::default().with_delay(pause).with_max_times(tries)).when(in_use).await
}

async fn check(
    app: &App,
    pool: &PgPool,
    folder: &Path,
    database: Uuid,
    identity: Identity,
) -> anyhow::Result<()> {
    let folder = folder.display();
    if identity.database != database {
        bail!(
            "the index in {folder} was made from another database: set data_dir to another folder, or delete it"
        );
    }
    if models::index_id(pool, app.model()).await? != Some(identity.index) {
        bail!(
            "the index in {folder} is out of date, since another took its place: set data_dir to that, or delete this"
        );
    }
    Ok(())
}

/// The collection is new: what the books say of an older one is void, and is indexed again. The identity comes
/// last: until it is written, the folder counts as new.
async fn start_over(app: &App, pool: &PgPool, folder: &Path, database: Uuid) -> anyhow::Result<()> {
    let identity = Identity { database, index: Uuid::new_v4() };
    let lost = backfill::start_over(&app.ingest(pool.clone()), app.model(), identity.index).await?;
    if lost > 0 {
        tracing::warn!(
            sessions = lost,
            "the index is new, but the database knows of an older one: indexing all again"
        );
    }
    let path = folder.join(IDENTITY);
    std::fs::write(&path, serde_json::to_vec(&identity)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn read(folder: &Path) -> anyhow::Result<Option<Identity>> {
    let path: PathBuf = folder.join(IDENTITY);
    match std::fs::read(&path) {
        // What was cut short by a crash counts as not written.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn forget(folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(IDENTITY);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
