//! Opening the index and the models that the database names.

#[cfg(feature = "embedded")]
use std::path::Path;
use std::sync::Arc;
#[cfg(feature = "embedded")]
use std::time::Duration;

use anyhow::{Context, bail};
#[cfg(feature = "embedded")]
use backon::{ConstantBuilder, Retryable};
use guildex_consistency::adopt::{adopt, verify};
#[cfg(feature = "embedded")]
use guildex_index::EdgeIndex;
use guildex_index::{Bulk, VectorIndex};
use guildex_producer::Ingest;
use guildex_store::models::{self, IndexModel};
use guildex_types::ModelSlug;
use sqlx::PgPool;

use crate::app::App;
use crate::config::Backend;

/// How often a folder that is in use is tried again: a `search` holds it for a moment.
#[cfg(feature = "embedded")]
const PATIENCE: (Duration, usize) = (Duration::from_millis(250), 20);

/// The index, as this process holds it.
pub async fn index(app: &App) -> anyhow::Result<Arc<dyn VectorIndex>> {
    match app.config().index.backend {
        #[cfg(feature = "embedded")]
        Backend::Embedded => Ok(Arc::new(hold(&app.index_folder()).await?)),
        #[cfg(not(feature = "embedded"))]
        Backend::Embedded => bail!("this build has no embedded index: set index.backend to \"server\""),
        Backend::Server => Ok(Arc::new(app.server()?)),
    }
}

/// The index, for somebody who only reads: there must be one.
pub async fn existing_index(app: &App) -> anyhow::Result<Arc<dyn VectorIndex>> {
    let folder = app.index_folder();
    if app.config().index.backend == Backend::Embedded && !folder.exists() {
        bail!(
            "there is no index in {}: `guildex up` makes one, or set data_dir to where it is",
            folder.display()
        );
    }
    index(app).await
}

/// Another process may hold the folder for the moment of a search.
#[cfg(feature = "embedded")]
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

/// The model that searches read. A new database begins with the configured one.
pub async fn active_model(app: &App, pool: &PgPool) -> anyhow::Result<IndexModel> {
    let (configured, dimensions) = app.first_model();
    let active = models::ensure_active(pool, configured, dimensions).await?;
    if active != *configured {
        tracing::info!(%active, %configured, "model.name is not in use: `guildex reindex --to` changes the model");
    }
    let kept = models::list(pool).await?;
    kept.into_iter().find(|model| model.slug == active).context("the active model has just been dropped")
}

/// The active model, whose collection has to be there and this database's. One that cannot be asked is for the
/// search to tell of.
pub async fn check_active(app: &App, pool: &PgPool, index: &dyn VectorIndex) -> anyhow::Result<ModelSlug> {
    let active = active_model(app, pool).await?;
    let ingest = app.ingest(pool.clone());
    match verify(&ingest, index, &app.config().index.collection_prefix, &active).await {
        Err(error) if error.is_away() => {}
        outcome => drop(outcome?),
    }
    Ok(active.slug)
}

/// On a server that any process can reach, tells it that much is about to be written to the model's collection, or
/// that it has been. The embedded index looks after itself.
pub async fn bulk(app: &App, ingest: &Ingest, model: &ModelSlug, bulk: Bulk) -> anyhow::Result<()> {
    if app.config().index.backend == Backend::Embedded {
        return Ok(());
    }
    let index = index(app).await?;
    let kept = models::list(ingest.pool()).await?;
    let model = kept.iter().find(|kept| kept.slug == *model).context("the model has just been dropped")?;
    let collection = adopt(ingest, index.as_ref(), &app.config().index.collection_prefix, model).await?;
    if bulk == Bulk::End {
        tracing::info!(%collection, "the server builds its graphs");
    }
    Ok(index.collections().bulk(&collection, bulk).await?)
}
