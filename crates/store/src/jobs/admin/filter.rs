use std::time::Duration;

use guildex_types::{GuildId, JobId, JobQueue, SessionId};
use sqlx::{Postgres, QueryBuilder};

use super::state::JobState;
use crate::sql::interval;

/// Guilds whose jobs are selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenants {
    /// One guild. Jobs of other guilds are not reachable.
    One(GuildId),
    /// All guilds, and undecodable messages from Redis. For the operator of the installation.
    All,
}

impl Tenants {
    /// The guild, or `None` for all.
    pub(super) fn guild(self) -> Option<GuildId> {
        match self {
            Self::One(guild) => Some(guild),
            Self::All => None,
        }
    }
}

/// Selects jobs that match all of its conditions. Empty fields match every job.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Guilds.
    pub tenants: Tenants,
    /// Job ids.
    pub ids: Vec<JobId>,
    /// States.
    pub states: Vec<JobState>,
    /// Kinds, as stored.
    pub kinds: Vec<String>,
    /// Queue.
    pub queue: Option<JobQueue>,
    /// Session of the payload.
    pub session: Option<SessionId>,
    /// Substring of the error, case-insensitive.
    pub error: Option<String>,
    /// Minimum age since the job finished, or since it was created if it is unfinished.
    pub older: Option<Duration>,
}

impl Filter {
    /// Selects all jobs of these guilds.
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

    /// Appends the conditions to a query that ends with `WHERE`.
    pub(super) fn apply(&self, query: &'static str) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::new(query);
        query.push(" true");
        if let Tenants::One(guild) = self.tenants {
            query.push(" AND guild_id = ").push_bind(guild);
        }
        if !self.ids.is_empty() {
            query.push(" AND id = ANY(").push_bind(self.ids.clone()).push(")");
        }
        if !self.states.is_empty() {
            query.push(" AND state = ANY(").push_bind(self.states.clone()).push(")");
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
        if let Some(age) = self.older {
            query.push(" AND coalesce(finished_at, created_at) < now() - ").push_bind(interval(age));
        }
        query
    }
}
