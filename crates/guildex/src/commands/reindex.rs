use std::time::Duration;

use anyhow::bail;
use guildex_index::BulkLoad;
use guildex_producer::ingest::Ingest;
use guildex_producer::reindex;
use guildex_store::models::{self, Switched};
use guildex_types::ModelSlug;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::backfill::Stall;
use crate::app::App;
use crate::cli::Reindex;
use crate::progress::{Progress, Unit};
use crate::{shutdown, startup};

const POLL: Duration = Duration::from_millis(500);

/// Fills a new model's collection and switches searches to it, or drops the collections of unused models.
pub async fn run(app: &App, args: Reindex) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let pool = app.database().await?;
    match &args.to {
        Some(model) => change_to(app, &pool, model, &args, &stop).await,
        None => drop_unused(&pool, &stop).await,
    }
}

async fn change_to(
    app: &App,
    pool: &PgPool,
    model: &ModelSlug,
    args: &Reindex,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let dimensions = app.dimensions(model)?;
    let active = startup::active_model(app, pool).await?;
    if active.slug == *model {
        tracing::info!(%model, "this model is already active");
        return Ok(());
    }
    let ingest = app.ingest(pool.clone());
    let channels = reindex::begin(&ingest, model, dimensions).await?;
    tracing::info!(%model, from = %active.slug, channels, "filling the new collection; searches use the current model");
    if args.detach {
        return Ok(());
    }
    startup::bulk(app, &ingest, model, BulkLoad::Begin).await?;
    if !fill(&ingest, model, args.allow_missing, stop).await? {
        return Ok(());
    }
    startup::bulk(app, &ingest, model, BulkLoad::End).await?;
    if args.no_switch {
        tracing::info!(%model, "collection filled and kept up to date; `guildex search --model` searches it");
        return Ok(());
    }
    switch(&ingest, model, args, stop).await
}

/// Waits until workers have filled the collection; returns `false` if interrupted.
async fn fill(
    ingest: &Ingest,
    model: &ModelSlug,
    allow_missing: bool,
    stop: &CancellationToken,
) -> anyhow::Result<bool> {
    let mut progress = Progress::new("reindex", Unit::Things("sessions"), 0);
    let mut stall = Stall::new();
    let mut enqueued_again = false;
    loop {
        let now = reindex::progress(ingest, model).await?;
        progress.update(now.eligible - now.missing, now.eligible, "");
        if now.missing == 0 {
            progress.finish("filled");
            return Ok(true);
        }
        if now.jobs == 0 && enqueued_again {
            progress.finish("some sessions cannot be embedded");
            if allow_missing {
                return Ok(true);
            }
            bail!(
                "{} sessions have no vectors of {model}: see `guildex jobs list --state dead`; fix the cause and run \
                 this command again, or switch without them with --allow-missing",
                now.missing
            );
        }
        if now.jobs == 0 {
            // Jobs that were running when the filling started may have missed the new collection.
            reindex::ask(ingest).await?;
            enqueued_again = true;
        }
        stall.watch(now);
        tokio::select! {
            () = stop.cancelled() => {
                progress.finish("stopped waiting; workers continue, and the same command resumes");
                return Ok(false);
            }
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// Retries until no session is missing, since live messages keep arriving.
async fn switch(
    ingest: &Ingest,
    model: &ModelSlug,
    args: &Reindex,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let eligible = ingest.config().eligible;
    loop {
        match models::switch(ingest.pool(), model, eligible, args.keep_old, args.allow_missing).await? {
            Switched::Yes => {
                tracing::info!(%model, "switched to the new model; `guildex reindex drop-unused` drops the old collection");
                return Ok(());
            }
            Switched::Missing(sessions) => tracing::debug!(sessions, "not up to date yet"),
        }
        tokio::select! {
            () = stop.cancelled() => bail!("interrupted before the switch: searches still use the old model"),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

async fn drop_unused(pool: &PgPool, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut stall = Stall::new();
    loop {
        let left = models::drop_unused(pool).await?;
        if left.is_empty() {
            tracing::info!("collections of unused models dropped");
            return Ok(());
        }
        stall.watch(left.len());
        tokio::select! {
            () = stop.cancelled() => bail!("stopped waiting; a worker drops the remaining collections"),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}
