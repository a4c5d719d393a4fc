//! The work that the ledger keeps: jobs as typed, tagged, versioned payloads.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{ChannelId, GuildId, MessageId};
use crate::session::{Revision, SessionId};

/// The payload formats that this program reads, oldest first; what is of another is not guessed at. A task is
/// written in the oldest that has it, so that while releases change, workers of the one before go on with all else.
const VERSIONS: [u16; 2] = [1, 2];

/// A unit of work for one guild.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The tenant that it works for.
    pub guild_id: GuildId,
    /// What is to be done.
    #[serde(flatten)]
    pub task: Task,
}

/// What is to be done. A task names things and carries no content: the worker reads them as they are when it
/// runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Task {
    /// Bring a session's points in step with its messages.
    IndexSession {
        /// The session.
        session_id: SessionId,
    },
    /// Remove all points of a session that is no more.
    DeleteSession {
        /// The session.
        session_id: SessionId,
    },
    /// Remove at once every point that holds one of these messages. This release asks for
    /// [`RemovePoints`](Self::RemovePoints) instead, since the other points of a session keep a trace of a message
    /// beside them; the release before did ask for this.
    DeleteMessages {
        /// Their channel.
        channel_id: ChannelId,
        /// The messages.
        message_ids: Vec<MessageId>,
    },
    /// Put the messages of a channel that are in no session into one, and index what is missing.
    BackfillChannel {
        /// The channel.
        channel_id: ChannelId,
    },
    /// Remove at once, without a model, all points of sessions that lost something; what is left of each session
    /// comes back with its own index job. Since version 2.
    RemovePoints {
        /// At most [`MAX_REMOVALS`] of them.
        sessions: Vec<Outdated>,
    },
}

/// How many sessions one [`Task::RemovePoints`] names, at most.
pub const MAX_REMOVALS: usize = 500;

/// A session whose points below a revision are no longer true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outdated {
    /// The session.
    pub session_id: SessionId,
    /// The revision that the loss gave it: points of lower ones go, those that were made since stay.
    pub below: Revision,
}

/// The name of a task's kind, as stored and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// See [`Task::IndexSession`].
    IndexSession,
    /// See [`Task::DeleteSession`].
    DeleteSession,
    /// See [`Task::DeleteMessages`].
    DeleteMessages,
    /// See [`Task::BackfillChannel`].
    BackfillChannel,
    /// See [`Task::RemovePoints`].
    RemovePoints,
}

/// How urgent a job is. Each class has a Redis queue and a concurrency of its own, so that a deletion never
/// waits behind a thousand embeddings. The order is the order of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobClass {
    /// Removals: first, and they never die.
    Delete,
    /// What people are writing now.
    Live,
    /// What they wrote long ago.
    Backfill,
}

impl JobClass {
    /// All classes, most urgent first.
    pub const ALL: [Self; 3] = [Self::Delete, Self::Live, Self::Backfill];

    /// The name as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Live => "live",
            Self::Backfill => "backfill",
        }
    }

    /// The class as the ledger's `smallint`: lower is more urgent.
    pub fn rank(self) -> i16 {
        match self {
            Self::Delete => 0,
            Self::Live => 1,
            Self::Backfill => 2,
        }
    }
}

impl fmt::Display for JobClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl JobKind {
    /// The name as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IndexSession => "index_session",
            Self::DeleteSession => "delete_session",
            Self::DeleteMessages => "delete_messages",
            Self::BackfillChannel => "backfill_channel",
            Self::RemovePoints => "remove_points",
        }
    }

    /// Deletions are retried for ever: they cannot die, be cancelled or be purged.
    pub fn never_dies(self) -> bool {
        matches!(self, Self::DeleteSession | Self::DeleteMessages | Self::RemovePoints)
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Task {
    /// The task's kind.
    pub fn kind(&self) -> JobKind {
        match self {
            Self::IndexSession { .. } => JobKind::IndexSession,
            Self::DeleteSession { .. } => JobKind::DeleteSession,
            Self::DeleteMessages { .. } => JobKind::DeleteMessages,
            Self::BackfillChannel { .. } => JobKind::BackfillChannel,
            Self::RemovePoints { .. } => JobKind::RemovePoints,
        }
    }

    /// The oldest payload format that has this task.
    fn version(&self) -> u16 {
        match self {
            Self::IndexSession { .. }
            | Self::DeleteSession { .. }
            | Self::DeleteMessages { .. }
            | Self::BackfillChannel { .. } => 1,
            Self::RemovePoints { .. } => 2,
        }
    }
}

impl Job {
    /// The job's kind.
    pub fn kind(&self) -> JobKind {
        self.task.kind()
    }

    /// The coalescing key: there is at most one unfinished job a key. `None` never coalesces.
    pub fn key(&self) -> Option<String> {
        let guild = self.guild_id;
        match &self.task {
            // One key for both: whoever runs reads the session as it is then, live or gone.
            Task::IndexSession { session_id } | Task::DeleteSession { session_id } => {
                Some(format!("session/{guild}/{session_id}"))
            }
            Task::DeleteMessages { .. } | Task::RemovePoints { .. } => None,
            Task::BackfillChannel { channel_id } => Some(format!("backfill/{guild}/{channel_id}")),
        }
    }

    /// The payload as the ledger stores it: the job with the version of its format.
    ///
    /// # Errors
    /// Only if `serde_json` cannot write it, which no job of these types causes.
    pub fn encode(&self) -> Result<serde_json::Value, PayloadError> {
        serde_json::to_value(Versioned { v: self.task.version(), job: self }).map_err(PayloadError::from)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If the payload is of another version or is not a job.
    pub fn decode(payload: &serde_json::Value) -> Result<Self, PayloadError> {
        #[derive(Deserialize)]
        struct Version {
            v: u16,
        }
        let Version { v } = Version::deserialize(payload)?;
        if !VERSIONS.contains(&v) {
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

/// A payload that is not a job this program can run.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Written by another release.
    #[error("payload version {0} is not known to this release (it reads {VERSIONS:?})")]
    UnknownVersion(u16),
    /// Not a job at all.
    #[error("undecodable payload: {0}")]
    Undecodable(#[from] serde_json::Error),
}

impl PayloadError {
    /// Whether a newer release can read it: in a rolling upgrade another worker may already.
    pub fn needs_newer_release(&self) -> bool {
        matches!(self, Self::UnknownVersion(version) if VERSIONS.iter().all(|known| version > known))
    }
}

/// A row of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// A new id; version 7, so that ids follow time and the ledger's index stays compact.
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
    use super::*;

    fn job(task: Task) -> Job {
        Job { guild_id: 7.try_into().unwrap(), task }
    }

    #[test]
    fn every_task_survives_its_payload() {
        let channel_id = 8.try_into().unwrap();
        let session_id = SessionId::of(7.try_into().unwrap(), channel_id, 9.try_into().unwrap());
        for task in [
            Task::IndexSession { session_id },
            Task::DeleteSession { session_id },
            Task::DeleteMessages { channel_id, message_ids: vec![9.try_into().unwrap()] },
            Task::BackfillChannel { channel_id },
            Task::RemovePoints { sessions: vec![Outdated { session_id, below: Revision::from(i64::MAX) }] },
        ] {
            let job = job(task);
            let payload = job.encode().unwrap();
            assert_eq!(payload["kind"], job.kind().as_str());
            assert_eq!(Job::decode(&payload).unwrap(), job);
        }
    }

    #[test]
    fn only_a_task_that_the_release_before_did_not_have_is_of_the_new_version() {
        let channel_id = 8.try_into().unwrap();
        let session_id = SessionId::from(Uuid::nil());
        let version = |task| job(task).encode().unwrap()["v"].clone();
        for old in [
            Task::IndexSession { session_id },
            Task::DeleteSession { session_id },
            Task::DeleteMessages { channel_id, message_ids: vec![] },
            Task::BackfillChannel { channel_id },
        ] {
            assert_eq!(version(old), 1);
        }
        assert_eq!(version(Task::RemovePoints { sessions: vec![] }), 2);
    }

    #[test]
    fn a_removal_that_the_release_before_wrote_is_still_read() {
        let payload = serde_json::json!(
            {"v": 1, "guild_id": "7", "kind": "delete_messages", "channel_id": "8", "message_ids": ["9"]}
        );
        let task = Task::DeleteMessages {
            channel_id: 8.try_into().unwrap(),
            message_ids: vec![9.try_into().unwrap()],
        };
        assert_eq!(Job::decode(&payload).unwrap(), job(task));
    }

    #[test]
    fn a_payload_of_another_version_is_refused_by_name() {
        let mut payload = job(Task::BackfillChannel { channel_id: 8.try_into().unwrap() }).encode().unwrap();
        payload["v"] = 3.into();
        let refused = Job::decode(&payload).unwrap_err();
        assert!(matches!(refused, PayloadError::UnknownVersion(3)));
        assert_eq!(refused.to_string(), "payload version 3 is not known to this release (it reads [1, 2])");
        for (version, newer) in [(0, false), (3, true), (u16::MAX, true)] {
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
    fn indexing_and_deleting_a_session_share_a_key() {
        let session_id = SessionId::from(Uuid::nil());
        let index = job(Task::IndexSession { session_id });
        let delete = job(Task::DeleteSession { session_id });
        assert_eq!(index.key(), delete.key());
    }
}
