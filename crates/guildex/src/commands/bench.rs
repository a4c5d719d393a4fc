use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use guildex_bench::generate::{self, Generate};
use guildex_bench::{Program, Report, Servers, embed, freshness, ingest, pipeline, queue, search};
use guildex_consistency::heartbeat;
use guildex_embed::{Embedder, LocalConfig, LocalEmbedder, LocalSource, Pooling};
use guildex_index::{EmbeddedIndex, QdrantServer, VectorIndex};
use guildex_worker::exit_hung;

use super::print;
use crate::app::App;
use crate::cli::{Bench, BenchEmbed, BenchEmbedAlone, BenchGenerate, Cli};
use crate::config::Backend;
use crate::model_registry;
use crate::progress::{Progress, Unit};
use crate::{shutdown, startup};

/// Flags to pass to the measured processes: all except those that the sandbox sets.
pub fn flags(cli: &Cli) -> Vec<String> {
    let file = cli.config.iter().flat_map(|file| ["--config".to_owned(), file.display().to_string()]);
    let own = |key: &str| ["database.url", "redis.", "data_dir"].iter().any(|own| key.starts_with(own));
    let settings = cli.overrides.iter().filter(|(key, _)| !own(key));
    file.chain(settings.flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")])).collect()
}

pub async fn run(app: &App, flags: &[String], what: Bench) -> anyhow::Result<()> {
    let executable = std::env::current_exe().context("cannot find the executable of this process")?;
    let program = Program { executable, flags: flags.to_vec() };
    let (report, json) = match what {
        Bench::Embed(args) => (embed(app, &program, &args).await?, args.run.json),
        Bench::EmbedAlone(args) => return embed_alone(app, args).await,
        Bench::Generate(args) => return generate(args).await,
        Bench::WorkerAlone => return worker_alone(app).await,
        Bench::Ingest(args) => {
            let options = ingest::Ingest { exports: args.exports, runs: args.run.runs as usize };
            (ingest::run(&servers(app)?, &program, &options).await?, args.run.json)
        }
        Bench::Queue(args) => {
            let (jobs, runs) = (args.jobs as usize, args.run.runs as usize);
            let workers = args.workers.into_iter().map(|count| count as usize).collect();
            let options = queue::Queue { jobs, runs, workers };
            (queue::run(&servers(app)?, &program, &options).await?, args.run.json)
        }
        Bench::Pipeline(args) => {
            let (program, alone) = match args.hashed {
                true => (hashed(app, program), None),
                false => (program, Some(app.models()?.get(app.first_model().0).await?)),
            };
            let options = pipeline::Pipeline { exports: args.exports, runs: args.run.runs as usize, alone };
            (pipeline::run(&servers(app)?, &program, &options).await?, args.run.json)
        }
        Bench::Freshness(args) => {
            let (rate, seconds) = (args.rate, args.seconds);
            let options =
                freshness::Freshness { exports: args.exports, rate, seconds, ingest: app.ingest_config() };
            (freshness::run(&servers(app)?, &program, &options).await?, args.json)
        }
        Bench::Search(args) => {
            let (searches, runs) = (args.searches as usize, args.run.runs as usize);
            let sessions = args.sessions.into_iter().map(i64::from).collect();
            let embedder = app.models()?.get(app.first_model().0).await?;
            let server = match app.config().index.backend {
                Backend::Server => Some(Arc::new(app.server()?)),
                Backend::Embedded => None,
            };
            let open = |folder: &Path| open_in(server.as_ref(), folder);
            let options = search::Search { sessions, searches, runs };
            (search::run(&servers(app)?, &open, &embedder, &options).await?, args.run.json)
        }
    };
    print_report(&report, json)
}

async fn embed(app: &App, program: &Program, args: &BenchEmbed) -> anyhow::Result<Report> {
    let sessions = &app.config().sessions;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let doubled =
        std::iter::successors(Some(1), |threads| Some(threads * 2)).take_while(|&threads| threads < cores);
    let threads = match args.threads.is_empty() {
        true => doubled.chain([cores]).collect(),
        false => args.threads.iter().map(|&threads| threads as usize).collect(),
    };
    let options = embed::Embed {
        exports: args.exports.clone(),
        rules: sessions.rules(),
        eligible: sessions.eligibility(),
        texts: args.texts as usize,
        tokens: args.tokens,
        runs: args.run.runs as usize,
        threads,
        int8: args.int8.clone(),
    };
    let config = LocalConfig { instances: 1, ..model_registry::local_model(app.config()) };
    let model = tokio::task::spawn_blocking(move || LocalEmbedder::load(config)).await??;
    let tokenizer = model.tokenizer().clone();
    drop(model);
    Ok(embed::run(program, &tokenizer, &options).await?)
}

async fn embed_alone(app: &App, args: BenchEmbedAlone) -> anyhow::Result<()> {
    let texts = serde_json::from_reader(std::io::stdin().lock())
        .context("standard input is not a JSON list of texts")?;
    let config = model_registry::local_model(app.config());
    let source = args.model.map(|path| LocalSource::Folder { path, pooling: Pooling::Mean });
    let config = LocalConfig { source: source.unwrap_or_else(|| config.source.clone()), ..config };
    let measured = embed::alone(args.way, config, texts).await?;
    print(&serde_json::to_string(&measured)?)
}

/// Runs a worker without a model in the database, so that there is no collection: workers with separate embedded
/// indexes would take its ownership from each other.
async fn worker_alone(app: &App) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let pool = app.database().await?;
    let (queues, index) = (app.queues().await?, startup::index(app).await?);
    let worker = app.worker(app.ingest(pool.clone()), queues, app.models()?, index, Arc::new(exit_hung));
    let heartbeat = heartbeat::run(&pool, &worker.name, "worker", worker.config.slots(), stop.clone());
    tokio::join!(worker.run(stop.clone()), heartbeat);
    Ok(())
}

async fn generate(args: BenchGenerate) -> anyhow::Result<()> {
    let BenchGenerate { messages, guilds, exports, out, seed } = args;
    let folder = out.display().to_string();
    let options = Generate { messages, guilds, exports: generate::or_samples(exports), out, seed };
    let progress = Mutex::new(Progress::new("generating", Unit::Things("messages"), messages));
    let made = tokio::task::spawn_blocking(move || {
        let update = |done| {
            if let Ok(mut progress) = progress.lock() {
                progress.update(done, messages, "");
            }
        };
        generate::run(&options, update)
    });
    let made = made.await??;
    let (messages, channels, bytes) = (made.messages, made.channels, made.bytes);
    tracing::info!(messages, channels, bytes, folder, "generated");
    Ok(())
}

fn print_report(report: &Report, json: bool) -> anyhow::Result<()> {
    match json {
        true => print(&format!("{}\n", serde_json::to_string_pretty(report)?)),
        false => print(&report.to_string()),
    }
}

/// Replaces the model by hashes; only the tokenizer runs.
fn hashed(app: &App, program: Program) -> Program {
    let program = program.set("models.bench-hash.provider=hash").set("model.name=bench-hash");
    match &app.config().model.dir {
        Some(folder) => {
            program.set(format!("models.bench-hash.tokenizer={}", folder.join("tokenizer.json").display()))
        }
        None => program,
    }
}

fn open_in(
    server: Option<&Arc<QdrantServer>>,
    folder: &Path,
) -> Result<Arc<dyn VectorIndex>, guildex_index::Error> {
    match server {
        Some(server) => Ok(server.clone()),
        None => Ok(Arc::new(EmbeddedIndex::open(folder)?)),
    }
}

fn servers(app: &App) -> anyhow::Result<Servers> {
    let postgres = app.config().database_url()?.expose().parse().context("database.url is not a URL")?;
    Ok(Servers { postgres, redis: app.config().redis_url()?.expose().to_owned() })
}
