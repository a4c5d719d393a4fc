use anyhow::{Context, ensure};
use guildex_store::models::{self, IndexModel};
use sqlx::PgPool;

use super::check::{Check, Finding, SLOW_LIMIT};
use crate::app::App;
use crate::config::models::Provider;

/// Checks every model whose collection is kept up to date, or the configured one if the database is unavailable.
pub async fn check(app: &App, pool: Option<&PgPool>) -> Vec<Check> {
    let mut wanted: Vec<IndexModel> = Vec::new();
    if let Some(pool) = pool {
        wanted = models::list(pool).await.unwrap_or_default();
        wanted.retain(|model| model.state.is_maintained());
    }
    if wanted.is_empty() {
        let (slug, dimensions) = app.first_model();
        let state = models::ModelState::Active;
        wanted.push(IndexModel { slug: slug.clone(), dimensions, state, index_id: None });
    }
    let mut checks = Vec::with_capacity(wanted.len());
    for model in wanted {
        checks.push(one(app, &model).await);
    }
    checks
}

async fn one(app: &App, model: &IndexModel) -> Check {
    let advice = "`scripts/model` downloads ONNX Runtime and the default model; model.dir, model.onnxruntime or \
                  [models.NAME] set the paths of others";
    Check::run(format!("model {}", model.slug), SLOW_LIMIT, advice, async {
        let embedder = app.models()?.get(&model.slug).await?;
        let line = "Does the glue hold?".to_owned();
        let vector = embedder.embed(vec![line]).await?.pop().context("it returned no vector")?;
        ensure!(
            vector.len() == model.dimensions,
            "its vectors have {} dimensions, but the collection has {}",
            vector.len(),
            model.dimensions
        );
        let from = match app.config().models.get(model.slug.as_str()).map(|named| named.provider) {
            Some(Provider::Http) => "a service".to_owned(),
            Some(Provider::Hash) => "hashes, without a model".to_owned(),
            _ => format!("ONNX Runtime {}", guildex_embed::onnx_runtime_version()),
        };
        Ok(Finding::ok(format!("embedded a text into {} dimensions with {from}", vector.len())))
    })
    .await
}
