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

/// Kind of a message from Redis that is not a job.
const UNDECODABLE: &str = "undecodable";

/// See [`Command::Jobs`](super::Command::Jobs).
#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// List jobs: dead ones first, then running, failed and waiting for a retry, queued, and pending ones
    List(List),
    /// Show all details of a job, with its last failed attempts
    Show(Show),
    /// Run dead jobs, and jobs that wait for a retry, now and with all their attempts
    Retry(Selection),
    /// Make unfinished jobs dead; they may be retried. Deletions cannot be cancelled
    Cancel(Selection),
    /// Delete completed or dead jobs
    Purge(Selection),
}

/// See [`Jobs::List`].
#[derive(Debug, Args)]
pub struct List {
    /// Filters
    #[command(flatten)]
    pub filters: Filters,
    /// Maximum number of jobs to show
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// See [`Jobs::Show`].
#[derive(Debug, Args)]
pub struct Show {
    /// Job id
    #[arg(value_name = "ID", value_parser = job_id)]
    pub id: JobId,
    /// Fail unless the job belongs to this guild
    #[arg(long, value_name = "ID")]
    pub guild: Option<GuildId>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Jobs to change.
#[derive(Debug, Args)]
pub struct Selection {
    /// Job ids, instead of or together with filters
    #[arg(value_name = "ID", value_parser = job_id)]
    pub ids: Vec<JobId>,
    /// Filters
    #[command(flatten)]
    pub filters: Filters,
    /// Do not ask for confirmation if the filters match more than one job
    #[arg(long)]
    pub yes: bool,
}

/// Filters, combined with AND.
#[derive(Debug, Args)]
pub struct Filters {
    /// Guild id [default: all guilds, and undecodable messages from Redis]
    #[arg(long, value_name = "ID")]
    pub guild: Option<GuildId>,
    /// State; repeatable
    #[arg(long = "state", value_name = "STATE", value_parser = states())]
    pub states: Vec<JobState>,
    /// Kind, such as index_session; repeatable
    #[arg(long = "kind", value_name = "KIND", value_parser = kind)]
    pub kinds: Vec<String>,
    /// Queue
    #[arg(long, value_name = "CLASS", value_parser = queues())]
    pub queue: Option<JobQueue>,
    /// Session id
    #[arg(long, value_name = "ID", value_parser = session_id)]
    pub session: Option<SessionId>,
    /// Text of the last error; case is ignored
    #[arg(long, value_name = "TEXT")]
    pub error: Option<String>,
    /// Finished before this age, or created before it if unfinished: 90m, 48h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older_than: Option<Duration>,
}

impl Filters {
    /// Returns whether any filter is set.
    pub fn is_any_set(&self) -> bool {
        let Self { guild, states, kinds, queue, session, error, older_than } = self;
        let lists = !states.is_empty() || !kinds.is_empty();
        let ids = guild.is_some() || session.is_some();
        lists || ids || queue.is_some() || error.is_some() || older_than.is_some()
    }

    /// Converts to a filter of the store.
    pub fn into_filter(self, ids: Vec<JobId>) -> Filter {
        let Self { guild, states, kinds, queue, session, error, older_than } = self;
        Filter { tenants: tenants(guild), ids, states, kinds, queue, session, error, older: older_than }
    }
}

/// Guilds that `--guild` selects.
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
    fn unknown_kinds_are_rejected() {
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
