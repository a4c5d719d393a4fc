//! The command line of `guildex jobs`.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use guildex_store::jobs::admin::{Filter, JobState, Tenants};
use guildex_types::{GuildId, JobId, JobKind, JobQueue, SessionId};
use jiff::fmt::friendly::SpanParser;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};
use uuid::Uuid;

/// The kind of what came out of Redis and is no job.
const UNDECODABLE: &str = "undecodable";

/// See [`Command::Jobs`](super::Command::Jobs).
#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// Show jobs: dead ones first, then those that run, that failed and wait, that are queued, that wait
    List(List),
    /// Show all that is known of a job, its last failed attempts included
    Show(Show),
    /// Let dead jobs, or ones that wait for their next attempt, run at once with all their attempts
    Retry(Selection),
    /// End unfinished jobs; they are dead then, and may be retried. Deletions go on
    Cancel(Selection),
    /// Delete jobs that are done or dead from the ledger
    Purge(Selection),
}

/// See [`Jobs::List`].
#[derive(Debug, Args)]
pub struct List {
    /// Which
    #[command(flatten)]
    pub which: Which,
    /// How many to show
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Jobs::Show`].
#[derive(Debug, Args)]
pub struct Show {
    /// The job's id
    #[arg(value_name = "ID", value_parser = job_id)]
    pub id: JobId,
    /// Only if it is this guild's
    #[arg(long, value_name = "ID")]
    pub guild: Option<GuildId>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The jobs that something is to be done to.
#[derive(Debug, Args)]
pub struct Selection {
    /// Their ids; or say which by options
    #[arg(value_name = "ID", value_parser = job_id)]
    pub ids: Vec<JobId>,
    /// Which
    #[command(flatten)]
    pub which: Which,
    /// Do not ask before options that fit more than one job are followed
    #[arg(long)]
    pub yes: bool,
}

/// Narrows jobs down: those are meant that fit all options.
#[derive(Debug, Args)]
pub struct Which {
    /// One guild's jobs [default: all guilds', and what came out of Redis and is no job]
    #[arg(long, value_name = "ID")]
    pub guild: Option<GuildId>,
    /// In this state; repeatable
    #[arg(long = "state", value_name = "STATE", value_parser = states())]
    pub states: Vec<JobState>,
    /// Of this kind, such as index_session; repeatable
    #[arg(long = "kind", value_name = "KIND", value_parser = kind)]
    pub kinds: Vec<String>,
    /// Of this urgency
    #[arg(long, value_name = "CLASS", value_parser = queues())]
    pub queue: Option<JobQueue>,
    /// About this session
    #[arg(long, value_name = "ID", value_parser = session_id)]
    pub session: Option<SessionId>,
    /// With this text in the last error, in capitals or not
    #[arg(long, value_name = "TEXT")]
    pub error: Option<String>,
    /// Finished longer ago than this, or asked for longer ago if not finished: 90m, 48h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older_than: Option<Duration>,
}

impl Which {
    /// Whether it says anything.
    pub fn says_something(&self) -> bool {
        let Self { guild, states, kinds, queue, session, error, older_than } = self;
        let lists = !states.is_empty() || !kinds.is_empty();
        let ids = guild.is_some() || session.is_some();
        lists || ids || queue.is_some() || error.is_some() || older_than.is_some()
    }

    /// The same for the ledger.
    pub fn filter(self, ids: Vec<JobId>) -> Filter {
        let Self { guild, states, kinds, queue, session, error, older_than } = self;
        Filter { tenants: tenants(guild), ids, states, kinds, queue, session, error, older: older_than }
    }
}

/// Whose jobs are meant by `--guild`.
pub fn tenants(guild: Option<GuildId>) -> Tenants {
    guild.map_or(Tenants::All, Tenants::One)
}

fn states() -> impl TypedValueParser<Value = JobState> {
    const ALL: [JobState; 5] =
        [JobState::Pending, JobState::Queued, JobState::Running, JobState::Completed, JobState::Dead];
    PossibleValuesParser::new(ALL.map(JobState::as_str))
        .try_map(|name| ALL.into_iter().find(|state| state.as_str() == name).ok_or("no such state"))
}

fn queues() -> impl TypedValueParser<Value = JobQueue> {
    PossibleValuesParser::new(JobQueue::ALL.map(JobQueue::as_str))
        .try_map(|name| JobQueue::ALL.into_iter().find(|queue| queue.as_str() == name).ok_or("no such queue"))
}

fn kind(text: &str) -> Result<String, String> {
    let known: StrDeserializer<'_, Error> = text.into_deserializer();
    match JobKind::deserialize(known) {
        Ok(kind) => Ok(kind.as_str().to_owned()),
        Err(_) if text == UNDECODABLE => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}, or `{UNDECODABLE}`")),
    }
}

fn job_id(text: &str) -> Result<JobId, uuid::Error> {
    text.parse::<Uuid>().map(JobId::from)
}

fn session_id(text: &str) -> Result<SessionId, uuid::Error> {
    text.parse::<Uuid>().map(SessionId::from)
}

fn duration(text: &str) -> Result<Duration, String> {
    let read = SpanParser::new().parse_unsigned_duration(text);
    read.map_err(|_| "write a number and a unit, as in 90m or 48h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_ones() {
        assert_eq!(kind("index_session").unwrap(), "index_session");
        assert_eq!(kind("undecodable").unwrap(), "undecodable");
        let error = kind("index").unwrap_err();
        assert!(error.contains("backfill_channel") && error.contains("undecodable"), "{error}");
    }

    #[test]
    fn ages_are_durations() {
        assert_eq!(duration("1h 30m").unwrap(), Duration::from_secs(5_400));
        for wrong in ["", "7", "yesterday", "-1h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
