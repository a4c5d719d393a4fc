//! `guildex bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use guildex_bench::embed::Way;
use guildex_document::CHUNK_TOKENS;

/// Benchmarks. Those that need a database create a temporary one on the server of `database.url`.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Empty jobs through Postgres and Redis: enqueued and completed per second, and the cost of each
    Queue(BenchQueue),
    /// Worker without a model, which writes nothing, for `queue`
    #[command(hide = true)]
    WorkerAlone,
    /// Texts through the model, compared with plain fastembed and with the peak of the cores
    Embed(BenchEmbed),
    /// Embeds the texts on standard input by one method, for `embed`
    #[command(hide = true)]
    EmbedAlone(BenchEmbedAlone),
    /// Backfill from queued jobs to recorded points, compared with the model alone on the same texts
    Pipeline(BenchPipeline),
    /// Time from a new message to the first search that finds it
    Freshness(BenchFreshness),
    /// Searches among many generated sessions
    Search(BenchSearch),
    /// Imports of exports to Postgres, first and repeated, and sessionizing
    Ingest(BenchIngest),
    /// Generate exports with any number of messages that resemble real chat
    Generate(BenchGenerate),
}

/// Options of every benchmark.
#[derive(Debug, Clone, Copy, Args)]
pub struct RunOptions {
    /// Number of runs; the medians are printed
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Bench::Embed`].
#[derive(Debug, Args)]
pub struct BenchEmbed {
    /// Export files (NAME.json or NAME.json.gz) or folders
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    pub exports: Vec<PathBuf>,
    /// Number of texts per run, sampled evenly
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub texts: u32,
    /// Maximum tokens per text, up to the model's limit
    #[arg(long, value_name = "N", default_value_t = CHUNK_TOKENS, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(32..=8192))]
    pub tokens: usize,
    /// Thread counts to compare [default: 1, 2, 4 and so on, up to all cores]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Vec<u32>,
    /// Folder with the int8 version of model.name, to compare both; `scripts/model fp32` creates both
    #[arg(long, value_name = "DIR", env = "GUILDEX_INT8_MODEL_DIR")]
    pub int8: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunOptions,
}

/// See [`Bench::EmbedAlone`].
#[derive(Debug, Args)]
pub struct BenchEmbedAlone {
    /// Method
    pub way: Way,
    /// Folder of the model [default: that of model.name]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
}

/// See [`Bench::Queue`].
#[derive(Debug, Args)]
pub struct BenchQueue {
    /// Number of jobs per run
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: u32,
    /// Numbers of worker processes to compare
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1, 2], value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: Vec<u32>,
    /// Runs and output
    #[command(flatten)]
    pub run: RunOptions,
}

/// See [`Bench::Pipeline`].
#[derive(Debug, Args)]
pub struct BenchPipeline {
    /// Export files or folders to import
    #[arg(long, required = true, value_name = "PATH", num_args = 1..)]
    pub exports: Vec<PathBuf>,
    /// Use hashes of the texts as vectors, to measure everything except the model
    #[arg(long)]
    pub hashed: bool,
    /// Runs and output
    #[command(flatten)]
    pub run: RunOptions,
}

/// See [`Bench::Freshness`].
#[derive(Debug, Args)]
pub struct BenchFreshness {
    /// Export files or folders whose messages arrive
    #[arg(long, required = true, value_name = "PATH", num_args = 1..)]
    pub exports: Vec<PathBuf>,
    /// Messages per second
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rate: u32,
    /// Duration
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Bench::Search`].
#[derive(Debug, Args)]
pub struct BenchSearch {
    /// Numbers of sessions, one point each, to generate and search in turn
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [10_000, 100_000], value_parser = clap::value_parser!(u32).range(100..))]
    pub sessions: Vec<u32>,
    /// Number of searches per run
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub searches: u32,
    /// Runs and output
    #[command(flatten)]
    pub run: RunOptions,
}

/// See [`Bench::Ingest`].
#[derive(Debug, Args)]
pub struct BenchIngest {
    /// Export files or folders [default: 200,000 generated messages]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub exports: Vec<PathBuf>,
    /// Runs and output
    #[command(flatten)]
    pub run: RunOptions,
}

/// See [`Bench::Generate`].
#[derive(Debug, Args)]
pub struct BenchGenerate {
    /// Total number of messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: u64,
    /// Number of guilds; a few are large, many are small
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub guilds: u32,
    /// Export files or folders to learn from [default: the built-in samples]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub exports: Vec<PathBuf>,
    /// Output folder
    #[arg(long, value_name = "DIR", default_value = "generated")]
    pub out: PathBuf,
    /// Seed of the generator
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}
