//! `guildex bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use guildex_bench::embed::EmbedMethod;
use guildex_document::CHUNK_TOKENS;

/// Benchmark to run. Those that need a database create a temporary one on the server of `database.url`.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Throughput and cost of the job queue, with jobs that do nothing
    Queue(BenchQueue),
    /// Run a worker without models (used by `queue`)
    #[command(hide = true)]
    WorkerProcess,
    /// Throughput of the model, compared with plain fastembed and the peak of the processor
    Embed(BenchEmbed),
    /// Embed the texts on standard input with one method (used by `embed`)
    #[command(hide = true)]
    EmbedProcess(BenchEmbedProcess),
    /// Throughput of a backfill from queued jobs to recorded points, compared with the model alone
    Pipeline(BenchPipeline),
    /// Time until a search finds a new message
    Freshness(BenchFreshness),
    /// Latency and throughput of searches among many generated sessions
    Search(BenchSearch),
    /// Throughput of imports and of the sessionizer
    Ingest(BenchIngest),
    /// Generate exports with any number of realistic messages
    Generate(BenchGenerate),
}

/// Options of every benchmark.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Number of runs; the report shows medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Bench::Embed`].
#[derive(Debug, Args)]
pub struct BenchEmbed {
    /// Exports (NAME.json or NAME.json.gz), or directories of exports
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    pub exports: Vec<PathBuf>,
    /// Texts per run, sampled evenly
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub texts: u32,
    /// Maximum tokens of a text, up to those of the model
    #[arg(long, value_name = "N", default_value_t = CHUNK_TOKENS, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(32..=8192))]
    pub tokens: usize,
    /// Numbers of threads to compare [default: 1, 2, 4 and so on, up to all cores]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Vec<u32>,
    /// Directory with model.name in int8, to compare both precisions; `scripts/model fp32` creates both
    #[arg(long, value_name = "DIR", env = "GUILDEX_INT8_MODEL_DIR")]
    pub int8: Option<PathBuf>,
    #[command(flatten)]
    pub output: Output,
}

/// See [`Bench::EmbedProcess`].
#[derive(Debug, Args)]
pub struct BenchEmbedProcess {
    /// Method of calling the model
    pub method: EmbedMethod,
    /// Directory of the model [default: that of model.name]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
}

/// See [`Bench::Queue`].
#[derive(Debug, Args)]
pub struct BenchQueue {
    /// Jobs per run
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: u32,
    /// Numbers of worker processes to compare
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1, 2], value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: Vec<u32>,
    #[command(flatten)]
    pub output: Output,
}

/// See [`Bench::Pipeline`].
#[derive(Debug, Args)]
pub struct BenchPipeline {
    /// Exports to import, or directories of exports
    #[arg(long, required = true, value_name = "PATH", num_args = 1..)]
    pub exports: Vec<PathBuf>,
    /// Use hashes instead of a model, to measure everything else
    #[arg(long)]
    pub hashed: bool,
    #[command(flatten)]
    pub output: Output,
}

/// See [`Bench::Freshness`].
#[derive(Debug, Args)]
pub struct BenchFreshness {
    /// Exports with the messages, or directories of exports
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
    /// Numbers of sessions to compare, with one point each
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [10_000, 100_000], value_parser = clap::value_parser!(u32).range(100..))]
    pub sessions: Vec<u32>,
    /// Searches per run
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub searches: u32,
    #[command(flatten)]
    pub output: Output,
}

/// See [`Bench::Ingest`].
#[derive(Debug, Args)]
pub struct BenchIngest {
    /// Exports, or directories of exports [default: 200,000 generated messages]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub exports: Vec<PathBuf>,
    #[command(flatten)]
    pub output: Output,
}

/// See [`Bench::Generate`].
#[derive(Debug, Args)]
pub struct BenchGenerate {
    /// Total number of messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: u64,
    /// Number of guilds: a few large and many small ones
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub guilds: u32,
    /// Exports to learn from, or directories of exports [default: samples/ of the source tree]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub exports: Vec<PathBuf>,
    /// Output directory
    #[arg(long, value_name = "DIR", default_value = "generated")]
    pub out: PathBuf,
    /// Seed; another one gives other messages
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}
