//! The command line.

#[cfg(feature = "evaluation")]
mod bench;
#[cfg(feature = "evaluation")]
mod eval;
mod jobs;

use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use guildex_index::{Mode, bm25};
use guildex_types::{ChannelId, GuildId, MessageId, ModelSlug, UserId};

#[cfg(feature = "evaluation")]
pub use self::bench::{Bench, BenchEmbed, BenchEmbedProcess, BenchGenerate};
#[cfg(feature = "evaluation")]
pub use self::eval::{Eval, EvalRetrieval, EvalSessions, SessionMethod};
pub use self::jobs::{Jobs, List, Selection, Show, tenants};
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

impl Command {
    /// The exit status of an error. Where 1 is an answer, errors have another.
    pub fn status_of_errors(&self) -> u8 {
        if matches!(self, Self::Verify(_)) { 2 } else { 1 }
    }
}

/// Every role of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the database's schema up to date
    Migrate,
    /// Import DiscordChatExporter's JSON exports, plain or gzipped, files or folders
    Import(Import),
    /// Run every role in one process: dispatcher, worker, and search for other processes of this machine
    ///
    /// Starts itself again if something hangs past its hard limit (worker.time_limits).
    Up(Up),
    /// Make the collections of the index and check them against what they ought to be
    Init(Init),
    /// Run jobs: embed sessions and keep the index in step
    ///
    /// Ends with exit code 75 if something hangs past its hard limit (worker.time_limits); have a supervisor start it
    /// again then.
    Worker,
    /// Move due jobs from Postgres into Redis; one is enough, more are safe
    Dispatcher,
    /// Bring whole channels in step: messages that are in no session, sessions that are not indexed
    Backfill(Backfill),
    /// Change the embedding model: fill its collection while the old one serves, then switch
    Reindex(Reindex),
    /// Forget messages, a member, a channel or a whole guild, for good, and print a receipt
    Forget(Forget),
    /// Stop storing a member's or channel's messages, and forget the stored ones
    OptOut(OptOut),
    /// End an opt-out: store messages again from now on
    OptIn(OptIn),
    /// Show or set the language of a guild's words, so that inflected ones are found
    Language(Language),
    /// Copy the index, with what the database knows of it, into a folder
    Backup(Backup),
    /// Put a backup in the index's place; what was deleted or changed since stays so
    Restore(Backup),
    /// Search a guild's conversations
    Search(Search),
    /// Show what is stored, indexed, waiting and dead, by guild
    Status(Status),
    /// Look at jobs, and retry, cancel or delete some
    #[command(subcommand)]
    Jobs(Jobs),
    /// Compare the truth in Postgres with the index, both ways; exits with 1 where they differ, with 2 if it cannot tell
    Verify(Verify),
    /// Check all that Guildex depends on with a round trip, and say what to do; exits with 1 if something fails
    Doctor(Doctor),
    /// Measure the quality of sessions and searches on annotated conversations
    #[cfg(feature = "evaluation")]
    #[command(subcommand)]
    Eval(Eval),
    /// Measure speed and memory in a temporary database, Redis prefix and directory
    #[cfg(feature = "evaluation")]
    #[command(subcommand)]
    Bench(Bench),
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
    #[arg(long, conflicts_with = "bulk")]
    pub detach: bool,
    /// Let a Qdrant server build its graphs at the end, in one go; searches are slower until then
    #[arg(long)]
    pub bulk: bool,
}

/// See [`Command::Forget`].
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["user", "messages", "channel", "all"]))]
pub struct Forget {
    /// The guild's id
    #[arg(long, value_name = "ID")]
    pub guild: GuildId,
    /// All that this member wrote in the guild
    #[arg(long, value_name = "ID")]
    pub user: Option<UserId>,
    /// These messages, whatever their channels; repeatable
    #[arg(long = "message", value_name = "ID", num_args = 1..)]
    pub messages: Vec<MessageId>,
    /// This channel with its threads, or this thread
    #[arg(long, value_name = "ID")]
    pub channel: Option<ChannelId>,
    /// Everything of the guild
    #[arg(long)]
    pub all: bool,
    /// Whether and how to wait
    #[command(flatten)]
    pub waiting: Waiting,
}

/// See [`Command::OptOut`].
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("who").required(true).args(["user", "channel"]))]
pub struct OptOut {
    /// The guild's id
    #[arg(long, value_name = "ID")]
    pub guild: GuildId,
    /// This member
    #[arg(long, value_name = "ID")]
    pub user: Option<UserId>,
    /// This channel with its threads, or this thread
    #[arg(long, value_name = "ID")]
    pub channel: Option<ChannelId>,
    /// Whether and how to wait
    #[command(flatten)]
    pub waiting: Waiting,
}

/// See [`Command::OptIn`].
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("who").required(true).args(["user", "channel"]))]
pub struct OptIn {
    /// The guild's id
    #[arg(long, value_name = "ID")]
    pub guild: GuildId,
    /// This member
    #[arg(long, value_name = "ID")]
    pub user: Option<UserId>,
    /// This channel with its threads, or this thread
    #[arg(long, value_name = "ID")]
    pub channel: Option<ChannelId>,
}

/// How somebody who forgets is asked, waits and is answered.
#[derive(Debug, Args)]
pub struct Waiting {
    /// Do not ask whether it is meant
    #[arg(long)]
    pub yes: bool,
    /// Return when searches find nothing of it any more, instead of when the last point is gone
    #[arg(long)]
    pub detach: bool,
    /// Print the receipt as JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Command::Language`].
#[derive(Debug, Args)]
pub struct Language {
    /// The guild's id
    #[arg(long, value_name = "ID")]
    pub guild: GuildId,
    /// Such as english; `none` for guilds of many languages [default: show it]
    #[arg(value_name = "LANGUAGE")]
    pub language: Option<bm25::Language>,
}

/// See [`Command::Backup`] and [`Command::Restore`].
#[derive(Debug, Args)]
pub struct Backup {
    /// The backup's folder; a new one for a backup
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// See [`Command::Init`].
#[derive(Debug, Args)]
pub struct Init {
    /// Change nothing; tell of each difference, and fail if there is one
    #[arg(long)]
    pub check: bool,
    /// Drop the collections and make them anew; all sessions are indexed again
    #[arg(long, conflicts_with = "check")]
    pub recreate: bool,
}

/// See [`Command::Reindex`].
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Reindex {
    /// Instead of changing the model
    #[command(subcommand)]
    pub command: Option<ReindexCommand>,
    /// The model to change to: model.name or one of [models.NAME]
    #[arg(long, value_name = "MODEL", required = true)]
    pub to: Option<ModelSlug>,
    /// Fill the collection and keep it in step, and let searches stay with the model they have
    #[arg(long)]
    pub no_switch: bool,
    /// Keep the old model's collection in step after the switch, at the price of embedding everything twice
    #[arg(long)]
    pub keep_old: bool,
    /// Switch even if some sessions cannot be embedded
    #[arg(long)]
    pub allow_missing: bool,
    /// Begin and return; run it again to switch
    #[arg(long)]
    pub detach: bool,
}

/// See [`Command::Reindex`].
#[derive(Debug, Subcommand)]
pub enum ReindexCommand {
    /// Drop the collections of models that are no longer in use
    DropUnused,
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
    /// A member who speaks in the conversation; repeatable [default: anybody]
    #[arg(long = "author", value_name = "ID")]
    pub authors: Vec<UserId>,
    /// Conversations that went on then or later: 2024-09-04 (UTC), or 2024-09-04T17:02:00+02:00
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<DateTime<Utc>>,
    /// Conversations that began before
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<DateTime<Utc>>,
    /// What ranks: meaning, words, or both [default: search.mode]
    #[arg(long)]
    pub mode: Option<SearchMode>,
    /// Leave out what scores less, on the mode's own scale
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    pub min_score: Option<f32>,
    /// How many conversations to show
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub limit: u32,
    /// How many conversations to pass over first; with --limit at most 200
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub offset: u32,
    /// How many messages to show before and after what was found
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=20))]
    pub surrounding: u32,
    /// Search with a model that is being filled, to compare it [default: the active one]
    #[arg(long, value_name = "SLUG")]
    pub model: Option<ModelSlug>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What to look for, in any words
    #[arg(required = true, value_name = "QUERY")]
    pub query: Vec<String>,
}

/// What ranks in a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SearchMode {
    /// Both, fused
    Hybrid,
    /// Meaning alone
    Dense,
    /// Words alone
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

/// A point in time, as RFC 3339 has it; a date alone is its midnight in UTC.
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

/// See [`Command::Verify`].
#[derive(Debug, Args)]
pub struct Verify {
    /// One guild's id [default: all]
    #[arg(long, value_name = "ID")]
    pub guild: Option<GuildId>,
    /// Ask for jobs that mend what differs
    #[arg(long)]
    pub repair: bool,
    /// Wait until workers have done these jobs, and compare again
    #[arg(long, requires = "repair")]
    pub wait: bool,
    /// How many examples to tell of each kind, guild and model
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_a_moment() {
        let utc = |text| time(text).map(|time| time.to_rfc3339());
        assert_eq!(utc("2024-09-04").unwrap(), "2024-09-04T00:00:00+00:00");
        assert_eq!(utc("2024-09-04T17:02:00+02:00").unwrap(), "2024-09-04T15:02:00+00:00");
        assert_eq!(utc("2024-09-04T17:02:00.5Z").unwrap(), "2024-09-04T17:02:00.500+00:00");
        for wrong in ["", "yesterday", "2024-13-01", "2024-09-04T17:02:00", "1725469320"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
