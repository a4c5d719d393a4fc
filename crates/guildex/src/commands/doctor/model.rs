use anyhow::{Context, ensure};
use guildex_store::models::{self, IndexModel};
use sqlx::PgPool;

use super::check::{Check, Finding, PATIENCE};
use crate::app::App;
use crate::config::models::Provider;

/// Every model whose collection is kept in step; the configured one where the database cannot be asked.
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
    let advice = "`scripts/model` brings ONNX Runtime and the default model; model.dir, model.onnxruntime or \
                  [models.NAME] say where others are";
    Check::run(format!("model {}", model.slug), PATIENCE, advice, async {
        let embedder = app.models()?.get(&model.slug).await?;
        let line = "Does the glue hold?".to_owned();
        let vector = embedder.embed(vec![line]).await?.pop().context("it gave no vector")?;
        ensure!(
            vector.len() == model.dimensions,
            "its vectors have {} dimensions, those of the database's collection {}",
            vector.len(),
            model.dimensions
        );
        let from = match app.config().models.get(model.slug.as_str()).map(|named| named.provider) {
            Some(Provider::Http) => "a service".to_owned(),
            Some(Provider::Hash) => "a hash; no model".to_owned(),
            _ => format!("ONNX Runtime {}", guildex_embed::onnx_runtime_version()),
        };
        Ok(Finding::fine(format!("embedded a line into {} dimensions with {from}", vector.len())))
    })
    .await
}
