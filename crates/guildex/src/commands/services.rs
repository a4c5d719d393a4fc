//! The long-running roles.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use guildex_consistency::adopt::adopt;
use guildex_consistency::presence;
use guildex_embed::Models;
use guildex_index::VectorIndex;
use guildex_producer::scheduler::delete_expired;
use guildex_search::Fallback;
use guildex_store::jobs;
use guildex_worker::{LastResort, exit_hung};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::{App, process_name};
use crate::config::Backend;
use crate::progress::{Progress, Unit};
use crate::self_restart::Restarts;
use crate::{shutdown, startup};

/// How often `--until-idle` looks.
const IDLE_POLL: Duration = Duration::from_millis(250);

pub async fn migrate(app: &App) -> anyhow::Result<()> {
    let pool = app.connect().await?;
    guildex_store::migrate(&pool).await?;
    if app.config().search.fallback == Fallback::Postgres {
        guildex_store::search::ensure_word_index(&pool).await.context("cannot make the index of words")?;
    }
    tracing::info!("the database's schema is up to date");
    Ok(())
}

/// Makes the index of the words beside everything else; searches that fall back on Postgres are slower until then.
async fn index_words(pool: PgPool) {
    if let Err(error) = guildex_store::search::ensure_word_index(&pool).await {
        tracing::warn!(%error, "cannot make the index of words for searches that fall back on Postgres");
    }
}

pub async fn dispatcher(app: &App) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let pool = app.database().await?;
    tracing::info!("dispatching");
    let name = process_name();
    let scheduler = app.scheduler(pool.clone(), app.queues().await?, &name);
    let presence = presence::run(&pool, &name, "dispatcher", 0, stop.clone());
    tokio::join!(scheduler.run(stop.clone()), presence);
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
    tracing::info!("working");
    let presence = presence::run(&pool, &worker.name, "worker", worker.config.slots(), ended.clone());
    tokio::join!(presence, async {
        worker.run(stop).await;
        ended.cancel();
    });
    searches.await?
}

pub async fn up(app: &App, until_idle: bool) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let restarts = Restarts::of_process();
    if restarts.count() > 0 {
        tracing::warn!(restarts = restarts.count(), pause = ?restarts.pause(), "started again after a hang");
        let _ = stop.run_until_cancelled(tokio::time::sleep(restarts.pause())).await;
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
    let ingest = app.ingest(pool.clone());
    let last_resort = start_again(restarts, stop.clone());
    let scheduler_queues = queues.clone();
    let worker = app.worker(ingest.clone(), queues, models, index, last_resort);
    tracing::info!("up");
    if until_idle {
        // What is overdue is a part of what there is to do.
        delete_expired(&ingest, &stop).await?;
    }
    let scheduler = app.scheduler(pool.clone(), scheduler_queues, &worker.name);
    let presence = presence::run(&pool, &worker.name, "up", worker.config.slots(), ended.clone());
    let work = async {
        worker.run(stop.clone()).await;
        ended.cancel();
    };
    tokio::join!(scheduler.run(stop.clone()), work, presence, async {
        if until_idle && let Err(error) = watch(&pool, &stop).await {
            tracing::error!(%error, "cannot tell whether anything is pending");
        }
        if until_idle {
            stop.cancel();
        }
    });
    if until_idle {
        tell_dead(&pool).await?;
    }
    searches.await?
}

/// Where something hangs, the process is replaced by a new one, or ends if it is to end anyway.
fn start_again(restarts: Restarts, stop: CancellationToken) -> LastResort {
    Arc::new(move || {
        if !stop.is_cancelled() {
            let error = restarts.again();
            tracing::error!(%error, "cannot start again");
        }
        exit_hung();
    })
}

/// The index and the models. What is wrong with the active one, or with its collection, is told at the start; an
/// index that is away is waited for.
async fn open(app: &App, pool: &PgPool) -> anyhow::Result<(Arc<dyn VectorIndex>, Arc<Models>)> {
    let (models, active) = (app.models()?, startup::active_model(app, pool).await?);
    models.get(&active.slug).await?;
    let index = startup::index(app).await?;
    let ingest = app.ingest(pool.clone());
    match adopt(&ingest, index.as_ref(), &app.config().index.collection_prefix, &active).await {
        Err(error) if error.is_away() => tracing::warn!(%error, "nothing is claimed until it is back"),
        outcome => drop(outcome?),
    }
    Ok((index, models))
}

/// Answers searches of other processes on this machine. Whoever holds the embedded index does; beside a server
/// the first process of a data folder does, and the others need not.
async fn serve(
    app: &App,
    pool: &PgPool,
    models: &Arc<Models>,
    index: &Arc<dyn VectorIndex>,
    stop: CancellationToken,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let (path, searcher) = (app.socket(), app.searcher(pool.clone(), models.clone(), index.clone()));
    let verifier = app.verifier(pool.clone(), index.clone());
    let shared = app.config().index.backend == Backend::Server;
    std::fs::create_dir_all(&app.config().data_dir).context("cannot make the data folder (data_dir)")?;
    if shared && guildex_api::Client::connect(&path, app.config().search.timeout).await?.is_some() {
        return Ok(tokio::spawn(async { Ok(()) }));
    }
    Ok(tokio::spawn(async move {
        guildex_api::serve(&path, searcher, verifier, stop).await.context("search is not served")
    }))
}

/// Shows the jobs going down to nothing; ends then, or at `stop`.
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
                progress.finish("stopped; what is left waits for the next run");
                return Ok(());
            }
            () = tokio::time::sleep(IDLE_POLL) => {}
        }
    }
}

async fn tell_dead(pool: &PgPool) -> anyhow::Result<()> {
    let dead = jobs::dead(pool).await?;
    if dead > 0 {
        tracing::warn!(dead, "some jobs are dead: `guildex jobs list --state dead` shows which, and why");
    }
    Ok(())
}
