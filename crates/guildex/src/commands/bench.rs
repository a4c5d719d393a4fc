use std::sync::Mutex;

use anyhow::Context;
use guildex_bench::generate::{self, Generate};
use guildex_bench::{Program, Report, Servers, ingest, queue};

use super::print;
use crate::app::App;
use crate::cli::{Bench, BenchGenerate, BenchIngest, BenchQueue, Cli};
use crate::progress::{Progress, Unit};

/// The flags that the measured processes get, too: all but what a scratch gives them.
pub fn flags(cli: &Cli) -> Vec<String> {
    let file = cli.config.iter().flat_map(|file| ["--config".to_owned(), file.display().to_string()]);
    let own = |key: &str| ["database.url", "redis.", "data_dir"].iter().any(|own| key.starts_with(own));
    let settings = cli.overrides.iter().filter(|(key, _)| !own(key));
    file.chain(settings.flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")])).collect()
}

pub async fn run(app: &App, flags: &[String], what: Bench) -> anyhow::Result<()> {
    let what = match what {
        Bench::Generate(args) => return generate(args).await,
        what => what,
    };
    let servers = servers(app)?;
    let executable = std::env::current_exe().context("cannot find this program's own file")?;
    let program = Program { executable, flags: flags.to_vec() };
    let (report, json) = match what {
        Bench::Queue(BenchQueue { jobs, runs, workers, json }) => {
            let workers = workers.into_iter().map(|count| count as usize).collect();
            let options = queue::Queue { jobs: jobs as usize, runs: runs as usize, workers };
            (queue::run(&servers, &program, &options).await?, json)
        }
        Bench::Ingest(BenchIngest { exports, runs, json }) => {
            let options = ingest::Ingest { exports, runs: runs as usize };
            (ingest::run(&servers, &program, &options).await?, json)
        }
        Bench::Generate(_) => return Ok(()),
    };
    tell(&report, json)
}

async fn generate(args: BenchGenerate) -> anyhow::Result<()> {
    let BenchGenerate { messages, guilds, exports, out, seed } = args;
    let folder = out.display().to_string();
    let options = Generate { messages, guilds, exports: generate::or_samples(exports), out, seed };
    let progress = Mutex::new(Progress::new("generating", Unit::Things("messages"), messages));
    let made = tokio::task::spawn_blocking(move || {
        let told = |done| {
            if let Ok(mut progress) = progress.lock() {
                progress.update(done, messages, "");
            }
        };
        generate::run(&options, told)
    });
    let made = made.await??;
    tracing::info!(
        messages = made.messages,
        channels = made.channels,
        bytes = made.bytes,
        folder,
        "generated"
    );
    Ok(())
}

fn tell(report: &Report, json: bool) -> anyhow::Result<()> {
    match json {
        true => print(&format!("{}\n", serde_json::to_string_pretty(report)?)),
        false => print(&report.to_string()),
    }
}

fn servers(app: &App) -> anyhow::Result<Servers> {
    let postgres = app.config().database_url()?.expose().parse().context("database.url is no URL")?;
    Ok(Servers { postgres, redis: app.config().redis_url()?.expose().to_owned() })
}
