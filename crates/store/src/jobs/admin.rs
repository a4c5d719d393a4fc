//! The operator's desk: looking at jobs, and having a word with them.
//!
//! What is done to a job is decided by its state at that moment, under its lock: a job that a worker has finished
//! or claimed in the meantime is left as it is.

mod actions;

use std::time::Duration;

use chrono::{DateTime, Utc};
use guildex_types::{GuildId, JobId, JobQueue, SessionId};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

pub use self::actions::{ActionResult, AdminAction, JobSummary, pick};
use super::{interval, raw};
use crate::StoreError;

/// Whose jobs are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenants {
    /// One guild's; to anybody else's there is no way.
    One(GuildId),
    /// Everybody's, and what came out of Redis and is no job: for who runs the whole.
    All,
}

impl Tenants {
    fn only(self) -> Option<i64> {
        match self {
            Self::One(guild) => Some(guild.get()),
            Self::All => None,
        }
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits in Postgres, for its time or for room.
    Pending,
    /// It waits in Redis.
    Queued,
    /// A worker has it.
    Running,
    /// It is over.
    Completed,
    /// It cannot succeed.
    Dead,
}

impl JobState {
    /// Those of jobs that are not over.
    pub const UNFINISHED: [Self; 3] = [Self::Pending, Self::Queued, Self::Running];

    /// The name as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Dead => "dead",
        }
    }

    /// Whether there is nothing left to do.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Dead)
    }
}

/// Which jobs are meant: those that fit all that is said. What is empty says nothing.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Whose.
    pub tenants: Tenants,
    /// These.
    pub ids: Vec<JobId>,
    /// In one of these states.
    pub states: Vec<JobState>,
    /// Of one of these kinds, as the ledger names them.
    pub kinds: Vec<String>,
    /// Of this urgency.
    pub queue: Option<JobQueue>,
    /// About this session.
    pub session: Option<SessionId>,
    /// With this in the error, in capitals or not.
    pub error: Option<String>,
    /// Finished longer ago than this, or, if not finished, asked for longer ago.
    pub older: Option<Duration>,
}

impl Filter {
    /// All jobs of these tenants.
    pub fn new(tenants: Tenants) -> Self {
        Self {
            tenants,
            ids: Vec::new(),
            states: Vec::new(),
            kinds: Vec::new(),
            queue: None,
            session: None,
            error: None,
            older: None,
        }
    }
}

/// An attempt that came to nothing, or what an operator did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Which it was, counting from 1.
    pub attempt: u32,
    /// Who had the job.
    pub claimed_by: Option<String>,
    /// When it was claimed.
    pub claimed_at: Option<DateTime<Utc>>,
    /// When that was over.
    pub ended_at: DateTime<Utc>,
    /// Why.
    pub error: String,
}

/// A job with all that the ledger knows of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRow {
    /// Its id.
    pub id: Uuid,
    /// Its tenant; none for what came out of Redis and is no job.
    pub guild_id: Option<GuildId>,
    /// What it does; a later release may name what this one does not know.
    pub kind: String,
    /// How urgent it is.
    pub queue: JobQueue,
    /// Where it stands.
    pub state: JobState,
    /// Attempts since it last succeeded, was changed or was retried.
    pub attempts: u32,
    /// How many it has; none if it never dies.
    pub max_attempts: Option<u32>,
    /// Attempts that did not come back. After the second it runs alone.
    pub crash_count: u32,
    /// What went wrong last.
    pub error: Option<String>,
    /// The last attempts that came to nothing, oldest first.
    pub attempts_log: Vec<Attempt>,
    /// Names what is to be worked on.
    pub payload: serde_json::Value,
    /// Jobs of one key become one while they are unfinished.
    pub dedup_key: Option<String>,
    /// What it must reach.
    pub target_revision: i64,
    /// What was wanted when it was last claimed.
    pub target_revision_at_claim: i64,
    /// Who has it, or had it last.
    pub claimed_by: Option<String>,
    /// When it was first asked for.
    pub created_at: DateTime<Utc>,
    /// When it may run, or might.
    pub run_at: DateTime<Utc>,
    /// When it was last claimed.
    pub claimed_at: Option<DateTime<Utc>>,
    /// How long the queue or the worker holds it.
    pub lease_expires_at: Option<DateTime<Utc>>,
    /// When it was over.
    pub finished_at: Option<DateTime<Utc>>,
}

/// The jobs that fit, up to `limit`, and how many there are. Dead ones come first, then those that run, that
/// failed and wait, that are queued, that wait, and that are done; the latest to change first.
///
/// # Errors
/// If Postgres fails.
pub async fn list(pool: &PgPool, filter: &Filter, limit: u32) -> Result<(Vec<JobRow>, u64), StoreError> {
    let all: i64 =
        filter.narrow("SELECT count(*) FROM jobs WHERE").build_query_scalar().fetch_one(pool).await?;
    let mut page = filter.narrow("SELECT * FROM jobs WHERE");
    page.push(
        " ORDER BY CASE WHEN state = 'dead' THEN 0 WHEN state = 'running' THEN 1
                        WHEN state = 'pending' AND error IS NOT NULL THEN 2
                        WHEN state = 'queued' THEN 3 WHEN state = 'pending' THEN 4 ELSE 5 END,
                   coalesce(finished_at, claimed_at, created_at) DESC, id LIMIT ",
    );
    page.push_bind(i64::from(limit));
    let rows: Vec<Row> = page.build_query_as().fetch_all(pool).await?;
    let entries = rows.into_iter().map(Row::read).collect::<Result<_, _>>()?;
    Ok((entries, u64::try_from(all).unwrap_or(0)))
}

/// A job.
///
/// # Errors
/// If Postgres fails.
pub async fn show(pool: &PgPool, tenants: Tenants, id: JobId) -> Result<Option<JobRow>, StoreError> {
    let filter = Filter { ids: vec![id], ..Filter::new(tenants) };
    Ok(list(pool, &filter, 1).await?.0.pop())
}

impl Filter {
    /// A query that ends with what it finds being narrowed down.
    fn narrow(&self, query: &'static str) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::new(query);
        query.push(" true");
        if let Tenants::One(guild) = self.tenants {
            query.push(" AND guild_id = ").push_bind(guild.get());
        }
        if !self.ids.is_empty() {
            query.push(" AND id = ANY(").push_bind(raw(&self.ids)).push(")");
        }
        if !self.states.is_empty() {
            let states: Vec<_> = self.states.iter().map(|state| state.as_str()).collect();
            query.push(" AND state = ANY(").push_bind(states).push(")");
        }
        if !self.kinds.is_empty() {
            query.push(" AND kind = ANY(").push_bind(self.kinds.clone()).push(")");
        }
        if let Some(queue) = self.queue {
            query.push(" AND queue = ").push_bind(queue);
        }
        if let Some(session) = self.session {
            query.push(" AND payload->>'session_id' = ").push_bind(session.to_string());
        }
        if let Some(error) = &self.error {
            query.push(" AND strpos(lower(error), lower(").push_bind(error.clone()).push(")) > 0");
        }
        if let Some(older) = self.older {
            query.push(" AND coalesce(finished_at, created_at) < now() - ").push_bind(interval(older));
        }
        query
    }
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    guild_id: Option<i64>,
    kind: String,
    queue: JobQueue,
    state: JobState,
    attempts: i32,
    max_attempts: Option<i32>,
    crash_count: i32,
    error: Option<String>,
    attempts_log: Json<Vec<Attempt>>,
    payload: serde_json::Value,
    dedup_key: Option<String>,
    target_revision: i64,
    target_revision_at_claim: i64,
    claimed_by: Option<String>,
    created_at: DateTime<Utc>,
    run_at: DateTime<Utc>,
    claimed_at: Option<DateTime<Utc>>,
    lease_expires_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

impl Row {
    fn read(self) -> Result<JobRow, StoreError> {
        let count = |number| u32::try_from(number).unwrap_or(0);
        Ok(JobRow {
            id: self.id,
            guild_id: self.guild_id.map(GuildId::try_from).transpose()?,
            kind: self.kind,
            queue: self.queue,
            state: self.state,
            attempts: count(self.attempts),
            max_attempts: self.max_attempts.map(count),
            crash_count: count(self.crash_count),
            error: self.error,
            attempts_log: self.attempts_log.0,
            payload: self.payload,
            dedup_key: self.dedup_key,
            target_revision: self.target_revision,
            target_revision_at_claim: self.target_revision_at_claim,
            claimed_by: self.claimed_by,
            created_at: self.created_at,
            run_at: self.run_at,
            claimed_at: self.claimed_at,
            lease_expires_at: self.lease_expires_at,
            finished_at: self.finished_at,
        })
    }
}
