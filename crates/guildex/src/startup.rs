//! Opens the index and reads the active model from the database.

#[cfg(feature = "embedded")]
use std::path::Path;
use std::sync::Arc;
#[cfg(feature = "embedded")]
use std::time::Duration;

use anyhow::{Context, bail};
#[cfg(feature = "embedded")]
use backon::{ConstantBuilder, Retryable};
use guildex_consistency::ownership::{ensure_owned, find_owned};
#[cfg(feature = "embedded")]
use guildex_index::EmbeddedIndex;
use guildex_index::{BulkLoad, VectorIndex};
use guildex_producer::ingest::Ingest;
use guildex_store::models::{self, IndexModel};
use guildex_types::ModelSlug;
use sqlx::PgPool;

use crate::app::App;
use crate::config::Backend;

/// Delay and number of attempts to open a folder in use: a `search` holds it briefly.
#[cfg(feature = "embedded")]
const IN_USE_RETRIES: (Duration, usize) = (Duration::from_millis(250), 20);

/// Opens the index.
pub async fn index(app: &App) -> anyhow::Result<Arc<dyn VectorIndex>> {
    match app.config().index.backend {
        #[cfg(feature = "embedded")]
        Backend::Embedded => Ok(Arc::new(open_folder(&app.index_folder()).await?)),
        #[cfg(not(feature = "embedded"))]
        Backend::Embedded => bail!("this build has no embedded index: set index.backend to \"server\""),
        Backend::Server => Ok(Arc::new(app.server()?)),
    }
}

/// Opens an index for reading; it must exist.
pub async fn existing_index(app: &App) -> anyhow::Result<Arc<dyn VectorIndex>> {
    let folder = app.index_folder();
    if app.config().index.backend == Backend::Embedded && !folder.exists() {
        bail!(
            "there is no index in {}: run `guildex up`, or set data_dir to the folder of the index",
            folder.display()
        );
    }
    index(app).await
}

/// Opens the folder, which a search of another process may hold briefly.
#[cfg(feature = "embedded")]
async fn open_folder(folder: &Path) -> anyhow::Result<EmbeddedIndex> {
    let open = || async {
        let folder = folder.to_owned();
        let opened = tokio::task::spawn_blocking(move || EmbeddedIndex::open(&folder)).await?;
        anyhow::Ok(opened?)
    };
    let in_use =
        |error: &anyhow::Error| matches!(error.downcast_ref(), Some(guildex_index::Error::InUse { .. }));
    let (pause, tries) = IN_USE_RETRIES;
    open.retry(ConstantBuilder::default().with_delay(pause).with_max_times(tries)).when(in_use).await
}

/// Returns the active model. A new database starts with the configured one.
pub async fn active_model(app: &App, pool: &PgPool) -> anyhow::Result<IndexModel> {
    let (configured, dimensions) = app.first_model();
    let active = models::ensure_active(pool, configured, dimensions).await?;
    if active != *configured {
        tracing::info!(%active, %configured, "model.name is not the active model; `guildex reindex --to` changes the model");
    }
    let kept = models::list(pool).await?;
    kept.into_iter().find(|model| model.slug == active).context("the active model has just been deleted")
}

/// Returns the active model after checking that its collection exists and belongs to this database. The search reports
/// an unavailable index.
pub async fn check_active(app: &App, pool: &PgPool, index: &dyn VectorIndex) -> anyhow::Result<ModelSlug> {
    let active = active_model(app, pool).await?;
    let ingest = app.ingest(pool.clone());
    match find_owned(&ingest, index, &app.config().index.collection_prefix, &active).await {
        Err(error) if error.is_unavailable() => {}
        outcome => drop(outcome?),
    }
    Ok(active.slug)
}

/// Begins or ends a bulk load of the model's collection on a server, which defers its graphs meanwhile. The embedded
/// index has no such mode.
pub async fn bulk(app: &App, ingest: &Ingest, model: &ModelSlug, bulk: BulkLoad) -> anyhow::Result<()> {
    if app.config().index.backend == Backend::Embedded {
        return Ok(());
    }
    let index = index(app).await?;
    let kept = models::list(ingest.pool()).await?;
    let model = kept.iter().find(|kept| kept.slug == *model).context("the model has just been deleted")?;
    let collection =
        ensure_owned(ingest, index.as_ref(), &app.config().index.collection_prefix, model).await?;
    if bulk == BulkLoad::End {
        tracing::info!(%collection, "the server is building its graphs");
    }
    Ok(index.bulk_load(&collection, bulk).await?)
}
