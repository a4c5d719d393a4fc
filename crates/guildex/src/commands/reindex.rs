use std::time::Duration;

use anyhow::bail;
use guildex_index::Bulk;
use guildex_producer::Ingest;
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

/// Fills a model's collection and lets searches read it, or gives up those of models that are out of use.
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
        tracing::info!(%model, "searches read this model already");
        return Ok(());
    }
    let ingest = app.ingest(pool.clone());
    let channels = reindex::start(ingest.pool(), ingest.enqueuer(), model, dimensions).await?;
    tracing::info!(%model, from = %active.slug, channels, "filling the new collection; searches stay with the old one");
    if args.detach {
        return Ok(());
    }
    startup::bulk(app, &ingest, model, Bulk::Begin).await?;
    if !fill(&ingest, model, args.allow_missing, stop).await? {
        return Ok(());
    }
    startup::bulk(app, &ingest, model, Bulk::End).await?;
    if args.no_switch {
        tracing::info!(%model, "filled, and kept in step: `guildex search --model` asks it");
        return Ok(());
    }
    switch(&ingest, model, args, stop).await
}

/// Watches workers fill the collection; `false` if somebody stopped the watching.
async fn fill(
    ingest: &Ingest,
    model: &ModelSlug,
    allow_missing: bool,
    stop: &CancellationToken,
) -> anyhow::Result<bool> {
    let mut progress = Progress::new("reindex", Unit::Things("sessions"), 0);
    let mut stall = Stall::new();
    let mut asked_again = false;
    loop {
        let now = reindex::progress(ingest.pool(), ingest.enqueuer().eligibility(), model).await?;
        progress.update(now.eligible - now.missing, now.eligible, "");
        if now.missing == 0 {
            progress.finish("filled");
            return Ok(true);
        }
        if now.jobs == 0 && asked_again {
            progress.finish("some sessions cannot be embedded");
            if allow_missing {
                return Ok(true);
            }
            bail!(
                "{} sessions have no vectors of {model}: `guildex status` shows dead jobs; mend the cause and run \
                 this again, or switch without them by --allow-missing",
                now.missing
            );
        }
        if now.jobs == 0 {
            // What was being indexed while the filling began may have passed the new collection by.
            reindex::plan_all(ingest.pool(), ingest.enqueuer()).await?;
            asked_again = true;
        }
        stall.watch(now);
        tokio::select! {
            () = stop.cancelled() => {
                progress.finish("no longer watched; workers go on, and the same command takes it up again");
                return Ok(false);
            }
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// Live messages come in all the while: tries until a moment in which nothing is missing.
async fn switch(
    ingest: &Ingest,
    model: &ModelSlug,
    args: &Reindex,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let eligible = ingest.enqueuer().eligibility();
    loop {
        match models::switch(ingest.pool(), model, eligible, args.keep_old, args.allow_missing).await? {
            Switched::Yes => {
                tracing::info!(%model, "searches read the new model; `guildex reindex drop-unused` drops the old one");
                return Ok(());
            }
            Switched::Missing(sessions) => tracing::debug!(sessions, "not in step yet"),
        }
        tokio::select! {
            () = stop.cancelled() => bail!("stopped before the switch: searches still read the old model"),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

async fn drop_unused(pool: &PgPool, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut stall = Stall::new();
    loop {
        let left = models::drop_unused(pool).await?;
        if left.is_empty() {
            tracing::info!("no collection of an unused model is left");
            return Ok(());
        }
        stall.watch(left.len());
        tokio::select! {
            () = stop.cancelled() => bail!("no longer watched; a worker drops what is left"),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}
