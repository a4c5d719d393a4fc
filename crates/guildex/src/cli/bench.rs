//! `guildex bench`.

use clap::{Args, Subcommand};

/// What to measure. Each makes a database of its own on the server of `database.url`, and takes it away.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Jobs that do nothing, through ledger and Redis: enqueued and drained a second, and what each costs
    Queue(BenchQueue),
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
