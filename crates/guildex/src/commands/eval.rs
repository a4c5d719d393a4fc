//! `guildex eval`.

use std::path::Path;
use std::sync::Arc;

use guildex_embed::Embedder;
use guildex_evaluation::retrieval::{Corpus, EmbeddingProgress, Evaluation, Method};
use guildex_types::ModelSlug;

use super::print;
use crate::app::App;
use crate::cli::{EvalRetrieval, EvalSessions, SessionMethod};
use crate::config::Config;
use crate::config::models::NamedModel;
use crate::model_registry;
use crate::progress::{Progress, Unit};

/// Scores the sessionizer against annotated conversations.
pub async fn sessions(app: &App, args: EvalSessions) -> anyhow::Result<()> {
    let rules = app.config().sessions.rules();
    let report = tokio::task::spawn_blocking(move || {
        guildex_evaluation::sessions::evaluate(&args.exports, &args.annotations, &rules)
    })
    .await??;
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        print(&report.to_string())?;
    }
    Ok(())
}

/// Scores searches: whether the first message of an annotated conversation finds the rest.
pub async fn retrieval(app: &App, args: EvalRetrieval) -> anyhow::Result<()> {
    let config = app.config();
    let (exports, annotations) = (args.exports.clone(), args.annotations.clone());
    let corpus = tokio::task::spawn_blocking(move || Corpus::read(&exports, &annotations)).await??;
    let method = |method: &SessionMethod| match method {
        SessionMethod::Sessionizer => Method::Sessionizer(Box::new(config.sessions.rules())),
        SessionMethod::Plain => Method::Plain,
        SessionMethod::Gap => Method::Gap,
    };
    let evaluation = Evaluation {
        models: models(config, &args).await?,
        methods: args.methods.iter().map(method).collect(),
        modes: args.modes.iter().map(|mode| (*mode).into()).collect(),
        eligible: config.sessions.eligibility(),
        language: args.language.unwrap_or_default(),
        fusion: config.search.fusion,
    };
    let mut progress: Option<Progress> = None;
    let report = evaluation.run(&corpus, &mut |stage| show(&mut progress, stage)).await?;
    match args.json {
        true => print(&format!("{}\n", serde_json::to_string_pretty(&report)?)),
        false => print(&report.to_string()),
    }
}

/// Shows a progress bar for each model and method, one after another.
fn show(
    progress: &mut Option<Progress>,
    EmbeddingProgress { model, method, done, total }: EmbeddingProgress<'_>,
) {
    let (done, total) = (done as u64, total as u64);
    let bar = progress.get_or_insert_with(|| Progress::new("embedding", Unit::Things("points"), total));
    let message = format!("{method}, {model}");
    bar.update(done, total, &message);
    if done == total
        && let Some(bar) = progress.take()
    {
        bar.finish(&message);
    }
}

async fn models(config: &Config, args: &EvalRetrieval) -> anyhow::Result<Vec<Arc<dyn Embedder>>> {
    let mut config = config.clone();
    let mut wanted = match args.models.is_empty() {
        true => vec![config.model.name.clone()],
        false => args.models.clone(),
    };
    if let Some(folder) = &args.int8 {
        wanted.push(add_int8(&mut config, folder)?);
    }
    let models = model_registry::models(&config)?;
    let mut loaded = Vec::with_capacity(wanted.len());
    for model in wanted {
        loaded.push(models.get(&model).await?);
    }
    Ok(loaded)
}

/// Adds the configured model from another directory, under a name with its precision.
fn add_int8(config: &mut Config, folder: &Path) -> anyhow::Result<ModelSlug> {
    let name = config.model.name.as_str();
    let slug: ModelSlug = format!("{}-int8", name.strip_suffix("-fp32").unwrap_or(name)).parse()?;
    let model = NamedModel {
        dir: Some(folder.to_owned()),
        max_tokens: config.model.max_tokens,
        dimensions: model_registry::DIMENSIONS,
        ..NamedModel::default()
    };
    config.models.0.insert(slug.to_string(), model);
    Ok(slug)
}
