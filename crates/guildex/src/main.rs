//! The `guildex` command: searchable memory of Discord communities. Each service and tool is a subcommand.

mod app;
mod cli;
mod commands;
mod config;
mod log;
mod model_registry;
mod progress;
mod self_restart;
mod shutdown;
mod startup;

use std::process::ExitCode;

use clap::Parser;
use guildex_types::ErrorChain;

use crate::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let status = cli.command.status_of_errors();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into(), status),
    };
    match runtime.block_on(commands::run(cli)) {
        Ok(code) => code,
        Err(error) => fail(&error, status),
    }
}

/// Prints an error with its causes, and returns the exit status.
fn fail(error: &anyhow::Error, status: u8) -> ExitCode {
    eprintln!("error: {}", ErrorChain(error.as_ref()));
    status.into()
}
