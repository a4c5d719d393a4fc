//! Long-running services.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use guildex_consistency::heartbeat;
use guildex_consistency::ownership::ensure_owned;
use guildex_embed::ModelRegistry;
use guildex_index::VectorIndex;
use guildex_producer::retention;
use guildex_search::Fallback;
use guildex_store::jobs;
use guildex_worker::{HangHandler, exit_hung};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::{App, process_name};
use crate::config::Backend;
use crate::progress::{Progress, Unit};
use crate::self_restart::Restarts;
use crate::{shutdown, startup};

/// Polling interval of `--until-idle`.
const IDLE_POLL: Duration = Duration::from_millis(250);

pub async fn migrate(app: &App) -> anyhow::Result<()> {
    let pool = app.connect().await?;
    guildex_store::migrate(&pool).await?;
    if app.config().search.fallback == Fallback::Postgres {
        guildex_store::search::ensure_word_index(&pool).await.context("cannot create the full-text index")?;
    }
    tracing::info!("database schema up to date");
    Ok(())
}

/// Creates the full-text index in the background; searches that fall back to Postgres are slower until then.
async fn index_words(pool: PgPool) {
    if let Err(error) = guildex_store::search::ensure_word_index(&pool).await {
        tracing::warn!(%error, "cannot create the full-text index; searches that fall back to Postgres are slow");
    }
}

pub async fn dispatcher(app: &App) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let pool = app.database().await?;
    let dispatcher = app.dispatcher(pool.clone(), app.queues().await?);
    let ingest = app.ingest(pool);
    let name = process_name();
    tracing::info!(service = "dispatcher", process = name, "guildex started");
    let heartbeat = heartbeat::run(ingest.pool(), &name, "dispatcher", 0, stop.clone());
    tokio::join!(dispatcher.run(stop.clone()), retention::run(&ingest, stop.clone()), heartbeat);
    Ok(())
}

pub async fn worker(app: &App) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let pool = app.database().await?;
    let queues = app.queues().await?;
    let (index, models) = open(app, &pool).await?;
    let ended = CancellationToken::new();
    let searches = serve(app, &pool, &models, &index, ended.clone()).await?;
    let worker = app.worker(app.ingest(pool.clone()), queues, models, index, Arc::new(exit_hung));
    tracing::info!(
        service = "worker",
        process = worker.name,
        slots = worker.config.slots(),
        "guildex started"
    );
    let heartbeat = heartbeat::run(&pool, &worker.name, "worker", worker.config.slots(), ended.clone());
    tokio::join!(heartbeat, async {
        worker.run(stop).await;
        ended.cancel();
    });
    searches.await?
}

pub async fn up(app: &App, until_idle: bool) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let restarts = Restarts::of_process();
    if restarts.count() > 0 {
        tracing::warn!(restarts = restarts.count(), delay = ?restarts.delay(), "restarted after a hang");
        let _ = stop.run_until_cancelled(tokio::time::sleep(restarts.delay())).await;
    }
    let pool = app.connect().await?;
    guildex_store::migrate(&pool).await?;
    if app.config().search.fallback == Fallback::Postgres {
        tokio::spawn(index_words(pool.clone()));
    }
    let queues = app.queues().await?;
    let (index, models) = open(app, &pool).await?;

    let ended = CancellationToken::new();
    let searches = serve(app, &pool, &models, &index, ended.clone()).await?;
    let dispatcher = app.dispatcher(pool.clone(), queues.clone());
    let ingest = app.ingest(pool.clone());
    let on_hang = restart_on_hang(restarts, stop.clone());
    let worker = app.worker(ingest.clone(), queues, models, index, on_hang);
    tracing::info!(service = "up", process = worker.name, slots = worker.config.slots(), "guildex started");
    if until_idle {
        // Messages past their retention are a part of the work.
        retention::sweep(&ingest, &stop).await?;
    }
    let overdue = retention::run(&ingest, stop.clone());
    let heartbeat = heartbeat::run(&pool, &worker.name, "up", worker.config.slots(), ended.clone());
    let work = async {
        worker.run(stop.clone()).await;
        ended.cancel();
    };
    tokio::join!(dispatcher.run(stop.clone()), overdue, work, heartbeat, async {
        if until_idle && let Err(error) = watch(&pool, &stop).await {
            tracing::error!(%error, "cannot count unfinished jobs");
        }
        if until_idle {
            stop.cancel();
        }
    });
    if until_idle {
        warn_of_dead_jobs(&pool).await?;
    }
    searches.await?
}

/// Restarts the process after a hang, or ends it if it is shutting down.
fn restart_on_hang(restarts: Restarts, stop: CancellationToken) -> HangHandler {
    Arc::new(move || {
        if !stop.is_cancelled() {
            let error = restarts.restart();
            tracing::error!(%error, "cannot restart");
        }
        exit_hung();
    })
}

/// Opens the index and the models. An invalid active model or collection is an error at startup; an unavailable index
/// is not.
async fn open(app: &App, pool: &PgPool) -> anyhow::Result<(Arc<dyn VectorIndex>, Arc<ModelRegistry>)> {
    let (models, active) = (app.models()?, startup::active_model(app, pool).await?);
    models.get(&active.slug).await?;
    let index = startup::index(app).await?;
    let ingest = app.ingest(pool.clone());
    match ensure_owned(&ingest, index.as_ref(), &app.config().index.collection_prefix, &active).await {
        Err(error) if error.is_unavailable() => {
            tracing::warn!(%error, "index unavailable; no jobs are claimed until it recovers")
        }
        outcome => drop(outcome?),
    }
    Ok((index, models))
}

/// Answers searches of other processes on this machine. The process that holds the embedded index does; with a server,
/// the first process of a data folder.
async fn serve(
    app: &App,
    pool: &PgPool,
    models: &Arc<ModelRegistry>,
    index: &Arc<dyn VectorIndex>,
    stop: CancellationToken,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let (path, searcher) = (app.socket(), app.searcher(pool.clone(), models.clone(), index.clone()));
    let verifier = app.verifier(pool.clone(), index.clone());
    let shared = app.config().index.backend == Backend::Server;
    std::fs::create_dir_all(&app.config().data_dir).context("cannot create the data folder (data_dir)")?;
    if shared && guildex_api::Client::connect(&path, app.config().search.timeout).await?.is_some() {
        return Ok(tokio::spawn(async { Ok(()) }));
    }
    Ok(tokio::spawn(async move {
        guildex_api::serve(&path, searcher, verifier, stop).await.context("the search socket failed")
    }))
}

/// Shows progress until no job is unfinished, or until `stop`.
async fn watch(pool: &PgPool, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut most = jobs::unfinished(pool, None).await?;
    let mut progress = Progress::new("indexing", Unit::Things("jobs"), most);
    loop {
        let left = jobs::unfinished(pool, None).await?;
        most = most.max(left);
        progress.update(most - left, most, "");
        if left == 0 {
            progress.finish("done");
            return Ok(());
        }
        tokio::select! {
            () = stop.cancelled() => {
                progress.finish("interrupted; the remaining jobs wait for the next run");
                return Ok(());
            }
            () = tokio::time::sleep(IDLE_POLL) => {}
        }
    }
}

async fn warn_of_dead_jobs(pool: &PgPool) -> anyhow::Result<()> {
    let dead = jobs::dead(pool).await?;
    if dead > 0 {
        tracing::warn!(dead, "there are dead jobs; see `guildex jobs list --state dead`");
    }
    Ok(())
}
