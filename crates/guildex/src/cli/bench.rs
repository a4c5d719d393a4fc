//! `guildex bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to measure. Each makes a database of its own on the server of `database.url`, and takes it away.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Jobs that do nothing, through ledger and Redis: enqueued and drained a second, and what each costs
    Queue(BenchQueue),
    /// Exports into Postgres: imported, imported again, and made into sessions
    Ingest(BenchIngest),
    /// Write exports of any number of messages in the shape of real chat
    Generate(BenchGenerate),
}

/// See [`Bench::Ingest`].
#[derive(Debug, Args)]
pub struct BenchIngest {
    /// Exports, or folders that hold some [default: 200,000 messages that are made for it]
    #[arg(long, value_name = "PATH")]
    pub exports: Vec<PathBuf>,
    /// Runs, of which the medians are told
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Bench::Generate`].
#[derive(Debug, Args)]
pub struct BenchGenerate {
    /// Messages in all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: u64,
    /// Guilds that they are of; few are large, many are small
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub guilds: u32,
    /// Exports to learn from, or folders that hold some [default: the samples that the program was built with]
    #[arg(long, value_name = "PATH")]
    pub exports: Vec<PathBuf>,
    /// The folder to write to
    #[arg(long, value_name = "DIR", default_value = "generated")]
    pub out: PathBuf,
    /// Another seed makes other messages
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// See [`Bench::Queue`].
#[derive(Debug, Args)]
pub struct BenchQueue {
    /// Jobs of a run
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: u32,
    /// Runs, of which the medians are told
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Numbers of worker processes to compare
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1, 2], value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: Vec<u32>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
