use guildex_producer::eval;

use super::print;
use crate::app::App;
use crate::cli::EvalSessions;

#[cfg(feature = "edge")]
pub use retrieval::retrieval;

/// Scores the sessionizer against marked conversations.
pub async fn sessions(app: &App, args: EvalSessions) -> anyhow::Result<()> {
    let rules = app.config().sessions.rules();
    let report =
        tokio::task::spawn_blocking(move || eval::evaluate(&args.exports, &args.gold, &rules)).await??;
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        print(&report.to_string())?;
    }
    Ok(())
}

#[cfg(feature = "edge")]
mod retrieval {
    use std::path::Path;
    use std::sync::Arc;

    use anyhow::{Context, bail};
    use guildex_embed::{Embedder, LocalConfig, LocalEmbedder};
    use guildex_eval::{Bench, Corpus, Method, Stage};
    use guildex_index::{Fusion, Mode};
    use guildex_types::ModelSlug;

    use super::super::print;
    use crate::app::App;
    use crate::cli::{EvalRetrieval, Precision, SearchMode, SessionMethod};
    use crate::open::local;
    use crate::progress::{Progress, Unit};

    /// Scores searches: does the first message of a marked conversation find the rest?
    pub async fn retrieval(app: &App, args: EvalRetrieval) -> anyhow::Result<()> {
        let sessions = &app.config().sessions;
        let (exports, gold) = (args.exports.clone(), args.gold.clone());
        let corpus = tokio::task::spawn_blocking(move || Corpus::read(&exports, &gold)).await??;
        let method = |method: &SessionMethod| match method {
            SessionMethod::Sessionizer => Method::Sessionizer(sessions.rules()),
            SessionMethod::Plain => Method::Plain,
            SessionMethod::Gap => Method::Gap,
        };
        let mode = |mode: &SearchMode| match mode {
            SearchMode::Dense => Mode::Dense,
            SearchMode::Sparse => Mode::Sparse,
            SearchMode::Hybrid => Mode::Hybrid,
        };
        let bench = Bench {
            models: models(app, &args).await?,
            methods: args.methods.iter().map(method).collect(),
            modes: args.modes.iter().map(mode).collect(),
            eligible: sessions.eligibility(),
            fusion: Fusion::default(),
        };
        let mut progress: Option<Progress> = None;
        let report = bench.run(&corpus, &mut |stage| show(&mut progress, stage)).await?;
        match args.json {
            true => print(&format!("{}\n", serde_json::to_string_pretty(&report)?)),
            false => print(&report.to_string()),
        }
    }

    /// A bar for each model and method, one after another.
    fn show(progress: &mut Option<Progress>, Stage { model, method, done, total }: Stage<'_>) {
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

    async fn models(app: &App, args: &EvalRetrieval) -> anyhow::Result<Vec<Arc<dyn Embedder>>> {
        let wanted = |precision| args.models.is_empty() || args.models.contains(&precision);
        let configured = local(&app.config().model);
        let mut configs = Vec::new();
        match &args.int8 {
            Some(folder) if wanted(Precision::Int8) => configs.push(in_int8(&configured, folder)?),
            None if args.models.contains(&Precision::Int8) => bail!(
                "where is the model in int8? Name its folder with --int8; `scripts/model int8` makes one"
            ),
            _ => {}
        }
        if wanted(Precision::Configured) {
            configs.insert(0, configured);
        }
        let mut models: Vec<Arc<dyn Embedder>> = Vec::with_capacity(configs.len());
        for config in configs {
            let slug = config.slug.clone();
            let loaded = tokio::task::spawn_blocking(move || LocalEmbedder::load(config)).await?;
            models.push(Arc::new(loaded.with_context(|| format!("cannot load the model {slug}"))?));
        }
        Ok(models)
    }

    /// The configured model from another folder, under a name that tells the precision.
    fn in_int8(configured: &LocalConfig, folder: &Path) -> anyhow::Result<LocalConfig> {
        let name = configured.slug.as_str();
        let slug: ModelSlug = format!("{}-int8", name.strip_suffix("-fp32").unwrap_or(name)).parse()?;
        Ok(LocalConfig { slug, model_dir: Some(folder.to_owned()), ..configured.clone() })
    }
}
