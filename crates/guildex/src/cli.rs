//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use guildex_types::{ChannelId, GuildId};

use crate::config::key_value;

/// A Discord community's memory, searchable.
///
/// Guildex keeps a vector index in step with the messages in Postgres: it groups them into conversations,
/// embeds these on this machine, and answers searches that never leave a guild.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    /// The configuration file [default: guildex.toml, then /etc/guildex/guildex.toml]
    #[arg(long, global = true, value_name = "FILE", env = "GUILDEX_CONFIG")]
    pub config: Option<PathBuf>,

    /// Sets a key of the configuration, over file and environment; repeatable
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub overrides: Vec<(String, String)>,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Every role of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the database's schema up to date
    Migrate,
    /// Import DiscordChatExporter's JSON exports, plain or gzipped, files or folders
    Import(Import),
    /// Run every role in one process: dispatcher, worker, and search for other processes of this machine
    Up(Up),
    /// Run jobs: embed sessions and keep the index in step
    Worker,
    /// Move due jobs from Postgres into Redis; one is enough, more are safe
    Dispatcher,
    /// Bring whole channels in step: messages that are in no session, sessions that are not indexed
    Backfill(Backfill),
    /// Search a guild's conversations
    Search(Search),
    /// Show what is stored, indexed, waiting and dead, by guild
    Status(Status),
    /// Measure quality on annotated conversations
    #[command(subcommand)]
    Eval(Eval),
    /// Print the configuration in force, and where it comes from; secrets are hidden
    Config,
}

/// See [`Command::Import`].
#[derive(Debug, Args)]
pub struct Import {
    /// Export files, or folders that hold some
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// See [`Command::Up`].
#[derive(Debug, Args)]
pub struct Up {
    /// Exit when no job is pending, queued or running
    #[arg(long)]
    pub until_idle: bool,
}

/// See [`Command::Backfill`].
#[derive(Debug, Args)]
pub struct Backfill {
    /// The guild's id
    #[arg(long, value_name = "ID")]
    pub guild: GuildId,
    /// One channel or thread of it [default: all]
    #[arg(long, value_name = "ID")]
    pub channel: Option<ChannelId>,
    /// Write the jobs down and return, instead of watching them until all is done
    #[arg(long)]
    pub detach: bool,
}

/// See [`Command::Search`].
#[derive(Debug, Args)]
pub struct Search {
    /// The guild's id
    #[arg(long, value_name = "ID")]
    pub guild: GuildId,
    /// A channel or thread to look in; repeatable [default: all]
    #[arg(long = "channel", value_name = "ID")]
    pub channels: Vec<ChannelId>,
    /// How many conversations to show
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What to look for, in any words
    #[arg(required = true, value_name = "QUERY")]
    pub query: Vec<String>,
}

/// See [`Command::Status`].
#[derive(Debug, Args)]
pub struct Status {
    /// One guild's id [default: all]
    #[arg(long, value_name = "ID")]
    pub guild: Option<GuildId>,
    /// Print JSON; with --watch one document a line
    #[arg(long)]
    pub json: bool,
    /// Refresh every two seconds until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

/// See [`Command::Eval`].
#[derive(Debug, Subcommand)]
pub enum Eval {
    /// Compare sessions with conversations that people marked
    Sessions(EvalSessions),
    /// Ask the first message of each marked conversation, and see whether searches find the rest
    #[cfg(feature = "edge")]
    Retrieval(EvalRetrieval),
}

/// See [`Eval::Sessions`].
#[derive(Debug, Args)]
pub struct EvalSessions {
    /// The folder of exports (NAME.json or NAME.json.gz)
    #[arg(long, value_name = "DIR")]
    pub exports: PathBuf,
    /// The folder of annotations (NAME.json)
    #[arg(long, value_name = "DIR")]
    pub gold: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Eval::Retrieval`].
#[cfg(feature = "edge")]
#[derive(Debug, Args)]
pub struct EvalRetrieval {
    /// The folder of exports (NAME.json or NAME.json.gz): all channels are one guild
    #[arg(long, value_name = "DIR")]
    pub exports: PathBuf,
    /// The folder of annotations (NAME.json)
    #[arg(long, value_name = "DIR")]
    pub gold: PathBuf,
    /// A folder with the configured model in int8, to compare the two (`scripts/model int8` makes one)
    #[arg(long, value_name = "DIR", env = "GUILDEX_INT8_MODEL_DIR")]
    pub int8: Option<PathBuf>,
    /// Precisions to compare [default: all that are at hand]
    #[arg(long, value_name = "NAME", value_enum, value_delimiter = ',')]
    pub models: Vec<Precision>,
    /// Ways to make sessions
    #[arg(long, value_name = "NAME", value_enum, value_delimiter = ',', default_values_t = [SessionMethod::Sessionizer, SessionMethod::Plain, SessionMethod::Gap])]
    pub methods: Vec<SessionMethod>,
    /// Ways to rank
    #[arg(long, value_name = "NAME", value_enum, value_delimiter = ',', default_values_t = [SearchMode::Dense, SearchMode::Sparse, SearchMode::Hybrid])]
    pub modes: Vec<SearchMode>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which of a model's two forms.
#[cfg(feature = "edge")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// As it is configured
    Configured,
    /// With weights of eight bits, from the folder of --int8
    Int8,
}

/// A way to make sessions.
#[cfg(feature = "edge")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SessionMethod {
    /// The one in use
    Sessionizer,
    /// Replies, mentions within 60 minutes, else the author's own last message within 5
    Plain,
    /// A new session after each pause of 30 minutes
    Gap,
}

/// What ranks the points.
#[cfg(feature = "edge")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SearchMode {
    /// Vectors alone
    Dense,
    /// Words alone
    Sparse,
    /// Both, fused
    Hybrid,
}
