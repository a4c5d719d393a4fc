//! `guildex bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use guildex_bench::embed::Way;
use guildex_document::CHUNK_TOKENS;

/// What to measure. Whatever needs a database makes one of its own on the server of `database.url`, and takes it away.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Jobs that do nothing, through ledger and Redis: enqueued and drained a second, and what each costs
    Queue(BenchQueue),
    /// A worker without a model and so without anything to write, however many share a database: what `queue` runs
    #[command(hide = true)]
    WorkerAlone,
    /// Texts through the model: ours, and fastembed left to itself; and how near that is to what the cores can do
    Embed(BenchEmbed),
    /// One way to embed the texts on standard input: what `embed` runs in processes of their own
    #[command(hide = true)]
    EmbedAlone(BenchEmbedAlone),
    /// A backfill from queued jobs to recorded points, and its share of what the model alone does with the same texts
    Pipeline(BenchPipeline),
    /// How soon a search finds what somebody just wrote
    Freshness(BenchFreshness),
    /// Searches among many made-up sessions
    Search(BenchSearch),
    /// Exports into Postgres: imported, imported again, and made into sessions
    Ingest(BenchIngest),
    /// Write exports of any number of messages in the shape of real chat
    Generate(BenchGenerate),
}

/// Of every benchmark.
#[derive(Debug, Clone, Copy, Args)]
pub struct Told {
    /// Runs, of which the medians are told
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Bench::Embed`].
#[derive(Debug, Args)]
pub struct BenchEmbed {
    /// Exports (NAME.json or NAME.json.gz), or folders of them
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    pub exports: Vec<PathBuf>,
    /// Texts of a run, taken evenly from all that there are
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub texts: u32,
    /// The most tokens of a text, up to the model's window
    #[arg(long, value_name = "N", default_value_t = CHUNK_TOKENS, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(32..=8192))]
    pub tokens: usize,
    /// Numbers of threads to compare [default: 1, 2, 4 and so on, up to all cores]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: Vec<u32>,
    /// A folder with model.name in int8, to compare the two; `scripts/model fp32` makes both
    #[arg(long, value_name = "DIR", env = "GUILDEX_INT8_MODEL_DIR")]
    pub int8: Option<PathBuf>,
    #[command(flatten)]
    pub told: Told,
}

/// See [`Bench::EmbedAlone`].
#[derive(Debug, Args)]
pub struct BenchEmbedAlone {
    /// The way
    pub way: Way,
    /// The model's folder [default: that of model.name]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
}

/// See [`Bench::Queue`].
#[derive(Debug, Args)]
pub struct BenchQueue {
    /// Jobs of a run
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: u32,
    /// Numbers of worker processes to compare
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1, 2], value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: Vec<u32>,
    /// How it is told
    #[command(flatten)]
    pub told: Told,
}

/// See [`Bench::Pipeline`].
#[derive(Debug, Args)]
pub struct BenchPipeline {
    /// Export files to import, or folders of them
    #[arg(long, required = true, value_name = "PATH", num_args = 1..)]
    pub exports: Vec<PathBuf>,
    /// Draw vectors from the texts' hashes instead of a model: measures all that is not the model
    #[arg(long)]
    pub hashed: bool,
    /// How it is told
    #[command(flatten)]
    pub told: Told,
}

/// See [`Bench::Freshness`].
#[derive(Debug, Args)]
pub struct BenchFreshness {
    /// Export files whose messages arrive, or folders of them
    #[arg(long, required = true, value_name = "PATH", num_args = 1..)]
    pub exports: Vec<PathBuf>,
    /// Messages a second
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rate: u32,
    /// For how long
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Bench::Search`].
#[derive(Debug, Args)]
pub struct BenchSearch {
    /// Numbers of sessions, one point each, to be made and searched in turn
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [10_000, 100_000], value_parser = clap::value_parser!(u32).range(100..))]
    pub sessions: Vec<u32>,
    /// Searches of a run
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub searches: u32,
    /// How it is told
    #[command(flatten)]
    pub told: Told,
}

/// See [`Bench::Ingest`].
#[derive(Debug, Args)]
pub struct BenchIngest {
    /// Exports, or folders that hold some [default: 200,000 messages that are made for it]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub exports: Vec<PathBuf>,
    /// How it is told
    #[command(flatten)]
    pub told: Told,
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
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub exports: Vec<PathBuf>,
    /// The folder to write to
    #[arg(long, value_name = "DIR", default_value = "generated")]
    pub out: PathBuf,
    /// Another seed makes other messages
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}
