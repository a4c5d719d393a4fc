use std::sync::Arc;

use anyhow::Context;
use guildex_consistency::ownership::{find_owned, model_collection};
use guildex_consistency::verify::Request;
use guildex_index::{PointSelector, VectorIndex};
use guildex_store::models::{self, IndexModel, ModelState};
use guildex_types::GuildId;
use sqlx::PgPool;

use super::check::{Check, Finding, LIMIT, SLOW_LIMIT};
use crate::app::App;
use crate::config::Backend;
use crate::startup;

/// Checks through the process that holds the embedded index if there is one, and otherwise directly.
pub async fn check(app: &App, pool: Option<&PgPool>) -> Vec<Check> {
    match app.config().index.backend {
        Backend::Embedded => embedded(app, pool).await,
        Backend::Server => server(app, pool).await,
    }
}

async fn embedded(app: &App, pool: Option<&PgPool>) -> Vec<Check> {
    let advice = "stop the process that holds the folder but does not answer, or correct data_dir; if the index is \
                  damaged or belongs to another database, delete its folder, and everything is indexed again";
    let (opened, index) = Check::with("index", SLOW_LIMIT, advice, async {
        let socket = app.socket();
        if let Some(holder) = guildex_api::Client::connect(&socket, app.config().search.timeout).await? {
            // An unused guild id: a round trip through the database and index of the other process.
            holder.verify(&Request { guild: Some(unused_guild()?), ..Request::default() }).await?;
            return Ok((
                Finding::ok(format!("another process holds it and answers on {}", socket.display())),
                None,
            ));
        }
        let folder = app.index_folder();
        if !folder.exists() {
            let found = format!("no index in {} yet", folder.display());
            let advice = "`guildex up` creates it; if there should be one, correct data_dir";
            return Ok((Finding::ok(found).warn_if(true, advice), None));
        }
        let index = startup::existing_index(app).await?;
        Ok((
            Finding::ok(format!("embedded, in {}; no other process holds it", folder.display())),
            Some(index),
        ))
    })
    .await;
    let mut checks = vec![opened];
    if let Some(index) = index.flatten() {
        checks.extend(collections(app, pool, index).await);
    }
    checks
}

async fn server(app: &App, pool: Option<&PgPool>) -> Vec<Check> {
    let advice = "start Qdrant (1.16 or later), or correct index.server.url (QDRANT_URL, its gRPC port) and \
                  index.server.api_key";
    let (answers, index) = Check::with("index", LIMIT, advice, async {
        let place = app.config().index.server_url()?.to_string();
        let index: Arc<dyn VectorIndex> = Arc::new(app.server()?);
        index.ping().await?;
        Ok((Finding::ok(format!("the Qdrant server at {place} answers; its version is supported")), index))
    })
    .await;
    let mut checks = vec![answers];
    if let Some(index) = index {
        checks.extend(collections(app, pool, index).await);
    }
    checks
}

async fn collections(app: &App, pool: Option<&PgPool>, index: Arc<dyn VectorIndex>) -> Vec<Check> {
    let kept = match pool {
        Some(pool) => models::list(pool).await.ok(),
        None => None,
    };
    let (Some(pool), Some(kept)) = (pool, kept) else {
        return vec![Check::skipped("collections", "needs Postgres and its schema")];
    };
    let mut checks = Vec::with_capacity(kept.len());
    for model in kept.iter().filter(|model| model.state != ModelState::Dropping) {
        checks.push(collection(app, pool, index.as_ref(), model).await);
    }
    checks
}

/// Checks that a collection exists, belongs to this database, has the right settings and can be read.
async fn collection(app: &App, pool: &PgPool, index: &dyn VectorIndex, model: &IndexModel) -> Check {
    let base = &app.config().index.collection_prefix;
    let advice = "`guildex init` creates missing collections; `guildex init --recreate` replaces those of another \
                  database or with wrong settings, and everything is indexed again";
    Check::run(format!("collection {}", model.slug), LIMIT, advice, async {
        let wanted = model_collection(base, model)?;
        let name = find_owned(&app.ingest(pool.clone()), index, base, model).await?;
        index
            .headers(&name, unused_guild()?, PointSelector::After(None, 1))
            .await
            .context("cannot read it")?;
        let differences = index.differences(&wanted).await?;
        if let Some(fatal) = differences.iter().find(|difference| difference.fatal) {
            anyhow::bail!("{fatal}");
        }
        let found = match differences.first() {
            None => format!("{name}: belongs to this database, and answers"),
            Some(difference) => format!("{name}: {difference}"),
        };
        Ok(Finding::ok(found)
            .warn_if(!differences.is_empty(), "`guildex init` fixes it; searches are slow until then"))
    })
    .await
}

/// Smallest id, which Discord never assigned.
fn unused_guild() -> anyhow::Result<GuildId> {
    Ok(GuildId::try_from(1)?)
}
