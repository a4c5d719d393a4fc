//! The command line.

#[cfg(feature = "embedded")]
mod bench;
mod jobs;

use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use guildex_index::{Mode, bm25};
use guildex_types::{ChannelId, GuildId, MessageId, ModelSlug, UserId};

#[cfg(feature = "embedded")]
pub use self::bench::{Bench, BenchEmbed, BenchEmbedAlone, BenchGenerate};
pub use self::jobs::{Jobs, List, Selection, Show, tenants};
use crate::config::key_value;

/// Searchable memory for Discord communities.
///
/// Guildex keeps a vector index up to date with the messages in Postgres: it groups messages into conversation
/// sessions, embeds them locally, and answers searches that never cross guilds.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    /// Configuration file [default: guildex.toml, then /etc/guildex/guildex.toml]
    #[arg(long, global = true, value_name = "FILE", env = "GUILDEX_CONFIG")]
    pub config: Option<PathBuf>,

    /// Set a configuration key, overriding file and environment; repeatable
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub overrides: Vec<(String, String)>,

    /// Subcommand
    #[command(subcommand)]
    pub command: Command,
}

impl Command {
    /// Exit status of an error. For `verify`, 1 is a result, so errors exit with 2.
    pub fn status_of_errors(&self) -> u8 {
        if matches!(self, Self::Verify(_)) { 2 } else { 1 }
    }
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Migrate the database schema to the latest version
    Migrate,
    /// Import DiscordChatExporter JSON exports: files or folders, plain or gzipped
    Import(Import),
    /// Run every service in one process: dispatcher, worker, and search for other processes on this machine
    ///
    /// Restarts itself if a job hangs past its hard limit (worker.time_limits).
    Up(Up),
    /// Create missing index collections and repair their settings
    Init(Init),
    /// Run jobs: embed sessions and update the index
    ///
    /// Exits with 75 if a job hangs past its hard limit (worker.time_limits); run it under a supervisor that restarts
    /// it.
    Worker,
    /// Move due jobs from Postgres to Redis; one is enough, more are safe
    Dispatcher,
    /// Assign messages without a session and index sessions that are out of date, for whole channels
    Backfill(Backfill),
    /// Change the embedding model: fill a new collection while the old one serves, then switch
    Reindex(Reindex),
    /// Permanently delete messages, or those of a member, channel or guild, and print a receipt
    Forget(Forget),
    /// Stop storing the messages of a member or channel, and delete the stored ones
    OptOut(OptOut),
    /// End an opt-out: store new messages again
    OptIn(OptIn),
    /// Show or set a guild's language, used to stem words for keyword search
    Language(Language),
    /// Back up the index and its records in the database to a folder
    Backup(Backup),
    /// Restore a backup; messages deleted or changed since then stay so
    Restore(Backup),
    /// Search a guild's conversations
    Search(Search),
    /// Show stored and indexed sessions and pending and dead jobs by guild, models, processes and periodic tasks
    Status(Status),
    /// List, show, retry, cancel and purge jobs
    #[command(subcommand)]
    Jobs(Jobs),
    /// Compare Postgres with the index in both directions; exits with 1 if they differ, with 2 on errors
    Verify(Verify),
    /// Check every dependency with a round trip and say how to fix what fails; exits with 1 if a check fails
    Doctor(Doctor),
    /// Measure the quality of sessions and searches on annotated conversations
    #[command(subcommand)]
    Eval(Eval),
    /// Measure speed and memory, in a temporary database, Redis prefix and folder
    #[cfg(feature = "embedded")]
    #[command(subcommand)]
    Bench(Bench),
    /// Print the effective configuration and the origin of each value; secrets are hidden
    Config,
}

/// See [`Command::Import`].
#[derive(Debug, Args)]
pub struct Import {
    /// Export files or folders
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
    /// Guild id
    #[arg(long, value_name = "ID")]
    pub guild: GuildId,
    /// Channel or thread id [default: all]
    #[arg(long, value_name = "ID")]
    pub channel: Option<ChannelId>,
    /// Enqueue the jobs and exit instead of waiting for them
    #[arg(long, conflicts_with = "bulk")]
    pub detach: bool,
    /// Make a Qdrant server build its graphs once at the end; searches are slower until then
    #[arg(long)]
    pub bulk: bool,
}

/// See [`Command::Forget`].
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["user", "messages", "channel", "all"]))]
pub struct Forget {
    /// Guild id
    #[arg(long, value_name = "ID")]
    pub guild: GuildId,
    /// All messages of this member
    #[arg(long, value_name = "ID")]
    pub user: Option<UserId>,
    /// These messages, in any channel; repeatable
    #[arg(long = "message", value_name = "ID", num_args = 1..)]
    pub messages: Vec<MessageId>,
    /// This channel with its threads, or this thread
    #[arg(long, value_name = "ID")]
    pub channel: Option<ChannelId>,
    /// Everything in the guild
    #[arg(long)]
    pub all: bool,
    /// Confirmation, waiting and output
    #[command(flatten)]
    pub waiting: Waiting,
}

/// See [`Command::OptOut`].
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("who").required(true).args(["user", "channel"]))]
pub struct OptOut {
    /// Guild id
    #[arg(long, value_name = "ID")]
    pub guild: GuildId,
    /// This member
    #[arg(long, value_name = "ID")]
    pub user: Option<UserId>,
    /// This channel with its threads, or this thread
    #[arg(long, value_name = "ID")]
    pub channel: Option<ChannelId>,
    /// Confirmation, waiting and output
    #[command(flatten)]
    pub waiting: Waiting,
}

/// See [`Command::OptIn`].
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("who").required(true).args(["user", "channel"]))]
pub struct OptIn {
    /// Guild id
    #[arg(long, value_name = "ID")]
    pub guild: GuildId,
    /// This member
    #[arg(long, value_name = "ID")]
    pub user: Option<UserId>,
    /// This channel with its threads, or this thread
    #[arg(long, value_name = "ID")]
    pub channel: Option<ChannelId>,
}

/// Confirmation, waiting and output of `forget` and `opt-out`.
#[derive(Debug, Args)]
pub struct Waiting {
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
    /// Exit as soon as searches no longer return the messages, without waiting until their points are deleted
    #[arg(long)]
    pub detach: bool,
    /// Print the receipt as JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Command::Language`].
#[derive(Debug, Args)]
pub struct Language {
    /// Guild id
    #[arg(long, value_name = "ID")]
    pub guild: GuildId,
    /// Such as english; `none` for guilds with several languages [default: show the current one]
    #[arg(value_name = "LANGUAGE")]
    pub language: Option<bm25::Language>,
}

/// See [`Command::Backup`] and [`Command::Restore`].
#[derive(Debug, Args)]
pub struct Backup {
    /// Folder of the backup; `backup` needs a new one
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// See [`Command::Init`].
#[derive(Debug, Args)]
pub struct Init {
    /// Change nothing; print differences and fail if there are any
    #[arg(long)]
    pub check: bool,
    /// Drop and recreate the collections; all sessions are indexed again
    #[arg(long, conflicts_with = "check")]
    pub recreate: bool,
}

/// See [`Command::Reindex`].
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Reindex {
    /// Subcommand, instead of a change of the model
    #[command(subcommand)]
    pub command: Option<ReindexCommand>,
    /// New model: model.name or one of [models.NAME]
    #[arg(long, value_name = "MODEL", required = true)]
    pub to: Option<ModelSlug>,
    /// Fill the collection and keep it up to date, but keep searching the current model
    #[arg(long)]
    pub no_switch: bool,
    /// Keep the old model's collection up to date after the switch; everything is embedded twice
    #[arg(long)]
    pub keep_old: bool,
    /// Switch even if some sessions cannot be embedded
    #[arg(long)]
    pub allow_missing: bool,
    /// Start filling and exit; run the command again to switch
    #[arg(long)]
    pub detach: bool,
}

/// See [`Command::Reindex`].
#[derive(Debug, Subcommand)]
pub enum ReindexCommand {
    /// Drop the collections of models that are no longer used
    DropUnused,
}

/// See [`Command::Search`].
#[derive(Debug, Args)]
pub struct Search {
    /// Guild id
    #[arg(long, value_name = "ID")]
    pub guild: GuildId,
    /// Channel or thread to search; repeatable [default: all]
    #[arg(long = "channel", value_name = "ID")]
    pub channels: Vec<ChannelId>,
    /// Member who takes part in the conversation; repeatable [default: anyone]
    #[arg(long = "author", value_name = "ID")]
    pub authors: Vec<UserId>,
    /// Conversations that ended at this time or later: 2024-09-04 (UTC), or 2024-09-04T17:02:00+02:00
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<DateTime<Utc>>,
    /// Conversations that started before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<DateTime<Utc>>,
    /// Ranking [default: search.mode]
    #[arg(long)]
    pub mode: Option<SearchMode>,
    /// Minimum score, on the scale of the mode
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    pub min_score: Option<f32>,
    /// Number of conversations to show
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: u32,
    /// Number of conversations to skip; at most 200 together with --limit
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub offset: u32,
    /// Number of messages to show before and after each result
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=20))]
    pub surrounding: u32,
    /// Search a model that is still being filled, for comparison [default: the active model]
    #[arg(long, value_name = "SLUG")]
    pub model: Option<ModelSlug>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Search query
    #[arg(required = true, value_name = "QUERY")]
    pub query: Vec<String>,
}

/// Ranking of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SearchMode {
    /// Vectors and keywords, fused
    Hybrid,
    /// Vectors only
    Dense,
    /// Keywords only
    Sparse,
}

impl From<SearchMode> for Mode {
    fn from(mode: SearchMode) -> Self {
        match mode {
            SearchMode::Hybrid => Self::Hybrid,
            SearchMode::Dense => Self::Dense,
            SearchMode::Sparse => Self::Sparse,
        }
    }
}

/// Parses an RFC 3339 time, or a date as its midnight in UTC.
fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let midnight = || Some(text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN).and_utc());
    let moment = DateTime::parse_from_rfc3339(text).map(|moment| moment.to_utc()).ok();
    moment
        .or_else(midnight)
        .ok_or_else(|| "write a date or a time, as in 2024-09-04 or 2024-09-04T17:02:00Z".to_owned())
}

/// See [`Command::Status`].
#[derive(Debug, Args)]
pub struct Status {
    /// Guild id [default: all]
    #[arg(long, value_name = "ID")]
    pub guild: Option<GuildId>,
    /// Print JSON; with --watch one document per line
    #[arg(long)]
    pub json: bool,
    /// Refresh every two seconds until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

/// See [`Command::Verify`].
#[derive(Debug, Args)]
pub struct Verify {
    /// Guild id [default: all]
    #[arg(long, value_name = "ID")]
    pub guild: Option<GuildId>,
    /// Enqueue jobs that repair the differences
    #[arg(long)]
    pub repair: bool,
    /// Wait for these jobs, then compare again
    #[arg(long, requires = "repair")]
    pub wait: bool,
    /// Number of examples to print for each kind of difference, guild and model
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub examples: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Command::Doctor`].
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Command::Eval`].
#[derive(Debug, Subcommand)]
pub enum Eval {
    /// Compare sessions with annotated conversations
    Sessions(EvalSessions),
    /// Search for the first message of each annotated conversation, and measure whether the rest is found
    #[cfg(feature = "embedded")]
    Retrieval(EvalRetrieval),
}

/// See [`Eval::Sessions`].
#[derive(Debug, Args)]
pub struct EvalSessions {
    /// Folder of exports (NAME.json or NAME.json.gz)
    #[arg(long, value_name = "DIR")]
    pub exports: PathBuf,
    /// Folder of annotations (NAME.json)
    #[arg(long, value_name = "DIR")]
    pub annotations: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Eval::Retrieval`].
#[cfg(feature = "embedded")]
#[derive(Debug, Args)]
pub struct EvalRetrieval {
    /// Folder of exports (NAME.json or NAME.json.gz); all channels belong to one guild
    #[arg(long, value_name = "DIR")]
    pub exports: PathBuf,
    /// Folder of annotations (NAME.json)
    #[arg(long, value_name = "DIR")]
    pub annotations: PathBuf,
    /// Configured models to compare [default: model.name]
    #[arg(long, value_name = "MODEL,...", value_delimiter = ',')]
    pub models: Vec<ModelSlug>,
    /// Folder with the int8 version of model.name, to compare both; `scripts/model fp32` creates both
    #[arg(long, value_name = "DIR", env = "GUILDEX_INT8_MODEL_DIR")]
    pub int8: Option<PathBuf>,
    /// Session methods to compare
    #[arg(long, value_name = "METHOD,...", value_delimiter = ',', default_value = "sessionizer,plain,gap")]
    pub methods: Vec<SessionMethod>,
    /// Search modes to compare
    #[arg(long, value_name = "MODE,...", value_delimiter = ',', default_value = "dense,sparse,hybrid")]
    pub modes: Vec<SearchMode>,
    /// Language of the guild, used to stem words [default: none]
    #[arg(long)]
    pub language: Option<bm25::Language>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Session method.
#[cfg(feature = "embedded")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SessionMethod {
    /// Guildex' sessionizer
    Sessionizer,
    /// Replies, mentions within 60 minutes, else the author's last message within 5
    Plain,
    /// A new session after each pause of more than 30 minutes
    Gap,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_an_rfc_3339_time() {
        let utc = |text| time(text).map(|time| time.to_rfc3339());
        assert_eq!(utc("2024-09-04").unwrap(), "2024-09-04T00:00:00+00:00");
        assert_eq!(utc("2024-09-04T17:02:00+02:00").unwrap(), "2024-09-04T15:02:00+00:00");
        assert_eq!(utc("2024-09-04T17:02:00.5Z").unwrap(), "2024-09-04T17:02:00.500+00:00");
        for wrong in ["", "yesterday", "2024-13-01", "2024-09-04T17:02:00", "1725469320"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
