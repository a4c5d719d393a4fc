//! Subcommands, one per module.

mod backfill;
mod backup;
#[cfg(feature = "embedded")]
mod bench;
mod doctor;
mod eval;
mod forget;
mod import;
mod init;
mod jobs;
mod language;
mod reindex;
mod search;
mod services;
mod status;
mod verify;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;

use crate::app::App;
use crate::cli::{Cli, Command, Eval};
use crate::config::{Config, environment};
use crate::log;

/// Runs the command.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    #[cfg(feature = "embedded")]
    let flags = bench::flags(&cli);
    let loaded = Config::load(cli.config.as_deref(), environment(), &cli.overrides)?;
    log::start(&loaded.config.log)?;
    if let Command::Config = cli.command {
        print(&loaded.to_toml())?;
        return Ok(ExitCode::SUCCESS);
    }
    let app = App::new(loaded.config);
    match cli.command {
        Command::Migrate => services::migrate(&app).await?,
        Command::Import(args) => return import::run(&app, args).await,
        Command::Up(args) => services::up(&app, args.until_idle).await?,
        Command::Init(args) => return init::run(&app, args).await,
        Command::Worker => services::worker(&app).await?,
        Command::Dispatcher => services::dispatcher(&app).await?,
        Command::Backfill(args) => backfill::run(&app, args).await?,
        Command::Reindex(args) => reindex::run(&app, args).await?,
        Command::Forget(args) => return forget::run(&app, args).await,
        Command::OptOut(args) => return forget::opt_out(&app, args).await,
        Command::OptIn(args) => forget::opt_in(&app, args).await?,
        Command::Language(args) => language::run(&app, args).await?,
        Command::Backup(args) => backup::back_up(&app, args).await?,
        Command::Restore(args) => backup::restore(&app, args).await?,
        Command::Search(args) => search::run(&app, args).await?,
        Command::Status(args) => status::run(&app, args).await?,
        Command::Jobs(args) => return jobs::run(&app, args).await,
        Command::Verify(args) => return verify::run(&app, args).await,
        Command::Doctor(args) => return doctor::run(&app, loaded.file, args).await,
        Command::Eval(Eval::Sessions(args)) => eval::sessions(&app, args).await?,
        #[cfg(feature = "embedded")]
        Command::Eval(Eval::Retrieval(args)) => eval::retrieval(&app, args).await?,
        #[cfg(feature = "embedded")]
        Command::Bench(what) => bench::run(&app, &flags, what).await?,
        Command::Config => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes to standard output. A closed pipe (`| head`) is not an error.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
