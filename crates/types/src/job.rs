//! Jobs of the queue: typed, tagged and versioned payloads.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{ChannelId, GuildId};
use crate::session::{Revision, SessionId};

/// A unit of work for one guild.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Tenant.
    pub guild_id: GuildId,
    /// Work to do.
    #[serde(flatten)]
    pub task: Task,
}

/// Work to do. A task holds ids and no content: the worker reads the current state when it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Task {
    /// Update a session's points to match its messages.
    IndexSession {
        /// Session.
        session_id: SessionId,
    },
    /// Delete all points of a deleted session.
    DeleteSession {
        /// Session.
        session_id: SessionId,
    },
    /// Assign a channel's unassigned messages to sessions, and index what is missing.
    BackfillChannel {
        /// Channel or thread.
        channel_id: ChannelId,
    },
    /// Delete the points of sessions that lost messages. Needs no model, so it is faster than the index jobs
    /// that write the remaining messages again.
    RemovePoints {
        /// At most [`MAX_REMOVALS`] sessions.
        sessions: Vec<OutdatedSession>,
    },
}

/// Maximum number of sessions in one [`Task::RemovePoints`].
pub const MAX_REMOVALS: usize = 500;

/// A session whose points below a revision are outdated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutdatedSession {
    /// Session.
    pub session_id: SessionId,
    /// Revision of the removal: points of lower revisions are deleted, later ones stay.
    pub below: Revision,
}

/// Kind of a [`Task`].
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum JobKind {
    /// [`Task::IndexSession`].
    IndexSession,
    /// [`Task::DeleteSession`].
    DeleteSession,
    /// [`Task::BackfillChannel`].
    BackfillChannel,
    /// [`Task::RemovePoints`].
    RemovePoints,
}

impl JobKind {
    /// Payload format that this release reads and writes, of all kinds.
    pub const VERSION: u16 = 1;

    /// The name as stored and displayed.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether failed jobs are retried without limit. Deletions are: they cannot become dead, and cannot be
    /// cancelled or purged.
    pub fn retries_forever(self) -> bool {
        matches!(self, Self::DeleteSession | Self::RemovePoints)
    }
}

/// A job queue. Each has its own Redis queue and concurrency, so that a deletion never waits behind
/// thousands of embeddings. Ordered by urgency, most urgent first.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(type_name = "job_queue", rename_all = "lowercase"))]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum JobQueue {
    /// Deletions.
    Delete,
    /// Messages as they arrive.
    Live,
    /// Message history.
    Backfill,
}

impl JobQueue {
    /// All queues, most urgent first.
    pub const ALL: [Self; 3] = [Self::Delete, Self::Live, Self::Backfill];

    /// The name as stored and displayed.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl Task {
    /// The task's kind.
    pub fn kind(&self) -> JobKind {
        match self {
            Self::IndexSession { .. } => JobKind::IndexSession,
            Self::DeleteSession { .. } => JobKind::DeleteSession,
            Self::BackfillChannel { .. } => JobKind::BackfillChannel,
            Self::RemovePoints { .. } => JobKind::RemovePoints,
        }
    }
}

impl Job {
    /// The job's kind.
    pub fn kind(&self) -> JobKind {
        self.task.kind()
    }

    /// Deduplication key: at most one unfinished job has it. `None` for jobs that are never merged.
    pub fn dedup_key(&self) -> Option<String> {
        let guild = self.guild_id;
        match &self.task {
            // Both kinds share a key: either job reads the session as it is when it runs, live or deleted.
            Task::IndexSession { session_id } | Task::DeleteSession { session_id } => {
                Some(format!("session/{guild}/{session_id}"))
            }
            Task::RemovePoints { .. } => None,
            Task::BackfillChannel { channel_id } => Some(format!("backfill/{guild}/{channel_id}")),
        }
    }

    /// Encodes the job as the stored payload, with the version of its format.
    ///
    /// # Errors
    /// If `serde_json` fails, which no job of these types causes.
    pub fn encode(&self) -> Result<serde_json::Value, PayloadError> {
        serde_json::to_value(Versioned { v: JobKind::VERSION, job: self }).map_err(PayloadError::from)
    }

    /// Decodes a payload that [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If the payload has another version or is not a job.
    pub fn decode(payload: &serde_json::Value) -> Result<Self, PayloadError> {
        #[derive(Deserialize)]
        struct Version {
            v: u16,
        }
        let Version { v } = Version::deserialize(payload)?;
        if v != JobKind::VERSION {
            return Err(PayloadError::UnknownVersion(v));
        }
        Ok(Self::deserialize(payload)?)
    }
}

#[derive(Serialize)]
struct Versioned<'a> {
    v: u16,
    #[serde(flatten)]
    job: &'a Job,
}

/// A payload that this release cannot run.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Written by another release.
    #[error("unknown payload version {0} (this release reads version {VERSION})", VERSION = JobKind::VERSION)]
    UnknownVersion(u16),
    /// Not a job.
    #[error("undecodable payload: {0}")]
    Undecodable(#[from] serde_json::Error),
}

impl PayloadError {
    /// Whether a newer release can read it: during a rolling upgrade another worker may run the job.
    pub fn needs_newer_release(&self) -> bool {
        matches!(self, Self::UnknownVersion(version) if *version > JobKind::VERSION)
    }
}

/// Job id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// Generates an id. It is a UUID of version 7: ids ascend with time, which keeps the primary key's index
    /// compact.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id as Postgres and Redis store it.
    pub fn get(self) -> Uuid {
        self.0
    }
}

impl Default for JobId {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Uuid> for JobId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    fn job(task: Task) -> Job {
        Job { guild_id: 7.try_into().unwrap(), task }
    }

    #[test]
    fn payloads_round_trip() {
        let channel_id = 8.try_into().unwrap();
        let session_id = SessionId::new(7.try_into().unwrap(), channel_id, 9.try_into().unwrap());
        for task in [
            Task::IndexSession { session_id },
            Task::DeleteSession { session_id },
            Task::BackfillChannel { channel_id },
            Task::RemovePoints {
                sessions: vec![OutdatedSession { session_id, below: Revision::from(i64::MAX) }],
            },
        ] {
            let job = job(task);
            let payload = job.encode().unwrap();
            assert_eq!(payload["kind"], job.kind().as_str());
            assert_eq!(payload["v"], 1);
            assert_eq!(Job::decode(&payload).unwrap(), job);
        }
    }

    #[test]
    fn names_parse_to_what_they_were_displayed_from() {
        for kind in JobKind::VARIANTS {
            assert_eq!(kind.to_string().parse(), Ok(*kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for queue in JobQueue::VARIANTS {
            assert_eq!(queue.to_string().parse(), Ok(*queue));
            assert_eq!(serde_json::to_value(queue).unwrap(), queue.as_str());
        }
        assert_eq!(JobQueue::ALL, JobQueue::VARIANTS);
    }

    #[test]
    fn unknown_versions_are_rejected_with_the_version() {
        let mut payload = job(Task::BackfillChannel { channel_id: 8.try_into().unwrap() }).encode().unwrap();
        payload["v"] = 3.into();
        let error = Job::decode(&payload).unwrap_err();
        assert!(matches!(error, PayloadError::UnknownVersion(3)));
        assert_eq!(error.to_string(), "unknown payload version 3 (this release reads version 1)");
        for (version, newer) in [(0, false), (2, true), (u16::MAX, true)] {
            payload["v"] = version.into();
            assert_eq!(Job::decode(&payload).unwrap_err().needs_newer_release(), newer, "{version}");
        }
        for junk in
            [serde_json::json!(null), serde_json::json!({"v": 1}), serde_json::json!({"v": 1, "kind": "x"})]
        {
            assert!(matches!(Job::decode(&junk), Err(PayloadError::Undecodable(_))));
        }
    }

    #[test]
    fn index_and_delete_jobs_of_a_session_share_a_dedup_key() {
        let session_id = SessionId::from(Uuid::nil());
        let index = job(Task::IndexSession { session_id });
        let delete = job(Task::DeleteSession { session_id });
        assert_eq!(index.dedup_key(), delete.dedup_key());
    }
}
