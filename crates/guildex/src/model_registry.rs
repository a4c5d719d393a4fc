//! Models of the configuration, for `embed`.

use std::path::PathBuf;

use anyhow::Context;
use guildex_embed::{HashConfig, HttpConfig, LocalConfig, LocalSource, ModelRegistry};
use guildex_types::ModelSlug;

use crate::config::Config;
use crate::config::models::{NamedModel, Provider};

/// Vector dimensions of the default model.
pub const DIMENSIONS: usize = 384;

/// Models of `[models.NAME]`, and that of `[model]` unless a section has its name.
///
/// # Errors
/// If a section is invalid.
pub fn models(config: &Config) -> anyhow::Result<ModelRegistry> {
    let mut providers =
        vec![(config.model.name.clone(), guildex_embed::Provider::Local(local_model(config)))];
    for (name, model) in config.models.iter() {
        let slug: ModelSlug = name.parse()?;
        let provider = named(config, &slug, model).with_context(|| format!("[models.{name}]"))?;
        providers.push((slug, provider));
    }
    // Later entries override earlier ones of the same name.
    Ok(ModelRegistry::new(providers))
}

/// Model of `[model]`.
pub fn local_model(config: &Config) -> LocalConfig {
    let model = &config.model;
    LocalConfig {
        source: LocalSource::from(model.dir.clone()),
        max_tokens: model.max_tokens,
        dimensions: DIMENSIONS,
        ..local(config, model.name.clone())
    }
}

/// Settings of `[model]` that apply to all local models.
fn local(config: &Config, slug: ModelSlug) -> LocalConfig {
    let model = &config.model;
    let defaults = LocalConfig::new(slug);
    LocalConfig {
        onnx_runtime: model.onnxruntime.clone(),
        max_batch_tokens: model.max_batch_tokens,
        instances: if model.instances == 0 { defaults.instances } else { model.instances },
        ..defaults
    }
}

fn named(config: &Config, slug: &ModelSlug, model: &NamedModel) -> anyhow::Result<guildex_embed::Provider> {
    let NamedModel { dimensions, max_tokens, query_prefix, passage_prefix, .. } = model.clone();
    Ok(match model.provider {
        Provider::Local => guildex_embed::Provider::Local(LocalConfig {
            source: source(model.dir.clone(), model),
            dimensions,
            max_tokens,
            query_prefix,
            passage_prefix,
            ..local(config, slug.clone())
        }),
        Provider::Hash => {
            let tokenizer = model.tokenizer.clone();
            guildex_embed::Provider::Hash(HashConfig {
                slug: slug.clone(),
                dimensions,
                max_tokens,
                tokenizer,
            })
        }
        Provider::Http => {
            let base_url = model.base_url.as_ref().context("base_url is missing")?.expose().parse()?;
            let name = model.model.clone().context("model is missing")?;
            guildex_embed::Provider::Http(HttpConfig {
                api_key: model.api_key.clone(),
                send_dimensions: model.send_dimensions,
                max_tokens,
                max_batch_texts: model.max_batch_texts,
                max_batch_tokens: model.max_batch_tokens,
                concurrency: model.concurrency,
                timeout: model.timeout,
                tokenizer: model.tokenizer.clone(),
                query_prefix,
                passage_prefix,
                ..HttpConfig::new(slug.clone(), base_url, name, dimensions)
            })
        }
    })
}

fn source(dir: Option<PathBuf>, model: &NamedModel) -> LocalSource {
    match (dir, &model.source) {
        (Some(path), _) => LocalSource::Folder { path, pooling: model.pooling },
        (None, Some(name)) => LocalSource::Named(name.clone()),
        (None, None) => LocalSource::default(),
    }
}
